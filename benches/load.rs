//! A closed loop of clients: each asks for the next as soon as it has the last answer.
//!
//! The load is the same for every system and costs as little as it can: some threads with a runtime
//! of one thread each, the clients divided among them, answers counted and not decoded. It shares
//! the machine's cores with the servers, so what it costs itself is a figure, too.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::Error;
use crate::process::Usage;
use crate::report::percentile;
use crate::wire::{Address, Client, Request};

/// A measurement's size.
#[derive(Clone, Copy)]
pub struct Load {
    pub clients: usize,
    pub threads: usize,
    pub seconds: f64,
}

/// What a measurement saw.
pub struct Sample {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// CPU of all processes of the system, for a thousand lookups.
    pub user_ms: f64,
    pub system_ms: f64,
    /// CPU of the clients, user and system together, for a thousand lookups.
    pub clients_ms: f64,
    /// Memory of all processes of the system, with the connections open.
    pub resident_mb: f64,
}

/// Draws the keys of the next lookup.
pub trait Keys: Send {
    /// Replaces the keys in `keys`.
    fn draw(&mut self, keys: &mut Vec<i64>);
}

/// Runs the load. `keys` gives each client, by its number, what it asks for; `usage` says what the
/// system has used. An error or an answer with too few rows ends it.
pub fn measure<K: Keys + 'static>(
    load: Load,
    address: &Address,
    request: &Request,
    keys: impl Fn(usize) -> Result<K, Error>,
    usage: impl Fn() -> Result<Usage, Error>,
) -> Result<Sample, Error> {
    let threads = load.threads.clamp(1, load.clients);
    let gate = Arc::new(Barrier::new(threads + 1));
    let mut workers = Vec::new();
    for thread in 0..threads {
        let keys: Vec<K> =
            (thread..load.clients).step_by(threads).map(&keys).collect::<Result<_, _>>()?;
        let (gate, address, request) = (Arc::clone(&gate), address.clone(), request.clone());
        workers.push(std::thread::spawn(move || work(load, &gate, &address, &request, keys)));
    }
    // The clients are connected; they begin; they have ended; they may leave. Every thread comes to
    // all four, whatever fails.
    gate.wait();
    let (before, own) = (usage()?, Usage::of(std::process::id())?);
    let start = Instant::now();
    gate.wait();
    gate.wait();
    let elapsed = start.elapsed().as_secs_f64();
    let (after, own_after) = (usage()?, Usage::of(std::process::id())?);
    gate.wait();
    let mut nanos = Vec::new();
    for worker in workers {
        nanos.extend(worker.join().map_err(|_| "a thread of the load panicked")??);
    }
    nanos.sort_unstable();
    let ms = |share| percentile(&nanos, share) as f64 / 1e6;
    // Milliseconds for a thousand are microseconds for one.
    let each_us = |seconds: f64| seconds * 1e6 / nanos.len() as f64;
    Ok(Sample {
        per_second: nanos.len() as f64 / elapsed,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        user_ms: each_us(after.user_s - before.user_s),
        system_ms: each_us(after.system_s - before.system_s),
        clients_ms: each_us(own_after.user_s + own_after.system_s - own.user_s - own.system_s),
        resident_mb: after.resident_mb,
    })
}

/// One thread: its clients' latencies in nanoseconds.
fn work<K: Keys + 'static>(
    load: Load,
    gate: &Barrier,
    address: &Address,
    request: &Request,
    keys: Vec<K>,
) -> Result<Vec<u64>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let connected = runtime.map_err(Error::from).and_then(|runtime| {
        let mut clients = Vec::new();
        for keys in keys {
            clients.push((runtime.block_on(Client::connect(address, request.clone()))?, keys));
        }
        Ok((runtime, clients))
    });
    gate.wait();
    gate.wait();
    let ended = connected.and_then(|(runtime, clients)| {
        let end = Instant::now() + Duration::from_secs_f64(load.seconds);
        let tasks = clients.into_iter().map(|(client, keys)| runtime.spawn(ask(end, client, keys)));
        let tasks: Vec<_> = tasks.collect();
        let (mut nanos, mut clients) = (Vec::new(), Vec::new());
        for task in tasks {
            let (client, seen) = runtime.block_on(task)??;
            clients.push(client);
            nanos.extend(seen);
        }
        Ok((runtime, clients, nanos))
    });
    gate.wait();
    gate.wait();
    ended.map(|(_, _, nanos)| nanos)
}

/// One client: asks until the time is over.
async fn ask(
    end: Instant,
    mut client: Client,
    mut keys: impl Keys,
) -> Result<(Client, Vec<u64>), Error> {
    let (mut nanos, mut wanted) = (Vec::new(), Vec::new());
    loop {
        keys.draw(&mut wanted);
        let start = Instant::now();
        if start >= end {
            return Ok((client, nanos));
        }
        let rows = client.ask(&wanted).await?;
        nanos.push(start.elapsed().as_nanos() as u64);
        if rows != wanted.len() {
            return Err(format!("{rows} rows of {} keys", wanted.len()).into());
        }
    }
}
