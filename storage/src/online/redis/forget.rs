//! Forgetting: events of the past leave the cells.
//!
//! 1. The witnesses of the shards that are ready are raised. From then on no read reaches back
//!    further, so it does not matter which cells have forgotten already.
//! 2. The keys of these shards are gone through by pages. The cells of a page are read, each with
//!    the way to its first leaf.
//! 3. A cell that is no more than a leaf and a tail forgets and is folded. Of a larger one some of
//!    the oldest leaves are read and dropped, and it is folded without its tail; then it is looked
//!    at again.
//!
//! A step holds up batches as a batch does. Folds that come late, or to a shard that was filled anew,
//! do nothing.

use std::collections::BTreeSet;

use redis::Value;

use super::Redis;
use super::fold::Fold;
use super::layout::{Root, Witness};
use super::lookup::{Found, Page};
use super::space::Space;
use super::witness::{Change, Changed};
use super::writer::unexpected;
use crate::error::Error;
use crate::online::cell::{Cell, CellError, Node, Place};

/// Keys of a page.
const KEYS_AT_ONCE: u32 = 256;
/// Cells of which leaves are read in one step.
const LARGE_AT_ONCE: usize = 16;
/// Events of such a cell that are dropped in one step, at most.
const ROWS_AT_ONCE: u64 = 4096;

/// A cell that is to forget what is before a time.
struct Old<'a> {
    key: &'a [u8],
    before: i64,
    /// Whether its tail stays as it is.
    large: bool,
}

impl<C: Cell> Redis<C> {
    /// Lets the cells of a space forget; returns how many changed.
    pub(super) async fn forget(&self, space: &Space<C>, time: i64) -> Result<u64, Error> {
        let shards: Vec<u32> = (0..self.names.shards()).collect();
        let told = self.change_witnesses(space.id, &shards, &Change::Forget(time)).await?;
        let mut changed = 0;
        for (shard, told) in shards.into_iter().zip(told) {
            if !matches!(told, Changed::Done(witness) if witness.kept_from >= time) {
                continue;
            }
            let mut cursor = b"0".to_vec();
            loop {
                let call = self.page(space, shard, (cursor, KEYS_AT_ONCE));
                let page = Page::of_answer(self.writes.call(call).await?)?;
                changed += self.forget_page(space, shard, time, page.keys).await?;
                cursor = page.next;
                if cursor == b"0" {
                    break;
                }
            }
        }
        Ok(changed)
    }

    async fn forget_page(
        &self,
        space: &Space<C>,
        shard: u32,
        time: i64,
        mut keys: Vec<Vec<u8>>,
    ) -> Result<u64, Error> {
        let mut changed = BTreeSet::new();
        while !keys.is_empty() {
            keys = self.forget_step(space, shard, time, &keys, &mut changed).await?;
        }
        Ok(changed.len() as u64)
    }

    /// Lets some cells forget what they can in one step; returns those to be looked at again.
    async fn forget_step(
        &self,
        space: &Space<C>,
        shard: u32,
        time: i64,
        keys: &[Vec<u8>],
        changed: &mut BTreeSet<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let in_cell = |source: CellError| Error::Cell { space: space.id, source };
        let progress = space.progress.lock().await;
        if progress.dropped {
            return Err(Error::UnknownSpace { space: space.id });
        }
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let first_leaf = [Place::At { time: i64::MIN, after: false }];
        let answer = self.writes.call(self.find(space, shard, &keys, &first_leaf)).await?;
        let (witness, found) = self.found(space, shard, answer)?;
        // It may be filled anew meanwhile.
        let Some(Witness { fill, .. }) = witness.filter(|witness| witness.kept_from >= time) else {
            return Ok(Vec::new());
        };
        let (mut small, mut large, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for (key, found) in keys.into_iter().zip(found) {
            let Some(root) = found.root().map_err(in_cell)? else { continue };
            let top = root.node().map_err(in_cell)?;
            let Some(top) = top.filter(|top| !top.entries.is_empty()) else {
                small.push((Old { key, before: time, large: false }, found));
                continue;
            };
            let Some(before) = reach(top, &found, time).map_err(in_cell)? else { continue };
            if large.len() < LARGE_AT_ONCE {
                large.push(Old { key, before, large: true });
            } else {
                again.push(key.to_vec());
            }
        }
        let leaves = |old: &Old<'_>| {
            let all = Place::Range { from: i64::MIN, to: old.before - 1 };
            self.find(space, shard, &[old.key], &[all])
        };
        let calls: Vec<_> = large.iter().map(leaves).collect();
        let mut cells = small;
        for (old, answer) in large.into_iter().zip(self.writes.run(&calls).await?) {
            let answer = answer.map_err(|failure| failure.into_error())?;
            cells.extend(self.found(space, shard, answer)?.1.pop().map(|found| (old, found)));
        }
        let (mut olds, mut folds) = (Vec::new(), Vec::new());
        for (old, found) in cells {
            let Some(root) = found.root().map_err(in_cell)? else { continue };
            let forgot = forgotten::<C>(&space.schema, &old, &found, &root).map_err(in_cell)?;
            let Some(cell) = forgot else { continue };
            let tail_bytes = if old.large { 0 } else { root.tail.len() };
            let fold = Fold { key: old.key, root: &root, cell, tail_bytes, fill, kept_from: time };
            folds.push(self.fold_call(space, shard, fold)?);
            olds.push(old);
        }
        for (old, answer) in olds.into_iter().zip(self.writes.run(&folds).await?) {
            if self.folded(&answer.map_err(|failure| failure.into_error())?)? {
                changed.insert(old.key.to_vec());
                again.extend(old.large.then(|| old.key.to_vec()));
            }
        }
        Ok(again)
    }

    /// The witness and the cells of one shard.
    fn found(
        &self,
        space: &Space<C>,
        shard: u32,
        answer: Value,
    ) -> Result<(Option<Witness>, Vec<Found>), Error> {
        let Some((witness, found)) = Found::of_answer(answer)?.pop() else {
            return Err(unexpected(&Value::Nil));
        };
        if found.iter().any(Found::is_damaged) {
            return Err(Error::StateDamaged { space: space.id, shard });
        }
        let Value::BulkString(bytes) = witness else { return Ok((None, found)) };
        Ok((Witness::decode(&bytes), found))
    }
}

/// The cell without what it is to forget; `None` if nothing goes.
fn forgotten<C: Cell>(
    schema: &C::Schema,
    old: &Old<'_>,
    found: &Found,
    root: &Root,
) -> Result<Option<C>, CellError> {
    let mut cell = found.load::<C>(schema, root)?;
    if !old.large {
        cell.apply_encoded(schema, &root.tail, false)?;
    }
    Ok(cell.forget_before(schema, old.before)?.then_some(cell))
}

/// Before which time a tree can forget in one step, on the way to its first leaf: it drops children
/// that end before `time`, with not too many events. `None` if there are none.
fn reach(top: Node, found: &Found, time: i64) -> Result<Option<i64>, CellError> {
    let mut node = Some(top);
    while let Some(Node { entries, .. }) = node {
        let mut rows = 0_u64;
        let old = entries.iter().take_while(|entry| {
            rows = rows.saturating_add(entry.rows);
            entry.last.0 < time && rows <= ROWS_AT_ONCE
        });
        if let Some(last) = old.last() {
            return Ok(Some(last.last.0 + 1));
        }
        let Some(first) = entries.first() else { return Ok(None) };
        node = found.node(first.child)?;
    }
    Ok(None)
}
