//! Keys with thousands of events, which split chunks and build a hierarchy of states.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;

fn history(seed: u64, events: usize, tame: bool) -> (StdRng, Vec<Arrival>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let arrivals = (0..events)
        .map(|i| {
            let time = i as i64 / 3 * (DAY / 8) + rng.random_range(0..2);
            Arrival { key: 0, time, row: make_row(rng.random(), tame) }
        })
        .collect();
    (rng, arrivals)
}

fn long_frames() -> Vec<Frame> {
    let days = |days| Interval { months: 0, days, micros: 0 };
    let month = |months| Interval { months, days: 0, micros: 0 };
    vec![
        Frame::latest(),
        Frame::Range { start: Bound::Preceding(days(90)), end: Interval::ZERO },
        Frame::Range { start: Bound::Preceding(month(3)), end: month(1) },
        Frame::Rows { start: Some(1500), end: 3 },
        Frame::Rows { start: Some(130), end: 0 },
        Frame::Range { start: Bound::Preceding(month(1)), end: Interval::ZERO },
    ]
}

/// The oracle is slow, so it judges a few instants; the sweep judges the timeline at many more.
fn check_long(mut rng: StdRng, arrivals: Vec<Arrival>) {
    let last = arrivals.iter().map(|arrival| arrival.time).max().unwrap_or(0);
    let mut spine: Vec<_> = (0..3).map(|_| (0, Some(rng.random_range(0..=last + DAY)))).collect();
    spine.sort_unstable();
    let case = Case { keys: 1, arrivals, frames: long_frames(), spine };
    check(&case);

    let layout = layout(&case.frames);
    let (events, ranges, order) = run(&case.arrivals, 1);
    let mut arrived: Vec<u32> = (0..order.len() as u32).collect();
    arrived.sort_by_key(|&row| order[row as usize]);
    let mut timeline = Timeline::new(&layout);
    timeline.insert_rows(&layout, &events, &arrived).unwrap();
    let mut instants: Vec<i64> = (0..150).map(|_| rng.random_range(0..=last + DAY)).collect();
    instants.sort_unstable();
    let rows: Vec<SpineRow> = instants
        .iter()
        .map(|&instant| SpineRow { instant: Some(instant), events: ranges[0].clone() })
        .collect();
    let fits = |call: &usize| sweep(&layout, &[*call], &events, &rows).is_ok();
    let calls: Vec<usize> = (0..layout.calls().len()).filter(fits).collect();
    let swept = sweep(&layout, &calls, &events, &rows).unwrap();
    let mut out = Outputs::new(&layout, &calls);
    for &instant in &instants {
        timeline.read(&layout, instant, &calls, &mut out).unwrap();
    }
    for ((call, swept), online) in calls.iter().zip(&swept).zip(&out.finish().unwrap()) {
        for (row, instant) in instants.iter().enumerate() {
            let call = &layout.calls()[*call];
            let (swept, online) = (datum::datum(swept, row), datum::datum(online, row));
            assert_eq!(swept, online, "{call:?} as of {instant}");
        }
    }
}

#[test]
fn events_in_order() {
    let (rng, arrivals) = history(1, 4_000, true);
    check_long(rng, arrivals);
}

#[test]
fn events_shuffled() {
    let (mut rng, mut arrivals) = history(2, 4_000, true);
    arrivals.shuffle(&mut rng);
    check_long(rng, arrivals);
}

#[test]
fn events_reversed_and_wild() {
    let (rng, mut arrivals) = history(3, 2_500, false);
    arrivals.reverse();
    check_long(rng, arrivals);
}

#[test]
fn events_nearly_in_order() {
    let (mut rng, mut arrivals) = history(4, 3_000, true);
    for window in arrivals.chunks_mut(300) {
        if rng.random_bool(0.5) {
            window.shuffle(&mut rng);
        }
    }
    check_long(rng, arrivals);
}
