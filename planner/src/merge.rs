//! Merging files of the history: several of a source become one for each bucket of its key, sorted
//! by key, time and position, without the rows that have expired.
//!
//! 1. `asofdb_storage::history::merge` says which files. They are merged as DataFusion merges
//!    sorted streams; files of another order are sorted first, within the memory of queries.
//! 2. Rows go to the file of their key's bucket as they come.
//! 3. The new files take the old ones' place in the manifest and in the source's snapshot. Whoever
//!    reads the old ones goes on; they are deleted when nobody does.
//!
//! Ingest, queries and checkpoints go on meanwhile; only step 3 waits for a checkpoint's end. A
//! crash before step 3 leaves garbage, which the next start deletes.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use asofdb_storage::history::merge::{self, Merge};
use asofdb_storage::{Bucket, DataFile, FileLayout, FileRef, FileWriter, History, RowShape};
use futures::TryStreamExt;

use crate::catalog::{Catalog, Connector, Source};
use crate::clustering::sort_columns;
use crate::database::Inner;
use crate::error::{Error, Result};
use crate::jobs::{JobKind, RunningJob};
use crate::key::encode_row;
use crate::source_table::merge_exec;
use crate::statement::checkpoint::show_files;

/// How far merging goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Until the files are few enough.
    Few,
    /// Until there is one file for each bucket.
    One,
}

/// Merges files of `source` as far as `extent` says.
pub async fn merge_files(inner: &Arc<Inner>, source: &Arc<Source>, extent: Extent) -> Result<()> {
    if source.connector != Connector::Log {
        return Ok(());
    }
    let writing = inner.writing()?;
    let _one = writing.merge.lock().await;
    {
        let _turn = writing.checkpoint.lock().await;
        show_files(inner, &[source]).await?;
    }
    loop {
        let catalog = inner.catalog();
        let columns = sort_columns(&catalog, source);
        let names: Vec<String> =
            columns.iter().map(|&c| source.schema.field(c).name().clone()).collect();
        let files = source.data.snapshot().files;
        let kept_from = Some(source.data.kept_from());
        let found = match extent {
            Extent::Few => merge::next(&files, &names, kept_from),
            Extent::One => merge::everything(&files, &names, kept_from),
        };
        let Some(found) = found else { break };
        run(inner, &catalog, source, (columns, found)).await?;
        if extent == Extent::One {
            break;
        }
    }
    Ok(())
}

async fn run(
    inner: &Arc<Inner>,
    catalog: &Arc<Catalog>,
    source: &Arc<Source>,
    (columns, merge): (Vec<usize>, Merge),
) -> Result<()> {
    let writing = inner.writing()?;
    let rows = merge.inputs.iter().map(|file| file.rows).sum();
    let job = inner.jobs.begin(JobKind::Merge, &source.name, Some(rows));
    let added = match merge.buckets {
        0 => Vec::new(),
        buckets => {
            let mut buckets = Buckets::new(&writing.history, source, &columns, buckets);
            match buckets.fill(inner, catalog, (&merge.inputs, &job)).await {
                Ok(()) => buckets.finish().await?,
                Err(error) => {
                    buckets.abandon().await;
                    return Err(error);
                }
            }
        }
    };
    fail::fail_point!("merge::written");
    // A checkpoint reads the manifest and shows it, too: the two take turns.
    let _turn = writing.checkpoint.lock().await;
    let (inputs, outputs) = (merge.inputs.len(), added.len());
    let manifest = writing.history.replace(source.id, &merge.inputs, added, None).await?;
    source.data.set_files(&manifest, source.id);
    fail::fail_point!("merge::shown");
    tracing::info!(source = source.name, inputs, outputs, "files merged");
    Ok(())
}

/// The files under way, one for each bucket that has rows.
struct Buckets {
    history: History,
    source: Arc<Source>,
    /// The key, by which rows are sorted.
    columns: Vec<usize>,
    writers: Vec<Option<FileWriter>>,
}

impl Buckets {
    fn new(history: &History, source: &Arc<Source>, columns: &[usize], buckets: u32) -> Self {
        Buckets {
            history: history.clone(),
            source: Arc::clone(source),
            columns: columns.to_vec(),
            writers: (0..buckets).map(|_| None).collect(),
        }
    }

    /// Writes the rows of `files` that have not expired.
    async fn fill(
        &mut self,
        inner: &Inner,
        catalog: &Arc<Catalog>,
        (files, job): (&[FileRef], &RunningJob),
    ) -> Result<()> {
        let state = inner.planning.state(catalog);
        let plan = merge_exec(&self.source, files, &self.columns)?;
        let mut rows = inner.planning.run(plan, &state)?;
        while let Some(batch) = rows.try_next().await.map_err(Error::from_datafusion)? {
            for (bucket, rows) in self.split(&batch)? {
                self.writer(bucket)?.write(&rows).await?;
            }
            job.advance(batch.num_rows());
        }
        Ok(())
    }

    /// The rows of `batch` by their buckets. A NULL key is in the first.
    fn split(&self, batch: &RecordBatch) -> Result<Vec<(usize, RecordBatch)>> {
        let buckets = self.writers.len();
        if buckets == 1 {
            return Ok(vec![(0, batch.clone())]);
        }
        let keys: Vec<ArrayRef> =
            self.columns.iter().map(|&c| Arc::clone(batch.column(c))).collect();
        let mut rows = vec![Vec::new(); buckets];
        let mut key = Vec::new();
        for row in 0..batch.num_rows() {
            let bucket = match encode_row(&keys, row, &mut key)? {
                true => Bucket::index_of(&key, buckets as u32),
                false => 0,
            };
            rows[bucket as usize].push(row as u32);
        }
        let filled = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        let take =
            |(bucket, rows)| Ok((bucket, take_record_batch(batch, &UInt32Array::from(rows))?));
        filled.map(take).collect()
    }

    fn writer(&mut self, bucket: usize) -> Result<&mut FileWriter> {
        let count = self.writers.len() as u32;
        let writer = &mut self.writers[bucket];
        if writer.is_none() {
            let names = self.columns.iter().map(|&c| self.source.schema.field(c).name().clone());
            let layout = FileLayout {
                sorted_by: names.collect(),
                bucket: Some(Bucket { index: bucket as u32, count }),
            };
            *writer = Some(self.history.writer(self.source.id, shape(&self.source), layout)?);
        }
        writer.as_mut().ok_or_else(|| Error::Internal("a bucket has a writer".into()))
    }

    async fn finish(self) -> Result<Vec<DataFile>> {
        let mut files = Vec::new();
        for writer in self.writers.into_iter().flatten() {
            files.extend(writer.finish().await?);
        }
        Ok(files)
    }

    async fn abandon(self) {
        for writer in self.writers.into_iter().flatten() {
            writer.abandon().await;
        }
    }
}

/// What the rows of a source look like in the history.
pub fn shape(source: &Source) -> RowShape {
    // The name is for people who look at the folder, the id tells sources apart.
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = source.name.chars().map(plain).take(64).collect();
    RowShape {
        folder: format!("{name}-{}", source.id),
        schema: source.schema_with_position(),
        time_column: source.event_time,
        position_column: source.schema.fields().len(),
    }
}
