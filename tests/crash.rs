//! Kill -9 on the real binary, again and again, while clients insert, copy, make and drop features,
//! checkpoint and vacuum; at random moments, or at a place in the code. After each kill: what was
//! acknowledged is there once, what was in flight is there whole or not at all, and the features
//! count exactly the events that are there.
//!
//! `ASOFDB_CRASH_RUNS` sets how many kills, `ASOFDB_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "this is a test")]

#[path = "crash/checks.rs"]
mod checks;
#[path = "crash/clients.rs"]
mod clients;
#[path = "crash/redis_faults.rs"]
mod redis_faults;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use asofdb_tests::process::ServerProcess;
use asofdb_tests::redis::RedisServer;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use checks::{declare, verify, verify_features};
use clients::Shared;

/// Kills before a database is given up for a fresh one, so that runs stay short.
const RUNS_PER_DATABASE: u64 = 10;

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

/// A server's folder, the Redis with its online state if there is one, and what clients know.
struct Database {
    folder: tempfile::TempDir,
    redis: Option<RedisServer>,
    ledger: Shared,
}

impl Database {
    /// An empty database, declared.
    async fn new(redis: Option<RedisServer>) -> Database {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database { folder, redis, ledger: Shared::default() };
        let server = database.start("1GiB", None);
        declare(&connect(&server).await).await;
        database
    }

    /// `checkpoints` is how much memory rows may take before a checkpoint begins by itself.
    fn command(&self, checkpoints: &str) -> Command {
        let mut command = command(self.folder.path(), checkpoints);
        command.envs(self.redis.as_ref().map(|redis| ("ASOFDB_ONLINE", redis.url())));
        command
    }

    /// Starts the server so that it ends at a place, or at none.
    fn start(&self, checkpoints: &str, place: Option<&str>) -> ServerProcess {
        let mut command = self.command(checkpoints);
        command.envs(place.map(|place| ("ASOFDB_CRASH_AT", place)));
        ServerProcess::start(&mut command).expect("the binary serves")
    }

    /// Clients at work. A server that ends meanwhile has fewer of them.
    async fn work(&self, server: &ServerProcess, rng: &mut StdRng) -> Vec<JoinHandle<()>> {
        self.ledger.lock().expect("no panic").stop = false;
        let mut connected = Vec::new();
        for _ in 0..5 {
            connected.extend(try_connect(server).await);
        }
        let mut connected = connected.into_iter();
        let mut client = || Some((connected.next()?, self.ledger.clone(), branch(rng)));
        let mut work = Vec::new();
        for _ in 0..2 {
            work.extend(client().map(|(c, l, r)| tokio::spawn(clients::insert(c, l, r))));
        }
        work.extend(client().map(|(c, l, r)| tokio::spawn(clients::copy(c, l, r))));
        work.extend(client().map(|(c, l, r)| tokio::spawn(clients::checkpoint(c, l, r))));
        work.extend(client().map(|(c, l, r)| tokio::spawn(clients::redefine(c, l, r))));
        work
    }

    /// Rows and values that are as they should be.
    async fn check(&self, server: &ServerProcess) -> (usize, usize) {
        let client = connect(server).await;
        (verify(&client, &self.ledger).await, verify_features(&client).await)
    }
}

fn command(data: &Path, checkpoints: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asofdb"));
    command.env("ASOFDB_CHECKPOINT_SIZE", checkpoints);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command
}

async fn connect(server: &ServerProcess) -> Client {
    try_connect(server).await.expect("connects")
}

async fn try_connect(server: &ServerProcess) -> Result<Client, tokio_postgres::Error> {
    let url = format!("host=127.0.0.1 port={} user=asofdb dbname=asofdb", server.port());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_counts_twice() {
    let (runs, mut rng) = settings("ASOFDB_CRASH_RUNS", 12);
    let (mut rows, mut checked) = (0, 0);
    let mut database = Database::new(None).await;
    for run in 0..runs {
        if run > 0 && run % RUNS_PER_DATABASE == 0 {
            database = Database::new(None).await;
        }
        let server = start_to_crash(&database, run, &mut rng);
        let work = database.work(&server, &mut rng).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..400))).await;
        drop(server);
        end(work).await;
        if let Some(place) = PLACES_OF_RECOVERY.choose(&mut rng).filter(|_| rng.random()) {
            let mut command = database.command("1GiB");
            let ended = ServerProcess::start(command.env("ASOFDB_CRASH_AT", format!("{place}:1")));
            assert!(ended.is_err(), "a start that was to end at {place} did not");
        }
        let (more_rows, more_values) = database.check(&database.start("1GiB", None)).await;
        (rows, checked) = (rows + more_rows, checked + more_values);
    }
    assert!(rows > 0, "no run got as far as an acknowledged row");
    println!("{runs} kills, {rows} rows and {checked} values checked: 0 lost, 0 doubled");
}

