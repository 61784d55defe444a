//! SQL types and the Arrow types that hold them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{self, ArrayElemTypeDef, ExactNumberInfo, TimezoneInfo};

use crate::error::{Error, Result};

/// The time zone of every `TIMESTAMPTZ` column: values are instants in UTC.
pub const UTC: &str = "+00:00";

/// The type of event times and instants: microseconds since the Unix epoch, in UTC.
pub fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from(UTC)))
}

/// The Arrow type of a SQL type.
///
/// # Errors
/// [`Error::Unsupported`] for types that AsofDB does not have.
pub fn arrow_type(sql_type: &ast::DataType) -> Result<DataType> {
    use ast::DataType as Sql;
    Ok(match sql_type {
        Sql::Boolean | Sql::Bool => DataType::Boolean,
        Sql::SmallInt(_) | Sql::Int2(_) => DataType::Int16,
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) => DataType::Int32,
        Sql::BigInt(_) | Sql::Int8(_) => DataType::Int64,
        Sql::Real | Sql::Float4 => DataType::Float32,
        Sql::DoublePrecision | Sql::Double(_) | Sql::Float8 | Sql::Float64 => DataType::Float64,
        Sql::Float(info) => float_type(info)?,
        Sql::Numeric(info) | Sql::Decimal(info) | Sql::Dec(info) => decimal_type(info)?,
        Sql::Text | Sql::Varchar(_) | Sql::CharacterVarying(_) | Sql::String(_) => DataType::Utf8,
        Sql::Bytea => DataType::Binary,
        Sql::Date => DataType::Date32,
        Sql::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        Sql::Timestamp(_, _) => instant_type(),
        Sql::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        Sql::Array(
            ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item),
        ) => DataType::new_list(arrow_type(item)?, true),
        other => {
            return Err(Error::Unsupported {
                what: format!("type {other} is not supported"),
                hint: Some(
                    "Types: BOOLEAN, SMALLINT, INTEGER, BIGINT, REAL, DOUBLE PRECISION, \
                     NUMERIC(p, s), TEXT, DATE, TIMESTAMP, TIMESTAMPTZ."
                        .into(),
                ),
            });
        }
    })
}

fn float_type(info: &ExactNumberInfo) -> Result<DataType> {
    match info {
        ExactNumberInfo::Precision(bits) if *bits <= 24 => Ok(DataType::Float32),
        ExactNumberInfo::None | ExactNumberInfo::Precision(_) => Ok(DataType::Float64),
        ExactNumberInfo::PrecisionAndScale(..) => {
            Err(Error::unsupported("FLOAT takes one number, its precision in bits"))
        }
    }
}

/// `NUMERIC` alone has 38 digits, 10 of them after the point.
fn decimal_type(info: &ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p @ 1..=38), Ok(s)) if s >= 0 && s as u8 <= p => Ok(DataType::Decimal128(p, s)),
        _ => Err(Error::definition(format!(
            "NUMERIC({precision}, {scale}): the precision is 1 to 38, the scale 0 to the precision"
        ))),
    }
}

/// The SQL name of an Arrow type, as `DESCRIBE` and error messages show it.
pub fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "UNKNOWN".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE PRECISION".into(),
        DataType::Decimal128(p, s) => format!("NUMERIC({p}, {s})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "TEXT".into(),
        DataType::Binary => "BYTEA".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".into(),
        DataType::Interval(_) => "INTERVAL".into(),
        DataType::List(field) => format!("{}[]", sql_name(field.data_type())),
        other => other.to_string(),
    }
}

/// Makes DataFusion use our types, with microseconds, in casts and literals.
#[derive(Debug)]
pub struct AsofTypes;

impl TypePlanner for AsofTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        match arrow_type(sql_type) {
            Ok(data_type) => Ok(Some(Arc::new(Field::new("", data_type, true)))),
            Err(Error::Unsupported { .. }) => Ok(None),
            Err(error) => Err(DataFusionError::from(error)),
        }
    }
}
