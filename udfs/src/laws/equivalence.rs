//! The one law: timeline, sweep and oracle agree, bit for bit, on random histories.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use proptest::prelude::*;

use super::datum::{self, Datum};
use super::{everything, oracle};
use crate::{
    Bound, Call, Error, Events, Frame, Interval, Layout, Outputs, SpineRow, Timeline, ValueList,
    retained_from, sweep,
};

const DAY: i64 = 86_400_000_000;

/// An event as it arrives: its position in the log is its index.
#[derive(Debug, Clone)]
struct Arrival {
    key: usize,
    time: i64,
    row: Vec<Option<Datum>>,
}

#[derive(Debug, Clone)]
struct Case {
    keys: usize,
    arrivals: Vec<Arrival>,
    frames: Vec<Frame>,
    /// (key, instant), mostly sorted; `None` is a NULL instant.
    spine: Vec<(usize, Option<i64>)>,
}

/// Every argument type, and two columns to filter by.
fn columns() -> Vec<DataType> {
    let mut columns = datum::types();
    columns.extend([DataType::Boolean, DataType::Boolean]);
    columns
}

/// Every aggregate, with frames and filters going round.
fn layout(frames: &[Frame]) -> Layout {
    let columns = columns();
    let filters = [None, Some(columns.len() - 2), None, Some(columns.len() - 1), None];
    let calls = everything().into_iter().enumerate().flat_map(|(i, aggregate)| {
        let argument = aggregate.argument();
        let argument = argument.and_then(|a| columns.iter().position(|column| column == a));
        let filter = filters[i % filters.len()];
        [0, 1].map(|more| Call {
            aggregate: aggregate.clone(),
            argument,
            filter,
            frame: frames[(i + more) % frames.len()],
        })
    });
    let calls = calls.collect();
    Layout::new(columns, calls).unwrap()
}

/// A run of events ordered by (key, time, position), and the range of each key.
fn run(arrivals: &[Arrival], keys: usize) -> (Events, Vec<std::ops::Range<usize>>, Vec<usize>) {
    let mut order: Vec<usize> = (0..arrivals.len()).collect();
    order.sort_by_key(|&at| (arrivals[at].key, arrivals[at].time, at));
    let ranges = (0..keys)
        .map(|key| {
            let start = order.partition_point(|&at| arrivals[at].key < key);
            start..order.partition_point(|&at| arrivals[at].key <= key)
        })
        .collect();
    let column = |(index, data_type): (usize, &DataType)| {
        let values: Vec<_> = order.iter().map(|&at| arrivals[at].row[index].clone()).collect();
        datum::array(data_type, &values)
    };
    let events = Events {
        times: order.iter().map(|&at| arrivals[at].time).collect(),
        positions: order.iter().map(|&at| at as u64).collect(),
        columns: columns().iter().enumerate().map(column).collect(),
    };
    (events, ranges, order)
}

/// What the call is as of an instant: sort, filter, loop.
fn judge(
    call: &Call,
    arrivals: &[Arrival],
    key: usize,
    instant: i64,
) -> Result<Option<Datum>, oracle::OutOfRange> {
    let mut seen: Vec<(i64, usize)> = arrivals
        .iter()
        .enumerate()
        .filter(|(_, arrival)| arrival.key == key && arrival.time <= instant)
        .map(|(position, arrival)| (arrival.time, position))
        .collect();
    seen.sort_unstable();
    let total = seen.len() as u64;
    let framed = seen.iter().enumerate().filter(|(i, (time, _))| match &call.frame {
        Frame::Range { start, end } => {
            let started = match start {
                Bound::Unbounded => true,
                Bound::Preceding(start) => start.before(instant) <= *time,
            };
            started && *time <= end.before(instant)
        }
        Frame::Rows { start, end } => {
            let number = total - 1 - *i as u64;
            *end <= number && start.is_none_or(|start| number <= start)
        }
    });
    let visible = framed
        .map(|(_, (_, position))| &arrivals[*position].row)
        .filter(|row| call.filter.is_none_or(|filter| row[filter] == Some(Datum::Bool(true))));
    let rows: Vec<Option<Datum>> =
        visible.map(|row| call.argument.and_then(|argument| row[argument].clone())).collect();
    oracle::aggregate(call.aggregate.meta(), &rows)
}

type Value = Result<Option<Datum>, oracle::OutOfRange>;

