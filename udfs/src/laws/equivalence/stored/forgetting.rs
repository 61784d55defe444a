//! Dropped events do not change a value; a window that may miss some is refused.

use super::*;

/// Whether a window may see events before `kept_from`. `times` are those of all events ever.
fn reaches(frame: &Frame, times: &[i64], instant: i64, kept_from: i64) -> bool {
    match frame {
        _ if kept_from == i64::MIN => false,
        Frame::Range { start: Bound::Unbounded, .. } => true,
        Frame::Range { start: Bound::Preceding(start), .. } => start.before(instant) < kept_from,
        Frame::Rows { start, .. } => {
            let kept = times.iter().filter(|time| kept_from <= **time && **time <= instant);
            start.is_none_or(|start| kept.count() as u64 <= start)
        }
    }
}

/// A timeline that forgot gives what `whole` gives, or refuses. Returns how often it does either.
fn compare(
    layout: &Layout,
    forgot: &Timeline,
    whole: &Timeline,
    (times, instants): (&[i64], &[i64]),
) -> [usize; 2] {
    let mut counts = [0, 0];
    let kept_from = forgot.kept_from();
    for &instant in instants {
        for (index, call) in layout.calls().iter().enumerate() {
            let read = ask(forgot, layout, index, instant);
            if reaches(&call.frame, times, instant, kept_from) {
                assert_eq!(read, Err(Error::Forgotten { kept_from }), "{call:?} {instant}");
                counts[0] += 1;
            } else {
                assert_eq!(read, ask(whole, layout, index, instant), "{call:?} {instant}");
                counts[1] += 1;
            }
        }
    }
    counts
}

/// Forgets with no more loaded than is asked for.
fn forget(store: &mut Store, layout: &Layout, time: i64) {
    let mut places = vec![Place::At { time, after: false }];
    for _ in 0..20 {
        let mut timeline = store.load_only(layout, &store.find(&places));
        match timeline.forget_before(time) {
            Ok(()) => {
                store.write(layout, &mut timeline);
                return;
            }
            Err(Error::NotLoaded { from, to }) => {
                assert_eq!(timeline.take_changes(layout).unwrap(), (vec![], vec![]));
                places.push(Place::Range { from, to });
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("forgetting asks for more and more");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_kept_is_right(
        batches in history(9),
        later in batch(150),
        before in prop::collection::vec(prop_oneof![9 => -5..910_i64, 1 => Just(i64::MAX)], 1..3),
        frames in frames(),
        instants in instants(),
    ) {
        let layout = some_layout(&frames);
        let arrivals: Vec<_> = batches.into_iter().flatten().chain(later.clone()).collect();
        let events = events_of(&arrivals);
        let old = arrivals.len() - later.len();
        let mut whole = Timeline::new(&layout);
        whole.insert_rows(&layout, &events, &rows(0..old)).unwrap();
        let (mut memory, mut store) = (Timeline::new(&layout), Store::default());
        memory.insert_rows(&layout, &events, &rows(0..old)).unwrap();
        store.write(&layout, &mut store_copy(&layout, &events, old));
        for &time in &before {
            memory.forget_before(time).unwrap();
            forget(&mut store, &layout, time);
        }
        let kept_from = memory.kept_from();
        assert!(kept_from == i64::MIN || before.contains(&kept_from));
        let check = |forgot: &Timeline, whole: &Timeline, times: &[i64]| {
            compare(&layout, forgot, whole, (times, &instants));
        };
        check(&memory, &whole, &events.times[..old]);
        let loaded = store.load(&layout);
        assert_eq!((loaded.kept_from(), loaded.len()), (kept_from, memory.len()));
        check(&loaded, &whole, &events.times[..old]);
        // Events go on arriving, late ones too.
        let (mut loaded, more) = (loaded, rows(old..arrivals.len()));
        for timeline in [&mut whole, &mut memory, &mut loaded] {
            timeline.insert_rows(&layout, &events, &more).unwrap();
        }
        check(&memory, &whole, &events.times);
        check(&loaded, &whole, &events.times);
        store.write(&layout, &mut loaded);
        check(&store.load(&layout), &whole, &events.times);
    }
}

fn store_copy(layout: &Layout, events: &Events, old: usize) -> Timeline {
    let mut timeline = Timeline::new(layout);
    timeline.insert_rows(layout, events, &rows(0..old)).unwrap();
    timeline
}

#[test]
fn whole_leaves_are_dropped() {
    let start = Bound::Preceding(Interval::from_micros(700));
    let layout = some_layout(&[
        Frame::Range { start, end: Interval::ZERO },
        Frame::Rows { start: Some(500), end: 2 },
    ]);
    let arrivals: Vec<_> = (0..3_000).map(|i| (i, (i as u8, i as u64 * 77))).collect();
    let events = events_of(&arrivals);
    let (whole, mut timeline) =
        (store_copy(&layout, &events, 3_000), store_copy(&layout, &events, 3_000));
    // The first leaf ends at 127.
    timeline.forget_before(127).unwrap();
    assert_eq!((timeline.len(), timeline.kept_from()), (3_000, i64::MIN));
    timeline.forget_before(1_920).unwrap();
    assert_eq!((timeline.len(), timeline.kept_from()), (3_000 - 15 * 128, 1_920));
    assert_eq!(timeline.first_time(), Some(15 * 128));
    // As of 2,620 the window is all that was kept up to then.
    let instants = (2_320..3_000).step_by(50).collect::<Vec<_>>();
    let [refused, read] = compare(&layout, &timeline, &whole, (&events.times, &instants));
    assert!(refused > 50 && read > 50, "{refused} {read}");
    // With everything gone, what is known stays known.
    timeline.forget_before(9_000).unwrap();
    let mut store = Store::default();
    store.write(&layout, &mut timeline);
    assert_eq!(store.nodes.len(), 1);
    let loaded = store.load(&layout);
    assert!(loaded.is_empty());
    assert_eq!(ask(&loaded, &layout, 0, 9_001), Err(Error::Forgotten { kept_from: 9_000 }));
    assert_eq!(ask(&loaded, &layout, 0, 9_700), Ok(Some(Datum::Int(0))));
}
