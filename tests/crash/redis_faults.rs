//! What can happen to a Redis that holds online state, while the server uses it.

use std::time::Duration;

use asofdb_tests::proxy::{Direction, Proxy};
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
    /// The replica becomes the primary, after it has heard nothing for a while.
    FailOver,
    /// All connections of the server end.
    Cut,
    /// One ends at a byte in the middle of what goes over it.
    CutWithin(Direction),
    /// Nothing goes over them for a while.
    Hold,
    /// One command, which needs no cure.
    Once(&'static str),
    /// One command, and another some time later.
    Until(&'static str, &'static str),
}

const FAULTS: &[Fault] = &[
    Fault::Kill,
    Fault::Kill,
    Fault::FailOver,
    Fault::FailOver,
    Fault::Cut,
    Fault::CutWithin(Direction::There),
    Fault::CutWithin(Direction::Back),
    Fault::Hold,
    Fault::Once("FLUSHALL"),
    // One key of ours: the record of the database, or a shard's cells or nodes.
    Fault::Once("EVAL \"return redis.call('DEL', redis.call('RANDOMKEY') or 'x')\" 0"),
    Fault::Once("CLIENT KILL TYPE normal"),
    Fault::Once("SCRIPT FLUSH"),
    Fault::Once("DEBUG SLEEP 0.3"),
    Fault::Once("CLIENT PAUSE 300 ALL"),
    Fault::Until("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    Fault::Until("CONFIG SET min-replicas-to-write 2", "CONFIG SET min-replicas-to-write 0"),
    Fault::Until("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
];

/// A primary and its replica, and how they are reached.
pub struct FailingRedis {
    servers: [RedisServer; 2],
    /// Which of them is the primary.
    primary: usize,
    /// To the primary, for the server of the test.
    way: Proxy,
    /// To the primary, for the replica.
    link: Proxy,
}

impl FailingRedis {
    /// Servers that keep their state in one of the ways there are.
    pub fn start(rng: &mut StdRng) -> FailingRedis {
        let persistence = PERSISTENCE.choose(rng).expect("there are some");
        let mut arguments = persistence.to_vec();
        arguments.extend(["--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"]);
        let start = |_| RedisServer::with(&arguments).expect("redis-server runs");
        let servers = [0, 1].map(start);
        let port = servers[0].port();
        let to_primary = || Proxy::to(port).expect("a port");
        let redis = FailingRedis { servers, primary: 0, way: to_primary(), link: to_primary() };
        redis.follow(1);
        redis
    }

    /// What tells the server of the test to use it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let url = format!("redis://127.0.0.1:{}", self.way.port());
        vec![("ASOFDB_ONLINE".to_owned(), url)]
    }

    /// Does something and, after a while, ends it; returns what.
    pub async fn inject(&mut self, rng: &mut StdRng) -> String {
        let fault = *FAULTS.choose(rng).expect("there are some");
        let pause = Duration::from_millis(rng.random_range(1..300));
        let primary = &mut self.servers[self.primary];
        // A Redis that is busy with the fault before may not answer: then there is one fault.
        match fault {
            Fault::Kill => {
                primary.kill();
                tokio::time::sleep(pause).await;
                primary.restart().expect("redis-server runs again");
            }
            Fault::FailOver => {
                self.link.hold();
                tokio::time::sleep(pause).await;
                self.fail_over();
            }
            Fault::Cut => self.way.cut(),
            Fault::CutWithin(direction) => self.way.cut_within(direction, rng),
            Fault::Hold => {
                self.way.hold();
                tokio::time::sleep(pause).await;
                self.way.release();
            }
            Fault::Once(command) => drop(primary.command(command)),
            Fault::Until(begin, end) => {
                let _ = primary.command(begin);
                tokio::time::sleep(pause).await;
                primary.command(end).expect("the fault ends");
            }
        }
        format!("{fault:?}")
    }

    /// The two change places. What only the old primary has is lost.
    fn fail_over(&mut self) {
        let old = self.primary;
        self.primary = 1 - old;
        let primary = &self.servers[self.primary];
        primary.command("REPLICAOF NO ONE").expect("it is promoted");
        self.way.lead_to(primary.port());
        self.link.lead_to(primary.port());
        self.link.release();
        self.follow(old);
    }

    fn follow(&self, replica: usize) {
        let follow = format!("REPLICAOF 127.0.0.1 {}", self.link.port());
        self.servers[replica].command(&follow).expect("it follows");
    }
}
