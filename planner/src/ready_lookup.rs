//! Lookups that are planned once and run many times.
//!
//! 1. A query that reads nothing but entities is analyzed and optimized with its parameters left
//!    open, and the instant of the statement as one more parameter.
//! 2. Its physical plan has a function in the place of each parameter, which answers with the value
//!    that the running statement has bound. One statement at a time has such a plan for itself;
//!    there come to be as many as run at once.
//!
//! What reads events is planned for each execution: the values decide which files are read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::scalar::ScalarValue;
use futures::{Stream, TryStreamExt};
use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::functions::{Bound, is_constant, is_now, parameter};
use crate::logical::entity_scan::{EntityTable, as_of_argument};
use crate::logical::online_lookup::OnlineLookup;
use crate::operator::direct_lookup::{DirectLookup, Found};
use crate::operator::online_lookup::LOOKUP;
use crate::planning::Planning;
use crate::types::{UTC, instant_type};

/// The parameter that is the instant of the statement.
const NOW: &str = "$now";

/// Plans that are kept for the next statements.
const IDLE_MAX: usize = 64;

/// A lookup whose plan waits for the values of its parameters.
pub struct ReadyLookup {
    /// Optimized; the parameters are placeholders.
    plan: LogicalPlan,
    parameters: Vec<DataType>,
    planning: Planning,
    catalog: Arc<Catalog>,
    /// The same, if it is to read given keys and no more.
    direct: Option<Arc<DirectLookup>>,
    idle: Mutex<Vec<Instance>>,
}

/// A physical plan and the values that it runs with.
struct Instance {
    plan: Arc<dyn ExecutionPlan>,
    bound: Arc<Bound>,
}

impl ReadyLookup {
    /// Plans a query whose parameters have these types. `None` if it has to be planned for each
    /// execution.
    pub async fn plan(
        planning: &Planning,
        catalog: &Arc<Catalog>,
        plan: &LogicalPlan,
        parameters: &[DataType],
    ) -> Option<ReadyLookup> {
        if parameters.iter().any(DataType::is_null) || !is_lookup(plan).ok()? {
            return None;
        }
        let open = open_parameters(plan.clone(), parameters).ok()?;
        let optimized = planning.state(catalog).optimize(&open).ok()?;
        if may_ask_for_keys(&optimized).ok()? {
            return None;
        }
        let mut ready = ReadyLookup {
            plan: optimized,
            parameters: parameters.to_vec(),
            planning: planning.clone(),
            catalog: Arc::clone(catalog),
            direct: None,
            idle: Mutex::default(),
        };
        let instance = ready.instance().await.ok()?;
        if !reads_only_lookups(&instance.plan) {
            return None;
        }
        ready.direct = DirectLookup::of(&instance.plan).map(Arc::new);
        ready.idle.lock().push(instance);
        Some(ready)
    }

    /// Whether it can run with these values: they have the types it was planned for.
    pub fn takes(&self, values: &[ScalarValue]) -> bool {
        let types = values.iter().map(ScalarValue::data_type);
        values.len() == self.parameters.len() && types.zip(&self.parameters).all(|(a, b)| a == *b)
    }

    /// The rows of given keys, if that is what it reads; `None` if it is to be run.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn find(&self, parameters: &[ScalarValue]) -> Result<Option<Found>> {
        match &self.direct {
            Some(direct) => direct.read(parameters, self.planning.now_micros()).await,
            None => Ok(None),
        }
    }

    /// Runs it until its first rows are there.
    ///
    /// # Errors
    /// [`Error::Changed`] if the features were changed since it was planned; those of the lookup.
    pub async fn run(self: &Arc<Self>, parameters: &[ScalarValue]) -> Result<ReadyRows> {
        let idle = self.idle.lock().pop();
        let instance = match idle {
            Some(instance) => instance,
            None => Box::pin(self.instance()).await?,
        };
        let now = self.planning.now_micros();
        let mut values = Vec::with_capacity(parameters.len() + 1);
        values.extend_from_slice(parameters);
        values.push(ScalarValue::TimestampMicrosecond(Some(now), Some(UTC.into())));
        instance.bound.set(values);
        let plan = Arc::clone(&instance.plan);
        let context = Arc::clone(self.planning.task_context());
        let mut rows = execute_stream(plan, context).map_err(Error::from_datafusion)?;
        let first = rows.try_next().await.map_err(Error::from_datafusion)?;
        Ok(ReadyRows { first, rows, instance: Some(instance), lookup: Arc::clone(self) })
    }

    /// A physical plan of its own.
    async fn instance(&self) -> Result<Instance> {
        let bound = Arc::<Bound>::default();
        let place = |expr: Expr| match expr {
            Expr::Placeholder(Placeholder { id, field: Some(field) }) => {
                let place = match id.as_str() {
                    NOW => Some(self.parameters.len()),
                    id => parameter_index(id),
                };
                Ok(match place {
                    Some(place) => Transformed::yes(parameter(place, field.data_type(), &bound)),
                    None => Transformed::no(Expr::Placeholder(Placeholder::new_with_field(
                        id,
                        Some(field),
                    ))),
                })
            }
            other => Ok(Transformed::no(other)),
        };
        let plan = map_all(self.plan.clone(), place).map_err(Error::from_datafusion)?;
        let state = self.planning.state(&self.catalog);
        let planner = state.query_planner();
        let plan = planner.create_physical_plan(&plan, &state).await;
        Ok(Instance { plan: plan.map_err(Error::from_datafusion)?, bound })
    }

    /// Takes back a plan that has run to its end.
    fn take_back(&self, instance: Instance) {
        let Ok(plan) = reset_plan_states(instance.plan) else { return };
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(Instance { plan, bound: instance.bound });
        }
    }
}

