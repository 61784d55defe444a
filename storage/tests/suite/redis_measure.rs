//! How much memory cells take in Redis, and how fast they are.
//!
//! Small by default, and then only the memory is judged. `ASOFDB_REDIS_MEASURE=1000000` takes so
//! many events; with `--release` and `--nocapture` the times mean something.
#![allow(clippy::print_stdout, reason = "it is what this is for")]

use std::sync::Arc;
use std::time::Instant;

use asofdb_storage::online::{Lane, OnlineStore, Redis, RedisOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::conformance::ask;
use crate::conformance::test_cell::{Event, Schema, TestCell, Want};
use crate::redis_faults::writer;
use crate::redis_server::RedisServer;

type Store = Redis<TestCell>;

/// Leaves of 128 events of 40 bytes, tails of up to 64: what timelines are like.
const SCHEMA: Schema = Schema { width: 128, tail_rows: 64, padding: 16 };

fn size() -> u64 {
    std::env::var("ASOFDB_REDIS_MEASURE").map_or(20_000, |text| text.parse().unwrap())
}

/// A store with these events, and how many bytes Redis has for each of them.
async fn filled(
    server: &RedisServer,
    schema: &Schema,
    events: &[(Vec<u8>, Event)],
) -> (Store, f64) {
    let store = Store::open_writer(&RedisOptions::new(server.url()), &writer("a")).await.unwrap();
    store.create_space(1, Arc::new(schema.clone())).await.unwrap();
    let shards: Vec<u32> = (0..64).collect();
    store.begin_fill(1, &shards, 1).await.unwrap();
    store.finish_fill(1).await.unwrap();
    let empty = server.info("used_memory");
    let started = Instant::now();
    let mut from = 1;
    for batch in events.chunks(10_000) {
        let to = from + batch.len() as u64;
        store.apply(1, Lane::Live { from, to }, batch).await.unwrap();
        from = to;
    }
    let seconds = started.elapsed().as_secs_f64();
    let bytes = server.info("used_memory") - empty;
    let count = events.len() as f64;
    println!("  {:.0} events/s, {:.1} bytes/event", count / seconds, bytes as f64 / count);
    println!("  {:.1} bytes/key", bytes as f64 / store.len(1).await.unwrap() as f64);
    (store, bytes as f64 / count)
}

async fn lookups(store: &Store, keys: u64, batch: usize, want: Want) {
    let mut rng = StdRng::seed_from_u64(1);
    let rounds = (size() / 100).min(2000) as usize;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let asked: Vec<[u8; 8]> =
            (0..batch).map(|_| rng.random_range(0..keys).to_be_bytes()).collect();
        let asked: Vec<&[u8]> = asked.iter().map(<[u8; 8]>::as_slice).collect();
        let started = Instant::now();
        ask(store, 1, &asked, want).await.unwrap();
        times.push(started.elapsed().as_micros());
    }
    times.sort_unstable();
    let total: u128 = times.iter().sum();
    let rate = (rounds * batch) as f64 / (total as f64 / 1e6);
    println!(
        "  lookup of {batch} keys, {want:?}: p50 {} us, p99 {} us, {rate:.0} keys/s",
        times[rounds / 2],
        times[rounds * 99 / 100]
    );
}

fn event(key: u64, time: i64, position: u64) -> (Vec<u8>, Event) {
    (key.to_be_bytes().to_vec(), Event { time, position, amount: position })
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_cells_take_little_more_than_their_events() {
    let (server, size) = (RedisServer::start(), size());
    let keys = size / 10;
    println!("{keys} keys of 10 events:");
    let mut rng = StdRng::seed_from_u64(3);
    let events: Vec<_> =
        (0..size).map(|p| event(p % keys, rng.random_range(0..1000), p + 1)).collect();
    let (store, bytes) = filled(&server, &SCHEMA, &events).await;
    lookups(&store, keys, 1, Want::UpTo(500)).await;
    lookups(&store, keys, 100, Want::UpTo(500)).await;
    println!("  {}", server.info_text("cmdstat_evalsha"));
    assert!(bytes < 70.0, "{bytes} bytes for an event of 40");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_cell_takes_little_more_than_its_events() {
    for late in [false, true] {
        let (server, size) = (RedisServer::start(), size());
        println!("one key of {size} events, at {} times:", if late { "random" } else { "rising" });
        let mut rng = StdRng::seed_from_u64(3);
        let time = |rng: &mut StdRng, p| if late { rng.random_range(0..size as i64) } else { p };
        let events: Vec<_> = (0..size).map(|p| event(0, time(&mut rng, p as i64), p + 1)).collect();
        let (store, bytes) = filled(&server, &SCHEMA, &events).await;
        let middle = size as i64 / 2;
        lookups(&store, 1, 1, Want::UpTo(middle)).await;
        lookups(&store, 1, 1, Want::Between(middle / 2, middle)).await;
        lookups(&store, 1, 1, Want::Last(middle, 100)).await;
        println!("  {}", server.info_text("cmdstat_evalsha"));
        // Events at rising times leave the test cell's leaves half full.
        assert!(bytes < 100.0, "{bytes} bytes for an event of 40");
    }
}