fn read_one(timeline: &Timeline, layout: &Layout, call: usize, instant: Option<i64>) -> Value {
    let mut out = Outputs::new(layout, &[call]);
    let listed = instant.map(|instant| read_value(timeline, layout, call, instant));
    match instant {
        None => out.append_null_row(),
        Some(instant) => match timeline.read(layout, instant, &[call], &mut out) {
            Ok(()) => {}
            Err(Error::OutOfRange { .. }) => {
                assert_eq!(listed, Some(Err(oracle::OutOfRange)));
                return Err(oracle::OutOfRange);
            }
            Err(error) => panic!("{error}"),
        },
    }
    let arrays = out.finish().unwrap();
    assert_eq!(arrays[0].data_type(), &layout.calls()[call].aggregate.output());
    let value = Ok(datum::datum(&arrays[0], 0));
    assert!(listed.is_none_or(|listed| listed == value), "a list is not as a column");
    value
}

/// The same from a list, in the kind that it is computed in.
fn read_value(timeline: &Timeline, layout: &Layout, call: usize, instant: i64) -> Value {
    let mut list = ValueList::with_capacity(1);
    match timeline.read_values(layout, instant, &[call], &mut list) {
        Ok(()) => Ok(datum::of_value(&list.as_slice()[0])),
        Err(Error::OutOfRange { .. }) => Err(oracle::OutOfRange),
        Err(error) => panic!("{error}"),
    }
}

fn check(case: &Case) {
    let layout = layout(&case.frames);
    let (events, ranges, order) = run(&case.arrivals, case.keys);
    let mut timelines: Vec<Timeline> = (0..case.keys).map(|_| Timeline::new(&layout)).collect();
    let mut sorted_at = vec![0; order.len()];
    order.iter().enumerate().for_each(|(row, &arrival)| sorted_at[arrival] = row);
    for (arrival, row) in case.arrivals.iter().zip(sorted_at) {
        timelines[arrival.key].insert(&layout, &events, row).unwrap();
    }
    for (timeline, range) in timelines.iter().zip(&ranges) {
        assert_eq!(timeline.len(), range.len());
        assert_eq!(timeline.first_time(), events.times[range.clone()].first().copied());
    }
    let spine = |(key, instant): &(usize, Option<i64>)| SpineRow {
        instant: *instant,
        events: ranges[*key].clone(),
    };
    let rows: Vec<SpineRow> = case.spine.iter().map(spine).collect();
    let mut in_range = Vec::new();
    for (index, call) in layout.calls().iter().enumerate() {
        let expected: Vec<Value> = case
            .spine
            .iter()
            .map(|(key, instant)| {
                instant.map_or(Ok(None), |t| judge(call, &case.arrivals, *key, t))
            })
            .collect();
        let swept = sweep(&layout, &[index], &events, &rows);
        let fails = expected.contains(&Err(oracle::OutOfRange));
        assert_eq!(swept.is_err(), fails, "{call:?} {swept:?}");
        for (row, (key, instant)) in case.spine.iter().enumerate() {
            let online = read_one(&timelines[*key], &layout, index, *instant);
            assert_eq!(online, expected[row], "online {call:?} as of {instant:?}");
            if let Ok(arrays) = &swept {
                let trained = Ok(datum::datum(&arrays[0], row));
                assert_eq!(trained, expected[row], "training {call:?} as of {instant:?}");
            }
        }
        if let Ok(mut arrays) = swept {
            in_range.push((index, arrays.remove(0)));
        }
    }
    check_together(&layout, &events, &rows, &in_range);
    check_retained(&layout, &events, &rows, &in_range);
}

/// All calls at once give the same as one by one.
fn check_together(
    layout: &Layout,
    events: &Events,
    rows: &[SpineRow],
    alone: &[(usize, ArrayRef)],
) {
    let calls: Vec<usize> = alone.iter().map(|(call, _)| *call).collect();
    let arrays = sweep(layout, &calls, events, rows).unwrap();
    for ((call, alone), together) in alone.iter().zip(&arrays) {
        assert_eq!(together.data_type(), &layout.calls()[*call].aggregate.output());
        for row in 0..rows.len() {
            assert_eq!(datum::datum(together, row), datum::datum(alone, row));
        }
    }
}

/// Later rows of a key need no event before `retained_from`.
fn check_retained(
    layout: &Layout,
    events: &Events,
    rows: &[SpineRow],
    alone: &[(usize, ArrayRef)],
) {
    let calls: Vec<usize> = alone.iter().map(|(call, _)| *call).collect();
    for split in 1..rows.len() {
        let (last, later) = (&rows[split - 1], &rows[split]);
        if last.events != later.events {
            continue;
        }
        // All calls together keep everything; each alone keeps what it needs.
        for (call, array) in alone {
            let from = retained_from(layout, &[*call], events, last);
            let mut row = later.clone();
            row.events.start = from;
            if later.instant < last.instant {
                continue;
            }
            let again = sweep(layout, &[*call], events, &[row]).unwrap();
            assert_eq!(datum::datum(&again[0], 0), datum::datum(array, split), "retained");
        }
        assert!(retained_from(layout, &calls, events, last) <= last.events.end);
    }
}

