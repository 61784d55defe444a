//! The aggregates, each as its sentence in the documentation says.

use std::collections::HashSet;

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive};

use super::number::{Exact, nearest};
use super::{Condition, Event, Frame, Value};

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `count(*)`
    CountRows,
    /// `count(x)`
    Count,
    /// `count(DISTINCT x)`
    CountDistinct,
    /// `sum`
    Sum,
    /// `avg`
    Avg,
    /// `var_pop`, `var_samp`, `stddev_pop`, `stddev_samp`
    Spread {
        /// Divided by one less than the count.
        sample: bool,
        /// The square root of it.
        root: bool,
    },
    /// `min`
    Min,
    /// `max`
    Max,
    /// `first_value`
    First {
        /// `IGNORE NULLS`
        ignore_nulls: bool,
    },
    /// `last_value`
    Last {
        /// `IGNORE NULLS`
        ignore_nulls: bool,
    },
    /// `bool_and`
    BoolAnd,
    /// `bool_or`
    BoolOr,
    /// `bit_and`
    BitAnd,
    /// `bit_or`
    BitOr,
    /// `bit_xor`
    BitXor,
}

/// What an aggregate is applied to.
#[derive(Clone, Debug)]
pub enum Argument {
    /// Nothing: `count(*)`.
    Row,
    /// A column.
    Column(usize),
    /// The sum of two columns in double precision.
    Added(usize, usize),
    /// A column times a constant in double precision.
    Times(usize, f64),
}

/// An aggregate over a frame.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is computed.
    pub function: Function,
    /// Of what.
    pub argument: Argument,
    /// The `FILTER` clause.
    pub filter: Option<Condition>,
    /// Over which events.
    pub frame: Frame,
}

impl Call {
    /// The value over the events of the frame, in order.
    pub fn value(&self, frame: &[&Event]) -> Value {
        let passes = |e: &&&Event| self.filter.as_ref().is_none_or(|f| f.holds(&e.row));
        let rows: Vec<Value> =
            frame.iter().filter(passes).map(|e| self.argument.value(&e.row)).collect();
        let present: Vec<&Value> = rows.iter().filter(|value| **value != Value::Null).collect();
        let or_null = |value: Option<&Value>| value.cloned().unwrap_or(Value::Null);
        match self.function {
            Function::CountRows => Value::Int(rows.len() as i64),
            Function::Count => Value::Int(present.len() as i64),
            Function::CountDistinct => Value::Int(distinct(&present)),
            Function::First { ignore_nulls: false } => or_null(rows.first()),
            Function::Last { ignore_nulls: false } => or_null(rows.last()),
            Function::First { ignore_nulls: true } => or_null(present.first().copied()),
            Function::Last { ignore_nulls: true } => or_null(present.last().copied()),
            _ if present.is_empty() => Value::Null,
            Function::Min => or_null(present.into_iter().min_by(|a, b| a.order(b))),
            Function::Max => or_null(present.into_iter().max_by(|a, b| a.order(b))),
            Function::BoolAnd => Value::Bool(!present.contains(&&Value::Bool(false))),
            Function::BoolOr => Value::Bool(present.contains(&&Value::Bool(true))),
            Function::BitAnd => bits(&present, |with| with == present.len()),
            Function::BitOr => bits(&present, |with| with > 0),
            Function::BitXor => bits(&present, |with| with % 2 == 1),
            Function::Sum => sum(&present),
            Function::Avg => avg(&present),
            Function::Spread { sample, root } => spread(&present, sample, root),
        }
    }
}

impl Argument {
    fn value(&self, row: &[Value]) -> Value {
        match self {
            // Anything but NULL.
            Argument::Row => Value::Bool(true),
            Argument::Column(column) => row[*column].clone(),
            Argument::Added(a, b) => match (row[*a].to_f64(), row[*b].to_f64()) {
                (Some(a), Some(b)) => Value::float(a + b),
                _ => Value::Null,
            },
            Argument::Times(a, factor) => match row[*a].to_f64() {
                Some(a) => Value::float(a * factor),
                None => Value::Null,
            },
        }
    }
}

/// -0 and +0 are one value.
fn distinct(values: &[&Value]) -> i64 {
    let zero = Value::float(0.0);
    let identity = |value: &&Value| match value {
        Value::Float(bits) if f64::from_bits(*bits) == 0.0 => zero.clone(),
        other => (*other).clone(),
    };
    values.iter().map(identity).collect::<HashSet<_>>().len() as i64
}

