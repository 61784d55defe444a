//! `+`, `-` and `*` of integers, with an error where the result is out of range.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, Datum, Scalar};
use arrow::compute::kernels::numeric;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

type Kernel = fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError>;

/// The operators, the functions that take their place, and Arrow's checked kernels for them.
static CHECKED: LazyLock<[(Operator, Arc<ScalarUDF>); 3]> = LazyLock::new(|| {
    let function = |name, kernel| Arc::new(ScalarUDF::from(Checked::new(name, kernel)));
    [
        (Operator::Plus, function("checked_add", numeric::add as Kernel)),
        (Operator::Minus, function("checked_subtract", numeric::sub as Kernel)),
        (Operator::Multiply, function("checked_multiply", numeric::mul as Kernel)),
    ]
});

/// Replaces the operators on integers in an expression of which the types are settled.
pub fn check_arithmetic(expr: Expr, schema: &dyn ExprSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|node| {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &node else {
            return Ok(Transformed::no(node));
        };
        let Some((_, function)) = CHECKED.iter().find(|(checked, _)| checked == op) else {
            return Ok(Transformed::no(node));
        };
        let data_type = left.get_type(schema)?;
        match data_type.is_integer() && right.get_type(schema)? == data_type {
            true => Ok(Transformed::yes(
                function.call(vec![left.as_ref().clone(), right.as_ref().clone()]),
            )),
            false => Ok(Transformed::no(node)),
        }
    })
}

/// The rule that does so everywhere in a plan, after types were coerced.
#[derive(Debug, Default)]
pub struct CheckArithmetic;

impl AnalyzerRule for CheckArithmetic {
    fn name(&self) -> &str {
        "check_integer_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let checked = plan.transform_up_with_subqueries(|node| {
            let mut schema = DFSchema::empty();
            for input in node.inputs() {
                schema.merge(input.schema());
            }
            if let LogicalPlan::TableScan(scan) = &node {
                schema.merge(&DFSchema::try_from_qualified_schema(
                    scan.table_name.clone(),
                    &scan.source.schema(),
                )?);
            }
            // Whoever reads a column by the name of its expression still finds it.
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(check_arithmetic(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(checked.data)
    }
}

#[derive(Debug)]
struct Checked {
    name: &'static str,
    kernel: Kernel,
    signature: Signature,
}

impl Checked {
    fn new(name: &'static str, kernel: Kernel) -> Self {
        Checked { name, kernel, signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Checked {}

impl std::hash::Hash for Checked {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return Err(DataFusionError::Internal(format!("{} takes two arguments", self.name)));
        };
        let scalars = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let result = (self.kernel)(datum(left)?.as_ref(), datum(right)?.as_ref())?;
        match scalars {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

fn datum(value: &ColumnarValue) -> Result<Box<dyn Datum>> {
    Ok(match value {
        ColumnarValue::Array(array) => Box::new(Arc::clone(array) as Arc<dyn Array>),
        ColumnarValue::Scalar(scalar) => Box::new(Scalar::new(scalar.to_array()?)),
    })
}
