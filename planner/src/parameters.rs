//! The types of a statement's parameters, and of its result with them.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{Cast, Placeholder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};

/// The parameters that a statement may have: the protocol counts them with 16 bits.
pub const PARAMETERS_MAX: usize = u16::MAX as usize;

/// The parameters' types, `$1` first. What the plan needs comes before what the client declared,
/// and that before what a cast or `LIMIT` suggests. [`DataType::Null`] is where nothing tells it.
pub fn parameter_types(plan: &LogicalPlan, declared: &[Option<DataType>]) -> Result<Vec<DataType>> {
    // Refuses a parameter that has to be of two types.
    plan.get_parameter_types()?;
    let mut indexed = BTreeMap::new();
    for (id, used) in uses(plan)? {
        let index = id.trim_start_matches('$').parse().unwrap_or(0);
        if !(1..=PARAMETERS_MAX).contains(&index) {
            return Err(Error::NoParameter { id });
        }
        indexed.insert(index - 1, used);
    }
    Ok(settle(declared, indexed))
}

/// The types of the parameters by what is said of them; 0 is the index of `$1`.
pub fn settle(declared: &[Option<DataType>], uses: BTreeMap<usize, Uses>) -> Vec<DataType> {
    let mut types = declared.to_vec();
    for (index, used) in uses {
        types.resize(types.len().max(index + 1), None);
        let declared = types[index].take();
        types[index] = used.needed.or(declared).or(used.suggested);
    }
    types.into_iter().map(|known| known.unwrap_or(DataType::Null)).collect()
}

/// What the places where a parameter stands say of its type.
#[derive(Default)]
pub struct Uses {
    /// The type that it has to be of.
    pub needed: Option<DataType>,
    /// The type that it is cast to, which counts if the client declared none.
    pub suggested: Option<DataType>,
}

/// DataFusion leaves open what stands in `CAST ($1 AS type)` and `LIMIT $1`.
fn uses(plan: &LogicalPlan) -> Result<BTreeMap<String, Uses>> {
    let mut uses = BTreeMap::<String, Uses>::new();
    plan.apply_with_subqueries(|node| {
        let limits = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|whole| {
            if limits && let Expr::Placeholder(Placeholder { id, .. }) = whole {
                uses.entry(id.clone()).or_default().suggested.get_or_insert(DataType::Int64);
            }
            whole.apply(|part| {
                match part {
                    Expr::Placeholder(Placeholder { id, field }) => {
                        let known = field.as_ref().map(|f| f.data_type()).filter(|t| !t.is_null());
                        let needed = &mut uses.entry(id.clone()).or_default().needed;
                        *needed = needed.take().or(known.cloned());
                    }
                    Expr::Cast(Cast { expr, field }) => {
                        if let Expr::Placeholder(Placeholder { id, .. }) = expr.as_ref() {
                            let suggested = &mut uses.entry(id.clone()).or_default().suggested;
                            suggested.get_or_insert_with(|| field.data_type().clone());
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(uses)
}

/// The result's columns. Their types may depend on those of the parameters, and on the casts that
/// come in when the plan is analyzed.
pub fn result_schema(
    state: &SessionState,
    plan: &LogicalPlan,
    parameters: &[DataType],
) -> Result<SchemaRef> {
    let mut plan = plan.clone();
    if !parameters.is_empty() {
        let values: Vec<_> = parameters.iter().map(unknown).collect::<Result<_>>()?;
        plan = plan.with_param_values(ParamValues::from(values))?;
    }
    let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {});
    Ok(analyzed.map_err(Error::from_datafusion)?.schema().inner().clone())
}

/// NULL of a parameter's type. One that is open takes texts.
fn unknown(parameter: &DataType) -> Result<ScalarValue> {
    let text = DataType::Utf8;
    Ok(ScalarValue::try_from(if parameter.is_null() { &text } else { parameter })?)
}
