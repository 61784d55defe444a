//! Lookups that are planned once and run for many: each has its own keys, its own now and the
//! catalog of its time.

use std::time::Duration;

use asofdb_tests::process::ServerProcess;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{becomes, connect, serve};

const USERS: i64 = 40;

/// Users of whom user `u` has `u` events of the amount `u`, an hour ago.
const DECLARE: &str = "
    CREATE SOURCE events (u BIGINT, name TEXT, amount DOUBLE PRECISION, ts TIMESTAMPTZ) EVENT TIME ts;
    CREATE ENTITY users (u BIGINT);
    CREATE ENTITY names (name TEXT);
    CREATE FEATURES ON users AS
      SELECT count(*) OVER w AS n, sum(amount) OVER w AS total, last_value(name) AS name
      FROM events WINDOW w AS (RANGE INTERVAL '1 day' PRECEDING);
    CREATE FEATURE times ON names AS SELECT count(*) OVER (RANGE INTERVAL '1 day' PRECEDING) FROM events;
    CREATE FEATURE ratio ON users AS SELECT total / nullif(n, 0);
    CREATE VIEW pairs AS SELECT users.u, users.n, names.name, names.times FROM users, names;";

async fn start() -> (ServerProcess, tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(serve().arg("--data").arg(folder.path())).unwrap();
    let client = connect(&server).await;
    client.batch_execute(DECLARE).await.unwrap();
    let rows: Vec<String> = (1..=USERS)
        .flat_map(|u| (0..u).map(move |_| format!("({u}, 'n{u}', {u}, now() - INTERVAL '1 hour')")))
        .collect();
    client.batch_execute(&format!("INSERT INTO events VALUES {}", rows.join(","))).await.unwrap();
    (server, folder, client)
}

