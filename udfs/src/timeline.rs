//! Online: all events of one key, and the value of any window as of any instant.
//!
//! 1. Events are kept in order of (time, position) in chunks of at most 128 rows, each with a
//!    typed vector per column (`chunk`). An event that arrives late goes where it belongs; a full
//!    chunk splits in two.
//! 2. Chunks are the leaves of a B+-tree (`node`). An inner node has, for each child, the number
//!    of its events and for every distinct (aggregate, argument, filter) a state (`summaries`). A
//!    window then costs two partial chunks and some merges on each level, whatever its length.
//!    Most keys have few events: one chunk, no inner node, no states.
//! 3. A window is found by time, for ROWS by rank, and cut into pieces of the tree (`window`);
//!    aggregates evaluate those (`view`).
//! 4. Each node has a form as bytes (`image`), so that a store elsewhere can keep them and load
//!    what a read needs (`places`). A child that is not loaded is a stub: its count and its states
//!    are known to its parent. Events have a form as bytes, too (`rows`).
//! 5. Events of the past can be dropped, of a tree by whole leaves (`forget`).
//!
//! How the events lie in nodes depends on the order of arrival; because merges are exact, values
//! do not.

mod chunk;
mod forget;
mod image;
mod node;
mod outputs;
mod places;
mod rows;
mod summaries;
mod view;
mod window;

use smallvec::SmallVec;

use chunk::Chunk;
use node::{Arrival, Inner, Node, Order};

pub use image::{Entry, NodeImage};
pub use outputs::{Outputs, ValueList};
pub use places::{Place, descend, insert_places};
pub use rows::encode_rows;
pub use summaries::Summaries;
pub use view::View;

#[cfg(test)]
pub(crate) use image::seal;
pub(crate) use summaries::States;

use crate::error::Error;
use crate::kind::{Cell, cell_at};
use crate::layout::{Events, Layout};

/// As of when a timeline is read, and which of its events there are. Times are in microseconds
/// since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The instant.
    pub instant: i64,
    /// Events with an earlier time have expired: they are as if they had never been. `i64::MIN` if
    /// none have.
    pub kept_from: i64,
}

impl From<i64> for AsOf {
    /// As of an instant, with all events.
    fn from(instant: i64) -> AsOf {
        AsOf { instant, kept_from: i64::MIN }
    }
}

/// All events of one key for one layout. Every call must be given the layout it was made for.
#[derive(Debug)]
pub struct Timeline {
    /// `None` if there are no events; never a stub.
    root: Option<Node>,
    /// Windows that reach before it are refused: the last event that was forgotten is the
    /// microsecond before it. `i64::MIN` if nothing was.
    kept_from: i64,
    /// The first id that no node of a store has or had; the root is node 0.
    next_id: u32,
    /// Ids of nodes that a store has and the timeline has not any more.
    removed: Vec<u32>,
    /// Whether the root has changed since it was loaded or stored: it does with every node.
    changed: bool,
    /// Whether there are stubs.
    partial: bool,
    /// Whether states are missing, or events were laid over: stubs may have counted some that are
    /// nowhere else.
    read_only: bool,
    /// The measures whose states were loaded; `None` if all.
    wanted: Option<Box<[bool]>>,
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline {
            root: None,
            kept_from: i64::MIN,
            next_id: 1,
            removed: Vec::new(),
            changed: false,
            partial: false,
            read_only: false,
            wanted: None,
        }
    }
}

