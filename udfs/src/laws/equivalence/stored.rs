//! A timeline that a store keeps as nodes, loads in part and writes back is as one in memory.
//!
//! * `insertion`: batches of events, each with no more than its places loaded.
//! * `reading`: reads with no more than their places loaded, and events laid over.
//! * `forgetting`: dropped events do not change a value; a window that may miss some is refused.
//! * `damage`: bytes that no encoder wrote are an error.

use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::{AsOf, NodeImage, Place, bind, descend, encode_rows, insert_places};

mod damage;
mod forgetting;
mod insertion;
mod reading;

/// The nodes of one timeline.
#[derive(Debug, Default, Clone)]
struct Store {
    nodes: HashMap<u32, NodeImage>,
}

impl Store {
    /// The ids of the nodes that the places need.
    fn find(&self, places: &[Place]) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let entries = |id| self.nodes.get(&id).map_or(vec![], |image| image.entries.clone());
        places.iter().for_each(|place| descend(*place, &mut { entries }, &mut found));
        found
    }

    fn load_only(&self, layout: &Layout, ids: &BTreeSet<u32>) -> Timeline {
        let mut fetch = |id| ids.contains(&id).then(|| self.nodes.get(&id).cloned())?;
        Timeline::load(layout, &mut fetch).unwrap()
    }

    fn load_calls(&self, layout: &Layout, calls: &[usize], ids: &BTreeSet<u32>) -> Timeline {
        let mut fetch = |id| ids.contains(&id).then(|| self.nodes.get(&id).cloned())?;
        Timeline::load_calls(layout, calls, &mut fetch).unwrap()
    }

    fn load(&self, layout: &Layout) -> Timeline {
        Timeline::load(layout, &mut |id| self.nodes.get(&id).cloned()).unwrap()
    }

    /// Writes a timeline back; returns how many nodes that were.
    fn write(&mut self, layout: &Layout, timeline: &mut Timeline) -> usize {
        let (images, removed) = timeline.take_changes(layout).unwrap();
        let count = images.len();
        for id in removed {
            assert!(self.nodes.remove(&id).is_some(), "node {id} is removed twice");
        }
        self.nodes.extend(images.into_iter().map(|image| (image.id, image)));
        assert_eq!(timeline.take_changes(layout).unwrap(), (vec![], vec![]), "nothing is left");
        self.check();
        count
    }

    /// Every node but the root is the child of one, and all children are there.
    fn check(&self) {
        let entries = || self.nodes.values().flat_map(|image| &image.entries);
        let children: BTreeSet<u32> = entries().map(|entry| entry.child).collect();
        assert_eq!(children.len(), entries().count());
        let mut ids: BTreeSet<u32> = self.nodes.keys().copied().collect();
        ids.remove(&0);
        assert_eq!(ids, children);
    }
}

/// Calls of every way to look at events, each over every frame.
fn some_layout(frames: &[Frame]) -> Layout {
    let columns = columns();
    let filter = columns.len() - 2;
    let kinds = [
        ("count", None, false, false, None),
        ("count", Some(DataType::Utf8), false, false, Some(filter)),
        ("count", Some(DataType::Int16), true, false, None),
        ("sum", Some(DataType::Float64), false, false, Some(filter)),
        ("avg", Some(DataType::Decimal128(10, 2)), false, false, None),
        ("stddev_samp", Some(DataType::Float32), false, false, None),
        ("max", Some(DataType::Utf8), false, false, Some(filter)),
        ("first_value", Some(DataType::Int64), false, false, None),
        ("first_value", Some(DataType::Utf8), false, true, None),
        ("last_value", Some(DataType::Int64), false, false, None),
        ("last_value", Some(DataType::Boolean), false, true, Some(filter)),
    ];
    let call = |frame: &Frame| {
        let frame = *frame;
        let columns = &columns;
        kinds.clone().map(|(name, argument, distinct, ignore_nulls, filter)| Call {
            aggregate: bind(name, distinct, ignore_nulls, argument.as_ref()).unwrap(),
            argument: argument.and_then(|a| columns.iter().position(|column| *column == a)),
            filter,
            frame,
        })
    };
    let calls = frames.iter().flat_map(call).collect();
    Layout::new(columns.clone(), calls).unwrap()
}

/// A run of one key's events as they arrive. Not all positions go on with the arrival.
fn events_of(arrivals: &[(i64, (u8, u64))]) -> Events {
    let rows: Vec<_> = arrivals.iter().map(|(_, seed)| make_row(*seed, true)).collect();
    let column = |(index, data_type): (usize, &DataType)| {
        let values: Vec<_> = rows.iter().map(|row| row[index].clone()).collect();
        datum::array(data_type, &values)
    };
    Events {
        times: arrivals.iter().map(|(time, _)| *time).collect(),
        positions: (0..arrivals.len() as u64).map(position).collect(),
        columns: columns().iter().enumerate().map(column).collect(),
    }
}

