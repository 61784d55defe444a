//! What can happen to a Redis that holds online state, while the server uses it.

use std::time::Duration;

use asofdb_tests::redis::RedisServer;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// How Redis keeps what it has over a kill.
const PERSISTENCE: &[&[&str]] = &[
    &["--save", "", "--appendonly", "no"],
    &["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"],
    &["--save", "1 1", "--appendonly", "no"],
];

/// A fault, and how Redis is freed of it.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Killed without warning and started again.
    Kill,
    /// One command, which needs no cure.
    Once(&'static str),
    /// One command, and another some time later.
    Until(&'static str, &'static str),
}

const FAULTS: &[Fault] = &[
    Fault::Kill,
    Fault::Kill,
    Fault::Once("FLUSHALL"),
    // One key of ours: the record of the database, or a shard's cells or nodes.
    Fault::Once("EVAL \"return redis.call('DEL', redis.call('RANDOMKEY') or 'x')\" 0"),
    Fault::Once("CLIENT KILL TYPE normal"),
    Fault::Once("SCRIPT FLUSH"),
    Fault::Once("DEBUG SLEEP 0.3"),
    Fault::Once("CLIENT PAUSE 300 ALL"),
    Fault::Until("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    Fault::Until("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    Fault::Until("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
];

/// A server that keeps its state in one of the ways there are.
pub fn start(rng: &mut StdRng) -> RedisServer {
    let persistence = PERSISTENCE.choose(rng).expect("there are some");
    let mut arguments = persistence.to_vec();
    arguments.extend(["--enable-debug-command", "yes"]);
    RedisServer::with(&arguments).expect("redis-server runs")
}

/// Does something to the server and, after a while, ends it; returns what.
pub async fn inject(redis: &mut RedisServer, rng: &mut StdRng) -> String {
    let fault = *FAULTS.choose(rng).expect("there are some");
    let pause = Duration::from_millis(rng.random_range(1..300));
    // A Redis that is busy with the fault before may not answer: then there is one fault.
    match fault {
        Fault::Kill => {
            redis.kill();
            tokio::time::sleep(pause).await;
            redis.restart().expect("redis-server runs again");
        }
        Fault::Once(command) => drop(redis.command(command)),
        Fault::Until(begin, end) => {
            let _ = redis.command(begin);
            tokio::time::sleep(pause).await;
            redis.command(end).expect("the fault ends");
        }
    }
    format!("{fault:?}")
}
