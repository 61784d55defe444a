//! The sort below the point-in-time join, and the distribution of rows by key below that.
//!
//! What is sorted by are integers: keys, instants, positions. So rows are not compared: the numbers
//! of a row by which it is sorted and where it lies are packed into one word (`packed`), the words
//! of each partition are sorted, and rows are copied once, in their order (`sorted`); columns that the
//! join reads of few rows are not copied at all, it fetches those. What does not fit into memory is
//! sorted in parts, which are spilled and merged by DataFusion (`gather`).

mod gather;
mod packed;
mod sorted;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan,
    ExecutionPlanProperties, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, TryFutureExt, TryStreamExt, stream};
use parking_lot::Mutex;

use super::as_of_join::AsOfJoinExec;
use crate::error::Error;
use crate::task::blocking;
use gather::{Gathering, Rows};
pub use sorted::Parts;
use sorted::{Sorted, batch_rows};

/// Sorts each partition of its input, as the [`SortExec`] that it stands for; if that has its rows
/// from a [`RepartitionExec`] by hash, for that, too.
#[derive(Debug)]
pub struct KeySortExec {
    sort: SortExec,
    /// What the rows come from.
    input: Arc<dyn ExecutionPlan>,
    /// By what they are told which partition they go to, unless they are in it.
    keys: Option<Vec<Arc<dyn PhysicalExpr>>>,
    /// The rows for all partitions, when one was asked for, and how many partitions were not.
    gathered: Mutex<Option<(Gathered, usize)>>,
    metrics: ExecutionPlanMetricsSet,
}

/// Rows that are gathered when somebody waits for them.
type Gathered = Shared<BoxFuture<'static, Result<Arc<Rows>, Arc<DataFusionError>>>>;

/// The rows of a partition.
pub struct PartitionRows {
    /// In their order; without the columns that are `late`, if those are there.
    pub stream: SendableRecordBatchStream,
    /// Where to fetch them by the number in the last column of the stream; known with its first
    /// batch. Nothing if all columns are in the stream.
    pub late: Arc<OnceLock<Arc<Parts>>>,
}

/// Puts this sort in the place of DataFusion's below joins, where it can be.
pub fn sort_by_keys(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        if !node.is::<AsOfJoinExec>() {
            return Ok(Transformed::no(node));
        }
        let children = node.children().into_iter().map(|child| {
            let sort = child.downcast_ref::<SortExec>().and_then(KeySortExec::of);
            sort.map_or_else(|| Arc::clone(child), |sort| Arc::new(sort) as _)
        });
        let children = children.collect();
        Ok(Transformed::yes(node.replace_children(children, recompute())?))
    });
    Ok(plan?.data)
}

fn recompute() -> ReplaceChildrenOptions {
    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)
}

impl KeySortExec {
    fn of(sort: &SortExec) -> Option<Self> {
        let partitions = sort.input().output_partitioning().partition_count();
        let schema = sort.input().schema();
        let packs = |expr: &Arc<dyn PhysicalExpr>| {
            expr.data_type(&schema).is_ok_and(|data_type| packed::packs(&data_type))
        };
        let sorts = sort.fetch().is_none()
            && partitions <= usize::from(u16::MAX)
            && (sort.preserve_partitioning() || partitions == 1)
            && sort
                .expr()
                .iter()
                .all(|by| by.options == super::as_of_join::ORDER && packs(&by.expr));
        sorts.then(|| KeySortExec::over(sort.clone()))
    }

    fn over(sort: SortExec) -> Self {
        let by_hash = sort.input().downcast_ref::<RepartitionExec>();
        let (input, keys) = match by_hash.map(|by_hash| (by_hash, by_hash.partitioning())) {
            Some((by_hash, Partitioning::Hash(keys, _))) if !by_hash.preserve_order() => {
                (Arc::clone(by_hash.input()), Some(keys.clone()))
            }
            _ => (Arc::clone(sort.input()), None),
        };
        let metrics = ExecutionPlanMetricsSet::new();
        KeySortExec { sort, input, keys, gathered: Mutex::default(), metrics }
    }

