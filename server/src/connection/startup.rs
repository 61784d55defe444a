//! The start of a connection: encryption, cancel requests, parameters, the greeting.

use std::sync::Arc;
use std::time::Duration;

use pgwire::api::{ConnectionGuard, ConnectionHandle};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey,
};
use tokio::sync::OwnedSemaphorePermit;

use super::message::Startup;
use super::settings::Settings;
use super::wire::Wire;
use super::{Failure, Reply, Shared};
use crate::sqlstate;

/// A client that has not sent its first packet by then is dropped.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);
/// The newest minor version of the protocol that is spoken.
const NEWEST_MINOR: u16 = 2;

/// What a session holds until it ends.
pub(super) struct Held {
    _guard: ConnectionGuard,
    _permit: OwnedSemaphorePermit,
}

/// A session that may begin.
pub(super) struct Started {
    pub settings: Settings,
    pub handle: Arc<ConnectionHandle>,
    pub held: Held,
}

/// Reads the first packets; `None` if there is no session to serve.
pub(super) async fn start(wire: &mut Wire, shared: &Shared) -> Reply<Option<Started>> {
    let first = tokio::time::timeout(STARTUP_TIMEOUT, first_packet(wire)).await;
    match first.map_err(|_| Failure::Gone)?? {
        // Encryption is refused before a packet gets here.
        Startup::Encryption => Ok(None),
        Startup::Cancel(pid, key) => {
            shared.cancels.cancel(pid, &key).await;
            Ok(None)
        }
        Startup::Session { version, parameters } => {
            greet(wire, shared, version, parameters).await.map(Some)
        }
    }
}

/// The first packet that is no request for encryption; a client may ask for TLS and for GSSAPI.
async fn first_packet(wire: &mut Wire) -> Reply<Startup> {
    for _ in 0..3 {
        match wire.read_startup().await? {
            Startup::Encryption => wire.refuse_encryption().await?,
            packet => return Ok(packet),
        }
    }
    Err(fatal("08P01", "too many requests for encryption"))
}

fn fatal(code: &str, message: impl Into<String>) -> Failure {
    Failure::Fatal(Box::new(sqlstate::fatal(code, message)))
}

async fn greet(
    wire: &mut Wire,
    shared: &Shared,
    version: (u16, u16),
    parameters: Vec<(String, String)>,
) -> Reply<Started> {
    let (major, minor) = version;
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0");
        return Err(fatal("0A000", message));
    }
    let unknown: Vec<String> = parameters
        .iter()
        .filter(|(name, _)| name.starts_with("_pq_."))
        .map(|(name, _)| name.clone())
        .collect();
    if minor > NEWEST_MINOR || !unknown.is_empty() {
        let newest = (3 << 16) | i32::from(NEWEST_MINOR.min(minor));
        wire.put(PgWireBackendMessage::NegotiateProtocolVersion(NegotiateProtocolVersion::new(
            newest, unknown,
        )));
    }
    let mut notices = Vec::new();
    let settings = read_parameters(&parameters, &mut notices)?;
    let permit = Arc::clone(&shared.sessions).try_acquire_owned().map_err(|_| {
        let limit = shared.max_connections;
        let mut info = sqlstate::fatal("53300", "sorry, too many clients already");
        info.hint = Some(format!("The server was started with --max-connections {limit}."));
        Failure::Fatal(Box::new(info))
    })?;

    let pid = shared.next_pid();
    let key = match minor {
        0 | 1 => SecretKey::I32(rand::random()),
        _ => SecretKey::Bytes(rand::random::<[u8; 32]>().to_vec().into()),
    };
    let (handle, guard) = shared.cancels.register(pid, key.clone());
    wire.put(PgWireBackendMessage::Authentication(Authentication::Ok));
    for status in settings.reported() {
        let status = ParameterStatus::new(status.name.to_owned(), status.value);
        wire.put(PgWireBackendMessage::ParameterStatus(status));
    }
    wire.put(PgWireBackendMessage::BackendKeyData(BackendKeyData::new(pid, key)));
    for notice in notices {
        wire.put_notice(sqlstate::notice("WARNING", "01000", notice));
    }
    let ready = ReadyForQuery::new(TransactionStatus::Idle);
    wire.put(PgWireBackendMessage::ReadyForQuery(ready));
    wire.flush().await.map_err(|_| Failure::Gone)?;
    Ok(Started { settings, handle, held: Held { _guard: guard, _permit: permit } })
}

/// Checks user and database and takes the settings over. A setting that can't be taken over is
/// told as a notice: a driver that sends its machine's time zone must be able to connect.
fn read_parameters(parameters: &[(String, String)], notices: &mut Vec<String>) -> Reply<Settings> {
    let get = |wanted: &str| {
        let found = parameters.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let user = get("user")
        .ok_or_else(|| fatal("28000", "no PostgreSQL user name specified in startup packet"))?;
    let database = get("database").unwrap_or(user);
    if !["asofdb", "postgres", user].contains(&database) {
        let mut info = sqlstate::fatal("3D000", format!("database \"{database}\" does not exist"));
        info.hint = Some("The database is called \"asofdb\".".to_owned());
        return Err(Failure::Fatal(Box::new(info)));
    }
    if let Some(replication) = get("replication")
        && !matches!(crate::input::boolean(replication), Ok(false))
    {
        return Err(fatal("0A000", "replication connections are not supported"));
    }
    let mut settings = Settings::new(user);
    let mut take = |name: &str, value: &str| {
        if let Err(error) = settings.set_initial(name, value) {
            notices.push(format!("{} (ignored at the start of the session)", error.message));
        }
    };
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => options(value).iter().for_each(|(name, value)| take(name, value)),
            name if name.starts_with("_pq_.") => {}
            name => take(name, value),
        }
    }
    Ok(settings)
}

/// `-c name=value --name=value`, with backslashes before spaces in values.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = words.len() - 1;
        match c {
            '\\' => words[last].extend(chars.next()),
            c if c.is_ascii_whitespace() => {
                if !words[last].is_empty() {
                    words.push(String::new());
                }
            }
            c => words[last].push(c),
        }
    }
    let mut found = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(pair) => pair.to_owned(),
            None => continue,
        };
        if let Some((name, value)) = pair.split_once('=') {
            found.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_startup_packet() {
        let found = options("-c statement_timeout=5s --search-path=a\\ b  -cjit=off -x");
        let expected = [("statement_timeout", "5s"), ("search_path", "a b"), ("jit", "off")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn databases_and_replication() {
        let read = |pairs: &[(&str, &str)]| {
            let owned: Vec<_> =
                pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            let mut notices = Vec::new();
            let code = match read_parameters(&owned, &mut notices) {
                Ok(_) => "ok".to_owned(),
                Err(Failure::Fatal(info)) => info.code.clone(),
                Err(other) => format!("{other:?}"),
            };
            (code, notices.len())
        };
        assert_eq!(read(&[("user", "me")]), ("ok".into(), 0));
        assert_eq!(read(&[("user", "me"), ("database", "asofdb")]), ("ok".into(), 0));
        assert_eq!(read(&[("user", "me"), ("database", "other")]), ("3D000".into(), 0));
        assert_eq!(read(&[]), ("28000".into(), 0));
        let replication = [("user", "me"), ("replication", "database")];
        assert_eq!(read(&replication), ("0A000".into(), 0));
        let zone = [("user", "me"), ("TimeZone", "Europe/Berlin")];
        assert_eq!(read(&zone), ("ok".into(), 1));
    }
}
