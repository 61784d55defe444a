//! The nodes of the tree: how it is searched, and how it grows.
//!
//! A leaf is a chunk. An inner node knows of each child the order of its last event, the number
//! of its events and, for every measure that keeps them, its state. A child may be a stub: all
//! that is known about it is what its parent knows.

use super::chunk::{CAPACITY, Chunk};
use super::summaries::{Below, Summaries};
use crate::error::Error;
use crate::kind::{Cell, Cells};
use crate::layout::{Layout, Measure};

/// The most children of a node. Tests have high trees of few events.
pub(super) const FAN_OUT: usize = if cfg!(test) { 4 } else { 16 };

/// (time, position): what events are ordered by.
pub(super) type Order = (i64, u64);

/// A node of the tree. None but an empty timeline's root is empty.
#[derive(Debug)]
pub enum Node {
    Leaf(Chunk),
    Inner(Box<Inner>),
    /// Not loaded.
    Stub,
}

/// A node with children; each has an item in every vector.
#[derive(Debug)]
pub struct Inner {
    /// The number of levels below; all leaves of a tree are on level 0.
    pub(super) level: u8,
    pub(super) lasts: Vec<Order>,
    pub(super) rows: Vec<u64>,
    pub(super) stored: Vec<Stored>,
    pub(super) nodes: Vec<Node>,
    /// For every measure the states of the children.
    pub(super) states: Box<[Option<Box<dyn Summaries>>]>,
}

/// What a store knows of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    /// `None` if the store does not have the node yet. No node but the root is node 0.
    pub(super) id: Option<std::num::NonZero<u32>>,
    /// Whether the node has changed since.
    pub(super) changed: bool,
}

impl Stored {
    pub(super) const NEW: Stored = Stored { id: None, changed: true };
}

/// An event on its way into the tree.
pub(super) struct Arrival<'a> {
    pub(super) layout: &'a Layout,
    pub(super) order: Order,
    pub(super) cells: &'a [Option<Cell<'a>>],
    /// Whether it comes after all other events.
    pub(super) appended: bool,
    /// Whether a stub takes it into its count and states only.
    pub(super) overlay: bool,
}

impl Arrival<'_> {
    /// Whether a measure's filter lets the event through.
    fn passes(&self, measure: &Measure) -> bool {
        let truth = |filter: usize| self.cells.get(filter) == Some(&Some(Cell::Bool(true)));
        measure.filter.is_none_or(truth)
    }

    fn argument(&self, measure: &Measure) -> Option<Cell<'_>> {
        measure.argument.and_then(|argument| *self.cells.get(argument)?)
    }
}

/// A chunk's argument for a measure, and the rows of `mask` that its filter lets through.
pub(super) fn visible<'a>(
    chunk: &'a Chunk,
    measure: &Measure,
    mask: u128,
) -> (Option<&'a Cells>, u128) {
    let column = |index: usize| chunk.column(index);
    let passed = measure.filter.map_or(u128::MAX, |at| column(at).map_or(0, Cells::truths));
    (measure.argument.and_then(column), mask & below(chunk.len()) & passed)
}

/// The lowest `rows` bits.
pub(super) fn below(rows: usize) -> u128 {
    if rows >= CAPACITY { u128::MAX } else { (1 << rows) - 1 }
}

impl Node {
    /// The order of the last event; of a stub only its parent knows it.
    pub(super) fn last(&self) -> Order {
        match self {
            Node::Leaf(chunk) => chunk.last_order(),
            Node::Inner(inner) => inner.lasts.last().copied().unwrap_or((i64::MIN, 0)),
            Node::Stub => (i64::MIN, 0),
        }
    }

    /// The number of events; of a stub only its parent knows it.
    pub(super) fn rows(&self) -> u64 {
        match self {
            Node::Leaf(chunk) => chunk.len() as u64,
            Node::Inner(inner) => inner.rows.iter().sum(),
            Node::Stub => 0,
        }
    }

    pub(super) fn level(&self) -> u8 {
        match self {
            Node::Inner(inner) => inner.level,
            Node::Leaf(_) | Node::Stub => 0,
        }
    }

    /// What a measure sees.
    fn below(&self, index: usize, measure: &Measure) -> Below<'_> {
        match self {
            Node::Leaf(chunk) => {
                let (column, mask) = visible(chunk, measure, u128::MAX);
                Below::Rows(column, mask)
            }
            Node::Inner(inner) => match inner.states.get(index) {
                Some(Some(states)) => Below::States(&**states),
                _ => Below::Rows(None, 0),
            },
            Node::Stub => Below::Rows(None, 0),
        }
    }

    /// Inserts an event; what did not fit comes back as a node to be put after this one.
    pub(super) fn insert(&mut self, event: &Arrival<'_>) -> Result<Option<Node>, Error> {
        match self {
            Node::Leaf(chunk) => Ok(insert_row(chunk, event).map(Node::Leaf)),
            Node::Inner(inner) => {
                Ok(inner.insert(event)?.map(|inner| Node::Inner(Box::new(inner))))
            }
            Node::Stub => Err(Error::Internal("a stub has no place for an event")),
        }
    }
}

