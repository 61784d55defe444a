//! What of a stored timeline a read or an insertion needs, and where that is in the tree.
//!
//! A store finds the nodes by `descend`, or does the same where the nodes are, and gives them to
//! `Timeline::load`.
//!
//! Events laid over do not ask for more leaves by time. An end of a window lies before some event:
//! if that is a stored one, its leaf is the one that the search finds; if it was laid over, it went
//! to the leaf of the next stored one, which is the same. By rank, each event laid over moves the
//! stored ones by one at most, so as many more are asked for.

use std::collections::BTreeSet;

use super::{AsOf, Entry, Timeline, rows};
use crate::error::Error;
use crate::frame::{Bound, Frame};
use crate::kernel::Looks;
use crate::layout::Layout;

/// Leaves of a timeline, with all nodes above them. Times are in microseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The leaf with the first event whose time is at least `time`, or with `after` greater; none
    /// if there is no such event.
    At {
        /// The time.
        time: i64,
        /// Whether events of that time come before the place.
        after: bool,
    },
    /// Of the events at or before `instant`, counted back from the last, which is number 0: the
    /// leaves with those numbered `from..=to`. Beyond the first event it is the first.
    Back {
        /// The instant.
        instant: i64,
        /// The number of the last event.
        from: u64,
        /// The number of the first event.
        to: u64,
    },
    /// All leaves with events at `from..=to`.
    Range {
        /// The earliest time.
        from: i64,
        /// The latest time.
        to: i64,
    },
    /// The leaf where an event goes: that with the first event after it, or the last leaf.
    Insert {
        /// The event's time.
        time: i64,
        /// The event's position.
        position: u64,
    },
}

impl Timeline {
    /// What `read` of these calls needs as of an instant, if `unsorted_rows` events are laid over
    /// the stored ones. `first_value` and `last_value` may need more where a filter or NULLs hide
    /// the ends of a window: then `read` says what.
    ///
    /// # Errors
    ///
    /// `NoSuchCall`.
    pub fn places(
        layout: &Layout,
        as_of: impl Into<AsOf>,
        calls: &[usize],
        unsorted_rows: u64,
    ) -> Result<Vec<Place>, Error> {
        let AsOf { instant, kept_from } = as_of.into();
        let mut places = BTreeSet::new();
        if kept_from > i64::MIN {
            places.insert(Place::At { time: kept_from, after: false });
        }
        for &call in calls {
            let (measure, frame) = layout.plan(call)?;
            let looks = layout.measures()[measure].aggregate.looks();
            match &layout.frames()[frame] {
                Frame::Range { start, end } => {
                    let first = match start {
                        Bound::Unbounded => (kept_from > i64::MIN).then_some(kept_from),
                        Bound::Preceding(start) => Some(start.before(instant).max(kept_from)),
                    };
                    range_places(first, end.before(instant), looks, &mut places);
                }
                Frame::Rows { start, end } => {
                    places.insert(Place::At { time: instant, after: true });
                    let back = |from: u64, to| Place::Back {
                        instant,
                        // An event laid over counts for one that is stored.
                        from: from.saturating_sub(unsorted_rows),
                        to,
                    };
                    rows_places(*start, *end, looks, &back, &mut places);
                }
            }
        }
        Ok(places.into_iter().collect())
    }
}

impl AsOf {
    /// What [`Timeline::has_events`] needs.
    pub fn places(self) -> Vec<Place> {
        vec![
            Place::At { time: self.kept_from, after: false },
            Place::At { time: self.instant, after: true },
        ]
    }
}

/// The places of a RANGE frame of the times `first..=last`.
fn range_places(first: Option<i64>, last: i64, looks: Looks, places: &mut BTreeSet<Place>) {
    let from = first.unwrap_or(i64::MIN);
    places.insert(Place::At { time: last, after: true });
    if first.is_some() || matches!(looks, Looks::First { .. }) {
        places.insert(Place::At { time: from, after: false });
    }
    match looks {
        Looks::States | Looks::First { .. } => false,
        Looks::Last { .. } => places.insert(Place::Back { instant: last, from: 0, to: 0 }),
        Looks::Events => places.insert(Place::Range { from, to: last }),
    };
}

/// The places of a ROWS frame of the events numbered `end..=start`, besides that of the instant.
fn rows_places(
    start: Option<u64>,
    end: u64,
    looks: Looks,
    back: &dyn Fn(u64, u64) -> Place,
    places: &mut BTreeSet<Place>,
) {
    let beginning = Place::At { time: i64::MIN, after: false };
    if let Some(start) = start {
        places.insert(back(start, start));
    } else if matches!(looks, Looks::First { .. }) {
        places.insert(beginning);
    }
    if let Some(after) = end.checked_sub(1) {
        places.insert(back(after, after));
    }
    match looks {
        Looks::States | Looks::First { .. } => false,
        Looks::Last { .. } => places.insert(back(end, end)),
        Looks::Events => places.insert(back(end, start.unwrap_or(u64::MAX))),
    };
}

