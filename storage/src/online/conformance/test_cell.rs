//! A small cell of the model that stores know: events with amounts, in leaves of four below nodes
//! of four, with a sum for every child. And the same by hand: [`expected`].

#[path = "test_cell/forget.rs"]
mod forget;

use std::collections::{BTreeMap, BTreeSet};

use asofdb_storage::online::{Cell, CellError, Entry, Look, Node, Place, TailLimit};
use bytes::Bytes;

/// The events that a tail may have by default.
const TAIL_ROWS: u64 = 6;

/// What the cells of a space have in common.
#[derive(Debug, Clone)]
pub struct Schema {
    /// The most events in a leaf, and children of a node.
    pub width: usize,
    /// The events that a tail may have.
    pub tail_rows: u64,
    /// Bytes after each event that mean nothing.
    pub padding: usize,
}

impl Default for Schema {
    fn default() -> Self {
        Schema { width: 4, tail_rows: TAIL_ROWS, padding: 0 }
    }
}

impl Schema {
    fn row_bytes(&self) -> usize {
        24 + self.padding
    }
}

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Its time.
    pub time: i64,
    /// Its position.
    pub position: u64,
    /// What is summed.
    pub amount: u64,
}

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The sum up to a time.
    UpTo(i64),
    /// The sum from a time to another.
    Between(i64, i64),
    /// The sum of so many last events up to a time.
    Last(i64, u64),
    /// The same, but the reader finds out how many only when it looks.
    LastInSteps(i64, u64),
    /// The sum of all events from a time to another, one by one.
    Each(i64, i64),
    /// The one event that is so many from the last up to a time; 1 is the last.
    Nth(i64, u64),
    /// The same in the tree alone, which no list can tell: only whether it was loaded.
    NthOfTree(i64, u64),
}

