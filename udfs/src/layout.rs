//! What one stream of events is aggregated into: its columns and the calls over them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::DataType;

use crate::aggregate::Aggregate;
use crate::error::Error;
use crate::frame::Frame;
use crate::kind::physical;

/// One aggregate call.
#[derive(Debug, Clone)]
pub struct Call {
    /// What is computed.
    pub aggregate: Arc<dyn Aggregate>,
    /// The column it is computed of; `None` for `count(*)`.
    pub argument: Option<usize>,
    /// A boolean column: rows where it is not true are invisible to the aggregate, but still
    /// count as rows for a ROWS frame.
    pub filter: Option<usize>,
    /// Which events are seen as of an instant.
    pub frame: Frame,
}

/// An aggregate of a column under a filter, whatever the frame: what calls share.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    pub(crate) aggregate: Arc<dyn Aggregate>,
    pub(crate) argument: Option<usize>,
    pub(crate) filter: Option<usize>,
}

/// The columns of a stream of events and the calls over them.
///
/// Calls that differ only in their frame share their states, and calls with one frame share
/// their windows.
#[derive(Debug, Clone)]
pub struct Layout {
    columns: Vec<DataType>,
    calls: Vec<Call>,
    measures: Vec<Measure>,
    frames: Vec<Frame>,
    /// For every call its measure and its frame.
    plan: Vec<(usize, usize)>,
}

impl Layout {
    /// Checks that calls, columns and frames fit together.
    ///
    /// # Errors
    ///
    /// `UnsupportedColumn`, `NoSuchColumn`, `ColumnType`, `ArgumentCount`, `NegativeOffset` or
    /// `FrameOrder`.
    pub fn new(columns: Vec<DataType>, calls: Vec<Call>) -> Result<Self, Error> {
        for (index, column) in columns.iter().enumerate() {
            if physical(column).is_none() {
                return Err(Error::UnsupportedColumn { index, found: column.clone() });
            }
        }
        let mut layout = Layout {
            columns,
            calls: Vec::new(),
            measures: Vec::new(),
            frames: Vec::new(),
            plan: Vec::new(),
        };
        for call in calls {
            layout.check(&call)?;
            layout.add(call);
        }
        Ok(layout)
    }

    /// The types of an event's columns.
    pub fn columns(&self) -> &[DataType] {
        &self.columns
    }

    /// The calls, in the order given.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The earliest event time that any of `calls` may look at as of `instant` (microseconds since
    /// the epoch) or any later one, at most the instant itself. `i64::MIN` if a frame has no bound
    /// in time (`UNBOUNDED PRECEDING`, `ROWS`), or if a call does not exist.
    ///
    /// It never falls as the instant rises: what is before it now can be forgotten
    /// ([`Timeline::forget_before`](crate::Timeline::forget_before)).
    pub fn earliest(&self, calls: &[usize], instant: i64) -> i64 {
        let frame = |&call: &usize| Some(self.frames[self.plan.get(call)?.1]);
        let first = |call| frame(call).map_or(i64::MIN, |frame| frame.earliest(instant));
        calls.iter().map(first).fold(instant, i64::min)
    }

    /// The distinct (aggregate, argument, filter) of the calls.
    pub(crate) fn measures(&self) -> &[Measure] {
        &self.measures
    }

    /// The distinct frames of the calls.
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The measure and the frame of a call, as indices.
    pub(crate) fn plan(&self, call: usize) -> Result<(usize, usize), Error> {
        let missing = Error::NoSuchCall { index: call, calls: self.calls.len() };
        self.plan.get(call).copied().ok_or(missing)
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        call.frame.validate()?;
        match (call.argument, call.aggregate.argument()) {
            (Some(index), Some(expected)) => self.check_column(index, expected)?,
            (None, None) => {}
            (_, expected) => {
                let (aggregate, expected) = (call.aggregate.name(), expected.is_some());
                return Err(Error::ArgumentCount { aggregate, expected });
            }
        }
        match call.filter {
            Some(index) => self.check_column(index, &DataType::Boolean),
            None => Ok(()),
        }
    }

    fn check_column(&self, index: usize, expected: &DataType) -> Result<(), Error> {
        match self.columns.get(index) {
            None => Err(Error::NoSuchColumn { index, columns: self.columns.len() }),
            Some(found) if found != expected => {
                Err(Error::ColumnType { index, expected: expected.clone(), found: found.clone() })
            }
            Some(_) => Ok(()),
        }
    }

    fn add(&mut self, call: Call) {
        let known = self.measures.iter().position(|measure| {
            measure.argument == call.argument
                && measure.filter == call.filter
                && measure.aggregate.meta() == call.aggregate.meta()
        });
        let measure = known.unwrap_or_else(|| {
            self.measures.push(Measure {
                aggregate: Arc::clone(&call.aggregate),
                argument: call.argument,
                filter: call.filter,
            });
            self.measures.len() - 1
        });
        let known = self.frames.iter().position(|frame| *frame == call.frame);
        let frame = known.unwrap_or_else(|| {
            self.frames.push(call.frame);
            self.frames.len() - 1
        });
        self.plan.push((measure, frame));
        self.calls.push(call);
    }
}

/// A run of events, all columns as in the layout. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    /// Event times in microseconds since the epoch.
    pub times: ScalarBuffer<i64>,
    /// Positions in the log; with the time they order the events of a key.
    pub positions: ScalarBuffer<u64>,
    /// The columns, each as long as `times`.
    pub columns: Vec<ArrayRef>,
}

impl Events {
    /// The number of events.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Checks that the run is as the layout says.
    ///
    /// # Errors
    ///
    /// `Ragged` or `ColumnType`.
    pub fn check(&self, layout: &Layout) -> Result<(), Error> {
        let (expected, found) = (layout.columns.len(), self.columns.len());
        if expected != found {
            return Err(Error::Ragged { expected, found });
        }
        let expected = self.times.len();
        let lengths = self.columns.iter().map(|column| column.len());
        if let Some(found) = lengths.chain([self.positions.len()]).find(|len| *len != expected) {
            return Err(Error::Ragged { expected, found });
        }
        for (index, (column, expected)) in self.columns.iter().zip(&layout.columns).enumerate() {
            if column.data_type() != expected {
                let (expected, found) = (expected.clone(), column.data_type().clone());
                return Err(Error::ColumnType { index, expected, found });
            }
        }
        Ok(())
    }
}
