//! What this process knows of a space: its schema, how far its shards have been seen to go, and,
//! in the writer, where its next writes continue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::Names;
use crate::online::cell::Cell;

/// A space that this process has created.
pub(super) struct Space<C: Cell> {
    pub(super) id: u32,
    pub(super) schema: Arc<C::Schema>,
    /// The name of each shard's hash of cells.
    cells: Vec<Vec<u8>>,
    /// The highest position seen of each shard. Positions are the log's: they outlive generations.
    seen: Vec<AtomicU64>,
    /// Held while a batch is applied, across its calls: batches have an order. Reads do not need it.
    pub(super) progress: tokio::sync::Mutex<Progress>,
}

impl<C: Cell> Space<C> {
    pub(super) fn new(id: u32, schema: Arc<C::Schema>, names: &Names) -> Space<C> {
        let shards = names.shards();
        let seen = (0..shards).map(|_| AtomicU64::new(0)).collect();
        let progress = Progress {
            shards: vec![None; shards as usize],
            live_next: None,
            fill_next: 0,
            turn: 0,
            dropped: false,
        };
        let cells = (0..shards).map(|shard| names.cells(id, shard)).collect();
        Space { id, schema, cells, seen, progress: tokio::sync::Mutex::new(progress) }
    }

    /// The name of a shard's hash of cells.
    pub(super) fn cells(&self, shard: u32) -> &[u8] {
        self.cells.get(shard as usize).map_or(&[], Vec::as_slice)
    }

    /// The position that an answer to a call made from now on cannot be below.
    pub(super) fn seen(&self, shard: u32) -> u64 {
        self.seen.get(shard as usize).map_or(0, |seen| seen.load(Ordering::SeqCst))
    }

    /// A shard begins anew at a position, whatever was seen of it.
    pub(super) fn restart_seen(&self, shard: u32, position: u64) {
        if let Some(seen) = self.seen.get(shard as usize) {
            seen.store(position, Ordering::SeqCst);
        }
    }

    pub(super) fn raise_seen(&self, shard: u32, position: u64) {
        // Most reads see nothing new: they do not write to memory that others read.
        if let Some(seen) = self.seen.get(shard as usize)
            && seen.load(Ordering::SeqCst) < position
        {
            seen.fetch_max(position, Ordering::SeqCst);
        }
    }
}

/// Where the writer's next calls continue.
pub(super) struct Progress {
    /// What each shard's witness says, as far as this process knows; `None` if it is lost.
    pub(super) shards: Vec<Option<ShardProgress>>,
    /// Every live event below it was applied to the shards that are not lost. A shard's own
    /// position may be lower: then none of the events between concerns it. `None` until known.
    pub(super) live_next: Option<u64>,
    /// The fill batch that comes next.
    pub(super) fill_next: u64,
    /// The shard whose turn it is to be told the position without having events.
    pub(super) turn: u32,
    /// The space is gone.
    pub(super) dropped: bool,
}

/// What a witness is known to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardProgress {
    pub(super) position: u64,
    /// Which fill this is (the upper half, a random number) and the number of its next batch (the
    /// lower half). A call of an earlier fill that Redis executes late continues nothing.
    pub(super) fill: u64,
    pub(super) ready: bool,
}

/// The largest number of batches in a fill.
pub(super) const FILL_BATCHES: u64 = u32::MAX as u64;

impl ShardProgress {
    /// The value of `fill` before the fill batch with this number.
    pub(super) fn fill_at(&self, sequence: u64) -> u64 {
        (self.fill & !FILL_BATCHES) | sequence
    }
}

impl Progress {
    pub(super) fn shard(&self, shard: u32) -> Option<ShardProgress> {
        self.shards.get(shard as usize).copied().flatten()
    }

    pub(super) fn set(&mut self, shard: u32, progress: Option<ShardProgress>) {
        if let Some(slot) = self.shards.get_mut(shard as usize) {
            *slot = progress;
        }
    }

    pub(super) fn lost(&self) -> Vec<u32> {
        let lost = self.shards.iter().enumerate().filter(|(_, shard)| shard.is_none());
        lost.map(|(shard, _)| shard as u32).collect()
    }

    /// Events from `position` on may be missing from a shard.
    pub(super) fn fall_back(&mut self, position: u64) {
        self.live_next = Some(self.live_next.map_or(position, |next| next.min(position)));
    }
}
