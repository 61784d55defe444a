//! A column under construction from texts or binary values.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder,
    IntervalMonthDayNanoBuilder, ListArray, NullArray, PrimitiveBuilder, StringBuilder,
    Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};

use super::array::{Element, elements};
use super::binary::{array_elements, decode_numeric, exact, take};
use super::datetime::{self, MICROS_PER_DAY, PG_EPOCH_DAYS, PG_EPOCH_MICROS};
use super::{InputError, Result, boolean, bytea, interval, number, utf8};
use crate::types::sql_name;

/// Arrays may nest this deep.
const MAX_DEPTH: usize = 6;

/// Builds one column of any type that PostgreSQL clients can send.
pub struct ColumnBuilder {
    kind: Kind,
    /// What [`ColumnBuilder::finish`] gives; the kind may build a simpler type.
    target: DataType,
    name: String,
    bytes: usize,
}

enum Kind {
    Null(usize),
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampTz(TimestampMicrosecondBuilder),
    Time(Time64MicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    List { item: Box<ColumnBuilder>, offsets: Vec<i32>, nulls: NullBufferBuilder },
}

impl ColumnBuilder {
    /// A builder of columns of `target`.
    pub fn new(target: &DataType) -> Result<Self> {
        Self::with_depth(target, 0)
    }

