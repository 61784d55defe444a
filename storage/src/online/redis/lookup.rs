//! Reading cells, and going through keys.
//!
//! 1. A lookup reads, of each shard that has some of its keys, the witness and the cells' roots:
//!    one `HMGET` for each shard, all in one pipeline. Most cells are no more than their roots.
//! 2. Of the others, the nodes on the ways to the places that the reader wants are read as well, by
//!    the script. One call does this for many shards, or, in a cluster, for one. Which cells these
//!    are is remembered (`deep.rs`): the next lookup calls the script for them at once.
//! 3. If a reader finds that it needs more of a cell, that cell is read again with all its places.
//!
//! A cell that is read again may have been folded in between, so nothing is kept from before; and
//! each call reads the witness again.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use redis::Value;

use super::Redis;
use super::layout::{self, Root};
use super::script::{Call, Code};
use super::space::Space;
use super::writer::{array, text, unexpected};
use crate::error::Error;
use crate::online::cell::{Cell, CellError, Look, Node, Place};

/// How often a reader may ask for more of a cell.
const ROUNDS: usize = 16;
/// Keys of one call; others wait for Redis meanwhile.
const KEYS_IN_CALL: usize = 256;
/// Keys that one step through a shard asks for.
const KEYS_AT_ONCE: u32 = 1000;

/// A cell as it was found: its root, if it exists, and some of its nodes.
#[derive(Debug)]
pub(super) struct Found {
    root: Option<Bytes>,
    nodes: HashMap<u32, Bytes>,
}

/// Some keys of a shard.
pub(super) struct Page {
    witness: Value,
    pub(super) keys: Vec<Vec<u8>>,
    /// Where the next page begins; `0` if this is the last.
    pub(super) next: Vec<u8>,
}

impl Page {
    /// Reads the answer of `keys.lua`.
    pub(super) fn of_answer(value: Value) -> Result<Page, Error> {
        let Value::Array(fields) = value else { return Err(unexpected(&value)) };
        let Ok([witness, _, cursor, Value::Array(fields)]) = <[Value; 4]>::try_from(fields) else {
            return Err(unexpected(&Value::Nil));
        };
        let mut keys = Vec::with_capacity(fields.len());
        for field in fields {
            let Value::BulkString(key) = field else { return Err(unexpected(&field)) };
            keys.push(key);
        }
        Ok(Page { witness, keys, next: text(&cursor)?.into_bytes() })
    }
}

/// What is asked of one shard: cells by their index, and the places of all of them.
struct Asked {
    shard: u32,
    indexes: Vec<usize>,
    /// As [`layout::places_value`]; without places only the roots are read.
    places: Vec<u8>,
}

impl Found {
    /// Reads the answer of `lookup.lua`: for each shard its witness and its cells in the order of the
    /// keys.
    pub(super) fn of_answer(value: Value) -> Result<Vec<(Value, Vec<Found>)>, Error> {
        let Value::Array(shards) = value else { return Err(unexpected(&value)) };
        shards.into_iter().map(Found::of_shard).collect()
    }

    fn of_shard(value: Value) -> Result<(Value, Vec<Found>), Error> {
        let Value::Array(fields) = value else { return Err(unexpected(&value)) };
        let mut fields = fields.into_iter();
        let witness = fields.next().unwrap_or(Value::Nil);
        let mut found = Vec::with_capacity(fields.len() / 2);
        while let (Some(root), Some(nodes)) = (fields.next(), fields.next()) {
            found.push(Found { root: root_of(root)?, nodes: nodes_of(nodes)? });
        }
        Ok((witness, found))
    }

    /// Reads the answer of `HMGET`: the witness of a shard and the roots of cells.
    fn of_roots(value: Value) -> Result<(Value, Vec<Found>), Error> {
        let Value::Array(fields) = value else { return Err(unexpected(&value)) };
        let mut fields = fields.into_iter();
        let witness = fields.next().unwrap_or(Value::Nil);
        let found = |field| Ok(Found { root: root_of(field)?, nodes: HashMap::new() });
        let found = fields.map(found).collect::<Result<_, Error>>()?;
        Ok((witness, found))
    }

    /// Whether there are nodes besides the root.
    fn has_children(&self) -> bool {
        self.root.as_deref().is_some_and(Root::has_children)
    }

