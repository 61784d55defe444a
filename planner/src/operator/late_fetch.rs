//! A point-in-time join that gives nothing but values of single events, in two passes over files.
//!
//! 1. The join reads keys, instants and positions, and picks the position of one event for each row
//!    and call. Its rows are held.
//! 2. The columns are read, and of each batch only the rows are kept that were picked.
//!
//! So no more of the columns is in memory than what is picked. If that and the held rows take more
//! than a share of the memory, the join is run in one pass, which can spill. Files that change
//! between the passes are an error.

mod picked;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::{interleave, max};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::common::{internal_err, resources_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use datafusion::physical_planner::PhysicalPlanner;
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, stream};
use parking_lot::Mutex;

use super::as_of_join::AsOfJoinExec;
use crate::catalog::Connector;
use crate::logical::as_of_join::AsOfJoin;
use crate::source_file::FileStamps;
use crate::task::{all_beside, blocking};
use picked::{Picked, PickedRows};

/// The part of the statements' memory that one join may hold.
const MEMORY_SHARE: usize = 4;

/// Batches whose values are fetched together.
const GROUP: usize = 16;

/// The operator. Its rows, their order and their partitions are those of `whole`.
#[derive(Debug)]
pub struct LateFetchExec {
    /// Gives positions in the place of the calls' values.
    picks: Arc<dyn ExecutionPlan>,
    /// The events' positions and columns.
    values: Arc<dyn ExecutionPlan>,
    /// The join in one pass.
    whole: Arc<dyn ExecutionPlan>,
    /// For each call which column of the events has its value.
    columns: Vec<usize>,
    /// What the files were before both passes were planned.
    files: FileStamps,
    /// The result, when a partition was asked for, and how many partitions were not.
    fetched: Mutex<Option<(Fetching, usize)>>,
    metrics: ExecutionPlanMetricsSet,
}

/// A result that comes when somebody waits for it.
type Fetching = Shared<BoxFuture<'static, Result<Arc<Fetched>, Arc<DataFusionError>>>>;

/// What both passes gave.
struct Fetched {
    /// Of each partition the batches of the first, until it takes them.
    partitions: Mutex<Vec<Option<Vec<RecordBatch>>>>,
    rows: PickedRows,
    /// For the above.
    _memory: Arc<Memory>,
}

/// What is held in memory.
struct Memory {
    reservation: MemoryReservation,
    most: usize,
}

impl Memory {
    fn new(context: &TaskContext) -> Self {
        let pool = context.memory_pool();
        let most = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / MEMORY_SHARE,
            MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
        };
        Memory { reservation: MemoryConsumer::new("LateFetch").register(pool), most }
    }

    fn try_grow(&self, bytes: usize) -> Result<()> {
        if self.reservation.size().saturating_add(bytes) > self.most {
            return resources_err!("what is picked takes more than {} bytes", self.most);
        }
        self.reservation.try_grow(bytes)
    }

    fn shrink(&self, bytes: usize) {
        self.reservation.shrink(bytes);
    }
}

impl LateFetchExec {
    /// Plans both passes of a join over files of others; `None` for other joins.
    pub async fn plan(
        whole: &Arc<AsOfJoinExec>,
        join: &AsOfJoin,
        (planner, session): (&dyn PhysicalPlanner, &dyn Session),
    ) -> Result<Option<Self>> {
        let Connector::Parquet { files } = &join.track.stream.source.connector else {
            return Ok(None);
        };
        let Some(columns) = whole.picked_columns() else { return Ok(None) };
        // Two inputs have the rows of the spine: with such a join among these, plans would double
        // with each join.
        if contains_fetch(whole.spine()) {
            return Ok(None);
        }
        let files = FileStamps::of(files).await?;
        let (keys, width) = (join.keys.len(), join.events.schema().fields().len());
        let events = |plan: LogicalPlan, columns: Range<usize>| {
            let plan = LogicalPlanBuilder::from(plan).select(columns)?.build()?;
            let rule = OptimizeProjections::new();
            Ok::<LogicalPlan, DataFusionError>(rule.rewrite(plan, &OptimizerContext::new())?.data)
        };
        let narrow = planner
            .create_physical_plan(&events(join.events.clone(), 0..keys + 2)?, session)
            .await?;
        let picks = Arc::new(whole.picking(narrow)?);
        let values = events(unfiltered(&join.events)?, keys + 1..width)?;
        let values = planner.create_physical_plan(&values, session).await?;
        let whole = Arc::clone(whole) as Arc<dyn ExecutionPlan>;
        Ok(Some(LateFetchExec::new((picks, values, whole), columns, files)))
    }

