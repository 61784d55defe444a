//! What an error of Redis means: the one place where they are told apart.

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

use crate::error::Error;

/// What to do about a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, no answer in time, or a node that is no master (any more): connect anew and
    /// call again. The call may have had its effect.
    Reconnect(String),
    /// The node is not able to answer for now: call again.
    Wait(String),
    /// The node does not have the script: send its text.
    NoScript,
    /// The store takes no writes: out of memory, no disk for its own persistence, no replicas.
    Refused { code: String, reason: String },
    /// Wrong password, or a user that may not do this.
    Denied { code: String, reason: String },
    /// Anything else; calling again would give the same.
    Other(String),
}

impl Failure {
    /// What is wrong with a connection, or with an answer that could not be read.
    pub(super) fn of(error: &RedisError) -> Failure {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let code = error.code().unwrap_or("ERR");
                Failure::of_code(code, error.detail().unwrap_or_default())
            }
            ErrorKind::AuthenticationFailed => {
                Failure::of_authentication(error.detail().unwrap_or_default())
            }
            ErrorKind::InvalidClientConfig | ErrorKind::Client => Failure::Other(error.to_string()),
            ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => {
                Failure::Reconnect(error.to_string())
            }
            _ => Failure::Other(error.to_string()),
        }
    }

    /// What the server answered.
    pub(super) fn of_answer(error: &ServerError) -> Failure {
        let code = match error.kind() {
            Some(ServerErrorKind::NoScript) => return Failure::NoScript,
            _ => error.code(),
        };
        Failure::of_code(code, error.details().unwrap_or_default())
    }

    fn of_code(code: &str, detail: &str) -> Failure {
        let reason = format!("{code} {detail}");
        // Older servers wrap what a script was refused in an ERR that quotes the code.
        let refused = ["OOM", "MISCONF", "NOREPLICAS"]
            .into_iter()
            .find(|word| code == *word || code == "ERR" && detail.contains(&format!("-{word}")));
        if let Some(word) = refused {
            return Failure::Refused { code: word.to_owned(), reason };
        }
        match code {
            "NOSCRIPT" => Failure::NoScript,
            "READONLY" | "MOVED" | "ASK" | "CLUSTERDOWN" | "UNBLOCKED" => {
                Failure::Reconnect(reason)
            }
            "LOADING" | "TRYAGAIN" | "MASTERDOWN" | "BUSY" => Failure::Wait(reason),
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Failure::denied(code, detail),
            _ if detail.contains("max number of clients") => Failure::Reconnect(reason),
            _ => Failure::Other(reason),
        }
    }

    /// The client wraps whatever stops its log-in: also a server that is only starting.
    fn of_authentication(detail: &str) -> Failure {
        let starting = ["LOADING", "MASTERDOWN", "max number of clients"];
        if starting.iter().any(|word| detail.contains(word)) {
            return Failure::Reconnect(detail.to_owned());
        }
        Failure::denied("WRONGPASS", detail)
    }

    fn denied(code: &str, detail: &str) -> Failure {
        Failure::Denied { code: code.to_owned(), reason: format!("{code} {detail}") }
    }

    /// Whether calling again may help.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Failure::Reconnect(_) | Failure::Wait(_) | Failure::NoScript)
    }

    /// As this crate's error, when calling again was given up.
    pub(super) fn into_error(self) -> Error {
        match self {
            Failure::Reconnect(reason) | Failure::Wait(reason) => {
                Error::StoreUnavailable { reason }
            }
            Failure::NoScript => Error::StoreUnavailable {
                reason: "its scripts are forgotten again and again".into(),
            },
            Failure::Refused { code, reason } => Error::StoreRefusesWrites { code, reason },
            Failure::Denied { code, reason } => Error::StoreDenied { code, reason },
            Failure::Other(reason) => Error::StoreAnswer { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        let refused = |failure| matches!(failure, Failure::Refused { .. });
        assert!(refused(Failure::of_code("OOM", "command not allowed")));
        assert!(refused(Failure::of_code("MISCONF", "")));
        assert!(refused(Failure::of_code("ERR", "Error running script: -OOM command not allowed")));
        assert!(refused(Failure::of_code("NOREPLICAS", "")));
        assert!(matches!(Failure::of_code("READONLY", ""), Failure::Reconnect(_)));
        assert!(matches!(Failure::of_code("LOADING", ""), Failure::Wait(_)));
        assert!(matches!(Failure::of_code("NOPERM", ""), Failure::Denied { .. }));
        assert!(matches!(Failure::of_code("WRONGTYPE", ""), Failure::Other(_)));
        assert!(Failure::of_code("NOSCRIPT", "").is_transient());
    }
}
