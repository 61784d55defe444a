//! Values of the binary protocol as PostgreSQL's text format writes them.

use std::error::Error;

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime};
use sqllogictest::DefaultColumnType;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

/// A value as an `.slt` file has it.
pub fn shown(text: Option<&str>) -> String {
    match text {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.to_owned(),
    }
}

/// The letter of a type in `query`.
pub fn column_type(found: &Type) -> DefaultColumnType {
    match *found {
        Type::INT2 | Type::INT4 | Type::INT8 => DefaultColumnType::Integer,
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

/// A value that came in binary as an `.slt` file has it.
pub fn decoded(row: &Row, index: usize) -> Result<String, String> {
    text(row, index).map(|text| shown(text.as_deref()))
}

/// The text of a value that came in binary, `None` for NULL.
pub fn text(row: &Row, index: usize) -> Result<Option<String>, String> {
    let raw: Option<Raw> = row.try_get(index).map_err(|e| e.to_string())?;
    raw.map(|raw| raw.text()).transpose().map_err(|e| e.to_string())
}

struct Raw {
    found: Type,
    bytes: Vec<u8>,
}

impl FromSql<'_> for Raw {
    fn from_sql(found: &Type, bytes: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw { found: found.clone(), bytes: bytes.to_vec() })
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Raw {
    fn text(&self) -> Result<String, Box<dyn Error + Sync + Send>> {
        let bytes = self.bytes.as_slice();
        Ok(match self.found {
            Type::BOOL => (if bytes == [1] { "t" } else { "f" }).to_owned(),
            Type::INT2 => i16::from_be_bytes(bytes.try_into()?).to_string(),
            Type::INT4 => i32::from_be_bytes(bytes.try_into()?).to_string(),
            Type::INT8 => i64::from_be_bytes(bytes.try_into()?).to_string(),
            Type::FLOAT4 => {
                let value = f32::from_be_bytes(bytes.try_into()?);
                float(f64::from(value), &format!("{value:e}"), 6)
            }
            Type::FLOAT8 => {
                let value = f64::from_be_bytes(bytes.try_into()?);
                float(value, &format!("{value:e}"), 15)
            }
            Type::NUMERIC => numeric(bytes)?,
            Type::TEXT | Type::VARCHAR | Type::UNKNOWN | Type::NAME => {
                String::from_utf8(bytes.to_vec())?
            }
            Type::DATE => date(i32::from_be_bytes(bytes.try_into()?))?,
            Type::TIMESTAMP => instant(i64::from_be_bytes(bytes.try_into()?))?,
            Type::TIMESTAMPTZ => format!("{}+00", instant(i64::from_be_bytes(bytes.try_into()?))?),
            ref other => return Err(format!("no text for values of type {other}").into()),
        })
    }
}

/// `digits` are the shortest that read back the same, as `1.5e-7`.
fn float(value: f64, digits: &str, precision: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return (if value > 0.0 { "Infinity" } else { "-Infinity" }).to_owned();
    }
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((digits, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..precision).contains(&exponent) {
        let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
        let plain: String = mantissa.chars().filter(|c| *c != '.').collect();
        let point = exponent + 1;
        return if point <= 0 {
            format!("{sign}0.{}{plain}", "0".repeat(point.unsigned_abs() as usize))
        } else if plain.len() <= point as usize {
            format!("{sign}{plain}{}", "0".repeat(point as usize - plain.len()))
        } else {
            format!("{sign}{}.{}", &plain[..point as usize], &plain[point as usize..])
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// Digits of base 10000: their number, the weight of the first, sign, digits after the point.
fn numeric(bytes: &[u8]) -> Result<String, Box<dyn Error + Sync + Send>> {
    let word = |index: usize| {
        let at = bytes.get(2 * index..2 * index + 2).ok_or("a short numeric")?;
        Ok::<_, Box<dyn Error + Sync + Send>>(i16::from_be_bytes(at.try_into()?))
    };
    let (count, weight, sign, scale) = (word(0)?, word(1)?, word(2)?, word(3)? as usize);
    let digit = |place: i16| match place {
        place if place < 0 || place >= count => Ok(0),
        place => word(4 + place as usize),
    };
    let mut whole = String::new();
    for place in 0..=weight {
        whole.push_str(&format!("{:04}", digit(place)?));
    }
    let whole = whole.trim_start_matches('0');
    let mut fraction = String::new();
    let mut place = weight + 1;
    if place < 0 {
        // Zeros between the point and the first digit.
        fraction.push_str(&"0000".repeat(place.unsigned_abs() as usize));
        place = 0;
    }
    while fraction.len() < scale {
        fraction.push_str(&format!("{:04}", digit(place)?));
        place += 1;
    }
    fraction.truncate(scale);
    let sign = if sign == 0x4000 { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(match scale {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    })
}

fn date(days: i32) -> Result<String, Box<dyn Error + Sync + Send>> {
    let epoch = NaiveDate::from_ymd_opt(2000, 1, 1).ok_or("no epoch")?;
    let shift = Days::new(u64::from(days.unsigned_abs()));
    let day = match days < 0 {
        true => epoch.checked_sub_days(shift),
        false => epoch.checked_add_days(shift),
    };
    Ok(day.ok_or("a date out of range")?.format("%Y-%m-%d").to_string())
}

fn instant(micros: i64) -> Result<String, Box<dyn Error + Sync + Send>> {
    const EPOCH_MICROS: i64 = 946_684_800_000_000;
    let at: NaiveDateTime = DateTime::from_timestamp_micros(micros + EPOCH_MICROS)
        .ok_or("an instant out of range")?
        .naive_utc();
    let text = at.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    Ok(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}
