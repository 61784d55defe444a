//! Latest values of files of others, which are read in two passes: the bits are those of one pass,
//! which a query takes that wants anything besides, and those of the same events in the log.

use asofdb_tests::process::ServerProcess;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{connect, copy, serve};

const FILES: u64 = 5;
const FILE_ROWS: u64 = 9_000;

const DECLARE: &str = "
    CREATE SOURCE events (seq BIGINT, u INT, x DOUBLE PRECISION, n BIGINT, t TEXT, ts TIMESTAMPTZ)
        EVENT TIME ts;
    CREATE SOURCE labels (u INT, ts TIMESTAMPTZ) EVENT TIME ts;
    CREATE ENTITY logged (u INT);
    CREATE ENTITY filed (u INT);";

fn features(entity: &str, source: &str) -> String {
    format!(
        "CREATE FEATURES ON {entity} AS SELECT
            last_value(x) OVER () AS x,
            last_value(n * 2) OVER (RANGE INTERVAL '1 hour' PRECEDING) AS n,
            last_value(t) OVER () AS t,
            first_value(t) OVER (RANGE INTERVAL '2 hours' PRECEDING) AS t0,
            last_value(t) FILTER (WHERE x > 0) OVER () AS kept,
            count(*) OVER () AS events
        FROM {source} WHERE n IS NULL OR n > 20 WITH (online = false)"
    )
}

/// Numbers without an order, the same each time.
fn random(row: u64) -> u64 {
    let mixed = (row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

/// Events of 300 users and of none in five hours, with ties, NULLs and values that are not numbers.
fn event(row: u64) -> String {
    let pick = |shift: u32, count: u64| (random(row) >> shift) % count;
    let or_null = |null: bool, text: String| if null { "\\N".to_owned() } else { text };
    let user = or_null(pick(0, 40) == 0, pick(3, 300).to_string());
    let x = match pick(5, 30) {
        0 => "NaN".to_owned(),
        1 => "-0".to_owned(),
        2 => "Infinity".to_owned(),
        other => format!("{}.{row}", other as i64 - 15),
    };
    let x = or_null(pick(7, 9) == 0, x);
    let n = or_null(pick(9, 12) == 0, pick(11, 1000).to_string());
    let text = or_null(pick(13, 8) == 0, format!("text {row}"));
    let second = pick(2, 5 * 3600) / 10 * 10;
    format!("{row}\t{user}\t{x}\t{n}\t{text}\t{}\n", at(second))
}

fn at(second: u64) -> String {
    format!("2024-05-01 {:02}:{:02}:{:02}+00", second / 3600, second / 60 % 60, second % 60)
}

/// A label row; some are of no user, and some of users without events.
fn label(row: u64) -> String {
    let pick = |shift: u32, count: u64| (random(row + 1_000_000) >> shift) % count;
    let user = if pick(0, 30) == 0 { "NULL".to_owned() } else { pick(3, 310).to_string() };
    format!("({user}, '{}')", at(pick(2, 5 * 3600) / 10 * 10))
}

async fn start() -> (ServerProcess, tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let mut command = serve();
    command.arg("--data").arg(folder.path().join("data")).arg("--import-dir").arg(&files);
    let server = ServerProcess::start(&mut command).unwrap();
    let client = connect(&server).await;
    client.batch_execute(DECLARE).await.unwrap();
    copy(&client, (0..FILES * FILE_ROWS).map(event).collect()).await;
    for file in 0..FILES {
        let of_file = format!(
            "COPY (SELECT * FROM events WHERE seq BETWEEN {} AND {} ORDER BY seq)
             TO '{}/{file}.parquet'",
            file * FILE_ROWS,
            (file + 1) * FILE_ROWS - 1,
            files.display()
        );
        client.batch_execute(&of_file).await.unwrap();
    }
    let filed = "CREATE SOURCE filed_events
        (u INT, x DOUBLE PRECISION, n BIGINT, t TEXT, ts TIMESTAMPTZ) EVENT TIME ts
        WITH (connector = 'parquet', location = '*.parquet')";
    client.batch_execute(filed).await.unwrap();
    client.batch_execute(&features("logged", "events")).await.unwrap();
    client.batch_execute(&features("filed", "filed_events")).await.unwrap();
    let labels: Vec<String> = (0..3000).map(label).collect();
    client.batch_execute(&format!("INSERT INTO labels VALUES {}", labels.join(","))).await.unwrap();
    (server, folder, client)
}

/// The first columns of a query's rows, as texts.
async fn rows(client: &Client, sql: &str, columns: usize) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..columns).map(|column| row.get(column).map(str::to_owned)).collect())
        }
        _ => None,
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_passes_give_what_one_gives() {
    let (_server, _folder, client) = start().await;
    let query = |wanted: &str, entity: &str| {
        format!(
            "SELECT l.u, l.ts, f.x, f.n, f.t, f.t0{wanted} FROM labels AS l
             LEFT JOIN {entity} FOR SYSTEM_TIME AS OF l.ts AS f ON f.u = l.u ORDER BY l.u, l.ts"
        )
    };
    let (two, one) = (query("", "filed"), query(", f.events", "filed"));
    for (sql, passes) in [(&two, 2), (&one, 1), (&query("", "logged"), 1)] {
        let plan = rows(&client, &format!("EXPLAIN {sql}"), 1).await;
        let fetches = plan.iter().flatten().flatten().any(|text| text.contains("LateFetchExec"));
        assert_eq!(fetches, passes == 2, "{sql}: {plan:?}");
    }
    let found = rows(&client, &two, 6).await;
    assert_eq!(found.len(), 3000);
    for column in 0..6 {
        let absent = found.iter().filter(|row| row[column].is_none()).count();
        assert!(absent < 1500, "{absent} of column {column}");
        assert!(column == 1 || absent > 10, "{absent} of column {column}");
    }
    assert!(found.iter().any(|row| row[2].as_deref() == Some("NaN")));
    assert!(found.iter().any(|row| row[2].as_deref() == Some("-0")));
    assert_eq!(found, rows(&client, &one, 6).await);
    assert_eq!(found, rows(&client, &query("", "logged"), 6).await);
}

