//! The online store in this process: cells in memory that take changes directly.
//!
//! It has one shard, whose cells are behind many locks. Batches of a space are applied one after
//! the other. If a cell refuses its events in the middle of a batch, the shard is lost: nobody
//! reads half a batch.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::available_parallelism;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use super::cell::{Cell, Look};
use super::embedded::{Embedded, SHARDS};
use super::{Coverage, Lane, OnlineStore};
use crate::error::Error;

/// Changes that are worth the start of threads.
const SIDE_BY_SIDE: usize = 4096;
/// Cells that forget between two batches.
const FORGETTING_AT_ONCE: usize = 1024;
/// How often a cell that holds everything is shown to a reader that asks for more.
const LOOKS: usize = 16;

struct Space<C: Cell> {
    schema: Arc<C::Schema>,
    coverage: RwLock<Coverage>,
    /// What is before it may be forgotten. It is raised before the first cell forgets, and read
    /// under the lock of the cell: whoever finds it lower finds a cell that has forgotten less.
    kept_from: AtomicI64,
    /// How many fills have begun: what was read beside that is none.
    fills: AtomicU64,
    /// The next fill batch; the lock is held while a batch is applied, or cells forget.
    next_fill: Mutex<u64>,
}

/// An [`OnlineStore`] in the memory of this process.
pub struct EmbeddedStore<C: Cell> {
    cells: Embedded<C>,
    spaces: RwLock<HashMap<u32, Arc<Space<C>>>>,
}

impl<C: Cell> Default for EmbeddedStore<C> {
    fn default() -> Self {
        EmbeddedStore { cells: Embedded::new(), spaces: RwLock::default() }
    }
}

impl<C: Cell> std::fmt::Debug for EmbeddedStore<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

impl<C: Cell> EmbeddedStore<C> {
    /// An empty store without spaces.
    pub fn new() -> Self {
        Self::default()
    }

    fn space(&self, space: u32) -> Result<Arc<Space<C>>, Error> {
        self.spaces.read().get(&space).cloned().ok_or(Error::UnknownSpace { space })
    }

    /// How many fills a space has had, if it can be read.
    fn readable(found: &Space<C>, space: u32) -> Result<u64, Error> {
        let fills = found.fills.load(Ordering::SeqCst);
        match *found.coverage.read() {
            Coverage::Ready { .. } => Ok(fills),
            Coverage::Filling { .. } => Err(Error::StateNotReady { space, shard: 0 }),
            Coverage::Lost => Err(Error::StateLost { space, shards: vec![0] }),
        }
    }

    /// Fails if a fill has begun, or a batch has failed, since there had been `fills`.
    fn check_still(found: &Space<C>, space: u32, fills: u64) -> Result<(), Error> {
        match Self::readable(found, space)? == fills {
            true => Ok(()),
            false => Err(Error::StateNotReady { space, shard: 0 }),
        }
    }

    /// Whether the batch has to be applied.
    fn is_next(found: &Space<C>, space: u32, lane: Lane, next_fill: u64) -> Result<bool, Error> {
        let coverage = *found.coverage.read();
        let position = match coverage {
            Coverage::Lost => return Err(Error::StateLost { space, shards: vec![0] }),
            Coverage::Filling { position } | Coverage::Ready { position } => position,
        };
        match lane {
            Lane::Live { to, .. } if to <= position => Ok(false),
            Lane::Live { from, .. } if from == position => Ok(true),
            Lane::Live { from, to } => Err(Error::StateGap { space, position, from, to }),
            Lane::Fill { sequence } if sequence < next_fill => Ok(false),
            Lane::Fill { sequence } => {
                let filling = matches!(coverage, Coverage::Filling { .. });
                if sequence == next_fill && filling {
                    return Ok(true);
                }
                Err(Error::FillGap { space, sequence, next: next_fill })
            }
        }
    }

