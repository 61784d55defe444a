//! One window of a timeline, as an aggregate sees it.

use std::any::Any;
use std::ops::Range;

use super::chunk::{CAPACITY, Chunk};
use super::tree::{Summaries, Tree};
use crate::kind::{Cells, Kind};
use crate::layout::Measure;
use crate::monoid::Monoid;

/// A place between events: before `row` of `chunk`. The end is before row 0 of no chunk or after
/// the last row of the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) chunk: usize,
    pub(super) row: usize,
}

/// The events from one spot to another, not before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: Spot,
    pub(super) to: Spot,
}

/// The chunks of a timeline with what a measure looks at.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    chunks: &'a [Chunk],
    argument: Option<usize>,
    filter: Option<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(chunks: &'a [Chunk], measure: &Measure) -> Self {
        Source { chunks, argument: measure.argument, filter: measure.filter }
    }

    /// The number of chunks.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The argument of a chunk and the rows of `mask` that there are and the filter lets through.
    pub(super) fn rows(&self, chunk: usize, mask: u128) -> (Option<&'a Cells>, u128) {
        let Some(chunk) = self.chunks.get(chunk) else { return (None, 0) };
        let column = |index: usize| chunk.column(index);
        let passed =
            self.filter.map_or(u128::MAX, |filter| column(filter).map_or(0, Cells::truths));
        let mask = mask & below(chunk.len()) & passed;
        (self.argument.and_then(column), mask)
    }
}

/// The lowest `rows` bits.
fn below(rows: usize) -> u128 {
    if rows >= CAPACITY { u128::MAX } else { (1 << rows) - 1 }
}

/// One window of a timeline.
pub struct View<'a> {
    source: Source<'a>,
    span: Span,
    tree: Option<&'a dyn Summaries>,
}

impl<'a> View<'a> {
    pub(super) fn new(source: Source<'a>, span: Span, tree: Option<&'a dyn Summaries>) -> Self {
        View { source, span, tree }
    }

    /// The chunks that the window touches.
    fn chunks(&self) -> Range<usize> {
        let end = self.span.to.chunk + usize::from(self.span.to.row > 0);
        self.span.from.chunk..end.min(self.source.chunks())
    }

    /// A chunk's argument and the rows of the window that the filter lets through.
    fn piece(&self, chunk: usize) -> (Option<&'a Cells>, u128) {
        let Span { from, to } = self.span;
        let mut mask = u128::MAX;
        if chunk == from.chunk {
            mask &= !below(from.row);
        }
        if chunk == to.chunk {
            mask &= below(to.row);
        }
        self.source.rows(chunk, mask)
    }

    /// Adds the window's events to a state: whole chunks by their states, if there are any.
    pub(crate) fn fold<M: Monoid>(&self, monoid: &M, state: &mut M::State) {
        let chunks = self.chunks();
        let tree = self.tree.and_then(|tree| (tree as &dyn Any).downcast_ref::<Tree<M>>());
        let whole = match tree {
            None => 0..0,
            Some(_) => {
                let Span { from, to } = self.span;
                from.chunk + usize::from(from.row > 0)..to.chunk.min(chunks.end)
            }
        };
        for chunk in chunks {
            if !whole.contains(&chunk) {
                let (column, mask) = self.piece(chunk);
                monoid.scan(state, column, mask);
            } else if chunk == whole.start
                && let Some(tree) = tree
            {
                tree.fold(whole.clone(), state);
            }
        }
    }

    /// Calls `f` with every value of the window that is not NULL.
    pub(crate) fn each<K: Kind>(&self, mut f: impl FnMut(K::Value<'a>)) {
        for chunk in self.chunks() {
            let (column, mask) = self.piece(chunk);
            let Some(cells) = column else { continue };
            let Some(store) = K::store(&cells.values) else { continue };
            let mut left = mask & cells.valid;
            while left != 0 {
                f(K::stored(store, left.trailing_zeros() as usize));
                left &= left - 1;
            }
        }
    }

    /// The first or last event of the window that the filter lets through (and whose argument is
    /// not NULL), as its column and row.
    pub(crate) fn pick(&self, last: bool, ignore_nulls: bool) -> Option<(&'a Cells, usize)> {
        let look = |chunk: usize| {
            let (column, mask) = self.piece(chunk);
            let cells = column?;
            let mask = if ignore_nulls { mask & cells.valid } else { mask };
            let row = if last {
                127_u32.wrapping_sub(mask.leading_zeros())
            } else {
                mask.trailing_zeros()
            };
            (mask != 0).then_some((cells, row as usize))
        };
        if last { self.chunks().rev().find_map(look) } else { self.chunks().find_map(look) }
    }
}
