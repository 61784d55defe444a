//! Durable and online state of AsofDB: the write-ahead log, the Parquet history, the online store
//! of an entity's state, and the file that holds the catalog.
//!
//! This crate knows nothing of SQL, types or plans. Payloads are opaque bytes, streams are `u32`
//! identifiers, and a *position* numbers the rows of the log from 1, densely and forever.
//!
//! | module | holds | survives a crash because |
//! |---|---|---|
//! | [`log`] | every acknowledged row | its checksummed record is fsynced before that |
//! | [`history`] | rows moved out of the log | a manifest replaced atomically after its files |
//! | [`catalog_file`] | one document | write aside, fsync, rename, fsync the directory |
//! | [`online`] | state derived from the log | it does not: it is rebuilt from the log |

// The conformance suite names the crate as its other user, `tests/suite`, does.
#[cfg(test)]
extern crate self as asofdb_storage;

pub mod catalog_file;
mod durable;
pub mod error;
pub mod history;
pub mod identity;
pub mod key;
pub mod log;
pub mod online;

pub use catalog_file::CatalogFile;
pub use error::Error;
pub use history::{
    BlockSums, Bucket, DataFile, FileLayout, FileRef, FileWriter, History, Manifest, Owner,
    RowShape, StreamFiles, StreamRows,
};
pub use identity::identity;
pub use key::{KeyPart, decode_key, encode_key, encode_key_into};
pub use log::{Entry, Log, LogOptions, Record, Recovery, TornTail};
pub use online::{Embedded, OnlineOptions, OnlineStore, RedisOptions};
