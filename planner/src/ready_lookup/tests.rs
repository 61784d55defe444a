//! Which queries are planned once. That they give the right answers is tested over the wire.

use datafusion::scalar::ScalarValue;

use crate::database::{Database, DatabaseOptions};
use crate::session::{Outcome, Session};

const DECLARE: &str = "
    CREATE SOURCE events (u BIGINT, m TEXT, amount DOUBLE PRECISION, ts TIMESTAMPTZ) EVENT TIME ts;
    CREATE ENTITY users (u BIGINT);
    CREATE ENTITY merchants (m TEXT);
    CREATE FEATURES ON users AS
      SELECT count(*) OVER w AS n, sum(amount) OVER w AS total
      FROM events WINDOW w AS (RANGE INTERVAL '1 day' PRECEDING);
    CREATE FEATURE n ON merchants AS
      SELECT count(*) OVER (RANGE INTERVAL '1 day' PRECEDING) FROM events;
    CREATE VIEW pairs AS SELECT users.u, users.n, merchants.m FROM users, merchants";

const ONCE: &[&str] = &[
    "SELECT n, total FROM users WHERE u = $1",
    "SELECT u, total / n, now() FROM users WHERE u = 3 AND n > $1",
    "SELECT * FROM users WHERE u IN ($1, $2, 7)",
    "SELECT * FROM users WHERE u = ANY ($1) ORDER BY total DESC LIMIT 3",
    "SELECT n FROM users FOR SYSTEM_TIME AS OF $1 WHERE u = $2",
    "SELECT n FROM users FOR SYSTEM_TIME AS OF now() - INTERVAL '1 hour' WHERE u = $1",
    "SELECT * FROM pairs WHERE u = $1 AND m = $2",
    "SELECT a.n, b.n FROM users a, merchants b WHERE a.u = $1 AND b.m = 'x'",
    "SELECT count(*), version() FROM users",
    "SELECT u, n + $1 FROM users WHERE n > 3",
    "SELECT total * random() FROM users WHERE u = $1",
];

const EACH_TIME: &[&str] = &[
    "SELECT 1",
    "SELECT $1",
    "SELECT u FROM events WHERE u = $1",
    "SELECT n FROM users, events WHERE users.u = $1",
    "SELECT e.u, x.n FROM events e JOIN users FOR SYSTEM_TIME AS OF e.ts AS x ON x.u = e.u",
    "SELECT n, current_date FROM users WHERE u = $1",
    "SELECT n FROM users WHERE u = $1 LIMIT $2",
    "SELECT n, $2 FROM users WHERE u = $1",
    "SELECT n FROM users WHERE n > $1",
    "SELECT n FROM users WHERE u + 1 = $1",
    "SELECT n FROM users WHERE u IN (SELECT u FROM events)",
    "SELECT n FROM users, (VALUES ($1), (2)) AS v (k) WHERE u = 3",
];

/// Those of given keys, for which there is no operator, and what their parameters are.
const DIRECT: &[(&str, &[i64])] = &[
    ("SELECT n, total FROM users WHERE u = $1", &[7]),
    ("SELECT u AS key, total, n AS a, n AS b, u FROM users WHERE u = $1", &[7]),
    ("SELECT * FROM users WHERE u = 7", &[]),
    ("SELECT u FROM users WHERE u = $1", &[7]),
    (
        "SELECT n FROM users FOR SYSTEM_TIME AS OF TIMESTAMPTZ '2024-01-01 00:00:00+00' WHERE u = $1",
        &[7],
    ),
    ("SELECT n, m FROM merchants WHERE m = 'x'", &[]),
    ("SELECT n FROM users WHERE u IN ($1, 2)", &[7]),
];

const MORE: &[(&str, &[i64])] = &[
    ("SELECT n FROM users WHERE u = $1 AND n = 0", &[7]),
    ("SELECT n + 1 FROM users WHERE u = $1", &[7]),
    ("SELECT n, now() FROM users WHERE u = $1", &[7]),
    ("SELECT count(*) FROM users WHERE u = $1", &[7]),
    ("SELECT n FROM users WHERE u = $1 LIMIT 0", &[7]),
    ("SELECT n FROM users FOR SYSTEM_TIME AS OF now() - INTERVAL '1 hour' WHERE u = $1", &[7]),
    ("SELECT n FROM users", &[]),
    ("SELECT 1", &[]),
];

async fn open(folder: &std::path::Path) -> (Database, Session) {
    let database = Database::open(DatabaseOptions::of_tests(folder)).await.unwrap();
    let session = database.session();
    for parsed in asofdb_sql::parse(DECLARE).unwrap() {
        let prepared = session.prepare(&parsed, &[]).await.unwrap();
        session.execute(&prepared, Vec::new()).await.map(drop).unwrap();
    }
    (database, session)
}

/// What is found without operators has the columns that they give.
#[tokio::test]
async fn what_needs_no_operators() {
    let folder = tempfile::tempdir().unwrap();
    let (database, session) = open(folder.path()).await;
    for (queries, direct) in [(DIRECT, true), (MORE, false)] {
        for (sql, parameters) in queries {
            let parsed = asofdb_sql::parse(sql).unwrap().remove(0);
            let prepared = session.prepare(&parsed, &[]).await.unwrap();
            let values: Vec<_> = parameters.iter().map(|p| ScalarValue::Int64(Some(*p))).collect();
            let found = session.look_up(&prepared, &values).await.unwrap();
            assert_eq!(found.is_some(), direct, "{sql}");
            let Some(found) = found else { continue };
            let Outcome::Rows { stream, .. } = session.execute(&prepared, values).await.unwrap()
            else {
                panic!("{sql}: no rows");
            };
            assert_eq!(*found.schema(), stream.schema(), "{sql}");
            assert_eq!(found.row(0).count(), stream.schema().fields().len(), "{sql}");
            let null = vec![ScalarValue::Int64(None); parameters.len()];
            let found = session.look_up(&prepared, &null).await.unwrap();
            let rows = found.unwrap().rows();
            assert_eq!(rows, usize::from(!sql.contains("u = $1")), "{sql}");
        }
    }
    database.close().await;
}

#[tokio::test]
async fn what_is_planned_once() {
    let folder = tempfile::tempdir().unwrap();
    let (database, session) = open(folder.path()).await;
    for (queries, once) in [(ONCE, true), (EACH_TIME, false)] {
        for sql in queries {
            let parsed = asofdb_sql::parse(sql).unwrap().remove(0);
            let prepared = session.prepare(&parsed, &[]).await.unwrap();
            assert_eq!(prepared.is_ready(), once, "{sql}");
        }
    }
    database.close().await;
}
