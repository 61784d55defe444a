//! Parameters of the script as typed values of the driver.

use std::error::Error;
use std::str::FromStr;

use bytes::BytesMut;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde::Deserialize;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use crate::fresh;

/// A value's text, or those of an array's elements.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Given {
    One(Option<String>),
    Many(Vec<Option<String>>),
}

type Parameter = Box<dyn ToSql + Sync + Send>;

/// The type on the wire of a type as the script has it.
pub fn column_type(declared: &str) -> Type {
    match base(declared) {
        "BOOLEAN" => Type::BOOL,
        "SMALLINT" => Type::INT2,
        "INTEGER" => Type::INT4,
        "BIGINT" => Type::INT8,
        "BIGINT[]" => Type::INT8_ARRAY,
        "REAL" => Type::FLOAT4,
        "DOUBLE PRECISION" => Type::FLOAT8,
        "NUMERIC" => Type::NUMERIC,
        "TEXT" | "VARCHAR" => Type::TEXT,
        "TEXT[]" => Type::TEXT_ARRAY,
        "DATE" => Type::DATE,
        "TIMESTAMP" => Type::TIMESTAMP,
        "TIMESTAMPTZ" => Type::TIMESTAMPTZ,
        // Which no column has: the step fails.
        _ => Type::UNKNOWN,
    }
}

/// The driver's value of a parameter.
pub fn parameter((declared, given): &(String, Given)) -> Result<Parameter, fresh::Error> {
    let text = match given {
        Given::One(text) => text.as_deref(),
        Given::Many(items) if declared == "BIGINT[]" => return list(items, i64::from_str),
        Given::Many(items) => return list(items, String::from_str),
    };
    match base(declared) {
        "BOOLEAN" => one(text, |text| Ok::<_, fresh::Error>(text == "t")),
        "SMALLINT" => one(text, i16::from_str),
        "INTEGER" => one(text, i32::from_str),
        "BIGINT" => one(text, i64::from_str),
        "REAL" => one(text, f32::from_str),
        "DOUBLE PRECISION" => one(text, f64::from_str),
        "NUMERIC" => one(text, |text| Ok::<_, fresh::Error>(Numeric(text.to_owned()))),
        "DATE" => one(text, NaiveDate::from_str),
        "TIMESTAMP" => one(text, |text| NaiveDateTime::parse_from_str(text, "%F %T%.f")),
        "TIMESTAMPTZ" => one(text, |text| {
            DateTime::parse_from_str(text, "%F %T%.f%#z").map(|at| at.with_timezone(&Utc))
        }),
        _ => one(text, String::from_str),
    }
}

/// The type without its precision.
fn base(declared: &str) -> &str {
    declared.split('(').next().unwrap_or(declared)
}

fn one<T, E>(
    text: Option<&str>,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Parameter, fresh::Error>
where
    T: ToSql + Sync + Send + 'static,
    fresh::Error: From<E>,
{
    Ok(Box::new(text.map(read).transpose()?))
}

fn list<T, E>(
    items: &[Option<String>],
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Parameter, fresh::Error>
where
    T: ToSql + Sync + Send + 'static,
    fresh::Error: From<E>,
{
    let item = |item: &Option<String>| item.as_deref().map(&read).transpose();
    Ok(Box::new(items.iter().map(item).collect::<Result<Vec<_>, _>>()?))
}

/// The driver has no type for NUMERIC; this one goes as text.
#[derive(Debug)]
struct Numeric(String);

impl ToSql for Numeric {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(found: &Type) -> bool {
        *found == Type::NUMERIC
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
