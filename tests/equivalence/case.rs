//! One random database as plain data, and how its parts are written in SQL.

use asofdb_tests::oracle::{
    Condition, Event, Expression, Frame, Function, Interval, Operator, Stream, Value,
    aggregate::{Argument, Call},
};
use chrono::{DateTime, NaiveDate, TimeDelta};
use tokio_postgres::types::Type;

/// The type of a column or a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlType {
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    Numeric(u8, u8),
    Text,
    Boolean,
    Date,
    Timestamp,
    Timestamptz,
}

impl SqlType {
    pub fn name(self) -> String {
        match self {
            SqlType::SmallInt => "SMALLINT".into(),
            SqlType::Integer => "INTEGER".into(),
            SqlType::BigInt => "BIGINT".into(),
            SqlType::Real => "REAL".into(),
            SqlType::Double => "DOUBLE PRECISION".into(),
            SqlType::Numeric(precision, scale) => format!("NUMERIC({precision}, {scale})"),
            SqlType::Text => "TEXT".into(),
            SqlType::Boolean => "BOOLEAN".into(),
            SqlType::Date => "DATE".into(),
            SqlType::Timestamp => "TIMESTAMP".into(),
            SqlType::Timestamptz => "TIMESTAMPTZ".into(),
        }
    }

    /// What the wire says.
    pub fn wire(self) -> Type {
        match self {
            SqlType::SmallInt => Type::INT2,
            SqlType::Integer => Type::INT4,
            SqlType::BigInt => Type::INT8,
            SqlType::Real => Type::FLOAT4,
            SqlType::Double => Type::FLOAT8,
            SqlType::Numeric(..) => Type::NUMERIC,
            SqlType::Text => Type::TEXT,
            SqlType::Boolean => Type::BOOL,
            SqlType::Date => Type::DATE,
            SqlType::Timestamp => Type::TIMESTAMP,
            SqlType::Timestamptz => Type::TIMESTAMPTZ,
        }
    }

    pub fn is_number(self) -> bool {
        use SqlType::*;
        matches!(self, SmallInt | Integer | BigInt | Real | Double | Numeric(..))
    }
}

/// A column of the source. `name` is quoted where it must be.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub sql_type: SqlType,
}

/// A feature.
#[derive(Clone, Debug)]
pub struct Definition {
    pub name: String,
    pub kind: Kind,
    pub output: SqlType,
    /// The statement that creates it, perhaps among others.
    pub statement: usize,
}

/// Where a feature's value comes from.
#[derive(Clone, Debug)]
pub enum Kind {
    /// From the events of the case's stream with this number.
    Windowed(usize, Box<Expression>),
    /// `a / nullif(b, 0)` of two other features.
    Derived(usize, usize),
}

/// A random database.
#[derive(Debug)]
pub struct Case {
    pub seed: u64,
    pub columns: Vec<Column>,
    /// The event time in `columns`.
    pub time_column: usize,
    /// The entity's key columns are called as the first columns of the source.
    pub key_types: Vec<SqlType>,
    pub streams: Vec<Stream>,
    pub definitions: Vec<Definition>,
    /// The statements that create the features, each with the stage before which it runs.
    pub statements: Vec<(String, usize)>,
    /// The events of each stage, in the transactions in which they arrive.
    pub arrivals: Vec<Vec<Vec<Event>>>,
    /// Keys that are asked for, also some that no event has.
    pub keys: Vec<Vec<Value>>,
    pub instants: Vec<i64>,
}

impl Case {
    pub fn key_names(&self) -> Vec<&str> {
        self.columns[..self.key_types.len()].iter().map(|c| c.name.as_str()).collect()
    }

    pub fn create_source(&self) -> String {
        let columns: Vec<_> =
            self.columns.iter().map(|c| format!("{} {}", c.name, c.sql_type.name())).collect();
        let time = &self.columns[self.time_column].name;
        format!("CREATE SOURCE events ({}) EVENT TIME {time}", columns.join(", "))
    }

