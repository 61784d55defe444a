//! The nodes of a timeline as bytes, for a store that keeps each by its id.
//!
//! 1. Node 0 is the root, whatever becomes of the tree: when it splits, its content moves to a
//!    new node. Other ids are given once, when a node is first stored; the root's bytes have the
//!    next.
//! 2. What a search needs of an inner node is outside of its bytes, as entries: one per child. A
//!    leaf has none.
//! 3. The bytes are: version, level, of the root the next id and `kept_from`; then a leaf's chunk,
//!    or for each measure with states their length and the states of all children; then a checksum
//!    over id, entries and all of that.
//!
//! What is loaded may be damaged: that is an error. Nothing is allocated before it is there.

use std::num::NonZero;

use hashbrown::HashSet;

use super::Timeline;
use super::chunk::Chunk;
use super::node::{FAN_OUT, Inner, Node, Order, Stored};
use crate::bytes;
use crate::error::Error;
use crate::kind::take;
use crate::layout::Layout;

/// The version of the form of bodies.
const VERSION: u8 = 1;
/// No tree with ids of 32 bits is that high.
const LEVELS_MAX: u8 = 40;

/// What a node knows of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// (time, position) of the last event below the child.
    pub last: (i64, u64),
    /// The number of events below the child.
    pub rows: u64,
    /// The child's id.
    pub child: u32,
}

/// A node of a timeline as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    /// The node; 0 is the root.
    pub id: u32,
    /// The children in the order of their events; none for a leaf.
    pub entries: Vec<Entry>,
    /// Everything else.
    pub body: Vec<u8>,
}

impl Timeline {
    /// The timeline of a store, as far as `fetch` gives its nodes: what it does not give becomes a
    /// stub. Without node 0 the timeline is empty.
    ///
    /// # Errors
    ///
    /// `DamagedBytes`: a node is not as it was stored, or not of the same moment as another.
    pub fn load(
        layout: &Layout,
        fetch: &mut dyn FnMut(u32) -> Option<NodeImage>,
    ) -> Result<Timeline, Error> {
        load(layout, None, fetch)
    }

    /// As `load`, but for reads of some calls only: the states that others need are skipped. The
    /// timeline can neither be stored nor forget.
    ///
    /// # Errors
    ///
    /// As `load`, or `NoSuchCall`.
    pub fn load_calls(
        layout: &Layout,
        calls: &[usize],
        fetch: &mut dyn FnMut(u32) -> Option<NodeImage>,
    ) -> Result<Timeline, Error> {
        let mut wanted: Box<[bool]> = layout.measures().iter().map(|_| false).collect();
        for &call in calls {
            wanted[layout.plan(call)?.0] = true;
        }
        let timeline = load(layout, Some(&wanted), fetch)?;
        Ok(Timeline { read_only: true, wanted: Some(wanted), ..timeline })
    }

    /// The nodes that are new or have changed since the timeline was loaded or this was last
    /// called, and the ids of those that are gone. The root comes last: once it is stored, the
    /// others must be.
    ///
    /// # Errors
    ///
    /// `ReadOnly`; or `Internal` if all ids are used, and then the timeline is lost.
    pub fn take_changes(&mut self, _layout: &Layout) -> Result<(Vec<NodeImage>, Vec<u32>), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let mut images = Vec::new();
        if self.changed
            && let Some(root) = &mut self.root
        {
            if let Node::Inner(inner) = root {
                store_children(inner, &mut self.next_id, &mut images)?;
            }
            images.push(image_of(0, root, Some((self.next_id, self.kept_from))));
        }
        self.changed = false;
        Ok((images, std::mem::take(&mut self.removed)))
    }
}