/// The answer from a list of events.
pub fn expected(events: &[Event], want: Want) -> u64 {
    let mut sorted = events.to_vec();
    sorted.sort_unstable();
    let between =
        |from: i64, to: i64| sorted.iter().filter(move |e| e.time >= from && e.time <= to);
    match want {
        Want::UpTo(to) => between(i64::MIN, to).map(|e| e.amount).sum(),
        Want::Between(from, to) | Want::Each(from, to) => between(from, to).map(|e| e.amount).sum(),
        Want::Last(to, count) | Want::LastInSteps(to, count) => {
            let up_to: Vec<_> = between(i64::MIN, to).collect();
            up_to.iter().rev().take(count as usize).map(|e| e.amount).sum()
        }
        Want::NthOfTree(..) => 0,
        Want::Nth(to, nth) => {
            let up_to: Vec<_> = between(i64::MIN, to).collect();
            up_to.iter().rev().nth(nth as usize - 1).map_or(0, |e| e.amount)
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Child {
    entry: Entry,
    sum: u64,
}

#[derive(Debug, Clone)]
enum Held {
    Leaf(Vec<Event>),
    Inner(Vec<Child>),
}

impl Held {
    /// What a parent knows of the node.
    fn as_child(&self, id: u32) -> Child {
        match self {
            Held::Leaf(events) => {
                let last = events.last().map_or((0, 0), |e| (e.time, e.position));
                let entry = Entry { last, rows: events.len() as u64, child: id };
                Child { entry, sum: events.iter().map(|e| e.amount).sum() }
            }
            Held::Inner(children) => {
                let last = children.last().map_or((0, 0), |child| child.entry.last);
                let rows = children.iter().map(|child| child.entry.rows).sum();
                let entry = Entry { last, rows, child: id };
                Child { entry, sum: children.iter().map(|child| child.sum).sum() }
            }
        }
    }
}

/// The cell.
#[derive(Debug)]
pub struct TestCell {
    nodes: BTreeMap<u32, Held>,
    next: u32,
    changed: BTreeSet<u32>,
    removed: BTreeSet<u32>,
    /// Events of the tail, when it is read.
    beside: Vec<Event>,
}

impl TestCell {
    /// The answer, or which node is missing for it.
    pub fn answer(&self, want: Want) -> Result<u64, CellError> {
        let beside = |from: i64, to: i64| -> u64 {
            let inside = self.beside.iter().filter(|e| e.time >= from && e.time <= to);
            inside.map(|e| e.amount).sum()
        };
        match want {
            Want::UpTo(to) => Ok(self.sum_before(0, to, true)? + beside(i64::MIN, to)),
            Want::Between(from, to) if from > to => Ok(0),
            Want::Between(from, to) => {
                let before = self.sum_before(0, from, false)?;
                Ok(self.sum_before(0, to, true)? - before + beside(from, to))
            }
            Want::Nth(to, nth) => Ok(self.nth(to, nth)),
            Want::NthOfTree(to, nth) => self.nth_of_tree(to, nth),
            Want::Last(..) | Want::LastInSteps(..) | Want::Each(..) => {
                let mut events = self.beside.clone();
                self.nodes.values().for_each(|node| {
                    if let Held::Leaf(leaf) = node {
                        events.extend(leaf);
                    }
                });
                Ok(expected(&events, want))
            }
        }
    }

    /// The loaded events of the tree with their numbers, and how many of all are not after `to`.
    fn ranked(&self, to: i64) -> (Vec<(u64, Event)>, u64) {
        let mut ranked = Vec::new();
        self.rank(0, 0, &mut ranked);
        // The boundary's leaf is loaded, or all events are before it.
        let after = ranked.iter().filter(|(_, e)| e.time > to).map(|(rank, _)| *rank).min();
        let up_to = after.unwrap_or_else(|| self.rows());
        (ranked, up_to)
    }

    fn nth_of_tree(&self, to: i64, nth: u64) -> Result<u64, CellError> {
        let (ranked, up_to) = self.ranked(to);
        if nth > up_to {
            return Ok(0);
        }
        let found = ranked.iter().find(|(rank, _)| *rank == up_to - nth);
        let missing = || CellError::new(format!("event {nth} before {to} is not loaded"));
        found.map(|(_, event)| event.amount).ok_or_else(missing)
    }

    /// Counts from the last event, through leaves that are not loaded as well.
    fn nth(&self, to: i64, nth: u64) -> u64 {
        let (ranked, in_tree) = self.ranked(to);
        let mut beside: Vec<Event> = self.beside.iter().filter(|e| e.time <= to).copied().collect();
        beside.sort_unstable();
        let later = |event: &Event| beside.iter().filter(|e| *e > event).count() as u64;
        // At most all of the tail is later than the event in question: so many, or none fewer.
        let first = nth.saturating_sub(beside.len() as u64).max(1);
        let window: Vec<(u64, Event)> = ranked
            .into_iter()
            .filter(|(rank, _)| *rank < in_tree)
            .map(|(rank, event)| (in_tree - rank, event))
            .filter(|(back, _)| *back >= first && *back <= nth)
            .collect();
        let of_tree = window.iter().find(|(back, event)| back + later(event) == nth);
        let of_tail = beside.iter().find(|event| {
            let before = window.iter().filter(|(_, e)| e > *event).count() as u64;
            let skipped = (first - 1).min(in_tree);
            1 + later(event) + before + skipped == nth
                && (skipped == 0 || window.iter().any(|(_, e)| e > *event))
        });
        of_tree.map(|(_, event)| event).or(of_tail).map_or(0, |event| event.amount)
    }

    fn rows(&self) -> u64 {
        match self.nodes.get(&0) {
            Some(Held::Leaf(events)) => events.len() as u64,
            Some(Held::Inner(children)) => children.iter().map(|child| child.entry.rows).sum(),
            None => 0,
        }
    }

    /// The loaded events with their numbers in the tree, from 0.
    fn rank(&self, id: u32, before: u64, out: &mut Vec<(u64, Event)>) {
        match self.nodes.get(&id) {
            Some(Held::Leaf(events)) => out.extend((before..).zip(events.iter().copied())),
            Some(Held::Inner(children)) => {
                let mut before = before;
                for child in children {
                    self.rank(child.entry.child, before, out);
                    before += child.entry.rows;
                }
            }
            None => {}
        }
    }

    /// What a reader of `want` does with the cell the `nth` time.
    pub fn look(&self, want: Want, nth: usize) -> Look {
        match want {
            Want::LastInSteps(instant, count) if (nth as u64) < count.min(5) => {
                let (from, to) = (nth as u64 + 1, if nth == 4 { count } else { nth as u64 + 1 });
                Look::More(vec![Place::Back { instant, from, to }])
            }
            // A fold was lost: the places were for a shorter tail.
            Want::Nth(instant, to) if nth == 0 && self.beside.len() as u64 > TAIL_ROWS => {
                let from = to.saturating_sub(self.beside.len() as u64).max(1);
                Look::More(vec![Place::Back { instant, from, to }])
            }
            _ => Look::Done,
        }
    }

    fn sum_before(&self, id: u32, time: i64, after: bool) -> Result<u64, CellError> {
        let before = |t: i64| t < time || after && t == time;
        match self.nodes.get(&id) {
            None if id == 0 => Ok(0),
            None => Err(CellError::new(format!("node {id} is not loaded"))),
            Some(Held::Leaf(events)) => {
                Ok(events.iter().filter(|e| before(e.time)).map(|e| e.amount).sum())
            }
            Some(Held::Inner(children)) => {
                let mut sum = 0;
                for child in children {
                    if !before(child.entry.last.0) {
                        return Ok(sum + self.sum_before(child.entry.child, time, after)?);
                    }
                    sum += child.sum;
                }
                Ok(sum)
            }
        }
    }

    fn insert(&mut self, schema: &Schema, event: Event) -> Result<(), CellError> {
        self.nodes.entry(0).or_insert_with(|| Held::Leaf(Vec::new()));
        self.insert_below(schema, 0, event)?;
        if let Some((left, right)) = self.split(schema, 0) {
            let children = vec![self.put(left), self.put(right)];
            self.nodes.insert(0, Held::Inner(children));
        }
        Ok(())
    }

    fn insert_below(&mut self, schema: &Schema, id: u32, event: Event) -> Result<(), CellError> {
        self.changed.insert(id);
        let order = (event.time, event.position);
        let missing = || CellError::new(format!("node {id} is not loaded"));
        let (index, child) = match self.nodes.get_mut(&id).ok_or_else(missing)? {
            Held::Leaf(events) => {
                let at = events.partition_point(|e| (e.time, e.position) < order);
                events.insert(at, event);
                return Ok(());
            }
            Held::Inner(children) => {
                let index = children.partition_point(|child| child.entry.last < order);
                let index = index.min(children.len() - 1);
                let child = &mut children[index];
                child.entry.last = child.entry.last.max(order);
                child.entry.rows += 1;
                child.sum += event.amount;
                (index, child.entry.child)
            }
        };
        self.insert_below(schema, child, event)?;
        if let Some((left, right)) = self.split(schema, child) {
            self.nodes.remove(&child);
            self.changed.remove(&child);
            self.removed.insert(child);
            let both = [self.put(left), self.put(right)];
            if let Some(Held::Inner(children)) = self.nodes.get_mut(&id) {
                children.splice(index..=index, both);
            }
        }
        Ok(())
    }

    fn split(&self, schema: &Schema, id: u32) -> Option<(Held, Held)> {
        match self.nodes.get(&id)? {
            Held::Leaf(all) if all.len() > schema.width => {
                let (left, right) = all.split_at(all.len() / 2);
                Some((Held::Leaf(left.to_vec()), Held::Leaf(right.to_vec())))
            }
            Held::Inner(all) if all.len() > schema.width => {
                let (left, right) = all.split_at(all.len() / 2);
                Some((Held::Inner(left.to_vec()), Held::Inner(right.to_vec())))
            }
            _ => None,
        }
    }

    /// Keeps a node under a new id.
    fn put(&mut self, node: Held) -> Child {
        let id = self.next;
        self.next += 1;
        let child = node.as_child(id);
        self.nodes.insert(id, node);
        self.changed.insert(id);
        child
    }

    fn node(&self, id: u32, padding: usize) -> Node {
        let mut body = self.next.to_be_bytes().to_vec();
        let mut entries = Vec::new();
        match &self.nodes[&id] {
            Held::Leaf(events) => events.iter().for_each(|e| encode(e, padding, &mut body)),
            Held::Inner(children) => children.iter().for_each(|child| {
                entries.push(child.entry);
                body.extend_from_slice(&child.sum.to_be_bytes());
            }),
        }
        Node { id, entries, body: Bytes::from(body) }
    }
}

fn encode(event: &Event, padding: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&event.time.to_be_bytes());
    out.extend_from_slice(&event.position.to_be_bytes());
    out.extend_from_slice(&event.amount.to_be_bytes());
    out.resize(out.len() + padding, 0);
}

fn decode(bytes: &[u8], row_bytes: usize) -> Result<Vec<Event>, CellError> {
    let rows = bytes.chunks_exact(row_bytes);
    if !rows.remainder().is_empty() {
        return Err(CellError::new("half an event"));
    }
    let field = |row: &[u8], at: usize| u64::from_be_bytes(row[at..at + 8].try_into().unwrap());
    let event = |row: &[u8]| Event {
        time: field(row, 0) as i64,
        position: field(row, 8),
        amount: field(row, 16),
    };
    Ok(rows.map(event).collect())
}

impl Cell for TestCell {
    type Schema = Schema;
    type Change = Event;
    type Want = Want;

    fn empty(_: &Schema) -> Self {
        TestCell {
            nodes: BTreeMap::new(),
            next: 1,
            changed: BTreeSet::new(),
            removed: BTreeSet::new(),
            beside: Vec::new(),
        }
    }

    fn apply(&mut self, schema: &Schema, change: &Event) -> Result<(), CellError> {
        self.insert(schema, *change)
    }

    fn encode_change(schema: &Schema, change: &Event, out: &mut Vec<u8>) -> Result<(), CellError> {
        encode(change, schema.padding, out);
        Ok(())
    }

    fn apply_encoded(
        &mut self,
        schema: &Schema,
        changes: &[u8],
        for_reading: bool,
    ) -> Result<(), CellError> {
        let events = decode(changes, schema.row_bytes())?;
        if for_reading {
            self.beside.extend(events);
            return Ok(());
        }
        events.into_iter().try_for_each(|event| self.insert(schema, event))
    }

    fn forget_before(&mut self, _: &Schema, time: i64) -> Result<bool, CellError> {
        self.forget(time)
    }

    fn earliest(_: &Schema, want: &Want) -> i64 {
        match *want {
            Want::Between(from, _) | Want::Each(from, _) => from,
            _ => i64::MIN,
        }
    }

    fn tail_limit(schema: &Schema) -> TailLimit {
        let rows = schema.tail_rows;
        TailLimit { bytes: rows as usize * schema.row_bytes(), rows }
    }

    fn places(_: &Schema, want: &Want, tail_rows: u64) -> Vec<Place> {
        match *want {
            Want::UpTo(time) => vec![Place::At { time, after: true }],
            Want::Between(from, to) => {
                vec![Place::At { time: from, after: false }, Place::At { time: to, after: true }]
            }
            Want::Last(instant, count) => vec![Place::Back { instant, from: 1, to: count }],
            Want::Nth(instant, nth) => {
                let from = nth.saturating_sub(tail_rows).max(1);
                vec![Place::Back { instant, from, to: nth }]
            }
            Want::NthOfTree(instant, nth) => vec![Place::Back { instant, from: nth, to: nth }],
            Want::LastInSteps(..) => vec![],
            Want::Each(from, to) => vec![Place::Range { from, to }],
        }
    }

    fn load(
        schema: &Schema,
        fetch: &mut dyn FnMut(u32) -> Option<Node>,
    ) -> Result<Self, CellError> {
        let mut cell = TestCell::empty(schema);
        let mut open = vec![0];
        while let Some(id) = open.pop() {
            let Some(node) = fetch(id) else { continue };
            if id == 0 {
                cell.next = u32::from_be_bytes(node.body[..4].try_into().unwrap());
            }
            let held = if node.entries.is_empty() {
                Held::Leaf(decode(&node.body[4..], schema.row_bytes())?)
            } else {
                let sums = node.body[4..].chunks_exact(8);
                let sums = sums.map(|sum| u64::from_be_bytes(sum.try_into().unwrap()));
                open.extend(node.entries.iter().map(|entry| entry.child));
                let children = node.entries.into_iter().zip(sums);
                Held::Inner(children.map(|(entry, sum)| Child { entry, sum }).collect())
            };
            cell.nodes.insert(id, held);
        }
        Ok(cell)
    }

    fn take_changes(&mut self, schema: &Schema) -> Result<(Vec<Node>, Vec<u32>), CellError> {
        let changed = std::mem::take(&mut self.changed);
        let removed = std::mem::take(&mut self.removed);
        let nodes = changed.into_iter().map(|id| self.node(id, schema.padding)).collect();
        Ok((nodes, removed.into_iter().collect()))
    }

    fn paths_of(schema: &Schema, changes: &[u8]) -> Result<Vec<Place>, CellError> {
        let events = decode(changes, schema.row_bytes())?;
        let place = |e: Event| Place::Order { time: e.time, position: e.position };
        Ok(events.into_iter().map(place).collect())
    }
}