    pub fn create_entity(&self) -> String {
        let names = self.key_names();
        let columns: Vec<_> =
            names.iter().zip(&self.key_types).map(|(n, t)| format!("{n} {}", t.name())).collect();
        format!("CREATE ENTITY things ({})", columns.join(", "))
    }

    /// `INSERT` of these rows.
    pub fn insert(&self, events: &[Event]) -> String {
        let rows: Vec<String> = events
            .iter()
            .map(|event| {
                let cells = event.row.iter().zip(&self.columns);
                let cells: Vec<_> = cells.map(|(v, c)| literal(v, c.sql_type)).collect();
                format!("({})", cells.join(", "))
            })
            .collect();
        format!("INSERT INTO events VALUES {}", rows.join(", "))
    }

    /// These rows in the text format of `COPY`.
    pub fn copy_text(&self, events: &[Event]) -> String {
        let line = |event: &Event| {
            let cells = event.row.iter().zip(&self.columns);
            let cells: Vec<_> = cells.map(|(v, c)| copy_field(v, c.sql_type)).collect();
            cells.join("\t") + "\n"
        };
        events.iter().map(line).collect()
    }

    pub fn render_condition(&self, condition: &Condition) -> String {
        match condition {
            Condition::Compare(column, operator, constant) => {
                let Column { name, sql_type } = &self.columns[*column];
                let operator = match operator {
                    Operator::Equal => "=",
                    Operator::NotEqual => "<>",
                    Operator::Less => "<",
                    Operator::NotLess => ">=",
                };
                format!("{name} {operator} {}", literal(constant, *sql_type))
            }
            Condition::IsNull(column) => format!("{} IS NULL", self.columns[*column].name),
            Condition::Not(inner) => format!("NOT ({})", self.render_condition(inner)),
            Condition::And(a, b) => {
                format!("({}) AND ({})", self.render_condition(a), self.render_condition(b))
            }
            Condition::Or(a, b) => {
                format!("({}) OR ({})", self.render_condition(a), self.render_condition(b))
            }
        }
    }

    /// The call without its window.
    pub fn render_call(&self, call: &Call) -> String {
        let argument = match &call.argument {
            Argument::Row => "*".to_owned(),
            Argument::Column(column) => self.columns[*column].name.clone(),
            Argument::Added(a, b) => {
                format!("{} + {}", self.columns[*a].name, self.columns[*b].name)
            }
            Argument::Times(a, factor) => format!("{} * {factor:?}", self.columns[*a].name),
        };
        let (name, distinct, ignore_nulls) = match call.function {
            Function::CountRows | Function::Count => ("count", "", ""),
            Function::CountDistinct => ("count", "DISTINCT ", ""),
            Function::Sum => ("sum", "", ""),
            Function::Avg => ("avg", "", ""),
            Function::Spread { sample: false, root: false } => ("var_pop", "", ""),
            Function::Spread { sample: true, root: false } => ("var_samp", "", ""),
            Function::Spread { sample: false, root: true } => ("stddev_pop", "", ""),
            Function::Spread { sample: true, root: true } => ("stddev_samp", "", ""),
            Function::Min => ("min", "", ""),
            Function::Max => ("max", "", ""),
            Function::First { ignore_nulls: false } => ("first_value", "", ""),
            Function::First { ignore_nulls: true } => ("first_value", "", " IGNORE NULLS"),
            Function::Last { ignore_nulls: false } => ("last_value", "", ""),
            Function::Last { ignore_nulls: true } => ("last_value", "", " IGNORE NULLS"),
            Function::BoolAnd => ("bool_and", "", ""),
            Function::BoolOr => ("bool_or", "", ""),
            Function::BitAnd => ("bit_and", "", ""),
            Function::BitOr => ("bit_or", "", ""),
            Function::BitXor => ("bit_xor", "", ""),
        };
        let filter = match &call.filter {
            None => String::new(),
            Some(filter) => format!(" FILTER (WHERE {})", self.render_condition(filter)),
        };
        format!("{name}({distinct}{argument}){filter}{ignore_nulls}")
    }
}

