//! An entity in a `FROM` clause, until the rules know which keys are asked for.
//!
//! It is a table scan, so that DataFusion pushes projections and filters on the key into it. The
//! instant travels as the scan's first filter, a call of [`as_of_marker`]: there, parameters are
//! bound in it like in any other expression.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{not_impl_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TableProviderFilterPushDown, Volatility, lit,
};
use datafusion::physical_plan::ExecutionPlan;

use crate::catalog::Entity;

/// An entity as a table of which rows are computed by key.
#[derive(Debug)]
pub struct EntityTable {
    /// The entity.
    pub entity: Arc<Entity>,
    schema: SchemaRef,
}

impl EntityTable {
    /// The table of an entity.
    pub fn new(entity: Arc<Entity>) -> Self {
        let schema = entity.schema();
        EntityTable { entity, schema }
    }
}

#[async_trait]
impl TableProvider for EntityTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let chosen = choose_key_filters(&self.entity, filters);
        Ok((0..filters.len())
            .map(|index| match &chosen {
                Some(chosen) if chosen.contains(&index) => TableProviderFilterPushDown::Exact,
                _ if as_of_argument(filters[index]).is_some() => TableProviderFilterPushDown::Exact,
                _ => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        not_impl_err!("entity \"{}\" can't be read here", self.entity.name)
    }
}

/// For each key column one of `filters` that gives its values; `None` unless all have one.
pub fn choose_key_filters(entity: &Entity, filters: &[&Expr]) -> Option<Vec<usize>> {
    entity
        .key
        .iter()
        .map(|field| filters.iter().position(|f| key_values(f, field.name()).is_some()))
        .collect()
}

/// The values that a filter allows the key column `name` to have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub enum KeyValues {
    /// `key = value` and `key IN (values)`.
    List(Vec<Expr>),
    /// `key = ANY (array)`.
    Array(Expr),
}

/// The values of key column `name` if `filter` says nothing else.
pub fn key_values(filter: &Expr, name: &str) -> Option<KeyValues> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let value = match (is_key(left, name), is_key(right, name)) {
                (true, false) => right,
                (false, true) => left,
                _ => return None,
            };
            value.column_refs().is_empty().then(|| KeyValues::List(vec![value.as_ref().clone()]))
        }
        // What `key = true` and `key = false` are simplified to.
        Expr::Column(_) if is_key(filter, name) => Some(KeyValues::List(vec![lit(true)])),
        Expr::Not(inner) if is_key(inner, name) => Some(KeyValues::List(vec![lit(false)])),
        Expr::InList(list) if !list.negated && is_key(&list.expr, name) => {
            let constant = list.list.iter().all(|value| value.column_refs().is_empty());
            constant.then(|| KeyValues::List(list.list.clone()))
        }
        Expr::ScalarFunction(call) if call.name() == "array_has" => {
            let [array, key] = call.args.as_slice() else { return None };
            (is_key(key, name) && array.column_refs().is_empty())
                .then(|| KeyValues::Array(array.clone()))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            match (key_values(left, name)?, key_values(right, name)?) {
                (KeyValues::List(mut a), KeyValues::List(b)) => {
                    a.extend(b);
                    Some(KeyValues::List(a))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_key(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Column(column) if column.name == name)
}

static MARKER: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(AsOfMarker::new())));

/// The filter that carries the instant of an entity scan.
pub fn as_of_marker(instant: Expr) -> Expr {
    MARKER.call(vec![instant])
}

/// The instant in a filter made by [`as_of_marker`].
pub fn as_of_argument(filter: &Expr) -> Option<&Expr> {
    match filter {
        Expr::ScalarFunction(call) if call.name() == MARKER.name() => call.args.first(),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AsOfMarker {
    signature: Signature,
}

impl AsOfMarker {
    fn new() -> Self {
        // Stable, so that no rule evaluates it while planning.
        let signature = Signature::exact(vec![crate::types::instant_type()], Volatility::Stable);
        AsOfMarker { signature }
    }
}

impl ScalarUDFImpl for AsOfMarker {
    fn name(&self) -> &str {
        "__system_time_as_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("{} is not a function to call", self.name())
    }
}