    /// The rows of a partition, without the columns in `late` if they can be fetched.
    pub fn rows(
        &self,
        partition: usize,
        late: &[usize],
        context: Arc<TaskContext>,
    ) -> Result<PartitionRows> {
        let gathered = self.gathered(partition, &context)?;
        let partition = if self.keys.is_some() { partition } else { 0 };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let fetched_from = Arc::<OnceLock<Arc<Parts>>>::default();
        let (late, by) = (late.to_vec(), self.sort.expr().clone());
        let (schema, parts) = (self.schema(), Arc::clone(&fetched_from));
        let rows = async move {
            let rows = gathered.await.map_err(DataFusionError::Shared)?;
            sorted(&rows, partition, (&late, &parts), (by, schema, metrics, context)).await
        };
        let rows = stream::once(rows).try_flatten();
        let stream = Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows));
        Ok(PartitionRows { stream, late: fetched_from })
    }

    /// The rows of all partitions, or of one if they are in it.
    fn gathered(&self, partition: usize, context: &Arc<TaskContext>) -> Result<Gathered> {
        let mut known = self.gathered.lock();
        if let Some((gathered, left)) = known.take() {
            // Rows that nobody asks for any more go with the last of their streams.
            *known = (left > 1).then(|| (gathered.clone(), left - 1));
            return Ok(gathered);
        }
        let (inputs, partitions) = match &self.keys {
            Some(_) => (
                0..self.input.output_partitioning().partition_count(),
                self.sort.input().output_partitioning().partition_count(),
            ),
            None => (partition..partition + 1, 1),
        };
        let inputs = inputs
            .map(|input| self.input.execute(input, Arc::clone(context)))
            .collect::<Result<Vec<_>>>()?;
        let gathering = Gathering {
            by: self.sort.expr().clone(),
            schema: self.schema(),
            keys: self.keys.clone().unwrap_or_default(),
            partitions,
            metrics: self.metrics.clone(),
            context: Arc::clone(context),
        };
        let gathered = gathering.run(inputs).map_ok(Arc::new).map_err(Arc::new).boxed().shared();
        *known = (partitions > 1).then(|| (gathered.clone(), partitions - 1));
        Ok(gathered)
    }
}

/// The rows of a partition in their order.
async fn sorted(
    rows: &Rows,
    partition: usize,
    (late, parts): (&[usize], &OnceLock<Arc<Parts>>),
    (by, schema, metrics, context): (LexOrdering, SchemaRef, BaselineMetrics, Arc<TaskContext>),
) -> Result<SendableRecordBatchStream> {
    match rows {
        Rows::Held(held) => {
            let memory = Arc::clone(&held.memory);
            let Some(keys) = held.keys.lock()[partition].take() else {
                return internal_err!("the rows of a partition are given once");
            };
            let rows = batch_rows(memory.size(), keys.rows(), &context);
            let timer = metrics.elapsed_compute().clone();
            // Partitions that have waited for the same would else be ordered one after the other.
            let order = blocking(move || {
                let _timer = timer.timer();
                keys.order(partition).map_err(Error::from_datafusion)
            });
            let order = order.await?;
            let sorted = Sorted::new(&held.parts, order, rows, late);
            if !late.is_empty() {
                parts.get_or_init(|| Arc::clone(&held.parts));
            }
            let schema = sorted.schema();
            let rows = sorted.inspect(move |batch| {
                // The memory is taken until all rows were given.
                let _ = &memory;
                metrics.record_output(batch.as_ref().map_or(0, RecordBatch::num_rows));
            });
            let rows = RecordBatchStreamAdapter::new(schema, stream::iter(rows));
            Ok(Box::pin(cooperative(rows)))
        }
        Rows::Spilled { runs, spills } => {
            let runs = std::mem::take(&mut *runs[partition].lock());
            if runs.is_empty() {
                return Ok(Box::pin(EmptyRecordBatchStream::new(schema)));
            }
            let options = &context.session_config().options().execution;
            let merging = MemoryConsumer::new("KeySortMerge").register(context.memory_pool());
            merging.try_resize(options.sort_spill_reservation_bytes)?;
            StreamingMergeBuilder::new()
                .with_sorted_spill_files(runs)
                .with_spill_manager(spills.clone())
                .with_schema(schema)
                .with_expressions(&by)
                .with_metrics(metrics)
                .with_batch_size(context.session_config().batch_size())
                .with_reservation(merging)
                .build()
        }
    }
}

impl DisplayAs for KeySortExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "KeySortExec: expr=[{}]", self.sort.expr())?;
        match &self.keys {
            None => Ok(()),
            Some(_) => write!(f, ", partitioning={}", self.sort.input().output_partitioning()),
        }
    }
}

impl ExecutionPlan for KeySortExec {
    fn name(&self) -> &str {
        "KeySortExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.sort.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.sort.apply_expressions(f)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] = children.as_slice() else { return internal_err!("a sort has one input") };
        let input = match &self.keys {
            None => Arc::clone(input),
            Some(_) => {
                let partitioning = self.sort.input().output_partitioning().clone();
                Arc::new(RepartitionExec::try_new(Arc::clone(input), partitioning)?)
            }
        };
        let sort = Arc::new(self.sort.clone()).replace_children(vec![input], recompute())?;
        match sort.downcast_ref::<SortExec>() {
            Some(sort) => Ok(Arc::new(KeySortExec::over(sort.clone()))),
            None => internal_err!("a sort is one"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        Ok(self.rows(partition, &[], context)?.stream)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests;
