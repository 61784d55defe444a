//! Values of every type, extremes included, in and out of arrays.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, TimeUnit};

use crate::{Cell, Value};

/// A value, by what it is rather than how it is stored.
#[derive(Debug, Clone)]
pub(super) enum Datum {
    Int(i64),
    Double(f64),
    Decimal(i128),
    Bool(bool),
    Text(String),
}

/// Bitwise: a double equals only its own bits.
impl PartialEq for Datum {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Datum::Int(a), Datum::Int(b)) => a == b,
            (Datum::Double(a), Datum::Double(b)) => a.to_bits() == b.to_bits(),
            (Datum::Decimal(a), Datum::Decimal(b)) => a == b,
            (Datum::Bool(a), Datum::Bool(b)) => a == b,
            (Datum::Text(a), Datum::Text(b)) => a == b,
            _ => false,
        }
    }
}

impl Datum {
    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            Datum::Int(value) => Cell::Long(*value),
            Datum::Double(value) => Cell::Double(*value),
            Datum::Decimal(value) => Cell::Decimal(*value),
            Datum::Bool(value) => Cell::Bool(*value),
            Datum::Text(value) => Cell::Text(value),
        }
    }
}

/// A value of a row; `None` is NULL.
pub(super) fn of_value(value: &Value) -> Option<Datum> {
    Some(match value {
        Value::Null => return None,
        Value::Long(value) => Datum::Int(*value),
        Value::Double(value) => Datum::Double(*value),
        Value::Decimal(value) => Datum::Decimal(*value),
        Value::Bool(value) => Datum::Bool(*value),
        Value::Text(text) => Datum::Text(text.to_string()),
    })
}

/// Every argument type, decimals with several scales.
pub(super) fn types() -> Vec<DataType> {
    vec![
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(10, 2),
        DataType::Decimal128(38, 30),
        DataType::Decimal128(38, -3),
        DataType::Utf8,
        DataType::Boolean,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
    ]
}

const DOUBLES: [f64; 22] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    0.2,
    0.3,
    1e16,
    -1e16,
    1e-300,
    1e300,
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    5e-324,
    -5e-324,
    f64::EPSILON,
    9_007_199_254_740_993.0,
    1e22,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

/// A value of a type from a random choice: NULL, an extreme, something small or anything.
///
/// The low bits of `choice` decide which, so that shrinking leads to simple values. `tame` leaves
/// out what would make nearly every sum infinite, NaN or out of range.
pub(super) fn make(data_type: &DataType, choice: u8, bits: u64, tame: bool) -> Option<Datum> {
    let (class, small) = (choice % 8, (bits % 7) as i64 - 3);
    if class == 7 {
        return None;
    }
    let int = |min: i64, max: i64| match class {
        0..=2 => small,
        3 if !tame => [min, max, min + 1, max - 1, 0][(bits % 5) as usize],
        _ if tame => (bits as i64 % 1_000_000).clamp(min, max),
        _ => (bits as i64).clamp(min, max),
    };
    Some(match data_type {
        DataType::Int16 => Datum::Int(int(i16::MIN.into(), i16::MAX.into())),
        DataType::Int32 | DataType::Date32 => Datum::Int(int(i32::MIN.into(), i32::MAX.into())),
        DataType::Int64 | DataType::Timestamp(_, _) => Datum::Int(int(i64::MIN, i64::MAX)),
        DataType::Float64 => Datum::Double(double(class, bits, tame)),
        DataType::Float32 => Datum::Double(f64::from(double(class, bits, tame) as f32)),
        DataType::Decimal128(precision, _) => {
            let limit = 10_i128.pow(u32::from(*precision)) - 1;
            Datum::Decimal(match class {
                0..=2 => small.into(),
                3 if !tame => [limit, -limit, limit - 1, 0][(bits % 4) as usize],
                _ if tame => i128::from(bits as i64) % (limit / 1_000_000),
                _ => (i128::from(bits as i64) * i128::from(bits as i64 >> 3)) % (limit + 1),
            })
        }
        DataType::Boolean => Datum::Bool(bits % 2 == 1),
        _ => Datum::Text(
            ["", "a", "b", "ab", "ä", "zz", "B"][(bits % 7) as usize]
                .repeat(1 + class as usize % 2),
        ),
    })
}

fn double(class: u8, bits: u64, tame: bool) -> f64 {
    match class {
        0 | 1 => (bits % 200) as f64 / 10.0 - 10.0,
        2 => (bits % 100_000) as f64 / 100.0,
        3 if !tame => DOUBLES[(bits % 22) as usize],
        4 => DOUBLES[(bits % 11) as usize],
        5 if !tame => {
            let any = f64::from_bits(bits);
            if any.is_nan() { f64::NAN } else { any }
        }
        _ => (bits as i64) as f64 / 1e12,
    }
}

/// An array of a type.
pub(super) fn array(data_type: &DataType, values: &[Option<Datum>]) -> ArrayRef {
    let int = |value: &Option<Datum>| match value {
        Some(Datum::Int(value)) => Some(*value),
        _ => None,
    };
    let float = |value: &Option<Datum>| match value {
        Some(Datum::Double(value)) => Some(*value),
        _ => None,
    };
    let decimal = |value: &Option<Datum>| match value {
        Some(Datum::Decimal(value)) => Some(*value),
        _ => None,
    };
    let truth = |value: &Option<Datum>| match value {
        Some(Datum::Bool(value)) => Some(*value),
        _ => None,
    };
    let text = |value: &Option<Datum>| match value {
        Some(Datum::Text(value)) => Some(value.clone()),
        _ => None,
    };
    let ints = values.iter().map(int);
    match data_type {
        DataType::Int16 => Arc::new(ints.map(|v| v.map(|v| v as i16)).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(ints.map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
        DataType::Date32 => Arc::new(ints.map(|v| v.map(|v| v as i32)).collect::<Date32Array>()),
        DataType::Int64 => Arc::new(ints.collect::<Int64Array>()),
        DataType::Timestamp(_, zone) => {
            Arc::new(ints.collect::<TimestampMicrosecondArray>().with_timezone_opt(zone.clone()))
        }
        DataType::Float64 => Arc::new(values.iter().map(float).collect::<Float64Array>()),
        DataType::Float32 => {
            Arc::new(values.iter().map(|v| float(v).map(|v| v as f32)).collect::<Float32Array>())
        }
        DataType::Decimal128(precision, scale) => Arc::new(
            values
                .iter()
                .map(decimal)
                .collect::<Decimal128Array>()
                .with_precision_and_scale(*precision, *scale)
                .unwrap(),
        ),
        DataType::Boolean => Arc::new(values.iter().map(truth).collect::<BooleanArray>()),
        _ => Arc::new(values.iter().map(text).collect::<StringArray>()),
    }
}

/// The value in a row of an array.
pub(super) fn datum(array: &dyn Array, row: usize) -> Option<Datum> {
    use arrow::datatypes::*;
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Int16 => Datum::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Datum::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Date32 => Datum::Int(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Int64 => Datum::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Timestamp(_, _) => {
            Datum::Int(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Float64 => Datum::Double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => Datum::Double(array.as_primitive::<Float32Type>().value(row).into()),
        DataType::Decimal128(_, _) => {
            Datum::Decimal(array.as_primitive::<Decimal128Type>().value(row))
        }
        DataType::Boolean => Datum::Bool(array.as_boolean().value(row)),
        _ => Datum::Text(array.as_string::<i32>().value(row).to_owned()),
    })
}
