//! Online: all events of one key, and the value of any window as of any instant.
//!
//! 1. Events are kept in order of (time, position) in chunks of at most 128 rows, each with a
//!    typed vector per column (`chunk`). An event that arrives late goes where it belongs; a full
//!    chunk splits in two.
//! 2. With more than one chunk, every distinct (aggregate, argument, filter) has a state per
//!    chunk and a hierarchy of states over 16, 256, … chunks (`tree`). A window then costs two
//!    partial chunks and some merges, whatever its length. Most keys have few events and no tree.
//! 3. A window is found by binary search on time, for ROWS by rank (`view`).
//!
//! Which chunks there are depends on the order of arrival; because merges are exact, values do
//! not.

mod chunk;
mod outputs;
mod tree;
mod view;

use smallvec::SmallVec;

use chunk::{CAPACITY, Chunk};

pub use outputs::Outputs;
pub use tree::Summaries;
pub use view::View;

pub(crate) use tree::Tree;
use view::{Source, Span, Spot};

use crate::error::Error;
use crate::frame::{Bound, Frame};
use crate::kind::{Cell, cell_at};
use crate::layout::{Events, Layout};

/// All events of one key for one layout. Every call must be given the layout it was made for.
#[derive(Debug, Default)]
pub struct Timeline {
    /// In order; none is empty.
    chunks: Vec<Chunk>,
    /// For every chunk the number of events before it; kept only with more than one chunk.
    starts: Vec<u64>,
    /// For every measure its states; kept only with more than one chunk.
    trees: Vec<Option<Box<dyn Summaries>>>,
}

impl Timeline {
    /// A timeline without events.
    pub fn new(_layout: &Layout) -> Self {
        Timeline::default()
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Chunk::len).sum()
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The time of the earliest event.
    pub fn first_time(&self) -> Option<i64> {
        self.chunks.first().map(Chunk::first_time)
    }

    /// The time of the latest event.
    pub fn last_time(&self) -> Option<i64> {
        self.chunks.last().map(Chunk::last_time)
    }

    /// Inserts one event. An event with the (time, position) of another goes after it.
    ///
    /// # Errors
    ///
    /// `Ragged`, `OutsideRun` or `ColumnType`; then nothing has changed.
    pub fn insert(&mut self, layout: &Layout, events: &Events, row: usize) -> Result<(), Error> {
        let (Some(&time), Some(&position)) = (events.times.get(row), events.positions.get(row))
        else {
            return Err(Error::OutsideRun { end: row + 1, len: events.len() });
        };
        let cells = read_cells(layout, events, row)?;
        let order = (time, position);
        let (mut at, appended) = self.chunk_for(order);
        if self.chunks.get(at).is_none_or(|chunk| chunk.len() == CAPACITY) {
            at = self.make_room(layout, at, appended, order);
        }
        let Some(chunk) = self.chunks.get_mut(at) else {
            return Err(Error::Internal("no chunk for an event"));
        };
        let row = chunk.insert(order, &cells);
        for start in self.starts.iter_mut().skip(at + 1) {
            *start += 1;
        }
        for (tree, measure) in self.trees.iter_mut().zip(layout.measures()) {
            if let Some(tree) = tree {
                tree.insert(&Source::new(&self.chunks, measure), at, row);
            }
        }
        Ok(())
    }

    /// Inserts the given rows of a run.
    ///
    /// # Errors
    ///
    /// As `insert`; the rows before the wrong one have then been inserted.
    pub fn insert_rows(
        &mut self,
        layout: &Layout,
        events: &Events,
        rows: &[u32],
    ) -> Result<(), Error> {
        rows.iter().try_for_each(|&row| self.insert(layout, events, row as usize))
    }

    /// Appends the values as of `instant` of `calls` (indices into the layout) to `out`, which
    /// was made for the same calls.
    ///
    /// # Errors
    ///
    /// `OutOfRange` if a sum does not fit its type; then the row is to be thrown away with `out`.
    pub fn read(
        &self,
        layout: &Layout,
        instant: i64,
        calls: &[usize],
        out: &mut Outputs,
    ) -> Result<(), Error> {
        out.check(calls)?;
        let mut spans: SmallVec<[Option<Span>; 8]> =
            SmallVec::from_elem(None, layout.frames().len());
        for (&call, output) in calls.iter().zip(out.columns()) {
            let (measure, frame) = layout.plan(call)?;
            let span =
                *spans[frame].get_or_insert_with(|| self.span(&layout.frames()[frame], instant));
            let tree = self.trees.get(measure).and_then(Option::as_deref);
            let measure = &layout.measures()[measure];
            let view = View::new(Source::new(&self.chunks, measure), span, tree);
            measure.aggregate.read(&view, output)?;
        }
        Ok(())
    }

