//! Kill -9 on the real binary, again and again, while clients insert, copy, make and drop features,
//! checkpoint and vacuum; at random moments, or at a place in the code. After each kill: what was
//! acknowledged is there once, what was in flight is there whole or not at all, and the features
//! count exactly the events that are there.
//!
//! `ASOFDB_CRASH_RUNS` sets how many kills, `ASOFDB_SEED` repeats a run.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asofdb_tests::process::ServerProcess;
use bytes::Bytes;
use futures::SinkExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, NoTls};

/// Kills before a database is given up for a fresh one, so that runs stay short.
const RUNS_PER_DATABASE: u64 = 10;

/// Keys of the entity.
const KEYS: i64 = 7;

/// Where the server may end, and at most how often it comes there before it does.
const PLACES: &[(&str, u32)] = &[
    ("log::synced", 60),
    ("ingest::committed", 60),
    ("history::replacing", 6),
    ("history::replaced", 6),
    ("checkpoint::shown", 4),
    ("merge::written", 3),
    ("merge::shown", 3),
    ("features::filled", 4),
    ("features::published", 4),
];

/// Where it may end while it starts.
const PLACES_OF_RECOVERY: &[&str] = &["recovery::opened", "recovery::rebuilt"];

/// `checkpoints` is how much memory rows may take before a checkpoint begins by itself.
fn command(data: &Path, checkpoints: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asofdb"));
    command.env("ASOFDB_CHECKPOINT_SIZE", checkpoints);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command
}

fn start(data: &Path, checkpoints: &str) -> ServerProcess {
    ServerProcess::start(&mut command(data, checkpoints)).expect("the binary serves")
}

/// Starts it so that it ends at a place, or at none.
fn start_to_crash(data: &Path, checkpoints: &str, place: Option<&str>) -> ServerProcess {
    let mut command = command(data, checkpoints);
    command.envs(place.map(|place| ("ASOFDB_CRASH_AT", place)));
    ServerProcess::start(&mut command).expect("the binary serves")
}

async fn connect(server: &ServerProcess) -> Client {
    let url = format!("host=127.0.0.1 port={} user=asofdb dbname=asofdb", server.port());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

/// What the clients know of the database.
#[derive(Default)]
struct Ledger {
    next_id: i64,
    /// Acknowledged rows.
    acknowledged: Vec<i64>,
    /// Rows sent together of which the answer never came.
    in_doubt: Vec<Vec<i64>>,
}

impl Ledger {
    fn take_ids(&mut self, count: usize) -> Vec<i64> {
        let first = self.next_id;
        self.next_id += count as i64;
        (first..self.next_id).collect()
    }
}

type Shared = Arc<Mutex<Ledger>>;

fn row(id: i64) -> (i64, f64, String) {
    let micros = 1_700_000_000_000_000 + (id * 7_919_000) % 3_600_000_000;
    let ts = chrono::DateTime::from_timestamp_micros(micros).expect("a valid instant");
    (id % KEYS, id as f64 * 0.1, ts.to_rfc3339())
}

/// Inserts until the connection breaks.
async fn insert(client: Client, ledger: Shared, mut rng: StdRng) {
    loop {
        let ids = ledger.lock().expect("no panic").take_ids(rng.random_range(1..20));
        let values: Vec<String> = ids
            .iter()
            .map(|id| {
                let (key, value, ts) = row(*id);
                format!("({id}, {key}, {value:?}, '{ts}')")
            })
            .collect();
        let sql = format!("INSERT INTO events VALUES {}", values.join(", "));
        if !settle(&ledger, ids, client.batch_execute(&sql).await.is_ok()) {
            return;
        }
    }
}

/// Copies until the connection breaks.
async fn copy(client: Client, ledger: Shared, mut rng: StdRng) {
    loop {
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
        let done = sent.await.is_ok();
        if !settle(&ledger, ids, done) {
            return;
        }
    }
}

/// Checkpoints until the connection breaks.
async fn checkpoint(client: Client, mut rng: StdRng) {
    loop {
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..80))).await;
        let statement = if rng.random_range(0..3) == 0 { "VACUUM" } else { "CHECKPOINT" };
        if client.batch_execute(statement).await.is_err() {
            return;
        }
    }
}

/// Makes and drops a feature until the connection breaks.
async fn redefine(client: Client, mut rng: StdRng) {
    let create = "CREATE OR REPLACE FEATURE extra ON things AS \
                  SELECT count(v) OVER (RANGE UNBOUNDED PRECEDING) FROM events WHERE id >= 0";
    for statement in [create, "DROP FEATURE IF EXISTS extra ON things"].into_iter().cycle() {
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..80))).await;
        if client.batch_execute(statement).await.is_err() {
            return;
        }
    }
}

fn settle(ledger: &Shared, ids: Vec<i64>, acknowledged: bool) -> bool {
    let mut ledger = ledger.lock().expect("no panic");
    match acknowledged {
        true => ledger.acknowledged.extend(ids),
        false => ledger.in_doubt.push(ids),
    }
    acknowledged
}

