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
use super::space::Space;
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

impl<C: Cell> Redis<C> {
    /// Folds cells, each given with its shard.
    ///
    /// # Errors
    /// [`Error::StateFenced`]. Anything else is logged: the events are in, folded or not.
    pub(super) async fn fold_all(
        &self,
        space: &Space<C>,
        long: Vec<(u32, Long)>,
    ) -> Result<(), Error> {
        for cells in long.chunks(AT_ONCE) {
            match self.fold(space, cells).await {
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

    async fn fold(&self, space: &Space<C>, cells: &[(u32, Long)]) -> Result<(), Error> {
        let in_cell = |source: CellError| Error::Cell { space: space.id, source };
        let roots = cells.iter().map(|(_, cell)| Root::decode(&cell.root));
        let roots: Vec<Root> = roots.collect::<Result<_, _>>().map_err(in_cell)?;
        let mut calls = Vec::with_capacity(cells.len());
        for ((shard, cell), root) in cells.iter().zip(&roots) {
            let mut places = C::paths_of(&space.schema, &root.tail).map_err(in_cell)?;
            // In order, all events of a leaf take one way.
            places.sort_by_key(order);
            let args = vec![layout::places_value(&places), b"1".to_vec(), cell.key.clone()];
            calls.push(Call::script(Code::Lookup, self.shard_keys(space.id, *shard), args));
        }
        let mut folds = Vec::with_capacity(cells.len());
        for (((shard, cell), root), answer) in
            cells.iter().zip(&roots).zip(self.writes.run(&calls).await?)
        {
            let answer = Found::of_answer(answer.map_err(|f| f.into_error())?)?.pop();
            let Some(found) = answer.and_then(|(_, mut cells)| cells.pop()) else {
                return Err(unexpected(&Value::Nil));
            };
            let args = self.fold_args(space, cell, root, &found).map_err(in_cell)?;
            folds.push(Call::script(Code::Fold, self.shard_keys(space.id, *shard), args));
        }
        drop(calls);
        for answer in self.writes.run(&folds).await? {
            let value = answer.map_err(|failure| failure.into_error())?;
            let fields = array(&value)?;
            if let ("FENCED", [_, epoch]) = (text(&fields[0])?.as_str(), fields) {
                return Err(self.fenced(number(epoch)?));
            }
        }
        Ok(())
    }

    /// The fold of one cell as `fold.lua` takes it.
    fn fold_args(
        &self,
        space: &Space<C>,
        cell: &Long,
        root: &Root,
        found: &Found,
    ) -> Result<Vec<Vec<u8>>, CellError> {
        let writing = self.writing().map_err(|error| CellError(Box::new(error)))?;
        let schema: &C::Schema = &space.schema;
        let mut loaded = found.load::<C>(schema, root)?;
        loaded.apply_encoded(schema, &root.tail, false)?;
        let (changed, removed) = loaded.take_changes(schema)?;
        let folds = root.folds.wrapping_add(1);
        let top = changed.iter().find(|node| node.id == 0);
        let tree = top.map_or_else(|| Ok(root.tree.to_vec()), layout::node_value)?;
        let mut args = vec![
            writing.generation.to_vec(),
            writing.epoch.to_be_bytes().to_vec(),
            cell.key.clone(),
            root.folds.to_be_bytes().to_vec(),
            root.tail.len().to_string().into_bytes(),
            layout::root_head(folds, &tree)?,
            removed.len().to_string().into_bytes(),
        ];
        args.extend(removed.iter().map(|&id| layout::node_field(&cell.key, id)));
        for node in changed.iter().filter(|node| node.id != 0) {
            args.push(layout::node_field(&cell.key, node.id));
            args.push(layout::node_value(node)?);
        }
        Ok(args)
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