    fn new(
        (picks, values, whole): (
            Arc<dyn ExecutionPlan>,
            Arc<dyn ExecutionPlan>,
            Arc<dyn ExecutionPlan>,
        ),
        columns: Vec<usize>,
        files: FileStamps,
    ) -> Self {
        let (fetched, metrics) = (Mutex::default(), ExecutionPlanMetricsSet::new());
        LateFetchExec { picks, values, whole, columns, files, fetched, metrics }
    }

    /// The result of all partitions.
    fn fetching(&self, context: &Arc<TaskContext>) -> Result<Fetching> {
        let mut known = self.fetched.lock();
        if let Some((fetching, left)) = known.take() {
            *known = (left > 1).then(|| (fetching.clone(), left - 1));
            return Ok(fetching);
        }
        let picks = execute_all(&self.picks, context)?;
        let (partitions, calls) = (picks.len(), self.columns.len());
        let (values, files) = (Arc::clone(&self.values), self.files.clone());
        let (memory, context) = (Arc::new(Memory::new(context)), Arc::clone(context));
        let fetching = async move {
            let (partitions, picked) = pick(picks, calls, &memory).await?;
            // No reader is started before it is waited for.
            let values = execute_all(&values, &context)?;
            let rows = keep(values, picked, &memory).await;
            // Of files that were changed rows may lack.
            files.check().await?;
            let rows = rows?;
            Ok(Fetched { partitions: Mutex::new(partitions), rows, _memory: memory })
        };
        let fetching = fetching.map_ok(Arc::new).map_err(Arc::new).boxed().shared();
        *known = (partitions > 1).then(|| (fetching.clone(), partitions - 1));
        Ok(fetching)
    }
}

fn execute_all(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<Vec<SendableRecordBatchStream>> {
    let partitions = 0..plan.output_partitioning().partition_count();
    partitions.map(|partition| plan.execute(partition, Arc::clone(context))).collect()
}

/// Events that a filter leaves out are not picked, and need not be left out once more; but what is
/// computed of events may fail for these.
fn unfiltered(events: &LogicalPlan) -> Result<LogicalPlan> {
    let is_column = |expr: &Expr| matches!(expr.clone().unalias(), Expr::Column(_));
    match events {
        LogicalPlan::Projection(projection) if projection.expr.iter().all(is_column) => {
            let below = |node| match node {
                LogicalPlan::Filter(filter) => {
                    Ok(Transformed::yes(Arc::unwrap_or_clone(filter.input)))
                }
                other => Ok(Transformed::no(other)),
            };
            Ok(events.clone().transform_up(below)?.data)
        }
        _ => Ok(events.clone()),
    }
}

/// Whether a join in two passes is in a plan.
fn contains_fetch(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<LateFetchExec>() || plan.children().into_iter().any(contains_fetch)
}

/// The first pass: its batches, whose last columns are the calls', and the positions in them.
async fn pick(
    picks: Vec<SendableRecordBatchStream>,
    calls: usize,
    memory: &Arc<Memory>,
) -> Result<(Vec<Option<Vec<RecordBatch>>>, Picked)> {
    let partitions = all_beside(picks.into_iter().map(|mut picks| {
        let memory = Arc::clone(memory);
        async move {
            let (mut batches, mut most) = (Vec::new(), None);
            while let Some(batch) = picks.try_next().await? {
                memory.try_grow(get_record_batch_memory_size(&batch))?;
                let largest = numbers(&batch, calls).into_iter();
                let largest = largest.filter_map(|n| max(n.as_primitive::<Int64Type>())).max();
                most = most.max(largest);
                batches.push(batch);
            }
            Ok((batches, most))
        }
    }))
    .await?;
    let most = partitions.iter().filter_map(|(_, most)| *most).max();
    memory.try_grow(Picked::bytes(most))?;
    let partitions: Vec<_> = partitions.into_iter().map(|(batches, _)| batches).collect();
    let filled = blocking(move || {
        let numbers = partitions.iter().flatten().flat_map(|batch| numbers(batch, calls));
        let picked = Picked::of(most, numbers);
        Ok((partitions.into_iter().map(Some).collect(), picked))
    });
    Ok(filled.await?)
}

/// The second pass: the rows that were picked.
async fn keep(
    values: Vec<SendableRecordBatchStream>,
    picked: Picked,
    memory: &Arc<Memory>,
) -> Result<PickedRows> {
    let picked = Arc::new(picked);
    let kept = all_beside(values.into_iter().map(|mut values| {
        let (picked, memory) = (Arc::clone(&picked), Arc::clone(memory));
        async move {
            let mut kept = Vec::new();
            while let Some(batch) = values.try_next().await? {
                let batch = picked.keep(&batch)?;
                if batch.num_rows() > 0 {
                    memory.try_grow(get_record_batch_memory_size(&batch))?;
                    kept.push(batch);
                }
            }
            Ok(kept)
        }
    }))
    .await?;
    // Parts are made beside what they are made of.
    let bytes = kept.iter().flatten().map(get_record_batch_memory_size).sum();
    memory.try_grow(bytes)?;
    memory.try_grow(PickedRows::place_bytes(&picked))?;
    let rows = PickedRows::of(picked, kept.into_iter().flatten().collect(), bytes).await?;
    memory.shrink(bytes);
    Ok(rows)
}

/// The calls' columns; of equal ones that follow each other one.
fn numbers(batch: &RecordBatch, calls: usize) -> Vec<ArrayRef> {
    let mut columns = batch.columns()[batch.num_columns() - calls..].to_vec();
    columns.dedup_by(|a, b| Arc::ptr_eq(a, b));
    columns
}

impl Fetched {
    /// The rows of a partition.
    fn batches(
        self: Arc<Self>,
        partition: usize,
        columns: Vec<usize>,
        schema: SchemaRef,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
        let Some(batches) = self.partitions.lock()[partition].take() else {
            return internal_err!("the rows of a partition are given once");
        };
        let mut batches = batches.into_iter();
        let groups = std::iter::from_fn(move || {
            let group: Vec<_> = batches.by_ref().take(GROUP).collect();
            (!group.is_empty()).then(|| self.fetch(&group, &columns, &schema))
        });
        Ok(groups.flat_map(|group| match group {
            Ok(batches) => batches.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }))
    }

    /// Puts values in the place of positions, a column after the other: the values of one are likely
    /// to stay in the processor's cache.
    fn fetch(
        &self,
        group: &[RecordBatch],
        columns: &[usize],
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let spine = schema.fields().len() - columns.len();
        let mut all: Vec<Vec<ArrayRef>> =
            group.iter().map(|batch| batch.columns()[..spine].to_vec()).collect();
        let mut places: Vec<Vec<(usize, usize)>> = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            let call = spine + index;
            let same =
                |batch: &RecordBatch| Arc::ptr_eq(batch.column(call), batch.column(call - 1));
            if index == 0 || !group.iter().all(same) {
                let of_batch = |batch: &RecordBatch| {
                    self.rows.places(batch.column(call).as_primitive::<Int64Type>())
                };
                places = group.iter().map(of_batch).collect();
            }
            let nothing = new_null_array(schema.field(call).data_type(), 1);
            let parts = self.rows.parts().iter().map(|part| part.column(*column));
            let parts: Vec<&dyn Array> = parts.chain([&nothing]).map(AsRef::as_ref).collect();
            for (all, places) in all.iter_mut().zip(&places) {
                all.push(interleave(&parts, places)?);
            }
        }
        let batches = all.into_iter().map(|all| RecordBatch::try_new(Arc::clone(schema), all));
        Ok(batches.collect::<Result<_, _>>()?)
    }
}

