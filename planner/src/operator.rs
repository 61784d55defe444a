//! Physical operators of our own, and the planner that makes them from our logical nodes.

pub mod as_of_join;
mod as_of_stream;
pub mod direct_lookup;
mod key_sort;
mod late_columns;
mod late_fetch;
pub mod online_lookup;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use crate::logical::as_of_join::AsOfJoin;
use crate::logical::entity_scan::KeyValues;
use crate::logical::online_lookup::OnlineLookup;
use crate::maintain::Timelines;
use crate::recompute::Recompute;
use as_of_join::AsOfJoinExec;
use late_fetch::LateFetchExec;
use online_lookup::{KeyAccess, OnlineLookupExec};

/// Plans our nodes; DataFusion plans the rest.
#[derive(Debug)]
pub struct AsofQueryPlanner {
    timelines: Arc<Timelines>,
    recompute: Recompute,
}

impl AsofQueryPlanner {
    /// A planner whose lookups read `timelines`, or what they have forgotten by `recompute`.
    pub fn new(timelines: Arc<Timelines>, recompute: Recompute) -> Self {
        AsofQueryPlanner { timelines, recompute }
    }
}

#[async_trait]
impl QueryPlanner for AsofQueryPlanner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (timelines, recompute) = (Arc::clone(&self.timelines), self.recompute.clone());
        let nodes = NodePlanner { timelines, recompute };
        let plan = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(nodes)])
            .create_physical_plan(logical_plan, session)
            .await?;
        key_sort::sort_by_keys(plan)
    }
}

struct NodePlanner {
    timelines: Arc<Timelines>,
    recompute: Recompute,
}

#[async_trait]
impl ExtensionPlanner for NodePlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _planning_ctx: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(join) = node.as_any().downcast_ref::<AsOfJoin>() {
            let schema = logical_inputs[0].schema();
            let exec = AsOfJoinExec::try_new(
                (Arc::clone(&physical_inputs[0]), Arc::clone(&physical_inputs[1])),
                exprs(&join.keys, schema, session)?,
                session.create_physical_expr(join.as_of.clone(), schema)?,
                (&join.track, &join.calls),
            )?;
            let exec = Arc::new(exec);
            return match LateFetchExec::plan(&exec, join, (planner, session)).await? {
                Some(fetch) => Ok(Some(Arc::new(fetch))),
                None => Ok(Some(exec)),
            };
        }
        if let Some(lookup) = node.as_any().downcast_ref::<OnlineLookup>() {
            return Ok(Some(Arc::new(self.plan_lookup(lookup, session)?)));
        }
        Ok(None)
    }
}

impl NodePlanner {
    fn plan_lookup(
        &self,
        lookup: &OnlineLookup,
        session: &dyn Session,
    ) -> Result<OnlineLookupExec> {
        let empty = DFSchema::empty();
        let access = match &lookup.keys {
            None => KeyAccess::Known,
            Some(keys) => {
                let plan = |values: &KeyValues| match values {
                    KeyValues::List(list) => {
                        Ok(online_lookup::KeyColumn::List(exprs(list, &empty, session)?))
                    }
                    KeyValues::Array(array) => session
                        .create_physical_expr(array.clone(), &empty)
                        .map(online_lookup::KeyColumn::Array),
                };
                KeyAccess::Given(keys.iter().map(plan).collect::<Result<_>>()?)
            }
        };
        OnlineLookupExec::try_new(
            Arc::clone(&lookup.entity),
            access,
            session.create_physical_expr(lookup.as_of.clone(), &empty)?,
            lookup.projection.clone(),
            (&self.timelines, &self.recompute),
            session,
        )
    }
}

fn exprs(
    exprs: &[Expr],
    schema: &DFSchema,
    session: &dyn Session,
) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    exprs.iter().map(|e| session.create_physical_expr(e.clone(), schema)).collect()
}
