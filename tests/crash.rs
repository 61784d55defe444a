//! Kill -9 on the real binary, again and again, while clients insert, copy, make and drop features,
//! checkpoint and vacuum; at random moments, or at a place in the code. After each kill: what was
//! acknowledged is there once, what was in flight is there whole or not at all, and the features
//! count exactly the events that are there. After some the log has a torn end, too.
//!
//! `ASOFDB_CRASH_RUNS` sets how many kills, `ASOFDB_REDIS_CRASH_RUNS` and `ASOFDB_S3_CRASH_RUNS` how
//! many runs with faults of these; `ASOFDB_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "this is a test")]

#[path = "crash/redis_faults.rs"]
mod redis_faults;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use asofdb_tests::checks::{declare, verify_features};
use asofdb_tests::database::{
    Database, OFTEN, branch, copy_folder, end, files_below, insert, serve, settings,
};
use asofdb_tests::moto::MotoServer;
use asofdb_tests::process::ServerProcess;
use asofdb_tests::redis::RedisServer;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use redis_faults::FailingRedis;

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

/// The bytes before a segment's first record.
const HEADER_BYTES: u64 = 32;

const PROGRAM: &str = env!("CARGO_BIN_EXE_asofdb");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_counts_twice() {
    let (runs, mut rng) = settings("ASOFDB_CRASH_RUNS", 12);
    let (mut rows, mut checked) = (0, 0);
    let mut database = Database::new(PROGRAM, Vec::new()).await;
    for run in 0..runs {
        if run > 0 && run % RUNS_PER_DATABASE == 0 {
            database = Database::new(PROGRAM, Vec::new()).await;
        }
        let server = start_to_crash(&database, run, &mut rng);
        let work = database.work(&server, &mut rng).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..400))).await;
        drop(server);
        end(work).await;
        tear(database.folder(), &mut rng);
        if let Some(place) = PLACES_OF_RECOVERY.choose(&mut rng).filter(|_| rng.random()) {
            let mut command = database.command();
            let ended = ServerProcess::start(command.env("ASOFDB_CRASH_AT", format!("{place}:1")));
            assert!(ended.is_err(), "a start that was to end at {place} did not");
        }
        let (more_rows, more_values) = database.check(&database.start()).await;
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
    let mut redis = FailingRedis::start(&mut rng);
    let mut database = Database::new(PROGRAM, redis.environment()).await;
    for run in 0..runs {
        if run > 0 && run % RUNS_PER_DATABASE == 0 {
            redis = FailingRedis::start(&mut rng);
            database = Database::new(PROGRAM, redis.environment()).await;
        }
        let dies = rng.random();
        let mut server = match dies {
            true => start_to_crash(&database, run, &mut rng),
            false => database.start_with([OFTEN]),
        };
        let work = database.work(&server, &mut rng).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..300))).await;
        let mut faults = Vec::new();
        for _ in 0..rng.random_range(0..3) {
            faults.push(redis.inject(&mut rng).await);
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..200))).await;
        println!("run {run}: {faults:?}, then {}", if dies { "kill -9" } else { "on" });
        database.stop_work();
        if dies {
            drop(server);
            end(work).await;
            server = database.start();
        } else {
            end(work).await;
        }
        let (more_rows, more_values) = database.check(&server).await;
        (rows, checked) = (rows + more_rows, checked + more_values);
    }
    assert!(rows > 0, "no run got as far as an acknowledged row");
    println!("{runs} runs, {rows} rows and {checked} values checked: 0 lost, 0 doubled");
}

/// The same with a history on S3 that fails in many ways meanwhile. Half of the times the server is
/// killed, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_with_a_history_on_s3_that_fails() {
    let (runs, mut rng) = settings("ASOFDB_S3_CRASH_RUNS", 6);
    let (mut rows, mut checked) = (0, 0);
    let moto = MotoServer::start().expect("moto_server runs");
    let database = Database::new(PROGRAM, moto.environment()).await;
    for run in 0..runs {
        let dies = rng.random();
        let server = match dies {
            true => start_to_crash(&database, run, &mut rng),
            false => database.start_with([OFTEN]),
        };
        moto.fail_at_random(rng.random_range(3..20), branch(&mut rng));
        let work = database.work(&server, &mut rng).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..1500))).await;
        database.stop_work();
        println!("run {run}: {}", if dies { "kill -9" } else { "on" });
        // One that is not kept is killed.
        let server = Some(server).filter(|_| !dies);
        moto.way.heal();
        end(work).await;
        let server = server.unwrap_or_else(|| database.start());
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
    let redis = RedisServer::start().expect("redis-server runs");
    let database = Database::new(PROGRAM, vec![("ASOFDB_ONLINE".to_owned(), redis.url())]).await;
    let folder = database.folder();
    let backup = tempfile::tempdir().expect("a folder");
    for restored in [false, true] {
        let server = database.start();
        let client = server.connect().await;
        if restored {
            assert_eq!(verify_features(&client).await, 3 * 4);
            insert(&client, 200..205).await;
            assert_eq!(verify_features(&client).await, 3 * 4);
            let count = client.query_one("SELECT count(*), sum(v) FROM events", &[]).await;
            let count = count.expect("reads");
            assert_eq!((count.get(0), count.get(1)), (15_i64, 7.5_f64));
            continue;
        }
        insert(&client, 0..10).await;
        drop(server);
        copy_folder(folder, backup.path());
        let server = database.start();
        let client = server.connect().await;
        insert(&client, 100..130).await;
        drop(server);
        std::fs::remove_dir_all(folder).expect("the folder goes");
        copy_folder(backup.path(), folder);
    }
}

/// Every other time the historian is at work, too, and every other time there is a place to end.
fn start_to_crash(database: &Database, run: u64, rng: &mut StdRng) -> ServerProcess {
    let place = PLACES.choose(rng).filter(|_| rng.random());
    let place = place.map(|(place, times)| format!("{place}:{}", rng.random_range(1..=*times)));
    let place = place.as_deref().map(|place| ("ASOFDB_CRASH_AT", place));
    database.start_with(Some(OFTEN).filter(|_| run.is_multiple_of(2)).into_iter().chain(place))
}

/// Every other time, what a write that was under way when the power went leaves behind the log's
/// end: anything, or zeros. Before the first record there was no such write.
fn tear(folder: &Path, rng: &mut StdRng) {
    let segments = files_below(&folder.join("log"), "log").expect("the log's folder");
    let Some(last) = segments.last().filter(|_| rng.random()) else { return };
    let mut file = OpenOptions::new().append(true).open(last).expect("a segment");
    if file.metadata().expect("a length").len() > HEADER_BYTES {
        let zeros = rng.random();
        let byte = |_| if zeros { 0 } else { rng.random() };
        let torn: Vec<u8> = (0..1000).map(byte).collect();
        file.write_all(&torn).expect("writes");
    }
}

/// Online state that misses events, as a defect would leave it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_finds_a_state_that_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = serve(Path::new(PROGRAM), folder.path());
    // Each row goes to two entities.
    command.env("FAILPOINTS", "timelines::insert=2*off->2*return");
    let server = ServerProcess::start(&mut command).expect("the binary serves");
    let client = server.connect().await;
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
    let server = ServerProcess::start(&mut serve(Path::new(PROGRAM), folder.path()));
    let server = server.expect("the binary serves");
    let client = server.connect().await;
    let found = client.query("VERIFY FEATURES ON things", &[]).await.expect("verifies");
    assert_eq!(found.len(), 0);
}
