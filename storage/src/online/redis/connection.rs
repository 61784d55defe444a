//! Connections that are replaced when they break, and calls that are made again.
//!
//! 1. A connection is opened by the first call that needs it; calls at the same time wait for it.
//!    Each runtime has its own, so that none waits for another's threads. Sentinels are asked each
//!    time which node is the master, and when they tell of another one the connection is left.
//! 2. Calls go as one pipeline (in a cluster: at once, each to its node), and all are answered. A
//!    single call goes together with those that others make at the same time (`pipe.rs`).
//! 3. Those that failed and may succeed later are made again after a wait. This needs no knowledge
//!    of whether they had an effect: every call is idempotent.
//! 4. The number of attempts is bounded; then the last failure is the answer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Value};
use tokio::runtime::{self, Handle};
use tokio::sync::OnceCell;

use super::failure::Failure;
use super::options::{Nodes, RedisOptions};
use super::pipe::Pipe;
use super::script::Call;
use super::sentinel::Sentinels;
use crate::error::Error;

/// Calls in one pipeline.
const CALLS_AT_ONCE: usize = 256;

/// A connection to one server, or to the nodes of a cluster.
enum Link {
    Single(Pipe),
    Cluster(ClusterConnection),
}

enum Target {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
    Sentinels(Box<Sentinels>),
}

/// The way to a Redis.
pub(super) struct Connection {
    target: Target,
    options: RedisOptions,
    /// The present connections. The lock is held only to copy or replace a pointer.
    slots: Mutex<Vec<(runtime::Id, Arc<OnceCell<Link>>)>>,
    /// How many connections were made.
    made: AtomicU64,
    /// Whose connection all runtimes take if they share one.
    runtime: Handle,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects at the first call.
    ///
    /// # Errors
    /// [`Error::StoreUrl`].
    pub(super) fn new(options: &RedisOptions) -> Result<Connection, Error> {
        // The client's message names the part that is wrong, never the URL.
        let wrong = |error: RedisError| Error::StoreUrl { reason: error.category().to_owned() };
        let target = match options.nodes()? {
            Nodes::One(url) => Target::Single(Box::new(Client::open(url).map_err(wrong)?)),
            Nodes::Cluster(urls) => {
                let client = ClusterClient::builder(urls)
                    .connection_timeout(options.connect_timeout)
                    .response_timeout(options.response_timeout)
                    .retries(options.retries);
                Target::Cluster(Box::new(client.build().map_err(wrong)?))
            }
            Nodes::Sentinels { urls, name, master } => {
                Target::Sentinels(Box::new(Sentinels::new(urls, name, &master).map_err(wrong)?))
            }
        };
        let slots = Mutex::default();
        let (made, runtime) = (AtomicU64::new(0), Handle::current());
        Ok(Connection { target, options: options.clone(), slots, made, runtime })
    }

    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    /// Makes one call.
    ///
    /// # Errors
    /// Those of [`run`](Self::run) and of the call itself.
    pub(super) async fn call(&self, call: Call) -> Result<Value, Error> {
        self.one(&call).await?.map_err(Failure::into_error)
    }

    /// Makes calls; the answers are in their order.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`] if one was given up, [`Error::StoreDenied`]. The answer of a
    /// single call may be a failure that is not transient.
    pub(super) async fn run(&self, calls: &[Call]) -> Result<Vec<Result<Value, Failure>>, Error> {
        if let [call] = calls {
            return Ok(vec![self.one(call).await?]);
        }
        let mut answers = Vec::with_capacity(calls.len());
        for part in calls.chunks(CALLS_AT_ONCE) {
            answers.extend(self.run_part(part).await?);
        }
        Ok(answers)
    }

    async fn run_part(&self, calls: &[Call]) -> Result<Vec<Result<Value, Failure>>, Error> {
        let mut answers: Vec<Option<Result<Value, Failure>>> = calls.iter().map(|_| None).collect();
        let mut whole = vec![false; calls.len()];
        let mut attempt = 0;
        loop {
            let pending: Vec<usize> = (0..calls.len()).filter(|&i| answers[i].is_none()).collect();
            let mut worst = None;
            for (index, answer) in pending.iter().zip(self.attempt(calls, &pending, &whole).await) {
                match answer {
                    Err(Failure::NoScript) if !whole[*index] => whole[*index] = true,
                    Err(failure) if failure.is_transient() => worst = Some(failure),
                    answer => answers[*index] = Some(answer),
                }
            }
            if answers.iter().all(Option::is_some) {
                return Ok(answers.into_iter().flatten().collect());
            }
            // Scripts that were not there are sent at once, and do not count.
            if let Some(failure) = worst {
                self.wait_after(failure, &mut attempt).await?;
            }
        }
    }

    /// Makes one call, as [`run`](Self::run).
    async fn one(&self, call: &Call) -> Result<Result<Value, Failure>, Error> {
        let mut whole = false;
        let mut attempt = 0;
        loop {
            match self.attempt_one(call, whole).await {
                Err(Failure::NoScript) if !whole => whole = true,
                Err(failure) if failure.is_transient() => {
                    self.wait_after(failure, &mut attempt).await?;
                }
                answer => return Ok(answer),
            }
        }
    }

