//! Where a Redis is and how to talk to it. Passwords stay in here.

use std::fmt;
use std::time::Duration;

use crate::error::Error;

/// How to reach a Redis and which of its keys are ours.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[user:password@]host:port/db`, `rediss://…` for TLS, or
    /// `redis+cluster://host:port,host:port` (`rediss+cluster://…`) for a cluster.
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

    /// The URLs of the nodes to begin with, and whether they are a cluster's.
    pub(super) fn nodes(&self) -> Result<(Vec<String>, bool), Error> {
        let wrong = |reason: &str| Error::StoreUrl { reason: reason.to_owned() };
        let (scheme, rest) = self.url.split_once("://").ok_or_else(|| {
            wrong("it has no scheme; redis://, rediss://, redis+cluster:// are known")
        })?;
        let (scheme, cluster) = match scheme {
            "redis" | "rediss" => (scheme, self.cluster),
            "redis+cluster" => ("redis", true),
            "rediss+cluster" => ("rediss", true),
            _ => return Err(wrong("its scheme is not redis, rediss or redis+cluster")),
        };
        let (user, hosts) = match rest.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), rest),
        };
        let (hosts, path) = match hosts.split_once('/') {
            Some((hosts, path)) => (hosts, format!("/{path}")),
            None => (hosts, String::new()),
        };
        if cluster && !matches!(path.as_str(), "" | "/" | "/0") {
            return Err(wrong("a cluster has no databases but 0"));
        }
        if !cluster && hosts.contains(',') {
            return Err(wrong("several hosts are a cluster's: redis+cluster://"));
        }
        let urls = hosts.split(',').map(|host| format!("{scheme}://{user}{host}{path}")).collect();
        Ok((urls, cluster))
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

    #[test]
    fn urls_are_taken_apart_and_passwords_are_not_shown() {
        let options = RedisOptions::new("redis+cluster://user:pass@word@a:1,b:2");
        let (urls, cluster) = options.nodes().unwrap();
        assert!(cluster);
        assert_eq!(urls, ["redis://user:pass@word@a:1", "redis://user:pass@word@b:2"]);
        assert!(!format!("{options:?}").contains("pass"), "{options:?}");
        assert!(RedisOptions::new("redis://a:1,b:2").nodes().is_err());
        assert!(RedisOptions::new("http://a:1").nodes().is_err());
        assert!(RedisOptions::new("a:1").nodes().is_err());
        let (urls, cluster) = RedisOptions::new("rediss://a:1/3").nodes().unwrap();
        assert_eq!((urls, cluster), (vec!["rediss://a:1/3".to_owned()], false));
    }

    #[test]
    fn a_prefix_has_no_braces() {
        let mut options = RedisOptions::new("redis://a:1");
        options.check().unwrap();
        options.prefix = "a{b}".to_owned();
        assert!(options.check().is_err());
    }
}
