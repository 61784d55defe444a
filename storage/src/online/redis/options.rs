//! Where a Redis is and how to talk to it. Passwords stay in here.

use std::fmt;
use std::time::Duration;

use crate::error::Error;

/// How to reach a Redis and which of its keys are ours.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[user:password@]host:port/db`,
    /// `redis+cluster://[user:password@]host:port,host:port` for a cluster, or
    /// `redis+sentinel://[user:password@]host:port,host:port/master[/db]`, where the hosts are
    /// sentinels and `master` is the name that they know it by. `rediss` instead of `redis` for
    /// TLS. User and password are those of the Redis servers; sentinels are not given them.
    pub url: String,
    /// Whether the URL's host is a node of a cluster; implied by `redis+cluster://`.
    pub cluster: bool,
    /// What our keys start with: letters, digits, `-`, `_`, `.` and `:`, up to 64 bytes.
    pub prefix: String,
    /// Into how many parts a space is divided. It cannot be changed for a database.
    pub shards: u32,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for an answer.
    pub response_timeout: Duration,
    /// How often a call is made again after a failure that may pass. The waits between them double
    /// from 25 ms to at most a second.
    pub retries: u32,
}

/// What a URL leads to.
#[derive(PartialEq, Eq)]
pub(super) enum Nodes {
    /// The URL of a server.
    One(String),
    /// The URLs of some nodes of a cluster.
    Cluster(Vec<String>),
    /// The URLs of sentinels, and what they call the master. Its URL has a host that stands for
    /// the one that they will tell.
    Sentinels { urls: Vec<String>, name: String, master: String },
}

impl RedisOptions {
    /// The defaults: prefix `asofdb`, 64 shards, 2 s to connect, 5 s to answer, six retries.
    pub fn new(url: impl Into<String>) -> RedisOptions {
        RedisOptions {
            url: url.into(),
            cluster: false,
            prefix: "asofdb".to_owned(),
            shards: 64,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(5),
            retries: 6,
        }
    }

    /// Which nodes the URL names.
    pub(super) fn nodes(&self) -> Result<Nodes, Error> {
        let wrong = |reason: &str| Err(Error::StoreUrl { reason: reason.to_owned() });
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return wrong(
                "it has no scheme; redis://, redis+cluster://, redis+sentinel:// are known",
            );
        };
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(scheme, "redis" | "rediss") || !matches!(kind, "" | "cluster" | "sentinel") {
            return wrong(
                "its scheme is not redis or rediss, with or without +cluster or +sentinel",
            );
        }
        let (user, hosts) = match rest.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), rest),
        };
        let (hosts, path) = hosts.split_once('/').unwrap_or((hosts, ""));
        if kind == "sentinel" {
            let (name, database) = path.split_once('/').unwrap_or((path, ""));
            if name.is_empty() {
                return wrong("the name of the master is missing: redis+sentinel://host:port/name");
            }
            let has_port = |host: &str| {
                host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
            };
            if !hosts.split(',').all(has_port) {
                return wrong("a sentinel is a host and a port: redis+sentinel://host:port/name");
            }
            return Ok(Nodes::Sentinels {
                urls: hosts.split(',').map(|host| format!("{scheme}://{host}/")).collect(),
                name: name.to_owned(),
                master: format!("{scheme}://{user}localhost/{database}"),
            });
        }
        if kind == "cluster" || self.cluster {
            if !matches!(path, "" | "0") {
                return wrong("a cluster has no databases but 0");
            }
            let url = |host| format!("{scheme}://{user}{host}/");
            return Ok(Nodes::Cluster(hosts.split(',').map(url).collect()));
        }
        if hosts.contains(',') {
            return wrong(
                "several hosts are a cluster's or sentinels: redis+cluster://, redis+sentinel://",
            );
        }
        Ok(Nodes::One(format!("{scheme}://{user}{hosts}/{path}")))
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::StoreUrl { reason });
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.chars().all(allowed) {
            let text = "a prefix has 1 to 64 letters, digits, '-', '_', '.' or ':'";
            return wrong(format!("the prefix {:?} is not allowed: {text}", self.prefix));
        }
        if self.shards == 0 || self.shards > 16_384 {
            return wrong(format!("{} shards: 1 to 16384 are allowed", self.shards));
        }
        Ok(())
    }

    /// How long to wait before the `attempt`-th retry, from 0.
    pub(super) fn wait_before(&self, attempt: u32) -> Duration {
        Duration::from_millis(25 << attempt.min(6)).min(Duration::from_secs(1))
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://…@{hosts}"),
            (Some(_), None) => self.url.clone(),
            (None, _) => "…".to_owned(),
        };
        f.debug_struct("RedisOptions")
            .field("url", &url)
            .field("cluster", &self.cluster)
            .field("prefix", &self.prefix)
            .field("shards", &self.shards)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("retries", &self.retries)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(url: &str) -> Nodes {
        RedisOptions::new(url).nodes().unwrap()
    }

    fn reason(url: &str) -> String {
        match RedisOptions::new(url).nodes() {
            Err(Error::StoreUrl { reason }) => reason,
            _ => panic!("{url} is taken"),
        }
    }

    #[test]
    fn urls_are_taken_apart_and_passwords_are_not_shown() {
        let url = "redis+cluster://user:pass@word@a:1,b:2";
        let urls = ["redis://user:pass@word@a:1/", "redis://user:pass@word@b:2/"];
        assert!(nodes(url) == Nodes::Cluster(urls.map(str::to_owned).to_vec()));
        let options = RedisOptions::new(url);
        assert!(!format!("{options:?}").contains("pass"), "{options:?}");
        assert!(nodes("rediss://a:1/3") == Nodes::One("rediss://a:1/3".to_owned()));
        assert!(reason("redis://a:1,b:2").contains("redis+cluster://"));
        assert!(reason("redis+cluster://a:1/2").contains("databases"));
        assert!(reason("http://a:1").contains("its scheme is not"));
        assert!(reason("redis+http://a:1").contains("its scheme is not"));
        assert!(reason("a:1").contains("no scheme"));
    }

    #[test]
    fn sentinels_are_told_no_password_and_asked_for_a_name() {
        let sentinels = |urls: [&str; 2], master: &str| Nodes::Sentinels {
            urls: urls.map(str::to_owned).to_vec(),
            name: "main".to_owned(),
            master: master.to_owned(),
        };
        let urls = ["redis://a:1/", "redis://b:2/"];
        let found = nodes("redis+sentinel://user:pass@a:1,b:2/main/3");
        assert!(found == sentinels(urls, "redis://user:pass@localhost/3"));
        let found = nodes("rediss+sentinel://a:1,[::1]:2/main");
        assert!(found == sentinels(["rediss://a:1/", "rediss://[::1]:2/"], "rediss://localhost/"));
        for url in ["redis+sentinel://a:1", "redis+sentinel://a:1/", "redis+sentinel://a:1//3"] {
            assert!(reason(url).contains("the name of the master is missing"), "{url}");
        }
        for url in ["redis+sentinel://a/main", "redis+sentinel://a:1,/main"] {
            assert!(reason(url).contains("a host and a port"), "{url}");
        }
    }

    #[test]
    fn a_prefix_has_no_braces() {
        let mut options = RedisOptions::new("redis://a:1");
        options.check().unwrap();
        options.prefix = "a{b}".to_owned();
        assert!(options.check().is_err());
    }
}