async fn declare(client: &Client) {
    client
        .batch_execute(
            "CREATE SOURCE events (id BIGINT, k BIGINT, v DOUBLE PRECISION, ts TIMESTAMPTZ)
               EVENT TIME ts;
             CREATE ENTITY things (k BIGINT);
             CREATE FEATURES ON things AS
               SELECT count(*) OVER (RANGE UNBOUNDED PRECEDING) AS n,
                      sum(v) OVER (RANGE UNBOUNDED PRECEDING) AS total,
                      max(id) OVER (RANGE UNBOUNDED PRECEDING) AS newest
               FROM events",
        )
        .await
        .expect("declares");
}

/// Compares the database with the ledger; rows that were in doubt and are there count as
/// acknowledged from now on.
async fn verify(client: &Client, ledger: &Shared) -> usize {
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

async fn verify_features(client: &Client) -> usize {
    let online = "SELECT k, n, newest, total FROM things ORDER BY k";
    let counted = "SELECT k, count(*), max(id) FROM events GROUP BY k ORDER BY k";
    let online = client.query(online, &[]).await.expect("reads");
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
    let differences = client.query("VERIFY FEATURES ON things", &[]).await.expect("verifies");
    let shown: Vec<Vec<Option<String>>> =
        differences.iter().map(|row| (0..4).map(|column| row.get(column)).collect()).collect();
    assert!(shown.is_empty(), "online state differs from the events: {shown:?}");
    online.len() * 4
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_counts_twice() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let runs: u64 = number("ASOFDB_CRASH_RUNS").unwrap_or(12);
    let seed: u64 = number("ASOFDB_SEED").unwrap_or_else(|| rand::rng().random());
    println!("ASOFDB_SEED={seed} ASOFDB_CRASH_RUNS={runs}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut ledger = Shared::default();
    let (mut rows, mut checked) = (0, 0);
    for run in 0..runs {
        if run % RUNS_PER_DATABASE == 0 {
            folder = tempfile::tempdir().expect("a folder");
            ledger = Shared::default();
            let server = start(folder.path(), "1GiB");
            declare(&connect(&server).await).await;
            drop(server);
        }
        // Every other time the historian is at work, too.
        let place = PLACES.choose(&mut rng).filter(|_| rng.random());
        let place = place.map(|(place, times)| format!("{place}:{}", rng.random_range(1..=*times)));
        let checkpoints = if run % 2 == 0 { "64KiB" } else { "1GiB" };
        let server = start_to_crash(folder.path(), checkpoints, place.as_deref());
        let mut clients = Vec::new();
        for _ in 0..2 {
            let task = insert(connect(&server).await, ledger.clone(), branch(&mut rng));
            clients.push(tokio::spawn(task));
        }
        let task = copy(connect(&server).await, ledger.clone(), branch(&mut rng));
        clients.push(tokio::spawn(task));
        let task = checkpoint(connect(&server).await, branch(&mut rng));
        clients.push(tokio::spawn(task));
        let task = redefine(connect(&server).await, branch(&mut rng));
        clients.push(tokio::spawn(task));
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..400))).await;
        drop(server);
        for client in clients {
            client.await.expect("a client ends with its connection");
        }
        if let Some(place) = PLACES_OF_RECOVERY.choose(&mut rng).filter(|_| rng.random()) {
            let mut command = command(folder.path(), "1GiB");
            let ended = ServerProcess::start(command.env("ASOFDB_CRASH_AT", format!("{place}:1")));
            assert!(ended.is_err(), "a start that was to end at {place} did not");
        }
        let server = start(folder.path(), "1GiB");
        let client = connect(&server).await;
        rows += verify(&client, &ledger).await;
        checked += verify_features(&client).await;
        drop(server);
    }
    assert!(rows > 0, "no run got as far as an acknowledged row");
    println!("{runs} kills, {rows} rows and {checked} values checked: 0 lost, 0 doubled");
}

/// Online state that misses events, as a defect would leave it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_finds_a_state_that_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = command(folder.path(), "1GiB");
    command.env("FAILPOINTS", "timelines::insert=1*off->1*return");
    let server = ServerProcess::start(&mut command).expect("the binary serves");
    let client = connect(&server).await;
    declare(&client).await;
    for id in 0..3 {
        let insert = format!("INSERT INTO events VALUES ({id}, {id}, 0.5, now())");
        client.batch_execute(&insert).await.expect("inserts");
    }
    let found = client.query("VERIFY FEATURES ON things", &[]).await.expect("verifies");
    let found: Vec<[Option<String>; 4]> = found
        .iter()
        .map(|row| [row.get("key"), row.get("feature"), row.get("online"), row.get("recomputed")])
        .collect();
    let difference = |feature: &str, online: Option<&str>, recomputed: &str| {
        let recomputed = Some(recomputed.to_owned());
        [Some("1".to_owned()), Some(feature.to_owned()), online.map(str::to_owned), recomputed]
    };
    let expected = [
        difference("n", Some("0"), "1"),
        difference("total", None, "0.5"),
        difference("newest", None, "1"),
    ];
    assert_eq!(found, expected);
    drop(client);
    drop(server);
    // What is rebuilt is right.
    let server = start(folder.path(), "1GiB");
    let client = connect(&server).await;
    let found = client.query("VERIFY FEATURES ON things", &[]).await.expect("verifies");
    assert_eq!(found.len(), 0);
}

fn branch(rng: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(rng.random())
}
