//! Random batches, repeats, losses, crashes and takeovers, against a list of events in memory.
//!
//! `ASOFDB_REDIS_SEEDS=100..200` runs other seeds than the few that always run.

use std::ops::Range;
use std::time::Duration;

use asofdb_storage::Error;
use asofdb_storage::online::{
    Cell, Coverage, Lane, OnlineStore, Redis, RedisOptions, Writer, replay,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::conformance::test_cell::{Event, TestCell, Want, expected};
use crate::conformance::{ask, question};
use crate::redis_faults::options;
use crate::redis_server::{Proxy, RedisServer};

type Store = Redis<TestCell>;

const STEPS: usize = 120;
const KEYS: u8 = 12;

/// What a server is to the store: the log, and who follows it.
struct Run {
    rng: StdRng,
    server: RedisServer,
    proxy: Proxy,
    store: Store,
    reader: Store,
    /// The event at position n is at n - 1.
    log: Vec<(Vec<u8>, Event)>,
    restarts: u32,
    /// Events before it may be forgotten; in some runs none ever are.
    kept_from: i64,
    forgets: bool,
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("ASOFDB_REDIS_SEEDS") else { return 0..6 };
    let (from, to) = text.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_equal_a_list() {
    for seed in seeds() {
        println!("seed {seed}");
        let mut run = Run::new(seed).await;
        for _ in 0..STEPS {
            run.step().await;
        }
        run.heal().await;
        run.check(true).await;
    }
}

impl Run {
    async fn new(seed: u64) -> Run {
        let rng = StdRng::seed_from_u64(seed);
        let persistence: [&[&str]; 3] = [
            &["--save", "", "--appendonly", "no"],
            &["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"],
            &["--save", "3600 1000000", "--appendonly", "no"],
        ];
        let server = RedisServer::with(persistence[seed as usize % 3]);
        let proxy = Proxy::to(server.port);
        let options = Run::options(&proxy);
        let store = Store::open_writer(&options, &Run::writer(0)).await.unwrap();
        let reader = Store::open_reader(&options, "db").await.unwrap();
        store.create_space(1, Default::default()).await.unwrap();
        reader.create_space(1, Default::default()).await.unwrap();
        let mut run = Run {
            rng,
            server,
            proxy,
            store,
            reader,
            log: Vec::new(),
            restarts: 0,
            kept_from: i64::MIN,
            forgets: seed % 2 == 1,
        };
        run.heal().await;
        run
    }

    fn options(proxy: &Proxy) -> RedisOptions {
        RedisOptions { retries: 6, ..options(proxy.url()) }
    }

    fn writer(life: u32) -> Writer {
        let holder = format!("holder {}", life % 2);
        Writer { database: "db".to_owned(), holder, lease: Duration::from_millis(1) }
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..50 => self.append().await,
            50..54 => self.proxy.swallow(self.rng.random_range(1..3)),
            54..56 => self.proxy.hold(self.rng.random_range(1..3)),
            56..58 => drop(self.server.command(&["FLUSHALL"])),
            58..62 => self.delete_a_hash(),
            62..64 => drop(self.server.command(&["SCRIPT", "FLUSH"])),
            64..66 => {
                self.server.kill();
                self.server.start_again();
            }
            66..68 => drop(redis::cmd("SAVE").exec(&mut self.server.client())),
            68..71 => self.take_over().await,
            71..73 => drop(self.store.settle(1).await),
            73..75 => self.repeat().await,
            75..78 if self.forgets => self.forget().await,
            _ => self.check(false).await,
        }
    }

    fn head(&self) -> u64 {
        self.log.len() as u64 + 1
    }

    fn events(&self, positions: Range<u64>) -> Vec<(Vec<u8>, Event)> {
        self.log[positions.start as usize - 1..positions.end as usize - 1].to_vec()
    }

    async fn append(&mut self) {
        let from = self.head();
        for position in from..from + self.rng.random_range(1..25) {
            let event = Event {
                time: self.rng.random_range(-50..50),
                position,
                amount: self.rng.random_range(1..1000),
            };
            // One key has half of the events.
            let key = self.rng.random_range(0..2 * KEYS).saturating_sub(KEYS);
            self.log.push((vec![key + 1], event));
        }
        let lane = Lane::Live { from, to: self.head() };
        if self.store.apply(1, lane, &self.events(from..self.head())).await.is_err() {
            self.heal().await;
        }
    }

    /// Applies again what is there.
    async fn repeat(&mut self) {
        if self.head() < 3 {
            return;
        }
        let from = self.rng.random_range(1..self.head() - 1);
        let to = self.rng.random_range(from + 1..self.head());
        let events = self.events(from..to);
        if self.store.apply(1, Lane::Live { from, to }, &events).await.is_err() {
            self.heal().await;
        }
    }

    async fn forget(&mut self) {
        let time = self.rng.random_range(-60..20);
        self.kept_from = self.kept_from.max(time);
        // What goes wrong is noticed by the next batch.
        drop(self.store.forget_before(1, time).await);
    }

    fn delete_a_hash(&mut self) {
        let shard = self.rng.random_range(0..8);
        self.server.command(&["DEL", &format!("asofdb:{{1.{shard}}}:c")]);
    }

    async fn open_again(&mut self) -> Store {
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.restarts += 1;
        let options = Run::options(&self.proxy);
        let store = loop {
            match Store::open_writer(&options, &Run::writer(self.restarts)).await {
                Ok(store) => break store,
                Err(Error::StateFenced { .. } | Error::WriterLeased { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        store.create_space(1, Default::default()).await.unwrap();
        std::mem::replace(&mut self.store, store)
    }

    /// Another process begins to write; the one before tries to go on.
    async fn take_over(&mut self) {
        let old = self.open_again().await;
        let wrong = Event { time: 0, position: self.head(), amount: 1 << 40 };
        let keys: Vec<_> = (1..=KEYS).map(|key| (vec![key], wrong)).collect();
        let lane = Lane::Live { from: self.head(), to: self.head() + 1 };
        let late = old.apply(1, lane, &keys).await;
        assert!(late.is_err(), "a writer that was replaced writes");
        match old.renew().await {
            Err(Error::StateFenced { .. }) => self.heal().await,
            // Everything was lost and the new writer's lease has run out: it is one of two.
            Ok(()) => Box::pin(self.take_over()).await,
            other => panic!("{other:?}"),
        }
    }

    /// What a server does about lost state: fill the lost shards, then replay the log.
    async fn heal(&mut self) {
        for _ in 0..100 {
            match self.try_to_heal().await {
                Ok(()) => return,
                Err(
                    Error::StateLost { .. }
                    | Error::StateGap { .. }
                    | Error::FillGap { .. }
                    | Error::StoreUnavailable { .. },
                ) => {}
                // A request that was held lets in a writer of before.
                Err(Error::StateFenced { .. }) => drop(self.open_again().await),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("it does not heal");
    }

    async fn try_to_heal(&mut self) -> Result<(), Error> {
        let head = self.head();
        let coverage = self.store.coverage(1).await?;
        let unready = |(shard, coverage): (usize, &Coverage)| {
            (!matches!(coverage, Coverage::Ready { .. })).then_some(shard as u32)
        };
        let shards: Vec<u32> = coverage.iter().enumerate().filter_map(unready).collect();
        if !shards.is_empty() {
            self.store.begin_fill(1, &shards, head).await?;
            for (sequence, from) in (1..head).step_by(40).enumerate() {
                let events = self.events(from..head.min(from + 40));
                self.store.apply(1, Lane::Fill { sequence: sequence as u64 }, &events).await?;
            }
            self.store.finish_fill(1).await?;
        }
        for part in replay(&self.store.coverage(1).await?, head) {
            let lane = Lane::Live { from: part.start, to: part.end };
            self.store.apply(1, lane, &self.events(part)).await?;
        }
        Ok(())
    }

    /// Questions to the writer and to the reader: right or refused.
    async fn check(&mut self, must_answer: bool) {
        for _ in 0..4 {
            let want: Want = question(&mut self.rng);
            let keys: Vec<Vec<u8>> = (1..=KEYS).map(|key| vec![key]).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let from_writer = ask(&self.store, 1, &keys, want).await;
            // A reader cannot know that what it never saw was forgotten, as long as the writer has
            // not noticed either.
            let mut all = vec![from_writer];
            if all[0].is_ok() {
                all.push(ask(&self.reader, 1, &keys, want).await);
            }
            for answers in all {
                match answers {
                    Ok(answers) => {
                        for (key, answer) in keys.iter().zip(answers) {
                            let of_key = self.log.iter().filter(|(other, _)| other == key);
                            let events: Vec<Event> = of_key.map(|(_, event)| *event).collect();
                            assert_eq!(answer.unwrap_or(0), expected(&events, want), "{want:?}");
                        }
                    }
                    Err(
                        Error::StateLost { .. }
                        | Error::StateBehind { .. }
                        | Error::StateNotReady { .. },
                    ) if !must_answer => {}
                    Err(Error::StateForgotten { before, .. }) => {
                        let earliest = TestCell::earliest(&Default::default(), &want);
                        assert!(earliest < before && before <= self.kept_from, "{want:?} {before}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}
