//! SQL expressions of a definition to typed expressions that any instant may evaluate.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility, cast};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias};

use crate::checked::check_arithmetic;
use crate::error::{Error, Result};
use crate::types::{instant_type, sql_name};

/// Resolves expressions against one schema.
pub struct Resolver<'a> {
    pub state: &'a SessionState,
    pub schema: &'a DFSchema,
}

impl Resolver<'_> {
    /// A value.
    pub fn value(&self, expr: &SqlExpr) -> Result<Expr> {
        let planned = self
            .state
            .create_logical_expr_from_sql_expr(
                ExprWithAlias { expr: expr.clone(), alias: None },
                self.schema,
            )
            .map_err(Error::from_datafusion)?;
        check_timeless(&planned)?;
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(self.schema.clone()))
            .with_config_options(Arc::clone(self.state.config_options()))
            .build();
        // Simplified, for some functions (coalesce) are only defined by what they simplify to.
        let simplifier = ExprSimplifier::new(context);
        let coerced = simplifier.coerce(planned, self.schema).map_err(Error::from_datafusion)?;
        let coerced = check_arithmetic(coerced, self.schema).map_err(Error::from_datafusion)?.data;
        let coerced = simplifier.simplify(coerced).map_err(Error::from_datafusion)?;
        // Types that only functions return become those that columns can have.
        let data_type = coerced.get_type(self.schema).map_err(Error::from_datafusion)?;
        Ok(match storable(&data_type) {
            Some(storable) if storable != data_type => cast(coerced, storable),
            Some(_) => coerced,
            None => {
                return Err(Error::Type {
                    message: format!("{expr} has type {}", sql_name(&data_type)),
                });
            }
        })
    }

    /// A condition.
    pub fn condition(&self, expr: &SqlExpr) -> Result<Expr> {
        let condition = self.value(expr)?;
        match condition.get_type(self.schema)? {
            DataType::Boolean => Ok(condition),
            other => Err(Error::Type {
                message: format!("{expr} must be BOOLEAN, it is {}", sql_name(&other)),
            }),
        }
    }
}

fn storable(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Timestamp(unit, None) if *unit != TimeUnit::Microsecond => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        DataType::Timestamp(_, Some(_)) => instant_type(),
        DataType::Date64 => DataType::Date32,
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Date32
        | DataType::Timestamp(..)
        | DataType::Decimal128(..)
        | DataType::Interval(_) => data_type.clone(),
        _ => return None,
    })
}

/// A value depends on the events alone: nothing in it may read a clock, draw a number or look
/// elsewhere.
fn check_timeless(expr: &Expr) -> Result<()> {
    let mut found = None;
    expr.apply(|node| {
        found = match node {
            Expr::ScalarFunction(ScalarFunction { func, .. })
                if func.signature().volatility != Volatility::Immutable =>
            {
                Some(format!("{}() is not allowed in a feature: its value changes", func.name()))
            }
            Expr::AggregateFunction(call) => {
                Some(format!("aggregate {}() can't be used here", call.func.name()))
            }
            Expr::WindowFunction(call) => {
                Some(format!("{} is not an aggregate of features", call.fun.name()))
            }
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => {
                Some("subqueries are not allowed in a feature".into())
            }
            Expr::Placeholder(placeholder) => {
                Some(format!("parameter {} is not allowed in a feature", placeholder.id))
            }
            _ => None,
        };
        Ok(match found {
            Some(_) => TreeNodeRecursion::Stop,
            None => TreeNodeRecursion::Continue,
        })
    })?;
    match found {
        None => Ok(()),
        Some(message) => Err(Error::Definition {
            message,
            hint: Some(format!("Aggregates of features: {}.", asofdb_udfs::names().join(", "))),
        }),
    }
}
