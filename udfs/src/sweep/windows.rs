//! The window of every row: half-open ranges of the run.

use std::ops::Range;

use super::SpineRow;
use crate::frame::{Bound, Frame};

/// The events `lo..hi` of a run; `lo > hi` says that the row is NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first event.
    pub lo: u32,
    /// One past the last event.
    pub hi: u32,
}

/// The rows by which two windows differ.
pub(crate) struct Step {
    /// Rows of the first that are not in the second.
    pub(crate) removed: [Range<usize>; 2],
    /// Rows of the second that are not in the first.
    pub(crate) inserted: [Range<usize>; 2],
}

impl Window {
    /// A window before everything.
    pub(crate) const EMPTY: Window = Window { lo: 0, hi: 0 };
    const NULL: Window = Window { lo: 1, hi: 0 };

    /// Whether the row is NULL rather than its window empty.
    #[inline]
    pub(crate) fn is_null(self) -> bool {
        self.lo > self.hi
    }

    #[inline]
    pub(crate) fn len(self) -> u32 {
        self.hi - self.lo
    }

    #[inline]
    pub(crate) fn rows(self) -> Range<usize> {
        self.lo as usize..self.hi as usize
    }

    /// How many rows `step_to` has; none of the two windows is NULL.
    #[inline]
    pub(crate) fn distance(self, next: Window) -> u32 {
        if next.lo >= self.hi || next.hi <= self.lo {
            return self.len().saturating_add(next.len());
        }
        self.lo.abs_diff(next.lo).saturating_add(self.hi.abs_diff(next.hi))
    }

    /// What to remove and to insert to get from one window to the next.
    #[inline]
    pub(crate) fn step_to(self, next: Window) -> Step {
        let range = |lo: u32, hi: u32| lo as usize..hi.max(lo) as usize;
        if next.lo >= self.hi || next.hi <= self.lo {
            return Step { removed: [self.rows(), 0..0], inserted: [next.rows(), 0..0] };
        }
        Step {
            removed: [range(self.lo, next.lo), range(next.hi, self.hi)],
            inserted: [range(next.lo, self.lo), range(self.hi, next.hi)],
        }
    }
}

/// The window of every row. Events are fewer than `u32::MAX` and rows' ranges lie within them.
/// `alike` are the windows of a frame that ends as this one does, if there is one.
pub(super) fn find(
    frame: &Frame,
    times: &[i64],
    rows: &[SpineRow],
    alike: Option<&[Window]>,
) -> Vec<Window> {
    let mut events = 0..0;
    let (mut lo, mut hi) = (0, 0);
    let mut windows = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let Some(instant) = row.instant else {
            windows.push(Window::NULL);
            continue;
        };
        if row.events != events {
            events = row.events.clone();
            (lo, hi) = (events.start, events.start);
        }
        let window = match frame {
            Frame::Range { start, end } => {
                hi = match alike {
                    Some(windows) => windows[at].hi as usize,
                    None => {
                        let last = end.before(instant);
                        partition(times, &events, hi, |time| time <= last)
                    }
                };
                lo = match start {
                    Bound::Unbounded => events.start,
                    Bound::Preceding(start) => {
                        let first = start.before(instant);
                        partition(times, &events, lo, |time| time < first)
                    }
                };
                (lo.min(hi), hi)
            }
            Frame::Rows { start, end } => {
                hi = partition(times, &events, hi, |time| time <= instant);
                rows_of(&events, hi, *start, *end)
            }
        };
        windows.push(Window { lo: window.0 as u32, hi: window.1 as u32 });
    }
    windows
}

/// The window of a ROWS frame, given the first event after the instant.
fn rows_of(events: &Range<usize>, after: usize, start: Option<u64>, end: u64) -> (usize, usize) {
    let back = |rows: u64| {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        events.start + (after - events.start).saturating_sub(rows)
    };
    let lo = start.map_or(events.start, |start| back(start.saturating_add(1)));
    (lo, back(end))
}

/// The first event that a later instant can still see.
pub(super) fn retained(frame: &Frame, times: &[i64], events: Range<usize>, instant: i64) -> usize {
    let after = |instant: i64| partition(times, &events, events.start, |time| time <= instant);
    match frame {
        Frame::Range { .. } => {
            let first = frame.earliest(instant);
            partition(times, &events, events.start, |time| time < first)
        }
        Frame::Rows { start, end } => rows_of(&events, after(instant), *start, *end).0,
    }
}

/// The first index in `range` whose time is not `before`, searched by galloping from `from`.
fn partition(
    times: &[i64],
    range: &Range<usize>,
    from: usize,
    before: impl Fn(i64) -> bool,
) -> usize {
    let (mut lo, mut hi) = (from, from);
    let mut step = 1;
    if from < range.end && before(times[from]) {
        // Invariant: everything up to `lo` is before.
        loop {
            hi = lo.saturating_add(step).min(range.end);
            if hi == range.end || !before(times[hi]) {
                break;
            }
            lo = hi;
            step *= 2;
        }
        lo += 1;
    } else {
        // Invariant: nothing from `hi` on is before.
        loop {
            if hi == range.start {
                return hi;
            }
            lo = hi.saturating_sub(step).max(range.start);
            if before(times[lo]) {
                lo += 1;
                break;
            }
            hi = lo;
            step *= 2;
        }
    }
    lo + times[lo..hi].partition_point(|&time| before(time))
}
