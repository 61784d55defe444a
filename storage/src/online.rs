//! The online store: the present state of every entity, one cell per (space, key).
//!
//! A *space* is a `u32` that names one kind of state, for instance one (entity, event table) pair;
//! a key is an encoded entity key ([`crate::key`]). What a cell holds is the caller's type `T`.
//! Online state is derived: whoever owns it can rebuild it from the history and the log.

mod embedded;

#[cfg(test)]
mod conformance;

pub use embedded::Embedded;

use crate::error::Error;

/// The contract of an online store. Every store passes `online/conformance.rs`.
///
/// * Calls on one cell are linearizable: an `update` is seen whole or not at all, and by every
///   read that starts after it returned.
/// * Callbacks run at most once per call, may run under a lock of the store and must be short.
///   A callback that calls the store gets [`Error::Reentrant`], never a deadlock. Only the visitor
///   of [`keys`](Self::keys) may call the store.
/// * Creating and dropping a space is atomic: no call sees half of it, and a write to a dropped
///   space fails, so that a late writer cannot bring it back.
pub trait OnlineStore<T>: Send + Sync {
    /// Makes `space` exist, empty; returns whether it is new. An existing one is left as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Reentrant`] from within a callback.
    fn create_space(&self, space: u32) -> Result<bool, Error>;

    /// Drops `space` and all its cells; returns whether it existed.
    ///
    /// # Errors
    ///
    /// [`Error::Reentrant`] from within a callback.
    fn drop_space(&self, space: u32) -> Result<bool, Error>;

    /// Changes the cell of `key`, which `create` makes first if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSpace`] if the space does not exist (no callback has run then),
    /// [`Error::Reentrant`] from within a callback.
    fn update(
        &self,
        space: u32,
        key: &[u8],
        create: &mut dyn FnMut() -> T,
        change: &mut dyn FnMut(&mut T),
    ) -> Result<(), Error>;

    /// Shows the cell of `key` to `look`, or `None` if there is no such cell or space.
    ///
    /// # Errors
    ///
    /// [`Error::Reentrant`] from within a callback.
    fn read(&self, space: u32, key: &[u8], look: &mut dyn FnMut(Option<&T>)) -> Result<(), Error>;

    /// Visits the keys of `space` in no particular order. A key that exists throughout the call is
    /// visited exactly once; one that comes or goes meanwhile at most once.
    ///
    /// # Errors
    ///
    /// [`Error::Reentrant`] from within a callback.
    fn keys(&self, space: u32, visit: &mut dyn FnMut(&[u8])) -> Result<(), Error>;

    /// The number of cells in `space`; 0 if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Reentrant`] from within a callback.
    fn len(&self, space: u32) -> Result<usize, Error>;
}
