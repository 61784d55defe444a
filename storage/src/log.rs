//! The write-ahead log: what is in it survives a crash, in the order of its positions.
//!
//! Definitions. A *row* is what a position numbers; positions start at 1 and are dense. An *entry*
//! is some rows of one stream in an opaque payload. A *transaction* is the entries of one
//! [`Log::append`]. A *group* is the transactions that share one write and one fsync. A *segment*
//! is one file.
//!
//! Invariants:
//!
//! 1. An append resolves only after its bytes are durable and its `on_commit` has run; `on_commit`
//!    callbacks run one at a time, in the order of positions.
//! 2. After a crash a transaction is there as a whole or not at all, and every one that resolved is
//!    there, with every one before it.
//! 3. Only the last segment may end in anything but whole transactions, and only behind the last
//!    byte that was known durable; everything else is damage and refuses to open.
//! 4. After a failed write or fsync nothing is known about the file, so nothing more is accepted.
//!    (Only a full disk that is noticed before the fsync is undone.)
//! 5. A position is never given twice: the last segment, whose name is one, is never deleted.
//!
//! What recovery cannot tell: damage to the last group of the last segment looks like a torn tail.

mod disk;
mod record;
mod recovery;
mod segment;
mod writer;

#[cfg(test)]
mod failure_tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::durable;
use crate::error::Error;
use disk::{Disk, RealDisk};
use writer::{Append, Request, Shared, Writer};

/// The most payload bytes of one transaction: 1 GiB.
const TRANSACTION_LIMIT: u64 = 1 << 30;
/// Queued bytes are counted in units of this many.
const QUEUE_UNIT_BYTES: u64 = 1024;

/// Some rows to append to one stream.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The stream the rows belong to.
    pub stream: u32,
    /// How many rows the payload holds, at least 1; each gets a position.
    pub rows: u32,
    /// The rows, opaque to the log; at most 256 MiB.
    pub payload: Bytes,
}

/// Some committed rows of one stream, as they were appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The position of the first row; the others follow densely.
    pub position: u64,
    /// The stream the rows belong to.
    pub stream: u32,
    /// How many rows the payload holds.
    pub rows: u32,
    /// The rows. It shares the memory of its whole segment: copy what is kept for long.
    pub payload: Bytes,
}

/// How a log is run.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// A segment that has reached this length is followed by a new one. Default 64 MiB.
    pub segment_bytes: u64,
    /// How many appends may wait for the writer; more wait in `append`. Default 1024.
    pub queue: usize,
    /// How many payload bytes may wait for the writer; more wait in `append`. Default 256 MiB.
    pub queue_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_bytes: 64 << 20, queue: 1024, queue_bytes: 256 << 20 }
    }
}

/// What was found when a log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The position the next row will get.
    pub next_position: u64,
    /// What a crash left behind and was cut; never anything that had been acknowledged.
    pub truncated: Option<TornTail>,
    /// How many records were replayed.
    pub records: u64,
    /// How many rows those hold.
    pub rows: u64,
}

/// The unfinished end of a log that a crash left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where it was cut; 0 if the whole file was unfinished and removed.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes_dropped: u64,
}