/// Loads all states, or those of the measures that are wanted.
fn load(
    layout: &Layout,
    wanted: Option<&[bool]>,
    fetch: &mut dyn FnMut(u32) -> Option<NodeImage>,
) -> Result<Timeline, Error> {
    let Some(image) = fetch(0) else { return Ok(Timeline::new(layout)) };
    let mut body = open(&image)?;
    let level = take_level(&mut body)?;
    let header = bytes::take(&mut body).zip(bytes::take(&mut body));
    let (next_id, kept) = header.ok_or_else(|| damaged("the root's head is torn"))?;
    let next_id = u32::try_from(next_id).map_err(|_| damaged("the next id is too large"))?;
    let mut loader =
        Loader { layout, wanted, fetch, next_id, seen: HashSet::new(), partial: false };
    let root = loader.node(&image, level, body)?;
    Ok(Timeline {
        root: Some(root).filter(|root| root.rows() > 0),
        kept_from: i64::MIN.wrapping_add(kept as i64),
        next_id,
        partial: loader.partial,
        ..Timeline::default()
    })
}

/// Appends the images of all changed nodes below a node, children first.
fn store_children(
    inner: &mut Inner,
    next_id: &mut u32,
    images: &mut Vec<NodeImage>,
) -> Result<(), Error> {
    for (node, stored) in inner.nodes.iter_mut().zip(&mut inner.stored) {
        if !stored.changed {
            continue;
        }
        let id = match stored.id {
            Some(id) => id,
            None => {
                let id = NonZero::new(*next_id).ok_or(Error::Internal("the root's id is taken"))?;
                *next_id = id.get().checked_add(1).ok_or(Error::Internal("all ids are used"))?;
                id
            }
        };
        if let Node::Inner(inner) = node {
            store_children(inner, next_id, images)?;
        }
        images.push(image_of(id.get(), node, None));
        *stored = Stored { id: Some(id), changed: false };
    }
    Ok(())
}

/// The image of a node whose children have ids. `head`: of the root, the next id and `kept_from`.
fn image_of(id: u32, node: &Node, head: Option<(u32, i64)>) -> NodeImage {
    let mut body = vec![VERSION, node.level()];
    if let Some((next_id, kept_from)) = head {
        bytes::put(next_id.into(), &mut body);
        bytes::put(kept_from.wrapping_sub(i64::MIN) as u64, &mut body);
    }
    let mut entries = Vec::new();
    match node {
        Node::Leaf(chunk) => chunk.encode(&mut body),
        Node::Inner(inner) => {
            entries = entries_of(inner);
            let mut states = Vec::new();
            for summaries in inner.states.iter().flatten() {
                states.clear();
                summaries.encode(&mut states);
                bytes::put(states.len() as u64, &mut body);
                body.extend_from_slice(&states);
            }
        }
        Node::Stub => {}
    }
    let sum = checksum(id, &entries, &body);
    body.extend_from_slice(&sum.to_le_bytes());
    NodeImage { id, entries, body }
}

fn entries_of(inner: &Inner) -> Vec<Entry> {
    let entry = |((&last, &rows), stored): ((&Order, &u64), &Stored)| Entry {
        last,
        rows,
        child: stored.id.map_or(0, NonZero::get),
    };
    inner.lasts.iter().zip(&inner.rows).zip(&inner.stored).map(entry).collect()
}

fn checksum(id: u32, entries: &[Entry], body: &[u8]) -> u32 {
    let mut sum = crc32c::crc32c(&id.to_le_bytes());
    for entry in entries {
        sum = crc32c::crc32c_append(sum, &entry.last.0.to_le_bytes());
        sum = crc32c::crc32c_append(sum, &entry.last.1.to_le_bytes());
        sum = crc32c::crc32c_append(sum, &entry.rows.to_le_bytes());
        sum = crc32c::crc32c_append(sum, &entry.child.to_le_bytes());
    }
    crc32c::crc32c_append(sum, body)
}

/// Makes the checksum of an altered image right.
#[cfg(test)]
pub(crate) fn seal(image: &mut NodeImage) {
    image.body.truncate(image.body.len().saturating_sub(4));
    let sum = checksum(image.id, &image.entries, &image.body);
    image.body.extend_from_slice(&sum.to_le_bytes());
}

fn damaged(reason: &'static str) -> Error {
    Error::DamagedBytes { what: "a node of a timeline", reason }
}

