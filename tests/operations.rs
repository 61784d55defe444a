//! What an operator does with the real binary: more servers, backups, long jobs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

#[path = "operations/backup.rs"]
mod backup;
#[path = "operations/copying.rs"]
mod copying;
#[path = "operations/direct_lookup.rs"]
mod direct_lookup;
#[path = "operations/jobs.rs"]
mod jobs;
#[path = "operations/latest.rs"]
mod latest;
#[path = "operations/prepared.rs"]
mod prepared;
#[path = "operations/readers.rs"]
mod readers;

use std::process::Command;
use std::time::{Duration, Instant};

use asofdb_tests::process::ServerProcess;
use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// How long something may take that is to come by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// `asofdb serve` on a free port.
fn serve() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asofdb"));
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command
}

async fn connect(server: &ServerProcess) -> Client {
    let url = format!("host=127.0.0.1 port={} user=tester dbname=asofdb", server.port());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The one number that a query gives, or the SQLSTATE.
async fn number(client: &Client, sql: &str) -> Result<i64, SqlState> {
    match client.query_one(sql, &[]).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) => Err(error.code().cloned().expect("an answer of the server")),
    }
}

/// Asks again until the answer is the expected one.
async fn becomes(client: &Client, sql: &str, expected: Result<i64, SqlState>) {
    let start = Instant::now();
    loop {
        let found = number(client, sql).await;
        if found == expected {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{sql}: {found:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Copies rows, in the text format, into `events`.
async fn copy(client: &Client, rows: String) -> u64 {
    let sink = client.copy_in::<_, Bytes>("COPY events FROM STDIN").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(Bytes::from(rows)).await.unwrap();
    sink.finish().await.unwrap()
}
