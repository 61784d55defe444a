//! Clients that change the database until their connection breaks or they are stopped, and what
//! they know of it.

#![allow(clippy::missing_panics_doc, reason = "this is for tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use rand::Rng;
use rand::rngs::StdRng;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

/// Keys of the entity.
pub const KEYS: i64 = 7;

/// What the clients know of the database.
#[derive(Default)]
pub struct Ledger {
    next_id: i64,
    /// Acknowledged rows.
    pub acknowledged: Vec<i64>,
    /// Rows sent together of which the answer never came.
    pub in_doubt: Vec<Vec<i64>>,
    /// The SQLSTATE of each error that the server sent.
    pub refusals: Vec<SqlState>,
    /// Whether the clients are to end.
    pub stop: bool,
}

impl Ledger {
    fn take_ids(&mut self, count: usize) -> Vec<i64> {
        let first = self.next_id;
        self.next_id += count as i64;
        (first..self.next_id).collect()
    }
}

/// The ledger of all clients.
pub type Shared = Arc<Mutex<Ledger>>;

fn stopped(ledger: &Shared) -> bool {
    ledger.lock().expect("no panic").stop
}

/// Inserts some rows.
///
/// # Errors
///
/// The server's, or that of the connection.
pub async fn insert_rows(client: &Client, ledger: &Shared, rows: usize) -> Result<(), Error> {
    let ids = ledger.lock().expect("no panic").take_ids(rows);
    let answer = client.batch_execute(&insert_of(&ids)).await;
    settle(ledger, ids, &answer);
    answer
}

fn insert_of(ids: &[i64]) -> String {
    let values = ids.iter().map(|id| {
        let (key, value, ts) = row(*id);
        format!("({id}, {key}, {value:?}, '{ts}')")
    });
    format!("INSERT INTO events VALUES {}", values.collect::<Vec<_>>().join(", "))
}

fn row(id: i64) -> (i64, f64, String) {
    let micros = 1_700_000_000_000_000 + (id * 7_919_000) % 3_600_000_000;
    let ts = chrono::DateTime::from_timestamp_micros(micros).expect("a valid instant");
    (id % KEYS, id as f64 * 0.1, ts.to_rfc3339())
}

/// Inserts until the connection breaks or it is told to stop.
pub async fn insert(client: Client, ledger: Shared, mut rng: StdRng) {
    while !stopped(&ledger) {
        if insert_rows(&client, &ledger, rng.random_range(1..20)).await.is_err() {
            return;
        }
    }
}

/// Copies until the connection breaks or it is told to stop.
pub async fn copy(client: Client, ledger: Shared, mut rng: StdRng) {
    while !stopped(&ledger) {
        let ids = ledger.lock().expect("no panic").take_ids(rng.random_range(1..2000));
        let mut text = String::new();
        for id in &ids {
            let (key, value, ts) = row(*id);
            text.push_str(&format!("{id}\t{key}\t{value:?}\t{ts}\n"));
        }
        let sent = async {
            let sink = client.copy_in::<_, Bytes>("COPY events FROM STDIN").await?;
            let mut sink = Box::pin(sink);
            sink.send(Bytes::from(text)).await?;
            sink.as_mut().finish().await
        };
        let sent = sent.await.map(drop);
        settle(&ledger, ids, &sent);
        if sent.is_err() {
            return;
        }
    }
}

/// Checkpoints until the connection breaks or it is told to stop.
pub async fn checkpoint(client: Client, ledger: Shared, mut rng: StdRng) {
    while !stopped(&ledger) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..80))).await;
        let statement = if rng.random_range(0..3) == 0 { "VACUUM" } else { "CHECKPOINT" };
        let answer = client.batch_execute(statement).await;
        note(&ledger, &answer);
        if answer.is_err() {
            return;
        }
    }
}

/// Makes and drops a feature until the connection breaks or it is told to stop.
pub async fn redefine(client: Client, ledger: Shared, mut rng: StdRng) {
    let create = "CREATE OR REPLACE FEATURE extra ON things AS \
                  SELECT count(v) OVER (RANGE UNBOUNDED PRECEDING) FROM events WHERE id >= 0";
    for statement in [create, "DROP FEATURE IF EXISTS extra ON things"].into_iter().cycle() {
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..80))).await;
        if stopped(&ledger) {
            return;
        }
        let answer = client.batch_execute(statement).await;
        note(&ledger, &answer);
        if answer.is_err() {
            return;
        }
    }
}

fn settle(ledger: &Shared, ids: Vec<i64>, answer: &Result<(), Error>) {
    let mut known = ledger.lock().expect("no panic");
    match answer {
        Ok(()) => known.acknowledged.extend(ids),
        Err(_) => known.in_doubt.push(ids),
    }
    drop(known);
    note(ledger, answer);
}

/// Keeps the SQLSTATE of an error that the server sent.
pub fn note(ledger: &Shared, answer: &Result<(), Error>) {
    if let Err(Some(code)) = answer.as_ref().map_err(Error::code) {
        ledger.lock().expect("no panic").refusals.push(code.clone());
    }
}
