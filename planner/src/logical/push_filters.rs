//! A rule: conditions on the spine alone are applied before the point-in-time join.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Extension, Filter, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::logical::as_of_join::AsOfJoin;

/// Moves the parts of a filter that name only the spine's columns below the join. The join adds
/// columns to rows and neither drops nor repeats any, so the order does not matter.
#[derive(Debug, Default)]
pub struct PushFilters;

impl OptimizerRule for PushFilters {
    fn name(&self) -> &str {
        "push_filters_below_as_of_join"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Extension(extension) = filter.input.as_ref() else {
            return Ok(Transformed::no(plan));
        };
        let Some(join) = extension.node.as_any().downcast_ref::<AsOfJoin>() else {
            return Ok(Transformed::no(plan));
        };
        let spine = join.input.schema();
        let (below, above): (Vec<_>, Vec<_>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(|part| {
                !part.is_volatile() && part.column_refs().iter().all(|c| spine.has_column(c))
            });
        let Some(below) = conjunction(below) else { return Ok(Transformed::no(plan)) };
        let input = LogicalPlanBuilder::from(join.input.clone()).filter(below)?.build()?;
        let joined = AsOfJoin::try_new(
            input,
            join.events.clone(),
            join.keys.clone(),
            join.as_of.clone(),
            (Arc::clone(&join.track), join.calls.clone()),
        )?;
        let joined = LogicalPlan::Extension(Extension { node: Arc::new(joined) });
        Ok(Transformed::yes(match conjunction(above) {
            None => joined,
            Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(joined))?),
        }))
    }
}
