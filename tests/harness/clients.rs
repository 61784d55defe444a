//! Clients that change the database until their connection breaks or they are stopped, and what
//! they know of it.

#![allow(clippy::missing_panics_doc, clippy::panic, reason = "this is for tests")]

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
        if refused(insert_rows(&client, &ledger, rng.random_range(1..20)).await) {
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
        if refused(sent) {
            return;
        }
    }
}

/// Checkpoints until the connection breaks or it is told to stop.
pub async fn checkpoint(client: Client, ledger: Shared, mut rng: StdRng) {
    while !stopped(&ledger) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..80))).await;
        let statement = if rng.random_range(0..3) == 0 { "VACUUM" } else { "CHECKPOINT" };
        if is_over(&ledger, client.batch_execute(statement).await) {
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
        if stopped(&ledger) || is_over(&ledger, client.batch_execute(statement).await) {
            return;
        }
    }
}

/// Reads features of a key until the connection breaks or it is told to stop.
pub async fn look_up(client: Client, ledger: Shared, mut rng: StdRng) {
    while !stopped(&ledger) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..20))).await;
        let key = rng.random_range(0..KEYS);
        let sql = format!("SELECT n FROM things WHERE k = {key}");
        let read = read_count(&client, &ledger, &sql, |id| id % KEYS == key).await;
        if is_over(&ledger, read) {
            return;
        }
    }
}

/// Reads the events until the connection breaks or it is told to stop.
pub async fn scan(client: Client, ledger: Shared, mut rng: StdRng) {
    while !stopped(&ledger) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..80))).await;
        // The condition is true, but files' statistics do not say so.
        let sql = "SELECT count(*) FROM events WHERE v * v >= 0";
        if is_over(&ledger, read_count(&client, &ledger, sql, |_| true).await) {
            return;
        }
    }
}

/// Counts events with `sql`: it sees all that were acknowledged before, and none but those sent.
async fn read_count(
    client: &Client,
    ledger: &Shared,
    sql: &str,
    counts: impl Fn(&i64) -> bool,
) -> Result<(), Error> {
    let count = |ids: &mut dyn Iterator<Item = i64>| ids.filter(&counts).count() as i64;
    let least = count(&mut ledger.lock().expect("no panic").acknowledged.iter().copied());
    let found: i64 = client.query_one(sql, &[]).await?.get(0);
    let most = count(&mut (0..ledger.lock().expect("no panic").next_id));
    assert!((least..=most).contains(&found), "{sql}: {found} is not from {least} to {most}");
    Ok(())
}

/// Whether the connection is gone, or is about to go. Rows may not be refused for another reason.
fn refused(answer: Result<(), Error>) -> bool {
    let Err(error) = answer else { return false };
    let code = error.code().filter(|code| **code != SqlState::ADMIN_SHUTDOWN);
    assert!(code.is_none(), "rows were refused: {error:?}");
    true
}

/// Whether the connection is gone, or is about to go. Other statements may fail for a while.
fn is_over(ledger: &Shared, answer: Result<(), Error>) -> bool {
    note(ledger, &answer);
    let Err(error) = answer else { return false };
    match error.code().map(SqlState::code) {
        None | Some("57P01") => true,
        // The online state is not complete or takes no writes; the history cannot be reached.
        Some("57P03" | "53000" | "58030") => false,
        Some(_) => panic!("{error:?}"),
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
