//! Panics in a query and in the applier.

use std::time::Duration;

use asofdb_tests::clients::insert_rows;
use asofdb_tests::database::Database;
use asofdb_tests::process::ServerProcess;
use tokio_postgres::Client;

use crate::{PATIENCE, PROGRAM, answer, refused};

/// Where a query panics, once, and a query that comes there.
const PLACES: &[(&str, &str)] = &[
    ("lookup::read", "SELECT k, n, total FROM things WHERE k IN (0, 1, 2) ORDER BY k"),
    (
        "join::sweep",
        "SELECT e.id, t.n FROM events AS e \
         LEFT JOIN things FOR SYSTEM_TIME AS OF e.ts AS t ON t.k = e.k ORDER BY e.id",
    ),
];

fn start(database: &Database, failpoint: &str) -> ServerProcess {
    let mut command = database.command();
    ServerProcess::start(command.env("FAILPOINTS", failpoint)).expect("the binary serves")
}

/// Waits until a panic is in the log, which another thread reads.
async fn has_panicked(server: &ServerProcess) {
    let logged = async {
        while !server.log().contains("panicked") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, logged).await.expect("a panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_query_ends_its_session_only() {
    let database = Database::new(PROGRAM, Vec::new()).await;
    insert_rows(&database.start().connect().await, &database.ledger, 30).await.expect("inserts");
    for (place, query) in PLACES {
        let expected = answer(&database.start().connect().await, query).await;
        assert!(expected.len() >= 3, "{expected:?}");
        let server = start(&database, &format!("{place}=1*panic"));
        let (session, other) = (server.connect().await, server.connect().await);
        let (code, message) = refused(&session, query).await;
        assert_eq!(code, "XX000", "{message}");
        // A user has no use for the words of our code.
        assert!(message.contains("internal error") && !message.contains("::"), "{message}");
        has_panicked(&server).await;
        assert!(session.simple_query("SELECT 1").await.is_err(), "its session ends");
        assert_eq!(answer(&other, query).await, expected);
        insert_rows(&other, &database.ledger, 1).await.expect("inserts");
        database.check(&server).await;
    }
}

/// A commit fails or takes effect; reads count what was acknowledged, and nothing that was not
/// sent; after a restart all is as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_applier_loses_no_row() {
    let database = Database::new(PROGRAM, Vec::new()).await;
    let mut server = start(&database, "applier::apply=5*off->1*panic");
    let client = server.connect().await;
    for turn in 0..15 {
        let inserted = insert_rows(&client, &database.ledger, 3).await;
        assert!(turn >= 5 || inserted.is_ok(), "{inserted:?}");
        if let Err(error) = inserted {
            assert_eq!(error.code().map(|code| code.code()), Some("XX000"), "{error:?}");
        }
        check_count(&client, &database).await;
    }
    has_panicked(&server).await;
    server.signal("TERM").expect("a signal");
    assert!(server.ended(PATIENCE).await.expect("it ends").success());
    let (rows, _) = database.check(&database.start()).await;
    assert!(rows >= 15, "{rows} rows");
}

/// What the features count lies between what was acknowledged and what was sent, if they can be
/// read at all.
async fn check_count(client: &Client, database: &Database) {
    let counted = match client.query("SELECT n FROM things", &[]).await {
        Ok(rows) => rows.iter().map(|row| row.get::<_, i64>(0)).sum::<i64>() as usize,
        Err(error) => {
            let code = error.code().map(|code| code.code());
            return assert!(matches!(code, Some("57P03" | "XX000")), "{error:?}");
        }
    };
    let ledger = database.ledger.lock().expect("no panic");
    let acknowledged = ledger.acknowledged.len();
    let sent = acknowledged + ledger.in_doubt.iter().map(Vec::len).sum::<usize>();
    assert!((acknowledged..=sent).contains(&counted), "{acknowledged}, {counted}, {sent}");
}
