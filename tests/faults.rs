//! Faults of the machine and of the process, at the real binary over the wire. `docs/faults.md`
//! says what has to happen at each.
//!
//! `ASOFDB_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "this is a test")]

#[path = "faults/bomb.rs"]
mod bomb;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/files.rs"]
mod files;
#[path = "faults/formats.rs"]
mod formats;
#[path = "faults/log.rs"]
mod log;
#[path = "faults/panics.rs"]
mod panics;
#[path = "faults/power.rs"]
mod power;
#[path = "faults/stop.rs"]
mod stop;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use asofdb_tests::database::files_below;
use asofdb_tests::process::ServerProcess;
use tokio_postgres::{Client, SimpleQueryMessage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_asofdb");

/// How long a server that was told to stop is waited for. It promises ten seconds, but this machine
/// may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// The SQLSTATE and the message of a statement that fails.
async fn refused(client: &Client, sql: &str) -> (String, String) {
    let error = client.simple_query(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    (error.code().code().to_owned(), error.message().to_owned())
}

/// The rows of an answer, with a `|` between values.
async fn answer(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let values = |row: &tokio_postgres::SimpleQueryRow| {
        let values = (0..row.len()).map(|column| row.get(column).unwrap_or("NULL"));
        values.collect::<Vec<_>>().join("|")
    };
    rows.map(values).collect()
}

/// What a server says that does not start.
fn start_fails(command: &mut Command) -> String {
    match ServerProcess::start(command) {
        Ok(_) => panic!("it starts"),
        Err(error) => error.to_string(),
    }
}

/// The one file below `folder` whose name ends with `extension`.
fn only_file(folder: &Path, extension: &str) -> PathBuf {
    let files = files_below(folder, extension).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}
