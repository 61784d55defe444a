//! Training: the windows of many label rows over one sorted run of events.
//!
//! 1. For every distinct frame the window `[lo, hi)` of every row is found by galloping from the
//!    row before (`windows`).
//! 2. For every distinct (aggregate, argument, filter) one kernel runs over the windows of each
//!    of its frames: sums are differences of prefix sums (`prefixed`), or slide where those do not
//!    fit machine words (`slide`); what cannot be taken back goes through a queue (`queue`);
//!    `min` and `max` keep a stack, counts are differences of prefix counts, first and last are an
//!    index (see `aggregate`).

mod input;
pub(crate) mod prefixed;
mod queue;
pub(crate) mod slide;
mod windows;

use std::ops::Range;

use arrow::array::ArrayRef;

use input::Shared;

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
    let frames = layout.frames();
    let mut windows: Vec<Option<Vec<Window>>> = vec![None; frames.len()];
    for &(_, frame) in &plans {
        if windows[frame].is_none() {
            let mut others = frames.iter().zip(&windows);
            let alike = others.find_map(|(other, windows)| {
                windows.as_deref().filter(|_| other.ends_like(&frames[frame]))
            });
            windows[frame] = Some(windows::find(&frames[frame], &events.times, rows, alike));
        }
    }
    let mut shared: Vec<(Columns, Shared)> = Vec::new();
    for &(measure, _) in &plans {
        let columns = columns(layout, measure);
        if !shared.iter().any(|(known, _)| *known == columns) {
            shared.push((columns, Shared::default()));
        }
    }
    let sweep = Sweep { layout, events, plans, windows, shared };
    let mut values: Vec<Option<ArrayRef>> = vec![None; calls.len()];
    for (at, &(measure, _)) in sweep.plans.iter().enumerate() {
        if values[at].is_none() {
            sweep.measure(measure, &mut values)?;
        }
    }
    let lost = Error::Internal("a call was not computed");
    values.into_iter().map(|array| array.ok_or(lost.clone())).collect()
}

/// The argument and the filter of a measure.
type Columns = (Option<usize>, Option<usize>);

fn columns(layout: &Layout, measure: usize) -> Columns {
    let measure = &layout.measures()[measure];
    (measure.argument, measure.filter)
}

/// What the kernels run over.
struct Sweep<'a> {
    layout: &'a Layout,
    events: &'a Events,
    /// For every call its measure and its frame.
    plans: Vec<(usize, usize)>,
    /// The windows of each frame that a call has.
    windows: Vec<Option<Vec<Window>>>,
    shared: Vec<(Columns, Shared)>,
}

impl Sweep<'_> {
    /// Computes every call of one measure.
    fn measure(&self, index: usize, values: &mut [Option<ArrayRef>]) -> Result<(), Error> {
        let of_measure = self.plans.iter().filter(|plan| plan.0 == index);
        let mut frames: Vec<usize> = of_measure.map(|plan| plan.1).collect();
        frames.sort_unstable();
        frames.dedup();
        let windows = |&frame: &usize| self.windows[frame].as_deref().unwrap_or(&[]);
        let lists: Vec<&[Window]> = frames.iter().map(windows).collect();
        let columns = columns(self.layout, index);
        let shared = self.shared.iter().find(|(known, _)| *known == columns);
        let (_, shared) = shared.ok_or(Error::Internal("a measure has columns"))?;
        let input = Input::new(self.events, columns.0, columns.1, shared)?;
        let aggregate = &self.layout.measures()[index].aggregate;
        for (frame, output) in frames.into_iter().zip(aggregate.sweep(&input, &lists)?) {
            let array = output.finish(&aggregate.meta().output)?;
            for (plan, value) in self.plans.iter().zip(values.iter_mut()) {
                if *plan == (index, frame) {
                    *value = Some(array.clone());
                }
            }
        }
        Ok(())
    }
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
