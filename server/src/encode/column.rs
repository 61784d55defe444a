//! One column of a batch, downcast once.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    Decimal256Array, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, StringArray, StringViewArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type,
    Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType,
    TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::{BufMut, BytesMut};
use postgres_types::Type;

use super::scalar::Scalar;
use super::{datetime, number};
use crate::types::pg_type;

/// The two formats of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As PostgreSQL prints it.
    Text,
    /// As PostgreSQL's send functions have it.
    Binary,
}

/// A downcast column.
pub enum Column {
    Null,
    Boolean(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array, i8),
    WideDecimal(Decimal256Array, i8),
    Text(StringArray),
    TextView(StringViewArray),
    Bytes(BinaryArray),
    Date(Date32Array),
    Instant(TimestampMicrosecondArray, bool),
    Time(Time64MicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    List { lists: ListArray, values: Box<Column>, element: Type },
}

impl Column {
    /// Downcasts `array`, after a cast where its type has no form of its own.
    pub fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        let cast;
        let array = match canonical(array.data_type()) {
            Some(target) => {
                let options = CastOptions { safe: false, ..CastOptions::default() };
                cast = cast_with_options(array, &target, &options)?;
                &cast
            }
            None => array,
        };
        Ok(match array.data_type() {
            DataType::Null => Column::Null,
            DataType::Boolean => Column::Boolean(array.as_boolean().clone()),
            DataType::Int16 => Column::Int16(array.as_primitive::<Int16Type>().clone()),
            DataType::Int32 => Column::Int32(array.as_primitive::<Int32Type>().clone()),
            DataType::Int64 => Column::Int64(array.as_primitive::<Int64Type>().clone()),
            DataType::Float32 => Column::Float32(array.as_primitive::<Float32Type>().clone()),
            DataType::Float64 => Column::Float64(array.as_primitive::<Float64Type>().clone()),
            DataType::Decimal128(_, s) => {
                Column::Decimal(array.as_primitive::<Decimal128Type>().clone(), *s)
            }
            DataType::Decimal256(_, s) => {
                Column::WideDecimal(array.as_primitive::<Decimal256Type>().clone(), *s)
            }
            DataType::Utf8 => Column::Text(array.as_string::<i32>().clone()),
            DataType::Utf8View => Column::TextView(array.as_string_view().clone()),
            DataType::Binary => Column::Bytes(array.as_binary::<i32>().clone()),
            DataType::Date32 => Column::Date(array.as_primitive::<Date32Type>().clone()),
            DataType::Timestamp(_, zone) => Column::Instant(
                array.as_primitive::<TimestampMicrosecondType>().clone(),
                zone.is_some(),
            ),
            DataType::Time64(_) => {
                Column::Time(array.as_primitive::<Time64MicrosecondType>().clone())
            }
            DataType::Interval(_) => {
                Column::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone())
            }
            DataType::List(item) => {
                let lists = array.as_list::<i32>().clone();
                let values = Box::new(Column::new(lists.values())?);
                Column::List { values, element: pg_type(item.data_type()), lists }
            }
            _ => Column::Text(displayed(array)?),
        })
    }

    /// Whether the value in `row` is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Null => true,
            Column::Boolean(a) => a.is_null(row),
            Column::Int16(a) => a.is_null(row),
            Column::Int32(a) => a.is_null(row),
            Column::Int64(a) => a.is_null(row),
            Column::Float32(a) => a.is_null(row),
            Column::Float64(a) => a.is_null(row),
            Column::Decimal(a, _) => a.is_null(row),
            Column::WideDecimal(a, _) => a.is_null(row),
            Column::Text(a) => a.is_null(row),
            Column::TextView(a) => a.is_null(row),
            Column::Bytes(a) => a.is_null(row),
            Column::Date(a) => a.is_null(row),
            Column::Instant(a, _) => a.is_null(row),
            Column::Time(a) => a.is_null(row),
            Column::Interval(a) => a.is_null(row),
            Column::List { lists, .. } => lists.is_null(row),
        }
    }

    /// Appends the value in `row`, which is not NULL, without its length.
    pub fn write(&self, form: Form, row: usize, out: &mut BytesMut) {
        match (self.scalar(row), form) {
            (Some(scalar), form) => scalar.write(form, out),
            (None, Form::Text) => self.write_other_text(row, out),
            (None, Form::Binary) => self.write_other_binary(row, out),
        }
    }

    /// The value in `row`, which is not NULL, if it is one.
    fn scalar(&self, row: usize) -> Option<Scalar<'_>> {
        Some(match self {
            Column::Boolean(a) => Scalar::Boolean(a.value(row)),
            Column::Int16(a) => Scalar::Int16(a.value(row)),
            Column::Int32(a) => Scalar::Int32(a.value(row)),
            Column::Int64(a) => Scalar::Int64(a.value(row)),
            Column::Float32(a) => Scalar::Float32(a.value(row)),
            Column::Float64(a) => Scalar::Float64(a.value(row)),
            Column::Decimal(a, scale) => Scalar::Decimal(a.value(row), *scale),
            Column::Text(a) => Scalar::Text(a.value(row)),
            Column::TextView(a) => Scalar::Text(a.value(row)),
            Column::Date(a) => Scalar::Date(a.value(row)),
            Column::Instant(a, zone) => Scalar::Instant(a.value(row), *zone),
            Column::Null
            | Column::WideDecimal(..)
            | Column::Bytes(_)
            | Column::Time(_)
            | Column::Interval(_)
            | Column::List { .. } => return None,
        })
    }

    /// As text, a value that is no scalar.
    fn write_other_text(&self, row: usize, out: &mut BytesMut) {
        match self {
            Column::WideDecimal(a, scale) => {
                number::write_decimal_text(a.value(row).to_string().as_bytes(), *scale, out);
            }
            Column::Bytes(a) => write_hex(a.value(row), out),
            Column::Time(a) => datetime::write_time(a.value(row), out),
            Column::Interval(a) => datetime::write_interval(a.value(row), out),
            Column::List { lists, values, .. } => {
                let range = list_range(lists, row);
                out.put_u8(b'{');
                for (index, at) in range.enumerate() {
                    if index > 0 {
                        out.put_u8(b',');
                    }
                    write_element(values, at, out);
                }
                out.put_u8(b'}');
            }
            // The others are scalars.
            _ => {}
        }
    }

    /// As binary, a value that is no scalar.
    fn write_other_binary(&self, row: usize, out: &mut BytesMut) {
        match self {
            Column::WideDecimal(a, scale) => {
                let digits = a.value(row).to_string();
                number::write_decimal_binary_text(digits.as_bytes(), *scale, out);
            }
            Column::Bytes(a) => out.put_slice(a.value(row)),
            Column::Time(a) => out.put_i64(a.value(row)),
            Column::Interval(a) => datetime::write_interval_binary(a.value(row), out),
            Column::List { lists, values, element } => {
                let range = list_range(lists, row);
                let has_null = range.clone().any(|at| values.is_null(at));
                out.put_i32(i32::from(!range.is_empty()));
                out.put_i32(i32::from(has_null));
                out.put_u32(element.oid());
                if !range.is_empty() {
                    out.put_i32(range.len() as i32);
                    out.put_i32(1);
                }
                for at in range {
                    super::write_field(values, Form::Binary, at, out);
                }
            }
            _ => {}
        }
    }
}

