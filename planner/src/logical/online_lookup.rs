//! Reading an entity as of one instant: by key, or all keys known then. A rule turns each scan of
//! an [`EntityTable`] into this node once the filters have been pushed down.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, internal_err};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, TableScan, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::catalog::Entity;
use crate::logical::entity_scan::{
    EntityTable, KeyValues, as_of_argument, choose_key_filters, key_values,
};

/// One row for each distinct non-NULL key among `keys`, or for each key known at the instant.
#[derive(Clone, Debug)]
pub struct OnlineLookup {
    /// The entity.
    pub entity: Arc<Entity>,
    /// For each key column its values; `None` reads all known keys.
    pub keys: Option<Vec<KeyValues>>,
    /// The instant.
    pub as_of: Expr,
    /// The entity's columns that are read.
    pub projection: Vec<usize>,
    schema: DFSchemaRef,
}

impl OnlineLookup {
    fn identity(&self) -> (u32, &Option<Vec<KeyValues>>, &Expr, &[usize]) {
        (self.entity.id, &self.keys, &self.as_of, &self.projection)
    }
}

impl PartialEq for OnlineLookup {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity() && self.schema == other.schema
    }
}

impl Eq for OnlineLookup {}

impl PartialOrd for OnlineLookup {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.identity()
            .partial_cmp(&other.identity())
            .filter(|o| *o != Ordering::Equal || self == other)
    }
}

impl Hash for OnlineLookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for OnlineLookup {
    fn name(&self) -> &str {
        "OnlineLookup"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let mut exprs = vec![self.as_of.clone()];
        for values in self.keys.iter().flatten() {
            match values {
                KeyValues::List(list) => exprs.extend(list.iter().cloned()),
                KeyValues::Array(array) => exprs.push(array.clone()),
            }
        }
        exprs
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "OnlineLookup: entity={}, keys=", self.entity.name)?;
        match &self.keys {
            None => write!(f, "all known")?,
            Some(keys) => {
                for (index, (field, values)) in self.entity.key.iter().zip(keys).enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{}", field.name())?;
                    match values {
                        KeyValues::Array(array) => write!(f, " = ANY ({array})")?,
                        KeyValues::List(list) if list.len() == 1 => write!(f, " = {}", list[0])?,
                        KeyValues::List(list) => write!(f, " IN ({} values)", list.len())?,
                    }
                }
            }
        }
        let columns: Vec<_> = self.schema.fields().iter().map(|c| c.name().as_str()).collect();
        write!(f, ", as_of={}, columns=[{}]", self.as_of, columns.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let mut next = || match exprs.next() {
            Some(expr) => Ok(expr),
            None => internal_err!("OnlineLookup keeps its expressions"),
        };
        if !inputs.is_empty() {
            return internal_err!("OnlineLookup has no inputs");
        }
        let as_of = next()?;
        let mut keys = self.keys.clone();
        for values in keys.iter_mut().flatten() {
            match values {
                KeyValues::List(list) => {
                    for value in list {
                        *value = next()?;
                    }
                }
                KeyValues::Array(array) => *array = next()?,
            }
        }
        Ok(OnlineLookup { as_of, keys, ..self.clone() })
    }
}

/// The rule: scans of entities become lookups. Conditions on the key may come down to one later,
/// from above a point-in-time join: then it reads these keys instead of all.
#[derive(Debug, Default)]
pub struct PlanLookups;

impl OptimizerRule for PlanLookups {
    fn name(&self) -> &str {
        "plan_online_lookups"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if let Some(narrowed) = narrow(&plan)? {
            return Ok(Transformed::yes(narrowed));
        }
        let LogicalPlan::TableScan(scan) = &plan else { return Ok(Transformed::no(plan)) };
        let Ok(provider) = source_as_provider(&scan.source) else {
            return Ok(Transformed::no(plan));
        };
        let any: &dyn std::any::Any = provider.as_ref();
        match any.downcast_ref::<EntityTable>() {
            None => Ok(Transformed::no(plan)),
            Some(table) => Ok(Transformed::yes(lookup(scan, table)?)),
        }
    }
}

/// A filter over a lookup of all known keys that says which keys are wanted.
fn narrow(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = plan else { return Ok(None) };
    let LogicalPlan::Extension(extension) = filter.input.as_ref() else { return Ok(None) };
    let Some(all) = extension.node.as_any().downcast_ref::<OnlineLookup>() else {
        return Ok(None);
    };
    let filters = split_conjunction(&filter.predicate);
    let chosen = match &all.keys {
        None => choose_key_filters(&all.entity, &filters),
        Some(_) => None,
    };
    let Some(chosen) = chosen else { return Ok(None) };
    let fields = all.entity.key.iter();
    let keys = fields.zip(&chosen).filter_map(|(f, &i)| key_values(filters[i], f.name())).collect();
    let node = OnlineLookup { keys: Some(keys), ..all.clone() };
    let lookup = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    let rest = filters.iter().enumerate().filter(|(i, _)| !chosen.contains(i));
    Ok(Some(match conjunction(rest.map(|(_, f)| (*f).clone())) {
        None => lookup,
        Some(rest) => LogicalPlanBuilder::from(lookup).filter(rest)?.build()?,
    }))
}

fn lookup(scan: &TableScan, table: &EntityTable) -> Result<LogicalPlan> {
    let Some(as_of) = scan.filters.iter().find_map(as_of_argument) else {
        return internal_err!("an entity scan has an instant");
    };
    let filters: Vec<&Expr> = scan.filters.iter().filter(|f| as_of_argument(f).is_none()).collect();
    let chosen = choose_key_filters(&table.entity, &filters);
    let keys = chosen.as_ref().map(|chosen| {
        let fields = table.entity.key.iter();
        fields.zip(chosen).filter_map(|(f, &i)| key_values(filters[i], f.name())).collect()
    });
    let width = table.entity.key.len() + table.entity.features.len();
    let node = OnlineLookup {
        entity: Arc::clone(&table.entity),
        keys,
        as_of: as_of.clone(),
        projection: scan.projection.clone().unwrap_or_else(|| (0..width).collect()),
        schema: Arc::clone(&scan.projected_schema),
    };
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    // Filters that were pushed but did not choose the keys still hold.
    let chosen = chosen.unwrap_or_default();
    let rest = filters.iter().enumerate().filter(|(i, _)| !chosen.contains(i));
    match conjunction(rest.map(|(_, f)| (*f).clone())) {
        None => Ok(plan),
        Some(rest) => LogicalPlanBuilder::from(plan).filter(rest)?.build(),
    }
}
