//! `sum` of integers in queries: exact, and an error where the result is no BIGINT.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature};
use datafusion::scalar::ScalarValue;

use crate::error::Error;

/// DataFusion's `sum` but for BIGINT, which it adds with wrapping.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct CheckedSum {
    wrapped: Sum,
}

impl CheckedSum {
    /// The aggregate.
    pub fn new() -> Self {
        CheckedSum { wrapped: Sum::new() }
    }
}

/// Sums over DISTINCT values stay DataFusion's: it groups by the value first and sums then.
fn is_ours(data_type: &DataType, is_distinct: bool) -> bool {
    *data_type == DataType::Int64 && !is_distinct
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.wrapped.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.wrapped.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match is_ours(args.return_field.data_type(), args.is_distinct) {
            true => Ok(Box::new(IntegerSum::default())),
            false => self.wrapped.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match is_ours(args.return_field.data_type(), args.is_distinct) {
            true => {
                let name = format_state_name(args.name, "sum");
                Ok(vec![Arc::new(Field::new(name, STATE, true))])
            }
            false => self.wrapped.state_fields(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !is_ours(args.return_field.data_type(), args.is_distinct)
            && self.wrapped.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.wrapped.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match is_ours(args.return_field.data_type(), args.is_distinct) {
            true => Ok(Box::new(IntegerSum::default())),
            false => self.wrapped.create_sliding_accumulator(args),
        }
    }
}

/// A sum on its way between partitions.
const STATE: DataType = DataType::Decimal128(38, 0);

/// 2^63 BIGINTs fit into the 128 bits, so the sum itself can't overflow.
#[derive(Debug, Default)]
struct IntegerSum {
    sum: i128,
    values: u64,
}

impl IntegerSum {
    fn present(&self) -> Option<i128> {
        (self.values > 0).then_some(self.sum)
    }
}

impl Accumulator for IntegerSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.sum += i128::from(value);
            self.values += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.sum -= i128::from(value);
            self.values -= 1;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.present().map(i64::try_from).transpose().map_err(|_| {
            DataFusionError::from(Error::OutOfRange {
                message: format!("sum {} is out of range for type BIGINT", self.sum),
            })
        })?;
        Ok(ScalarValue::Int64(sum))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Decimal128(self.present(), 38, 0)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for sum in states[0].as_primitive::<Decimal128Type>().iter().flatten() {
            self.sum += sum;
            self.values += 1;
        }
        Ok(())
    }
}
