//! The writer thread: group commit, rotation and deletion of segments.
//!
//! 1. Take everything that is queued, up to a bound: the group.
//! 2. Encode it behind one another with dense positions; one write, one fsync.
//! 3. For each transaction in order: run its `on_commit`, publish the next position, answer it.
//! 4. If the write failed for lack of space, cut the file back to where the group began; after any
//!    other failure remember it and answer everything from then on with it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::Entry;
use super::disk::Disk;
use super::record::{self, Head};
use super::recovery::Recovered;
use super::segment::{self, HEADER_BYTES, OpenSegment, Segment};
use crate::durable;
use crate::error::Error;

/// A group takes no further transaction once it has this many bytes: 16 MiB.
const GROUP_BYTES: usize = 16 << 20;

type Done<T> = oneshot::Sender<Result<T, Error>>;

/// What the writer is asked to do.
pub(super) enum Request {
    Append(Append),
    Rotate { done: Done<()> },
    DropBefore { position: u64, done: Done<()> },
    Close { done: Done<()> },
}

/// One transaction on its way to the disk.
pub(super) struct Append {
    pub entries: Vec<Entry>,
    /// The encoded length.
    pub bytes: usize,
    pub on_commit: Box<dyn FnOnce(u64) + Send>,
    pub done: Done<u64>,
    /// Counts the bytes as queued until the transaction is answered.
    pub _queued: OwnedSemaphorePermit,
}

/// What the handles read without asking the writer.
#[derive(Debug)]
pub(super) struct Shared {
    next_position: AtomicU64,
    failure: OnceLock<String>,
}

impl Shared {
    pub fn new(next_position: u64) -> Shared {
        Shared { next_position: AtomicU64::new(next_position), failure: OnceLock::new() }
    }

    pub fn next_position(&self) -> u64 {
        self.next_position.load(Ordering::Acquire)
    }

    /// The error of every request once the log has failed.
    pub fn failure(&self) -> Option<Error> {
        self.failure.get().map(|reason| Error::LogFailed { reason: reason.clone() })
    }
}

/// Why a group was not committed.
enum Refusal {
    /// The disk was full and the file is as it was before.
    Full,
    /// The log has failed; the reason is in [`Shared`].
    Failed,
}

/// The state of the writer thread.
pub(super) struct Writer {
    dir: PathBuf,
    segments: Vec<Segment>,
    tail: OpenSegment,
    next_position: u64,
    segment_bytes: u64,
    shared: Arc<Shared>,
    disk: Box<dyn Disk>,
    buffer: BytesMut,
}

impl Writer {
    pub fn new(
        dir: &Path,
        recovered: Recovered,
        segment_bytes: u64,
        shared: Arc<Shared>,
        disk: Box<dyn Disk>,
    ) -> Writer {
        Writer {
            dir: dir.to_path_buf(),
            segments: recovered.segments,
            tail: recovered.tail,
            next_position: recovered.report.next_position,
            segment_bytes,
            shared,
            disk,
            buffer: BytesMut::new(),
        }
    }

    /// Serves requests until the queue is closed and empty; holds `lock` until then.
    pub fn run(mut self, mut receiver: mpsc::Receiver<Request>, lock: File) {
        let mut closing = Vec::new();
        let mut after_group = None;
        while let Some(request) = after_group.take().or_else(|| receiver.blocking_recv()) {
            match request {
                Request::Append(append) => {
                    let (group, next) = gather(append, &mut receiver);
                    after_group = next;
                    self.commit(group);
                }
                Request::Rotate { done } => {
                    let result = self.rotate().map_err(|refusal| self.error(&refusal));
                    answer(done, result);
                }
                Request::DropBefore { position, done } => {
                    let result = self.drop_before(position);
                    answer(done, result);
                }
                Request::Close { done } => {
                    receiver.close();
                    closing.push(done);
                }
            }
        }
        drop(self);
        drop(lock);
        closing.into_iter().for_each(|done| answer(done, Ok(())));
    }

    fn commit(&mut self, group: Vec<Append>) {
        match self.write(&group) {
            Ok(()) => group.into_iter().for_each(|append| self.publish(append)),
            Err(refusal) => {
                for append in group {
                    answer(append.done, Err(self.error(&refusal)));
                }
            }
        }
    }

