//! Dropping events of the past.

use super::Timeline;
use super::chunk::Chunk;
use super::node::{Inner, Node, Order, Stored};
use super::summaries::Below;
use crate::error::Error;

impl Timeline {
    /// Drops events before `time`, and then refuses windows that reach one of them. Says whether
    /// any went.
    ///
    /// * The last event of all stays: a key that has events stays known.
    /// * A timeline that is one leaf keeps no other event before `time`. Of a larger one whole
    ///   leaves are dropped: one with a later event, or with the last, is kept as it is.
    ///
    /// Leaves may be stubs. Inner nodes may not: if one that has events before `time` is a stub,
    /// so that it is not known which nodes are below it, nothing changes and `NotLoaded` says what
    /// is to be loaded (`Place::Range`).
    ///
    /// # Errors
    ///
    /// `NotLoaded` or `ReadOnly`.
    pub fn forget_before(&mut self, time: i64) -> Result<bool, Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let Some(root) = &mut self.root else { return Ok(false) };
        let first_kept = root.last().min((time, 0));
        check(root, first_kept)?;
        let mut gone = match root {
            Node::Inner(inner) => inner.forget(first_kept, &mut self.removed),
            Node::Leaf(_) | Node::Stub => None,
        };
        if gone.is_some() {
            self.lower_root();
        }
        if let Some(Node::Leaf(chunk)) = &mut self.root {
            gone = forget_rows(chunk, time).or(gone);
        }
        let Some(last_gone) = gone else { return Ok(false) };
        self.kept_from = self.kept_from.max(last_gone + 1);
        self.changed = true;
        Ok(true)
    }

    /// Makes the only child of the root the root. A stub has to stay where it is.
    fn lower_root(&mut self) {
        while let Some(Node::Inner(root)) = &mut self.root
            && let ([_], [stored]) = (&root.nodes[..], &root.stored[..])
            && !matches!(root.nodes[0], Node::Stub)
        {
            self.removed.extend(stored.id.map(u32::from));
            self.root = root.nodes.pop();
        }
    }
}

/// Fails if there is an inner node with events before `first_kept` that is not loaded.
fn check(node: &Node, first_kept: Order) -> Result<(), Error> {
    let Node::Inner(inner) = node else { return Ok(()) };
    let first = inner.lasts.partition_point(|last| *last < first_kept);
    // The child that ends after it may begin before it.
    for (child, node) in inner.nodes.iter().enumerate().take(first + 1) {
        if let Node::Stub = node
            && inner.level > 1
        {
            let to = first_kept.0.max(inner.lasts[child].0);
            return Err(Error::NotLoaded { from: i64::MIN, to });
        }
        check(node, first_kept)?;
    }
    Ok(())
}

/// Drops the rows before `time`, but for the chunk's last; returns the time of the last that went.
fn forget_rows(chunk: &mut Chunk, time: i64) -> Option<i64> {
    let rows = chunk.partition(|row| row < time).min(chunk.len().saturating_sub(1));
    let last_gone = chunk.time(rows.checked_sub(1)?)?;
    chunk.drop_first(rows);
    Some(last_gone)
}

impl Inner {
    /// Drops the leaves that end before `first_kept`, which are not all; returns the time of the
    /// last event that went.
    fn forget(&mut self, first_kept: Order, removed: &mut Vec<u32>) -> Option<i64> {
        let whole = self.lasts.partition_point(|last| *last < first_kept);
        let gone = whole.checked_sub(1).map(|child| self.lasts[child].0);
        self.drop_first(whole, removed);
        let Some(Node::Inner(first)) = self.nodes.first_mut() else { return gone };
        let Some(inside) = first.forget(first_kept, removed) else { return gone };
        self.rows[0] = first.rows.iter().sum();
        self.stored[0].changed = true;
        let below = first.states.iter();
        for (states, below) in self.states.iter_mut().zip(below) {
            if let (Some(states), Some(below)) = (states, below) {
                states.replace(0, Below::States(&**below));
            }
        }
        Some(inside)
    }

    /// Drops the first children and all below them.
    fn drop_first(&mut self, children: usize, removed: &mut Vec<u32>) {
        for (node, stored) in self.nodes.iter().zip(&self.stored).take(children) {
            collect(node, *stored, removed);
        }
        self.lasts.drain(..children);
        self.rows.drain(..children);
        self.stored.drain(..children);
        self.nodes.drain(..children);
        self.states.iter_mut().flatten().for_each(|states| states.drop_first(children));
    }
}

/// The ids that a store has of a node and all below it.
fn collect(node: &Node, stored: Stored, removed: &mut Vec<u32>) {
    removed.extend(stored.id.map(u32::from));
    if let Node::Inner(inner) = node {
        for (node, stored) in inner.nodes.iter().zip(&inner.stored) {
            collect(node, *stored, removed);
        }
    }
}
