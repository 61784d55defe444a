//! Lookups of given keys take a way of their own. They are compared, byte by byte and in both
//! formats, with lookups that the operators answer: those with a limit.

use asofdb_tests::process::ServerProcess;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{connect, serve};

/// Sources of all types, with keys of one part and of several.
const DECLARE: &str = "
    CREATE SOURCE events (k BIGINT, name TEXT, day DATE, yes BOOLEAN, small SMALLINT, whole INTEGER,
      single REAL, double DOUBLE PRECISION, price NUMERIC(10, 2), at TIMESTAMPTZ, ts TIMESTAMPTZ)
      EVENT TIME ts;
    CREATE SOURCE others (k BIGINT, huge BIGINT, ts TIMESTAMPTZ) EVENT TIME ts;
    CREATE ENTITY things (k BIGINT);
    CREATE ENTITY pairs (name TEXT, day DATE, yes BOOLEAN);
    CREATE FEATURES ON things AS
      SELECT last_value(name) AS name, last_value(day) AS day, last_value(yes) AS yes,
        last_value(small) AS small, last_value(whole) AS whole, last_value(single) AS single,
        last_value(double) AS double, last_value(price) AS price, last_value(at) AS at
      FROM events;
    CREATE FEATURES ON things AS
      SELECT count(*) OVER w AS n, sum(small) OVER w AS sum_small, sum(price) OVER w AS sum_price,
        avg(double) OVER w AS mean, sum(single) OVER w AS sum_single, max(name) OVER w AS last_name,
        bool_and(yes) OVER w AS all_yes, count(DISTINCT name) OVER w AS names
      FROM events WINDOW w AS (RANGE INTERVAL '1 day' PRECEDING);
    CREATE FEATURE huge ON things AS SELECT sum(huge) OVER (RANGE INTERVAL '1 day' PRECEDING) FROM others;
    CREATE FEATURE ratio ON things AS SELECT mean / nullif(n, 0);
    CREATE FEATURES ON pairs AS
      SELECT count(*) OVER w AS n, last_value(price) OVER w AS price
      FROM events WINDOW w AS (RANGE INTERVAL '1 day' PRECEDING);
    INSERT INTO events VALUES
      (1, 'a', '2024-02-29', true, -7, 70000, 0.1, 0.1, 12.50, '2024-02-29 12:00:00.5+00', now()),
      (1, 'b', '1900-01-01', false, 32767, -5, 1e30, 'NaN', -0.01, '1999-12-31 00:00:00+00', now()),
      (2, 'it''s \\ {ü}', '9999-12-31', true, 0, 0, 'Infinity', -0.0, 0, '2000-01-01 00:00:00+00', now()),
      (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, now()),
      (4, '', '2000-01-01', false, 1, 1, -1.5, 1e-5, 99999999.99, now(), now() - INTERVAL '2 days');
    INSERT INTO others VALUES (1, 9223372036854775807, now()), (5, 9223372036854775807, now()),
      (5, 1, now());";

const SELECTED: &[&str] = &[
    "*",
    "k",
    "name, day, yes, small, whole, single, double, price, at",
    "n, sum_small, sum_price, mean, sum_single, last_name, all_yes, names",
    "at AS a, n AS b, k, n, name AS k2",
    "huge",
    "huge, n, ratio",
    "sum_price, ratio + 1 AS r",
];

const AS_OF: &[&str] = &[
    "",
    " FOR SYSTEM_TIME AS OF now()",
    " FOR SYSTEM_TIME AS OF TIMESTAMPTZ '2001-01-01 00:00:00+00'",
    " FOR SYSTEM_TIME AS OF now() - INTERVAL '1 day'",
];

