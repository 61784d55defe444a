//! Compares the quickstart's training set with the oracle, bit for bit.
//!
//! ```text
//! compare-oracle FOLDER TRAINING [ROWS [SEED]]
//! ```
//!
//! `FOLDER` has the Parquet files of the sources, `TRAINING` is the file that was exported. `ROWS`
//! flights are drawn at random, the same ones for the same `SEED`. Their features are compared with
//! what the oracle makes of the files, and their other columns with the schedule. It ends with 1 if
//! a value differs. It knows what `flights.sql` and `training.sql` mean, as `flights/definition.rs`
//! says it again, and nothing of the engine.

#![allow(clippy::print_stdout, reason = "this is a test")]

#[path = "flights/definition.rs"]
mod definition;
#[path = "flights/table.rs"]
mod table;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, slice};

use asofdb_tests::oracle::{Event, Stream, Value, evaluate, events_of};
use definition::{Group, LABELS, LEAD, groups};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index;
use table::Table;

/// What keeps the comparison from being made.
type Error = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: compare-oracle FOLDER TRAINING [ROWS [SEED]]";
/// Rows that are compared unless a number is given.
const ROWS: usize = 5_000;
/// The seed unless one is given.
const SEED: u64 = 1;
/// Differences that are shown.
const SHOWN: usize = 10;

fn main() -> Result<ExitCode, Error> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (folder, training, rest) = match arguments.as_slice() {
        [folder, training, rest @ ..] if rest.len() <= 2 => (folder, training, rest),
        _ => return Err(USAGE.into()),
    };
    let rows = rest.first().map_or(Ok(ROWS), |rows| rows.parse()).map_err(|_| USAGE)?;
    let seed = rest.get(1).map_or(Ok(SEED), |seed| seed.parse()).map_err(|_| USAGE)?;
    if rows == 0 {
        return Err("no row is no comparison".into());
    }

    let folder = Path::new(folder);
    let schedule = Table::read(&source(folder, "schedule"))?;
    let training = Table::read(Path::new(training))?;
    let groups = groups();
    check_columns(&training, &groups)?;
    let flights = sample(&schedule, &training, rows, seed)?;

    let mut comparison = Comparison { training: &training, values: 0, differences: Vec::new() };
    for flight in &flights {
        for (column, label) in LABELS {
            comparison.compare(flight, column, &schedule.value(label, flight.scheduled)?)?;
        }
    }
    for group in &groups {
        compare_features(group, folder, (&schedule, &flights), &mut comparison)?;
    }
    Ok(comparison.report(flights.len()))
}

fn source(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.parquet"))
}

/// A flight that was drawn.
struct Flight {
    id: i64,
    /// Its row in the schedule.
    scheduled: usize,
    /// Its row in the training set.
    trained: usize,
    /// The instant of which its features are.
    instant: i64,
}

/// Fails unless the training set has the columns that are defined, and no other.
fn check_columns(training: &Table, groups: &[Group]) -> Result<(), Error> {
    let features = groups.iter().flat_map(|group| &group.features).map(|(column, _)| *column);
    let defined: BTreeSet<&str> =
        LABELS.iter().map(|(column, _)| *column).chain(features).collect();
    let names = training.names();
    let found: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let odd: Vec<&&str> = defined.symmetric_difference(&found).collect();
    if odd.is_empty() {
        return Ok(());
    }
    Err(format!("columns of the training set or defined, but not both: {odd:?}").into())
}

