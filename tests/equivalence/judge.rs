//! What the oracle says about a case, remembered; and the list of differences.

use std::collections::{HashMap, HashSet};

use asofdb_tests::oracle::{self, Event, Value};

use super::case::{Case, Kind};

/// A feature, a key and an instant.
pub type Triple = (usize, Vec<Value>, i64);

/// The oracle over the events that have arrived so far.
pub struct Judge<'a> {
    case: &'a Case,
    /// The events, as they arrived.
    pub history: &'a [Event],
    events: HashMap<(usize, Vec<Value>), Vec<&'a Event>>,
    values: HashMap<Triple, Value>,
}

impl<'a> Judge<'a> {
    pub fn new(case: &'a Case, history: &'a [Event]) -> Self {
        Judge { case, history, events: HashMap::new(), values: HashMap::new() }
    }

    /// The value of a feature. A key or an instant that is NULL makes it NULL.
    pub fn value(&mut self, feature: usize, key: &[Value], instant: Option<i64>) -> Value {
        let (Some(instant), false) = (instant, key.contains(&Value::Null)) else {
            return Value::Null;
        };
        let triple = (feature, key.to_vec(), instant);
        if let Some(value) = self.values.get(&triple) {
            return value.clone();
        }
        let value = match &self.case.definitions[feature].kind {
            Kind::Derived(a, b) => {
                let (a, b) = (*a, *b);
                let a = self.value(a, key, Some(instant));
                oracle::ratio(&a, &self.value(b, key, Some(instant)))
            }
            Kind::Windowed(stream, expression) => {
                oracle::evaluate(expression, self.events(*stream, key), instant)
            }
        };
        self.values.insert(triple, value.clone());
        value
    }

    /// The events of a key in order.
    fn events(&mut self, stream: usize, key: &[Value]) -> &[&'a Event] {
        let of = &self.case.streams[stream];
        self.events
            .entry((stream, key.to_vec()))
            .or_insert_with(|| oracle::events_of(self.history, of, key))
    }

    /// The keys that have an event at or before the instant, on any stream of these features.
    pub fn known_keys(&self, features: &[usize], instant: i64) -> Vec<Vec<Value>> {
        let mut known = Vec::new();
        for event in self.history.iter().filter(|event| event.time <= instant) {
            for feature in features {
                let Kind::Windowed(stream, _) = self.case.definitions[*feature].kind else {
                    continue;
                };
                let stream = &self.case.streams[stream];
                let key: Vec<Value> = stream.keys.iter().map(|c| event.row[*c].clone()).collect();
                let counts = stream.condition.as_ref().is_none_or(|c| c.holds(&event.row));
                if counts && !key.contains(&Value::Null) && !known.contains(&key) {
                    known.push(key);
                }
            }
        }
        known
    }
}

/// What was read and what differed.
#[derive(Debug, Default)]
pub struct Tally {
    /// Values that were compared with the oracle's.
    pub online: usize,
    /// The same of training queries.
    pub training: usize,
    /// Those of them that are no values: the sum is out of range, the statement must fail.
    pub overflows: usize,
    /// Those of them that are NULL.
    pub nulls: usize,
    /// Those that differed, and statements that failed.
    pub differ: usize,
    /// The kinds of differences that have been described.
    described: HashSet<String>,
}

/// Differences that are described in full, per run.
const DESCRIBED: usize = 8;

impl Tally {
    pub fn comparisons(&self) -> usize {
        self.online + self.training
    }

    /// Counts a difference and describes the first ones, of each kind one.
    pub fn differ(&mut self, kind: String, description: impl FnOnce() -> String) {
        self.differ += 1;
        if self.described.len() < DESCRIBED && self.described.insert(kind) {
            println!("--- difference {}\n{}", self.differ, description());
        }
    }
}

/// A feature's definition and the events of its key, for a report.
pub fn describe(case: &Case, history: &[Event], (feature, key, instant): &Triple) -> String {
    let definition = &case.definitions[*feature];
    let mut lines = vec![
        format!("seed: {} (ASOFDB_SEED={})", case.seed, case.seed),
        format!("feature: {}", definition.name),
        format!("statement: {}", case.statements[definition.statement].0),
        format!("source: {}", case.create_source()),
        format!("key: {key:?}"),
        format!("instant: {instant} = {}", time_text(*instant)),
    ];
    if let Kind::Derived(a, b) = definition.kind {
        for input in [a, b] {
            let statement = case.definitions[input].statement;
            lines.push(format!("input: {}", case.statements[statement].0));
        }
    }
    if let Kind::Windowed(stream, _) = definition.kind {
        let keys = &case.streams[stream].keys;
        lines.push("events of the key, as they arrived (all columns):".into());
        for (position, event) in history.iter().enumerate() {
            if keys.iter().zip(key).all(|(column, part)| event.row[*column] == *part) {
                lines.push(format!("  {position}: {}", case.insert(std::slice::from_ref(event))));
            }
        }
    }
    lines.join("\n")
}

fn time_text(instant: i64) -> String {
    super::case::text(&Value::Timestamp(instant), super::case::SqlType::Timestamptz)
}