/// After the last event a new chunk begins, so that events in order fill their chunks.
fn insert_row(chunk: &mut Chunk, event: &Arrival<'_>) -> Option<Chunk> {
    if chunk.len() < CAPACITY {
        chunk.insert(event.order, event.cells);
        return None;
    }
    let mut upper = if event.appended { Chunk::new(event.layout.columns()) } else { chunk.split() };
    let goes_up = event.appended || event.order >= chunk.last_order();
    let place = if goes_up { &mut upper } else { chunk };
    place.insert(event.order, event.cells);
    Some(upper)
}

impl Inner {
    /// A root over two halves of the old one.
    pub(super) fn over(layout: &Layout, lower: Node, upper: Node) -> Inner {
        let mut root = Inner::new(layout, lower.level() + 1);
        root.insert_child(layout, 0, lower);
        root.insert_child(layout, 1, upper);
        root
    }

    pub(super) fn new(layout: &Layout, level: u8) -> Inner {
        let states = layout.measures().iter().map(|measure| measure.aggregate.summaries());
        Inner {
            level,
            lasts: Vec::new(),
            rows: Vec::new(),
            stored: Vec::new(),
            nodes: Vec::new(),
            states: states.collect(),
        }
    }

    /// The child where an event belongs: the first that ends after it, or the last.
    pub(super) fn place(&self, order: Order) -> usize {
        let most = self.nodes.len().saturating_sub(1);
        self.lasts.partition_point(|last| *last <= order).min(most)
    }

    /// The time that no event of a child is before, if `after` is that of the node.
    pub(super) fn floor(&self, child: usize, after: i64) -> i64 {
        child.checked_sub(1).and_then(|before| self.lasts.get(before)).map_or(after, |last| last.0)
    }

    fn insert(&mut self, event: &Arrival<'_>) -> Result<Option<Inner>, Error> {
        let child = if event.appended { self.nodes.len() - 1 } else { self.place(event.order) };
        if let Node::Stub = self.nodes[child] {
            return self.insert_at_stub(child, event);
        }
        let upper = self.nodes[child].insert(event)?;
        // A full child that another follows has not changed.
        self.stored[child].changed |= upper.is_none() || !event.appended;
        let Some(upper) = upper else {
            self.accept(child, event);
            return Ok(None);
        };
        if !event.appended {
            self.refresh(child, event.layout);
        }
        Ok(self.add(child + 1, upper, event))
    }

    /// Only for reading: the stub's count and states take the event, or a chunk of its own after
    /// the last stub, as an instant may lie between.
    fn insert_at_stub(
        &mut self,
        child: usize,
        event: &Arrival<'_>,
    ) -> Result<Option<Inner>, Error> {
        if !event.overlay {
            return Err(Error::Internal("a stub has no place for an event"));
        }
        if !event.appended {
            self.accept(child, event);
            return Ok(None);
        }
        let mut chunk = Chunk::new(event.layout.columns());
        chunk.insert(event.order, event.cells);
        Ok(self.add(child + 1, Node::Leaf(chunk), event))
    }

    /// Counts an event that went below a child.
    fn accept(&mut self, child: usize, event: &Arrival<'_>) {
        self.rows[child] += 1;
        self.lasts[child] = self.lasts[child].max(event.order);
        for (states, measure) in self.states.iter_mut().zip(event.layout.measures()) {
            if let Some(states) = states
                && event.passes(measure)
            {
                states.accept(child, event.argument(measure));
            }
        }
    }

    /// Takes what is known about a child from the child, which is no stub.
    fn refresh(&mut self, child: usize, layout: &Layout) {
        let node = &self.nodes[child];
        (self.lasts[child], self.rows[child]) = (node.last(), node.rows());
        for (index, (states, measure)) in self.states.iter_mut().zip(layout.measures()).enumerate()
        {
            if let Some(states) = states {
                states.replace(child, node.below(index, measure));
            }
        }
    }

    /// Inserts a new node, which is no stub, before a child.
    fn insert_child(&mut self, layout: &Layout, child: usize, node: Node) {
        for (index, (states, measure)) in self.states.iter_mut().zip(layout.measures()).enumerate()
        {
            if let Some(states) = states {
                states.insert(child, node.below(index, measure));
            }
        }
        self.lasts.insert(child, node.last());
        self.rows.insert(child, node.rows());
        self.stored.insert(child, Stored::NEW);
        self.nodes.insert(child, node);
    }

    /// Inserts a new node before a child, and splits if there are too many: in half, or at the
    /// right end before the new one, so that events in order fill their nodes.
    fn add(&mut self, child: usize, node: Node, event: &Arrival<'_>) -> Option<Inner> {
        if self.nodes.len() < FAN_OUT {
            self.insert_child(event.layout, child, node);
            return None;
        }
        if event.appended {
            let mut upper = Inner::new(event.layout, self.level);
            upper.insert_child(event.layout, 0, node);
            return Some(upper);
        }
        let half = self.nodes.len() / 2;
        let mut upper = self.split_off(half);
        match child.checked_sub(half + 1) {
            Some(above) => upper.insert_child(event.layout, above + 1, node),
            None => self.insert_child(event.layout, child, node),
        }
        Some(upper)
    }

    fn split_off(&mut self, child: usize) -> Inner {
        let cut = |states: &mut Option<Box<dyn Summaries>>| Some(states.as_mut()?.split_off(child));
        Inner {
            level: self.level,
            lasts: self.lasts.split_off(child),
            rows: self.rows.split_off(child),
            stored: self.stored.split_off(child),
            nodes: self.nodes.split_off(child),
            states: self.states.iter_mut().map(cut).collect(),
        }
    }
}