/// Draws flights. Fails unless each flight of the schedule has one row in the training set.
fn sample(
    schedule: &Table,
    training: &Table,
    rows: usize,
    seed: u64,
) -> Result<Vec<Flight>, Error> {
    let scheduled = flight_ids(schedule)?;
    let trained = flight_ids(training)?;
    let count = scheduled.len();
    let place: HashMap<i64, usize> = trained.iter().copied().zip(0..).collect();
    let distinct: BTreeSet<i64> = scheduled.iter().copied().collect();
    let all_there = distinct.iter().all(|id| place.contains_key(id));
    if !all_there || distinct.len() != count || trained.len() != count {
        let trained = trained.len();
        return Err(format!("{count} flights, but {trained} rows or not for each one").into());
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut drawn = index::sample(&mut random, count, rows.min(count)).into_vec();
    drawn.sort_unstable();
    let flight = |row: usize| {
        let instant = schedule.time("scheduled_at", row)? - LEAD;
        let id = scheduled[row];
        Ok(Flight { id, scheduled: row, trained: place[&id], instant })
    };
    drawn.into_iter().map(flight).collect()
}

fn flight_ids(table: &Table) -> Result<Vec<i64>, Error> {
    let id = |row| match table.value("flight_id", row)? {
        Value::Int(id) => Ok(id),
        other => Err(format!("flight_id of row {row} is {other:?}").into()),
    };
    (0..table.len()).map(id).collect()
}

/// Compares the features of a group for all flights that were drawn.
fn compare_features(
    group: &Group,
    folder: &Path,
    (schedule, flights): (&Table, &[Flight]),
    comparison: &mut Comparison,
) -> Result<(), Error> {
    let histories = histories(group, &Table::read(&source(folder, group.source))?)?;
    let stream = Stream { keys: vec![0], condition: None };
    let ordered = histories.iter().map(|(key, history)| {
        let events = events_of(history, &stream, slice::from_ref(key));
        (key, events)
    });
    let ordered: HashMap<&Value, Vec<&Event>> = ordered.collect();
    for flight in flights {
        let key = schedule.value(group.key(), flight.scheduled)?;
        let events = ordered.get(&key).map_or(&[][..], |all| near(all, group, flight.instant));
        for (column, expression) in &group.features {
            let value = match key {
                // No key: not even a count.
                Value::Null => Value::Null,
                _ => evaluate(expression, events, flight.instant),
            };
            comparison.compare(flight, column, &value)?;
            comparison.values += 1;
        }
    }
    Ok(())
}

/// The events of a source by key, in the order of the file, which is that of their arrival.
///
/// The oracle looks for a key's events among all there are. With thousands of keys that would take
/// longer than all the rest, so it gets histories that hold nothing else, and sorts them.
fn histories(group: &Group, table: &Table) -> Result<HashMap<Value, Vec<Event>>, Error> {
    let mut histories: HashMap<Value, Vec<Event>> = HashMap::new();
    for row in 0..table.len() {
        let values = group.columns.iter().map(|column| table.value(column, row));
        let event =
            Event { time: table.time(group.time, row)?, row: values.collect::<Result<_, _>>()? };
        histories.entry(event.row[0].clone()).or_default().push(event);
    }
    Ok(histories)
}

/// The key's events without those that are far from every frame of the group as of the instant.
///
/// The oracle looks at all events twice for each value, and an airport has a hundred thousand. There
/// is a day more at both ends than frames hold: where they begin and end is up to the oracle.
fn near<'a, 'b>(events: &'b [&'a Event], group: &Group, instant: i64) -> &'b [&'a Event] {
    const DAY: i64 = 24 * 3_600_000_000;
    let Some(reach) = group.reach else { return events };
    let from = reach.before(instant - DAY);
    let first = events.partition_point(|event| i128::from(event.time) < from);
    let end = events.partition_point(|event| event.time <= instant + DAY);
    &events[first..end]
}

/// What was found.
struct Comparison<'a> {
    training: &'a Table,
    /// Values of features that were compared.
    values: usize,
    differences: Vec<String>,
}

impl Comparison<'_> {
    /// Compares a value of the training set with the one it should be.
    fn compare(&mut self, flight: &Flight, column: &str, expected: &Value) -> Result<(), Error> {
        let found = self.training.value(column, flight.trained)?;
        if found != *expected {
            self.differences.push(format!(
                "flight {} (row {}), {column}: {}, but it should be {}",
                flight.id,
                flight.trained,
                text(&found),
                text(expected)
            ));
        }
        Ok(())
    }

    fn report(&self, rows: usize) -> ExitCode {
        for difference in self.differences.iter().take(SHOWN) {
            println!("{difference}");
        }
        let (values, differ) = (self.values, self.differences.len());
        println!("{values} values compared on {rows} rows with the oracle: {differ} differ");
        if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A value, a number with its bits.
fn text(value: &Value) -> String {
    match value {
        Value::Float(bits) => format!("{:?} ({bits:#018x})", f64::from_bits(*bits)),
        other => format!("{other:?}"),
    }
}
