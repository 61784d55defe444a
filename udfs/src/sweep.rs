//! Training: the windows of many label rows over one sorted run of events.
//!
//! 1. For every distinct frame the window `[lo, hi)` of every row is found by galloping from the
//!    row before (`windows`).
//! 2. For every distinct (aggregate, argument, filter) one kernel runs over the windows of each
//!    of its frames: sums slide (`slide`), what cannot be taken back goes
//!    through a queue (`queue`), `min` and `max` keep a deque, counts are differences
//!    of prefix counts, first and last are an index (see `aggregate`).

mod input;
mod queue;
pub(crate) mod slide;
mod windows;

use std::ops::Range;

use arrow::array::ArrayRef;

pub use input::Input;
pub use windows::Window;

use crate::error::Error;
use crate::layout::{Events, Layout};

/// One spine row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpineRow {
    /// As of when; `None`, for a NULL instant or a NULL key, makes every value NULL, counts too.
    pub instant: Option<i64>,
    /// The events of the row's key: a range of the run; empty for a key without events.
    pub events: Range<usize>,
}

/// The values of `calls` (indices into the layout) as of every row: one array per call.
///
/// Rows are ordered by (key, instant) and events by (key, time, position). Rows in another order
/// give the same values, only slower.
///
/// # Errors
///
/// `OutOfRange` if a sum does not fit its type; the others say that the arguments do not fit
/// together.
pub fn sweep(
    layout: &Layout,
    calls: &[usize],
    events: &Events,
    rows: &[SpineRow],
) -> Result<Vec<ArrayRef>, Error> {
    events.check(layout)?;
    if !u32::try_from(events.len()).is_ok_and(|len| len < u32::MAX) {
        return Err(Error::TooManyEvents { len: events.len() });
    }
    let ends = rows.iter().map(|row| row.events.start.max(row.events.end));
    if let Some(end) = ends.max().filter(|&end| end > events.len()) {
        return Err(Error::OutsideRun { end, len: events.len() });
    }
    let plans = calls.iter().map(|&call| layout.plan(call)).collect::<Result<Vec<_>, _>>()?;
    let mut windows: Vec<Option<Vec<Window>>> = vec![None; layout.frames().len()];
    for &(_, frame) in &plans {
        if windows[frame].is_none() {
            windows[frame] = Some(windows::find(&layout.frames()[frame], &events.times, rows));
        }
    }
    let mut values: Vec<Option<ArrayRef>> = vec![None; calls.len()];
    for (at, &(measure, _)) in plans.iter().enumerate() {
        if values[at].is_none() {
            sweep_measure(layout, events, measure, &plans, &windows, &mut values)?;
        }
    }
    let lost = Error::Internal("a call was not computed");
    values.into_iter().map(|array| array.ok_or(lost.clone())).collect()
}

/// Computes every call of one measure.
fn sweep_measure(
    layout: &Layout,
    events: &Events,
    measure: usize,
    plans: &[(usize, usize)],
    windows: &[Option<Vec<Window>>],
    values: &mut [Option<ArrayRef>],
) -> Result<(), Error> {
    let mut frames: Vec<usize> =
        plans.iter().filter(|plan| plan.0 == measure).map(|plan| plan.1).collect();
    frames.sort_unstable();
    frames.dedup();
    let lists: Vec<&[Window]> =
        frames.iter().map(|&frame| windows[frame].as_deref().unwrap_or(&[])).collect();
    let measure_index = measure;
    let measure = &layout.measures()[measure];
    let input = Input::new(events, measure.argument, measure.filter)?;
    let outputs = measure.aggregate.sweep(&input, &lists)?;
    for (frame, output) in frames.into_iter().zip(outputs) {
        let array = output.finish(&measure.aggregate.meta().output)?;
        for (plan, value) in plans.iter().zip(values.iter_mut()) {
            if *plan == (measure_index, frame) {
                *value = Some(array.clone());
            }
        }
    }
    Ok(())
}

/// The first event of the run that any of `calls` may still need for a later row of the last
/// row's key; a caller may drop the events of the key before it.
///
/// A later row has the same or a later instant. For calendar months, which may step back within
/// a clamped day, the answer is the beginning of that day's window.
pub fn retained_from(
    layout: &Layout,
    calls: &[usize],
    events: &Events,
    last_row: &SpineRow,
) -> usize {
    let range = last_row.events.start..last_row.events.end.min(events.len());
    let Some(instant) = last_row.instant else { return range.start };
    let needed = calls.iter().map(|&call| match layout.plan(call) {
        Ok((_, frame)) => {
            let frame = &layout.frames()[frame];
            windows::retained(frame, &events.times, range.clone(), instant)
        }
        Err(_) => range.start,
    });
    needed.min().unwrap_or(range.end)
}