/// The integer of the bits for which `is_set` holds of how many values have the bit.
fn bits(values: &[&Value], is_set: impl Fn(usize) -> bool) -> Value {
    let mut result = 0;
    for bit in 0..64 {
        let has_bit = |value: &&&Value| match value {
            Value::Int(value) => (value >> bit) & 1 == 1,
            other => unreachable!("{other:?} among integers"),
        };
        if is_set(values.iter().filter(has_bit).count()) {
            result |= 1 << bit;
        }
    }
    Value::Int(result)
}

/// The numbers of one type.
enum Numbers {
    Integers(Exact),
    Decimals(Exact, u8),
    /// Finite ones.
    Doubles(Exact),
    /// What NaN and infinities make of a sum.
    Special(f64),
}

fn numbers(values: &[&Value]) -> Numbers {
    match values[0] {
        Value::Int(_) => Numbers::Integers(Exact::of_integers(values.iter().map(|v| match v {
            Value::Int(value) => i128::from(*value),
            other => unreachable!("{other:?} among integers"),
        }))),
        Value::Decimal(_, scale) => {
            let unscaled = values.iter().map(|v| match v {
                Value::Decimal(value, _) => *value,
                other => unreachable!("{other:?} among decimals"),
            });
            Numbers::Decimals(Exact::of_integers(unscaled), *scale)
        }
        _ => doubles(&values.iter().filter_map(|v| v.to_f64()).collect::<Vec<_>>()),
    }
}

fn doubles(doubles: &[f64]) -> Numbers {
    if doubles.iter().all(|double| double.is_finite()) {
        return Numbers::Doubles(Exact::of_doubles(doubles));
    }
    let has = |wanted: f64| doubles.contains(&wanted);
    let nan = doubles.iter().any(|double| double.is_nan());
    match (nan, has(f64::INFINITY), has(f64::NEG_INFINITY)) {
        (false, true, false) => Numbers::Special(f64::INFINITY),
        (false, false, true) => Numbers::Special(f64::NEG_INFINITY),
        _ => Numbers::Special(f64::NAN),
    }
}

fn ten_to(power: u8) -> BigInt {
    BigInt::from(10).pow(u32::from(power))
}

fn sum(values: &[&Value]) -> Value {
    match numbers(values) {
        Numbers::Integers(exact) => exact.sum().to_i64().map_or(Value::OutOfRange, Value::Int),
        Numbers::Decimals(exact, scale) => match exact.sum() {
            sum if sum.abs() >= ten_to(38) => Value::OutOfRange,
            sum => sum.to_i128().map_or(Value::OutOfRange, |sum| Value::Decimal(sum, scale)),
        },
        Numbers::Doubles(exact) => {
            Value::float(nearest(&exact.sum(), exact.exponent, &BigInt::from(1)))
        }
        Numbers::Special(special) => Value::float(special),
    }
}

fn avg(values: &[&Value]) -> Value {
    let count = BigInt::from(values.len());
    Value::float(match numbers(values) {
        Numbers::Integers(exact) => nearest(&exact.sum(), 0, &count),
        Numbers::Decimals(exact, scale) => nearest(&exact.sum(), 0, &(count * ten_to(scale))),
        Numbers::Doubles(exact) => nearest(&exact.sum(), exact.exponent, &count),
        Numbers::Special(special) => special,
    })
}

/// The mean of the squared deviations from the mean, rounded once, and the root of that.
fn spread(values: &[&Value], sample: bool, root: bool) -> Value {
    let divisor = values.len() - usize::from(sample);
    if divisor == 0 {
        return Value::Null;
    }
    let exact = match numbers(values) {
        Numbers::Integers(exact) | Numbers::Doubles(exact) => exact,
        Numbers::Decimals(exact, scale) => {
            let double = |unit: &BigInt| nearest(unit, 0, &ten_to(scale));
            Exact::of_doubles(&exact.units.iter().map(double).collect::<Vec<_>>())
        }
        Numbers::Special(_) => return Value::float(f64::NAN),
    };
    let count = BigInt::from(values.len());
    let sum = exact.sum();
    // Deviations times the count are integers.
    let squares: BigInt = exact.units.iter().map(|x| (x * &count - &sum).pow(2)).sum();
    let divisor = BigInt::from(divisor) * &count * &count;
    let variance = nearest(&squares, 2 * exact.exponent, &divisor);
    Value::float(if root { variance.sqrt() } else { variance })
}