/// A handle to an open log; clones share it. The log closes when the last handle is dropped, which
/// waits for what is queued; [`close`](Self::close) does so without blocking.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// `None` only while the last handle is dropped.
    sender: Option<mpsc::Sender<Request>>,
    queued: Arc<Semaphore>,
    queue_units: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log in `dir`, or creates it, and shows every committed record that has a row at
    /// `from` or above to `replay`, in order.
    ///
    /// A record that straddles `from` is replayed whole: the rows below `from` are the caller's to
    /// skip. It does not arise if `from` is always a position that a transaction started at.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if the log is open elsewhere; [`Error::Damaged`] if acknowledged bytes are
    /// not what was written (some records may have been replayed already); [`Error::MissingRows`]
    /// if the log starts above `from` or ends below it; [`Error::UnknownVersion`];
    /// [`Error::Replay`] with the error of `replay`; [`Error::Io`].
    pub fn open<E>(
        dir: &Path,
        options: LogOptions,
        from: u64,
        replay: &mut dyn FnMut(Record) -> Result<(), E>,
    ) -> Result<(Log, Recovery), Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut replay = |record: Record| {
            let position = record.position;
            replay(record).map_err(|error| Error::Replay { position, source: error.into() })
        };
        Log::open_on(dir, options, from, &mut replay, Box::new(RealDisk))
    }

    fn open_on(
        dir: &Path,
        options: LogOptions,
        from: u64,
        replay: recovery::Replay<'_>,
        disk: Box<dyn Disk>,
    ) -> Result<(Log, Recovery), Error> {
        durable::create_dir(dir)?;
        let lock = durable::lock_dir(dir, "LOCK")?;
        let recovered = recovery::recover(dir, from, replay)?;
        let report = recovered.report.clone();
        if let Some(torn) = &report.truncated {
            let (file, offset, bytes) = (torn.file.display(), torn.offset, torn.bytes_dropped);
            tracing::warn!(%file, offset, bytes, "cut the unfinished end of the log");
        }
        let shared = Arc::new(Shared::new(report.next_position));
        let (sender, receiver) = mpsc::channel(options.queue.max(1));
        let writer = Writer::new(dir, recovered, options.segment_bytes, shared.clone(), disk);
        let thread = thread::Builder::new()
            .name("asofdb-log".to_owned())
            .spawn(move || writer.run(receiver, lock))
            .map_err(Error::io("start the writer thread of", dir))?;
        let units = (options.queue_bytes / QUEUE_UNIT_BYTES).clamp(1, u64::from(u32::MAX >> 3));
        let queue_units = units as u32;
        let inner = Inner {
            shared,
            sender: Some(sender),
            queued: Arc::new(Semaphore::new(queue_units as usize)),
            queue_units,
            thread: Mutex::new(Some(thread)),
        };
        Ok((Log { inner: Arc::new(inner) }, report))
    }

    /// Makes an empty log in `dir`, whose first row will get `position`: for a copy of a database
    /// that has all rows below it elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also if there is one.
    pub fn begin(dir: &Path, position: u64) -> Result<(), Error> {
        durable::create_dir(dir)?;
        segment::create(dir, position).map(drop)
    }

    /// Appends all entries as one transaction and resolves, with the position of the first row,
    /// once it is durable. The rows of the first entry come first, then those of the second, ….
    ///
    /// `on_commit(first_position)` runs on the log's own thread after the rows are durable and
    /// before this resolves, in the order of positions: publish the rows there. It must be short
    /// and must not wait for the log.
    ///
    /// If the future is dropped the transaction may be committed all the same.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidEntry`] or [`Error::InvalidTransaction`] for what is too large or empty;
    /// [`Error::DiskFull`] if there was no room: nothing was appended and later appends may
    /// succeed; [`Error::LogFailed`] if the disk failed, now or before: whether this transaction is
    /// durable is known only after the log is opened again; [`Error::LogClosed`].
    pub async fn append(
        &self,
        entries: Vec<Entry>,
        on_commit: Box<dyn FnOnce(u64) + Send>,
    ) -> Result<u64, Error> {
        let bytes = check(&entries)?;
        self.check_alive()?;
        let units = (bytes / QUEUE_UNIT_BYTES + 1).min(u64::from(self.inner.queue_units)) as u32;
        let Ok(queued) = self.inner.queued.clone().acquire_many_owned(units).await else {
            return Err(self.gone());
        };
        self.request(|done| {
            Request::Append(Append {
                entries,
                bytes: bytes as usize,
                on_commit,
                done,
                _queued: queued,
            })
        })
        .await
    }

    /// The position that the next row will get. Every row below it has been published by its
    /// `on_commit`.
    pub fn next_position(&self) -> u64 {
        self.inner.shared.next_position()
    }

    /// Starts a new segment if the present one has records, so that it can be dropped later.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub async fn rotate(&self) -> Result<(), Error> {
        self.check_alive()?;
        self.request(|done| Request::Rotate { done }).await
    }

    /// Deletes the segments whose rows are all below `position`, oldest first, but never the last.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be deleted: the log stays usable and some segments may be
    /// gone; [`Error::LogFailed`], [`Error::LogClosed`].
    pub async fn drop_before(&self, position: u64) -> Result<(), Error> {
        self.check_alive()?;
        self.request(|done| Request::DropBefore { position, done }).await
    }

    /// Commits what is queued, stops the writer and gives up the directory. Later calls on any
    /// handle fail with [`Error::LogClosed`]; a second `close` does nothing.
    pub async fn close(&self) {
        // An error says that the writer has already gone, which is what is asked for.
        let _already_gone = self.request(|done| Request::Close { done }).await;
        let thread = self.inner.thread.lock().take();
        if let Some(thread) = thread {
            join(thread);
        }
    }

    async fn request<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        let Some(sender) = &self.inner.sender else { return Err(self.gone()) };
        if sender.send(make(done)).await.is_err() {
            return Err(self.gone());
        }
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn check_alive(&self) -> Result<(), Error> {
        self.inner.shared.failure().map_or(Ok(()), Err)
    }

    fn gone(&self) -> Error {
        self.inner.shared.failure().unwrap_or(Error::LogClosed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a sender the writer drains its queue and ends.
        self.sender.take();
        if let Some(thread) = self.thread.get_mut().take() {
            join(thread);
        }
    }
}

/// Waits for the writer, unless this runs on it: an `on_commit` may hold the last handle.
fn join(writer: JoinHandle<()>) {
    if writer.thread().id() != thread::current().id() && writer.join().is_err() {
        tracing::error!("the log's writer thread panicked");
    }
}

/// Checks the limits of a transaction and returns its payload bytes.
fn check(entries: &[Entry]) -> Result<u64, Error> {
    let mut bytes = 0u64;
    for entry in entries {
        let (stream, length) = (entry.stream, entry.payload.len());
        if length > record::PAYLOAD_LIMIT {
            let reason = format!(
                "its payload has {length} bytes, at most {} are allowed",
                record::PAYLOAD_LIMIT
            );
            return Err(Error::InvalidEntry { stream, reason });
        }
        if entry.rows == 0 {
            let reason = "it has no rows, at least one is needed".to_owned();
            return Err(Error::InvalidEntry { stream, reason });
        }
        bytes += record::encoded_bytes(length) as u64;
    }
    let reason = match bytes {
        0 => "at least one entry is needed".to_owned(),
        _ if bytes > TRANSACTION_LIMIT => format!("at most {TRANSACTION_LIMIT} bytes are allowed"),
        _ => return Ok(bytes),
    };
    Err(Error::InvalidTransaction { entries: entries.len(), bytes, reason })
}