/// The same with the online state in a Redis that fails in many ways meanwhile. Half of the times
/// the server is killed, too; else it goes on, and has to be right again by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_with_online_state_in_a_redis_that_fails() {
    let (runs, mut rng) = settings("ASOFDB_REDIS_CRASH_RUNS", 12);
    let (mut rows, mut checked) = (0, 0);
    let mut database = Database::new(Some(redis_faults::start(&mut rng))).await;
    for run in 0..runs {
        if run > 0 && run % RUNS_PER_DATABASE == 0 {
            database = Database::new(Some(redis_faults::start(&mut rng))).await;
        }
        let dies = rng.random();
        let mut server = match dies {
            true => start_to_crash(&database, run, &mut rng),
            false => database.start("64KiB", None),
        };
        let work = database.work(&server, &mut rng).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..300))).await;
        let redis = database.redis.as_mut().expect("there is one");
        let mut faults = Vec::new();
        for _ in 0..rng.random_range(0..3) {
            faults.push(redis_faults::inject(redis, &mut rng).await);
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..200))).await;
        println!("run {run}: {faults:?}, then {}", if dies { "kill -9" } else { "on" });
        database.ledger.lock().expect("no panic").stop = true;
        if dies {
            drop(server);
            end(work).await;
            server = database.start("1GiB", None);
        } else {
            end(work).await;
        }
        let (more_rows, more_values) = database.check(&server).await;
        (rows, checked) = (rows + more_rows, checked + more_values);
    }
    assert!(rows > 0, "no run got as far as an acknowledged row");
    println!("{runs} runs, {rows} rows and {checked} values checked: 0 lost, 0 doubled");
}

/// A folder that was restored knows less than the Redis that it went on with before: what is there
/// of events that this folder has never had counts for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_folder_does_not_believe_state_of_later() {
    let database = Database::new(Some(RedisServer::start().expect("redis-server runs"))).await;
    let folder = database.folder.path();
    let backup = tempfile::tempdir().expect("a folder");
    for restored in [false, true] {
        let server = database.start("1GiB", None);
        let client = connect(&server).await;
        let insert = |ids: std::ops::Range<i64>| {
            let row = |id: i64| format!("({id}, {}, 0.5, now())", id % 3);
            let rows: Vec<String> = ids.map(row).collect();
            format!("INSERT INTO events VALUES {}", rows.join(", "))
        };
        if restored {
            assert_eq!(verify_features(&client).await, 3 * 4);
            client.batch_execute(&insert(200..205)).await.expect("inserts");
            assert_eq!(verify_features(&client).await, 3 * 4);
            let count = client.query_one("SELECT count(*), sum(v) FROM events", &[]).await;
            let count = count.expect("reads");
            assert_eq!((count.get(0), count.get(1)), (15_i64, 7.5_f64));
            continue;
        }
        client.batch_execute(&insert(0..10)).await.expect("inserts");
        drop(server);
        copy_folder(folder, backup.path());
        let server = database.start("1GiB", None);
        let client = connect(&server).await;
        client.batch_execute(&insert(100..130)).await.expect("inserts");
        drop(server);
        std::fs::remove_dir_all(folder).expect("the folder goes");
        copy_folder(backup.path(), folder);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copies")),
        }
    }
}

/// How many runs, and the randomness of all.
fn settings(name: &str, default: u64) -> (u64, StdRng) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let runs: u64 = number(name).unwrap_or(default);
    let seed: u64 = number("ASOFDB_SEED").unwrap_or_else(|| rand::rng().random());
    println!("ASOFDB_SEED={seed} {name}={runs}");
    (runs, StdRng::seed_from_u64(seed))
}

/// Every other time the historian is at work, too, and every other time there is a place to end.
fn start_to_crash(database: &Database, run: u64, rng: &mut StdRng) -> ServerProcess {
    let place = PLACES.choose(rng).filter(|_| rng.random());
    let place = place.map(|(place, times)| format!("{place}:{}", rng.random_range(1..=*times)));
    database.start(if run.is_multiple_of(2) { "64KiB" } else { "1GiB" }, place.as_deref())
}

async fn end(work: Vec<JoinHandle<()>>) {
    for client in work {
        client.await.expect("a client ends with its connection, or when it is told to");
    }
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
    let server = ServerProcess::start(&mut self::command(folder.path(), "1GiB"));
    let server = server.expect("the binary serves");
    let client = connect(&server).await;
    let found = client.query("VERIFY FEATURES ON things", &[]).await.expect("verifies");
    assert_eq!(found.len(), 0);
}

fn branch(rng: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(rng.random())
}
