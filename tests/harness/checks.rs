//! What has to hold after each fault.

#![allow(clippy::panic, clippy::missing_panics_doc, reason = "this is for tests")]

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use crate::clients::Shared;

/// Declares what the clients write to.
pub async fn declare(client: &Client) {
    client
        .batch_execute(
            "CREATE SOURCE events (id BIGINT, k BIGINT, v DOUBLE PRECISION, ts TIMESTAMPTZ)
               EVENT TIME ts;
             CREATE ENTITY things (k BIGINT);
             CREATE FEATURES ON things AS
               SELECT count(*) OVER (RANGE UNBOUNDED PRECEDING) AS n,
                      sum(v) OVER (RANGE UNBOUNDED PRECEDING) AS total,
                      max(id) OVER (RANGE UNBOUNDED PRECEDING) AS newest
               FROM events;
             CREATE ENTITY recents (k BIGINT);
             CREATE FEATURES ON recents AS
               SELECT count(*) OVER w AS n, sum(v) OVER w AS total FROM events
               WINDOW w AS (RANGE INTERVAL '10 minutes' PRECEDING)",
        )
        .await
        .expect("declares");
}

/// Compares the database with the ledger; rows that were in doubt and are there count as
/// acknowledged from now on.
pub async fn verify(client: &Client, ledger: &Shared) -> usize {
    let mut found: HashMap<i64, usize> = HashMap::new();
    for row in client.query("SELECT id FROM events", &[]).await.expect("reads") {
        *found.entry(row.get(0)).or_default() += 1;
    }
    let mut ledger = ledger.lock().expect("no panic");
    for id in &ledger.acknowledged {
        assert_eq!(found.get(id), Some(&1), "row {id} was acknowledged");
    }
    for group in std::mem::take(&mut ledger.in_doubt) {
        let there = group.iter().filter(|id| found.contains_key(id)).count();
        assert!(there == 0 || there == group.len(), "{there} of {} rows in doubt", group.len());
        if there > 0 {
            ledger.acknowledged.extend(group);
        }
    }
    for (id, count) in &found {
        assert_eq!(*count, 1, "row {id} is there {count} times");
    }
    assert_eq!(found.len(), ledger.acknowledged.len(), "rows that nobody sent");
    found.len()
}

/// Compares the features with the events, and lookups with training, bit for bit.
pub async fn verify_features(client: &Client) -> usize {
    let online = "SELECT k, n, newest, total FROM things ORDER BY k";
    let counted = "SELECT k, count(*), max(id) FROM events GROUP BY k ORDER BY k";
    let online = complete(client, online).await;
    let counted = client.query(counted, &[]).await.expect("reads");
    assert_eq!(online.len(), counted.len(), "keys");
    for (feature, counted) in online.iter().zip(&counted) {
        for column in 0..3 {
            let (feature, counted): (i64, i64) = (feature.get(column), counted.get(column));
            assert_eq!(feature, counted, "column {column}");
        }
    }
    // The same sums bit for bit when they are joined to a label after all events.
    let trained = "SELECT l.k, t.total FROM (SELECT DISTINCT k FROM events) AS l \
                   LEFT JOIN things FOR SYSTEM_TIME AS OF TIMESTAMPTZ '2030-01-01 00:00:00Z' AS t \
                   ON t.k = l.k ORDER BY l.k";
    let trained = client.query(trained, &[]).await.expect("reads");
    for (feature, trained) in online.iter().zip(&trained) {
        let (feature, trained): (f64, f64) = (feature.get(3), trained.get(1));
        assert_eq!(feature.to_bits(), trained.to_bits());
    }
    for entity in ["things", "recents"] {
        let differences = complete(client, &format!("VERIFY FEATURES ON {entity}")).await;
        let shown: Vec<Vec<Option<String>>> =
            differences.iter().map(|row| (0..4).map(|column| row.get(column)).collect()).collect();
        assert!(shown.is_empty(), "online state of {entity} differs from the events: {shown:?}");
    }
    verify_windows(client).await;
    online.len() * 4
}

/// Compares lookups over a window that moves with training, bit for bit: as of the newest event, and
/// as of instants of which the state may have forgotten the events.
async fn verify_windows(client: &Client) {
    let newest = client.simple_query("SELECT max(ts)::TEXT FROM events").await.expect("reads");
    let newest = newest.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let Some(newest) = newest else { return };
    for before in ["0 minutes", "5 minutes", "25 minutes"] {
        let instant = format!("TIMESTAMPTZ '{newest}' - INTERVAL '{before}'");
        let online =
            format!("SELECT k, n, total FROM recents FOR SYSTEM_TIME AS OF {instant} ORDER BY k");
        let trained = format!(
            "SELECT l.k, t.n, t.total \
             FROM (SELECT DISTINCT k FROM events WHERE ts <= {instant}) AS l \
             LEFT JOIN recents FOR SYSTEM_TIME AS OF {instant} AS t ON t.k = l.k ORDER BY l.k"
        );
        let values = |rows: Vec<Row>| -> Vec<(i64, i64, Option<u64>)> {
            let total = |row: &Row| row.get::<_, Option<f64>>(2).map(f64::to_bits);
            rows.iter().map(|row| (row.get(0), row.get(1), total(row))).collect()
        };
        let online = values(complete(client, &online).await);
        let trained = values(client.query(&trained, &[]).await.expect("reads"));
        assert_eq!(online, trained, "as of {before} before the newest event");
    }
}

/// What a read of online state answers once the state is complete.
async fn complete(client: &Client, sql: &str) -> Vec<Row> {
    let mut reason = String::new();
    for _ in 0..30 {
        match client.query(sql, &[]).await {
            Ok(rows) => return rows,
            // It is being completed, or the store does not answer.
            Err(error) if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) => {
                reason = error.as_db_error().map(ToString::to_string).unwrap_or_default();
            }
            Err(error) => panic!("{sql}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("online state was not completed: {sql}: {reason}");
}
