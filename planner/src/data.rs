//! The rows of a source: the history's files and the tail that is only in the log yet.

use arrow::array::RecordBatch;
use asofdb_storage::DataFile;
use parking_lot::RwLock;

/// More batches than this in a tail are merged into one when they are next read.
const TAIL_BATCHES_MAX: usize = 64;

/// The rows at one moment. They do not change; a newer snapshot has more.
#[derive(Clone, Debug, Default)]
pub struct DataSnapshot {
    /// Files of the history.
    pub files: Vec<DataFile>,
    /// Committed rows that no file has yet, with their positions as the last column.
    pub tail: Vec<RecordBatch>,
}

/// The rows of one source, as they grow.
#[derive(Debug, Default)]
pub struct SourceData {
    state: RwLock<DataSnapshot>,
}

impl SourceData {
    /// The rows in the history's `files` and none in the log.
    pub fn new(files: Vec<DataFile>) -> Self {
        SourceData { state: RwLock::new(DataSnapshot { files, tail: Vec::new() }) }
    }

    /// The rows committed so far.
    pub fn snapshot(&self) -> DataSnapshot {
        if self.state.read().tail.len() > TAIL_BATCHES_MAX {
            self.merge_tail();
        }
        self.state.read().clone()
    }

    /// Adds committed rows.
    pub fn push(&self, batch: RecordBatch) {
        self.state.write().tail.push(batch);
    }

    /// Replaces the first `merged` batches of the tail by `files`, which have their rows.
    pub fn move_to_files(&self, files: Vec<DataFile>, merged_rows: usize) {
        let mut state = self.state.write();
        state.files = files;
        let mut left = merged_rows;
        let mut kept = Vec::new();
        for batch in state.tail.drain(..) {
            let skip = left.min(batch.num_rows());
            left -= skip;
            if skip < batch.num_rows() {
                kept.push(batch.slice(skip, batch.num_rows() - skip));
            }
        }
        state.tail = kept;
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
    /// The number of rows.
    pub fn rows(&self) -> u64 {
        let tail: usize = self.tail.iter().map(RecordBatch::num_rows).sum();
        self.files.iter().map(|f| f.rows).sum::<u64>() + tail as u64
    }
}
