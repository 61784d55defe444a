//! Window frames: which events of an entity an aggregate sees as of an instant.
//!
//! This file knows intervals and frames, not events. Every time is in microseconds since the Unix
//! epoch, UTC.

mod calendar;

use std::fmt;

use crate::error::Error;

const MICROS_PER_DAY: i128 = 86_400_000_000;

/// A span of time as PostgreSQL keeps it: months, days and microseconds do not convert into each
/// other until they are applied to an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interval {
    /// Calendar months.
    pub months: i32,
    /// Calendar days; in UTC always 24 hours.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

impl Interval {
    /// The empty interval, `CURRENT ROW` as a frame end.
    pub const ZERO: Interval = Interval { months: 0, days: 0, micros: 0 };

    /// An interval of microseconds only.
    pub const fn from_micros(micros: i64) -> Self {
        Interval { months: 0, days: 0, micros }
    }

    /// `t - self` as PostgreSQL computes it in UTC: months first, clamped to the month's last
    /// day, then days, then microseconds.
    ///
    /// `t_micros` is in microseconds since the epoch; saturates at the ends of `i64`.
    pub fn before(&self, t_micros: i64) -> i64 {
        let t = i128::from(t_micros);
        let moved = if self.months == 0 {
            t
        } else {
            let day =
                calendar::add_months(t.div_euclid(MICROS_PER_DAY) as i64, -i64::from(self.months));
            i128::from(day) * MICROS_PER_DAY + t.rem_euclid(MICROS_PER_DAY)
        };
        saturate(moved - i128::from(self.days) * MICROS_PER_DAY - i128::from(self.micros))
    }

    /// The least value that `before` takes at `t_micros` or any later instant.
    ///
    /// Calendar months are not monotone within a clamped day (28 March 23:00 and 29 March 01:00
    /// both fall on 28 February), but the day itself never moves back.
    pub(crate) fn floor_before(&self, t_micros: i64) -> i64 {
        if self.months == 0 {
            return self.before(t_micros);
        }
        let day = i128::from(t_micros).div_euclid(MICROS_PER_DAY) * MICROS_PER_DAY;
        let day = i128::from(calendar::add_months(
            (day / MICROS_PER_DAY) as i64,
            -i64::from(self.months),
        )) * MICROS_PER_DAY;
        saturate(day - i128::from(self.days) * MICROS_PER_DAY - i128::from(self.micros))
    }

    /// The length by which PostgreSQL orders intervals: a month counts 30 days.
    fn nominal_micros(&self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * MICROS_PER_DAY + i128::from(self.micros)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.months != 0 {
            parts.push(format!("{} months", self.months));
        }
        if self.days != 0 {
            parts.push(format!("{} days", self.days));
        }
        if self.micros != 0 || parts.is_empty() {
            let (seconds, rest) = (self.micros / 1_000_000, (self.micros % 1_000_000).abs());
            let sign = if self.micros < 0 && seconds == 0 { "-" } else { "" };
            parts.push(match rest {
                0 => format!("{seconds} seconds"),
                _ => format!("{sign}{seconds}.{rest:06} seconds"),
            });
        }
        write!(f, "INTERVAL '{}'", parts.join(" "))
    }
}

/// The start of a RANGE frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// All history.
    Unbounded,
    /// Events at or after the instant minus the interval.
    Preceding(Interval),
}

/// Which events are seen as of an instant `t`. No frame ever sees an event after `t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Frame {
    /// `start.before(t) <= event time <= end.before(t)`, both inclusive.
    Range {
        /// The far end.
        start: Bound,
        /// The near end; `Interval::ZERO` is CURRENT ROW.
        end: Interval,
    },
    /// Of the events at or before `t`, in order of (time, position), the last is number 0: those
    /// numbered `end..=start`.
    Rows {
        /// The far end; `None` is unbounded.
        start: Option<u64>,
        /// The near end; 0 is CURRENT ROW.
        end: u64,
    },
}

impl Frame {
    /// `RANGE UNBOUNDED PRECEDING`: everything up to the instant.
    pub const fn latest() -> Frame {
        Frame::Range { start: Bound::Unbounded, end: Interval::ZERO }
    }

    /// Whether windows of both frames end at the same events.
    pub(crate) fn ends_like(&self, other: &Frame) -> bool {
        match (self, other) {
            (Frame::Range { end, .. }, Frame::Range { end: other, .. }) => end == other,
            _ => false,
        }
    }

    /// Checks that offsets are not negative and that the frame does not end before it starts.
    ///
    /// Intervals are compared as PostgreSQL orders them (a month as 30 days). A frame of mixed
    /// units may still be empty at some instants, e.g. from 1 month to 29 days in February.
    pub fn validate(&self) -> Result<(), Error> {
        let ordered = match self {
            Frame::Rows { start, end } => start.is_none_or(|start| start >= *end),
            Frame::Range { start, end } => {
                let mut offsets = vec![*end];
                if let Bound::Preceding(start) = start {
                    offsets.push(*start);
                }
                if let Some(&interval) = offsets.iter().find(|offset| offset.nominal_micros() < 0) {
                    return Err(Error::NegativeOffset { interval });
                }
                match start {
                    Bound::Unbounded => true,
                    Bound::Preceding(start) => start.nominal_micros() >= end.nominal_micros(),
                }
            }
        };
        if ordered { Ok(()) } else { Err(Error::FrameOrder { frame: *self }) }
    }

    /// The earliest event time that may be seen as of `instant` or any later one; `i64::MIN` if
    /// time alone does not say.
    pub(crate) fn earliest(&self, instant: i64) -> i64 {
        match self {
            Frame::Range { start: Bound::Preceding(start), .. } => start.floor_before(instant),
            Frame::Range { start: Bound::Unbounded, .. } | Frame::Rows { .. } => i64::MIN,
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Frame::Range { start, end } => {
                match start {
                    Bound::Unbounded => write!(f, "RANGE BETWEEN UNBOUNDED PRECEDING")?,
                    Bound::Preceding(start) => write!(f, "RANGE BETWEEN {start} PRECEDING")?,
                }
                if *end == Interval::ZERO {
                    write!(f, " AND CURRENT ROW")
                } else {
                    write!(f, " AND {end} PRECEDING")
                }
            }
            Frame::Rows { start, end } => {
                match start {
                    None => write!(f, "ROWS BETWEEN UNBOUNDED PRECEDING")?,
                    Some(0) => write!(f, "ROWS BETWEEN CURRENT ROW")?,
                    Some(start) => write!(f, "ROWS BETWEEN {start} PRECEDING")?,
                }
                match end {
                    0 => write!(f, " AND CURRENT ROW"),
                    end => write!(f, " AND {end} PRECEDING"),
                }
            }
        }
    }
}

fn saturate(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests;