    fn with_depth(target: &DataType, depth: usize) -> Result<Self> {
        use DataType as T;
        let kind = match target {
            T::Null => Kind::Null(0),
            T::Boolean => Kind::Boolean(BooleanBuilder::new()),
            T::Int8 | T::UInt8 | T::Int16 => Kind::Int16(Int16Builder::new()),
            T::UInt16 | T::Int32 => Kind::Int32(Int32Builder::new()),
            T::UInt32 | T::Int64 => Kind::Int64(Int64Builder::new()),
            T::Float16 | T::Float32 => Kind::Float32(Float32Builder::new()),
            T::Float64 => Kind::Float64(Float64Builder::new()),
            T::UInt64 => decimal(20, 0)?,
            T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) => decimal(*p, *s)?,
            T::Decimal256(p, s) => decimal((*p).min(38), *s)?,
            T::Utf8 | T::LargeUtf8 | T::Utf8View => Kind::Text(StringBuilder::new()),
            T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
                Kind::Bytes(BinaryBuilder::new())
            }
            T::Date32 | T::Date64 => Kind::Date(Date32Builder::new()),
            T::Timestamp(_, None) => Kind::Timestamp(TimestampMicrosecondBuilder::new()),
            T::Timestamp(_, Some(_)) => {
                let builder = TimestampMicrosecondBuilder::new();
                Kind::TimestampTz(builder.with_timezone("UTC"))
            }
            T::Time32(_) | T::Time64(_) => Kind::Time(Time64MicrosecondBuilder::new()),
            T::Interval(_) => Kind::Interval(IntervalMonthDayNanoBuilder::new()),
            T::Dictionary(_, value) => {
                let mut builder = Self::with_depth(value, depth)?;
                builder.target = target.clone();
                return Ok(builder);
            }
            T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) if depth < MAX_DEPTH => {
                Kind::List {
                    item: Box::new(Self::with_depth(item.data_type(), depth + 1)?),
                    offsets: vec![0],
                    nulls: NullBufferBuilder::new(0),
                }
            }
            other => {
                let message = format!("values of type {other} can't be read from clients");
                return Err(InputError::new("0A000", message));
            }
        };
        Ok(ColumnBuilder { kind, target: target.clone(), name: sql_name(target), bytes: 0 })
    }

    /// Bytes of variable size that were appended since the last [`ColumnBuilder::finish`].
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a NULL.
    pub fn append_null(&mut self) {
        match &mut self.kind {
            Kind::Null(rows) => *rows += 1,
            Kind::Boolean(b) => b.append_null(),
            Kind::Int16(b) => b.append_null(),
            Kind::Int32(b) => b.append_null(),
            Kind::Int64(b) => b.append_null(),
            Kind::Float32(b) => b.append_null(),
            Kind::Float64(b) => b.append_null(),
            Kind::Decimal(b, ..) => b.append_null(),
            Kind::Text(b) => b.append_null(),
            Kind::Bytes(b) => b.append_null(),
            Kind::Date(b) => b.append_null(),
            Kind::Timestamp(b) | Kind::TimestampTz(b) => b.append_null(),
            Kind::Time(b) => b.append_null(),
            Kind::Interval(b) => b.append_null(),
            Kind::List { offsets, nulls, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
                nulls.append_null();
            }
        }
    }

    /// Appends a value given as text.
    pub fn append_text(&mut self, text: &str) -> Result<()> {
        self.bytes += text.len();
        let name = self.name.as_str();
        match &mut self.kind {
            Kind::Null(_) => return Err(InputError::syntax(name, text)),
            Kind::Boolean(b) => b.append_value(boolean(text)?),
            Kind::Int16(b) => b.append_value(integer(text, name)?),
            Kind::Int32(b) => b.append_value(integer(text, name)?),
            Kind::Int64(b) => b.append_value(integer(text, name)?),
            Kind::Float32(b) => b.append_value(number::float4(text)?),
            Kind::Float64(b) => b.append_value(number::float8(text)?),
            Kind::Decimal(b, p, s) => b.append_value(number::decimal(text, *p, *s)?),
            Kind::Text(b) => b.append_value(text),
            Kind::Bytes(b) => b.append_value(bytea(text)?),
            Kind::Date(b) => b.append_value(datetime::date(text)?),
            Kind::Timestamp(b) => b.append_value(datetime::timestamp(text)?),
            Kind::TimestampTz(b) => b.append_value(datetime::timestamptz(text)?),
            Kind::Time(b) => b.append_value(datetime::time(text)?),
            Kind::Interval(b) => b.append_value(interval::interval(text)?),
            Kind::List { item, offsets, nulls } => {
                let found = elements(text)?;
                for element in &found {
                    match element {
                        Element::Null => item.append_null(),
                        Element::Text(text) if !item.is_list() => item.append_text(text)?,
                        Element::Array(text) if item.is_list() => item.append_text(text)?,
                        Element::Text(_) | Element::Array(_) => {
                            let shown = super::shorten(text);
                            let message = format!("malformed array literal: \"{shown}\"");
                            return Err(InputError::new("22P02", message));
                        }
                    }
                }
                close_list(offsets, nulls, found.len())?;
            }
        }
        Ok(())
    }

    /// Appends a value in the binary form of the PostgreSQL type that the target has.
    pub fn append_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len();
        let name = self.name.as_str();
        match &mut self.kind {
            Kind::Null(_) => return Err(InputError::binary(name)),
            Kind::Boolean(b) => b.append_value(u8::from_be_bytes(exact(bytes, name)?) != 0),
            Kind::Int16(b) => b.append_value(i16::from_be_bytes(exact(bytes, name)?)),
            Kind::Int32(b) => b.append_value(i32::from_be_bytes(exact(bytes, name)?)),
            Kind::Int64(b) => b.append_value(i64::from_be_bytes(exact(bytes, name)?)),
            Kind::Float32(b) => b.append_value(f32::from_be_bytes(exact(bytes, name)?)),
            Kind::Float64(b) => b.append_value(f64::from_be_bytes(exact(bytes, name)?)),
            Kind::Decimal(b, p, s) => {
                b.append_value(number::decimal(&decode_numeric(bytes)?, *p, *s)?);
            }
            Kind::Text(b) => b.append_value(utf8(bytes)?),
            Kind::Bytes(b) => b.append_value(bytes),
            Kind::Date(b) => b.append_value(binary_date(exact(bytes, name)?)?),
            Kind::Timestamp(b) | Kind::TimestampTz(b) => {
                b.append_value(binary_instant(exact(bytes, name)?, name)?);
            }
            Kind::Time(b) => {
                let micros = i64::from_be_bytes(exact(bytes, name)?);
                if !(0..=MICROS_PER_DAY).contains(&micros) {
                    return Err(InputError::new("22008", "time out of range"));
                }
                b.append_value(micros);
            }
            Kind::Interval(b) => b.append_value(binary_interval(bytes)?),
            Kind::List { item, offsets, nulls } => {
                let (_, found) = array_elements(bytes)?;
                let count = found.len();
                for element in found {
                    match element {
                        Some(bytes) => item.append_binary(bytes)?,
                        None => item.append_null(),
                    }
                }
                close_list(offsets, nulls, count)?;
            }
        }
        Ok(())
    }

    /// The column so far; the builder is empty again.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.bytes = 0;
        let array: ArrayRef = match &mut self.kind {
            Kind::Null(rows) => Arc::new(NullArray::new(std::mem::take(rows))),
            Kind::Boolean(b) => Arc::new(b.finish()),
            Kind::Int16(b) => primitive(b),
            Kind::Int32(b) => primitive(b),
            Kind::Int64(b) => primitive(b),
            Kind::Float32(b) => primitive(b),
            Kind::Float64(b) => primitive(b),
            Kind::Decimal(b, ..) => primitive(b),
            Kind::Text(b) => Arc::new(b.finish()),
            Kind::Bytes(b) => Arc::new(b.finish()),
            Kind::Date(b) => primitive(b),
            Kind::Timestamp(b) | Kind::TimestampTz(b) => primitive(b),
            Kind::Time(b) => primitive(b),
            Kind::Interval(b) => primitive(b),
            Kind::List { item, offsets, nulls } => {
                let values = item.finish()?;
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let field = match &self.target {
                    DataType::List(field) => field.clone(),
                    _ => Arc::new(Field::new_list_field(values.data_type().clone(), true)),
                };
                let list = ListArray::try_new(field, offsets, values, nulls.finish());
                Arc::new(list.map_err(|e| InputError::new("22P02", e.to_string()))?)
            }
        };
        if *array.data_type() == self.target {
            return Ok(array);
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&array, &self.target, &options).map_err(|_| {
            InputError::new("22003", format!("value out of range for type {}", self.name))
        })
    }

    fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List { .. })
    }
}