fn interval() -> impl Strategy<Value = Interval> {
    prop_oneof![
        Just(Interval::ZERO),
        (0..12_i64).prop_map(Interval::from_micros),
        (0..40_i32).prop_map(|days| Interval { months: 0, days, micros: 0 }),
        (0..3_i32, 0..3_i32).prop_map(|(months, days)| Interval { months, days, micros: 7 }),
        Just(Interval { months: 0, days: i32::MAX, micros: i64::MAX }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let range = (interval(), interval()).prop_map(|(a, b)| {
        let frame = Frame::Range { start: Bound::Preceding(a), end: b };
        if frame.validate().is_ok() {
            return frame;
        }
        Frame::Range { start: Bound::Preceding(b), end: a }
    });
    let rows = (0..7_u64, 0..7_u64)
        .prop_map(|(a, b)| Frame::Rows { start: Some(a.max(b)), end: a.min(b) });
    prop_oneof![
        4 => range,
        1 => interval().prop_map(|end| Frame::Range { start: Bound::Unbounded, end }),
        2 => rows,
        1 => Just(Frame::Rows { start: None, end: 2 }),
        1 => Just(Frame::Rows { start: Some(u64::MAX), end: 0 }),
    ]
}

/// Few microseconds with many ties, or days around the ends of months.
fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..30_i64,
        4 => (0..100_i64, 0..4_i64).prop_map(|(day, quarter)| (19_750 + day) * DAY + quarter * DAY / 4),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(-1)],
    ]
}

fn case(max_events: usize) -> impl Strategy<Value = Case> {
    let event = (0..3_usize, time(), any::<(u8, u64)>());
    let events = prop::collection::vec(event, 0..max_events);
    let spine = prop::collection::vec((0..4_usize, prop::option::weighted(0.9, time())), 1..12);
    let frames = prop::collection::vec(frame(), 1..6);
    let parts = (events, spine, frames, any::<bool>(), 0..4_u8);
    parts.prop_map(|(events, mut spine, frames, tame, unsorted)| {
        let arrivals = events
            .into_iter()
            .map(|(key, time, seed)| Arrival { key, time, row: make_row(seed, tame) })
            .collect();
        // Another order is slower, not wrong.
        if unsorted > 0 {
            spine.sort_unstable();
        }
        Case { keys: 4, arrivals, frames, spine }
    })
}

/// A row whose columns differ although they come from one seed.
fn make_row((choice, bits): (u8, u64), tame: bool) -> Vec<Option<Datum>> {
    let column = |(i, data_type): (usize, &DataType)| {
        let mixed = bits.rotate_left(i as u32 * 5).wrapping_mul(0x9e37_79b9_7f4a_7c15 | 1);
        datum::make(data_type, choice.wrapping_add(mixed as u8), mixed >> 1, tame)
    };
    columns().iter().enumerate().map(column).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn timeline_sweep_and_oracle_agree(case in case(40)) {
        check(&case);
    }
}

/// At the end of March, windows of one month step back within the clamped 28 February.
#[test]
fn windows_that_step_back() {
    let quarter = |from: i64, count: i64| (0..count).map(move |i| from * DAY + i * DAY / 4);
    // 2023-02-26 is day 19,414 and 2023-03-27 is day 19,443.
    let arrivals = quarter(19_414, 20).enumerate().map(|(i, time)| {
        let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Arrival { key: 0, time, row: make_row((i as u8 * 7, bits), true) }
    });
    let month = Interval { months: 1, days: 0, micros: 0 };
    let spine: Vec<_> = quarter(19_443, 24).map(|instant| (0, Some(instant))).collect();
    let narrow = Interval { months: 1, days: 1, micros: 0 };
    for start in [Bound::Unbounded, Bound::Preceding(narrow), Bound::Preceding(month)] {
        for end in [month, Interval { months: 0, days: 25, micros: 0 }, Interval::ZERO] {
            let frames = vec![Frame::Range { start, end }];
            let (arrivals, spine) = (arrivals.clone().collect(), spine.clone());
            check(&Case { keys: 1, arrivals, frames, spine });
        }
    }
}

mod long;
mod stored;
