//! The way of an event: checked, written to the log, published to the source's tail, applied to
//! the timelines. Only then is it acknowledged.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use asofdb_storage::{Entry, Log};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::applier::Committed;
use crate::catalog::Source;
use crate::error::{Error, Result};
use crate::historian::Tails;
use crate::maintain::Timelines;
use crate::source_file::number_rows;

/// Rows in one record of the log.
const RECORD_ROWS: usize = 65_536;

/// Memory of rows that are committed or about to be, and not applied to online state: 256 MiB. With
/// a store that takes nothing, who comes when it is used waits before anything is written.
const UNAPPLIED_KIB: u32 = 256 << 10;

/// Event times lie between these years: beyond them calendar arithmetic has no room, and an event
/// of the year 200,000 is a unit mistaken, not an event.
const YEARS: std::ops::RangeInclusive<i64> = -4000..=9999;

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
    pub async fn ingest(&self, source: &Arc<Source>, batches: Vec<RecordBatch>) -> Result<u64> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Ok(0);
        }
        self.timelines.check_applier()?;
        self.tails.wait_for_room().await?;
        let mut entries = Vec::new();
        for batch in &batches {
            check_rows(source, batch)?;
            for start in (0..batch.num_rows()).step_by(RECORD_ROWS) {
                let length = RECORD_ROWS.min(batch.num_rows() - start);
                let payload = encode(&batch.slice(start, length))?;
                entries.push(Entry { stream: source.id, rows: length as u32, payload });
            }
        }
        let batch = concat_batches(&source.schema, &batches)?;
        let kib = (batch.get_array_memory_size() >> 10).clamp(1, UNAPPLIED_KIB as usize) as u32;
        let permit = self.unapplied.acquire_many(kib).await;
        let _held_until_applied = permit.map_err(|_| Error::Closing)?;
        let evaluated = self.timelines.evaluate(source.id, &number_rows(&batch, 0)?)?;
        let (published, data) = (Arc::clone(&self.published), Arc::clone(&source.data));
        let tails = Arc::clone(&self.tails);
        let (timelines, source) = (Arc::clone(&self.timelines), source.id);
        let (done, applied) = tokio::sync::oneshot::channel();
        let on_commit = move |first: u64| {
            let mut published = published.lock();
            let rows = batch.num_rows() as u64;
            *published = first + rows;
            // Numbering fails only if Arrow refuses columns of equal length.
            let Ok(batch) = number_rows(&batch, first) else { return };
            data.push(batch.clone());
            tails.add(batch.get_array_memory_size());
            timelines.committed(Committed { source, first, batch, evaluated, done });
        };
        self.log.append(entries, Box::new(on_commit)).await?;
        fail::fail_point!("ingest::committed");
        applied.await.map_err(|_| Error::Internal("a commit was not applied".into()))??;
        Ok(rows as u64)
    }
}

/// Rejects rows that the source's definition excludes.
fn check_rows(source: &Source, batch: &RecordBatch) -> Result<()> {
    for (index, field) in source.schema.fields().iter().enumerate() {
        let must = !field.is_nullable() || index == source.event_time;
        if must && batch.column(index).null_count() > 0 {
            return Err(Error::NullValue {
                source_name: source.name.clone(),
                column: field.name().clone(),
            });
        }
    }
    let times = crate::track::times(batch.column(source.event_time))?;
    // 366 days a year from 1970: outside by less than a day a year, never inside.
    let micros_per_year = 31_556_952_000_000i64;
    let range = (YEARS.start() - 1970) * micros_per_year..(YEARS.end() - 1969) * micros_per_year;
    match times.values().iter().find(|t| !range.contains(t)) {
        None => Ok(()),
        Some(time) => Err(Error::OutOfRange {
            message: format!(
                "event time {time} microseconds is outside of the years {} to {}",
                YEARS.start(),
                YEARS.end()
            ),
        }),
    }
}

/// A batch as an Arrow IPC stream, schema included: a record explains itself.
fn encode(batch: &RecordBatch) -> Result<Bytes> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    Ok(Bytes::from(writer.into_inner()?))
}

/// The rows of a record of the log.
pub fn decode(payload: &[u8], schema: &SchemaRef) -> Result<RecordBatch> {
    let reader = StreamReader::try_new(payload, None)?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(schema, &batches)?)
}