/// What is between a body's version and its checksum, both checked.
fn open(image: &NodeImage) -> Result<&[u8], Error> {
    let (body, sum) = image.body.split_last_chunk().ok_or_else(|| damaged("it is torn"))?;
    if checksum(image.id, &image.entries, body) != u32::from_le_bytes(*sum) {
        return Err(damaged("its checksum differs"));
    }
    match body.split_first() {
        Some((&VERSION, body)) => Ok(body),
        _ => Err(damaged("it is of another version")),
    }
}

fn take_level(body: &mut &[u8]) -> Result<u8, Error> {
    let [level] = take(body).ok_or_else(|| damaged("it is torn"))?;
    if level <= LEVELS_MAX { Ok(level) } else { Err(damaged("its level is too high")) }
}

/// Loads nodes from the root down.
struct Loader<'a> {
    layout: &'a Layout,
    /// Which measures' states are decoded; `None` for all.
    wanted: Option<&'a [bool]>,
    fetch: &'a mut dyn FnMut(u32) -> Option<NodeImage>,
    next_id: u32,
    /// The ids met so far: no node is the child of two.
    seen: HashSet<u32>,
    partial: bool,
}

impl Loader<'_> {
    /// The node of an image, with all that is below. `body` is what comes after its head.
    fn node(&mut self, image: &NodeImage, level: u8, mut body: &[u8]) -> Result<Node, Error> {
        let node = if level == 0 {
            let chunk = Chunk::decode(self.layout.columns(), &mut body);
            Node::Leaf(chunk.ok_or_else(|| damaged("its events are damaged"))?)
        } else {
            Node::Inner(Box::new(self.inner(image, level, &mut body)?))
        };
        if !body.is_empty() || (level == 0) != image.entries.is_empty() {
            return Err(damaged("it is not of this layout"));
        }
        Ok(node)
    }

    fn inner(&mut self, image: &NodeImage, level: u8, body: &mut &[u8]) -> Result<Inner, Error> {
        let entries = &image.entries;
        let ordered = entries.windows(2).all(|pair| pair[0].last <= pair[1].last);
        if !ordered || entries.is_empty() || entries.len() > FAN_OUT {
            return Err(damaged("its entries are not ordered, or too many"));
        }
        let mut inner = Inner::new(self.layout, level);
        for (measure, slot) in inner.states.iter_mut().enumerate() {
            let Some(states) = slot else { continue };
            let length = bytes::take_count(body, body.len());
            let part = length.and_then(|length| bytes::take_slice(body, length));
            let mut part = part.ok_or_else(|| damaged("its states are torn"))?;
            if self.wanted.is_some_and(|wanted| !wanted[measure]) {
                *slot = None;
                continue;
            }
            let mut decode = || {
                entries.iter().try_for_each(|_| states.decode(&mut part))?;
                part.is_empty().then_some(())
            };
            decode().ok_or_else(|| damaged("its states are damaged"))?;
        }
        let mut total = 0_u64;
        for entry in entries {
            total = total.checked_add(entry.rows).ok_or_else(|| damaged("it counts too many"))?;
            let id = NonZero::new(entry.child).filter(|id| id.get() < self.next_id);
            let id = id.ok_or_else(|| damaged("it has a child that never was"))?;
            if entry.rows == 0 || !self.seen.insert(id.get()) {
                return Err(damaged("it has an empty child or one of another node"));
            }
            let node = self.child(entry, level - 1)?;
            inner.lasts.push(entry.last);
            inner.rows.push(entry.rows);
            inner.stored.push(Stored { id: Some(id), changed: false });
            inner.nodes.push(node);
        }
        Ok(inner)
    }

    fn child(&mut self, entry: &Entry, level: u8) -> Result<Node, Error> {
        let Some(image) = (self.fetch)(entry.child) else {
            self.partial = true;
            return Ok(Node::Stub);
        };
        let mut body = open(&image)?;
        if image.id != entry.child || take_level(&mut body)? != level {
            return Err(damaged("it is another node than was asked for"));
        }
        let node = self.node(&image, level, body)?;
        if (node.last(), node.rows()) != (entry.last, entry.rows) {
            return Err(damaged("its parent is of another moment"));
        }
        Ok(node)
    }
}
