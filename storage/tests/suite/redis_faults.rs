//! The online store in Redis, when Redis forgets, stops, refuses or is shared.

use std::time::Duration;

use asofdb_storage::Error;
use asofdb_storage::online::{Coverage, Lane, OnlineStore, Redis, RedisOptions, Writer, replay};

use crate::conformance::test_cell::{Event, TestCell, Want};
use crate::conformance::{self, ALL, ask, event, live, ready, refill, sum};
use crate::redis_server::{Proxy, RedisServer};

type Store = Redis<TestCell>;

pub fn options(url: String) -> RedisOptions {
    RedisOptions {
        shards: 8,
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
        retries: 4,
        ..RedisOptions::new(url)
    }
}

pub fn writer(holder: &str) -> Writer {
    let lease = Duration::from_secs(60);
    Writer { database: "db-1".to_owned(), holder: holder.to_owned(), lease }
}

pub async fn open(url: String) -> Store {
    Store::open_writer(&options(url), &writer("a")).await.unwrap()
}

pub async fn open_reader(url: String) -> Store {
    let store = Store::open_reader(&options(url), "db-1").await.unwrap();
    store.create_space(1, std::sync::Arc::default()).await.unwrap();
    store
}

fn is_lost<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::StateLost { space: 1, .. }))
}

