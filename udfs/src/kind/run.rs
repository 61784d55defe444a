//! Whole Arrow columns as one physical kind: a pointer copy where the types agree, else one pass.

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

fn shared<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<ScalarBuffer<T::Native>> {
    array.as_primitive_opt::<T>().map(|array| array.values().clone())
}

fn widened<T, N>(array: &PrimitiveArray<T>) -> ScalarBuffer<N>
where
    T: ArrowPrimitiveType,
    N: arrow::datatypes::ArrowNativeType + From<T::Native>,
{
    array.values().iter().map(|&value| N::from(value)).collect()
}

/// Integers, dates and timestamps as `i64`.
#[allow(non_snake_case, reason = "named after the kind, for the macro that calls it")]
pub(super) fn Long(array: &dyn Array) -> Option<ScalarBuffer<i64>> {
    match array.data_type() {
        DataType::Int64 => shared::<Int64Type>(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => shared::<TimestampMicrosecondType>(array),
        DataType::Int16 => array.as_primitive_opt::<Int16Type>().map(widened),
        DataType::Int32 => array.as_primitive_opt::<Int32Type>().map(widened),
        DataType::Date32 => array.as_primitive_opt::<Date32Type>().map(widened),
        _ => None,
    }
}

/// Floating-point numbers as `f64`, every NaN canonical.
#[allow(non_snake_case, reason = "named after the kind, for the macro that calls it")]
pub(super) fn Double(array: &dyn Array) -> Option<ScalarBuffer<f64>> {
    let values: ScalarBuffer<f64> = match array.data_type() {
        DataType::Float64 => shared::<Float64Type>(array)?,
        DataType::Float32 => widened(array.as_primitive_opt::<Float32Type>()?),
        _ => return None,
    };
    if values.iter().any(|value| value.is_nan()) {
        return Some(values.iter().map(|&value| canonical(value)).collect());
    }
    Some(values)
}

/// Decimals without their scale.
#[allow(non_snake_case, reason = "named after the kind, for the macro that calls it")]
pub(super) fn Decimal(array: &dyn Array) -> Option<ScalarBuffer<i128>> {
    shared::<Decimal128Type>(array)
}

/// The one NaN, or the value.
pub(super) fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}