    /// Whether a node is gone that another names: somebody deleted it.
    pub(super) fn is_damaged(&self) -> bool {
        self.nodes.values().any(Bytes::is_empty)
    }

    /// The cell's root; `None` if there is no cell.
    pub(super) fn root(&self) -> Result<Option<Root>, CellError> {
        self.root.as_ref().map(Root::decode).transpose()
    }

    /// A node besides the root; `None` if it was not on a way.
    pub(super) fn node(&self, id: u32) -> Result<Option<Node>, CellError> {
        self.nodes.get(&id).map(|value| layout::decode_node(id, value)).transpose()
    }

    /// The cell's tree, as far as it was found, without the tail.
    pub(super) fn load<C: Cell>(&self, schema: &C::Schema, root: &Root) -> Result<C, CellError> {
        let mut damage = None;
        let mut fetch = |id: u32| {
            let node = match id {
                0 => root.node(),
                id => self.node(id),
            };
            node.unwrap_or_else(|error| {
                damage = Some(error);
                None
            })
        };
        let cell = C::load(schema, &mut fetch);
        match damage {
            Some(error) => Err(error),
            None => cell,
        }
    }

    /// The cell with its tail, to be read.
    fn cell<C: Cell>(&self, schema: &C::Schema) -> Result<Option<C>, CellError> {
        let Some(root) = self.root()? else { return Ok(None) };
        let mut cell = self.load::<C>(schema, &root)?;
        cell.apply_encoded(schema, &root.tail, true)?;
        Ok(Some(cell))
    }
}

