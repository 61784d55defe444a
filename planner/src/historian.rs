//! The historian: makes a checkpoint by itself when the tails have grown large, or when rows have
//! waited in the log for long enough. It knows when, not how: see `statement/checkpoint.rs`.
//!
//! A checkpoint that fails is tried again, later each time; the log keeps what is not yet in a
//! file, and ingest goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::database::Inner;
use crate::statement::checkpoint::checkpoint;
use crate::task::Background;

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
    limit: u64,
    full: Notify,
}

impl Tails {
    /// Tails that hold nothing.
    pub fn new(limit: u64) -> Self {
        Tails { bytes: AtomicU64::new(0), limit, full: Notify::new() }
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
    running: Mutex<Option<(watch::Sender<bool>, Background)>>,
}

impl Historian {
    /// Starts it.
    pub fn start(&self, inner: &Arc<Inner>) {
        let (stop, stopping) = watch::channel(false);
        let tails = Arc::clone(inner.ingest.tails());
        let work = run(Arc::downgrade(inner), tails, inner.options.checkpoint.interval, stopping);
        *self.running.lock() = Some((stop, Background::spawn(work)));
    }

    /// Ends it, after the checkpoint that it is at.
    pub async fn stop(&self) {
        let running = self.running.lock().take();
        if let Some((stop, task)) = running {
            stop.send_replace(true);
            task.join().await;
        }
    }
}

async fn run(
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
            Ok(()) => retry = RETRY.0,
            Err(error) => {
                tracing::warn!(%error, retry_s = retry.as_secs(), "checkpoint failed");
                tokio::select! {
                    _ = stopping.changed() => return,
                    () = sleep(retry) => {}
                }
                retry = (retry * 2).min(RETRY.1);
            }
        }
    }
}
