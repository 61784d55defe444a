//! How much memory cells take in Redis and how fast they are: run it by name, with `--ignored`.

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

async fn filled(server: &RedisServer, schema: &Schema, events: &[(Vec<u8>, Event)]) -> Store {
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
        store.apply(1, Lane::Live { from, to }, batch.to_vec()).await.unwrap();
        from = to;
    }
    let seconds = started.elapsed().as_secs_f64();
    let bytes = server.info("used_memory") - empty;
    let count = events.len() as f64;
    println!("  {:.0} events/s, {:.1} bytes/event", count / seconds, bytes as f64 / count);
    println!("  {:.1} bytes/key", bytes as f64 / store.len(1).await.unwrap() as f64);
    store
}

async fn lookups(store: &Store, keys: u64, batch: usize, want: Want) {
    let mut rng = StdRng::seed_from_u64(1);
    let rounds = 2000;
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
#[ignore = "a measurement"]
async fn many_small_cells() {
    for batch in [1_000_000] {
        let server = RedisServer::start();
        println!("100,000 keys of 10 events, {batch} events:");
        let mut rng = StdRng::seed_from_u64(3);
        let events: Vec<_> =
            (0..batch).map(|p| event(p % 100_000, rng.random_range(0..1000), p + 1)).collect();
        let store = filled(&server, &SCHEMA, &events).await;
        lookups(&store, 100_000, 1, Want::UpTo(500)).await;
        lookups(&store, 100_000, 100, Want::UpTo(500)).await;
        println!("  {}", server.info_text("cmdstat_evalsha"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn one_big_cell() {
    for late in [false, true] {
        let server = RedisServer::start();
        println!(
            "one key of 1,000,000 events, at {} times:",
            if late { "random" } else { "rising" }
        );
        let mut rng = StdRng::seed_from_u64(3);
        let events: Vec<_> = (0..1_000_000u64)
            .map(|p| event(0, if late { rng.random_range(0..1 << 40) } else { p as i64 }, p + 1))
            .collect();
        let store = filled(&server, &SCHEMA, &events).await;
        let middle = if late { 1 << 39 } else { 500_000 };
        lookups(&store, 1, 1, Want::UpTo(middle)).await;
        lookups(&store, 1, 1, Want::Between(middle / 2, middle)).await;
        lookups(&store, 1, 1, Want::Last(middle, 100)).await;
        println!("  {}", server.info_text("cmdstat_evalsha"));
    }
}
