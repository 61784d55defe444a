//! The way of an event: checked, written to the log, published to the source's tail, applied to
//! the timelines. Only then is it acknowledged.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use asofdb_storage::Log;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::applier::Committed;
use crate::error::{Error, Result};
use crate::historian::Tails;
use crate::maintain::Timelines;
use crate::preparation::Preparation;
use crate::source_file::number_rows;

/// Memory of rows that are committed or about to be, and not applied to online state: 256 MiB. With
/// a store that takes nothing, who comes when it is used waits before anything is written.
const UNAPPLIED_KIB: u32 = 256 << 10;

/// The log and what follows a commit.
pub struct Ingest {
    log: Log,
    timelines: Arc<Timelines>,
    /// The position below which every row is in its source's tail. Whoever holds the lock sees
    /// tails that end exactly there.
    published: Arc<Mutex<u64>>,
    tails: Arc<Tails>,
    /// Of [`UNAPPLIED_KIB`]: what rows that are not applied yet leave for others.
    unapplied: Arc<Semaphore>,
}

impl Ingest {
    /// Ingests into `log`, of which every row is in its source's tail, counted by `tails`.
    pub fn new(log: Log, timelines: Arc<Timelines>, tails: Arc<Tails>) -> Self {
        let published = Arc::new(Mutex::new(log.next_position()));
        let unapplied = Arc::new(Semaphore::new(UNAPPLIED_KIB as usize));
        Ingest { log, timelines, published, tails, unapplied }
    }

    /// How much memory the tails take.
    pub fn tails(&self) -> &Arc<Tails> {
        &self.tails
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Runs `look` at a moment at which exactly the rows below the position it gets are published.
    pub fn at_position<T>(&self, look: impl FnOnce(u64) -> T) -> T {
        let published = self.published.lock();
        look(*published)
    }

    /// Commits rows as one transaction. When it returns they are durable, and every later
    /// statement sees them.
    pub async fn commit(&self, mut preparation: Preparation) -> Result<u64> {
        let rows = preparation.rows;
        if rows == 0 {
            return Ok(0);
        }
        self.timelines.check_applier()?;
        self.tails.wait_for_room().await?;
        let kib = (preparation.memory_size() >> 10).clamp(1, UNAPPLIED_KIB as usize) as u32;
        let permit = self.unapplied.acquire_many(kib).await;
        let _held_until_applied = permit.map_err(|_| Error::Closing)?;
        preparation.complete(&self.timelines)?;
        let Preparation { source, batches, entries, tracks, .. } = preparation;
        let (published, data) = (Arc::clone(&self.published), Arc::clone(&source.data));
        let tails = Arc::clone(&self.tails);
        let (timelines, source) = (Arc::clone(&self.timelines), source.id);
        let (done, applied) = tokio::sync::oneshot::channel();
        let on_commit = move |first: u64| {
            let mut published = published.lock();
            *published = first + rows;
            let mut next = first;
            let numbered = batches.iter().map(|batch| {
                let numbered = number_rows(batch, next);
                next += batch.num_rows() as u64;
                numbered
            });
            // Numbering fails only if Arrow refuses columns of equal length.
            let Ok(batches) = numbered.collect::<Result<Vec<_>>>() else { return };
            for batch in &batches {
                data.push(batch.clone());
                tails.add(batch.get_array_memory_size());
            }
            timelines.committed(Committed { source, first, rows, batches, tracks, done });
        };
        self.log.append(entries, Box::new(on_commit)).await?;
        fail::fail_point!("ingest::committed");
        applied.await.map_err(|_| Error::Internal("a commit was not applied".into()))??;
        Ok(rows)
    }
}

/// The rows of a record of the log.
pub fn decode(payload: &[u8], schema: &SchemaRef) -> Result<RecordBatch> {
    let reader = StreamReader::try_new(payload, None)?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(schema, &batches)?)
}