/// A frame; the empty text is one that has all history.
pub fn render_frame(frame: Frame) -> String {
    let by = |interval: Interval| format!("{} PRECEDING", render_interval(interval));
    match frame {
        Frame::Range(None, end) if end == Interval::default() => "RANGE UNBOUNDED PRECEDING".into(),
        Frame::Range(None, end) => format!("RANGE BETWEEN UNBOUNDED PRECEDING AND {}", by(end)),
        Frame::Range(Some(start), end) if end == Interval::default() => match start.micros % 2 {
            0 => format!("RANGE {}", by(start)),
            _ => format!("RANGE BETWEEN {} AND CURRENT ROW", by(start)),
        },
        Frame::Range(Some(start), end) => format!("RANGE BETWEEN {} AND {}", by(start), by(end)),
        Frame::Rows(None, 0) => "ROWS UNBOUNDED PRECEDING".into(),
        Frame::Rows(None, end) => format!("ROWS BETWEEN UNBOUNDED PRECEDING AND {end} PRECEDING"),
        Frame::Rows(Some(start), 0) => format!("ROWS {start} PRECEDING"),
        Frame::Rows(Some(start), end) => {
            format!("ROWS BETWEEN {start} PRECEDING AND {end} PRECEDING")
        }
    }
}

fn render_interval(interval: Interval) -> String {
    let mut parts = Vec::new();
    if interval.months != 0 {
        parts.push(format!("{} months", interval.months));
    }
    if interval.days != 0 {
        parts.push(format!("{} days", interval.days));
    }
    let (seconds, micros) = (interval.micros / 1_000_000, interval.micros % 1_000_000);
    if micros != 0 {
        parts.push(format!("{seconds}.{micros:06} seconds"));
    } else if seconds != 0 || parts.is_empty() {
        parts.push(format!("{seconds} seconds"));
    }
    format!("INTERVAL '{}'", parts.join(" "))
}

/// A constant that no rule of literals can mistake.
pub fn literal(value: &Value, sql_type: SqlType) -> String {
    match (value, sql_type) {
        (Value::Null, _) => "NULL".into(),
        (Value::Int(value), _) if (0..1000).contains(value) => value.to_string(),
        (Value::Text(text), _) => format!("'{}'", text.replace('\'', "''")),
        _ => format!("CAST('{}' AS {})", text(value, sql_type), sql_type.name()),
    }
}

fn copy_field(value: &Value, sql_type: SqlType) -> String {
    match value {
        Value::Null => "\\N".into(),
        value => text(value, sql_type)
            .replace('\\', "\\\\")
            .replace('\t', "\\t")
            .replace('\n', "\\n")
            .replace('\r', "\\r"),
    }
}

/// The text of a value that is not NULL.
pub fn text(value: &Value, sql_type: SqlType) -> String {
    match value {
        Value::Null | Value::OutOfRange => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(bits) => {
            let double = f64::from_bits(*bits);
            match (double.is_nan(), double.is_infinite(), double > 0.0) {
                (true, _, _) => "NaN".into(),
                (_, true, true) => "Infinity".into(),
                (_, true, false) => "-Infinity".into(),
                _ if sql_type == SqlType::Real => format!("{:e}", double as f32),
                _ => format!("{double:e}"),
            }
        }
        Value::Decimal(unscaled, scale) => {
            let scale = usize::from(*scale);
            let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let sign = if *unscaled < 0 { "-" } else { "" };
            let point = if scale > 0 { "." } else { "" };
            format!("{sign}{whole}{point}{fraction}")
        }
        Value::Text(text) => text.clone(),
        Value::Date(days) => {
            let epoch = NaiveDate::default();
            (epoch + TimeDelta::days(i64::from(*days))).format("%Y-%m-%d").to_string()
        }
        Value::Timestamp(micros) => {
            let instant = DateTime::from_timestamp_micros(*micros).unwrap_or_default();
            let zone = if sql_type == SqlType::Timestamptz { "+00" } else { "" };
            format!("{}{zone}", instant.format("%Y-%m-%d %H:%M:%S%.6f"))
        }
    }
}