/// A join of latest values in either way.
fn both_ways(select: &str, order: &str) -> (String, String) {
    let of = |entity: &str| {
        format!(
            "SELECT {select} FROM labels AS l
             LEFT JOIN {entity} FOR SYSTEM_TIME AS OF l.ts AS f ON f.u = l.u {order}"
        )
    };
    (of("filed"), of("logged"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_passes_may_be_followed_by_anything() {
    let (_server, _folder, client) = start().await;
    for (select, order, columns) in [
        // An order by a value is none by the position that stands for it.
        ("f.x, f.t", "ORDER BY f.x, f.t", 2),
        (
            "f.t, row_number() OVER (ORDER BY f.t, f.n, l.ts, l.u)",
            "ORDER BY f.t, f.n, l.ts, l.u",
            2,
        ),
        ("f.t, count(*), min(f.n)", "GROUP BY f.t ORDER BY f.t", 3),
        ("l.u, f.x", "WHERE f.n > 500 ORDER BY l.u, l.ts, f.x", 2),
        ("l.u, f.kept, f.t", "ORDER BY l.u, l.ts, f.t", 3),
    ] {
        let (two, one) = both_ways(select, order);
        let found = rows(&client, &two, columns).await;
        assert!(found.len() > 500, "{two}: {}", found.len());
        assert_eq!(found, rows(&client, &one, columns).await, "{two}");
    }
    // A filter is a column beside the values.
    let (two, one) = both_ways("f.kept", "ORDER BY l.u, l.ts");
    assert_eq!(rows(&client, &two, 1).await, rows(&client, &one, 1).await);
    let limited = both_ways("f.x", "LIMIT 3").0;
    for _ in 0..2 {
        assert_eq!(rows(&client, &limited, 1).await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_may_follow_each_other() {
    let (_server, _folder, client) = start().await;
    // The second join has the first one's rows in the order that it gives them. Plans do not double
    // with each.
    let join = |number: u64, entity: &str| {
        format!(
            " LEFT JOIN {entity} FOR SYSTEM_TIME AS OF (l.ts - INTERVAL '{number} minutes') AS f{number}
              ON f{number}.u = l.u"
        )
    };
    let query = |entity: &str| {
        let joins: String = (0..12).map(|number| join(number, entity)).collect();
        format!("SELECT l.u, f0.x, f5.t, f11.x FROM labels AS l {joins} ORDER BY l.u, l.ts, f5.t")
    };
    let found = rows(&client, &query("filed"), 4).await;
    assert_eq!(found.len(), 3000);
    assert_eq!(found, rows(&client, &query("logged"), 4).await);
}
