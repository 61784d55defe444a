//! The way to the master, which sentinels know.
//!
//! 1. At each connect all sentinels are asked which node is the master, and all are waited for, as
//!    long as for a connection. The answer of the highest epoch holds: each failover has one, and a
//!    sentinel may not have heard of the last failover.
//! 2. The node has to say itself that it is a master.
//! 3. The sentinels then tell when there is another master. The old one may live on, and not learn
//!    of that for ten seconds; who waited for it to refuse calls would read and write old state.
//!    When no sentinel is left that would tell: 1. again.

use std::collections::HashMap;

use futures::future::join_all;
use futures::stream::SelectAll;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use redis::aio::{MultiplexedConnection, PubSubStream};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
};

use super::connection::connect_to;
use super::failure::Failure;
use super::options::RedisOptions;

/// Sentinels, and the name of the master that they are asked for.
pub(super) struct Sentinels {
    sentinels: Vec<Client>,
    name: String,
    /// How to log in to the master; its address is not known here.
    master: ConnectionInfo,
    /// The master of the last connection, as messages end with it, and what sentinels tell since.
    news: Mutex<Option<(String, SelectAll<PubSubStream>)>>,
}

/// What a sentinel answers, and what it has to tell from then on.
struct Answer {
    epoch: u64,
    host: String,
    port: u16,
    news: PubSubStream,
}

impl Sentinels {
    /// Asks nobody.
    ///
    /// # Errors
    /// A URL is wrong.
    pub(super) fn new(
        urls: Vec<String>,
        name: String,
        master: &str,
    ) -> Result<Sentinels, RedisError> {
        let sentinels = urls.into_iter().map(Client::open).collect::<Result<_, _>>()?;
        let master = master.into_connection_info()?;
        Ok(Sentinels { sentinels, name, master, news: Mutex::new(None) })
    }

    /// Whether there may be another master than at the last connection. Says so once.
    pub(super) fn moved(&self) -> bool {
        let mut news = self.news.lock();
        let Some((present, told)) = news.as_mut() else { return false };
        while let Some(message) = told.next().now_or_never() {
            let text = message.map(|message| message.get_payload::<String>().unwrap_or_default());
            if text.is_none_or(|text| tells_of_another(&text, &self.name, present)) {
                *news = None;
                return true;
            }
        }
        false
    }

    /// A connection to the present master.
    ///
    /// # Errors
    /// The master refuses the user; otherwise what is wrong with it, or with all sentinels, which
    /// may pass.
    pub(super) async fn connect(
        &self,
        options: &RedisOptions,
    ) -> Result<MultiplexedConnection, Failure> {
        let asked = self.sentinels.iter().map(|sentinel| self.ask(sentinel, options));
        let (mut answers, mut reasons) = (Vec::new(), Vec::new());
        for (sentinel, answer) in self.sentinels.iter().zip(join_all(asked).await) {
            let address = sentinel.get_connection_info().addr();
            match answer {
                Ok(answer) => answers.push(answer),
                Err(reason) => reasons.push(format!("sentinel {address}: {reason}")),
            }
        }
        answers.sort_by_key(|answer| answer.epoch);
        let Some(Answer { host, port, .. }) = answers.last() else {
            return Err(Failure::Reconnect(reasons.join("; ")));
        };
        let link = self.connect_to_master(host.clone(), *port, options).await?;
        let present = format!(" {host} {port}");
        let told = answers.into_iter().map(|answer| answer.news).collect();
        *self.news.lock() = Some((present, told));
        Ok(link)
    }

    async fn connect_to_master(
        &self,
        host: String,
        port: u16,
        options: &RedisOptions,
    ) -> Result<MultiplexedConnection, Failure> {
        let of = |error: RedisError| Failure::of(&error);
        let address = match self.master.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        let master = Client::open(self.master.clone().set_addr(address.clone())).map_err(of)?;
        let mut link = connect_to(&master, options).await?;
        let mut info = redis::cmd("INFO");
        let info: String = info.arg("replication").query_async(&mut link).await.map_err(of)?;
        if info.lines().any(|line| line == "role:master") {
            return Ok(link);
        }
        Err(Failure::Reconnect(format!("{address} is no master")))
    }

    /// Listens to a sentinel, then asks it, so that nothing is missed in between.
    ///
    /// # Errors
    /// Why it is of no use, as a text.
    async fn ask(&self, sentinel: &Client, options: &RedisOptions) -> Result<Answer, String> {
        // One patience for all of it.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let asked = async {
            let (mut sink, news) = sentinel.get_async_pubsub().await?.split();
            sink.subscribe("+switch-master").await?;
            let mut link = sentinel.get_multiplexed_async_connection_with_config(&config).await?;
            let mut question = redis::cmd("SENTINEL");
            question.arg("MASTER").arg(&self.name);
            let state: HashMap<String, String> = question.query_async(&mut link).await?;
            Ok((state, news))
        };
        let asked = tokio::time::timeout(options.connect_timeout, asked).await;
        let (state, news) = asked
            .map_err(|_| "no answer in time")?
            .map_err(|error: RedisError| error.to_string())?;
        let field = |name: &str| state.get(name).map_or("", String::as_str);
        match (field("config-epoch").parse(), field("port").parse()) {
            (Ok(epoch), Ok(port)) => Ok(Answer { epoch, host: field("ip").to_owned(), port, news }),
            _ => Err("its answer has no epoch or port".to_owned()),
        }
    }
}

/// Whether a message tells that the master of this name is another than the present one. It has
/// the name, host and port of the old master, host and port of the new one.
fn tells_of_another(message: &str, name: &str, present: &str) -> bool {
    let addresses = message.strip_prefix(name).filter(|addresses| addresses.starts_with(' '));
    addresses.is_some_and(|addresses| !addresses.ends_with(present))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_other_masters_and_the_present_one_are_no_news() {
        let tells = |message: &str| tells_of_another(message, "main", " 10.0.0.2 6379");
        assert!(tells("main 10.0.0.2 6379 10.0.0.1 6379"));
        assert!(tells("main 10.0.0.1 6379 10.0.0.2 63790"));
        assert!(!tells("main 10.0.0.1 6379 10.0.0.2 6379"));
        assert!(!tells("main2 10.0.0.2 6379 10.0.0.1 6379"));
        assert!(!tells("other 10.0.0.2 6379 10.0.0.1 6379"));
    }
}
