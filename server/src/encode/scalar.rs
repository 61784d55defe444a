//! One value, of a type that has a form of its own.

use arrow::datatypes::DataType;
use asofdb_planner::Value;
use bytes::{BufMut, BytesMut};

use super::column::Form;
use super::{datetime, number};

/// A value that is not NULL.
#[derive(Clone, Copy)]
pub enum Scalar<'a> {
    Boolean(bool),
    Int16(i16),
    Int32(i32),
    Int64(i64),
    Float32(f32),
    Float64(f64),
    Decimal(i128, i8),
    Text(&'a str),
    Date(i32),
    Instant(i64, bool),
}

impl<'a> Scalar<'a> {
    /// The value of a column of a lookup, which has the kind of the column's type: the narrow types
    /// lose nothing. `None` for NULL.
    pub fn of(value: &'a Value, data_type: &DataType) -> Option<Self> {
        Some(match (value, data_type) {
            (Value::Null, _) => return None,
            (Value::Bool(value), _) => Scalar::Boolean(*value),
            (Value::Text(text), _) => Scalar::Text(text),
            (Value::Double(value), DataType::Float32) => Scalar::Float32(*value as f32),
            (Value::Double(value), _) => Scalar::Float64(*value),
            (Value::Decimal(value), DataType::Decimal128(_, scale)) => {
                Scalar::Decimal(*value, *scale)
            }
            (Value::Decimal(value), _) => Scalar::Decimal(*value, 0),
            (Value::Long(value), DataType::Int16) => Scalar::Int16(*value as i16),
            (Value::Long(value), DataType::Int32) => Scalar::Int32(*value as i32),
            (Value::Long(value), DataType::Date32) => Scalar::Date(*value as i32),
            (Value::Long(value), DataType::Timestamp(_, zone)) => {
                Scalar::Instant(*value, zone.is_some())
            }
            (Value::Long(value), _) => Scalar::Int64(*value),
        })
    }

    /// Appends the value without its length.
    pub fn write(self, form: Form, out: &mut BytesMut) {
        match form {
            Form::Text => self.write_text(out),
            Form::Binary => self.write_binary(out),
        }
    }

    fn write_text(self, out: &mut BytesMut) {
        match self {
            Scalar::Boolean(value) => out.put_u8(if value { b't' } else { b'f' }),
            Scalar::Int16(value) => number::write_integer(i64::from(value), out),
            Scalar::Int32(value) => number::write_integer(i64::from(value), out),
            Scalar::Int64(value) => number::write_integer(value, out),
            Scalar::Float32(value) => number::write_float4(value, out),
            Scalar::Float64(value) => number::write_float8(value, out),
            Scalar::Decimal(value, scale) => number::write_decimal(value, scale, out),
            Scalar::Text(text) => out.put_slice(text.as_bytes()),
            Scalar::Date(days) => datetime::write_date(days, out),
            Scalar::Instant(micros, zone) => datetime::write_instant(micros, zone, out),
        }
    }

    fn write_binary(self, out: &mut BytesMut) {
        match self {
            Scalar::Boolean(value) => out.put_u8(u8::from(value)),
            Scalar::Int16(value) => out.put_i16(value),
            Scalar::Int32(value) => out.put_i32(value),
            Scalar::Int64(value) => out.put_i64(value),
            Scalar::Float32(value) => out.put_f32(value),
            Scalar::Float64(value) => out.put_f64(value),
            Scalar::Decimal(value, scale) => number::write_decimal_binary(value, scale, out),
            Scalar::Text(text) => out.put_slice(text.as_bytes()),
            Scalar::Date(days) => datetime::write_date_binary(days, out),
            Scalar::Instant(micros, _) => datetime::write_instant_binary(micros, out),
        }
    }
}