    /// Makes the group durable. The next position stays as it was: `publish` advances it.
    fn write(&mut self, group: &[Append]) -> Result<(), Refusal> {
        self.check_alive()?;
        if self.tail.committed >= self.segment_bytes {
            self.rotate()?;
        }
        self.encode(group);
        if let Err(error) = self.disk.write(&mut self.tail.file, &self.buffer) {
            return Err(self.undo(&error));
        }
        if let Err(error) = self.disk.sync(&self.tail.file) {
            // The kernel may have dropped the pages and may report success next time.
            return Err(self.fail("fsync", &error));
        }
        fail::fail_point!("log::synced");
        self.tail.committed += self.buffer.len() as u64;
        if self.buffer.capacity() > 2 * GROUP_BYTES {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }

    fn encode(&mut self, group: &[Append]) {
        self.buffer.clear();
        let mut position = self.next_position;
        let durable = self.tail.committed;
        for append in group {
            for (index, entry) in append.entries.iter().enumerate() {
                let (stream, rows) = (entry.stream, entry.rows);
                let last = index + 1 == append.entries.len();
                let head = Head { stream, rows, last, position, durable };
                record::encode(&mut self.buffer, self.tail.salt, &head, &entry.payload);
                position += u64::from(rows);
            }
        }
    }

    /// Runs the callback of a durable transaction and answers it.
    fn publish(&mut self, append: Append) {
        let first = self.next_position;
        let rows: u64 = append.entries.iter().map(|entry| u64::from(entry.rows)).sum();
        self.next_position += rows;
        if self.check_alive().is_err() {
            // An earlier callback of this group panicked: later rows must not become visible.
            return answer(append.done, Err(self.error(&Refusal::Failed)));
        }
        let on_commit = append.on_commit;
        if catch_unwind(AssertUnwindSafe(|| on_commit(first))).is_err() {
            let reason = format!("on_commit panicked for the rows from position {first}");
            let refusal = self.latch(reason);
            return answer(append.done, Err(self.error(&refusal)));
        }
        self.shared.next_position.store(self.next_position, Ordering::Release);
        answer(append.done, Ok(first));
    }

    /// After a failed write: takes back a group that did not fit, or fails.
    fn undo(&mut self, error: &io::Error) -> Refusal {
        if !is_full(error) {
            return self.fail("write", error);
        }
        match self.disk.cut(&mut self.tail.file, self.tail.committed) {
            Ok(()) => Refusal::Full,
            Err(error) => self.fail("truncate", &error),
        }
    }

    fn rotate(&mut self) -> Result<(), Refusal> {
        self.check_alive()?;
        if self.tail.committed == HEADER_BYTES as u64 {
            return Ok(());
        }
        match segment::create(&self.dir, self.next_position) {
            Ok(tail) => {
                let first_position = self.next_position;
                self.segments.push(Segment { path: tail.path.clone(), first_position });
                self.tail = tail;
                Ok(())
            }
            Err(Error::Io { source, .. }) if is_full(&source) => Err(self.undo_rotation()),
            Err(error) => Err(self.latch(error.to_string())),
        }
    }

    /// Removes a segment that the full disk did not take.
    fn undo_rotation(&mut self) -> Refusal {
        let path = segment::path_of(&self.dir, self.next_position);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", &path)(error))
            }
            _ => durable::sync_dir(&self.dir),
        };
        match removed {
            Ok(()) => Refusal::Full,
            Err(error) => self.latch(error.to_string()),
        }
    }

    fn drop_before(&mut self, position: u64) -> Result<(), Error> {
        self.check_alive().map_err(|refusal| self.error(&refusal))?;
        // A segment ends where the next one starts; the last one has no next.
        let mut dropped = false;
        while self.segments.get(1).is_some_and(|next| next.first_position <= position) {
            let path = &self.segments[0].path;
            fs::remove_file(path).map_err(Error::io("remove", path))?;
            self.segments.remove(0);
            dropped = true;
        }
        if dropped { durable::sync_dir(&self.dir) } else { Ok(()) }
    }

    fn check_alive(&self) -> Result<(), Refusal> {
        if self.shared.failure.get().is_some() { Err(Refusal::Failed) } else { Ok(()) }
    }

    fn fail(&self, operation: &str, error: &io::Error) -> Refusal {
        self.latch(format!("cannot {operation} {}: {error}", self.tail.path.display()))
    }

    fn latch(&self, reason: String) -> Refusal {
        tracing::error!(%reason, "the log failed");
        // Only the first failure is kept: the later ones follow from it.
        self.shared.failure.get_or_init(|| reason);
        Refusal::Failed
    }

    fn error(&self, refusal: &Refusal) -> Error {
        match (refusal, self.shared.failure()) {
            (_, Some(failure)) => failure,
            (Refusal::Full | Refusal::Failed, None) => {
                Error::DiskFull { path: self.tail.path.clone() }
            }
        }
    }
}

/// Takes the appends that are queued behind `first`, up to the bound of a group; also returns the
/// first request that is none.
fn gather(first: Append, receiver: &mut mpsc::Receiver<Request>) -> (Vec<Append>, Option<Request>) {
    let mut bytes = first.bytes;
    let mut group = vec![first];
    while bytes < GROUP_BYTES {
        match receiver.try_recv() {
            Ok(Request::Append(append)) => {
                bytes += append.bytes;
                group.push(append);
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Answers a request; whoever asked may have stopped waiting, which is no concern of the log.
fn answer<T>(done: Done<T>, result: Result<T, Error>) {
    let _nobody_waits = done.send(result);
}
