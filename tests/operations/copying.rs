//! A `COPY` of several batches, which are made ready while others are sent: features that come and go
//! meanwhile have all of its rows or none, and a row that is refused late takes all others with it.

use asofdb_tests::process::ServerProcess;
use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::{connect, number, serve};

/// Rows of one part that is sent: more than a batch.
const ROWS: i64 = 70_000;
const USERS: i64 = 1_000;

const DECLARE: &str = "
    CREATE SOURCE events (u BIGINT, x BIGINT, ts TIMESTAMPTZ) EVENT TIME ts;
    CREATE ENTITY users (u BIGINT);
    CREATE FEATURE n ON users AS SELECT count(*) OVER () FROM events;
    CREATE FEATURE gone ON users AS SELECT sum(x) OVER () FROM events WHERE x > 1;";

/// Made while rows are sent.
const LATER: &str = "CREATE FEATURE least ON users AS
    SELECT min(100 / x) OVER (RANGE INTERVAL '100 years' PRECEDING) FROM events";

async fn start() -> (ServerProcess, tempfile::TempDir, Client, Client) {
    let folder = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(serve().arg("--data").arg(folder.path())).unwrap();
    let (client, other) = (connect(&server).await, connect(&server).await);
    client.batch_execute(DECLARE).await.unwrap();
    (server, folder, client, other)
}

/// The rows from `first` on, with `x` as they say.
fn part(first: i64, x: impl Fn(i64) -> String) -> Bytes {
    let line = |row: i64| format!("{}\t{}\t2024-01-01 00:00:00+00\n", row % USERS, x(row));
    (first..first + ROWS).map(line).collect::<String>().into()
}

/// Copies parts and does something between the first and the others; rows, or the SQLSTATE.
async fn copy(
    client: &Client,
    parts: Vec<Bytes>,
    between: impl Future<Output = ()>,
) -> Result<u64, SqlState> {
    let told = |error: tokio_postgres::Error| error.code().cloned().expect("an answer");
    let sink = client.copy_in::<_, Bytes>("COPY events FROM STDIN").await.map_err(told)?;
    let mut sink = std::pin::pin!(sink);
    let mut between = Some(between);
    for part in parts {
        // In pieces, as drivers send.
        for piece in part.chunks(1 << 16) {
            sink.feed(Bytes::copy_from_slice(piece)).await.map_err(told)?;
        }
        sink.flush().await.map_err(told)?;
        if let Some(between) = between.take() {
            between.await;
        }
    }
    sink.finish().await.map_err(told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_come_and_go_while_rows_are_sent() {
    let (_server, _folder, client, other) = start().await;
    let change = async {
        other.batch_execute(LATER).await.unwrap();
        other.batch_execute("DROP FEATURE gone ON users").await.unwrap();
    };
    let x = |row: i64| (1 + row % 100).to_string();
    let parts = (0..3).map(|number| part(number * ROWS, x)).collect();
    assert_eq!(copy(&client, parts, change).await, Ok(3 * ROWS as u64));
    assert_eq!(number(&other, "SELECT count(*) FROM events").await, Ok(3 * ROWS));
    assert_eq!(number(&other, "SELECT min(n) FROM users").await, Ok(3 * ROWS / USERS));
    assert_eq!(number(&other, "SELECT sum(n)::BIGINT FROM users").await, Ok(3 * ROWS));
    // All rows of a user have the same value of `x`.
    assert_eq!(number(&other, "SELECT least FROM users WHERE u = 0").await, Ok(100));
    assert_eq!(number(&other, "SELECT least FROM users WHERE u = 999").await, Ok(1));
    let differences = other.query("VERIFY FEATURES ON users", &[]).await.unwrap();
    assert!(differences.is_empty(), "{differences:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_row_takes_all_others_with_it() {
    let (_server, _folder, client, other) = start().await;
    let fine = |_: i64| "1".to_owned();
    let zero_at = |place: i64| move |row: i64| i64::from(row != place).to_string();
    let nothing = || async {};

    // A value that is none, in the first batch of three.
    let parts = vec![part(0, |row| if row == 5 { "?" } else { "1" }.to_owned()), part(0, fine)];
    let refused = copy(&client, parts, nothing()).await;
    assert_eq!(refused, Err(SqlState::INVALID_TEXT_REPRESENTATION));

    // No feature divides by zero, until one is made between the rows.
    let make = async { other.batch_execute(LATER).await.unwrap() };
    let parts = vec![part(0, zero_at(7)), part(0, fine)];
    assert_eq!(copy(&client, parts, make).await, Err(SqlState::DIVISION_BY_ZERO));

    // It is there from the beginning, and the row in the first batch, or in the last.
    for (first, last) in [(7, -1), (-1, ROWS - 1)] {
        let parts = vec![part(0, zero_at(first)), part(0, fine), part(0, zero_at(last))];
        let refused = copy(&client, parts, nothing()).await;
        assert_eq!(refused, Err(SqlState::DIVISION_BY_ZERO), "{first} {last}");
    }

    assert_eq!(number(&other, "SELECT count(*) FROM events").await, Ok(0));
    assert_eq!(number(&client, "SELECT n FROM users WHERE u = 1").await, Ok(0));
    assert_eq!(copy(&client, vec![part(0, fine)], nothing()).await, Ok(ROWS as u64));
    assert_eq!(number(&other, "SELECT n FROM users WHERE u = 1").await, Ok(ROWS / USERS));
}