/// The type that values of a type are cast to before they are written; `None` if to none.
fn canonical(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match data_type {
        T::Int8 | T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 => T::Float32,
        T::Decimal32(p, s) | T::Decimal64(p, s) => T::Decimal128(*p, *s),
        T::LargeUtf8 => T::Utf8View,
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Date64 => T::Date32,
        T::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            T::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        T::Time32(_) | T::Time64(TimeUnit::Nanosecond) => T::Time64(TimeUnit::Microsecond),
        T::Interval(unit) if *unit != IntervalUnit::MonthDayNano => {
            T::Interval(IntervalUnit::MonthDayNano)
        }
        T::Duration(_) => T::Interval(IntervalUnit::MonthDayNano),
        T::Dictionary(_, value) => canonical(value).unwrap_or_else(|| (**value).clone()),
        T::RunEndEncoded(_, value) => {
            let value = value.data_type();
            canonical(value).unwrap_or_else(|| value.clone())
        }
        T::LargeList(item) | T::FixedSizeList(item, _) => {
            T::List(Field::new_list_field(item.data_type().clone(), true).into())
        }
        _ => return None,
    })
}

/// Types without a PostgreSQL form, as Arrow displays them.
fn displayed(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    let text = |row| array.is_valid(row).then(|| formatter.value(row).to_string());
    Ok((0..array.len()).map(text).collect())
}

fn list_range(lists: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = lists.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

fn write_hex(bytes: &[u8], out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_u8(DIGITS[usize::from(byte >> 4)]);
        out.put_u8(DIGITS[usize::from(byte & 15)]);
    }
}

/// An array's element in text: quoted where it could be read as something else.
fn write_element(values: &Column, at: usize, out: &mut BytesMut) {
    if values.is_null(at) {
        return out.put_slice(b"NULL");
    }
    let start = out.len();
    values.write(Form::Text, at, out);
    if matches!(values, Column::List { .. }) || !needs_quotes(&out[start..]) {
        return;
    }
    let element = out.split_off(start);
    out.put_u8(b'"');
    for byte in element {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
}

fn needs_quotes(element: &[u8]) -> bool {
    let special = |b: &u8| {
        matches!(b, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
    };
    element.is_empty() || element.eq_ignore_ascii_case(b"null") || element.iter().any(special)
}
