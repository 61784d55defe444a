//! The judge of feature values: keeps all events, sorts, filters, loops.
//!
//! It follows the time contract to the letter and shares no code with the engine. It is as slow
//! as it looks.
//!
//! 1. [`events_of`]: the events of a key in their order.
//! 2. [`frame`]: those that an instant sees through a frame.
//! 3. [`aggregate`]: their value, in exact arithmetic.

pub mod aggregate;
pub mod calendar;
pub mod frame;
pub mod number;
pub mod value;

pub use aggregate::{Call, Function};
pub use calendar::Interval;
pub use frame::Frame;
pub use value::{Condition, Operator, Value};

/// An event: its time in microseconds since 1970 and all its columns. Its place in the history is
/// the order of its arrival.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it happened.
    pub time: i64,
    /// The columns, the event time among them.
    pub row: Vec<Value>,
}

/// Which events belong to which key.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The columns that are the key.
    pub keys: Vec<usize>,
    /// The `WHERE` clause.
    pub condition: Option<Condition>,
}

/// How a feature's value comes from events.
#[derive(Clone, Debug)]
pub enum Expression {
    /// An aggregate.
    Call(Call),
    /// `a / nullif(b, 0)` in double precision.
    Ratio(Call, Call),
    /// `a - b` in double precision.
    Difference(Call, Call),
    /// `a + constant`, of a count.
    Plus(Call, i64),
    /// `coalesce(a, constant)`.
    Coalesce(Call, Value),
}

/// The key's events in order of (time, arrival).
pub fn events_of<'a>(history: &'a [Event], stream: &Stream, key: &[Value]) -> Vec<&'a Event> {
    let belongs = |event: &&Event| {
        let keys = stream.keys.iter().map(|column| &event.row[*column]);
        let is_key = keys.zip(key).all(|(part, wanted)| *part != Value::Null && part == wanted);
        is_key && stream.condition.as_ref().is_none_or(|c| c.holds(&event.row))
    };
    let mut events: Vec<&Event> = history.iter().filter(belongs).collect();
    // Stable: events of the same time stay in the order of arrival.
    events.sort_by_key(|event| event.time);
    events
}

/// The value of an expression over a key's ordered events as of an instant.
pub fn evaluate(expression: &Expression, events: &[&Event], instant: i64) -> Value {
    let call = |call: &Call| call.value(&frame::seen(call.frame, events, instant));
    match expression {
        Expression::Call(a) => call(a),
        Expression::Ratio(a, b) => ratio(&call(a), &call(b)),
        Expression::Difference(a, b) => match (call(a), call(b)) {
            (Value::OutOfRange, _) | (_, Value::OutOfRange) => Value::OutOfRange,
            (a, b) => match (a.to_f64(), b.to_f64()) {
                (Some(a), Some(b)) => Value::float(a - b),
                _ => Value::Null,
            },
        },
        Expression::Plus(a, constant) => match call(a) {
            Value::Int(a) => Value::Int(a + constant),
            other => other,
        },
        Expression::Coalesce(a, constant) => match call(a) {
            Value::Null => constant.clone(),
            other => other,
        },
    }
}

/// `a / nullif(b, 0)` in double precision.
pub fn ratio(a: &Value, b: &Value) -> Value {
    if *a == Value::OutOfRange || *b == Value::OutOfRange {
        return Value::OutOfRange;
    }
    match (a.to_f64(), b.to_f64()) {
        (Some(_), Some(0.0)) => Value::Null,
        (Some(a), Some(b)) => Value::float(a / b),
        _ => Value::Null,
    }
}
