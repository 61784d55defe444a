//! Dropping events of the past, by whole leaves.

use super::Timeline;
use super::node::{Inner, Node, Stored};
use crate::error::Error;

impl Timeline {
    /// Drops the leaves whose last event is before `time`, and then refuses windows that may
    /// reach events before `time`. A leaf with later events, too, is kept as a whole.
    ///
    /// Leaves may be stubs. Inner nodes may not: if one that has events before `time` is a stub,
    /// so that it is not known which nodes are below it, nothing changes and `NotLoaded` says what
    /// is to be loaded (`Place::Range`).
    ///
    /// # Errors
    ///
    /// `NotLoaded` or `ReadOnly`.
    pub fn forget_before(&mut self, time: i64) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let Some(root) = &mut self.root else { return Ok(()) };
        check(root, time)?;
        let all = root.last().0 < time;
        let mut removed = Vec::new();
        let some = match root {
            Node::Inner(inner) if all => {
                inner.drop_first(inner.nodes.len(), &mut removed);
                true
            }
            Node::Inner(inner) => inner.forget(time, &mut removed),
            Node::Leaf(_) | Node::Stub => all,
        };
        if !some {
            return Ok(());
        }
        if all {
            self.root = None;
        }
        self.removed.append(&mut removed);
        self.kept_from = self.kept_from.max(time);
        self.changed = true;
        self.lower_root();
        Ok(())
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

/// Fails if there is an inner node with events before `time` that is not loaded.
fn check(node: &Node, time: i64) -> Result<(), Error> {
    let Node::Inner(inner) = node else { return Ok(()) };
    let first = inner.lasts.partition_point(|last| last.0 < time);
    // That which the time lies in may begin before it.
    for (child, node) in inner.nodes.iter().enumerate().take(first + 1) {
        if let Node::Stub = node
            && inner.level > 1
        {
            return Err(Error::NotLoaded { from: i64::MIN, to: time.max(inner.lasts[child].0) });
        }
        check(node, time)?;
    }
    Ok(())
}

impl Inner {
    /// Drops what ends before `time`, which is not all; says whether that is anything.
    fn forget(&mut self, time: i64, removed: &mut Vec<u32>) -> bool {
        let whole = self.lasts.partition_point(|last| last.0 < time);
        self.drop_first(whole, removed);
        let Some(Node::Inner(first)) = self.nodes.first_mut() else { return whole > 0 };
        let inside = first.forget(time, removed);
        if inside {
            self.rows[0] = first.rows.iter().sum();
            self.stored[0].changed = true;
            let below = first.states.iter();
            for (states, below) in self.states.iter_mut().zip(below) {
                if let (Some(states), Some(below)) = (states, below) {
                    states.replace(0, super::summaries::Below::States(&**below));
                }
            }
        }
        whole > 0 || inside
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
