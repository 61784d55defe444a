//! Values as they compare bit for bit, and conditions on rows.

use std::cmp::Ordering;

/// A value of a column or a feature.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// NULL.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// SMALLINT, INTEGER, BIGINT.
    Int(i64),
    /// REAL (widened) and DOUBLE PRECISION, as bits; every NaN is the same.
    Float(u64),
    /// NUMERIC: the value without its point, and the digits after the point.
    Decimal(i128, u8),
    /// TEXT.
    Text(String),
    /// DATE, days since 1970-01-01.
    Date(i32),
    /// TIMESTAMP and TIMESTAMPTZ, microseconds since 1970-01-01.
    Timestamp(i64),
    /// No value: the statement fails with SQLSTATE 22003.
    OutOfRange,
}

impl Value {
    /// A floating-point number.
    pub fn float(value: f64) -> Value {
        Value::Float(if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
    }

    /// A number in double precision; NULL and what is no such number is none.
    pub fn to_f64(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        }
    }

    /// The order of `min` and `max`: NaN is greatest, -0 is less than +0, text goes by bytes.
    pub fn order(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Float(a), Value::Float(b)) => {
                let (a, b) = (f64::from_bits(*a), f64::from_bits(*b));
                compare_floats(a, b).then(b.is_sign_negative().cmp(&a.is_sign_negative()))
            }
            _ => self.compare(other),
        }
    }

    /// The order of SQL's comparisons: NaN is greatest and equal to itself, -0 equals +0.
    ///
    /// # Panics
    /// If the values are of different types.
    pub fn compare(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => {
                compare_floats(f64::from_bits(*a), f64::from_bits(*b))
            }
            (Value::Decimal(a, _), Value::Decimal(b, _)) => a.cmp(b),
            (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::Date(a), Value::Date(b)) => a.cmp(b),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            _ => unreachable!("{self:?} and {other:?} do not compare"),
        }
    }
}

fn compare_floats(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if a < b => Ordering::Less,
        (false, false) if a > b => Ordering::Greater,
        (false, false) => Ordering::Equal,
        (a, b) => a.cmp(&b),
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `>=`
    NotLess,
}

/// A condition on a row, of three truth values.
#[derive(Clone, Debug)]
pub enum Condition {
    /// A column and a constant.
    Compare(usize, Operator, Value),
    /// `column IS NULL`
    IsNull(usize),
    /// `NOT (…)`
    Not(Box<Condition>),
    /// `(…) AND (…)`
    And(Box<Condition>, Box<Condition>),
    /// `(…) OR (…)`
    Or(Box<Condition>, Box<Condition>),
}

impl Condition {
    /// Whether the condition is true, not merely unknown.
    pub fn holds(&self, row: &[Value]) -> bool {
        self.truth(row) == Some(true)
    }

    /// `None` is unknown.
    fn truth(&self, row: &[Value]) -> Option<bool> {
        match self {
            Condition::Compare(column, operator, constant) => {
                if row[*column] == Value::Null {
                    return None;
                }
                let order = row[*column].compare(constant);
                Some(match operator {
                    Operator::Equal => order.is_eq(),
                    Operator::NotEqual => order.is_ne(),
                    Operator::Less => order.is_lt(),
                    Operator::NotLess => order.is_ge(),
                })
            }
            Condition::IsNull(column) => Some(row[*column] == Value::Null),
            Condition::Not(inner) => inner.truth(row).map(|truth| !truth),
            Condition::And(a, b) => match (a.truth(row), b.truth(row)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Condition::Or(a, b) => match (a.truth(row), b.truth(row)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }
}