    /// The chunk that an event belongs to, and whether it comes after all others.
    fn chunk_for(&self, order: (i64, u64)) -> (usize, bool) {
        let Some(last) = self.chunks.len().checked_sub(1) else { return (0, true) };
        if self.chunks[last].last_order() <= order {
            return (last, true);
        }
        (self.chunks.partition_point(|chunk| chunk.last_order() <= order), false)
    }

    /// Adds a chunk so that the one for the event has room; returns where that is.
    ///
    /// After the last event a new chunk begins, so that events in order fill their chunks.
    fn make_room(
        &mut self,
        layout: &Layout,
        at: usize,
        appended: bool,
        order: (i64, u64),
    ) -> usize {
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::new(layout.columns()));
            return 0;
        }
        let upper =
            if appended { Chunk::new(layout.columns()) } else { self.chunks[at].split_off() };
        self.chunks.insert(at + 1, upper);
        self.starts.truncate(at + 1);
        for i in self.starts.len()..self.chunks.len() {
            let before = i.checked_sub(1).map(|i| self.starts[i] + self.chunks[i].len() as u64);
            self.starts.push(before.unwrap_or(0));
        }
        if self.trees.is_empty() {
            let trees = layout.measures().iter().map(|measure| measure.aggregate.summaries());
            self.trees = trees.collect();
        }
        for (tree, measure) in self.trees.iter_mut().zip(layout.measures()) {
            if let Some(tree) = tree {
                tree.chunk_added(&Source::new(&self.chunks, measure), at);
            }
        }
        if appended || order >= self.chunks[at].last_order() { at + 1 } else { at }
    }

    fn span(&self, frame: &Frame, instant: i64) -> Span {
        match frame {
            Frame::Range { start, end } => {
                let last = end.before(instant);
                let to = self.spot(|time| time <= last);
                let from = match start {
                    Bound::Unbounded => Spot::default(),
                    Bound::Preceding(start) => {
                        let first = start.before(instant);
                        self.spot(|time| time < first)
                    }
                };
                Span { from: from.min(to), to }
            }
            Frame::Rows { start, end } => {
                let after = self.rank(self.spot(|time| time <= instant));
                let from = start.map_or(0, |start| after.saturating_sub(start.saturating_add(1)));
                Span { from: self.at_rank(from), to: self.at_rank(after.saturating_sub(*end)) }
            }
        }
    }

    /// The first event whose time is not `before`.
    fn spot(&self, before: impl Fn(i64) -> bool) -> Spot {
        let chunk = self.chunks.partition_point(|chunk| before(chunk.last_time()));
        let row = self.chunks.get(chunk).map_or(0, |chunk| chunk.partition(before));
        Spot { chunk, row }
    }

    /// The number of events before a spot.
    fn rank(&self, spot: Spot) -> u64 {
        match self.starts.get(spot.chunk) {
            Some(start) => start + spot.row as u64,
            // One chunk, or the end.
            None if spot.chunk == 0 => spot.row as u64,
            None => self.len() as u64,
        }
    }

    /// The spot with `rank` events before it.
    fn at_rank(&self, rank: u64) -> Spot {
        let chunk = self.starts.partition_point(|&start| start <= rank).saturating_sub(1);
        let row = rank - self.starts.get(chunk).copied().unwrap_or(0);
        Spot { chunk, row: row as usize }
    }
}

/// The row's values, checked against the layout.
fn read_cells<'a>(
    layout: &Layout,
    events: &'a Events,
    row: usize,
) -> Result<SmallVec<[Option<Cell<'a>>; 8]>, Error> {
    let (expected, found) = (layout.columns().len(), events.columns.len());
    if expected != found {
        return Err(Error::Ragged { expected, found });
    }
    let columns = events.columns.iter().zip(layout.columns());
    let read = columns.enumerate().map(|(index, (column, expected))| {
        if column.len() != events.len() {
            return Err(Error::Ragged { expected: events.len(), found: column.len() });
        }
        let wrong = || Error::ColumnType {
            index,
            expected: expected.clone(),
            found: column.data_type().clone(),
        };
        if column.data_type() != expected {
            return Err(wrong());
        }
        cell_at(column, row).ok_or_else(wrong)
    });
    read.collect()
}