    /// Waits after a failure, until calls are made again.
    ///
    /// # Errors
    /// The failure, if there were enough attempts.
    async fn wait_after(&self, failure: Failure, attempt: &mut u32) -> Result<(), Error> {
        if *attempt == self.options.retries {
            return Err(failure.into_error());
        }
        tracing::debug!(?failure, attempt, "calling Redis again");
        tokio::time::sleep(self.options.wait_before(*attempt)).await;
        *attempt += 1;
        Ok(())
    }

    async fn attempt_one(&self, call: &Call, whole: bool) -> Result<Value, Failure> {
        let cell = self.present();
        let link = cell.get_or_try_init(|| self.connect()).await?;
        let command = call.command(whole);
        let answer = match link {
            Link::Single(pipe) => pipe.ask(command).await,
            Link::Cluster(link) => link.clone().req_packed_command(&command).await,
        };
        let answer = answer.map_err(|error| Failure::of(&error)).and_then(told_apart);
        if matches!(answer, Err(Failure::Reconnect(_))) {
            self.replace(&cell);
        }
        answer
    }

    /// One answer for each of `pending`.
    async fn attempt(
        &self,
        calls: &[Call],
        pending: &[usize],
        whole: &[bool],
    ) -> Vec<Result<Value, Failure>> {
        let cell = self.present();
        let link = match cell.get_or_try_init(|| self.connect()).await {
            Ok(link) => link,
            Err(failure) => return vec![Err(failure); pending.len()],
        };
        let commands = pending.iter().map(|&index| calls[index].command(whole[index]));
        let answers = match link {
            Link::Single(pipe) => {
                let mut pipeline = redis::Pipeline::with_capacity(pending.len());
                commands.for_each(|command| {
                    pipeline.add_command(command);
                });
                match pipe.ask_all(&pipeline).await {
                    Ok(values) if values.len() == pending.len() => {
                        values.into_iter().map(Ok).collect()
                    }
                    Ok(_) => vec![Err(Failure::Reconnect("too few answers".into())); pending.len()],
                    Err(error) => vec![Err(Failure::of(&error)); pending.len()],
                }
            }
            Link::Cluster(link) => {
                let one = |command: redis::Cmd| {
                    let mut link = link.clone();
                    async move {
                        let answer = link.req_packed_command(&command).await;
                        answer.map_err(|error| Failure::of(&error))
                    }
                };
                join_all(commands.map(one)).await
            }
        };
        let told_apart = |answer: Result<_, _>| answer.and_then(told_apart);
        let answers: Vec<_> = answers.into_iter().map(told_apart).collect();
        if answers.iter().any(|answer| matches!(answer, Err(Failure::Reconnect(_)))) {
            self.replace(&cell);
        }
        answers
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let connecting = async {
            match &self.target {
                Target::Single(client) => connect_to(client, &self.options).await.map(single),
                Target::Cluster(client) => {
                    let link = client.get_async_connection().await;
                    link.map(Link::Cluster).map_err(|error| Failure::of(&error))
                }
                Target::Sentinels(sentinels) => sentinels.connect(&self.options).await.map(single),
            }
        };
        let (home, mut connecting) = (self.home(), pin!(connecting));
        let link = poll_fn(|context| {
            // The link's tasks are spawned there.
            let _entered = home.enter();
            connecting.as_mut().poll(context)
        })
        .await?;
        self.made.fetch_add(1, Ordering::SeqCst);
        Ok(link)
    }

    /// The runtime whose connection the caller takes: its own. To a cluster, and where sentinels tell
    /// all at once of another master, there is one connection for all.
    fn home(&self) -> Handle {
        match self.target {
            Target::Single(_) => Handle::current(),
            Target::Cluster(_) | Target::Sentinels(_) => self.runtime.clone(),
        }
    }

    /// The place of the caller's connection, which is empty if there may be another master.
    fn present(&self) -> Arc<OnceCell<Link>> {
        let home = self.home().id();
        let mut slots = self.slots.lock();
        if let Target::Sentinels(sentinels) = &self.target
            && sentinels.moved()
        {
            slots.clear();
        }
        match slots.iter().find(|(of, _)| *of == home) {
            Some((_, slot)) => Arc::clone(slot),
            None => {
                let slot = Arc::default();
                slots.push((home, Arc::clone(&slot)));
                slot
            }
        }
    }

    /// Lets the next call connect anew, unless another call has seen to that.
    fn replace(&self, broken: &Arc<OnceCell<Link>>) {
        self.slots.lock().retain(|(_, slot)| !Arc::ptr_eq(slot, broken));
    }
}

/// A connection to one server.
pub(super) async fn connect_to(
    client: &Client,
    options: &RedisOptions,
) -> Result<MultiplexedConnection, Failure> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.response_timeout))
        .set_pipeline_buffer_size(CALLS_AT_ONCE);
    let link = client.get_multiplexed_async_connection_with_config(&config).await;
    link.map_err(|error| Failure::of(&error))
}

fn single(link: MultiplexedConnection) -> Link {
    Link::Single(Pipe::new(link))
}

fn told_apart(answer: Value) -> Result<Value, Failure> {
    match answer {
        Value::ServerError(error) => Err(Failure::of_answer(&error)),
        value => Ok(value),
    }
}
