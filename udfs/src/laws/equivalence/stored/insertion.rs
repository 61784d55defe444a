//! Batches of events go into the nodes of a store.

use super::*;

/// Loads where the events go, inserts them, writes back.
fn insert(store: &mut Store, layout: &Layout, bytes: &[u8]) -> usize {
    let found = store.find(&insert_places(layout, bytes).unwrap());
    let mut timeline = store.load_only(layout, &found);
    timeline.insert_encoded(layout, bytes).unwrap();
    store.write(layout, &mut timeline)
}

/// With too little loaded, an insertion changes nothing. Returns whether it was too little.
fn try_insert(store: &Store, layout: &Layout, found: &BTreeSet<u32>, bytes: &[u8]) -> bool {
    let mut timeline = store.load_only(layout, found);
    let before = timeline.len();
    match timeline.insert_encoded(layout, bytes) {
        Ok(()) => false,
        Err(Error::NotLoaded { from, to }) => {
            assert!(from <= to);
            assert_eq!(timeline.len(), before);
            assert_eq!(timeline.take_changes(layout).unwrap(), (vec![], vec![]));
            true
        }
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_store_is_as_a_timeline_in_memory(
        batches in history(9),
        frames in frames(),
        instants in instants(),
    ) {
        let layout = some_layout(&frames);
        let events = events_of(&batches.concat());
        let (mut memory, mut store) = (Timeline::new(&layout), Store::default());
        let mut start = 0;
        for batch in &batches {
            let rows = rows(start..start + batch.len());
            start += batch.len();
            let bytes = encode(&layout, &events, &rows);
            let root = BTreeSet::from([0]);
            prop_assert_eq!(try_insert(&store, &layout, &root, &bytes), store.nodes.len() > 1);
            let first = store.find(&insert_places(&layout, &bytes).unwrap()[..1]);
            let all = store.find(&insert_places(&layout, &bytes).unwrap());
            prop_assert_eq!(try_insert(&store, &layout, &first, &bytes), first != all);
            insert(&mut store, &layout, &bytes);
            memory.insert_rows(&layout, &events, &rows).unwrap();
        }
        let loaded = store.load(&layout);
        prop_assert_eq!(loaded.first_time(), memory.first_time());
        assert_same(&layout, &loaded, &memory, &instants);
        // In memory or not, the tree is the same.
        let mut exported = Store::default();
        exported.write(&layout, &mut memory);
        prop_assert_eq!(exported.nodes.len(), store.nodes.len());
        assert_same(&layout, &exported.load(&layout), &memory, &instants);
    }
}

#[test]
fn an_event_writes_its_path() {
    let layout = some_layout(&[Frame::latest()]);
    let arrivals: Vec<_> = (0..3_000).map(|i| (i, (i as u8, i as u64 * 77))).collect();
    let events = events_of(&arrivals);
    let mut store = Store::default();
    insert(&mut store, &layout, &encode(&layout, &events, &rows(0..2_900)));
    assert!(store.nodes.len() > 30);
    let written: Vec<usize> = (2_900..3_000)
        .map(|row| insert(&mut store, &layout, &encode(&layout, &events, &rows(row..row + 1))))
        .collect();
    // 23 full leaves, four of a node: a leaf and two inner nodes; more if the path splits.
    assert_eq!(written.iter().copied().min(), Some(4), "{written:?}");
    assert!(written.iter().all(|nodes| *nodes <= 6), "{written:?}");
}

#[test]
fn a_timeline_without_nodes_is_empty() {
    let layout = some_layout(&[Frame::latest()]);
    let mut timeline = Store::default().load(&layout);
    assert!(timeline.is_empty());
    assert_eq!(timeline.take_changes(&layout).unwrap(), (vec![], vec![]));
    timeline.insert_encoded(&layout, &[]).unwrap();
    assert!(timeline.is_empty());
}