/// The bytes of a value as they came.
#[derive(Debug, PartialEq)]
struct Raw(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Names and types of columns, and the rows' bytes; or the SQLSTATE and the message.
type Answer = Result<(Vec<(String, Type)>, Vec<Vec<Raw>>), (SqlState, String)>;

async fn start() -> (ServerProcess, tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(serve().arg("--data").arg(folder.path())).unwrap();
    let client = connect(&server).await;
    client.batch_execute(DECLARE).await.unwrap();
    (server, folder, client)
}

fn told(error: &tokio_postgres::Error) -> (SqlState, String) {
    let error = error.as_db_error().expect("an answer of the server");
    (error.code().clone(), error.message().to_owned())
}

/// By a prepared statement, whose values are binary.
async fn prepared(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Answer {
    let statement = client.prepare(sql).await.map_err(|error| told(&error))?;
    let columns = statement.columns().iter();
    let columns = columns.map(|c| (c.name().to_owned(), c.type_().clone())).collect();
    let rows = client.query(&statement, parameters).await.map_err(|error| told(&error))?;
    let row = |row: &tokio_postgres::Row| (0..row.len()).map(|i| row.get(i)).collect();
    Ok((columns, rows.iter().map(row).collect()))
}

/// By a text.
async fn simple(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, SqlState> {
    let messages = client.simple_query(sql).await.map_err(|error| told(&error).0)?;
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
        }
        _ => None,
    };
    Ok(messages.iter().filter_map(row).collect())
}

/// The same from the operators.
fn by_operators(sql: &str) -> String {
    format!("{sql} LIMIT 1000000")
}

/// A list as the text of an array.
fn array(keys: &[Option<i64>]) -> String {
    let key = |key: &Option<i64>| key.map_or("NULL".to_owned(), |key| key.to_string());
    format!("ARRAY[{}]::BIGINT[]", keys.iter().map(key).collect::<Vec<_>>().join(", "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_one_part() {
    let (_server, _folder, client) = start().await;
    let many: Vec<Option<i64>> = (-300..700).chain(0..3).map(Some).collect();
    let lists: &[&[Option<i64>]] = &[
        &[],
        &[None],
        &[Some(1)],
        &[Some(4), None, Some(2), Some(1), Some(2), None, Some(4), Some(-6)],
        &[Some(3), Some(5)],
        &many[..1000],
        &many,
    ];
    let (mut refused, mut found) = (0, 0);
    for columns in SELECTED {
        for as_of in AS_OF {
            let from = format!("SELECT {columns} FROM things{as_of} WHERE k");
            for key in [Some(1_i64), Some(2), Some(3), Some(4), Some(5), Some(-6), None] {
                let sql = format!("{from} = $1");
                let direct = prepared(&client, &sql, &[&key]).await;
                assert_eq!(
                    direct,
                    prepared(&client, &by_operators(&sql), &[&key]).await,
                    "{sql} {key:?}"
                );
                refused += usize::from(direct.is_err());
                let key = key.map_or("NULL".to_owned(), |key| key.to_string());
                let sql = format!("{from} = {key}");
                assert_eq!(
                    simple(&client, &sql).await,
                    simple(&client, &by_operators(&sql)).await,
                    "{sql}"
                );
            }
            for keys in lists {
                let sql = format!("{from} = ANY ($1)");
                let direct = prepared(&client, &sql, &[keys]).await;
                assert_eq!(
                    direct,
                    prepared(&client, &by_operators(&sql), &[keys]).await,
                    "{sql} {keys:?}"
                );
                found += direct.map_or(0, |(_, rows)| rows.len());
                let sql = format!("{from} = ANY ({})", array(keys));
                assert_eq!(
                    simple(&client, &sql).await,
                    simple(&client, &by_operators(&sql)).await,
                    "{sql}"
                );
            }
            let sql = format!("{from} IN ($1, 3, $2, 1)");
            let keys: &[&(dyn ToSql + Sync)] = &[&2_i64, &None::<i64>];
            let direct = prepared(&client, &sql, keys).await;
            assert_eq!(direct, prepared(&client, &by_operators(&sql), keys).await, "{sql}");
        }
    }
    assert!(refused > 0, "no sum is out of range");
    assert!(found > 5 * 2000, "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_several_parts() {
    let (_server, _folder, client) = start().await;
    let days = ["DATE '2024-02-29'", "DATE '2001-01-01'", "NULL"];
    let names = [Some("a"), Some("it's \\ {ü}"), Some("nobody"), None];
    let mut found = 0;
    let from = "SELECT price, n, yes, day, name FROM pairs WHERE";
    for (day, yes) in days.iter().flat_map(|day| [(day, true), (day, false)]) {
        for name in names {
            let sql = format!("{from} yes = {yes} AND day = {day} AND name = $1");
            let direct = prepared(&client, &sql, &[&name]).await;
            let operators = prepared(&client, &by_operators(&sql), &[&name]).await;
            assert_eq!(direct, operators, "{sql} {name:?}");
            found += direct.unwrap().1.len();
        }
        let sql = format!(
            "{from} yes IN ({yes}, true) AND day = ANY (ARRAY[{day}, DATE '2000-01-01']::DATE[]) \
             AND name = ANY ($1)"
        );
        let direct = prepared(&client, &sql, &[&names.as_slice()]).await;
        let operators = prepared(&client, &by_operators(&sql), &[&names.as_slice()]).await;
        assert_eq!(direct, operators, "{sql}");
        found += direct.unwrap().1.len();
    }
    // One day of six is NULL in two, and `yes` is one value in half of the lists.
    assert_eq!(found, 3 * 2 * 2 + (2 * (1 + 2) * 2 + (1 + 2)) * 3);
}

/// A portal that is asked for some rows at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_of_one_row() {
    let (_server, _folder, mut client) = start().await;
    let statement = client.prepare("SELECT k, n FROM things WHERE k = $1").await.unwrap();
    for limit in [0, 1, 2] {
        let transaction = client.transaction().await.unwrap();
        let portal = transaction.bind(&statement, &[&1_i64]).await.unwrap();
        let rows = transaction.query_portal(&portal, limit).await.unwrap();
        let rows: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(rows, [(1, 2)], "{limit}");
        assert!(transaction.query_portal(&portal, limit).await.unwrap().is_empty(), "{limit}");
    }
}
