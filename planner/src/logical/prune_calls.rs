//! A rule: a point-in-time join computes only the calls that something above it reads.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::logical::as_of_join::AsOfJoin;
use crate::source_table::SourceTable;

/// Removes calls that nothing reads, and joins without calls.
///
/// A call's column has a name of its own, so one is read only where that name occurs. Names are
/// collected over the whole plan when the rule meets its root.
#[derive(Debug, Default)]
pub struct PruneCalls;

impl OptimizerRule for PruneCalls {
    fn name(&self) -> &str {
        "prune_as_of_calls"
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let mut read = HashSet::new();
        let mut joins = 0;
        plan.apply_with_subqueries(|node| {
            joins += usize::from(as_of_join(node).is_some());
            node.apply_expressions(|expr| {
                for column in expr.column_refs() {
                    read.insert(column.name.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        // The columns of the result itself are read, too.
        read.extend(plan.schema().fields().iter().map(|f| f.name().clone()));
        if joins == 0 {
            return Ok(Transformed::no(plan));
        }
        plan.transform_up_with_subqueries(|node| prune(node, &read))
    }
}

fn as_of_join(plan: &LogicalPlan) -> Option<&AsOfJoin> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

fn prune(plan: LogicalPlan, read: &HashSet<String>) -> Result<Transformed<LogicalPlan>> {
    let Some(join) = as_of_join(&plan) else { return Ok(Transformed::no(plan)) };
    let calls: Vec<usize> =
        join.calls.iter().copied().filter(|c| read.contains(&join.track.call_name(*c))).collect();
    if calls.len() == join.calls.len() {
        return Ok(Transformed::no(plan));
    }
    if calls.is_empty() {
        return Ok(Transformed::yes(join.input.clone()));
    }
    let table = SourceTable::with_position(Arc::clone(&join.track.stream.source));
    let events = join
        .track
        .events_plan(&calls, provider_as_source(Arc::new(table)))
        .map_err(DataFusionError::from)?;
    let node = AsOfJoin::try_new(
        join.input.clone(),
        events,
        join.keys.clone(),
        join.as_of.clone(),
        (Arc::clone(&join.track), calls),
    )?;
    Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
}
