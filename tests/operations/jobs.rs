//! A feature that takes long to fill.

use std::time::Duration;

use asofdb_tests::process::ServerProcess;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::{becomes, connect, copy, number, serve};

const ROWS: i64 = 120_000;
const CREATE: &str = "CREATE FEATURE n ON things AS \
                      SELECT count(*) OVER (RANGE UNBOUNDED PRECEDING) FROM events";
const FILLS: &str = "SHOW JOBS";

/// The jobs: kind, target, rows, rows in all.
async fn jobs(client: &Client) -> Vec<(String, String, i64, Option<i64>)> {
    let rows = client.query(FILLS, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(1), row.get(2), row.get(3), row.get(4))).collect()
}

/// Waits until a fill has gone through some rows, but not all.
async fn under_way(client: &Client) -> (String, String, i64, Option<i64>) {
    loop {
        if let Some(job) = jobs(client).await.into_iter().find(|job| job.2 > 0) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ended(client: &Client) {
    while !jobs(client).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_is_listed_and_cancelled_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = serve();
    // Fifteen batches.
    command.arg("--data").arg(folder.path()).env("FAILPOINTS", "fill::batch=sleep(100)");
    let server = ServerProcess::start(&mut command).unwrap();
    let client = connect(&server).await;
    let declare = "CREATE SOURCE events (k BIGINT, ts TIMESTAMPTZ) EVENT TIME ts; \
                   CREATE ENTITY things (k BIGINT)";
    client.batch_execute(declare).await.unwrap();
    let rows = (0..ROWS).map(|id| format!("{}\t2025-03-01 12:00:00Z\n", id % 10)).collect();
    assert_eq!(copy(&client, rows).await, ROWS as u64);

    // Cancelled by another connection.
    let creator = connect(&server).await;
    let cancel = creator.cancel_token();
    let create = tokio::spawn(async move { creator.batch_execute(CREATE).await });
    let (kind, target, done, total) = under_way(&client).await;
    assert_eq!((kind.as_str(), target.as_str()), ("fill", "things from events"));
    assert!(done < ROWS && total == Some(ROWS), "{done} of {total:?}");
    client.batch_execute("INSERT INTO events VALUES (3, now())").await.unwrap();
    cancel.cancel_query(NoTls).await.unwrap();
    let error = create.await.unwrap().expect_err("it was cancelled");
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error:?}");
    ended(&client).await;
    let of_key_3 = "SELECT n FROM things WHERE k = 3";
    assert_eq!(number(&client, of_key_3).await, Err(SqlState::UNDEFINED_COLUMN));

    // Given up by a client that leaves.
    let address = format!("host=127.0.0.1 port={} user=tester dbname=asofdb", server.port());
    let (creator, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let create = tokio::spawn(async move { creator.batch_execute(CREATE).await });
    under_way(&client).await;
    connection.abort();
    assert!(create.await.unwrap().expect_err("it has no connection").is_closed());
    ended(&client).await;
    assert_eq!(number(&client, of_key_3).await, Err(SqlState::UNDEFINED_COLUMN));

    // Nothing of that is in the way.
    client.batch_execute(CREATE).await.unwrap();
    becomes(&client, of_key_3, Ok(ROWS / 10 + 1)).await;
    let differences = client.query("VERIFY FEATURES ON things", &[]).await.unwrap();
    assert!(differences.is_empty());
    assert_eq!(jobs(&client).await, []);
}
