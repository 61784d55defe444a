//! The one error enum of the crate. Variants carry data; a server maps them to SQLSTATE.

use arrow::datatypes::DataType;

use crate::frame::{Frame, Interval};

/// Everything that can go wrong when an aggregate is bound, laid out or evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is no aggregate (SQLSTATE 42883).
    #[error("aggregate {name} does not exist{}", hint(.nearest))]
    NoSuchAggregate {
        /// The name as asked for.
        name: String,
        /// The nearest known names, best first; may be empty.
        nearest: Vec<&'static str>,
    },
    /// The aggregate does not take this argument (SQLSTATE 42883).
    #[error("{aggregate} does not take {}; it takes {accepted}", shown(.argument))]
    ArgumentType {
        /// The aggregate's name.
        aggregate: &'static str,
        /// The argument's type; `None` is `*` or no argument.
        argument: Option<DataType>,
        /// What it takes, in words.
        accepted: &'static str,
    },
    /// DISTINCT is not supported by this aggregate (SQLSTATE 0A000).
    #[error("{aggregate} does not support DISTINCT")]
    Distinct {
        /// The aggregate's name.
        aggregate: &'static str,
    },
    /// IGNORE NULLS is only for `first_value` and `last_value` (SQLSTATE 42809).
    #[error("{aggregate} does not accept IGNORE NULLS: it skips NULLs always or counts rows")]
    IgnoreNulls {
        /// The aggregate's name.
        aggregate: &'static str,
    },
    /// The exact value does not fit the output type (SQLSTATE 22003).
    #[error("{aggregate} is out of range for {output}")]
    OutOfRange {
        /// The aggregate's name.
        aggregate: &'static str,
        /// The type that cannot hold the value.
        output: DataType,
    },
    /// A frame offset is negative (SQLSTATE 22013).
    #[error("frame offset {interval} must not be negative")]
    NegativeOffset {
        /// The offset.
        interval: Interval,
    },
    /// A frame ends before it starts (SQLSTATE 42P20).
    #[error("frame {frame} ends before it starts")]
    FrameOrder {
        /// The frame.
        frame: Frame,
    },
    /// A layout names a column that it does not have.
    #[error("column {index} does not exist: the layout has {columns}")]
    NoSuchColumn {
        /// The index asked for.
        index: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// A call index is outside the layout.
    #[error("call {index} does not exist: the layout has {calls}")]
    NoSuchCall {
        /// The index asked for.
        index: usize,
        /// How many calls there are.
        calls: usize,
    },
    /// A column type that events cannot have.
    #[error("column {index} has the unsupported type {found}")]
    UnsupportedColumn {
        /// The column.
        index: usize,
        /// Its type.
        found: DataType,
    },
    /// A column's type is not what the layout, the aggregate or a filter expects.
    #[error("column {index} is {found}, expected {expected}")]
    ColumnType {
        /// The column.
        index: usize,
        /// What the layout or the aggregate expects.
        expected: DataType,
        /// What it is.
        found: DataType,
    },
    /// An aggregate was given an argument column although it takes none, or the reverse.
    #[error("call of {aggregate}: an argument column is {}", if *.expected { "missing" } else { "not allowed" })]
    ArgumentCount {
        /// The aggregate's name.
        aggregate: &'static str,
        /// Whether the aggregate takes an argument.
        expected: bool,
    },
    /// The parts of an `Events` run do not have the same length or number.
    #[error("events are ragged: expected {expected}, found {found}")]
    Ragged {
        /// The expected length or number of columns.
        expected: usize,
        /// The one found.
        found: usize,
    },
    /// A row or a range of rows lies outside the run of events.
    #[error("rows up to {end} were asked for in a run of {len} events")]
    OutsideRun {
        /// The end (exclusive) asked for.
        end: usize,
        /// The length of the run.
        len: usize,
    },
    /// One run holds more events than a sweep can index.
    #[error("a run of {len} events is longer than the supported {}", u32::MAX - 1)]
    TooManyEvents {
        /// The length of the run.
        len: usize,
    },
    /// Two states of different aggregates were merged.
    #[error("a state of {aggregate} cannot be merged with a state of another aggregate")]
    StateMismatch {
        /// The aggregate merged into.
        aggregate: &'static str,
    },
    /// Encoded state that no encoder wrote.
    #[error("the encoded state of {aggregate} is damaged")]
    Damaged {
        /// The aggregate that was to be decoded.
        aggregate: &'static str,
    },
    /// Encoded events or nodes of a timeline that no encoder wrote.
    #[error("{what} is damaged: {reason}")]
    DamagedBytes {
        /// What was to be decoded.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Events of these times were needed, but their leaves are not loaded.
    #[error("the events from {from} to {to} are not loaded")]
    NotLoaded {
        /// The earliest time, in microseconds since the epoch.
        from: i64,
        /// The latest, inclusive.
        to: i64,
    },
    /// A window reaches further back than events are kept.
    #[error("events before {kept_from} are not kept")]
    Forgotten {
        /// The first time whose events are all there, in microseconds since the epoch.
        kept_from: i64,
    },
    /// A timeline that was loaded for some calls, or laid over with events, cannot be written.
    #[error("the timeline is for reading only")]
    ReadOnly,
    /// Arrow refused to build an array.
    #[error("arrow: {0}")]
    Arrow(String),
    /// An output was given to an aggregate of another type, or an index was lost: a bug.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

fn hint(nearest: &[&'static str]) -> String {
    if nearest.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", nearest.join(" or "))
    }
}

fn shown(argument: &Option<DataType>) -> String {
    argument.as_ref().map_or_else(|| "* or no argument".to_owned(), ToString::to_string)
}