/// Where the events go that `encode_rows` wrote: what `insert_encoded` needs.
///
/// # Errors
///
/// `DamagedBytes`.
pub fn insert_places(layout: &Layout, bytes: &[u8]) -> Result<Vec<Place>, Error> {
    let mut places = BTreeSet::new();
    rows::each(layout, bytes, |(time, position), _| {
        places.insert(Place::Insert { time, position });
        Ok(())
    })?;
    Ok(places.into_iter().collect())
}

/// Adds the ids of the nodes that a place needs to `found`: its leaves and all nodes above them.
///
/// `entries` gives the entries of a node: none for a leaf, or if there is no such node. The search
/// looks at nothing else, so it can be done where the nodes are:
///
/// * It begins with node 0, and goes from a node to some of its children. Every node that it comes
///   to is needed.
/// * `At`: to the first child with `last.time >= time` (`after`: `> time`), if there is one.
/// * `Insert`: to the first child with `last > (time, position)`, else to the last child.
/// * `Range`: to the first child with `last.time >= from` and those after it, up to the first with
///   `last.time > to` and with it.
/// * `Back`: first as `At { time: instant, after: true }`. On the way, `start` counts the `rows` of
///   all children to the left. With a leaf of `rows` events found, the number of events at or before
///   the instant is one of `start..=start + rows - 1`, as its last event is after the instant; with
///   none, it is `start` exactly, the number of all events. Call that `least..=most`. The ranks that
///   are needed are from `least - 1 - to` to `most - 1 - from`, 0 where that is negative. Then once
///   more from node 0: to all children that have events with these ranks.
pub fn descend(
    place: Place,
    entries: &mut dyn FnMut(u32) -> Vec<Entry>,
    found: &mut BTreeSet<u32>,
) {
    let mut search = Search { entries, seen: BTreeSet::new() };
    match place {
        Place::At { time, after } => {
            search.path(&|last| is_at(last, time, after), false);
        }
        Place::Insert { time, position } => {
            search.path(&|last| last > (time, position), true);
        }
        Place::Range { from, to } => search.range(0, from, to),
        Place::Back { instant, from, to } => {
            let (least, most) = search.path(&|last| is_at(last, instant, true), false);
            found.append(&mut search.seen);
            let rank = |count: u64, number: u64| count.saturating_sub(1).saturating_sub(number);
            search.ranks(0, 0, (rank(least, to), rank(most, from)));
        }
    }
    found.append(&mut search.seen);
}

fn is_at(last: (i64, u64), time: i64, after: bool) -> bool {
    if after { last.0 > time } else { last.0 >= time }
}

struct Search<'a> {
    entries: &'a mut dyn FnMut(u32) -> Vec<Entry>,
    /// The nodes that the search came to. It comes to none twice, whatever the entries say.
    seen: BTreeSet<u32>,
}

impl Search<'_> {
    /// Goes to the first leaf that `ends` past the place (or the last leaf). Returns the least and
    /// the most events that there may be before the place.
    fn path(&mut self, ends: &dyn Fn((i64, u64)) -> bool, or_last: bool) -> (u64, u64) {
        let (mut node, mut start, mut most) = (0, 0_u64, 0);
        while self.seen.insert(node) {
            let entries = (self.entries)(node);
            let Some(last) = entries.len().checked_sub(1) else { break };
            let child = entries.partition_point(|entry| !ends(entry.last));
            let before = &entries[..child];
            start = before.iter().fold(start, |start, entry| start.saturating_add(entry.rows));
            if child > last && !or_last {
                return (start, start);
            }
            let next = entries[child.min(last)];
            (node, most) = (next.child, start.saturating_add(next.rows).saturating_sub(1));
        }
        (start, most)
    }

    fn range(&mut self, node: u32, from: i64, to: i64) {
        if !self.seen.insert(node) {
            return;
        }
        for entry in (self.entries)(node).iter().skip_while(|entry| entry.last.0 < from) {
            self.range(entry.child, from, to);
            if entry.last.0 > to {
                break;
            }
        }
    }

    /// Goes to all leaves with events of the ranks `first..=last`; the node has those from `start`.
    fn ranks(&mut self, node: u32, mut start: u64, (first, last): (u64, u64)) {
        if !self.seen.insert(node) {
            return;
        }
        for entry in (self.entries)(node) {
            let end = start.saturating_add(entry.rows);
            if first < end && start <= last {
                self.ranks(entry.child, start, (first, last));
            }
            start = end;
        }
    }
}