    /// Makes changes; of a large batch on all cores, those of a cell by one of them, in their order.
    fn change_all(
        &self,
        space: u32,
        schema: &C::Schema,
        changes: &[(Vec<u8>, C::Change)],
    ) -> Result<(), Error> {
        let workers = match changes.len() < SIDE_BY_SIDE {
            true => 1,
            false => available_parallelism().map_or(1, usize::from).min(SHARDS),
        };
        if workers == 1 {
            return changes.iter().try_for_each(|change| self.change(space, schema, change));
        }
        let work = |worker: usize| {
            let of_worker = |(key, _): &&(Vec<u8>, _)| self.cells.shard_of(key) % workers == worker;
            let mut changes = changes.iter().filter(of_worker);
            changes.try_for_each(|change| self.change(space, schema, change))
        };
        std::thread::scope(|scope| {
            let work = &work;
            let others = (1..workers).map(|worker| scope.spawn(move || work(worker)));
            let others: Vec<_> = others.collect();
            let mut result = work(0);
            for other in others {
                result = result.and(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            result
        })
    }

    fn change(
        &self,
        space: u32,
        schema: &C::Schema,
        (key, change): &(Vec<u8>, C::Change),
    ) -> Result<(), Error> {
        let mut result = Ok(());
        self.cells.update(space, key, &mut || C::empty(schema), &mut |cell| {
            result = cell.apply(schema, change);
        })?;
        result.map_err(|source| Error::Cell { space, source })
    }

    /// Lets some cells forget, unless the shard has become another; returns how many changed.
    fn forget_some(&self, space: u32, time: i64, keys: &[Box<[u8]>]) -> Result<u64, Error> {
        // Nobody drops the space, or begins to fill it, meanwhile.
        let spaces = self.spaces.read();
        let found = spaces.get(&space).ok_or(Error::UnknownSpace { space })?;
        let _next_fill = found.next_fill.lock();
        if found.kept_from.load(Ordering::SeqCst) < time {
            return Ok(0);
        }
        let mut changed = 0;
        for key in keys {
            let mut result = Ok(false);
            self.cells.update_present(space, key, &mut |cell| {
                result = cell.forget_before(&found.schema, time);
            })?;
            changed += u64::from(result.map_err(|source| Error::Cell { space, source })?);
        }
        Ok(changed)
    }
}

#[async_trait::async_trait]
impl<C: Cell> OnlineStore<C> for EmbeddedStore<C> {
    async fn create_space(&self, space: u32, schema: Arc<C::Schema>) -> Result<(), Error> {
        let mut spaces = self.spaces.write();
        if self.cells.create_space(space)? {
            let coverage = RwLock::new(Coverage::Lost);
            let (kept_from, fills) = (AtomicI64::new(i64::MIN), AtomicU64::new(0));
            let next_fill = Mutex::new(0);
            let new = Space { schema, coverage, kept_from, fills, next_fill };
            spaces.insert(space, Arc::new(new));
        }
        Ok(())
    }

    async fn drop_space(&self, space: u32) -> Result<(), Error> {
        // The cells go first: a batch that is being applied fails.
        let mut spaces = self.spaces.write();
        self.cells.drop_space(space)?;
        spaces.remove(&space);
        Ok(())
    }

    async fn apply(
        &self,
        space: u32,
        lane: Lane,
        changes: &[(Vec<u8>, C::Change)],
    ) -> Result<(), Error> {
        super::check_keys(changes.iter().map(|(key, _)| key.as_slice()))?;
        let found = self.space(space)?;
        let mut next_fill = found.next_fill.lock();
        if !Self::is_next(&found, space, lane, *next_fill)? {
            return Ok(());
        }
        if let Err(error) = self.change_all(space, &found.schema, changes) {
            *found.coverage.write() = Coverage::Lost;
            return Err(error);
        }
        match (lane, &mut *found.coverage.write()) {
            (Lane::Fill { sequence }, _) => *next_fill = sequence + 1,
            (
                Lane::Live { to, .. },
                Coverage::Filling { position } | Coverage::Ready { position },
            ) => {
                *position = to;
            }
            (Lane::Live { .. }, Coverage::Lost) => {}
        }
        Ok(())
    }

    async fn coverage(&self, space: u32) -> Result<Vec<Coverage>, Error> {
        Ok(vec![*self.space(space)?.coverage.read()])
    }

    async fn begin_fill(&self, space: u32, shards: &[u32], position: u64) -> Result<(), Error> {
        if shards.is_empty() {
            return Ok(());
        }
        // Nobody drops the space between the two steps below.
        let spaces = self.spaces.read();
        let found = spaces.get(&space).ok_or(Error::UnknownSpace { space })?;
        let mut next_fill = found.next_fill.lock();
        let mut coverage = found.coverage.write();
        found.fills.fetch_add(1, Ordering::SeqCst);
        self.cells.drop_space(space)?;
        self.cells.create_space(space)?;
        found.kept_from.store(i64::MIN, Ordering::SeqCst);
        *next_fill = 0;
        *coverage = Coverage::Filling { position };
        Ok(())
    }

    async fn finish_fill(&self, space: u32) -> Result<(), Error> {
        let found = self.space(space)?;
        let mut coverage = found.coverage.write();
        match *coverage {
            Coverage::Filling { position } => *coverage = Coverage::Ready { position },
            Coverage::Ready { .. } => {}
            Coverage::Lost => return Err(Error::StateLost { space, shards: vec![0] }),
        }
        Ok(())
    }

    async fn forget_before(&self, space: u32, time: i64) -> Result<u64, Error> {
        let found = self.space(space)?;
        {
            // Filling begins and ends under this lock, too.
            let coverage = found.coverage.write();
            if !matches!(*coverage, Coverage::Ready { .. }) {
                return Ok(0);
            }
            found.kept_from.fetch_max(time, Ordering::SeqCst);
        }
        let mut changed = 0;
        for shard in 0..SHARDS {
            for keys in self.cells.keys_of(space, shard)?.chunks(FORGETTING_AT_ONCE) {
                changed += self.forget_some(space, time, keys)?;
                tokio::task::yield_now().await;
            }
        }
        Ok(changed)
    }

    async fn read(
        &self,
        space: u32,
        keys: &[&[u8]],
        want: &C::Want,
        look: &mut (dyn for<'a> FnMut(usize, Option<&'a C>) -> Look + Send),
    ) -> Result<(), Error> {
        super::check_keys(keys.iter().copied())?;
        // Nobody drops the space meanwhile; `look` does not call the store.
        let spaces = self.spaces.read();
        let found = spaces.get(&space).ok_or(Error::UnknownSpace { space })?;
        let fills = Self::readable(found, space)?;
        let earliest = C::earliest(&found.schema, want);
        let mut outcome = Ok(());
        let mut show = |index: usize, cell: Option<&C>| {
            let before = found.kept_from.load(Ordering::SeqCst);
            if outcome.is_err() {
                // The read has failed.
            } else if earliest < before {
                outcome = Err(Error::StateForgotten { space, before });
            } else if !(0..LOOKS).any(|_| look(index, cell) == Look::Done || cell.is_none()) {
                // All of the cell is here: whoever asks for more is shown the same again.
                outcome = Err(super::insatiable(space));
            }
        };
        self.cells.read(space, keys, C::touch, &mut show)?;
        outcome?;
        Self::check_still(found, space, fills)
    }

    async fn keys(
        &self,
        space: u32,
        visit: &mut (dyn for<'a> FnMut(&'a [u8]) + Send),
    ) -> Result<(), Error> {
        let fills = Self::readable(&*self.space(space)?, space)?;
        self.cells.keys(space, visit)?;
        Self::check_still(&*self.space(space)?, space, fills)
    }

    async fn len(&self, space: u32) -> Result<u64, Error> {
        let fills = Self::readable(&*self.space(space)?, space)?;
        let cells = self.cells.len(space)?;
        Self::check_still(&*self.space(space)?, space, fills)?;
        Ok(cells as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::conformance;
    use crate::online::conformance::test_cell::TestCell;

    /// What a reader sees while a fill begins is no answer.
    #[tokio::test]
    async fn a_read_beside_the_beginning_of_a_fill_fails() {
        let store = Arc::new(EmbeddedStore::<TestCell>::new());
        conformance::ready(&*store, 1, 1).await;
        for restarts in [false, true] {
            let mut look = |_: usize, _: Option<&TestCell>| {
                if restarts {
                    // As another thread would, between two keys.
                    let found = store.space(1).unwrap();
                    found.fills.fetch_add(1, Ordering::SeqCst);
                }
                Look::Done
            };
            let read = store.read(1, &[b"a", b"b"], &conformance::ALL, &mut look).await;
            match restarts {
                false => read.unwrap(),
                true => assert!(matches!(read, Err(Error::StateNotReady { .. })), "{read:?}"),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        conformance::run(async || EmbeddedStore::<TestCell>::new()).await;
    }
}
