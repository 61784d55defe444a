//! A read with no more than its places loaded, and events laid over, is as one of everything.

use super::*;

/// Reads calls as a store would; `needed` gets the nodes that were loaded.
fn read(
    store: &Store,
    layout: &Layout,
    (calls, as_of): (&[usize], AsOf),
    (tail, tail_rows): (&[u8], u64),
    needed: &mut BTreeSet<u32>,
) -> Result<Vec<Option<Datum>>, Error> {
    // Only these may have to look further than the ends of a window.
    let searches = |call: &usize| {
        let call = &layout.calls()[*call];
        call.aggregate.name().ends_with("_value")
            && (call.filter.is_some() || call.aggregate.meta().ignore_nulls)
    };
    let mut places = Timeline::places(layout, as_of, calls, tail_rows).unwrap();
    for _ in 0..20 {
        let found = store.find(&places);
        let mut timeline = match calls.len() {
            1 => store.load_calls(layout, calls, &found),
            _ => store.load_only(layout, &found),
        };
        timeline.overlay(layout, tail).unwrap();
        let mut out = Outputs::new(layout, calls);
        match timeline.read(layout, as_of, calls, &mut out) {
            Err(Error::NotLoaded { from, to }) => {
                assert!(calls.iter().any(searches), "places of {calls:?} do not suffice");
                assert!(out.finish()?.iter().all(|array| array.is_empty()), "half a row");
                places.push(Place::Range { from, to });
                let more = store.find(&places);
                assert!(more.len() > found.len(), "{from}..={to} loads nothing new");
            }
            result => {
                needed.extend(found);
                result?;
                return Ok(out.finish()?.iter().map(|array| datum::datum(array, 0)).collect());
            }
        }
    }
    panic!("a read asks for more and more");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn places_and_an_overlay_are_enough(
        batches in history(9),
        mut tail in batch(40),
        later in prop_oneof![Just(0), 300..900_i64],
        frames in frames(),
        instants in instants(),
        apart in any::<bool>(),
    ) {
        let layout = some_layout(&frames);
        tail.iter_mut().for_each(|(time, _)| *time = time.saturating_add(later));
        let arrivals: Vec<_> = batches.into_iter().flatten().chain(tail.clone()).collect();
        let events = events_of(&arrivals);
        let stored = rows(0..arrivals.len() - tail.len());
        let laid_over = rows(stored.len()..arrivals.len());
        let (mut memory, mut store) = (Timeline::new(&layout), Store::default());
        memory.insert_rows(&layout, &events, &stored).unwrap();
        store.write(&layout, &mut memory);
        memory.insert_rows(&layout, &events, &laid_over).unwrap();
        let bytes = encode(&layout, &events, &laid_over);
        let tail = (bytes.as_slice(), laid_over.len() as u64);
        let all: Vec<usize> = (0..layout.calls().len()).collect();
        for &instant in &instants {
            let expected: Vec<_> =
                all.iter().map(|&call| ask(&memory, &layout, call, instant)).collect();
            if apart {
                for &call in &all {
                    let asked = (&[call][..], instant.into());
                    let value = read(&store, &layout, asked, tail, &mut BTreeSet::new());
                    let value = value.map(|values| values[0].clone());
                    assert_eq!(value, expected[call], "{:?} {instant}", layout.calls()[call]);
                }
            } else if let Ok(expected) = expected.into_iter().collect::<Result<Vec<_>, _>>() {
                let values = read(&store, &layout, (&all, instant.into()), tail, &mut BTreeSet::new());
                assert_eq!(values, Ok(expected), "as of {instant}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What has expired is as if it had never been, whether or not it was forgotten, in memory as
    /// in a store of which no more than the places is loaded.
    #[test]
    fn expired_events_are_as_if_they_had_never_been(
        batches in history(9),
        tail in batch(40),
        frames in frames(),
        instants in instants(),
        kept_from in prop_oneof![4 => -5..910_i64, 1 => 900..1_500_i64],
        forgets in any::<bool>(),
    ) {
        let layout = some_layout(&frames);
        let arrivals: Vec<_> = batches.into_iter().flatten().chain(tail.clone()).collect();
        let events = events_of(&arrivals);
        let all = rows(0..arrivals.len());
        let (stored, laid_over) = all.split_at(arrivals.len() - tail.len());
        let kept: Vec<u32> =
            all.iter().copied().filter(|row| arrivals[*row as usize].0 >= kept_from).collect();
        let mut rest = Timeline::new(&layout);
        rest.insert_rows(&layout, &events, &kept).unwrap();
        let (mut memory, mut store) = (Timeline::new(&layout), Store::default());
        memory.insert_rows(&layout, &events, stored).unwrap();
        if forgets {
            memory.forget_before(kept_from - 7).unwrap();
        }
        store.write(&layout, &mut memory);
        memory.insert_rows(&layout, &events, laid_over).unwrap();
        let bytes = encode(&layout, &events, laid_over);
        let tail = (bytes.as_slice(), laid_over.len() as u64);
        for &instant in &instants {
            let as_of = AsOf { instant, kept_from };
            let some = arrivals.iter().any(|(time, _)| (kept_from..=instant).contains(time));
            assert_eq!(memory.has_events(as_of), Ok(some));
            let mut loaded = store.load_only(&layout, &store.find(&as_of.places()));
            loaded.overlay(&layout, &bytes).unwrap();
            assert_eq!(loaded.has_events(as_of), Ok(some));
            for call in 0..layout.calls().len() {
                let expected = ask(&rest, &layout, call, instant);
                let mut out = Outputs::new(&layout, &[call]);
                let read_all = memory.read(&layout, as_of, &[call], &mut out);
                let value = read_all.and_then(|()| Ok(datum::datum(&out.finish()?[0], 0)));
                assert_eq!(value, expected, "{:?} {as_of:?}", layout.calls()[call]);
                let asked = (&[call][..], as_of);
                let value = read(&store, &layout, asked, tail, &mut BTreeSet::new());
                let value = value.map(|values| values[0].clone());
                assert_eq!(value, expected, "stored: {:?} {as_of:?}", layout.calls()[call]);
            }
        }
    }
}

fn long_store(layout: &Layout, events: i64) -> Store {
    let arrivals: Vec<_> = (0..events).map(|i| (i, (i as u8, i as u64 * 77))).collect();
    let mut timeline = Timeline::new(layout);
    timeline.insert_rows(layout, &events_of(&arrivals), &rows(0..arrivals.len())).unwrap();
    let mut store = Store::default();
    store.write(layout, &mut timeline);
    store
}

#[test]
fn a_window_needs_the_paths_to_its_ends() {
    let start = Bound::Preceding(Interval::from_micros(2_000));
    let layout = some_layout(&[Frame::Range { start, end: Interval::ZERO }]);
    let store = long_store(&layout, 4_000);
    let name =
        |name: &str, call: &Call| call.aggregate.name() == name && !call.aggregate.meta().distinct;
    let call = |n: &str| layout.calls().iter().position(|call| name(n, call)).unwrap();
    for (call, most) in [(call("sum"), 8), (call("first_value"), 8), (call("last_value"), 9)] {
        let mut needed = BTreeSet::new();
        read(&store, &layout, (&[call], 3_300.into()), (&[], 0), &mut needed).unwrap();
        // The root, two leaves, the inner nodes above them; for the last event maybe one more.
        assert!(needed.len() <= most, "{needed:?}");
        assert!(needed.len() < store.nodes.len() / 4);
    }
}

#[test]
fn a_read_without_its_places_is_refused() {
    let start = Bound::Preceding(Interval::from_micros(2_000));
    let layout = some_layout(&[Frame::Range { start, end: Interval::ZERO }]);
    let store = long_store(&layout, 4_000);
    let timeline = store.load_only(&layout, &BTreeSet::from([0]));
    for call in 0..layout.calls().len() {
        let read = ask(&timeline, &layout, call, 3_300);
        assert!(matches!(read, Err(Error::NotLoaded { from, to }) if from <= 3_300 && to >= 1_300));
    }
    assert_eq!(timeline.len(), 4_000);
    assert_eq!((timeline.first_time(), timeline.last_time()), (None, Some(3_999)));
}

#[test]
fn a_timeline_laid_over_is_not_written() {
    let layout = some_layout(&[Frame::latest()]);
    let store = long_store(&layout, 1_000);
    let mut timeline = store.load_only(&layout, &BTreeSet::from([0]));
    let bytes = encode(&layout, &events_of(&[(5, (1, 1))]), &[0]);
    timeline.overlay(&layout, &bytes).unwrap();
    assert_eq!(timeline.len(), 1_001);
    assert_eq!(timeline.take_changes(&layout), Err(Error::ReadOnly));
    assert_eq!(timeline.forget_before(500), Err(Error::ReadOnly));
}

#[test]
fn a_timeline_loaded_for_calls_has_no_others() {
    let layout = some_layout(&[Frame::latest()]);
    let store = long_store(&layout, 1_000);
    let ids = store.nodes.keys().copied().collect();
    let mut timeline = store.load_calls(&layout, &[0, 3], &ids);
    for call in 0..layout.calls().len() {
        let read = ask(&timeline, &layout, call, 900);
        assert_eq!(read.is_ok(), [0, 3].contains(&call), "{call} {read:?}");
    }
    assert_eq!(ask(&timeline, &layout, 0, 900), Ok(Some(Datum::Int(901))));
    assert_eq!(timeline.take_changes(&layout), Err(Error::ReadOnly));
    let mut nothing = |_| None;
    let missing = Timeline::load_calls(&layout, &[99], &mut nothing);
    assert!(matches!(missing, Err(Error::NoSuchCall { index: 99, .. })));
}
