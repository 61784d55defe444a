//! Scalar functions that DataFusion lacks or defines otherwise than PostgreSQL.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit, when,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::scalar::ScalarValue;
use parking_lot::RwLock;

use crate::checked::CheckedSum;
use crate::types::{UTC, instant_type};

/// The version that clients see: the PostgreSQL that the wire protocol follows, then ours.
pub const VERSION: &str = concat!("PostgreSQL 16.6 (AsofDB ", env!("CARGO_PKG_VERSION"), ")");

/// Functions without arguments that drivers and tools call, and what they answer.
const CONSTANTS: &[(&str, &str)] = &[
    ("version", VERSION),
    ("current_database", "asofdb"),
    ("current_catalog", "asofdb"),
    ("current_schema", "public"),
    ("current_user", "asofdb"),
    ("session_user", "asofdb"),
    ("pg_advisory_unlock_all", ""),
];

/// Registers the functions.
pub fn register(state: &mut SessionState) -> Result<()> {
    state.register_udf(ScalarUDF::from(Now::new()).into())?;
    state.register_udf(ScalarUDF::from(NullIf::new()).into())?;
    state.register_udaf(AggregateUDF::from(CheckedSum::new()).into())?;
    for (name, value) in CONSTANTS {
        state.register_udf(ScalarUDF::from(Constant::new(name, value)).into())?;
    }
    Ok(())
}

/// The instant of the statement, in microseconds as everywhere.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    signature: Signature,
    aliases: Vec<String>,
}

impl Now {
    fn new() -> Self {
        let aliases = ["current_timestamp", "transaction_timestamp", "statement_timestamp"];
        Now {
            signature: Signature::nullary(Volatility::Stable),
            aliases: aliases.map(str::to_owned).to_vec(),
        }
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        "now"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(instant_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("now() is a constant of the statement and was not planned as one")
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match info.query_execution_start_time() {
            None => Ok(ExprSimplifyResult::Original(args)),
            Some(now) => Ok(ExprSimplifyResult::Simplified(lit(
                ScalarValue::TimestampMicrosecond(Some(now.timestamp_micros()), Some(UTC.into())),
            ))),
        }
    }
}

/// Whether a function is `now()`.
pub fn is_now(function: &ScalarUDF) -> bool {
    let any: &dyn Any = function.inner().as_ref();
    any.is::<Now>()
}

/// Whether a function always gives the same, whatever it is declared as.
pub fn is_constant(function: &ScalarUDF) -> bool {
    let any: &dyn Any = function.inner().as_ref();
    any.is::<Constant>()
}

/// The values of the parameters of a plan that runs.
#[derive(Debug, Default)]
pub struct Bound(RwLock<Vec<ScalarValue>>);

impl Bound {
    /// Gives the parameters their values.
    pub fn set(&self, values: Vec<ScalarValue>) {
        *self.0.write() = values;
    }
}

/// The parameter at a place among `bound`, as a function of no arguments.
pub fn parameter(place: usize, data_type: &DataType, bound: &Arc<Bound>) -> Expr {
    let (data_type, bound) = (data_type.clone(), Arc::clone(bound));
    // Volatile, so that no rule evaluates it while planning.
    let signature = Signature::nullary(Volatility::Volatile);
    ScalarUDF::from(Parameter { place, data_type, bound, signature }).call(Vec::new())
}

/// The place and the type of the parameter that an expression is.
pub fn parameter_of(expr: &Arc<dyn PhysicalExpr>) -> Option<(usize, &DataType)> {
    let function = expr.downcast_ref::<ScalarFunctionExpr>()?.fun();
    let any: &dyn Any = function.inner().as_ref();
    any.downcast_ref::<Parameter>().map(|parameter| (parameter.place, &parameter.data_type))
}

#[derive(Debug)]
struct Parameter {
    place: usize,
    data_type: DataType,
    bound: Arc<Bound>,
    signature: Signature,
}

impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place && Arc::ptr_eq(&self.bound, &other.bound)
    }
}

impl Eq for Parameter {}

impl Hash for Parameter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place.hash(state);
    }
}

impl ScalarUDFImpl for Parameter {
    fn name(&self) -> &str {
        "__parameter"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.bound.0.read().get(self.place) {
            Some(value) => Ok(ColumnarValue::Scalar(value.clone())),
            None => plan_err!("parameter {} has no value yet", self.place + 1),
        }
    }
}

/// `nullif` by SQL's `=`, to which -0 is 0. DataFusion's own compares floats by their bits.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NullIf {
    signature: Signature,
}

impl NullIf {
    fn new() -> Self {
        NullIf { signature: Signature::comparable(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NullIf {
    fn name(&self) -> &str {
        "nullif"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("nullif() is what it is simplified to and was not")
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [value, other] = args.as_slice() else { return Ok(ExprSimplifyResult::Original(args)) };
        let differs = value.clone().eq(other.clone()).is_not_true();
        Ok(ExprSimplifyResult::Simplified(when(differs, value.clone()).end()?))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: &'static str,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, value: &'static str) -> Self {
        Constant { name, value, signature: Signature::nullary(Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(self.value.to_owned()))))
    }
}
