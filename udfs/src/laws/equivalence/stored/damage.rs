//! Bytes that no encoder wrote are an error, and end nothing.

use super::*;
use crate::timeline::seal;

fn store(layout: &Layout, arrivals: &[(i64, (u8, u64))]) -> Store {
    let mut timeline = Timeline::new(layout);
    timeline.insert_rows(layout, &events_of(arrivals), &rows(0..arrivals.len())).unwrap();
    let mut store = Store::default();
    store.write(layout, &mut timeline);
    store
}

fn load(store: &Store, layout: &Layout) -> Result<Timeline, Error> {
    Timeline::load(layout, &mut |id| store.nodes.get(&id).cloned())
}

fn is_damaged<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::DamagedBytes { .. }))
}

/// What is done to some bytes.
#[derive(Debug, Clone)]
enum Damage {
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Set(prop::sample::Index, u8),
    Append(u8),
}

impl Damage {
    /// Returns whether anything has changed.
    fn apply(&self, bytes: &mut Vec<u8>) -> bool {
        let before = bytes.clone();
        match self {
            _ if bytes.is_empty() => {}
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << (bit % 8);
            }
            Damage::Set(at, value) => {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            Damage::Append(value) => bytes.push(*value),
        }
        *bytes != before
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        at().prop_map(Damage::Cut),
        (at(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, value)| Damage::Set(at, value)),
        any::<u8>().prop_map(Damage::Append),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_nodes_are_refused(
        batches in history(4),
        hits in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..60),
    ) {
        let layout = some_layout(&[Frame::latest()]);
        let whole = store(&layout, &batches.concat());
        let ids: Vec<u32> = whole.nodes.keys().copied().collect();
        for (node, damage) in hits {
            let mut broken = whole.clone();
            let image = broken.nodes.get_mut(&ids[node.index(ids.len())]).unwrap();
            if damage.apply(&mut image.body) {
                prop_assert!(is_damaged(&load(&broken, &layout)));
                // Even with a checksum that is right it is no panic; it may be another timeline.
                let image = broken.nodes.get_mut(&ids[node.index(ids.len())]).unwrap();
                seal(image);
                let loaded = load(&broken, &layout);
                prop_assert!(loaded.is_ok() || is_damaged(&loaded));
            }
        }
    }

    #[test]
    fn damaged_events_are_refused_or_others(
        batch in batch(30),
        hits in prop::collection::vec(damage(), 1..60),
        instants in instants(),
    ) {
        let layout = some_layout(&[Frame::latest()]);
        let bytes = encode(&layout, &events_of(&batch), &rows(0..batch.len()));
        for hit in hits {
            let mut broken = bytes.clone();
            hit.apply(&mut broken);
            let mut timeline = Timeline::new(&layout);
            let inserted = timeline.insert_encoded(&layout, &broken);
            prop_assert!(inserted.is_ok() || is_damaged(&inserted));
            prop_assert!(inserted.is_ok() || timeline.is_empty(), "half a list was inserted");
            for (call, instant) in (0..layout.calls().len()).zip(instants.iter().cycle()) {
                let read = ask(&timeline, &layout, call, *instant);
                assert!(matches!(read, Ok(_) | Err(Error::OutOfRange { .. })));
            }
        }
    }
}

#[test]
fn torn_events_are_refused() {
    let layout = some_layout(&[Frame::latest()]);
    let arrivals: Vec<_> = (0..5).map(|i| (i * 1000, (i as u8, i as u64 * 77))).collect();
    let mut bytes = Vec::new();
    encode_rows(&layout, &events_of(&arrivals), &rows(0..5), &mut bytes).unwrap();
    for end in 1..bytes.len() {
        assert!(is_damaged(&Timeline::new(&layout).insert_encoded(&layout, &bytes[..end])));
    }
    // A length without events does not make room for them.
    assert!(is_damaged(&Timeline::new(&layout).overlay(&layout, &[0xff, 0xff, 0xff, 0xff, 0x7f])));
}

#[test]
fn bits_of_no_column_are_refused() {
    let layout = Layout::new(vec![DataType::Boolean], vec![]).unwrap();
    let events = Events {
        times: vec![0].into(),
        positions: vec![0].into(),
        columns: vec![datum::array(&DataType::Boolean, &[Some(Datum::Bool(true))])],
    };
    let mut bytes = Vec::new();
    encode_rows(&layout, &events, &[0], &mut bytes).unwrap();
    // One event, at time 0 and position 0; a bit for a column that is not NULL; true.
    assert_eq!(bytes, [1, 0, 0, 1, 1]);
    let insert = |at: usize, value: u8| {
        let mut broken = bytes.clone();
        broken[at] = value;
        is_damaged(&Timeline::new(&layout).insert_encoded(&layout, &broken))
    };
    assert!(!insert(4, 0));
    assert!(insert(3, 3), "a second column");
    assert!(insert(4, 2), "neither true nor false");
}

#[test]
fn nodes_of_different_moments_are_refused() {
    let layout = some_layout(&[Frame::latest()]);
    let arrivals: Vec<_> = (0..700).map(|i| (i, (i as u8, i as u64 * 77))).collect();
    let mut moved = arrivals.clone();
    moved.iter_mut().skip(690).for_each(|(time, _)| *time += 1);
    let new = store(&layout, &arrivals);
    for old in [store(&layout, &arrivals[..690]), store(&layout, &moved)] {
        assert_eq!(old.nodes.len(), new.nodes.len());
        let changed: Vec<u32> =
            new.nodes.keys().copied().filter(|id| old.nodes[id] != new.nodes[id]).collect();
        assert!(changed.len() > 1);
        for id in changed {
            let mut mixed = new.clone();
            mixed.nodes.insert(id, old.nodes[&id].clone());
            assert!(is_damaged(&load(&mixed, &layout)), "node {id}");
        }
    }
}

#[test]
fn entries_that_lead_astray_are_refused() {
    let layout = some_layout(&[Frame::latest()]);
    let arrivals: Vec<_> = (0..700).map(|i| (i, (i as u8, i as u64 * 77))).collect();
    let whole = store(&layout, &arrivals);
    let alter = |alter: &dyn Fn(&mut NodeImage)| {
        let mut broken = whole.clone();
        let root = broken.nodes.get_mut(&0).unwrap();
        alter(root);
        seal(root);
        // A search by such entries ends, too.
        broken.find(&[Place::At { time: 5, after: false }, Place::Range { from: 0, to: 900 }]);
        broken.nodes.retain(|id, _| *id == 0);
        is_damaged(&load(&broken, &layout))
    };
    assert!(alter(&|root| root.entries[0].child = 0), "the root is below itself");
    assert!(alter(&|root| root.entries[0].child = root.entries[1].child), "a child of two");
    assert!(alter(&|root| root.entries[0].child = u32::MAX), "a child that never was");
    assert!(alter(&|root| root.entries[0].rows = 0), "an empty child");
    assert!(alter(&|root| root.entries.iter_mut().for_each(|entry| entry.rows = u64::MAX)));
    assert!(alter(&|root| root.entries.reverse()), "not in order");
    assert!(alter(&|root| root.entries.truncate(1)), "states without children");
    assert!(!alter(&|_| {}), "the root alone can be loaded");
}
