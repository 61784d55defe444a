//! The online store in this process: hash tables behind 64 locks.
//!
//! Invariants:
//!
//! 1. A space is in all shards or in none, except while all 64 write locks are held.
//! 2. A call takes locks of shards in index order; callbacks cannot take another (they are
//!    refused), so no cycle of waiting threads can form.
//! 3. A key is hashed once per call; a look-up allocates nothing.

use std::cell::Cell;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use parking_lot::{RwLock, RwLockWriteGuard};
use smallvec::SmallVec;

use crate::error::Error;

/// The number of locks.
pub(super) const SHARDS: usize = 64;
/// How many keys are looked up together: writers of their shards wait that long.
const FOUND_AT_ONCE: usize = 32;
/// Which bits of a hash select the shard: not the low ones (a table's buckets) nor the top seven
/// (its tags).
const SHARD_SHIFT: u32 = 48;

/// A key of one integer or a short text needs no memory of its own, which a look-up would have to
/// wait for.
type Key = SmallVec<[u8; 16]>;
type Table<T> = HashTable<(Key, T)>;
type Shard<T> = HashMap<u32, Table<T>>;

thread_local! {
    /// Whether this thread is inside a callback that runs under a shard's lock.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Cells of any type in the memory of this process.
///
/// * Calls on one cell are linearizable: an `update` is seen whole or not at all, and by every
///   read that starts after it returned.
/// * Callbacks run at most once per call and key, may run under locks of the store and must be
///   short. A callback that calls the store gets [`Error::Reentrant`], never a deadlock. Only the
///   visitor of [`keys`](Self::keys) may call the store.
/// * Creating and dropping a space is atomic: no call sees half of it, and a write to a dropped
///   space fails, so that a late writer cannot bring it back.
#[derive(Debug)]
pub struct Embedded<T> {
    shards: Box<[RwLock<Shard<T>>]>,
    hasher: DefaultHashBuilder,
}

fn shard_of(hash: u64) -> usize {
    (hash >> SHARD_SHIFT) as usize % SHARDS
}

impl<T> Default for Embedded<T> {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::new(HashMap::new())).collect();
        Embedded { shards, hasher: DefaultHashBuilder::default() }
    }
}

impl<T> Embedded<T> {
    /// An empty store without spaces.
    pub fn new() -> Self {
        Self::default()
    }

    fn locate(&self, key: &[u8]) -> (u64, &RwLock<Shard<T>>) {
        let hash = self.hasher.hash_one(key);
        (hash, &self.shards[shard_of(hash)])
    }

    /// Which of the [`SHARDS`] has the cell of `key`.
    pub fn shard_of(&self, key: &[u8]) -> usize {
        shard_of(self.hasher.hash_one(key))
    }

