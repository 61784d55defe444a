//! The online store: the present state of every entity, one cell per (space, key).
//!
//! A *space* is a `u32` that names one kind of state, for instance one (entity, event table) pair;
//! a key is an encoded entity key ([`crate::key`]), never empty. A cell is a timeline ([`Cell`]).
//! Online state is derived: whoever owns it can rebuild it from the history and the log.
//!
//! A store divides the keys of a space into *shards*. A shard says how far it goes: every event of
//! its keys below its *position* is in it. It is lost as a whole, is filled as a whole, and takes
//! its part of a batch as a whole.

mod cell;
mod embedded;
mod embedded_store;
pub mod redis;

#[cfg(test)]
mod conformance;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub use cell::{Cell, CellError, Entry, Look, Node, Place, TailLimit};
pub use embedded::Embedded;
pub use embedded_store::EmbeddedStore;
pub use redis::{Redis, RedisOptions, Writer};

use crate::error::Error;

/// How events come into a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The events at the positions `from` to `to` (exclusive), in the order of the log. The next
    /// batch starts where this one ends.
    Live {
        /// The first position.
        from: u64,
        /// The position after the last.
        to: u64,
    },
    /// The events below the position given to [`begin_fill`](OnlineStore::begin_fill), in batches
    /// numbered 0, 1, 2 and so on.
    Fill {
        /// The batch's number.
        sequence: u64,
    },
}

/// What a shard has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Nothing, or nothing that can be trusted: it has to be filled.
    Lost,
    /// The live events from `position` on are still to come, those before the fill's position are
    /// coming. It cannot be read. After a restart, begin the fill again.
    Filling {
        /// Every live event below it is there.
        position: u64,
    },
    /// Every event below `position` is there.
    Ready {
        /// The position.
        position: u64,
    },
}

/// The contract of an online store. Every store passes `online/conformance.rs`.
///
/// * One process writes; in it, calls that write to one space wait for each other.
/// * A batch is in a shard as a whole or not at all. Applying it again has no effect, so that after
///   an error whose outcome is unknown the same call is simply made again.
/// * A read that starts after `apply` returned sees the batch, in this process and in others.
/// * A read answers from a complete shard or fails: it never mistakes lost state for none.
/// * `look` and `visit` may run under a lock of the store: they must be short and not call it.
#[async_trait::async_trait]
pub trait OnlineStore<C: Cell>: Send + Sync {
    /// Makes `space` known here. Its shards are what [`coverage`](Self::coverage) says: in a new
    /// space all are lost. An existing space is left as it is.
    ///
    /// # Errors
    /// [`Error::Reentrant`] from within a callback.
    async fn create_space(&self, space: u32, schema: Arc<C::Schema>) -> Result<(), Error>;

    /// Drops `space` and all its cells; later calls that name it fail. No effect if it is unknown.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply).
    async fn drop_space(&self, space: u32) -> Result<(), Error>;

    /// Adds a batch of events. A key may occur many times.
    ///
    /// A live batch that ends at or below a shard's position has no effect on this shard. To
    /// replay the log after a restart, start at the lowest position of [`coverage`](Self::coverage)
    /// and end a batch at every position it names ([`replay`]).
    ///
    /// # Errors
    /// * [`Error::StateGap`]: events are missing before the batch, or a shard has a part of it. Ask
    ///   for [`coverage`](Self::coverage) and replay.
    /// * [`Error::StateLost`]: shards have to be filled; the others have the batch.
    /// * [`Error::StateFenced`]: another process writes now.
    /// * [`Error::StoreUnavailable`]: no answer; the batch is in or not. Call again.
    /// * [`Error::StoreRefusesWrites`]: the store has no room, for instance. Call again later.
    /// * [`Error::Cell`]: a cell does not take its events.
    async fn apply(
        &self,
        space: u32,
        lane: Lane,
        changes: &[(Vec<u8>, C::Change)],
    ) -> Result<(), Error>;

    /// What each shard has, by the shard's number. In the writer, it also makes the store's idea
    /// of the space follow what is really there.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), without those about batches.
    async fn coverage(&self, space: u32) -> Result<Vec<Coverage>, Error>;

    /// Empties `shards` and begins to fill them: events from `position` on come by the live lane,
    /// those before it by the fill lane. All shards that are filling in a space are filled by the
    /// same batches; beginning with others restarts none, so begin with all at once.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), without those about batches.
    async fn begin_fill(&self, space: u32, shards: &[u32], position: u64) -> Result<(), Error>;

    /// Makes the shards that were filled ready.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    async fn finish_fill(&self, space: u32) -> Result<(), Error>;

    /// Forgets events before `time` of all cells of the shards that are ready: a cell may keep some,
    /// and always keeps its last event. Returns how many cells changed.
    ///
    /// First the shards are told, once and for all: from then on a read that reaches back further
    /// fails. Then the cells forget, some at a time, beside all other calls. Wherever that ends, it
    /// can be done again. Later events may be earlier than `time`. A fill makes a shard anew, with
    /// all its events.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), without those about batches.
    async fn forget_before(&self, space: u32, time: i64) -> Result<u64, Error>;

