//! The rows of a source: the history's files and the tail that is only in the log yet.

use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use asofdb_storage::{FileRef, Manifest};
use parking_lot::RwLock;

/// More batches than this in a tail are merged into one when they are next read.
const TAIL_BATCHES_MAX: usize = 64;

/// The rows at one moment. They do not change; a newer snapshot has more.
#[derive(Clone, Debug, Default)]
pub struct DataSnapshot {
    /// Files of the history, which stay there as long as this does.
    pub files: Vec<FileRef>,
    /// Committed rows that no file has yet, with their positions, which rise, as the last column.
    pub tail: Vec<RecordBatch>,
}

/// The rows of one source, as they grow.
#[derive(Debug)]
pub struct SourceData {
    state: RwLock<DataSnapshot>,
    /// Microseconds; `i64::MIN` before anything expired.
    kept_from: AtomicI64,
}

impl Default for SourceData {
    fn default() -> Self {
        SourceData { state: RwLock::default(), kept_from: i64::MIN.into() }
    }
}

impl SourceData {
    /// The rows that `manifest` has of source `id`, and none in the log.
    pub fn new(manifest: &Manifest, id: u32) -> Self {
        let data = SourceData::default();
        data.set_files(manifest, id);
        data
    }

    /// The rows committed so far.
    pub fn snapshot(&self) -> DataSnapshot {
        if self.state.read().tail.len() > TAIL_BATCHES_MAX {
            self.merge_tail();
        }
        self.state.read().clone()
    }

    /// The event time, in microseconds, before which rows have expired: whoever reads leaves them
    /// out. `i64::MIN` if none have.
    pub fn kept_from(&self) -> i64 {
        self.kept_from.load(Ordering::Acquire)
    }

    /// Says that rows before a time have expired.
    pub fn keep_from(&self, time: i64) {
        self.kept_from.fetch_max(time, Ordering::AcqRel);
    }

    /// Adds committed rows.
    pub fn push(&self, batch: RecordBatch) {
        self.state.write().tail.push(batch);
    }

    /// Shows the files that `manifest` has of source `id`, and drops the rows that are in them from
    /// the tail.
    pub fn set_files(&self, manifest: &Manifest, id: u32) {
        let mut state = self.state.write();
        state.files = manifest.files(id).to_vec();
        if let Some(time) = manifest.kept_from(id) {
            self.keep_from(time);
        }
        state.tail.retain_mut(|batch| {
            let column = batch.column(batch.num_columns() - 1);
            let positions = column.as_primitive::<UInt64Type>().values();
            let covered = positions.partition_point(|position| *position < manifest.covered);
            *batch = batch.slice(covered, batch.num_rows() - covered);
            batch.num_rows() > 0
        });
    }

    fn merge_tail(&self) {
        let mut state = self.state.write();
        let Some(first) = state.tail.first() else { return };
        if let Ok(merged) = arrow::compute::concat_batches(&first.schema(), &state.tail) {
            state.tail = vec![merged];
        }
    }
}

impl DataSnapshot {
    /// The number of rows, expired ones that are still there included.
    pub fn rows(&self) -> u64 {
        let tail: usize = self.tail.iter().map(RecordBatch::num_rows).sum();
        self.files.iter().map(|f| f.rows).sum::<u64>() + tail as u64
    }
}
