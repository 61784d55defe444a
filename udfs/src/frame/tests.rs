//! `Interval::before` against results of PostgreSQL 16 (`timestamptz - interval`, UTC), and frames.

use chrono::DateTime;

use super::*;

fn micros(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

fn interval(months: i32, days: i32, micros: i64) -> Interval {
    Interval { months, days, micros }
}

#[test]
fn before_is_postgresql() {
    let hour = 3_600_000_000;
    for (t, interval, expected) in [
        ("2024-03-31T00:00:00Z", interval(1, 0, 0), "2024-02-29T00:00:00Z"),
        ("2023-03-31T12:30:00Z", interval(1, 0, 0), "2023-02-28T12:30:00Z"),
        ("2024-03-31T00:00:00Z", interval(1, 1, 0), "2024-02-28T00:00:00Z"),
        ("2024-03-01T00:00:00Z", interval(0, 1, 0), "2024-02-29T00:00:00Z"),
        ("2024-02-29T10:00:00Z", interval(12, 0, 0), "2023-02-28T10:00:00Z"),
        ("2024-02-29T10:00:00Z", interval(48, 0, 0), "2020-02-29T10:00:00Z"),
        ("2000-02-29T00:00:00Z", interval(1200, 0, 0), "1900-02-28T00:00:00Z"),
        ("2024-01-31T00:00:00Z", interval(2, 0, 0), "2023-11-30T00:00:00Z"),
        ("2024-01-15T00:00:00Z", interval(13, 0, hour), "2022-12-14T23:00:00Z"),
        ("2024-05-31T06:00:00Z", interval(3, 0, 6 * hour + 1), "2024-02-28T23:59:59.999999Z"),
        ("1969-12-31T23:59:59.999999Z", interval(1, 0, 0), "1969-11-30T23:59:59.999999Z"),
        ("2024-01-31T00:00:00Z", interval(-1, 0, 0), "2024-02-29T00:00:00Z"),
        ("2024-07-01T00:00:00Z", interval(0, 0, 1), "2024-06-30T23:59:59.999999Z"),
    ] {
        assert_eq!(interval.before(micros(t)), micros(expected), "{t} - {interval}");
    }
}

#[test]
fn before_saturates() {
    assert_eq!(interval(i32::MAX, 0, 0).before(i64::MIN), i64::MIN);
    assert_eq!(interval(i32::MIN, 0, 0).before(i64::MAX), i64::MAX);
    assert_eq!(interval(i32::MAX, i32::MAX, i64::MAX).before(0), i64::MIN);
    assert_eq!(interval(0, 0, i64::MIN).before(i64::MAX), i64::MAX);
    assert_eq!(interval(0, i32::MIN, i64::MIN).before(1), i64::MAX);
}

#[test]
fn floor_bounds_every_later_instant() {
    let month = interval(1, 0, 5);
    let start = micros("2023-03-28T23:00:00Z");
    let floor = month.floor_before(start);
    assert_eq!(floor, micros("2023-02-27T23:59:59.999995Z"));
    for hours in 0..24 * 70 {
        assert!(month.before(start + hours * 3_600_000_000) >= floor);
    }
}

#[test]
fn frames_are_validated() {
    let day = interval(0, 1, 0);
    let range = |start, end| Frame::Range { start: Bound::Preceding(start), end };
    assert_eq!(range(day, day).validate(), Ok(()));
    assert_eq!(range(interval(1, 0, 0), interval(0, 30, 0)).validate(), Ok(()));
    assert_eq!(Frame::latest().validate(), Ok(()));
    assert!(matches!(range(Interval::ZERO, day).validate(), Err(Error::FrameOrder { .. })));
    let negative = range(interval(0, -1, 0), Interval::ZERO);
    assert!(matches!(negative.validate(), Err(Error::NegativeOffset { .. })));
    assert!(Frame::Rows { start: Some(1), end: 2 }.validate().is_err());
    assert_eq!(Frame::Rows { start: None, end: 2 }.validate(), Ok(()));
}

#[test]
fn frames_are_shown_as_sql() {
    let frame =
        Frame::Range { start: Bound::Preceding(interval(1, 2, 1_500_000)), end: Interval::ZERO };
    let text =
        "RANGE BETWEEN INTERVAL '1 months 2 days 1.500000 seconds' PRECEDING AND CURRENT ROW";
    assert_eq!(frame.to_string(), text);
    let frame = Frame::Rows { start: Some(9), end: 0 };
    assert_eq!(frame.to_string(), "ROWS BETWEEN 9 PRECEDING AND CURRENT ROW");
}