    /// Shows the cells of `keys` to `look`, with the key's index, in any order. `None` is a key
    /// without events. A cell is shown again after [`Look::More`].
    ///
    /// # Errors
    /// * [`Error::UnknownSpace`]; [`Error::Reentrant`] from within a callback.
    /// * [`Error::StateLost`], [`Error::StateNotReady`], [`Error::StateBehind`]: a shard cannot be
    ///   read (yet). Some cells may have been shown.
    /// * [`Error::StateForgotten`]: what `want` looks at is forgotten. Some cells may have been shown.
    /// * [`Error::StoreUnavailable`]: no answer.
    /// * [`Error::Cell`]: a cell cannot be read.
    async fn read(
        &self,
        space: u32,
        keys: &[&[u8]],
        want: &C::Want,
        look: &mut (dyn for<'a> FnMut(usize, Option<&'a C>) -> Look + Send),
    ) -> Result<(), Error>;

    /// Visits the keys of `space` in no particular order. A key that exists throughout the call is
    /// visited exactly once; one that comes or goes meanwhile at most once.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    async fn keys(
        &self,
        space: u32,
        visit: &mut (dyn for<'a> FnMut(&'a [u8]) + Send),
    ) -> Result<(), Error>;

    /// The number of cells in `space`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    async fn len(&self, space: u32) -> Result<u64, Error>;

    /// Says to all shards of a space how far its live events have come, whether or not they had
    /// any: a shard that came back older, and misses nothing, is believed again; and after a restart
    /// nothing before that has to be replayed.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    async fn settle(&self, _space: u32) -> Result<(), Error> {
        Ok(())
    }

    /// The spaces that the store holds from before this process, known here or not.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`], [`Error::StoreDenied`].
    async fn stored_spaces(&self) -> Result<Vec<u32>, Error> {
        Ok(Vec::new())
    }

    /// Keeps this process the one that writes; to be called a few times in every [`LEASE`]. Says
    /// whether the store may have become another since the last call, so that the writer should
    /// ask for the coverage of its spaces.
    ///
    /// # Errors
    /// [`Error::StateFenced`] if another process has taken over: writing has to stop.
    /// [`Error::StoreUnavailable`].
    async fn upkeep(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Keeps a document beside the state, for the processes that only read it. No effect where
    /// there can be none.
    ///
    /// # Errors
    /// As [`upkeep`](Self::upkeep).
    async fn store_document(&self, _document: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// The document that the writer stored last; `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`], [`Error::StoreDenied`].
    async fn document(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    /// Lets another process write from now on.
    ///
    /// # Errors
    /// As [`upkeep`](Self::upkeep).
    async fn release(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// How long others wait after the process that writes was last heard of.
pub const LEASE: Duration = Duration::from_secs(10);

/// Where online state is.
#[derive(Debug, Clone, Default)]
pub enum OnlineOptions {
    /// In the memory of this process.
    #[default]
    Embedded,
    /// In Redis.
    Redis(RedisOptions),
}

/// Opens a store for writing. `database` is the database's identity and `holder` a name of this
/// server that stays the same when it is restarted.
///
/// # Errors
/// Those of [`Redis::open_writer`].
pub async fn open<C: Cell>(
    options: &OnlineOptions,
    (database, holder): (&str, &str),
) -> Result<Arc<dyn OnlineStore<C>>, Error> {
    let OnlineOptions::Redis(options) = options else {
        return Ok(Arc::new(EmbeddedStore::new()));
    };
    let writer = Writer { database: database.to_owned(), holder: holder.to_owned(), lease: LEASE };
    Ok(Arc::new(Redis::open_writer(options, &writer).await?))
}

/// Opens what another process writes for reading: a store in Redis.
///
/// # Errors
/// Those of [`Redis::open_reader`]; [`Error::NoState`] if no process has written there yet.
pub async fn open_reader<C: Cell>(
    options: &RedisOptions,
) -> Result<Arc<dyn OnlineStore<C>>, Error> {
    let database = Redis::<C>::recorded_database(options).await?;
    Ok(Arc::new(Redis::open_reader(options, &database).await?))
}

/// The parts in which the live positions up to `until` (exclusive) are to be replayed, so that no
/// part ends within what a shard has. Parts may be cut further. Empty if nothing is missing.
pub fn replay(coverage: &[Coverage], until: u64) -> Vec<Range<u64>> {
    let positions = coverage.iter().filter_map(|shard| match shard {
        Coverage::Ready { position } | Coverage::Filling { position } => Some(*position),
        Coverage::Lost => None,
    });
    let mut cuts: Vec<u64> = positions.filter(|position| *position < until).collect();
    cuts.push(until);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// The empty key is no entity's: a store may use it for itself.
fn check_keys<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> Result<(), Error> {
    if keys.any(<[u8]>::is_empty) {
        return Err(Error::InvalidKey { offset: 0, reason: "it is empty" });
    }
    Ok(())
}

/// A reader was shown all it asked for and asks again.
fn insatiable(space: u32) -> Error {
    Error::Cell { space, source: CellError::new("its reader asks again and again for more") }
}