impl std::fmt::Debug for ReadyLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadyLookup").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// The rows of a lookup that runs.
pub struct ReadyRows {
    first: Option<RecordBatch>,
    rows: SendableRecordBatchStream,
    /// Given back at the end of the rows. A plan that is left before may still be at work.
    instance: Option<Instance>,
    lookup: Arc<ReadyLookup>,
}

impl Stream for ReadyRows {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.instance.is_none() {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(self.rows.as_mut().poll_next(context));
        if next.is_none()
            && let Some(instance) = self.instance.take()
        {
            self.lookup.take_back(instance);
        }
        Poll::Ready(next)
    }
}

impl RecordBatchStream for ReadyRows {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

/// Whether a plan reads nothing but entities, and its functions give the same at any time.
fn is_lookup(plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    let (mut lookup, mut entities) = (true, 0);
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                let any: &dyn std::any::Any = provider.as_ref();
                match any.is::<EntityTable>() {
                    true => entities += 1,
                    false => lookup = false,
                }
            }
            LogicalPlan::Extension(_) | LogicalPlan::Values(_) => lookup = false,
            _ => {}
        }
        node.apply_expressions(|whole| {
            whole.apply(|part| {
                if let Expr::ScalarFunction(call) = part {
                    lookup &= call.func.signature().volatility != Volatility::Stable
                        || is_now(&call.func)
                        || is_constant(&call.func)
                        || as_of_argument(part).is_some();
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(lookup && entities > 0)
}

/// Whether all keys are read and a condition on what is read has a parameter: with its value the
/// rules may see that the condition asks for some keys, which have rows even if they are not known.
fn may_ask_for_keys(plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    let (mut reads_all, mut has_parameter) = (false, false);
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node {
            let lookup = extension.node.as_any().downcast_ref::<OnlineLookup>();
            reads_all |= lookup.is_some_and(|lookup| lookup.keys.is_none());
        }
        if matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_)) {
            node.apply_expressions(|whole| {
                has_parameter |= whole.exists(|part| Ok(matches!(part, Expr::Placeholder(_))))?;
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reads_all && has_parameter)
}

/// Whether the leaves of a physical plan are lookups, or nothing.
fn reads_only_lookups(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let children = plan.children();
    match children.is_empty() {
        true => matches!(plan.name(), LOOKUP | "PlaceholderRowExec" | "EmptyExec"),
        false => children.into_iter().all(reads_only_lookups),
    }
}

/// Gives the placeholders their types and makes the statement's instant one of them.
fn open_parameters(
    plan: LogicalPlan,
    parameters: &[DataType],
) -> Result<LogicalPlan, DataFusionError> {
    map_all(plan, |expr| match expr {
        Expr::Placeholder(Placeholder { id, .. }) => {
            let known = parameter_index(&id).and_then(|index| parameters.get(index));
            let field = known.map(|known| Arc::new(Field::new("", known.clone(), true)));
            Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(id, field))))
        }
        Expr::ScalarFunction(call) if is_now(&call.func) => {
            let field = Some(Arc::new(Field::new("", instant_type(), false)));
            Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(NOW.into(), field))))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// The place of `$1` is 0.
fn parameter_index(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

/// Maps the expressions of a plan and its subqueries; columns keep their names.
fn map_all(
    plan: LogicalPlan,
    map: impl Fn(Expr) -> Result<Transformed<Expr>, DataFusionError>,
) -> Result<LogicalPlan, DataFusionError> {
    let mapped = plan.transform_up_with_subqueries(|node| {
        let names = matches!(
            node,
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)
        );
        let names = names.then(|| NamePreserver::new(&node));
        node.map_expressions(|expr| {
            let name = names.as_ref().map(|names| names.save(&expr));
            let mapped = expr.transform_up(&map)?;
            Ok(mapped.update_data(|expr| match name {
                Some(name) => name.restore(expr),
                None => expr,
            }))
        })
    })?;
    Ok(mapped.data)
}

#[cfg(test)]
mod tests;
