//! Servers that only read: they serve the online state that another server keeps in Redis.

use std::path::Path;

use asofdb_tests::process::ServerProcess;
use asofdb_tests::redis::RedisServer;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::{becomes, connect, copy, number, serve};

const DECLARE: &str = "CREATE SOURCE events (k BIGINT, v BIGINT, ts TIMESTAMPTZ) EVENT TIME ts;
    CREATE ENTITY things (k BIGINT);
    CREATE FEATURE n ON things AS SELECT count(*) OVER (RANGE UNBOUNDED PRECEDING) FROM events;
    CREATE VIEW seen AS SELECT k, n > 0 AS seen FROM things";

/// A server on the state in `redis`: one that writes to `data`, or one that only reads.
fn start(redis: &RedisServer, data: Option<&Path>) -> std::io::Result<ServerProcess> {
    let mut command = serve();
    command.args(["--online", &redis.url()]);
    match data {
        Some(data) => command.arg("--data").arg(data),
        None => command.arg("--read-only"),
    };
    ServerProcess::start(&mut command)
}

fn used_memory(redis: &RedisServer) -> u64 {
    redis.info("memory", "used_memory").unwrap().parse().unwrap()
}

/// Events that no window reaches leave Redis. What is asked about them then takes the events, which
/// only the writer has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_window_reaches_leaves_redis() {
    let redis = RedisServer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = start(&redis, Some(folder.path())).unwrap();
    let writer = connect(&server).await;
    let declare =
        "CREATE SOURCE events (k BIGINT, v DOUBLE PRECISION, ts TIMESTAMPTZ) EVENT TIME ts;
        CREATE ENTITY things (k BIGINT);
        CREATE FEATURES ON things AS SELECT count(*) OVER w AS n, sum(v) OVER w AS total FROM events
          WINDOW w AS (RANGE INTERVAL '1 hour' PRECEDING)";
    writer.batch_execute(declare).await.unwrap();
    let mut rows = String::new();
    for id in 1..=40_000 {
        let (hour, minute, second) = (id / 1800, id / 30 % 60, id % 30 * 2);
        let (key, value) = (id % 50, f64::from(id) / 7.0);
        rows += &format!("{key}\t{value}\t2025-03-01 {hour}:{minute:02}:{second:02}Z\n");
    }
    assert_eq!(copy(&writer, rows).await, 40_000);
    let values = async |client: &Client, instant: &str| {
        let sql = format!(
            "SELECT k, n, total FROM things FOR SYSTEM_TIME AS OF '{instant}' \
             WHERE k IN (1, 7, 49, 50) ORDER BY k"
        );
        let rows = client.query(&sql, &[]).await.map_err(|error| error.code().cloned())?;
        let value = |row: &tokio_postgres::Row| {
            let total: Option<f64> = row.get(2);
            (row.get::<_, i64>(0), row.get::<_, i64>(1), total.map(f64::to_bits))
        };
        Ok::<_, Option<SqlState>>(rows.iter().map(value).collect::<Vec<_>>())
    };
    // 40,000 events in 22 hours; the last one at 22:13:20.
    let (past, last) = ("2025-03-01 03:00:00Z", "2025-03-01 22:13:20Z");
    let before = (values(&writer, past).await.unwrap(), values(&writer, last).await.unwrap());
    assert_eq!(before.0.iter().map(|row| row.1).collect::<Vec<_>>(), [36, 36, 36, 0]);
    let full = used_memory(&redis);
    writer.batch_execute("VACUUM").await.unwrap();
    let rest = used_memory(&redis);
    assert!(rest + 300_000 < full, "{full} bytes became {rest}");
    let after = (values(&writer, past).await.unwrap(), values(&writer, last).await.unwrap());
    assert_eq!(after, before);

    let reader = start(&redis, None).unwrap();
    let client = connect(&reader).await;
    becomes(&client, "SELECT count(*) FROM things", Ok(50)).await;
    assert_eq!(values(&client, last).await.unwrap(), before.1);
    assert_eq!(values(&client, past).await, Err(Some(SqlState::READ_ONLY_SQL_TRANSACTION)));
    // It is so after a restart, and what arrives late counts.
    drop(server);
    let server = start(&redis, Some(folder.path())).unwrap();
    let writer = connect(&server).await;
    assert_eq!(values(&writer, past).await.unwrap(), before.0);
    assert_eq!(values(&client, past).await, Err(Some(SqlState::READ_ONLY_SQL_TRANSACTION)));
    let late = "INSERT INTO events VALUES (7, 0.5, '2025-03-01 02:30:00Z')";
    writer.batch_execute(late).await.unwrap();
    assert_eq!(values(&writer, past).await.unwrap()[1].1, 37);
    let differences = writer.query("VERIFY FEATURES ON things", &[]).await.unwrap();
    assert!(differences.is_empty());
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
