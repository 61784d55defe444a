//! The point-in-time join as an operator.
//!
//! 1. Both inputs come partitioned by key, ordered by key and time (DataFusion inserts what
//!    repartitioning and sorting that takes, and none where the order is there already).
//! 2. For each batch of the spine, the events up to its last key are read ([`super::as_of_stream`]).
//! 3. The kernels sweep once over spine and events for all calls.
//! 4. Of the events read, those that a later row may need stay.

use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};
use asofdb_udfs::Layout;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{internal_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, LexRequirement, OrderingRequirements,
    PhysicalExpr, PhysicalSortExpr, PhysicalSortRequirement,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, PlanProperties,
};

use super::as_of_stream::{AsOfStream, StreamParts};
use super::key_sort::KeySortExec;
use super::late_columns::LateColumns;
use crate::track::{EVENT_POSITION, EVENT_TIME, Track, event_key_name};

/// Keys and instants sort ascending, NULLs first.
pub const ORDER: SortOptions = SortOptions { descending: false, nulls_first: true };

/// The operator of [`crate::logical::as_of_join::AsOfJoin`].
#[derive(Debug)]
pub struct AsOfJoinExec {
    spine: Arc<dyn ExecutionPlan>,
    events: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    as_of: Arc<dyn PhysicalExpr>,
    computed: Arc<Computed>,
    event_order: LexOrdering,
    spine_order: LexOrdering,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What a join computes.
#[derive(Debug)]
struct Computed {
    /// The name of the source.
    source: String,
    /// The names of the calls.
    names: Vec<String>,
    layout: Arc<Layout>,
    late: Option<Arc<LateColumns>>,
    /// Whether a call gives the position of the event whose value it would give.
    positions: bool,
}

impl AsOfJoinExec {
    /// The operator over a spine and a track's events.
    pub fn try_new(
        (spine, events): (Arc<dyn ExecutionPlan>, Arc<dyn ExecutionPlan>),
        keys: Vec<Arc<dyn PhysicalExpr>>,
        as_of: Arc<dyn PhysicalExpr>,
        (track, calls): (&Track, &[usize]),
    ) -> Result<Self> {
        let (layout, _) = track.restricted(calls).map_err(DataFusionError::from)?;
        let computed = Computed {
            source: track.stream.source.name.clone(),
            names: calls.iter().map(|call| track.call_name(*call)).collect(),
            late: LateColumns::of(&layout, keys.len() + 2)?.map(Arc::new),
            layout: Arc::new(layout),
            positions: false,
        };
        AsOfJoinExec::computing(Arc::new(computed), (spine, events), keys, as_of)
    }

    /// The rows that the values are added to.
    pub fn spine(&self) -> &Arc<dyn ExecutionPlan> {
        &self.spine
    }

    /// If each call gives a value of one event, and is told which by nothing but order and frame:
    /// for each the column of the events with the values.
    pub fn picked_columns(&self) -> Option<Vec<usize>> {
        self.computed.late.as_ref()?.picked_columns(self.keys.len() + 2)
    }

    /// For a join with [`picked_columns`](Self::picked_columns) the one that gives the positions of
    /// these events in the place of their values; `events` have no columns.
    pub fn picking(&self, events: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let Some(late) = &self.computed.late else {
            return internal_err!("the calls of the join do not pick events");
        };
        let computed = Computed {
            source: self.computed.source.clone(),
            names: self.computed.names.clone(),
            layout: Arc::new(late.layout.clone()),
            late: None,
            positions: true,
        };
        let inputs = (Arc::clone(&self.spine), events);
        let (keys, as_of) = (self.keys.clone(), Arc::clone(&self.as_of));
        AsOfJoinExec::computing(Arc::new(computed), inputs, keys, as_of)
    }

