//! A track as the applier keeps it: how far its online state has come, and what is wrong with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::jobs::Job;
use crate::track::{Track, TrackProgram};

/// A track that is kept up to date.
#[derive(Debug)]
pub struct LiveTrack {
    /// The name of its entity.
    pub entity: String,
    /// The track.
    pub track: Arc<Track>,
    /// Its expressions, compiled.
    pub program: TrackProgram,
    /// Rows from this position on arrive by ingest; those before it by the fill.
    pub live_from: u64,
    /// The position up to which the applier has applied rows; it alone changes it.
    pub applied: AtomicU64,
    /// Whether its state is complete, or why it cannot be.
    filled: watch::Sender<Filled>,
    /// The job of filling it that runs or ran last.
    fill: Mutex<Option<Arc<Job>>>,
    /// Whether it has been complete before.
    was_whole: AtomicBool,
    /// Whether the applier was asked to repair it and has not begun.
    repair_asked: AtomicBool,
    /// The time before which its state has been made to forget events; `i64::MIN` if it has not.
    forgotten_before: AtomicI64,
    /// What its state is known to lack.
    damage: Mutex<Damage>,
    /// Whether the database is closing: then nobody waits for a store.
    stopping: Arc<AtomicBool>,
}

/// What a track's state lacks, although the store says that it has it.
#[derive(Debug, Default)]
pub struct Damage {
    /// All of it may be wrong.
    all: bool,
    /// Shards of which a read found something missing.
    shards: Vec<u32>,
}

impl Damage {
    /// Whether a shard is to be filled anew.
    pub fn concerns(&self, shard: u32) -> bool {
        self.all || self.shards.contains(&shard)
    }
}

/// How far the filling of a track has come.
#[derive(Clone, Debug)]
pub enum Filled {
    /// Rows are missing.
    Not,
    /// All rows are there.
    Whole,
    /// It cannot be filled.
    Failed(Arc<Error>),
}

impl LiveTrack {
    /// A track whose rows come by ingest from `live_from` on. `stopping` is set when nobody is to
    /// wait for its store any more.
    pub fn new(
        (entity, track): (&str, Arc<Track>),
        program: TrackProgram,
        live_from: u64,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        LiveTrack {
            entity: entity.to_owned(),
            track,
            program,
            live_from,
            applied: live_from.into(),
            filled: watch::Sender::new(Filled::Not),
            fill: Mutex::default(),
            was_whole: AtomicBool::new(false),
            repair_asked: AtomicBool::new(false),
            forgotten_before: AtomicI64::new(i64::MIN),
            damage: Mutex::default(),
            stopping,
        }
    }

    /// Waits until its state is complete.
    ///
    /// # Errors
    /// It cannot be.
    pub async fn whole(&self) -> Result<()> {
        let mut filled = self.filled.subscribe();
        let settled = filled.wait_for(|filled| !matches!(filled, Filled::Not)).await;
        match settled.map(|filled| filled.clone()) {
            Ok(Filled::Failed(reason)) => Err(Error::Fill(reason)),
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Closing),
        }
    }

    /// Why it cannot be complete, if it can't.
    pub fn failure(&self) -> Option<Arc<Error>> {
        match &*self.filled.borrow() {
            Filled::Failed(reason) => Some(Arc::clone(reason)),
            _ => None,
        }
    }

    /// Whether its state is complete.
    pub fn is_whole(&self) -> bool {
        matches!(*self.filled.borrow(), Filled::Whole)
    }

    /// The time before which its state has been made to forget events; `i64::MIN` if it has not.
    pub fn forgotten_before(&self) -> i64 {
        self.forgotten_before.load(Ordering::Acquire)
    }

    /// Says that its state has been made to forget.
    pub fn forgot(&self, before: i64) {
        self.forgotten_before.store(before, Ordering::Release);
    }

    /// Says how far it is filled.
    pub fn settle(&self, filled: Filled) {
        if matches!(filled, Filled::Not) {
            // What is filled anew has all events.
            self.forgot(i64::MIN);
        }
        if matches!(filled, Filled::Whole) {
            self.was_whole.store(true, Ordering::Release);
        }
        self.filled.send_replace(filled);
    }

    /// Says which job fills it.
    pub fn filling(&self, job: &Arc<Job>) {
        *self.fill.lock() = Some(Arc::clone(job));
    }

    /// The job of filling it that runs or ran last.
    pub fn fill(&self) -> Option<Arc<Job>> {
        self.fill.lock().clone()
    }

    /// Whether its state was complete before: then whatever fails now passes.
    pub fn was_whole(&self) -> bool {
        self.was_whole.load(Ordering::Acquire)
    }

    /// Says that the applier begins to repair it; adds to `damage` what is known to be missing.
    pub fn repairing(&self, damage: &mut Damage) {
        self.repair_asked.store(false, Ordering::Release);
        let known = std::mem::take(&mut *self.damage.lock());
        damage.all |= known.all;
        damage.shards.extend(known.shards);
    }

    /// Says that it is to be repaired; returns whether that is news.
    pub fn ask_for_repair(&self) -> bool {
        !self.repair_asked.swap(true, Ordering::AcqRel)
    }

    /// Says that a shard lacks something, although the store says that it has it.
    pub fn distrust_shard(&self, shard: u32) {
        self.damage.lock().shards.push(shard);
    }

    /// Says that nothing of its state can be trusted.
    pub fn distrust(&self) {
        self.damage.lock().all = true;
    }

    /// Whether a store is still to be waited for.
    pub fn is_wanted(&self) -> bool {
        !self.track.is_retired() && !self.stopping.load(Ordering::Acquire)
    }
}
