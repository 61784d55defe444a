//! The one error of this crate. Every variant carries the path, offset or value that was wrong.

use std::path::{Path, PathBuf};

/// What can go wrong while state is read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file or directory.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb: `open`, `fsync`, `rename`.
        operation: &'static str,
        /// The file or directory it was attempted on.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Another process, or another handle in this one, holds the directory.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Bytes that were once acknowledged are no longer what was written.
    #[error("{} is damaged at byte {offset}: {reason}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// The offset of the first bad byte range.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a version of the format that this program does not know.
    #[error("{} has format version {found}; this program reads version {supported}", file.display())]
    UnknownVersion {
        /// The file.
        file: PathBuf,
        /// The version it states.
        found: u64,
        /// The version that is supported.
        supported: u64,
    },
    /// The log does not hold the rows that the caller must replay.
    #[error(
        "the log in {} holds the positions {first} to {next} (exclusive), but {from} is asked for",
        dir.display()
    )]
    MissingRows {
        /// The log's directory.
        dir: PathBuf,
        /// The position asked for.
        from: u64,
        /// The first position that is there.
        first: u64,
        /// The position after the last one that is there.
        next: u64,
    },
    /// The consumer of a replayed record failed.
    #[error("the record at position {position} cannot be replayed: {source}")]
    Replay {
        /// The position of the record's first row.
        position: u64,
        /// The consumer's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A write or fsync of the log failed; nothing more is accepted until a restart.
    #[error("the log failed and accepts nothing until it is reopened: {reason}")]
    LogFailed {
        /// The first failure.
        reason: String,
    },
    /// The device is full; the append had no effect and later ones may succeed.
    #[error("no space left on the device of {}", path.display())]
    DiskFull {
        /// The log's segment.
        path: PathBuf,
    },
    /// The log was closed.
    #[error("the log is closed")]
    LogClosed,
    /// The history was closed.
    #[error("the history is closed")]
    HistoryClosed,
    /// An entry cannot be appended as it is.
    #[error("an entry of stream {stream} cannot be appended: {reason}")]
    InvalidEntry {
        /// The entry's stream.
        stream: u32,
        /// What is wrong with it and what is allowed.
        reason: String,
    },
    /// A transaction cannot be appended as it is.
    #[error("a transaction of {entries} entries and {bytes} bytes cannot be appended: {reason}")]
    InvalidTransaction {
        /// How many entries it has.
        entries: usize,
        /// How many payload bytes it has.
        bytes: u64,
        /// What is allowed.
        reason: String,
    },
    /// The object store failed.
    #[error("object store: {path}: {source}")]
    Store {
        /// The object's path.
        path: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// Another writer replaced the manifest.
    #[error("{path} is no longer generation {generation}: another process writes this history")]
    ManifestConflict {
        /// The manifest's path.
        path: String,
        /// The generation this process had read.
        generation: u64,
    },
    /// The history belongs to another database.
    #[error("{path} is the history of database {found}, not of this one, {ours}")]
    ForeignHistory {
        /// The manifest's path.
        path: String,
        /// The database that it names.
        found: String,
        /// The database that was opened.
        ours: String,
    },
    /// Files that were to be replaced are not part of the history any more.
    #[error("files of stream {stream} that were to be replaced are gone")]
    FilesGone {
        /// The stream.
        stream: u32,
    },
    /// Rows handed to the history do not have the promised shape.
    #[error("rows of stream {stream} cannot enter the history: {reason}")]
    InvalidRows {
        /// The stream.
        stream: u32,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// `covered` would go backwards.
    #[error(
        "the history covers the positions below {present}; it cannot cover only those below {asked}"
    )]
    CoveredBackwards {
        /// What the manifest states.
        present: u64,
        /// What was asked for.
        asked: u64,
    },
    /// Arrow refused to sort or combine rows.
    #[error("rows of stream {stream}: {source}")]
    Arrow {
        /// The stream.
        stream: u32,
        /// Arrow's error.
        source: arrow::error::ArrowError,
    },
    /// A Parquet file could not be written or read.
    #[error("Parquet file {path}: {source}")]
    Parquet {
        /// The file's path in the store.
        path: String,
        /// Parquet's error.
        source: parquet::errors::ParquetError,
    },
    /// An encoded entity key is not one that `encode_key` wrote.
    #[error("an encoded key is invalid at byte {offset}: {reason}")]
    InvalidKey {
        /// Where in the key.
        offset: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A cell was written in a space that does not exist (any more).
    #[error("the online store has no space {space}")]
    UnknownSpace {
        /// The space.
        space: u32,
    },
    /// Shards of a space have no state, or one that is not this database's.
    #[error(
        "the state of space {space} is lost in the online store, in {} of its shards: {shards:?}",
        shards.len()
    )]
    StateLost {
        /// The space.
        space: u32,
        /// The shards.
        shards: Vec<u32>,
    },
    /// No process has written state under this prefix.
    #[error(
        "there is no online state under the prefix {prefix:?}: start the server that writes it"
    )]
    NoState {
        /// The prefix.
        prefix: String,
    },
    /// A shard is being filled.
    #[error("shard {shard} of space {space} is still being filled in the online store")]
    StateNotReady {
        /// The space.
        space: u32,
        /// The shard.
        shard: u32,
    },
    /// A part of a cell is gone from the online store, although the shard's witness is there: it was
    /// deleted by hand. The shard has to be filled.
    #[error("shard {shard} of space {space} is damaged in the online store")]
    StateDamaged {
        /// The space.
        space: u32,
        /// The shard.
        shard: u32,
    },
    /// A shard is older than it was: the store forgot, or another one took over that lags.
    #[error(
        "shard {shard} of space {space} is at position {position} in the online store, but was at \
         {seen} before: the store lost writes"
    )]
    StateBehind {
        /// The space.
        space: u32,
        /// The shard.
        shard: u32,
        /// Where it is.
        position: u64,
        /// Where it was.
        seen: u64,
    },
    /// What is asked for reaches back to events that the online store has forgotten.
    #[error("space {space} has no events before {before} any more in the online store")]
    StateForgotten {
        /// The space.
        space: u32,
        /// The time, in microseconds since the epoch, from which on events are there.
        before: i64,
    },
    /// A live batch does not start where the state ends.
    #[error(
        "space {space} has the events below position {position} in the online store; a batch from \
         {from} to {to} (exclusive) does not continue it"
    )]
    StateGap {
        /// The space.
        space: u32,
        /// Where it, or one of its shards, is.
        position: u64,
        /// The batch's first position.
        from: u64,
        /// The position after the batch.
        to: u64,
    },
    /// A fill batch is not the next one.
    #[error(
        "the fill of space {space} is at batch {next}; batch {sequence} does not continue it: \
         begin the fill again"
    )]
    FillGap {
        /// The space.
        space: u32,
        /// The batch.
        sequence: u64,
        /// The batch that would be next.
        next: u64,
    },
    /// Another process has become the writer of the online store.
    #[error(
        "another server writes to the online store under the prefix {prefix:?} now: this one had \
         epoch {epoch}, the other has {present}"
    )]
    StateFenced {
        /// The prefix of the keys.
        prefix: String,
        /// The epoch of this writer.
        epoch: u64,
        /// The epoch of the present one.
        present: u64,
    },
    /// Another process is the writer of the online store and has not given it up.
    #[error(
        "{holder:?} writes to the online store under the prefix {prefix:?}; its lease ends in \
         {left_ms} ms unless it is renewed"
    )]
    WriterLeased {
        /// The prefix of the keys.
        prefix: String,
        /// The name the writer gave itself.
        holder: String,
        /// How long its lease lasts, in milliseconds.
        left_ms: u64,
    },
    /// The keys in the online store are another database's, or were written in another way.
    #[error(
        "the keys under the prefix {prefix:?} of the online store have {what} {found:?}, not \
         {expected:?}: choose another prefix, or delete them"
    )]
    ForeignState {
        /// The prefix of the keys.
        prefix: String,
        /// What differs: `database`, `shards` or `format`.
        what: &'static str,
        /// What is there.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The online store may delete keys of its own accord.
    #[error(
        "the online store's maxmemory-policy is {policy:?}, so it may evict state at any time; set \
         it to noeviction (CONFIG SET maxmemory-policy noeviction, and in its configuration file)"
    )]
    StoreEvicts {
        /// The policy.
        policy: String,
    },
    /// The online store did not answer, however often it was asked. A write may be in it or not;
    /// it can be made again.
    #[error("the online store does not answer: {reason}")]
    StoreUnavailable {
        /// The last failure.
        reason: String,
    },
    /// The online store takes no writes for now: it is out of memory, cannot persist, or misses
    /// its replicas. The write had no effect.
    #[error("the online store takes no writes: {reason}")]
    StoreRefusesWrites {
        /// The store's code: `OOM`, `MISCONF` or `NOREPLICAS`.
        code: String,
        /// What it says.
        reason: String,
    },
    /// The online store refuses the user, the password or a command.
    #[error("the online store denies access: {reason}")]
    StoreDenied {
        /// The store's code: `NOAUTH`, `WRONGPASS` or `NOPERM`.
        code: String,
        /// What it says.
        reason: String,
    },
    /// The online store answered what nobody expects.
    #[error("the online store answers: {reason}")]
    StoreAnswer {
        /// What it says.
        reason: String,
    },
    /// The online store's address or options are wrong. The text never holds a password.
    #[error("the online store cannot be addressed: {reason}")]
    StoreUrl {
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// A store that was opened for reading was asked to write.
    #[error("the online store was opened for reading only")]
    StoreReadOnly,
    /// A cell did not take its events, or cannot be read.
    #[error("a cell of space {space}: {source}")]
    Cell {
        /// The space.
        space: u32,
        /// The cell's error.
        source: crate::online::CellError,
    },
    /// A callback of the online store called the store.
    #[error("the online store was called from within one of its own callbacks")]
    Reentrant,
    /// A background task of the runtime did not finish.
    #[error("a background task did not finish: {reason}")]
    Background {
        /// Why: it panicked or the runtime shut down.
        reason: String,
    },
}

impl Error {
    /// Wraps an operating system error with what was attempted and where.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { operation, path, source }
    }

    /// Wraps an object store error with the path it concerns.
    pub(crate) fn store(
        path: &object_store::path::Path,
    ) -> impl FnOnce(object_store::Error) -> Error {
        let path = path.to_string();
        move |source| match source {
            object_store::Error::Generic { store, source } => match source.downcast::<Error>() {
                Ok(error) => *error,
                Err(source) => {
                    Error::Store { path, source: object_store::Error::Generic { store, source } }
                }
            },
            source => Error::Store { path, source },
        }
    }

    /// States that acknowledged bytes changed.
    pub(crate) fn damaged(file: &Path, offset: u64, reason: impl Into<String>) -> Error {
        Error::Damaged { file: file.to_path_buf(), offset, reason: reason.into() }
    }
}
