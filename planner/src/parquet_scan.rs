//! The scan of Parquet files that others wrote: in parts that are read side by side.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use crate::catalog::Source;
use crate::error::Result;
use crate::source_file::{ParquetRows, row_groups};
use crate::task::blocking;

/// A scan of some columns of external files, in at most so many parts; a row's position is its
/// number over all files.
pub async fn parquet_files_exec(
    files: &[PathBuf],
    source: &Source,
    (projection, limit): (&[usize], Option<usize>),
    partitions: usize,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let schema = Arc::new(source.schema_with_position().project(projection)?);
    let position = source.schema.fields().len();
    let mut read: Vec<usize> = projection.iter().copied().filter(|i| *i != position).collect();
    read.sort_unstable();
    read.dedup();
    let columns = Arc::new(source.schema.project(&read)?);
    let place = |column: &usize| read.binary_search(column).ok();
    let places: Vec<Option<usize>> = projection.iter().map(place).collect();
    let files = files.to_vec();
    let stretches = blocking(move || stretches(&files)).await?;
    let parts = split(stretches, partitions).into_iter().map(|stretches| {
        let (columns, schema) = (Arc::clone(&columns), Arc::clone(&schema));
        Arc::new(FilesPart { stretches, columns, places: places.clone(), schema }) as _
    });
    let parts = parts.collect();
    Ok(Arc::new(StreamingTableExec::try_new(schema, parts, None, None, false, limit)?))
}

/// Row groups of a file that follow each other.
#[derive(Clone, Debug)]
struct Stretch {
    file: PathBuf,
    row_groups: Vec<usize>,
    /// The position of the first row.
    first: u64,
    rows: u64,
}

/// A stretch for each row group; a file without any has one, too.
fn stretches(files: &[PathBuf]) -> Result<Vec<Stretch>> {
    let (mut all, mut first) = (Vec::new(), 0);
    for file in files {
        let groups = row_groups(file)?;
        if groups.is_empty() {
            all.push(Stretch { file: file.clone(), row_groups: Vec::new(), first, rows: 0 });
        }
        for (index, rows) in groups.into_iter().enumerate() {
            all.push(Stretch { file: file.clone(), row_groups: vec![index], first, rows });
            first += rows;
        }
    }
    Ok(all)
}

/// Stretches in parts of about equally many rows, in their order; what belongs together is joined.
fn split(stretches: Vec<Stretch>, parts: usize) -> Vec<Vec<Stretch>> {
    let total: u64 = stretches.iter().map(|stretch| stretch.rows).sum();
    let part_of = |stretch: &Stretch| {
        let middle = u128::from(stretch.first) + u128::from(stretch.rows / 2);
        ((middle * parts as u128 / u128::from(total.max(1))) as usize).min(parts.saturating_sub(1))
    };
    let mut split: Vec<(usize, Vec<Stretch>)> = Vec::new();
    for stretch in stretches {
        let part = part_of(&stretch);
        match split.last_mut().filter(|(last, _)| *last == part) {
            None => split.push((part, vec![stretch])),
            Some((_, joined)) => match joined.last_mut().filter(|s| s.file == stretch.file) {
                None => joined.push(stretch),
                Some(last) => {
                    last.row_groups.extend(stretch.row_groups);
                    last.rows += stretch.rows;
                }
            },
        }
    }
    split.into_iter().map(|(_, joined)| joined).collect()
}

#[derive(Debug)]
struct FilesPart {
    stretches: Vec<Stretch>,
    /// The columns that are read.
    columns: SchemaRef,
    /// Where the columns of `schema` are among them; `None` for the position.
    places: Vec<Option<usize>>,
    schema: SchemaRef,
}

impl PartitionStream for FilesPart {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 2);
        let sender = builder.tx();
        let (stretches, columns) = (self.stretches.clone(), Arc::clone(&self.columns));
        let (places, schema) = (self.places.clone(), Arc::clone(&self.schema));
        builder.spawn_blocking(move || {
            for Stretch { file, row_groups, first, .. } in stretches {
                let mut position = first;
                let rows = ParquetRows::open_groups(&file, Arc::clone(&columns), &row_groups)?;
                for batch in rows {
                    let batch = batch?;
                    let placed = place(&batch, &places, position, &schema)?;
                    position += batch.num_rows() as u64;
                    if sender.blocking_send(Ok(placed)).is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        builder.build()
    }
}

/// The columns in their places, and the positions from `first` on.
fn place(
    batch: &RecordBatch,
    places: &[Option<usize>],
    first: u64,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let column = |place: &Option<usize>| match place {
        Some(index) => Arc::clone(batch.column(*index)),
        None => Arc::new(UInt64Array::from_iter_values(first..first + rows as u64)) as ArrayRef,
    };
    let columns = places.iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(file: &str, group: usize, first: u64, rows: u64) -> Stretch {
        Stretch { file: file.into(), row_groups: vec![group], first, rows }
    }

    #[test]
    fn parts_are_about_equal_and_in_order() {
        let groups = vec![stretch("a", 0, 0, 10), stretch("a", 1, 10, 10), stretch("b", 0, 20, 20)];
        let parts = split(groups.clone(), 2);
        let shape: Vec<Vec<(u64, usize)>> = parts
            .iter()
            .map(|part| part.iter().map(|s| (s.rows, s.row_groups.len())).collect())
            .collect();
        assert_eq!(shape, [vec![(20, 2)], vec![(20, 1)]]);
        let one = split(groups, 1);
        assert_eq!(one.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
        assert_eq!(split(vec![stretch("a", 0, 0, 0)], 4).len(), 1);
    }
}
