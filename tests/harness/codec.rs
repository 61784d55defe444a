//! PostgreSQL's binary formats to the oracle's values and back, so that numbers compare by bits.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::oracle::Value;

/// Days from 1970-01-01 to 2000-01-01, from which PostgreSQL counts.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

type Failure = Box<dyn Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, sql_type: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match (self, sql_type) {
            (Value::Null, _) => return Ok(IsNull::Yes),
            (Value::Int(value), &Type::INT2) => out.put_i16(i16::try_from(*value)?),
            (Value::Int(value), &Type::INT4) => out.put_i32(i32::try_from(*value)?),
            (Value::Int(value), &Type::INT8) => out.put_i64(*value),
            (Value::Float(bits), &Type::FLOAT8) => out.put_u64(*bits),
            (Value::Text(text), &Type::TEXT | &Type::VARCHAR) => out.put_slice(text.as_bytes()),
            (Value::Bool(value), &Type::BOOL) => out.put_u8(u8::from(*value)),
            (Value::Date(days), &Type::DATE) => out.put_i32(days - EPOCH_DAYS),
            (Value::Timestamp(micros), &Type::TIMESTAMP | &Type::TIMESTAMPTZ) => {
                out.put_i64(micros - EPOCH_MICROS);
            }
            _ => return Err(format!("{self:?} is no {sql_type}").into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(sql_type: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(match *sql_type {
            Type::INT2 => Value::Int(i16::from_be_bytes(raw.try_into()?).into()),
            Type::INT4 => Value::Int(i32::from_be_bytes(raw.try_into()?).into()),
            Type::INT8 => Value::Int(i64::from_be_bytes(raw.try_into()?)),
            Type::FLOAT4 => Value::float(f32::from_be_bytes(raw.try_into()?).into()),
            Type::FLOAT8 => Value::float(f64::from_be_bytes(raw.try_into()?)),
            Type::NUMERIC => numeric(raw)?,
            Type::TEXT | Type::VARCHAR => Value::Text(std::str::from_utf8(raw)?.to_owned()),
            Type::BOOL => Value::Bool(raw == [1]),
            Type::DATE => Value::Date(i32::from_be_bytes(raw.try_into()?) + EPOCH_DAYS),
            Type::TIMESTAMP | Type::TIMESTAMPTZ => {
                Value::Timestamp(i64::from_be_bytes(raw.try_into()?) + EPOCH_MICROS)
            }
            ref other => return Err(format!("values of type {other} are not decoded").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Value::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Groups of four decimal digits: their number, the weight of the first, sign, scale, groups.
fn numeric(raw: &[u8]) -> Result<Value, Failure> {
    let words: Vec<i16> = raw.chunks_exact(2).map(|w| i16::from_be_bytes([w[0], w[1]])).collect();
    let [_, weight, sign, scale, groups @ ..] = words.as_slice() else {
        return Err("a numeric has eight bytes at least".into());
    };
    let scale = u8::try_from(*scale)?;
    let mut digits = String::new();
    // Groups from the first to the one that holds the last digit after the point.
    let last = -i32::from(scale.div_ceil(4));
    for place in (last..=i32::from(*weight).max(0)).rev() {
        let index = i32::from(*weight) - place;
        let group = usize::try_from(index).ok().and_then(|i| groups.get(i)).unwrap_or(&0);
        digits.push_str(&format!("{group:04}"));
    }
    // The last group may have digits beyond the scale; they are zero.
    let surplus = (-last * 4 - i32::from(scale)) as usize;
    let (kept, cut) = digits.split_at(digits.len() - surplus);
    if cut.chars().any(|digit| digit != '0') {
        return Err("a numeric has digits beyond its scale".into());
    }
    let magnitude: i128 = kept
        .trim_start_matches('0')
        .parse()
        .or_else(|error| if kept.chars().all(|digit| digit == '0') { Ok(0) } else { Err(error) })?;
    match *sign as u16 {
        0 => Ok(Value::Decimal(magnitude, scale)),
        0x4000 => Ok(Value::Decimal(-magnitude, scale)),
        other => Err(format!("a numeric with sign {other:#x}").into()),
    }
}