    fn lock_all(&self) -> Vec<RwLockWriteGuard<'_, Shard<T>>> {
        self.shards.iter().map(RwLock::write).collect()
    }

    /// Makes `space` exist, empty; returns whether it is new. An existing one is left as it is.
    ///
    /// # Errors
    /// [`Error::Reentrant`] from within a callback.
    pub fn create_space(&self, space: u32) -> Result<bool, Error> {
        refuse_reentry()?;
        let mut shards = self.lock_all();
        let exists = shards.iter().any(|shard| shard.contains_key(&space));
        if !exists {
            for shard in &mut shards {
                shard.insert(space, HashTable::new());
            }
        }
        Ok(!exists)
    }

    /// Drops `space` and all its cells; returns whether it existed.
    ///
    /// # Errors
    /// [`Error::Reentrant`] from within a callback.
    pub fn drop_space(&self, space: u32) -> Result<bool, Error> {
        refuse_reentry()?;
        let mut shards = self.lock_all();
        let tables: Vec<_> = shards.iter_mut().filter_map(|shard| shard.remove(&space)).collect();
        // The cells are freed after the locks are released: there may be millions of them.
        drop(shards);
        Ok(!tables.is_empty())
    }

    /// Changes the cell of `key`, which `create` makes first if there is none.
    ///
    /// # Errors
    /// [`Error::UnknownSpace`] if the space does not exist (no callback has run then),
    /// [`Error::Reentrant`] from within a callback.
    pub fn update(
        &self,
        space: u32,
        key: &[u8],
        create: &mut dyn FnMut() -> T,
        change: &mut dyn FnMut(&mut T),
    ) -> Result<(), Error> {
        refuse_reentry()?;
        let (hash, shard) = self.locate(key);
        let mut shard = shard.write();
        let table = shard.get_mut(&space).ok_or(Error::UnknownSpace { space })?;
        let _inside = Inside::enter();
        match table.find_mut(hash, |(other, _)| **other == *key) {
            Some((_, cell)) => change(cell),
            None => {
                let mut cell = create();
                change(&mut cell);
                let rehash = |(other, _): &(Key, T)| self.hasher.hash_one(&**other);
                table.insert_unique(hash, (key.into(), cell), rehash);
            }
        }
        Ok(())
    }

    /// Changes the cell of `key` if there is one.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_present(
        &self,
        space: u32,
        key: &[u8],
        change: &mut dyn FnMut(&mut T),
    ) -> Result<(), Error> {
        refuse_reentry()?;
        let (hash, shard) = self.locate(key);
        let mut shard = shard.write();
        let table = shard.get_mut(&space).ok_or(Error::UnknownSpace { space })?;
        let _inside = Inside::enter();
        if let Some((_, cell)) = table.find_mut(hash, |(other, _)| **other == *key) {
            change(cell);
        }
        Ok(())
    }

    /// Shows the cells of `keys` to `look`, by the key's index, in their order; `None` if there is
    /// no such cell or space.
    ///
    /// All of some keys' cells are found, and then touched, before the first of them is shown:
    /// memory is waited for side by side.
    ///
    /// # Errors
    /// [`Error::Reentrant`] from within a callback.
    pub fn read(
        &self,
        space: u32,
        keys: &[&[u8]],
        touch: impl Fn(&T),
        look: &mut dyn FnMut(usize, Option<&T>),
    ) -> Result<(), Error> {
        refuse_reentry()?;
        for (part, keys) in keys.chunks(FOUND_AT_ONCE).enumerate() {
            let hashes: SmallVec<[u64; FOUND_AT_ONCE]> =
                keys.iter().map(|key| self.hasher.hash_one(key)).collect();
            let wanted = hashes.iter().fold(0_u64, |bits, hash| bits | 1 << shard_of(*hash));
            let shards = self.shards.iter().enumerate();
            let locked = shards.filter(|(shard, _)| wanted >> shard & 1 == 1);
            let locked: SmallVec<[_; FOUND_AT_ONCE]> =
                locked.map(|(_, shard)| shard.read()).collect();
            let find = |(key, hash): (&&[u8], &u64)| {
                let before = wanted & ((1 << shard_of(*hash)) - 1);
                let table = locked[before.count_ones() as usize].get(&space)?;
                table.find(*hash, |(other, _)| **other == **key).map(|(_, cell)| cell)
            };
            let found: SmallVec<[Option<&T>; FOUND_AT_ONCE]> =
                keys.iter().zip(&hashes).map(find).collect();
            let _inside = Inside::enter();
            found.iter().flatten().for_each(|cell| touch(cell));
            for (index, cell) in found.iter().enumerate() {
                look(part * FOUND_AT_ONCE + index, *cell);
            }
        }
        Ok(())
    }

    /// Visits the keys of `space` in no particular order. A key that exists throughout the call is
    /// visited exactly once; one that comes or goes meanwhile at most once.
    ///
    /// # Errors
    /// [`Error::Reentrant`] from within a callback.
    pub fn keys(&self, space: u32, visit: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        for shard in 0..SHARDS {
            // One shard's keys are copied so that the visitor runs without any lock.
            self.keys_of(space, shard)?.iter().for_each(|key| visit(key));
        }
        Ok(())
    }

    /// The keys of `space` in one of the [`SHARDS`].
    ///
    /// # Errors
    /// [`Error::Reentrant`] from within a callback.
    pub(super) fn keys_of(&self, space: u32, shard: usize) -> Result<Vec<Box<[u8]>>, Error> {
        refuse_reentry()?;
        let shard = self.shards[shard].read();
        let keys = shard
            .get(&space)
            .map(|table| table.iter().map(|(key, _)| key.as_slice().into()).collect());
        Ok(keys.unwrap_or_default())
    }

    /// The number of cells in `space`; 0 if it does not exist.
    ///
    /// # Errors
    /// [`Error::Reentrant`] from within a callback.
    pub fn len(&self, space: u32) -> Result<usize, Error> {
        refuse_reentry()?;
        Ok(self.shards.iter().map(|shard| shard.read().get(&space).map_or(0, Table::len)).sum())
    }
}

fn refuse_reentry() -> Result<(), Error> {
    if INSIDE.get() { Err(Error::Reentrant) } else { Ok(()) }
}

/// Marks this thread as inside a callback, also while a panic unwinds through it.
struct Inside;

impl Inside {
    fn enter() -> Inside {
        INSIDE.set(true);
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

#[cfg(test)]
mod tests;
