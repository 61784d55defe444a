//! The online store in Redis, when it is told to forget: what gets smaller, and who may.

use std::sync::Arc;

use asofdb_storage::Error;
use asofdb_storage::online::{Lane, OnlineStore, Redis, RedisOptions};

use crate::conformance::test_cell::{TestCell, Want};
use crate::conformance::{ALL, ask, event, live, ready, sum};
use crate::redis_faults::{open, options, writer};
use crate::redis_server::{Proxy, RedisServer};

type Store = Redis<TestCell>;

const EVENTS: i64 = 6_000;
const SHARDS: u32 = 8;

/// Applies events to a large cell and to some small ones, one for each time.
async fn fill(store: &Store) {
    ready(store, 1, 1).await;
    for from in (0..EVENTS).step_by(500) {
        let position = |time: i64| time as u64 + 1;
        let mut events: Vec<_> =
            (from..from + 500).map(|time| event(b"large", time, position(time), 1)).collect();
        // A key has four events, about 1,500 apart.
        for small in (from..from + 500).step_by(5) {
            let key = (small % 1_500).to_be_bytes();
            events.push(event(&key, small, position(small), 1));
        }
        live(store, 1, (position(from), position(from + 500)), &events).await.unwrap();
    }
}

fn small_keys() -> Vec<[u8; 8]> {
    (0..1_500_i64).step_by(5).map(i64::to_be_bytes).collect()
}

/// Bytes of all hashes, fields of all cells, and nodes besides roots.
fn sizes(server: &RedisServer) -> (u64, u64, u64) {
    let mut client = server.client();
    let mut number = |words: &[&str]| -> u64 {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query::<Option<u64>>(&mut client).unwrap().unwrap_or(0)
    };
    let mut sizes = (0, 0, 0);
    for shard in 0..SHARDS {
        let [cells, nodes] = ["c", "n"].map(|kind| format!("asofdb:{{1.{shard}}}:{kind}"));
        for key in [&cells, &nodes] {
            sizes.0 += number(&["MEMORY", "USAGE", key, "SAMPLES", "0"]);
        }
        sizes.1 += number(&["HLEN", &cells]);
        sizes.2 += number(&["HLEN", &nodes]);
    }
    sizes
}

/// What is left after forgetting what is before 5,500.
async fn check_kept(store: &Store) {
    for from in [5_500, 5_700, EVENTS] {
        let want = Want::Between(from, EVENTS);
        let large = ask(store, 1, &[b"large"], want).await.unwrap();
        assert_eq!(large, [Some((EVENTS - from) as u64)]);
        let keys = small_keys();
        let keys: Vec<&[u8]> = keys.iter().map(<[u8; 8]>::as_slice).collect();
        let small = ask(store, 1, &keys, want).await.unwrap();
        assert_eq!(small.iter().flatten().sum::<u64>(), (EVENTS - from) as u64 / 5);
        assert!(small.iter().all(Option::is_some), "all keys are known");
    }
    let refused = ask(store, 1, &[b"large"], Want::Between(5_499, EVENTS)).await;
    assert!(matches!(refused, Err(Error::StateForgotten { before: 5_500, .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_nodes_go_and_the_next_writer_knows() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    fill(&store).await;
    let (bytes, fields, nodes) = sizes(&server);
    assert_eq!(store.forget_before(1, 5_500).await.unwrap(), 301);
    check_kept(&store).await;
    let after = sizes(&server);
    assert_eq!(after.1, fields);
    assert!(after.2 * 8 < nodes, "{nodes} nodes, then {}", after.2);
    assert!(after.0 * 2 < bytes, "{bytes} bytes, then {}", after.0);
    assert_eq!(store.forget_before(1, 5_500).await.unwrap(), 0);

    let reader = Store::open_reader(&options(server.url()), "db-1").await.unwrap();
    reader.create_space(1, Arc::default()).await.unwrap();
    check_kept(&reader).await;
    let read_only = reader.forget_before(1, 5_600).await;
    assert!(matches!(read_only, Err(Error::StoreReadOnly)), "{read_only:?}");
    let next = Store::open_writer(&options(server.url()), &writer("a")).await.unwrap();
    next.create_space(1, Arc::default()).await.unwrap();
    check_kept(&next).await;
    let fenced = store.forget_before(1, 5_600).await;
    assert!(matches!(fenced, Err(Error::StateFenced { .. })), "{fenced:?}");
    assert_eq!(sizes(&server).2, after.2, "a writer that was replaced changes nothing");
    check_kept(&reader).await;
    assert_eq!(next.forget_before(1, EVENTS).await.unwrap(), 1, "others have one event");
    let want = Want::Between(EVENTS, EVENTS);
    assert_eq!(ask(&next, 1, &[b"large"], want).await.unwrap(), [Some(0)], "it is known");
    assert_eq!(sizes(&server).2, 0, "a cell with one event is a root");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_anywhere_and_begins_again() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let impatient = RedisOptions { retries: 0, ..options(proxy.url()) };
    let store = Store::open_writer(&impatient, &writer("a")).await.unwrap();
    fill(&store).await;
    // The connection ends with the first answer, then with the second, and so on.
    let mut ended = 0;
    loop {
        proxy.swallow_after(ended);
        match store.forget_before(1, 5_500).await {
            Ok(_) => break,
            Err(Error::StoreUnavailable { .. }) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(ended as u32 > SHARDS, "{ended}");
    proxy.swallow(0);
    check_kept(&store).await;
    assert_eq!(store.forget_before(1, 5_500).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_filled_forgets_nothing_and_others_do() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    let keys: Vec<[u8; 1]> = (0..64u8).map(|key| [key]).collect();
    let events: Vec<_> =
        keys.iter().flat_map(|key| [event(key, 1, 1, 1), event(key, 9, 1, 2)]).collect();
    live(&store, 1, (1, 2), &events).await.unwrap();
    server.command(&["DEL", "asofdb:{1.3}:c"]);
    let of_three = |key: &&[u8; 1]| crc32c::crc32c(&key[..]) % SHARDS == 3;
    let lost = keys.iter().filter(of_three).count() as u64;
    assert!(lost > 0);
    assert_eq!(store.forget_before(1, 5).await.unwrap(), 64 - lost, "what is lost is left alone");
    store.coverage(1).await.unwrap();
    store.begin_fill(1, &[3], 2).await.unwrap();
    store.apply(1, Lane::Fill { sequence: 0 }, &events).await.unwrap();
    assert_eq!(store.forget_before(1, 5).await.unwrap(), 0);
    store.finish_fill(1).await.unwrap();
    for key in &keys {
        if of_three(&key) {
            assert_eq!(sum(&store, 1, key).await, Some(3));
        } else {
            let refused = ask(&store, 1, &[key], ALL).await;
            assert!(matches!(refused, Err(Error::StateForgotten { before: 5, .. })), "{refused:?}");
        }
        assert_eq!(ask(&store, 1, &[key], Want::Each(5, 10)).await.unwrap(), [Some(2)]);
    }
    assert_eq!(store.forget_before(1, 5).await.unwrap(), lost);
}
