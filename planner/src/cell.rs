//! A timeline as an online store keeps it: what the store calls a cell and the kernels a timeline,
//! put together. Neither knows the other.

use std::sync::Arc;

use asofdb_storage::online::{Cell, CellError, Entry, Node, Place, TailLimit};
use asofdb_udfs::{
    AsOf, Entry as TreeEntry, Events, Layout, NodeImage, Place as TreePlace, Timeline, encode_rows,
    insert_places,
};

/// Bytes of events beside a stored tree before they are put into it.
const TAIL_BYTES: usize = 2048;

/// A timeline in an online store.
#[derive(Debug)]
pub struct TimelineCell(pub Timeline);

/// Events of one key.
#[derive(Clone, Debug)]
pub struct KeyEvents {
    /// A run in which they are.
    pub events: Arc<Events>,
    /// Their rows in it.
    pub rows: Vec<u32>,
}

/// Events by their encoded keys; a key may be there several times.
pub type Changes = Vec<(Vec<u8>, KeyEvents)>;

/// What a read looks at.
#[derive(Clone, Debug)]
pub struct Want {
    /// As of when.
    pub as_of: AsOf,
    /// The values of these calls; with none, whether there are events.
    pub calls: Arc<[usize]>,
}

impl Cell for TimelineCell {
    type Schema = Layout;
    type Change = KeyEvents;
    type Want = Want;

    fn empty(layout: &Layout) -> Self {
        TimelineCell(Timeline::new(layout))
    }

    fn apply(&mut self, layout: &Layout, change: &KeyEvents) -> Result<(), CellError> {
        self.0.insert_rows(layout, &change.events, &change.rows).map_err(refused)
    }

    fn encode_change(
        layout: &Layout,
        change: &KeyEvents,
        out: &mut Vec<u8>,
    ) -> Result<(), CellError> {
        encode_rows(layout, &change.events, &change.rows, out).map_err(refused)
    }

    fn apply_encoded(
        &mut self,
        layout: &Layout,
        changes: &[u8],
        for_reading: bool,
    ) -> Result<(), CellError> {
        match for_reading {
            true => self.0.overlay(layout, changes).map_err(refused),
            false => self.0.insert_encoded(layout, changes).map_err(refused),
        }
    }

    fn forget_before(&mut self, _: &Layout, time: i64) -> Result<bool, CellError> {
        self.0.forget_before(time).map_err(refused)
    }

    fn touch(&self) {
        self.0.touch();
    }

    fn earliest(layout: &Layout, want: &Want) -> i64 {
        // What has expired is not looked at.
        layout.earliest(&want.calls, want.as_of.instant).max(want.as_of.kept_from)
    }

    fn tail_limit(layout: &Layout) -> TailLimit {
        // An event has a byte at least for its time, its position and each eight columns.
        let least = 2 + layout.columns().len().div_ceil(8);
        TailLimit { bytes: TAIL_BYTES, rows: (TAIL_BYTES / least) as u64 }
    }

    fn places(layout: &Layout, want: &Want, tail_rows_at_most: u64) -> Vec<Place> {
        if want.calls.is_empty() {
            return want.as_of.places().into_iter().map(place).collect();
        }
        // A call that does not exist has no places; reading it is the error.
        let places = Timeline::places(layout, want.as_of, &want.calls, tail_rows_at_most);
        places.unwrap_or_default().into_iter().map(place).collect()
    }

    fn load(
        layout: &Layout,
        fetch: &mut dyn FnMut(u32) -> Option<Node>,
    ) -> Result<Self, CellError> {
        let mut fetch = |id| fetch(id).map(image);
        Timeline::load(layout, &mut fetch).map(TimelineCell).map_err(refused)
    }

    fn take_changes(&mut self, layout: &Layout) -> Result<(Vec<Node>, Vec<u32>), CellError> {
        let (images, removed) = self.0.take_changes(layout).map_err(refused)?;
        Ok((images.into_iter().map(node).collect(), removed))
    }

    fn paths_of(layout: &Layout, changes: &[u8]) -> Result<Vec<Place>, CellError> {
        let places = insert_places(layout, changes).map_err(refused)?;
        Ok(places.into_iter().map(place).collect())
    }
}

/// All events with times from `from` to `to`: what a read says that it lacks.
pub fn range(from: i64, to: i64) -> Place {
    Place::Range { from, to }
}

fn refused(error: asofdb_udfs::Error) -> CellError {
    CellError(Box::new(error))
}

fn place(place: TreePlace) -> Place {
    match place {
        TreePlace::At { time, after } => Place::At { time, after },
        // Here the last event is number 0, there it is the first.
        TreePlace::Back { instant, from, to } => {
            Place::Back { instant, from: from.saturating_add(1), to: to.saturating_add(1) }
        }
        TreePlace::Range { from, to } => Place::Range { from, to },
        TreePlace::Insert { time, position } => Place::Order { time, position },
    }
}

fn node(image: NodeImage) -> Node {
    let entry = |e: TreeEntry| Entry { last: e.last, rows: e.rows, child: e.child };
    let entries = image.entries.into_iter().map(entry).collect();
    Node { id: image.id, entries, body: image.body.into() }
}

fn image(node: Node) -> NodeImage {
    let entry = |e: Entry| TreeEntry { last: e.last, rows: e.rows, child: e.child };
    let entries = node.entries.into_iter().map(entry).collect();
    NodeImage { id: node.id, entries, body: node.body.to_vec() }
}
