//! The historian: does by itself, beside the sessions, what keeps the history in shape.
//!
//! * A checkpoint when the tails have grown large, or when rows have waited in the log for long
//!   enough (`statement/checkpoint.rs` says how).
//! * After a checkpoint, and from time to time: what a source's retention says has expired, files
//!   are merged (`merge.rs`), and those that nobody reads any more are deleted.
//!
//! What fails is tried again, later each time; the log keeps what is not yet in a file, and ingest
//! goes on. The two are tasks of their own, for a merge may take long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::catalog::Source;
use crate::database::{Inner, Writing};
use crate::error::{Error, Result};
use crate::forget::forget;
use crate::merge::{Extent, merge_files};
use crate::statement::checkpoint::checkpoint;
use crate::task::Background;

/// How long a commit waits for memory of tails, and how often it looks.
const ROOM: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(20));

/// How long a failed checkpoint waits for its next try, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// When rows leave the log.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointOptions {
    /// How long rows stay only in the log and in memory, at most.
    pub interval: Duration,
    /// How many bytes of memory rows may take before a checkpoint begins.
    pub bytes: u64,
}

/// The memory of all tails: rows that no file has yet.
#[derive(Debug)]
pub struct Tails {
    bytes: AtomicU64,
    /// At which a checkpoint begins.
    limit: u64,
    /// Above which commits wait.
    most: u64,
    full: Notify,
}

impl Tails {
    /// Tails that hold nothing. At `limit` a checkpoint begins; they hold four times that, or
    /// `most` if that is more.
    pub fn new(limit: u64, most: u64) -> Self {
        let most = most.max(limit.saturating_mul(4));
        Tails { bytes: AtomicU64::new(0), limit, most, full: Notify::new() }
    }

    /// Waits until more rows may come.
    ///
    /// # Errors
    /// [`Error::TailsFull`] if the history does not take those that are there.
    pub async fn wait_for_room(&self) -> Result<()> {
        let room = async {
            while self.bytes() >= self.most {
                tokio::time::sleep(ROOM.1).await;
            }
        };
        timeout(ROOM.0, room).await.map_err(|_| Error::TailsFull { bytes: self.bytes() })
    }

    /// Counts rows in.
    pub fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 >= self.limit {
            self.full.notify_one();
        }
    }

    /// Counts rows out.
    pub fn remove(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    async fn full(&self) {
        while self.bytes() < self.limit {
            self.full.notified().await;
        }
    }
}

/// The historian at work. It ends when it is told to, or is dropped.
#[derive(Default)]
pub struct Historian {
    running: Mutex<Option<(watch::Sender<bool>, [Background; 2])>>,
    /// Told after each checkpoint.
    checkpointed: Arc<Notify>,
}

impl Historian {
    /// Starts it.
    pub fn start(&self, inner: &Arc<Inner>, writing: &Writing) {
        let (stop, stopping) = watch::channel(false);
        let tails = Arc::clone(writing.ingest.tails());
        let interval = writing.options.checkpoint.interval;
        let checkpoints =
            make_checkpoints(Arc::downgrade(inner), tails, interval, stopping.clone());
        let checkpointed = Arc::clone(&self.checkpointed);
        let upkeep = keep_up(Arc::downgrade(inner), checkpointed, interval, stopping);
        let tasks = [Background::spawn(checkpoints), Background::spawn(upkeep)];
        *self.running.lock() = Some((stop, tasks));
    }

    /// Says that there are new files.
    pub fn checkpointed(&self) {
        self.checkpointed.notify_one();
    }

    /// Ends it, after the checkpoint and the merge that it is at.
    pub async fn stop(&self) {
        let running = self.running.lock().take();
        if let Some((stop, tasks)) = running {
            stop.send_replace(true);
            for task in tasks {
                task.join().await;
            }
        }
    }
}

async fn make_checkpoints(
    inner: Weak<Inner>,
    tails: Arc<Tails>,
    interval: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let mut retry = RETRY.0;
    loop {
        tokio::select! {
            // An error says that the database is gone.
            _ = stopping.changed() => return,
            _ = timeout(interval, tails.full()) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        if tails.bytes() == 0 {
            continue;
        }
        let result = checkpoint(&inner).await;
        drop(inner);
        match result {
            Ok(_) => retry = RETRY.0,
            Err(error) => {
                tracing::warn!(%error, retry_s = retry.as_secs(), "checkpoint failed");
                if pause(&mut retry, &mut stopping).await {
                    return;
                }
            }
        }
    }
}

async fn keep_up(
    inner: Weak<Inner>,
    checkpointed: Arc<Notify>,
    interval: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let mut retry = RETRY.0;
    loop {
        tokio::select! {
            _ = stopping.changed() => return,
            _ = timeout(interval, checkpointed.notified()) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let result = upkeep(&inner, &stopping).await;
        drop(inner);
        match result {
            Ok(()) => retry = RETRY.0,
            Err(error) => {
                tracing::warn!(%error, retry_s = retry.as_secs(), "upkeep failed");
                checkpointed.notify_one();
                if pause(&mut retry, &mut stopping).await {
                    return;
                }
            }
        }
    }
}

/// Waits after a failure, longer each time; says whether the historian is to end instead.
async fn pause(retry: &mut Duration, stopping: &mut watch::Receiver<bool>) -> bool {
    let waited = timeout(*retry, stopping.changed()).await;
    *retry = (*retry * 2).min(RETRY.1);
    waited.is_ok()
}

/// Expires, merges and deletes for all sources.
async fn upkeep(inner: &Arc<Inner>, stopping: &watch::Receiver<bool>) -> Result<()> {
    let mut stopped = stopping.clone();
    for source in inner.catalog().sources() {
        if *stopping.borrow() {
            return Ok(());
        }
        let kept = async {
            expire(inner, source).await?;
            merge_files(inner, source, Extent::Few).await?;
            // It can end anywhere, and a store may take long to answer.
            tokio::select! {
                forgotten = forget(inner, source, false) => forgotten,
                _ = stopped.wait_for(|stopped| *stopped) => Ok(()),
            }
        };
        match kept.await {
            // It was dropped meanwhile.
            Err(Error::Storage(asofdb_storage::Error::FilesGone { .. })) => {}
            other => other?,
        }
    }
    inner.writing()?.history.delete_retired().await?;
    Ok(())
}

/// Says which rows of `source` have expired by now, if its retention says so of any in a file.
///
/// That is a time, kept with the files: from one statement to the next all readers leave earlier
/// rows out, in training, in lookups and in scans alike. The rows go when their files are merged.
pub async fn expire(inner: &Arc<Inner>, source: &Arc<Source>) -> Result<()> {
    let Some(retention) = source.retention else { return Ok(()) };
    let kept_from = retention.before(inner.planning.now_micros());
    let files = source.data.snapshot().files;
    if kept_from <= source.data.kept_from() || files.iter().all(|f| f.min_time >= kept_from) {
        return Ok(());
    }
    let writing = inner.writing()?;
    let _turn = writing.checkpoint.lock().await;
    let manifest = writing.history.replace(source.id, &[], Vec::new(), Some(kept_from)).await?;
    source.data.set_files(&manifest, source.id);
    writing.news.notify_one();
    tracing::info!(source = source.name, kept_from, "older rows have expired");
    Ok(())
}