impl<C: Cell> Redis<C> {
    pub(super) async fn read_cells(
        &self,
        space: &Space<C>,
        keys: &[&[u8]],
        want: &C::Want,
        look: &mut (dyn for<'a> FnMut(usize, Option<&'a C>) -> Look + Send),
    ) -> Result<(), Error> {
        let first = C::places(&space.schema, want, C::tail_limit(&space.schema).rows);
        let earliest = C::earliest(&space.schema, want);
        if let [key] = keys
            && self.read_root(space, key, (&first, earliest), look).await?
        {
            return Ok(());
        }
        let mut asked = self.by_shard(space, keys, &first);
        let mut more: HashMap<usize, Vec<Place>> = HashMap::new();
        // The first round may find only which cells to ask the script for.
        for _ in 0..=ROUNDS {
            let found = self.ask(space, keys, &asked, earliest).await?;
            let mut again = Vec::new();
            for (Asked { shard, indexes, places }, cells) in asked.iter().zip(found) {
                let mut deep = Vec::new();
                for (&index, found) in indexes.iter().zip(&cells) {
                    if places.is_empty() && !first.is_empty() && found.has_children() {
                        self.deep.remember(space.id, crc32c::crc32c(keys[index]));
                        deep.push(index);
                    } else if let Some(places) = show(space, index, found, look)? {
                        let all = more.entry(index).or_insert_with(|| first.clone());
                        all.extend(places);
                        let places = layout::places_value(all);
                        again.push(Asked { shard: *shard, indexes: vec![index], places });
                    }
                }
                if !deep.is_empty() {
                    let places = layout::places_value(&first);
                    again.push(Asked { shard: *shard, indexes: deep, places });
                }
            }
            if again.is_empty() {
                return Ok(());
            }
            asked = again;
        }
        Err(crate::online::insatiable(space.id))
    }

    /// Reads one cell that is no more than its root, as most lookups do; whether it was one.
    async fn read_root(
        &self,
        space: &Space<C>,
        key: &[u8],
        (places, earliest): (&[Place], i64),
        look: &mut (dyn for<'a> FnMut(usize, Option<&'a C>) -> Look + Send),
    ) -> Result<bool, Error> {
        let sum = crc32c::crc32c(key);
        if !places.is_empty() && self.deep.may_have(space.id, sum) {
            return Ok(false);
        }
        let shard = self.names.shard_of_sum(sum);
        let seen = space.seen(shard);
        let mut command = redis::cmd("HMGET");
        command.arg(space.cells(shard)).arg(&b""[..]).arg(key);
        let answer = self.reads.call(Call::Plain(command)).await?;
        let Value::Array(fields) = answer else { return Err(unexpected(&answer)) };
        let Ok([witness, root]) = <[Value; 2]>::try_from(fields) else {
            return Err(unexpected(&Value::Nil));
        };
        let before = self.believe(space, shard, &witness, seen).await?;
        if earliest < before {
            return Err(Error::StateForgotten { space: space.id, before });
        }
        let found = Found { root: root_of(root)?, nodes: HashMap::new() };
        if found.has_children() {
            if !places.is_empty() {
                self.deep.remember(space.id, sum);
            }
            return Ok(false);
        }
        // All of the cell is here: whoever asks for more is shown the same again.
        for _ in 0..=ROUNDS {
            if show(space, 0, &found, look)?.is_none() {
                return Ok(true);
            }
        }
        Err(crate::online::insatiable(space.id))
    }

    /// Reads cells: for each shard that is asked, in the order of its indexes.
    async fn ask(
        &self,
        space: &Space<C>,
        keys: &[&[u8]],
        asked: &[Asked],
        earliest: i64,
    ) -> Result<Vec<Vec<Found>>, Error> {
        let seen: Vec<u64> = asked.iter().map(|asked| space.seen(asked.shard)).collect();
        let groups = self.groups(asked);
        let calls: Vec<Call> = groups.iter().map(|group| self.lookup(space, keys, group)).collect();
        let mut shards = Vec::with_capacity(asked.len());
        for (group, answer) in groups.iter().zip(self.reads.run(&calls).await?) {
            let answer = answer.map_err(|failure| failure.into_error())?;
            match group {
                [Asked { places, .. }] if places.is_empty() => {
                    shards.push(Found::of_roots(answer)?);
                }
                _ => shards.extend(Found::of_answer(answer)?),
            }
        }
        if shards.len() != asked.len() {
            return Err(unexpected(&Value::Nil));
        }
        let mut all = Vec::with_capacity(asked.len());
        for ((asked, seen), (witness, cells)) in asked.iter().zip(seen).zip(shards) {
            let before = self.believe(space, asked.shard, &witness, seen).await?;
            if earliest < before {
                return Err(Error::StateForgotten { space: space.id, before });
            }
            if cells.len() != asked.indexes.len() {
                return Err(unexpected(&witness));
            }
            if cells.iter().any(Found::is_damaged) {
                return Err(Error::StateDamaged { space: space.id, shard: asked.shard });
            }
            all.push(cells);
        }
        Ok(all)
    }

    /// What to ask first: the roots, and of the cells that are known to have more the places, too.
    fn by_shard(&self, space: &Space<C>, keys: &[&[u8]], places: &[Place]) -> Vec<Asked> {
        let mut shards: BTreeMap<(bool, u32), Vec<usize>> = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            let sum = crc32c::crc32c(key);
            let deep = !places.is_empty() && self.deep.may_have(space.id, sum);
            shards.entry((deep, self.names.shard_of_sum(sum))).or_default().push(index);
        }
        let mut asked = Vec::with_capacity(shards.len());
        for ((deep, shard), indexes) in shards {
            for indexes in indexes.chunks(KEYS_IN_CALL) {
                let places = if deep { layout::places_value(places) } else { Vec::new() };
                asked.push(Asked { shard, indexes: indexes.to_vec(), places });
            }
        }
        asked
    }

    /// What goes into one call: the roots of one shard's cells; or the same places in any shards,
    /// or in one of a cluster.
    fn groups<'a>(&self, asked: &'a [Asked]) -> Vec<&'a [Asked]> {
        let mut keys = 0;
        let together = |a: &Asked, b: &Asked| {
            keys += a.indexes.len();
            let same = !self.cluster && !a.places.is_empty() && a.places == b.places;
            let same = same && keys < KEYS_IN_CALL;
            if !same {
                keys = 0;
            }
            same
        };
        asked.chunk_by(together).collect()
    }

    fn lookup(&self, space: &Space<C>, keys: &[&[u8]], group: &[Asked]) -> Call {
        if let [Asked { shard, indexes, places }] = group
            && places.is_empty()
        {
            let mut command = redis::cmd("HMGET");
            command.arg(space.cells(*shard)).arg(&b""[..]);
            indexes.iter().for_each(|&index| {
                command.arg(keys[index]);
            });
            return Call::Plain(command);
        }
        let places = group.first().map_or_else(Vec::new, |asked| asked.places.clone());
        let mut args = vec![places];
        for asked in group {
            args.push(asked.indexes.len().to_string().into_bytes());
            args.extend(asked.indexes.iter().map(|&index| keys[index].to_vec()));
        }
        let names = group.iter().flat_map(|asked| self.shard_keys(space.id, asked.shard));
        Call::Script { code: Code::Lookup, keys: names.collect(), args }
    }

    /// The call for some cells of one shard, and for the nodes on the ways to places in each.
    pub(super) fn find(
        &self,
        space: &Space<C>,
        shard: u32,
        keys: &[&[u8]],
        places: &[Place],
    ) -> Call {
        let mut args = vec![layout::places_value(places), keys.len().to_string().into_bytes()];
        args.extend(keys.iter().map(|key| key.to_vec()));
        Call::script(Code::Lookup, self.shard_keys(space.id, shard), args)
    }

    pub(super) async fn visit_keys(
        &self,
        space: &Space<C>,
        visit: &mut (dyn for<'a> FnMut(&'a [u8]) + Send),
    ) -> Result<(), Error> {
        for shard in 0..self.names.shards() {
            // Redis may give a key again while its table grows.
            let mut visited: HashSet<Vec<u8>> = HashSet::new();
            let mut cursor = b"0".to_vec();
            loop {
                let seen = space.seen(shard);
                let call = self.page(space, shard, (cursor, KEYS_AT_ONCE));
                let page = Page::of_answer(self.reads.call(call).await?)?;
                self.believe(space, shard, &page.witness, seen).await?;
                for key in page.keys {
                    if visited.insert(key.clone()) {
                        visit(&key);
                    }
                }
                cursor = page.next;
                if cursor == b"0" {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The call for some keys of a shard, from a cursor on.
    pub(super) fn page(&self, space: &Space<C>, shard: u32, (from, keys): (Vec<u8>, u32)) -> Call {
        let args = vec![from, keys.to_string().into_bytes()];
        Call::script(Code::Keys, self.shard_keys(space.id, shard), args)
    }

    pub(super) async fn count_keys(&self, space: &Space<C>) -> Result<u64, Error> {
        let shards: Vec<u32> = (0..self.names.shards()).collect();
        let seen: Vec<u64> = shards.iter().map(|&shard| space.seen(shard)).collect();
        let call = |&shard: &u32| self.page(space, shard, (b"0".to_vec(), 0));
        let calls: Vec<Call> = shards.iter().map(call).collect();
        let mut total = 0;
        for ((shard, seen), answer) in shards.iter().zip(seen).zip(self.reads.run(&calls).await?) {
            let value = answer.map_err(|failure| failure.into_error())?;
            let [witness, Value::Int(fields), ..] = array(&value)? else {
                return Err(unexpected(&value));
            };
            self.believe(space, *shard, witness, seen).await?;
            // The witness is a field, too.
            total += u64::try_from(*fields).unwrap_or(0).saturating_sub(1);
        }
        Ok(total)
    }
}

/// Shows a cell; the places that the reader needs as well, if any.
fn show<C: Cell>(
    space: &Space<C>,
    index: usize,
    found: &Found,
    look: &mut (dyn for<'a> FnMut(usize, Option<&'a C>) -> Look + Send),
) -> Result<Option<Vec<Place>>, Error> {
    let in_cell = |source| Error::Cell { space: space.id, source };
    let cell = found.cell::<C>(&space.schema).map_err(in_cell)?;
    match look(index, cell.as_ref()) {
        Look::More(places) if cell.is_some() => Ok(Some(places)),
        Look::More(_) | Look::Done => Ok(None),
    }
}

fn root_of(value: Value) -> Result<Option<Bytes>, Error> {
    match value {
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        Value::Nil => Ok(None),
        other => Err(unexpected(&other)),
    }
}

fn nodes_of(value: Value) -> Result<HashMap<u32, Bytes>, Error> {
    let Value::Array(fields) = value else { return Err(unexpected(&value)) };
    let mut nodes = HashMap::with_capacity(fields.len() / 2);
    let mut fields = fields.into_iter();
    while let (Some(id), Some(node)) = (fields.next(), fields.next()) {
        let (Value::BulkString(id), Value::BulkString(node)) = (id, node) else {
            return Err(unexpected(&Value::Nil));
        };
        let id: [u8; 4] = id.as_slice().try_into().map_err(|_| unexpected(&Value::Nil))?;
        nodes.insert(u32::from_be_bytes(id), Bytes::from(node));
    }
    Ok(nodes)
}
