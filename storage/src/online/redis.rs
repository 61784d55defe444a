//! The online store in Redis: one process writes, many read.
//!
//! A cell is a value to which the writer appends events, without reading it; now and then it folds
//! what was appended into a tree. All cells of a shard, and a *witness* of how far they go, are in
//! one hash: whatever is written or read is written or read together with the witness, in one step.
//!
//! Invariants:
//!
//! 1. A witness that is ready and has the database's generation and a position p is proof that the
//!    shard holds every event of its keys below p, once. No script writes cells but under a check
//!    of the witness, and none changes the one without the other.
//! 2. Every write names where it continues (a position, a fill batch, a fold). Again, late or out
//!    of order, it does nothing. So a call without an answer is made again.
//! 3. What a cell has forgotten is before the time that the witness says. That time falls only when
//!    the shard is filled anew.
//! 4. Epochs only grow. A writer with a lower epoch than a shard's changes nothing in it.
//! 5. Positions of a shard, as one process sees them, only grow; if not, the read fails.
//! 6. This code reads no clock and spawns no task: leases end by the clock of Redis.
//!
//! Layout: `redis/layout.rs`. Why it is so: `docs/design/0007-redis-online-store.md`.

mod apply;
mod connection;
mod deep;
mod failure;
mod fill;
mod fold;
mod forget;
mod layout;
mod lookup;
mod options;
mod pipe;
mod script;
mod sentinel;
mod space;
mod witness;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use connection::Connection;
use deep::DeepKeys;
use layout::{Generation, Names};
use options::Nodes;
pub use options::RedisOptions;
use space::Space;
pub use writer::Writer;
use writer::Writing;

use super::cell::{Cell, Look};
use super::{Coverage, Lane, OnlineStore};
use crate::error::Error;

/// An [`OnlineStore`] in Redis.
pub struct Redis<C: Cell> {
    database: String,
    names: Names,
    /// Whether calls that name several slots are refused.
    cluster: bool,
    /// Reads do not wait behind large writes.
    reads: Connection,
    writes: Connection,
    spaces: RwLock<HashMap<u32, Arc<Space<C>>>>,
    /// Which cells are asked for by the script at once.
    deep: DeepKeys,
    /// The generation whose witnesses are believed; a reader learns it from the database's record.
    generation: Mutex<Option<Generation>>,
    writing: Option<Writing>,
    /// How many connections there had been at the last upkeep.
    seen: AtomicU64,
}

impl<C: Cell> std::fmt::Debug for Redis<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("database", &self.database)
            .field("names", &self.names)
            .field("writing", &self.writing)
            .finish_non_exhaustive()
    }
}

impl<C: Cell> Redis<C> {
    /// A store that reads the state of `database`, which another process writes.
    ///
    /// # Errors
    /// [`Error::StoreUrl`]; [`Error::StoreUnavailable`] and [`Error::StoreDenied`];
    /// [`Error::ForeignState`] if the prefix is another database's.
    pub async fn open_reader(options: &RedisOptions, database: &str) -> Result<Self, Error> {
        let store = Self::new(options, database)?;
        let generation = store.recorded_generation().await?;
        *store.generation.lock() = generation;
        Ok(store)
    }

    /// The id of the database whose state is there.
    ///
    /// # Errors
    /// [`Error::NoState`] if there is none; those of [`open_reader`](Self::open_reader).
    pub async fn recorded_database(options: &RedisOptions) -> Result<String, Error> {
        let store = Self::new(options, "")?;
        let none = || Error::NoState { prefix: options.prefix.clone() };
        store.record_field("database").await?.map(into_text).ok_or_else(none)
    }

    /// A store that writes. It takes the next epoch: from then on an earlier writer changes
    /// nothing.
    ///
    /// # Errors
    /// As [`open_reader`](Self::open_reader), and
    /// * [`Error::StoreEvicts`]: the store may evict keys;
    /// * [`Error::WriterLeased`]: another holder writes, or did until a moment ago;
    /// * [`Error::StateFenced`]: another writer took over meanwhile.
    pub async fn open_writer(options: &RedisOptions, writer: &Writer) -> Result<Self, Error> {
        let mut store = Self::new(options, &writer.database)?;
        store.refuse_eviction().await?;
        let (writing, generation) = store.take_over(writer).await?;
        store.writing = Some(writing);
        *store.generation.lock() = Some(generation);
        store.stamp_everything().await?;
        store.seen = store.connections().into();
        Ok(store)
    }

