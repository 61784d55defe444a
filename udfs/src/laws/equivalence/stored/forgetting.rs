//! Dropped events do not change a value; a window that may miss some is refused.

use super::*;

const HOUR: i64 = DAY / 24;

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
        for expired in [i64::MIN, 300, kept_from.saturating_sub(1), kept_from] {
            let as_of = AsOf { instant, kept_from: expired };
            match forgot.has_events(as_of) {
                Err(error) => {
                    assert_eq!(error, Error::Forgotten { kept_from });
                    assert!(instant < kept_from, "{as_of:?}");
                }
                known => assert_eq!(known, whole.has_events(as_of), "{as_of:?}"),
            }
        }
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

/// Forgets with no more loaded than what may become the only leaf, and what is asked for.
fn forget(store: &mut Store, layout: &Layout, time: i64) -> bool {
    let last = Place::Insert { time: i64::MAX, position: u64::MAX };
    let mut places = vec![Place::At { time, after: false }, last];
    for _ in 0..20 {
        let mut timeline = store.load_only(layout, &store.find(&places));
        match timeline.forget_before(time) {
            Ok(gone) => {
                let count = store.write(layout, &mut timeline);
                assert_eq!(gone, count > 0);
                return gone;
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
            let kept = memory.len();
            let gone = memory.forget_before(time).unwrap();
            assert_eq!(gone, memory.len() < kept);
            let old = Place::Range { from: i64::MIN, to: time - 1 };
            let mut some = store.load_only(&layout, &store.find(&[old]));
            assert_eq!(some.forget_before(time), Ok(gone), "no more is needed");
            assert_eq!((some.len(), some.kept_from()), (memory.len(), memory.kept_from()));
            assert_eq!(forget(&mut store, &layout, time), gone);
            assert_eq!(memory.forget_before(time), Ok(false), "nothing more goes");
        }
        let kept_from = memory.kept_from();
        assert!(kept_from <= before.iter().copied().fold(i64::MIN, i64::max));
        assert_eq!(memory.last_time(), whole.last_time(), "the last event stays");
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
    assert_eq!(timeline.forget_before(127), Ok(false));
    assert_eq!((timeline.len(), timeline.kept_from()), (3_000, i64::MIN));
    assert_eq!(timeline.forget_before(1_920), Ok(true));
    assert_eq!((timeline.len(), timeline.kept_from()), (3_000 - 15 * 128, 1_920));
    assert_eq!(timeline.first_time(), Some(15 * 128));
    // As of 2,620 the window is all that was kept up to then.
    let instants = (2_320..3_000).step_by(50).collect::<Vec<_>>();
    let [refused, read] = compare(&layout, &timeline, &whole, (&events.times, &instants));
    assert!(refused > 50 && read > 50, "{refused} {read}");
    // With everything old, the last event stays, and what is known stays known.
    assert_eq!(timeline.forget_before(9_000), Ok(true));
    let mut store = Store::default();
    store.write(&layout, &mut timeline);
    assert_eq!(store.nodes.len(), 1);
    let loaded = store.load(&layout);
    assert_eq!((loaded.len(), loaded.first_time()), (1, Some(2_999)));
    assert_eq!(ask(&loaded, &layout, 0, 3_698), Err(Error::Forgotten { kept_from: 2_999 }));
    assert_eq!(ask(&loaded, &layout, 0, 3_699), Ok(Some(Datum::Int(1))));
    assert_eq!(ask(&loaded, &layout, 0, 3_700), Ok(Some(Datum::Int(0))));
    assert_eq!(loaded.has_events(9_001.into()), Ok(true));
    assert_eq!(loaded.has_events(2_998.into()), Ok(true));
    assert_eq!(loaded.has_events(2_997.into()), Err(Error::Forgotten { kept_from: 2_999 }));
}

#[test]
fn a_single_leaf_drops_rows() {
    let layout = some_layout(&[Frame::latest()]);
    let arrivals = [(5, (1, 10)), (7, (2, 20)), (7, (3, 30)), (100, (4, 40))];
    let mut timeline = store_copy(&layout, &events_of(&arrivals), 4);
    assert_eq!(timeline.forget_before(5), Ok(false));
    assert_eq!(timeline.forget_before(50), Ok(true));
    assert_eq!((timeline.len(), timeline.kept_from(), timeline.first_time()), (1, 8, Some(100)));
    assert_eq!(timeline.forget_before(50), Ok(false));
    // Between what went and what stayed, what went is known; if it has expired, that, too.
    assert_eq!(timeline.has_events(60.into()), Ok(true));
    assert_eq!(timeline.has_events(AsOf { instant: 60, kept_from: 7 }), Ok(true));
    assert_eq!(timeline.has_events(AsOf { instant: 60, kept_from: 8 }), Ok(false));
    assert_eq!(timeline.has_events(6.into()), Err(Error::Forgotten { kept_from: 8 }));
    assert_eq!(timeline.forget_before(i64::MAX), Ok(false), "the last event stays");
}

/// What some calls cannot look at any more, is dropped: they never notice.
#[test]
fn what_no_call_can_reach_is_not_missed() {
    let range = |start| Frame::Range { start: Bound::Preceding(start), end: Interval::ZERO };
    let month = Interval { months: 1, days: 0, micros: 0 };
    let (week, hour) = (Interval { months: 0, days: 7, micros: 0 }, Interval::from_micros(HOUR));
    let layout = some_layout(&[range(month), range(week), range(hour), Frame::latest()]);
    // From 2023-01-22 on, an event an hour.
    let start = 19_379 * DAY;
    let arrivals: Vec<_> =
        (0..1_800).map(|i| (start + i * HOUR, (i as u8, i as u64 * 77))).collect();
    let events = events_of(&arrivals);
    let whole = store_copy(&layout, &events, arrivals.len());
    let kinds = layout.calls().len() / 4;
    for calls in [0..2 * kinds, kinds..3 * kinds, 2 * kinds..3 * kinds] {
        let calls: Vec<usize> = calls.collect();
        let mut timeline = store_copy(&layout, &events, arrivals.len());
        let mut dropped = 0;
        // Around the end of March, months step back.
        for instant in (start + 60 * DAY..start + 75 * DAY).step_by(5 * HOUR as usize) {
            let earliest = layout.earliest(&calls, instant);
            assert!(earliest <= layout.earliest(&calls, instant + HOUR));
            dropped += usize::from(timeline.forget_before(earliest).unwrap());
            for later in [instant, instant + HOUR, instant + DAY] {
                for &call in &calls {
                    let answer = ask(&timeline, &layout, call, later);
                    assert_eq!(answer, ask(&whole, &layout, call, later), "{call} {later}");
                }
            }
        }
        assert!(dropped > 1, "{dropped}");
    }
    let all: Vec<usize> = (0..layout.calls().len()).collect();
    assert_eq!(layout.earliest(&all, start), i64::MIN, "an unbounded frame");
    assert_eq!(layout.earliest(&[all.len()], start), i64::MIN, "no such call");
    assert_eq!(layout.earliest(&[], start), start);
    assert_eq!(layout.earliest(&[0], i64::MIN), i64::MIN);
}
