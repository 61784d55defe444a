//! The sort below the point-in-time join.
//!
//! What is sorted by are integers: keys, instants, positions. So rows are not compared: the numbers
//! of a row by which it is sorted and where it lies are packed into one word (`packed`), the words
//! are sorted, and rows are copied once, in their order. What does not fit into memory is sorted in
//! parts, which are spilled and merged by DataFusion.

mod packed;
mod sorter;

use std::fmt;
use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties, ReplaceChildrenOptions,
};

use super::as_of_join::AsOfJoinExec;
use sorter::Sorter;

/// Sorts each partition of its input, as the [`SortExec`] that it stands for.
#[derive(Debug)]
pub struct KeySortExec {
    sort: SortExec,
    metrics: ExecutionPlanMetricsSet,
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
            && (sort.preserve_partitioning() || partitions == 1)
            && sort
                .expr()
                .iter()
                .all(|by| by.options == super::as_of_join::ORDER && packs(&by.expr));
        sorts.then(|| KeySortExec { sort: sort.clone(), metrics: ExecutionPlanMetricsSet::new() })
    }
}

impl DisplayAs for KeySortExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "KeySortExec: expr=[{}]", self.sort.expr())
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
        vec![self.sort.input()]
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
        let sort = Arc::new(self.sort.clone()).replace_children(children, recompute())?;
        match sort.downcast_ref::<SortExec>() {
            Some(sort) => Ok(Arc::new(KeySortExec {
                sort: sort.clone(),
                metrics: ExecutionPlanMetricsSet::new(),
            })),
            None => internal_err!("a sort is one"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.sort.input().execute(partition, Arc::clone(&context))?;
        let order = self.sort.expr().clone();
        Ok(Sorter::new(order, input.schema(), (&self.metrics, partition), &context).run(input))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests;
