//! Folding: the events of a long tail go into the cell's tree.
//!
//! 1. `apply.lua` gave the root of a cell whose tail is too long.
//! 2. The nodes on the ways of the tail's events are read, in one call for each cell.
//! 3. The cell is loaded, takes the tail, and gives the nodes that changed.
//! 4. `fold.lua` writes them if the tree is still the one that was read; what was appended
//!    meanwhile stays in the tail.
//!
//! Readers see the cell before or after, never between. A fold that did not happen is no loss: the
//! cell is reported again with its next events.

use bytes::Bytes;
use redis::Value;

use super::Redis;
use super::layout::{self, Root};
use super::lookup::Found;
use super::script::{Call, Code};
use super::space::{Progress, Space};
use super::witness::number;
use super::writer::{array, text, unexpected};
use crate::error::Error;
use crate::online::cell::{Cell, CellError, Place};

/// Cells folded at once.
const AT_ONCE: usize = 128;

/// A cell whose tail is too long.
pub(super) struct Long {
    pub(super) key: Vec<u8>,
    pub(super) root: Bytes,
}

/// A cell to be written back.
pub(super) struct Fold<'a, C> {
    pub(super) key: &'a [u8],
    /// The cell as it was read.
    pub(super) root: &'a Root,
    /// The cell as it is to be.
    pub(super) cell: C,
    /// How much of the tail is in it.
    pub(super) tail_bytes: usize,
    /// What the shard's witness says of its fill: in another one the fold does nothing.
    pub(super) fill: u64,
    /// The cell may have forgotten what is before it. If the shard's witness does not say so, too,
    /// the fold does nothing.
    pub(super) kept_from: i64,
}

impl<C: Cell> Redis<C> {
    /// Folds cells, each given with its shard.
    ///
    /// # Errors
    /// [`Error::StateFenced`]. Anything else is logged: the events are in, folded or not.
    pub(super) async fn fold_all(
        &self,
        space: &Space<C>,
        progress: &Progress,
        long: Vec<(u32, Long)>,
    ) -> Result<(), Error> {
        for cells in long.chunks(AT_ONCE) {
            match self.fold(space, progress, cells).await {
                Err(error @ Error::StateFenced { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(space = space.id, %error, "cells could not be folded");
                    return Ok(());
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    async fn fold(
        &self,
        space: &Space<C>,
        progress: &Progress,
        cells: &[(u32, Long)],
    ) -> Result<(), Error> {
        let in_cell = |source: CellError| Error::Cell { space: space.id, source };
        let roots = cells.iter().map(|(_, cell)| Root::decode(&cell.root));
        let roots: Vec<Root> = roots.collect::<Result<_, _>>().map_err(in_cell)?;
        let mut calls = Vec::with_capacity(cells.len());
        for ((shard, cell), root) in cells.iter().zip(&roots) {
            let mut places = C::paths_of(&space.schema, &root.tail).map_err(in_cell)?;
            // In order, all events of a leaf take one way.
            places.sort_by_key(order);
            calls.push(self.find(space, *shard, &[&cell.key], &places));
        }
        let mut folds = Vec::with_capacity(cells.len());
        for (((shard, cell), root), answer) in
            cells.iter().zip(&roots).zip(self.writes.run(&calls).await?)
        {
            let answer = Found::of_answer(answer.map_err(|f| f.into_error())?)?.pop();
            let Some(found) = answer.and_then(|(_, mut cells)| cells.pop()) else {
                return Err(unexpected(&Value::Nil));
            };
            let mut loaded = found.load::<C>(&space.schema, root).map_err(in_cell)?;
            loaded.apply_encoded(&space.schema, &root.tail, false).map_err(in_cell)?;
            let fold = Fold {
                key: &cell.key,
                root,
                cell: loaded,
                tail_bytes: root.tail.len(),
                fill: progress.shard(*shard).map_or(0, |shard| shard.fill),
                kept_from: i64::MIN,
            };
            folds.push(self.fold_call(space, *shard, fold)?);
        }
        drop(calls);
        for answer in self.writes.run(&folds).await? {
            self.folded(&answer.map_err(|failure| failure.into_error())?)?;
        }
        Ok(())
    }

    /// The call of `fold.lua` for one cell.
    pub(super) fn fold_call(
        &self,
        space: &Space<C>,
        shard: u32,
        mut fold: Fold<'_, C>,
    ) -> Result<Call, Error> {
        let in_cell = |source: CellError| Error::Cell { space: space.id, source };
        let writing = self.writing()?;
        let Fold { key, root, .. } = fold;
        let (changed, removed) = fold.cell.take_changes(&space.schema).map_err(in_cell)?;
        let folds = root.folds.wrapping_add(1);
        let top = changed.iter().find(|node| node.id == 0);
        let tree = top.map_or_else(|| Ok(root.tree.to_vec()), layout::node_value);
        let head = tree.and_then(|tree| layout::root_head(folds, &tree)).map_err(in_cell)?;
        let mut args = vec![
            writing.generation.to_vec(),
            writing.epoch.to_be_bytes().to_vec(),
            fold.fill.to_be_bytes()[..4].to_vec(),
            layout::biased(fold.kept_from).to_vec(),
            key.to_vec(),
            root.folds.to_be_bytes().to_vec(),
            fold.tail_bytes.to_string().into_bytes(),
            head,
            removed.len().to_string().into_bytes(),
        ];
        args.extend(removed.iter().map(|&id| layout::node_field(key, id)));
        for node in changed.iter().filter(|node| node.id != 0) {
            args.push(layout::node_field(key, node.id));
            args.push(layout::node_value(node).map_err(in_cell)?);
        }
        Ok(Call::script(Code::Fold, self.shard_keys(space.id, shard), args))
    }

    /// Whether a fold is in, by the answer of `fold.lua`.
    pub(super) fn folded(&self, answer: &Value) -> Result<bool, Error> {
        match array(answer)? {
            [_, epoch] => Err(self.fenced(number(epoch)?)),
            [done] => Ok(matches!(text(done)?.as_str(), "OK" | "DONE")),
            _ => Err(unexpected(answer)),
        }
    }
}

fn order(place: &Place) -> (i64, u64) {
    match *place {
        Place::Order { time, position } => (time, position),
        Place::At { time, .. } => (time, 0),
        Place::Back { instant, .. } => (instant, 0),
        Place::Range { from, .. } => (from, 0),
    }
}
