//! Which events an instant sees.

use super::{Event, Interval};

/// A window frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// From `start` before the instant (all history if none) to `end` before it, inclusive.
    Range(Option<Interval>, Interval),
    /// From the event `start` before the last one (all if none) to the one `end` before it.
    Rows(Option<usize>, usize),
}

/// The events of a frame, in order. `events` are those of one key, in order.
pub fn seen<'a>(frame: Frame, events: &[&'a Event], instant: i64) -> Vec<&'a Event> {
    let past: Vec<&Event> = events.iter().filter(|e| e.time <= instant).copied().collect();
    match frame {
        Frame::Range(start, end) => {
            let (from, to) = (start.map(|s| s.before(instant)), end.before(instant));
            let inside = |time: i128| from.is_none_or(|from| from <= time) && time <= to;
            past.into_iter().filter(|event| inside(event.time.into())).collect()
        }
        Frame::Rows(start, end) => {
            let count = past.len();
            let number = |index: usize| count - 1 - index;
            let inside = |n: usize| end <= n && start.is_none_or(|start| n <= start);
            let numbered = past.into_iter().enumerate();
            numbered.filter(|(index, _)| inside(number(*index))).map(|(_, e)| e).collect()
        }
    }
}