async fn read<S: OnlineStore<TestCell>>(store: &S, key: &[u8]) -> Result<Option<u64>, Error> {
    ask(store, 1, &[key], ALL).await.map(|answers| answers[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let server = RedisServer::start();
    conformance::run(async || {
        server.command(&["FLUSHALL"]);
        open(server.url()).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_noticed_by_the_next_read_and_write_and_repaired() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    let reader = open_reader(server.url()).await;
    assert_eq!(sum(&reader, 1, b"k").await, Some(1));

    server.command(&["FLUSHALL"]);
    assert!(is_lost(read(&store, b"k").await));
    assert!(is_lost(read(&reader, b"k").await));
    assert!(is_lost(live(&store, 1, (2, 3), &[event(b"k", 1, 2, 2)]).await));
    let coverage = store.coverage(1).await.unwrap();
    assert_eq!(coverage, [Coverage::Lost; 8]);

    store.begin_fill(1, &[0, 1, 2, 3, 4, 5, 6, 7], 3).await.unwrap();
    let all = vec![event(b"k", 1, 1, 1), event(b"k", 1, 2, 2)];
    store.apply(1, Lane::Fill { sequence: 0 }, &all).await.unwrap();
    assert!(matches!(read(&reader, b"k").await, Err(Error::StateNotReady { .. })));
    live(&store, 1, (3, 4), &[event(b"k", 1, 3, 4)]).await.unwrap();
    store.finish_fill(1).await.unwrap();
    assert_eq!(sum(&store, 1, b"k").await, Some(7));
    assert_eq!(sum(&reader, 1, b"k").await, Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_hash_is_noticed_and_only_its_shard_is_filled() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    let keys: Vec<Vec<u8>> = (0..64u8).map(|key| vec![key]).collect();
    let events: Vec<_> = keys.iter().map(|key| event(key, 1, 1, 1)).collect();
    live(&store, 1, (1, 2), &events).await.unwrap();
    server.command(&["DEL", "asofdb:{1.5}:c"]);

    let mut lost = Vec::new();
    for key in &keys {
        match read(&store, key).await {
            Ok(answer) => assert_eq!(answer, Some(1)),
            Err(Error::StateLost { shards, .. }) => {
                assert_eq!(shards, [5]);
                lost.push(key.clone());
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(!lost.is_empty() && lost.len() < keys.len());
    assert!(is_lost(store.len(1).await));
    let coverage = store.coverage(1).await.unwrap();
    assert_eq!(coverage.iter().filter(|shard| **shard == Coverage::Lost).count(), 1);
    store.begin_fill(1, &[5], 2).await.unwrap();
    // What other shards have is not filled in again.
    store.apply(1, Lane::Fill { sequence: 0 }, &events).await.unwrap();
    store.finish_fill(1).await.unwrap();
    for key in &keys {
        assert_eq!(sum(&store, 1, key).await, Some(1));
    }

    // A shard that is filled up to an older position gets what follows before anything else.
    live(&store, 1, (2, 9), &[event(&keys[0], 1, 2, 1)]).await.unwrap();
    store.begin_fill(1, &[5], 2).await.unwrap();
    let gap = live(&store, 1, (9, 10), &[event(&keys[0], 1, 9, 1)]).await;
    assert!(matches!(gap, Err(Error::StateGap { position: 2, .. })), "{gap:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_persistence_is_a_loss() {
    let mut server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    let connections = store.connections();
    server.kill();
    let started = read(&store, b"k").await;
    assert!(matches!(started, Err(Error::StoreUnavailable { .. })), "{started:?}");
    server.start_again();
    assert!(is_lost(read(&store, b"k").await));
    store.renew().await.unwrap();
    assert!(store.connections() > connections, "an idle writer is told, too");
    refill(&store, 1, 2).await;
    live(&store, 1, (2, 3), &[event(b"k", 1, 2, 2)]).await.unwrap();
    assert_eq!(sum(&store, 1, b"k").await, Some(2));
}

/// Applies the events of `positions` to a few keys, one for each position, as the log would.
async fn follow_log(store: &Store, positions: std::ops::Range<u64>) -> Result<(), Error> {
    let events: Vec<_> = positions.clone().map(|p| event(&[p as u8 % 5], 1, p, p)).collect();
    live(store, 1, (positions.start, positions.end), &events).await
}

async fn total(store: &Store) -> u64 {
    let keys: Vec<[u8; 1]> = (0..5).map(|key| [key]).collect();
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 1]>::as_slice).collect();
    ask(store, 1, &keys, ALL).await.unwrap().into_iter().flatten().sum()
}

/// A state from before comes back; readers and the writer notice, and the log is replayed.
async fn an_older_state_comes_back(server: &RedisServer, store: &Store, until: u64) {
    let reader = open_reader(server.url()).await;
    let follow = follow_log(store, until..until + 1).await;
    let positions: Vec<u64> = store
        .coverage(1)
        .await
        .unwrap()
        .iter()
        .map(|shard| match shard {
            Coverage::Ready { position } => *position,
            other => panic!("{other:?}"),
        })
        .collect();
    let lowest = *positions.iter().min().unwrap();
    assert!(lowest < until, "nothing was forgotten: {positions:?}");
    assert!(matches!(follow, Err(Error::StateGap { .. })), "{follow:?}");
    let behind = [read(store, &[0]).await, read(store, &[1]).await, read(store, &[2]).await];
    assert!(
        behind.iter().any(|answer| matches!(answer, Err(Error::StateBehind { .. }))),
        "{behind:?}"
    );
    for part in replay(&store.coverage(1).await.unwrap(), until + 1) {
        follow_log(store, part).await.unwrap();
    }
    assert_eq!(total(store).await, (1..=until).sum::<u64>());
    assert_eq!(total(&reader).await, (1..=until).sum::<u64>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_older_is_caught_up() {
    let mut server = RedisServer::with(&["--save", "", "--appendonly", "no"]);
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    for p in 1..40 {
        follow_log(&store, p..p + 1).await.unwrap();
    }
    server.command(&["SAVE"]);
    for p in 40..60 {
        follow_log(&store, p..p + 1).await.unwrap();
    }
    server.kill();
    server.start_again();
    an_older_state_comes_back(&server, &store, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_file_without_its_end_is_caught_up() {
    let mut server =
        RedisServer::with(&["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    for p in 1..60 {
        follow_log(&store, p..p + 1).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.kill();
    // What a power loss takes is what was not synced: the end of the file.
    let mut files: Vec<_> =
        std::fs::read_dir(server.dir().join("appendonlydir")).unwrap().collect();
    let file = files.iter_mut().find_map(|file| {
        let path = file.as_ref().unwrap().path();
        path.to_string_lossy().ends_with(".incr.aof").then_some(path)
    });
    let file = std::fs::OpenOptions::new().write(true).open(file.unwrap()).unwrap();
    file.set_len(file.metadata().unwrap().len() - 3000).unwrap();
    server.start_again();
    an_older_state_comes_back(&server, &store, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_whole_append_only_file_goes_on() {
    let mut server =
        RedisServer::with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    follow_log(&store, 1..40).await.unwrap();
    server.kill();
    server.start_again();
    follow_log(&store, 1..40).await.unwrap();
    follow_log(&store, 40..41).await.unwrap();
    assert_eq!(total(&store).await, (1..=40).sum::<u64>());
    drop(store);
    let store = open(server.url()).await;
    store.create_space(1, std::sync::Arc::default()).await.unwrap();
    for part in replay(&store.coverage(1).await.unwrap(), 50) {
        follow_log(&store, part).await.unwrap();
    }
    assert_eq!(total(&store).await, (1..50).sum::<u64>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_is_no_second_event() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let store = open(proxy.url()).await;
    ready(&store, 1, 1).await;
    for p in 1..60 {
        if p % 3 == 0 {
            proxy.swallow(1);
        }
        follow_log(&store, p..p + 1).await.unwrap();
        assert_eq!(proxy.left(), 0, "the answer was swallowed");
    }
    assert_eq!(total(&store).await, (1..60).sum::<u64>());
    // The same for filling, and for many events of a key, which are folded.
    proxy.swallow(1);
    store.begin_fill(1, &[0, 1, 2, 3, 4, 5, 6, 7], 100).await.unwrap();
    for sequence in 0..6 {
        proxy.swallow(sequence as usize % 3);
        let events: Vec<_> = (0..10).map(|p| event(&[0], p, sequence * 10 + p as u64, 1)).collect();
        store.apply(1, Lane::Fill { sequence }, &events).await.unwrap();
    }
    proxy.swallow(1);
    store.finish_fill(1).await.unwrap();
    assert_eq!(sum(&store, 1, &[0]).await, Some(60));
    assert_eq!(ask(&store, 1, &[&[0]], Want::Last(9, 6)).await.unwrap(), [Some(6)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_gives_an_error_and_then_goes_on() {
    let server = RedisServer::start();
    let mut impatient = options(server.url());
    impatient.response_timeout = Duration::from_millis(100);
    impatient.retries = 1;
    let store = Store::open_writer(&impatient, &writer("a")).await.unwrap();
    ready(&store, 1, 1).await;
    follow_log(&store, 1..10).await.unwrap();
    server.command(&["CLIENT", "PAUSE", "1500", "ALL"]);
    let hung = follow_log(&store, 10..20).await;
    assert!(matches!(hung, Err(Error::StoreUnavailable { .. })), "{hung:?}");
    tokio::time::sleep(Duration::from_millis(1600)).await;
    follow_log(&store, 10..20).await.unwrap();
    follow_log(&store, 10..20).await.unwrap();
    assert_eq!(total(&store).await, (1..20).sum::<u64>());
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_scripts_are_sent_again() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    follow_log(&store, 1..20).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]);
    follow_log(&store, 20..40).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(total(&store).await, (1..40).sum::<u64>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_many_keys_takes_one_round_trip() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    let keys: Vec<[u8; 2]> = (0..3000u16).map(u16::to_be_bytes).collect();
    let events: Vec<_> =
        keys.iter().map(|key| (key.to_vec(), Event { time: 1, position: 1, amount: 1 })).collect();
    live(&store, 1, (1, 2), &events).await.unwrap();
    let before = server.info("total_commands_processed");
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 2]>::as_slice).collect();
    let answers = ask(&store, 1, &keys, ALL).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Some(1)));
    // A script for each shard, and what the scripts and this question call themselves.
    assert!(server.info("total_commands_processed") - before < 8 * 6);
}

/// The script itself: between a batch that makes a tail too long and its fold there is a moment in
/// which a fold from before, that Redis executes late, would find enough of a tail to cut off.
#[tokio::test(flavor = "multi_thread")]
async fn a_fold_that_is_late_changes_nothing() {
    const CODE: &str = include_str!("../../src/online/redis/fold.lua");
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    let events: Vec<_> = (1..4).map(|p| event(b"k", 1, p, 1)).collect();
    live(&store, 1, (1, 4), &events).await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:c").query(&mut server.client()).unwrap();
    let field = |key: &String, field: &str| -> Option<Vec<u8>> {
        redis::cmd("HGET").arg(key).arg(field).query(&mut server.client()).unwrap()
    };
    let key = keys.iter().find(|key| field(key, "k").is_some()).unwrap();
    let witness = field(key, "").unwrap();
    let fill = witness[34..38].to_vec();
    let fold_of = |fill: &[u8], kept_from: i64, before: u32| -> String {
        let tree = [&[2, 0, 0, 0, 8][..], &(before + 1).to_be_bytes(), b"tree"].concat();
        let mut command = redis::cmd("EVAL");
        command.arg(CODE).arg(2).arg(key).arg(key.replace(":c", ":n"));
        let kept_from = (kept_from as u64 ^ 1 << 63).to_be_bytes();
        command.arg(&witness[1..17]).arg(&witness[17..25]).arg(fill).arg(&kept_from[..]);
        command.arg("k").arg(&before.to_be_bytes()[..]);
        command.arg(24).arg(tree).arg(0);
        let answer: Vec<String> = command.query(&mut server.client()).unwrap();
        answer[0].clone()
    };
    let fold = |before: u32| fold_of(&fill, i64::MIN, before);
    assert_eq!(fold(5), "CHANGED");
    assert_eq!(fold_of(b"else", i64::MIN, 0), "CHANGED", "of another fill");
    assert_eq!(fold_of(&fill, 7, 0), "CHANGED", "the shard was not told to forget so much");
    assert_eq!(fold(0), "OK");
    let folded = field(key, "k").unwrap();
    assert_eq!(folded.len(), 5 + 8 + 2 * 24, "two events are left in the tail");
    assert_eq!(fold(0), "DONE");
    assert_eq!(fold(7), "CHANGED");
    assert_eq!(field(key, "k").unwrap(), folded);
}

#[tokio::test(flavor = "multi_thread")]
async fn tails_are_folded() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    for p in 0..100u64 {
        let time = |n: u64| ((p * 10 + n) * 7919 % 1000) as i64;
        let events: Vec<_> = (0..10).map(|n| event(b"k", time(n), p + 1, 1)).collect();
        live(&store, 1, (p + 1, p + 2), &events).await.unwrap();
        let root: Vec<Vec<u8>> = root_of(&server, "k");
        assert!(
            root[0].len() < 9 + 3 + 4 * 28 + 4 + 4 * 8 + 1,
            "the tail is empty: {}",
            root[0].len()
        );
    }
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:n").query(&mut server.client()).unwrap();
    let nodes: u64 = redis::cmd("HLEN").arg(&keys[0]).query(&mut server.client()).unwrap();
    assert!((250..750).contains(&nodes), "{nodes} nodes of a thousand events in leaves of four");
    assert_eq!(sum(&store, 1, b"k").await, Some(1000));
}

fn root_of(server: &RedisServer, cell: &str) -> Vec<Vec<u8>> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:c").query(&mut server.client()).unwrap();
    let get = |key: &String| -> Option<Vec<u8>> {
        redis::cmd("HGET").arg(key).arg(cell).query(&mut server.client()).unwrap()
    };
    keys.iter().filter_map(get).collect()
}