    fn computing(
        computed: Arc<Computed>,
        (spine, events): (Arc<dyn ExecutionPlan>, Arc<dyn ExecutionPlan>),
        keys: Vec<Arc<dyn PhysicalExpr>>,
        as_of: Arc<dyn PhysicalExpr>,
    ) -> Result<Self> {
        let schema = output_schema(&spine, &computed);
        let sort = |expr: &Arc<dyn PhysicalExpr>| PhysicalSortExpr::new(Arc::clone(expr), ORDER);
        let mut order: Vec<_> = keys.iter().map(sort).collect();
        order.push(sort(&as_of));
        let spine_order = lex(order)?;
        let mut order = Vec::new();
        for name in (0..keys.len())
            .map(event_key_name)
            .chain([EVENT_TIME, EVENT_POSITION].map(str::to_owned))
        {
            let column: Arc<dyn PhysicalExpr> =
                Arc::new(Column::new_with_schema(&name, &events.schema())?);
            order.push(PhysicalSortExpr::new(column, ORDER));
        }
        let event_order = lex(order)?;
        let mut equivalence = EquivalenceProperties::new(Arc::clone(&schema));
        equivalence.add_ordering(spine_order.iter().cloned());
        let properties = Arc::new(PlanProperties::new(
            equivalence,
            spine.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Ok(AsOfJoinExec {
            spine,
            events,
            keys,
            as_of,
            computed,
            event_order,
            spine_order,
            schema,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

fn lex(order: Vec<PhysicalSortExpr>) -> Result<LexOrdering> {
    match LexOrdering::new(order) {
        Some(order) => Ok(order),
        None => plan_err!("an entity has at least one key column"),
    }
}

fn output_schema(spine: &Arc<dyn ExecutionPlan>, computed: &Computed) -> SchemaRef {
    let mut fields = spine.schema().fields().to_vec();
    for (name, call) in computed.names.iter().zip(computed.layout.calls()) {
        fields.push(Arc::new(Field::new(name, call.aggregate.output(), true)));
    }
    Arc::new(Schema::new_with_metadata(fields, spine.schema().metadata().clone()))
}

impl DisplayAs for AsOfJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        write!(
            f,
            "AsOfJoinExec: key=[{}], as_of={}, source={}, calls={}",
            keys.join(", "),
            self.as_of,
            self.computed.source,
            self.computed.names.len()
        )?;
        if self.computed.positions { write!(f, ", positions=true") } else { Ok(()) }
    }
}

impl ExecutionPlan for AsOfJoinExec {
    fn name(&self) -> &str {
        "AsOfJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let event_keys = self.event_order.iter().take(self.keys.len());
        InputDistributionRequirements::co_partitioned(vec![
            Distribution::KeyPartitioned(self.keys.clone()),
            Distribution::KeyPartitioned(event_keys.map(|s| Arc::clone(&s.expr)).collect()),
        ])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let require = |order: &LexOrdering| {
            let sorts = order.iter().cloned().map(PhysicalSortRequirement::from);
            LexRequirement::new(sorts).map(OrderingRequirements::new)
        };
        vec![require(&self.spine_order), require(&self.event_order)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true, false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.spine, &self.events]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.keys.iter().chain([&self.as_of]) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([spine, events]) = <[_; 2]>::try_from(children) else {
            return internal_err!("AsOfJoinExec has two inputs");
        };
        Ok(Arc::new(AsOfJoinExec::computing(
            Arc::clone(&self.computed),
            (spine, events),
            self.keys.clone(),
            Arc::clone(&self.as_of),
        )?))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let spine = self.spine.execute(partition, Arc::clone(&context))?;
        let (events, late) = match (self.events.downcast_ref::<KeySortExec>(), &self.computed.late)
        {
            (Some(sort), Some(late)) => {
                let rows = sort.rows(partition, &late.columns, Arc::clone(&context))?;
                (rows.stream, Some((Arc::clone(late), rows.late)))
            }
            _ => (self.events.execute(partition, Arc::clone(&context))?, None),
        };
        AsOfStream::start(StreamParts {
            spine,
            events,
            late,
            keys: self.keys.clone(),
            as_of: Arc::clone(&self.as_of),
            layout: Arc::clone(&self.computed.layout),
            positions: self.computed.positions,
            schema: Arc::clone(&self.schema),
            context,
            metrics: (self.metrics.clone(), partition),
        })
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
