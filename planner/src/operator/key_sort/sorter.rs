//! One partition of the sort at work.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::sorts::streaming_merge::{SortedSpillFile, StreamingMergeBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{TryStreamExt, stream};

use super::packed::{self, Order};

/// Bytes of a batch that is given or spilled, if its rows are as long as others: 16 MiB.
const BATCH_BYTES: usize = 16 << 20;
/// What the order of a row takes in memory.
const ORDER_BYTES: usize = size_of::<u128>();

/// Holds rows, and sorts them.
pub struct Sorter {
    by: LexOrdering,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Of each batch the columns by which rows are sorted.
    columns: Vec<Vec<ArrayRef>>,
    /// For the rows that are held.
    held: MemoryReservation,
    /// For merging what was spilled, should it come to that.
    merging: MemoryReservation,
    merging_bytes: usize,
    batch_rows: usize,
    spills: SpillManager,
    spilled: Vec<SortedSpillFile>,
    metrics: BaselineMetrics,
}

impl Sorter {
    /// Holds no rows yet.
    pub fn new(
        by: LexOrdering,
        schema: SchemaRef,
        (metrics, partition): (&ExecutionPlanMetricsSet, usize),
        context: &TaskContext,
    ) -> Self {
        let consumer = |name: &str| MemoryConsumer::new(format!("{name}[{partition}]"));
        let pool = context.memory_pool();
        let spill_metrics = SpillMetrics::new(metrics, partition);
        let execution = &context.session_config().options().execution;
        Sorter {
            by,
            batches: Vec::new(),
            columns: Vec::new(),
            held: consumer("KeySort").with_can_spill(true).register(pool),
            merging: consumer("KeySortMerge").register(pool),
            merging_bytes: execution.sort_spill_reservation_bytes,
            batch_rows: context.session_config().batch_size(),
            spills: SpillManager::new(context.runtime_env(), spill_metrics, Arc::clone(&schema))
                .with_compression_type(execution.spill_compression),
            schema,
            spilled: Vec::new(),
            metrics: BaselineMetrics::new(metrics, partition),
        }
    }

    /// The rows of `input` in order.
    pub fn run(mut self, mut input: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let sorted = async move {
            while let Some(batch) = input.try_next().await? {
                self.hold(batch)?;
            }
            self.finish()
        };
        let rows = stream::once(sorted).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    fn hold(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let bytes = batch.get_array_memory_size() + rows * ORDER_BYTES;
        if let Err(error) = self.held.try_grow(bytes) {
            if self.batches.is_empty() {
                return Err(error);
            }
            self.spill()?;
            self.held.try_grow(bytes)?;
        }
        let columns = self.by.iter().map(|by| by.expr.evaluate(&batch)?.into_array(rows));
        self.columns.push(columns.collect::<Result<_>>()?);
        self.batches.push(batch);
        Ok(())
    }

    /// Writes the rows that are held, in order.
    fn spill(&mut self) -> Result<()> {
        let mut file = self.spills.create_in_progress_file("KeySort")?;
        let mut largest = 0;
        for batch in self.sort()? {
            largest = largest.max(file.append_batch(&batch?)?);
        }
        if let Some(file) = file.finish()? {
            self.spilled.push(SortedSpillFile { file, max_record_batch_memory: largest });
        }
        self.held.free();
        self.merging.try_resize(self.merging_bytes)
    }

    /// The rows that are held, in order; none are held after that.
    fn sort(&mut self) -> Result<Sorted> {
        let order = {
            let _timer = self.metrics.elapsed_compute().timer();
            packed::order(&std::mem::take(&mut self.columns))?
        };
        let row_bytes = (self.held.size() / order.len().max(1)).max(1);
        let rows = (BATCH_BYTES / row_bytes).clamp(1, self.batch_rows);
        let batches = std::mem::take(&mut self.batches);
        let columns = (0..self.schema.fields().len())
            .map(|column| match (&order, self.place_in_words(column)) {
                (Order::Words(_), Some(place)) => SortedColumn::InWords(place),
                _ => {
                    let parts = batches.iter().map(|batch| Arc::clone(batch.column(column)));
                    SortedColumn::Parts(parts.collect())
                }
            })
            .collect();
        drop(batches);
        let schema = Arc::clone(&self.schema);
        let sorted = Sorted { schema, columns, order, at: 0, rows, reservation: None };
        self.held.try_resize(sorted.memory_bytes())?;
        Ok(sorted)
    }

    /// Which of the columns that rows are sorted by a column is.
    fn place_in_words(&self, column: usize) -> Option<usize> {
        let is_column = |by: &PhysicalSortExpr| {
            by.expr.downcast_ref::<Column>().is_some_and(|found| found.index() == column)
        };
        self.by.iter().position(is_column)
    }

    fn finish(mut self) -> Result<SendableRecordBatchStream> {
        if self.spilled.is_empty() {
            let mut sorted = self.sort()?;
            sorted.reservation = Some(self.held.take());
            let metrics = self.metrics;
            let rows = sorted.inspect(move |batch| {
                metrics.record_output(batch.as_ref().map_or(0, RecordBatch::num_rows));
            });
            let rows = RecordBatchStreamAdapter::new(self.schema, stream::iter(rows));
            return Ok(Box::pin(cooperative(rows)));
        }
        if !self.batches.is_empty() {
            self.spill()?;
        }
        StreamingMergeBuilder::new()
            .with_sorted_spill_files(self.spilled)
            .with_spill_manager(self.spills)
            .with_schema(self.schema)
            .with_expressions(&self.by)
            .with_metrics(self.metrics)
            .with_batch_size(self.batch_rows)
            .with_reservation(self.merging)
            .build()
    }
}

/// Rows that are put in their order, some at a time.
struct Sorted {
    schema: SchemaRef,
    columns: Vec<SortedColumn>,
    order: Order,
    at: usize,
    rows: usize,
    /// The memory is taken until all rows were given.
    reservation: Option<MemoryReservation>,
}

/// Where the values of a column are.
enum SortedColumn {
    /// In the words: the place among the columns that rows are sorted by.
    InWords(usize),
    /// In the batches that the rows' places are in.
    Parts(Vec<ArrayRef>),
}

impl Sorted {
    fn memory_bytes(&self) -> usize {
        let parts = self.columns.iter().flat_map(|column| match column {
            SortedColumn::InWords(_) => [].as_slice(),
            SortedColumn::Parts(parts) => parts,
        });
        let parts: usize = parts.map(|part| part.get_array_memory_size()).sum();
        parts + self.order.len() * ORDER_BYTES
    }

    fn batch(&self, rows: Range<usize>) -> Result<RecordBatch> {
        let places = self.order.places(rows.clone());
        let column = |(column, field): (&SortedColumn, &FieldRef)| match (column, &self.order) {
            (SortedColumn::InWords(place), Order::Words(words)) => {
                Ok(words.column(*place, rows.clone(), field.data_type()))
            }
            (SortedColumn::InWords(_), Order::Places(_)) => internal_err!("there are no words"),
            (SortedColumn::Parts(parts), _) => {
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                Ok(interleave(&parts, &places)?)
            }
        };
        let columns = self.columns.iter().zip(self.schema.fields()).map(column);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_>>()?)?)
    }
}

impl Iterator for Sorted {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.at..self.order.len().min(self.at + self.rows);
        if rows.is_empty() {
            self.reservation = None;
            return None;
        }
        self.at = rows.end;
        Some(self.batch(rows))
    }
}