/// The rows of a text, values as texts, or the SQLSTATE.
async fn simple(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, SqlState> {
    let messages = client.simple_query(sql).await;
    let messages = messages.map_err(|e| e.code().cloned().expect("an answer of the server"))?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_share_plans_and_nothing_else() {
    let (server, _folder, _client) = start().await;
    let sessions = (0..8).map(|session: i64| {
        let server = &server;
        async move {
            let client = connect(server).await;
            let one =
                "SELECT u, n, total, name, $2 / nullif(total, 0) AS r FROM users WHERE u = $1";
            let one = client.prepare(one).await.unwrap();
            let many = "SELECT u, n FROM users WHERE u = ANY ($1) ORDER BY u";
            let many = client.prepare(many).await.unwrap();
            for turn in 0..200 {
                let u = (session * 31 + turn * 7) % USERS + 1;
                let row = client.query_one(&one, &[&u, &(turn as f64)]).await.unwrap();
                let total = (u * u) as f64;
                assert_eq!((row.get(0), row.get(1), row.get(2)), (u, u, total));
                assert_eq!(row.get::<_, String>(3), format!("n{u}"));
                assert_eq!(row.get::<_, f64>(4).to_bits(), (turn as f64 / total).to_bits());
                let next = u % USERS + 1;
                let rows = client.query(&many, &[&vec![u, next, u, -5]]).await.unwrap();
                let rows: Vec<(i64, i64)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
                let mut expected = vec![(-5, 0), (u, u), (next, next)];
                expected.sort_unstable();
                assert_eq!(rows, expected);
                let text = format!("SELECT n, name FROM users WHERE u = {u}");
                let expected = vec![Some(u.to_string()), Some(format!("n{u}"))];
                assert_eq!(simple(&client, &text).await, Ok(vec![expected]));
                let text = format!("SELECT n, times FROM pairs WHERE u = {u} AND name = 'n{next}'");
                let expected = vec![Some(u.to_string()), Some(next.to_string())];
                assert_eq!(simple(&client, &text).await, Ok(vec![expected]));
            }
        }
    });
    futures::future::join_all(sessions).await;
}

/// A text is answered as if there were no shapes: prepared without parameters it has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_means_what_its_literals_say() {
    let (_server, _folder, client) = start().await;
    let conditions = [
        "u = 3",
        "u = '3'",
        "u = 3.0",
        "u = 3.5",
        "u = 1e1",
        "u = -3",
        "u = 99999999999999999999",
        "u = 9223372036854775807",
        "u = 'x'",
        "u = NULL",
        "u = true",
        "u IN (1, 2, 3)",
        "u IN (1, '2')",
        "u IN (1, 2.0)",
        "u IN (1, NULL)",
        "u = 1 + 2",
        "u = 3 AND n = 3",
        "u = 3 AND n = '3'",
        "u = 3 AND total = 9",
        "u = 3 AND total = '9'",
        "u = 3 AND name = 'n3'",
        "u = 3 AND name = 3",
        "u = 3 AND name = 'it''s'",
        "u = 3 AND name IN ('n3', 'x')",
        "u = 3 AND 'n3' = name",
        "u = 3 AND name = 'n3'::text",
        "u = 3 AND 1 = 1",
        "u = 3 AND 1 = '1'",
        "u = 3 AND n = 3::int",
        "u = 3 OR u = 4",
        "u = 3 AND total / 0 = 1",
        "u = 3 AND n / 0 = 1",
        "u = 3 AND (n = 3) = true",
        "u = 3 AND \"n\" = 3",
        "u = 3 AND missing = 1",
        "u = (SELECT 3)",
        "u = 3 LIMIT 1",
        "u = 3 -- 4",
        "u = 3 AND name = E'n\\x33'",
        "u = 3; SELECT 1",
        "u = 3;",
        "u = 3 AND n BETWEEN 1 AND 3",
        "u = 3 AND name LIKE 'n%'",
        "u = 3 AND ratio(18) = 2",
        "u = 3 AND ratio(18.0) = 2",
        "u = 3 AND CASE WHEN n = 3 THEN name = 'n3' ELSE false END",
        "u=3 and n>=3 and n<>4",
    ];
    let selected = ["u, n, total, name", "n = 3 AS is, 3, 'x'", "count(*)", "max(total)"];
    for condition in conditions {
        for columns in selected {
            let text = format!("SELECT {columns} FROM users WHERE {condition}");
            let parts = text.contains("; SELECT");
            // Twice: planned, and then from what was kept.
            for _ in 0..2 {
                let found = simple(&client, &text).await;
                if parts {
                    assert!(found.is_ok(), "{text}: {found:?}");
                    continue;
                }
                let expected = match client.prepare(&text).await {
                    Err(error) => Err(error.code().cloned().unwrap()),
                    Ok(statement) => match client.query(&statement, &[]).await {
                        Err(error) => Err(error.code().cloned().unwrap()),
                        Ok(rows) => Ok(rows.len()),
                    },
                };
                assert_eq!(found.as_ref().map(Vec::len).map_err(Clone::clone), expected, "{text}");
                let unshaped = simple(&client, &format!("/**/{text}")).await;
                assert_eq!(found, unshaped, "{text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn now_is_that_of_each_execution() {
    let (_server, _folder, client) = start().await;
    let create = "CREATE FEATURE recent ON users AS \
                  SELECT count(*) OVER (RANGE INTERVAL '1 second' PRECEDING) FROM events";
    client.batch_execute(create).await.unwrap();
    let now = client.prepare("SELECT now()::text, recent FROM users WHERE u = $1").await.unwrap();
    let mut last = String::new();
    for _ in 0..5 {
        let at: String = client.query_one(&now, &[&1_i64]).await.unwrap().get(0);
        assert!(at > last, "{at} after {last}");
        last = at;
    }
    client.batch_execute("INSERT INTO events VALUES (1, 'x', 1, now())").await.unwrap();
    let recent: i64 = client.query_one(&now, &[&1_i64]).await.unwrap().get(1);
    assert_eq!(recent, 1);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let recent: i64 = client.query_one(&now, &[&1_i64]).await.unwrap().get(1);
    assert_eq!(recent, 0);
    becomes(&client, "SELECT recent FROM users WHERE u = 1", Ok(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_follows_the_catalog() {
    let (server, _folder, client) = start().await;
    let other = connect(&server).await;
    let text = "SELECT total FROM users WHERE u = 3";
    let total = client.prepare("SELECT total FROM users WHERE u = $1").await.unwrap();
    let names = client.prepare("SELECT name FROM users WHERE u = $1").await.unwrap();
    let read = async || client.query_one(&total, &[&3_i64]).await.map(|row| row.get::<_, f64>(0));
    assert_eq!(read().await.unwrap(), 9.0);
    assert_eq!(simple(&client, text).await, Ok(vec![vec![Some("9".into())]]));
    let replace = |what: &str| {
        format!("CREATE OR REPLACE FEATURE total ON users AS SELECT {what} FROM events")
    };
    other.batch_execute("DROP FEATURE ratio ON users").await.unwrap();
    other
        .batch_execute(&replace("sum(amount * 2) OVER (RANGE INTERVAL '1 day' PRECEDING)"))
        .await
        .unwrap();
    assert_eq!(read().await.unwrap(), 18.0);
    assert_eq!(simple(&client, text).await, Ok(vec![vec![Some("18".into())]]));
    // Of another type: the client was told that it is a number.
    other.batch_execute(&replace("last_value(name)")).await.unwrap();
    let error = read().await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED), "{error:?}");
    assert_eq!(simple(&client, text).await, Ok(vec![vec![Some("n3".into())]]));
    let row = client.query_one(&names, &[&3_i64]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "n3");
    other.batch_execute("DROP FEATURE total ON users").await.unwrap();
    let error = read().await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN), "{error:?}");
    assert_eq!(simple(&client, text).await, Err(SqlState::UNDEFINED_COLUMN));
    other
        .batch_execute(&replace("sum(amount) OVER (RANGE INTERVAL '1 day' PRECEDING)"))
        .await
        .unwrap();
    assert_eq!(read().await.unwrap(), 9.0);
    assert_eq!(simple(&client, text).await, Ok(vec![vec![Some("9".into())]]));
}

/// Two portals of one statement, read in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portals_keep_their_own_parameters() {
    let (_server, _folder, mut client) = start().await;
    let transaction = client.transaction().await.unwrap();
    let some = "SELECT u, n + $1 FROM users WHERE u = ANY ($2) ORDER BY u";
    let some = transaction.prepare(some).await.unwrap();
    let low = transaction.bind(&some, &[&1000_i64, &vec![1_i64, 2, 3]]).await.unwrap();
    let high = transaction.bind(&some, &[&2000_i64, &vec![11_i64, 12, 13]]).await.unwrap();
    for turn in 1..=3_i64 {
        for (portal, u, plus) in [(&low, turn, 1000), (&high, turn + 10, 2000)] {
            let rows = transaction.query_portal(portal, 1).await.unwrap();
            let rows: Vec<(i64, i64)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
            assert_eq!(rows, [(u, u + plus)]);
        }
        // Left in the middle.
        let abandoned = transaction.bind(&some, &[&0_i64, &vec![turn, 30]]).await.unwrap();
        let rows = transaction.query_portal(&abandoned, 1).await.unwrap();
        assert_eq!(rows[0].get::<_, i64>(1), turn);
    }
    assert!(transaction.query_portal(&low, 1).await.unwrap().is_empty());
}

/// The Parquet files below a folder.
fn parquet_files(folder: &std::path::Path) -> usize {
    let entries =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let files = entries.map(|path| match path.is_dir() {
        true => parquet_files(&path),
        false => usize::from(path.extension().is_some_and(|e| e == "parquet")),
    });
    files.sum()
}

/// Plans that sessions share keep nothing of a source that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_source_leaves_no_files() {
    let (_server, folder, client) = start().await;
    client.batch_execute("CHECKPOINT").await.unwrap();
    assert!(parquet_files(folder.path()) > 0);
    let text = "SELECT total FROM users WHERE u = ";
    assert_eq!(simple(&client, &format!("{text}3")).await, Ok(vec![vec![Some("9".into())]]));
    let row = client.query_one(&format!("{text}$1"), &[&3_i64]).await.unwrap();
    assert_eq!(row.get::<_, f64>(0), 9.0);
    // A session keeps what it has prepared; the row is the last to need it.
    drop(row);
    client.batch_execute("DROP SOURCE events CASCADE").await.unwrap();
    assert!(simple(&client, &format!("{text}3")).await.is_err());
    let start = std::time::Instant::now();
    while parquet_files(folder.path()) > 0 {
        assert!(start.elapsed() < crate::PATIENCE, "the files are kept");
        client.batch_execute("VACUUM").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
