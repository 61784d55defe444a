//! One window of a timeline, as an aggregate sees it.

use std::any::Any;

use super::chunk::Chunk;
use super::node::{Inner, Node, visible};
use super::summaries::States;
use super::window::Piece;
use crate::error::Error;
use crate::kernel::Looks;
use crate::kind::{Cells, Kind};
use crate::layout::Measure;
use crate::monoid::Monoid;

/// One window of a timeline.
pub struct View<'a> {
    pieces: &'a [Piece<'a>],
    measure: &'a Measure,
    /// The measure's place in the layout, and that of its states in a node.
    index: usize,
}

/// Rows of a chunk that the filter lets through, with the argument's column if there is one.
type Rows<'a> = (Option<&'a Cells>, u128);

impl<'a> View<'a> {
    pub(super) fn new(pieces: &'a [Piece<'a>], index: usize, measure: &'a Measure) -> Self {
        View { pieces, measure, index }
    }

    pub(super) fn measure(&self) -> &'a Measure {
        self.measure
    }

    fn rows(&self, chunk: &'a Chunk, mask: u128) -> Rows<'a> {
        visible(chunk, self.measure, mask)
    }

    /// Adds the window's events to a state: whole children by their states, if there are any.
    pub(crate) fn fold<M: Monoid>(&self, monoid: &M, state: &mut M::State) -> Result<(), Error> {
        for piece in self.pieces {
            match *piece {
                Piece::Rows { chunk, mask } => {
                    let (column, mask) = self.rows(chunk, mask);
                    monoid.scan(state, column, mask);
                }
                Piece::Run { inner, from, to, .. } => {
                    let states = inner.states.get(self.index).and_then(Option::as_deref);
                    let states = states.and_then(|s| (s as &dyn Any).downcast_ref::<States<M>>());
                    let states = states.and_then(|states| states.states().get(from..to));
                    let states = states.ok_or(Error::Internal("a node without states"))?;
                    states.iter().for_each(|part| monoid.merge(state, part));
                }
            }
        }
        Ok(())
    }

    /// Calls `f` with every value of the window that is not NULL.
    pub(crate) fn each<K: Kind>(&self, mut f: impl FnMut(K::Value<'a>)) -> Result<(), Error> {
        self.search(false, &mut |(column, mask)| {
            let cells = column?;
            let store = K::store(&cells.values)?;
            let mut left = mask & cells.valid;
            while left != 0 {
                f(K::stored(store, left.trailing_zeros() as usize));
                left &= left - 1;
            }
            None::<()>
        })?;
        Ok(())
    }

    /// The first or last event of the window that the filter lets through (and whose argument is
    /// not NULL), as its column and row.
    pub(crate) fn pick(
        &self,
        last: bool,
        ignore_nulls: bool,
    ) -> Result<Option<(&'a Cells, usize)>, Error> {
        self.search(last, &mut |(column, mask)| {
            let cells = column?;
            let mask = if ignore_nulls { mask & cells.valid } else { mask };
            let row = if last {
                127_u32.wrapping_sub(mask.leading_zeros())
            } else {
                mask.trailing_zeros()
            };
            (mask != 0).then_some((cells, row as usize))
        })
    }

    /// Fails if a read would look at events that are not loaded.
    pub(super) fn check_loaded(&self) -> Result<(), Error> {
        match self.measure.aggregate.looks() {
            Looks::States => Ok(()),
            Looks::Events => self.search(false, &mut |_| None::<()>).map(drop),
            Looks::First { ignore_nulls } => self.pick(false, ignore_nulls).map(drop),
            Looks::Last { ignore_nulls } => self.pick(true, ignore_nulls).map(drop),
        }
    }

    /// What `look` first finds in the chunks of the window, from its first or from its last.
    fn search<T>(
        &self,
        backwards: bool,
        look: &mut impl FnMut(Rows<'a>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        for at in 0..self.pieces.len() {
            let at = if backwards { self.pieces.len() - 1 - at } else { at };
            let found = match self.pieces[at] {
                Piece::Rows { chunk, mask } => look(self.rows(chunk, mask)),
                Piece::Run { inner, from, to, after } => {
                    self.search_run((inner, from, to, after), backwards, look)?
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The same in children `from..to` of a node, with no event before `after`. At a stub all of
    /// them that were not looked at are asked for, so that a long search does not ask often.
    fn search_run<T>(
        &self,
        (inner, from, to, after): (&'a Inner, usize, usize, i64),
        backwards: bool,
        look: &mut impl FnMut(Rows<'a>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        for step in 0..to - from {
            let child = if backwards { to - 1 - step } else { from + step };
            let low = if child == from { after } else { inner.floor(child, after) };
            let found = match &inner.nodes[child] {
                Node::Leaf(chunk) => look(self.rows(chunk, u128::MAX)),
                Node::Inner(node) => {
                    self.search_run((node, 0, node.nodes.len(), low), backwards, look)?
                }
                Node::Stub => {
                    let (low, high) = if backwards { (after, child) } else { (low, to - 1) };
                    return Err(Error::NotLoaded { from: low, to: inner.lasts[high].0 });
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}