    fn new(options: &RedisOptions, database: &str) -> Result<Self, Error> {
        options.check()?;
        Ok(Redis {
            database: database.to_owned(),
            names: Names::new(&options.prefix, options.shards),
            cluster: matches!(options.nodes()?, Nodes::Cluster(_)),
            reads: Connection::new(options)?,
            writes: Connection::new(options)?,
            spaces: RwLock::default(),
            deep: DeepKeys::default(),
            generation: Mutex::new(None),
            writing: None,
            seen: AtomicU64::new(0),
        })
    }

    fn space(&self, space: u32) -> Result<Arc<Space<C>>, Error> {
        self.spaces.read().get(&space).cloned().ok_or(Error::UnknownSpace { space })
    }

    fn writing(&self) -> Result<&Writing, Error> {
        self.writing.as_ref().ok_or(Error::StoreReadOnly)
    }

    /// The two keys of a shard.
    fn shard_keys(&self, space: u32, shard: u32) -> [Vec<u8>; 2] {
        [self.names.cells(space, shard), self.names.nodes(space, shard)]
    }
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[async_trait::async_trait]
impl<C: Cell> OnlineStore<C> for Redis<C> {
    async fn create_space(&self, space: u32, schema: Arc<C::Schema>) -> Result<(), Error> {
        self.spaces
            .write()
            .entry(space)
            .or_insert_with(|| Arc::new(Space::new(space, schema, &self.names)));
        Ok(())
    }

    async fn drop_space(&self, space: u32) -> Result<(), Error> {
        let known = self.spaces.write().remove(&space);
        if let Some(space) = known {
            // Waits for a batch that is being applied; one that waits finds no space.
            space.progress.lock().await.dropped = true;
        }
        if self.writing.is_some() { self.unlink_space(space).await } else { Ok(()) }
    }

    async fn apply(
        &self,
        space: u32,
        lane: Lane,
        changes: &[(Vec<u8>, C::Change)],
    ) -> Result<(), Error> {
        super::check_keys(changes.iter().map(|(key, _)| key.as_slice()))?;
        let space = self.space(space)?;
        let changes = self.encode(&space, changes)?;
        self.apply_encoded(&space, lane, changes).await
    }

    async fn coverage(&self, space: u32) -> Result<Vec<Coverage>, Error> {
        let space = self.space(space)?;
        if self.writing.is_some() {
            self.coverage_of_writer(&space).await
        } else {
            self.coverage_of_reader(&space).await
        }
    }

    async fn begin_fill(&self, space: u32, shards: &[u32], position: u64) -> Result<(), Error> {
        let space = self.space(space)?;
        self.reset_shards(&space, shards, position).await
    }

    async fn finish_fill(&self, space: u32) -> Result<(), Error> {
        let space = self.space(space)?;
        self.ready_shards(&space).await
    }

    async fn forget_before(&self, space: u32, time: i64) -> Result<u64, Error> {
        let space = self.space(space)?;
        self.forget(&space, time).await
    }

    async fn read(
        &self,
        space: u32,
        keys: &[&[u8]],
        want: &C::Want,
        look: &mut (dyn for<'a> FnMut(usize, Option<&'a C>) -> Look + Send),
    ) -> Result<(), Error> {
        super::check_keys(keys.iter().copied())?;
        let space = self.space(space)?;
        self.read_cells(&space, keys, want, look).await
    }

    async fn keys(
        &self,
        space: u32,
        visit: &mut (dyn for<'a> FnMut(&'a [u8]) + Send),
    ) -> Result<(), Error> {
        let space = self.space(space)?;
        self.visit_keys(&space, visit).await
    }

    async fn len(&self, space: u32) -> Result<u64, Error> {
        let space = self.space(space)?;
        self.count_keys(&space).await
    }

    async fn settle(&self, space: u32) -> Result<(), Error> {
        Redis::settle(self, space).await
    }

    async fn stored_spaces(&self) -> Result<Vec<u32>, Error> {
        Redis::stored_spaces(self).await
    }

    async fn upkeep(&self) -> Result<bool, Error> {
        self.renew().await?;
        let made = self.connections();
        Ok(self.seen.swap(made, Ordering::AcqRel) != made)
    }

    async fn store_document(&self, document: &[u8]) -> Result<(), Error> {
        Redis::store_document(self, document).await
    }

    async fn document(&self) -> Result<Option<Vec<u8>>, Error> {
        self.record_field("document").await
    }

    async fn release(&self) -> Result<(), Error> {
        Redis::release(self).await
    }
}