impl Timeline {
    /// A timeline without events.
    pub fn new(_layout: &Layout) -> Self {
        Timeline::default()
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.root.as_ref().map_or(0, Node::rows) as usize
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The time of the earliest event; `None` if there is none or its leaf is not loaded.
    pub fn first_time(&self) -> Option<i64> {
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Leaf(chunk) => return Some(chunk.first_time()),
                Node::Inner(inner) => node = inner.nodes.first()?,
                Node::Stub => return None,
            }
        }
    }

    /// The time of the latest event.
    pub fn last_time(&self) -> Option<i64> {
        self.root.as_ref().map(|root| root.last().0)
    }

    /// The first time whose events, and those of all later ones, are all there: `i64::MIN` if
    /// none are gone.
    pub fn kept_from(&self) -> i64 {
        self.kept_from
    }

    /// Inserts one event. An event with the (time, position) of another goes after it.
    ///
    /// # Errors
    ///
    /// `Ragged`, `OutsideRun`, `ColumnType`, or `NotLoaded` if its leaf is a stub; then nothing
    /// has changed.
    pub fn insert(&mut self, layout: &Layout, events: &Events, row: usize) -> Result<(), Error> {
        let order = order_at(events, row)?;
        let cells = read_cells(layout, events, row)?;
        self.insert_cells(layout, order, &cells, false)
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

    /// Inserts the events that `encode_rows` wrote, once or several times in a row.
    ///
    /// # Errors
    ///
    /// `DamagedBytes`, or `NotLoaded` if the leaf of an event is a stub; then nothing has changed.
    pub fn insert_encoded(&mut self, layout: &Layout, bytes: &[u8]) -> Result<(), Error> {
        rows::each(layout, bytes, |order, _| match &self.root {
            Some(root) if self.partial => check_place(root, order),
            _ => Ok(()),
        })?;
        rows::each(layout, bytes, |order, cells| self.insert_cells(layout, order, cells, false))
    }

    /// Lays the events that `encode_rows` wrote over the timeline, for reads: where the leaf of
    /// an event is a stub, only the stub's count and states take it. That is enough for windows
    /// whose ends are loaded, which is all that `read` takes. The timeline cannot be stored, nor
    /// forget, any more.
    ///
    /// # Errors
    ///
    /// `DamagedBytes`; then nothing has changed.
    pub fn overlay(&mut self, layout: &Layout, bytes: &[u8]) -> Result<(), Error> {
        rows::each(layout, bytes, |_, _| Ok(()))?;
        self.read_only = true;
        rows::each(layout, bytes, |order, cells| self.insert_cells(layout, order, cells, true))
    }

    /// Whether there are events at or before the instant.
    ///
    /// # Errors
    ///
    /// * `NotLoaded` if stubs hide that: [`AsOf::places`] are needed.
    /// * `Forgotten` if only events that were forgotten can say it, and the instant is before the
    ///   last of them.
    pub fn has_events(&self, as_of: AsOf) -> Result<bool, Error> {
        let (root, kept_from) = (self.root.as_ref(), self.kept_from);
        let expired = window::rank(root, |time| time < as_of.kept_from)?;
        if window::rank(root, |time| time <= as_of.instant)? > expired {
            return Ok(true);
        }
        if as_of.kept_from >= kept_from || as_of.kept_from > as_of.instant {
            return Ok(false);
        }
        // There was an event at `kept_from - 1`, and it has not expired.
        if as_of.instant < kept_from - 1 { Err(Error::Forgotten { kept_from }) } else { Ok(true) }
    }

    /// Loads the events of a timeline that has few into the processor's cache.
    pub fn touch(&self) {
        std::hint::black_box((self.partial, self.kept_from));
        if let Some(Node::Leaf(chunk)) = &self.root {
            chunk.touch();
        }
    }

    /// Appends the values as of an instant of `calls` (indices into the layout) to `out`, which
    /// was made for the same calls.
    ///
    /// # Errors
    ///
    /// * `OutOfRange` if a sum does not fit its type; then the row is to be thrown away with `out`.
    /// * `NotLoaded` if stubs hide events that are looked at: see `places`. Nothing was appended.
    /// * `Forgotten` if a window may reach events that were forgotten and that the caller does not
    ///   leave out. Nothing was appended.
    pub fn read(
        &self,
        layout: &Layout,
        as_of: impl Into<AsOf>,
        calls: &[usize],
        out: &mut Outputs,
    ) -> Result<(), Error> {
        out.check(calls)?;
        let as_of = as_of.into();
        let mut windows = self.windows(layout, as_of, calls)?;
        for (&call, output) in calls.iter().zip(out.columns()) {
            let view = self.view(layout, as_of, call, &mut windows)?;
            view.measure().aggregate.read(&view, output)?;
        }
        Ok(())
    }

    /// Appends the same values to a list.
    ///
    /// # Errors
    ///
    /// As `read`.
    pub fn read_values(
        &self,
        layout: &Layout,
        as_of: impl Into<AsOf>,
        calls: &[usize],
        values: &mut ValueList,
    ) -> Result<(), Error> {
        let as_of = as_of.into();
        let mut windows = self.windows(layout, as_of, calls)?;
        for &call in calls {
            let view = self.view(layout, as_of, call, &mut windows)?;
            view.measure().aggregate.read(&view, values.output())?;
        }
        Ok(())
    }

    /// The windows of a read, checked if they can lack events.
    fn windows<'a>(
        &'a self,
        layout: &Layout,
        as_of: AsOf,
        calls: &[usize],
    ) -> Result<window::Windows<'a>, Error> {
        let mut windows = window::Windows::new(layout);
        if self.partial || self.kept_from > i64::MIN {
            for &call in calls {
                self.view(layout, as_of, call, &mut windows)?.check_loaded()?;
            }
        }
        Ok(windows)
    }

    /// What a call sees.
    fn view<'w, 'a: 'w>(
        &'a self,
        layout: &'w Layout,
        as_of: AsOf,
        call: usize,
        windows: &'w mut window::Windows<'a>,
    ) -> Result<View<'w>, Error> {
        let (measure, frame) = layout.plan(call)?;
        if self.wanted.as_ref().is_some_and(|wanted| !wanted[measure]) {
            return Err(Error::Internal("a timeline was not loaded for this call"));
        }
        let root = self.root.as_ref();
        let pieces = windows.of(frame, |pieces| {
            let ranks = window::ranks(root, &layout.frames()[frame], as_of, self.kept_from)?;
            root.map_or(Ok(()), |root| window::cut(root, ranks, i64::MIN, pieces))
        })?;
        Ok(View::new(pieces, measure, &layout.measures()[measure]))
    }

    /// Inserts an event; `overlay`: also where a stub can only count it.
    fn insert_cells(
        &mut self,
        layout: &Layout,
        order: Order,
        cells: &[Option<Cell<'_>>],
        overlay: bool,
    ) -> Result<(), Error> {
        let Some(root) = &mut self.root else {
            let mut chunk = Chunk::new(layout.columns());
            chunk.insert(order, cells);
            self.root = Some(Node::Leaf(chunk));
            self.changed = true;
            return Ok(());
        };
        let appended = root.last() <= order;
        if self.partial && !overlay {
            check_place(root, order)?;
        }
        let upper = root.insert(&Arrival { layout, order, cells, appended, overlay })?;
        self.changed = true;
        if let Some(upper) = upper {
            let lower = std::mem::replace(root, Node::Stub);
            *root = Node::Inner(Box::new(Inner::over(layout, lower, upper)));
        }
        Ok(())
    }
}

/// Fails if the leaf where an event belongs is a stub. An insertion does not change where other
/// events belong, but between nodes that are loaded.
fn check_place(root: &Node, order: Order) -> Result<(), Error> {
    let (mut node, mut after) = (root, i64::MIN);
    while let Node::Inner(inner) = node {
        let child = inner.place(order);
        after = inner.floor(child, after);
        node = &inner.nodes[child];
        if let Node::Stub = node {
            return Err(Error::NotLoaded { from: after, to: inner.lasts[child].0.max(order.0) });
        }
    }
    Ok(())
}

/// The order of a row of a run.
fn order_at(events: &Events, row: usize) -> Result<Order, Error> {
    let order = events.times.get(row).copied().zip(events.positions.get(row).copied());
    order.ok_or(Error::OutsideRun { end: row + 1, len: events.len() })
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
