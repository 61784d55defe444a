//! What is between the real binary and the servers that it needs: Redis and S3 behind proxies that
//! end, hold and spoil what goes over them, until the servers cannot be reached at all.
//!
//! `ASOFDB_SEED` repeats what is random; the number of rounds is in `ASOFDB_NETWORK_RUNS`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "this is a test")]

#[path = "network/redis.rs"]
mod redis;
#[path = "network/s3.rs"]
mod s3;

use std::time::Duration;

use asofdb_tests::checks::verify_features;
use asofdb_tests::clients::Shared;
use tokio::time::timeout;
use tokio_postgres::{Client, Error};

const PROGRAM: &str = env!("CARGO_BIN_EXE_asofdb");

/// The longest that a statement may take whose server does not answer, with some patience.
const BOUND: Duration = Duration::from_secs(90);

/// The SQLSTATE with which a statement fails, within a bounded time; `OK` if it does not fail.
async fn outcome(client: &Client, sql: &str) -> String {
    let result = timeout(BOUND, client.simple_query(sql)).await.expect("it ends in bounded time");
    code(result)
}

fn code<T>(result: Result<T, Error>) -> String {
    let Err(error) = result else { return "OK".to_owned() };
    error.code().unwrap_or_else(|| panic!("the connection ended: {error:?}")).code().to_owned()
}

/// There was work, and none of it was refused.
fn all_acknowledged(ledger: &Shared) {
    let ledger = ledger.lock().unwrap();
    assert_eq!(ledger.in_doubt.len(), 0, "statements without an acknowledgement");
    assert!(ledger.acknowledged.len() > 100, "{} rows", ledger.acknowledged.len());
}

/// How many events are stored; the features count the same.
async fn whole(client: &Client) -> i64 {
    verify_features(client).await;
    client.query_one("SELECT count(*) FROM events", &[]).await.expect("reads").get(0)
}