fn position(arrival: u64) -> u64 {
    if arrival % 3 == 2 { arrival.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { arrival }
}

/// How times go on: mostly in order, with ties; late ones; the ends of time.
fn batch(most: usize) -> impl Strategy<Value = Vec<(i64, (u8, u64))>> {
    let seed = any::<(u8, u64)>();
    let in_order = prop::collection::vec((0..3_i64, seed), 1..most);
    let anywhere = prop::collection::vec((0..900_i64, seed), 1..most);
    let extreme = prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(-1)];
    let extreme = prop::collection::vec((extreme, seed), 1..4);
    let run = (0..700_i64, in_order).prop_map(|(mut time, steps)| {
        let step = |(step, seed)| {
            time += step;
            (time, seed)
        };
        steps.into_iter().map(step).collect::<Vec<_>>()
    });
    prop_oneof![6 => run, 3 => anywhere, 1 => extreme]
}

/// Batches of events as they arrive, some with as many ties as a leaf has events.
fn history(batches: usize) -> impl Strategy<Value = Vec<Vec<(i64, (u8, u64))>>> {
    let coarse = prop_oneof![2 => Just(1_i64), 1 => Just(STEP)];
    let batches = prop::collection::vec(batch(220), 1..batches);
    (batches, coarse).prop_map(|(mut batches, coarse)| {
        let times = batches.iter_mut().flatten().map(|(time, _)| time);
        times.filter(|time| (-DAY..DAY).contains(*time)).for_each(|time| *time -= *time % coarse);
        batches
    })
}

/// Between times that have many events.
const STEP: i64 = 225;

fn micros() -> impl Strategy<Value = Interval> {
    prop_oneof![Just(0_i64), 0..40_i64, 0..700_i64, Just(STEP)].prop_map(Interval::from_micros)
}

/// Frames of the scale that the times are of.
fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let range = (micros(), micros()).prop_map(|(a, b)| {
        let (near, far) = if a.micros < b.micros { (a, b) } else { (b, a) };
        Frame::Range { start: Bound::Preceding(far), end: near }
    });
    let near = prop_oneof![3 => 0..300_u64, 1 => Just(0)];
    let rows =
        (0..600_u64, near).prop_map(|(a, b)| Frame::Rows { start: Some(a.max(b)), end: a.min(b) });
    let frame = prop_oneof![
        4 => range,
        1 => micros().prop_map(|end| Frame::Range { start: Bound::Unbounded, end }),
        4 => rows,
        1 => (0..300_u64).prop_map(|end| Frame::Rows { start: None, end }),
    ];
    prop::collection::vec(frame, 2..5)
}

fn instants() -> impl Strategy<Value = Vec<i64>> {
    let instant = prop_oneof![
        8 => -5..910_i64,
        4 => (0..5_i64).prop_map(|step| step * STEP),
        4 => 900..1_500_i64,
        1 => Just(i64::MAX),
    ];
    prop::collection::vec(instant, 3..8)
}

/// A call's value, or why there is none.
fn ask(timeline: &Timeline, layout: &Layout, call: usize, instant: i64) -> Answer {
    let mut out = Outputs::new(layout, &[call]);
    timeline.read(layout, instant, &[call], &mut out)?;
    Ok(datum::datum(&out.finish()?[0], 0))
}

type Answer = Result<Option<Datum>, Error>;

/// Two timelines give the same values.
fn assert_same(layout: &Layout, one: &Timeline, other: &Timeline, instants: &[i64]) {
    assert_eq!(one.len(), other.len());
    assert_eq!(one.last_time(), other.last_time());
    for &instant in instants {
        for call in 0..layout.calls().len() {
            let (a, b) = (ask(one, layout, call, instant), ask(other, layout, call, instant));
            assert_eq!(a, b, "{:?} as of {instant}", layout.calls()[call]);
        }
    }
}

fn rows(range: std::ops::Range<usize>) -> Vec<u32> {
    range.map(|row| row as u32).collect()
}

/// The rows in one or two encodings.
fn encode(layout: &Layout, events: &Events, rows: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (first, second) = rows.split_at(rows.len() / 3);
    encode_rows(layout, events, first, &mut bytes).unwrap();
    encode_rows(layout, events, second, &mut bytes).unwrap();
    bytes
}