/// Whether a plan failed for want of memory.
fn lacks_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

impl DisplayAs for LateFetchExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "LateFetchExec: calls={}", self.columns.len())
    }
}

impl ExecutionPlan for LateFetchExec {
    fn name(&self) -> &str {
        "LateFetchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.whole.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        // An order by a call's value is none by its position.
        vec![false; 3]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; 3]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.picks, &self.values, &self.whole]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([picks, values, whole]) = <[_; 3]>::try_from(children) else {
            return internal_err!("LateFetchExec has three inputs");
        };
        let (columns, files) = (self.columns.clone(), self.files.clone());
        Ok(Arc::new(LateFetchExec::new((picks, values, whole), columns, files)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let partitions = |plan: &Arc<dyn ExecutionPlan>| plan.output_partitioning().clone();
        if partitions(&self.picks).partition_count() != partitions(&self.whole).partition_count() {
            return self.whole.execute(partition, context);
        }
        let fetching = self.fetching(&context)?;
        let (whole, columns, schema) =
            (Arc::clone(&self.whole), self.columns.clone(), self.schema());
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = async move {
            let fetched = match fetching.await {
                Err(error) if lacks_memory(&error) => return whole.execute(partition, context),
                done => done.map_err(DataFusionError::Shared)?,
            };
            let rows = fetched.batches(partition, columns, Arc::clone(&schema))?;
            let rows = rows.inspect(move |batch| {
                metrics.record_output(batch.as_ref().map_or(0, RecordBatch::num_rows));
            });
            let rows = RecordBatchStreamAdapter::new(schema, stream::iter(rows));
            Ok(Box::pin(cooperative(rows)) as SendableRecordBatchStream)
        };
        let rows = stream::once(rows).try_flatten().fuse();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests;
