//! What a store needs to know of a cell: a timeline of events that can live outside of this
//! process, as a tree of nodes and a tail of events that have not been put into the tree yet.
//!
//! The tree is a B+-tree in the order of (time, position). Node 0 is its root. A node without
//! entries is a leaf. What a node holds besides its entries is the cell's own matter; the entries
//! are the store's, too, so that it can find the way to a place without the cell's code.

use bytes::Bytes;

/// What a cell could not do; the text is the cell's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CellError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

impl CellError {
    /// An error that says `reason`.
    pub fn new(reason: impl Into<String>) -> CellError {
        CellError(reason.into().into())
    }
}

/// A place in a tree, by which a store chooses the leaves that it loads. A store may load more.
///
/// Orders are (time, position). A node's `last` is the order of the last event below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The leaf that holds the boundary before the first event whose time is at least `time`; with
    /// `after`, before the first whose time is greater. None if all events are before it.
    At {
        /// The time.
        time: i64,
        /// Whether events of exactly `time` are before the boundary.
        after: bool,
    },
    /// The leaf that an event of this order would be inserted into: the first whose last order is
    /// not less, or the last leaf of all.
    Order {
        /// The event's time.
        time: i64,
        /// The event's position.
        position: u64,
    },
    /// The leaves that hold the `from`-th to the `to`-th last of the tree's events with a time of
    /// at most `instant`, counted from 1, and the leaf of the boundary after `instant`.
    Back {
        /// The instant.
        instant: i64,
        /// The first to load; 1 is the last event.
        from: u64,
        /// The last to load.
        to: u64,
    },
    /// All leaves with events whose times are at least `from` and at most `to`.
    Range {
        /// The first time.
        from: i64,
        /// The last time.
        to: i64,
    },
}

/// What a node says of one of its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The (time, position) of the last event below the child.
    pub last: (i64, u64),
    /// How many events are below the child.
    pub rows: u64,
    /// The child's id, unique within the tree.
    pub child: u32,
}

/// A node of a cell's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id; 0 is the root.
    pub id: u32,
    /// Its children in order; none if it is a leaf. At most 65,535.
    pub entries: Vec<Entry>,
    /// What the cell keeps in it.
    pub body: Bytes,
}

/// How long a tail may get before it is folded into the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailLimit {
    /// In bytes of encoded changes.
    pub bytes: usize,
    /// How many events so many bytes can be, at most.
    pub rows: u64,
}

/// What the reader of a cell wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing: it has what it needs of this cell.
    Done,
    /// The leaves of these places, too; then it is shown the cell again.
    More(Vec<Place>),
}

/// A timeline of events as a store keeps it.
///
/// A store in this process calls [`empty`](Self::empty), [`apply`](Self::apply),
/// [`forget_before`](Self::forget_before), [`earliest`](Self::earliest) and [`touch`](Self::touch)
/// only. A store elsewhere keeps a tree and a tail. It appends encoded changes to the tail, and now
/// and then *folds* it: `paths_of` the tail, `load` with these paths, `apply_encoded` the tail,
/// `take_changes`, and write them. To read, it loads the `places` of what is wanted and applies the
/// tail `for_reading`.
pub trait Cell: Send + Sync + Sized + 'static {
    /// What all cells of a space have in common.
    type Schema: Send + Sync + 'static;
    /// One or more events of one key.
    type Change: Send + Sync;
    /// What a reader asks of a cell.
    type Want: Send + Sync;

    /// A cell without events.
    fn empty(schema: &Self::Schema) -> Self;

    /// Adds events.
    ///
    /// # Errors
    /// The events do not fit the schema, or a value is out of range.
    fn apply(&mut self, schema: &Self::Schema, change: &Self::Change) -> Result<(), CellError>;

    /// Appends the events as bytes. Changes are concatenated as they come: they must be readable
    /// one after the other.
    ///
    /// # Errors
    /// The events do not fit the schema; `out` is as before.
    fn encode_change(
        schema: &Self::Schema,
        change: &Self::Change,
        out: &mut Vec<u8>,
    ) -> Result<(), CellError>;

    /// Adds the events of a tail: to the tree, whose [`paths_of`](Self::paths_of) were loaded; or,
    /// `for_reading`, beside a tree of which only the reader's places were loaded.
    ///
    /// # Errors
    /// The bytes are no changes, or a node on the way is not loaded.
    fn apply_encoded(
        &mut self,
        schema: &Self::Schema,
        changes: &[u8],
        for_reading: bool,
    ) -> Result<(), CellError>;

    /// Drops events before `time`, all or some of them, but never the last event of all. Says
    /// whether any went.
    ///
    /// Of a tree all leaves are loaded with events before `time`, and the leaf after them.
    ///
    /// # Errors
    /// A node that has to go is not loaded; then nothing has changed.
    fn forget_before(&mut self, schema: &Self::Schema, time: i64) -> Result<bool, CellError>;

    /// Loads what a read is likely to look at into the processor's cache. That is all it does.
    fn touch(&self) {}

    /// The earliest event time that answering `want` may look at. A cell that forgot what is before
    /// it gives the same answer.
    fn earliest(schema: &Self::Schema, want: &Self::Want) -> i64;

    /// When a tail is folded.
    fn tail_limit(schema: &Self::Schema) -> TailLimit;

    /// The places that answering `want` needs, if the tail has at most `tail_rows_at_most` events.
    /// What is missing after all is asked for by [`Look::More`].
    fn places(schema: &Self::Schema, want: &Self::Want, tail_rows_at_most: u64) -> Vec<Place>;

    /// A cell of the nodes that `fetch` has. It may have none (an empty tree) and it has not all
    /// leaves, but with a node it has all nodes on the way from the root.
    ///
    /// # Errors
    /// A node is not one that this type wrote.
    fn load(
        schema: &Self::Schema,
        fetch: &mut dyn FnMut(u32) -> Option<Node>,
    ) -> Result<Self, CellError>;

    /// The nodes that are new or different since `load`, the root among them if it is, and the ids
    /// of those that are no more.
    ///
    /// # Errors
    /// A node has become too large, or the ids are used up.
    fn take_changes(&mut self, schema: &Self::Schema) -> Result<(Vec<Node>, Vec<u32>), CellError>;

    /// The places that inserting the events of a tail changes.
    ///
    /// # Errors
    /// The bytes are no changes.
    fn paths_of(schema: &Self::Schema, changes: &[u8]) -> Result<Vec<Place>, CellError>;
}
