//! Values being written: a column by one builder per kind, cast to the Arrow type at the end; or a
//! list, as they are.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanBuilder, Decimal128Array, Float64Array, Int64Array,
    NullBufferBuilder, PrimitiveArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Float32Type, Int16Type, Int32Type, TimeUnit,
};

use super::{Bool, Decimal, Double, Kind, Long, Physical, Text, physical};
use crate::error::Error;

/// A value of any kind, or NULL.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer, a date (days) or a timestamp (microseconds).
    Long(i64),
    /// A floating-point number.
    Double(f64),
    /// A decimal without its scale.
    Decimal(i128),
    /// A boolean.
    Bool(bool),
    /// A string.
    Text(Box<str>),
}

/// A column being written, of one physical kind; or a list, whose values are of any.
#[derive(Debug)]
pub enum Output {
    List(Vec<Value>),
    Long(Numbers<i64>),
    Double(Numbers<f64>),
    Decimal(Numbers<i128>),
    Bool(BooleanBuilder),
    Text(StringBuilder),
}

/// A column of numbers being written. For the one row of a lookup arrow's own builder takes longer,
/// which makes its array as one of any type.
#[derive(Debug)]
pub struct Numbers<N> {
    values: Vec<N>,
    nulls: NullBufferBuilder,
}

impl<N: ArrowNativeType> Numbers<N> {
    fn with_capacity(capacity: usize) -> Self {
        Numbers { values: Vec::with_capacity(capacity), nulls: NullBufferBuilder::new(capacity) }
    }

    /// Appends a value or NULL.
    #[inline]
    pub(super) fn append_option(&mut self, value: Option<N>) {
        self.nulls.append(value.is_some());
        self.values.push(value.unwrap_or_default());
    }

    fn finish<T: ArrowPrimitiveType<Native = N>>(mut self) -> PrimitiveArray<T> {
        PrimitiveArray::new(self.values.into(), self.nulls.finish())
    }
}

impl Output {
    /// An empty column for values of `data_type`.
    pub(crate) fn new(data_type: &DataType, capacity: usize) -> Self {
        match physical(data_type) {
            Some(Physical::Double) => Output::Double(Numbers::with_capacity(capacity)),
            Some(Physical::Decimal) => Output::Decimal(Numbers::with_capacity(capacity)),
            Some(Physical::Bool) => Output::Bool(BooleanBuilder::with_capacity(capacity)),
            Some(Physical::Text) => {
                Output::Text(StringBuilder::with_capacity(capacity, capacity * 8))
            }
            Some(Physical::Long) | None => Output::Long(Numbers::with_capacity(capacity)),
        }
    }

    /// Appends NULL.
    pub(crate) fn push_null(&mut self) {
        match self {
            Output::List(values) => values.push(Value::Null),
            Output::Long(builder) => Long::push(builder, None),
            Output::Double(builder) => Double::push(builder, None),
            Output::Decimal(builder) => Decimal::push(builder, None),
            Output::Bool(builder) => Bool::push(builder, None),
            Output::Text(builder) => Text::push(builder, None),
        }
    }

    /// Appends a value of kind `K`.
    pub(crate) fn push<K: Kind>(&mut self, value: Option<K::Value<'_>>) -> Result<(), Error> {
        if let Output::List(values) = self {
            values.push(value.map_or(Value::Null, K::value));
            return Ok(());
        }
        let builder = K::builder(self).ok_or(Error::Internal("output of another kind"))?;
        K::push(builder, value);
        Ok(())
    }

    /// The array, as `data_type`.
    pub(crate) fn finish(self, data_type: &DataType) -> Result<ArrayRef, Error> {
        Ok(match self {
            Output::List(_) => return Err(Error::Internal("a list is no column")),
            Output::Long(numbers) => finish_long(numbers.finish(), data_type),
            Output::Double(numbers) => {
                let array: Float64Array = numbers.finish();
                match data_type {
                    DataType::Float32 => narrowed::<_, Float32Type>(&array, |v| v as f32),
                    _ => Arc::new(array),
                }
            }
            Output::Decimal(numbers) => {
                let array: Decimal128Array = numbers.finish();
                match data_type {
                    DataType::Decimal128(precision, scale) => Arc::new(
                        array
                            .with_precision_and_scale(*precision, *scale)
                            .map_err(|error| Error::Arrow(error.to_string()))?,
                    ),
                    _ => Arc::new(array),
                }
            }
            Output::Bool(mut builder) => Arc::new(builder.finish()),
            Output::Text(mut builder) => Arc::new(builder.finish()),
        })
    }
}

/// Values came from the narrow type, so the casts lose nothing.
fn finish_long(array: Int64Array, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Int16 => narrowed::<_, Int16Type>(&array, |value| value as i16),
        DataType::Int32 => narrowed::<_, Int32Type>(&array, |value| value as i32),
        DataType::Date32 => narrowed::<_, Date32Type>(&array, |value| value as i32),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let (_, values, nulls) = array.into_parts();
            let array = TimestampMicrosecondArray::new(values, nulls);
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        _ => Arc::new(array),
    }
}

fn narrowed<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    array: &PrimitiveArray<F>,
    cast: impl Fn(F::Native) -> T::Native,
) -> ArrayRef {
    let values = array.values().iter().map(|&value| cast(value)).collect();
    Arc::new(PrimitiveArray::<T>::new(values, array.nulls().cloned()))
}
