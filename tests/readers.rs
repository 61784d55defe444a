//! Servers that only read: they serve the online state that another server keeps in Redis.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::process::Command;
use std::time::{Duration, Instant};

use asofdb_tests::process::ServerProcess;
use asofdb_tests::redis::RedisServer;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// How long a reader may take to know what the writer did.
const PATIENCE: Duration = Duration::from_secs(20);

const DECLARE: &str = "CREATE SOURCE events (k BIGINT, v BIGINT, ts TIMESTAMPTZ) EVENT TIME ts;
    CREATE ENTITY things (k BIGINT);
    CREATE FEATURE n ON things AS SELECT count(*) OVER (RANGE UNBOUNDED PRECEDING) FROM events;
    CREATE VIEW seen AS SELECT k, n > 0 AS seen FROM things";

/// A server on the state in `redis`: one that writes to `data`, or one that only reads.
fn start(redis: &RedisServer, data: Option<&std::path::Path>) -> std::io::Result<ServerProcess> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asofdb"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--online", &redis.url()]);
    match data {
        Some(data) => command.arg("--data").arg(data),
        None => command.arg("--read-only"),
    };
    ServerProcess::start(&mut command)
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_every_commit_and_follow_the_catalog() {
    let redis = RedisServer::start().unwrap();
    let early = start(&redis, None).err().expect("there is nothing to read yet").to_string();
    assert!(early.contains("there is no online state under the prefix \"asofdb\""), "{early}");

    let folder = tempfile::tempdir().unwrap();
    let server = start(&redis, Some(folder.path())).unwrap();
    let writer = connect(&server).await;
    writer.batch_execute(DECLARE).await.unwrap();
    // The catalog may be some moments late.
    let readers = [start(&redis, None).unwrap(), start(&redis, None).unwrap()];
    let clients = [connect(&readers[0]).await, connect(&readers[1]).await];
    for client in &clients {
        becomes(client, "SELECT n FROM things WHERE k = 7", Ok(0)).await;
    }
    // An acknowledged row is in every later read, on any server.
    for count in 1..=100 {
        writer.batch_execute("INSERT INTO events VALUES (7, 1, now())").await.unwrap();
        let reader = &clients[count as usize % 2];
        assert_eq!(number(reader, "SELECT n FROM things WHERE k = 7").await, Ok(count));
        assert_eq!(number(reader, "SELECT count(*) FROM seen WHERE seen").await, Ok(1));
    }

    let add = "CREATE FEATURE total ON things AS \
               SELECT sum(v) OVER (RANGE UNBOUNDED PRECEDING)::BIGINT FROM events WHERE v > 0";
    let asks = "SELECT total FROM things WHERE k = 7";
    let prepared = clients[0].prepare("SELECT n FROM things WHERE k = $1").await.unwrap();
    writer.batch_execute(add).await.unwrap();
    becomes(&clients[0], asks, Ok(100)).await;
    let row = clients[0].query_one(&prepared, &[&7_i64]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 100);
    writer.batch_execute("DROP FEATURE total ON things").await.unwrap();
    becomes(&clients[0], asks, Err(SqlState::UNDEFINED_COLUMN)).await;
    assert_eq!(number(&clients[0], "SELECT n FROM things WHERE k = 7").await, Ok(100));

    for refused in [
        "INSERT INTO events VALUES (7, 1, now())",
        "COPY events FROM STDIN",
        "CREATE ENTITY others (k BIGINT)",
        "DROP ENTITY things",
        "SELECT count(*) FROM events",
        "SELECT e.k, t.n FROM events AS e JOIN things FOR SYSTEM_TIME AS OF e.ts AS t ON t.k = e.k",
        "CHECKPOINT",
        "VACUUM",
        "BACKUP TO 'here'",
    ] {
        let error = clients[1].simple_query(refused).await.expect_err(refused);
        assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION), "{refused}: {error}");
    }

    // Without the writer they go on; a Redis that has lost something is not believed.
    drop(server);
    assert_eq!(number(&clients[1], "SELECT n FROM things WHERE k = 7").await, Ok(100));
    redis.command("FLUSHALL").unwrap();
    let lost = number(&clients[1], "SELECT n FROM things WHERE k = 7").await;
    assert_eq!(lost, Err(SqlState::CANNOT_CONNECT_NOW));
    let _server = start(&redis, Some(folder.path())).unwrap();
    for client in &clients {
        becomes(client, "SELECT n FROM things WHERE k = 7", Ok(100)).await;
    }
}