fn decimal(precision: u8, scale: i8) -> Result<Kind> {
    let builder = Decimal128Builder::new().with_precision_and_scale(precision, scale);
    let builder = builder.map_err(|e| InputError::new("22023", e.to_string()))?;
    Ok(Kind::Decimal(builder, precision, scale))
}

fn primitive<T: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>) -> ArrayRef {
    Arc::new(builder.finish())
}

/// A whole number in the range of `T`.
fn integer<T: TryFrom<i64>>(text: &str, name: &str) -> Result<T> {
    let value = number::integer(text, name, i64::MIN, i64::MAX)?;
    T::try_from(value).map_err(|_| InputError::range(name, text))
}

fn close_list(offsets: &mut Vec<i32>, nulls: &mut NullBufferBuilder, count: usize) -> Result<()> {
    let end = offsets.last().copied().unwrap_or(0) as usize + count;
    let end = i32::try_from(end).map_err(|_| InputError::new("54000", "array is too large"))?;
    offsets.push(end);
    nulls.append_non_null();
    Ok(())
}

fn binary_date(bytes: [u8; 4]) -> Result<i32> {
    let days = i32::from_be_bytes(bytes);
    let infinite = days == i32::MAX || days == i32::MIN;
    let days = if infinite { None } else { days.checked_add(PG_EPOCH_DAYS) };
    days.ok_or_else(|| InputError::new("22008", "date out of range"))
}

fn binary_instant(bytes: [u8; 8], name: &str) -> Result<i64> {
    let micros = i64::from_be_bytes(bytes);
    let infinite = micros == i64::MAX || micros == i64::MIN;
    let micros = if infinite { None } else { micros.checked_add(PG_EPOCH_MICROS) };
    micros.ok_or_else(|| InputError::new("22008", format!("{name} out of range")))
}

fn binary_interval(mut bytes: &[u8]) -> Result<IntervalMonthDayNano> {
    let name = "interval";
    let micros = i64::from_be_bytes(take(&mut bytes, name)?);
    let days = i32::from_be_bytes(take(&mut bytes, name)?);
    let months = i32::from_be_bytes(exact(bytes, name)?);
    let nanos = micros
        .checked_mul(1000)
        .ok_or_else(|| InputError::new("22015", "interval out of range"))?;
    Ok(IntervalMonthDayNano::new(months, days, nanos))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Int64Type, TimeUnit};

    use super::*;

    #[test]
    fn lists_of_both_formats() {
        let list = DataType::new_list(DataType::Int64, true);
        let mut builder = ColumnBuilder::new(&list).unwrap();
        builder.append_text("{1,NULL,3}").unwrap();
        builder.append_null();
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1];
        bytes.extend([0, 0, 0, 8]);
        bytes.extend(7_i64.to_be_bytes());
        builder.append_binary(&bytes).unwrap();
        let array = builder.finish().unwrap();
        let lists = array.as_list::<i32>();
        assert_eq!(lists.value(0).as_primitive::<Int64Type>().value(2), 3);
        assert!(lists.value(0).is_null(1) && lists.is_null(1));
        assert_eq!(lists.value(2).as_primitive::<Int64Type>().value(0), 7);
        assert_eq!(builder.append_text("{1,x}").unwrap_err().code, "22P02");
    }

    #[test]
    fn other_units_are_cast() {
        let target = DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()));
        let mut builder = ColumnBuilder::new(&target).unwrap();
        builder.append_text("2013-01-01").unwrap();
        assert_eq!(builder.finish().unwrap().data_type(), &target);
        let mut tiny = ColumnBuilder::new(&DataType::Int8).unwrap();
        tiny.append_text("300").unwrap();
        assert_eq!(tiny.finish().unwrap_err().code, "22003");
    }

    #[test]
    fn messages_name_value_and_type() {
        let mut builder = ColumnBuilder::new(&DataType::Int64).unwrap();
        let error = builder.append_text("x1").unwrap_err();
        assert_eq!(error.message, "invalid input syntax for type bigint: \"x1\"");
        assert_eq!(builder.append_binary(&[0, 1]).unwrap_err().code, "22P03");
    }
}
