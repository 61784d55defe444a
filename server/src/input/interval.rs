//! Intervals: `1 day 02:03:04.5`, `@ 3 mons ago`, `P1DT2H`.

use arrow::datatypes::IntervalMonthDayNano;

use super::{InputError, Result, is_space};

const MICROS_PER_SECOND: i128 = 1_000_000;
const MICROS_PER_DAY: i128 = 86_400 * MICROS_PER_SECOND;

/// Months, days and microseconds, added up exactly before they are fitted.
#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    micros: i128,
}

/// `interval_in`, without the range forms of the SQL standard (`1-2`).
pub fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    let word = text.trim_matches(is_space);
    let sum = match word.strip_prefix(['P', 'p']) {
        Some(rest) => iso(rest),
        None => verbose(word),
    }
    .ok_or_else(|| InputError { code: "22007", ..InputError::syntax("interval", text) })?;
    fit(&sum).ok_or_else(|| {
        let message = format!("interval field value out of range: \"{}\"", super::shorten(text));
        InputError::new("22015", message)
    })
}

fn fit(sum: &Sum) -> Option<IntervalMonthDayNano> {
    let nanos = sum.micros.checked_mul(1000)?;
    Some(IntervalMonthDayNano::new(
        sum.months.try_into().ok()?,
        sum.days.try_into().ok()?,
        nanos.try_into().ok()?,
    ))
}

/// Adds `whole.fraction` of a unit; the fraction spills to the smaller units as in PostgreSQL.
fn add(sum: &mut Sum, millionths: i128, unit: &str) -> Option<()> {
    let one = 1_000_000;
    let (whole, part) = (millionths / one, millionths % one);
    let months = |sum: &mut Sum, per: i128| {
        sum.months += whole * per + part * per / one;
        // The rest of a month counts as 30 days each.
        let rest = (part * per % one) * 30;
        if per == 1 {
            sum.days += rest / one;
            sum.micros += (rest % one) * MICROS_PER_DAY / one;
        }
    };
    let days = |sum: &mut Sum, per: i128| {
        let part = part * per;
        sum.days += whole * per + part / one;
        sum.micros += (part % one) * MICROS_PER_DAY / one;
    };
    match unit {
        "millennium" | "millennia" | "mil" | "mils" => months(sum, 12_000),
        "century" | "centuries" | "cent" | "c" => months(sum, 1200),
        "decade" | "decades" | "dec" | "decs" => months(sum, 120),
        "year" | "years" | "yr" | "yrs" | "y" => months(sum, 12),
        "month" | "months" | "mon" | "mons" => months(sum, 1),
        "week" | "weeks" | "w" => days(sum, 7),
        "day" | "days" | "d" => days(sum, 1),
        "hour" | "hours" | "hr" | "hrs" | "h" => sum.micros += millionths * 3600,
        "minute" | "minutes" | "min" | "mins" | "m" => sum.micros += millionths * 60,
        "second" | "seconds" | "sec" | "secs" | "s" => sum.micros += millionths,
        "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => sum.micros += millionths / 1000,
        "microsecond" | "microseconds" | "usec" | "usecs" | "us" => sum.micros += whole,
        _ => return None,
    }
    Some(())
}

/// A decimal number in millionths, at most 18 digits before the point.
fn millionths(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let empty = whole.is_empty() && fraction.is_empty();
    if empty || whole.len() > 18 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let mut value = whole.bytes().fold(0, |n, b| n * 10 + i128::from(b - b'0')) * 1_000_000;
    let mut unit = 100_000;
    for digit in fraction.bytes() {
        value += i128::from(digit - b'0') * unit;
        unit /= 10;
    }
    Some(if negative { -value } else { value })
}

fn verbose(text: &str) -> Option<Sum> {
    let lower = text.to_ascii_lowercase();
    let body = lower.strip_prefix('@').unwrap_or(&lower);
    let (body, ago) = match body.trim_end_matches(is_space).strip_suffix("ago") {
        Some(rest) => (rest, true),
        None => (body, false),
    };
    let mut sum = Sum::default();
    let mut found = false;
    let mut words = body.split(is_space).filter(|w| !w.is_empty());
    while let Some(word) = words.next() {
        found = true;
        if word.contains(':') {
            sum.micros += clock(word)?;
            continue;
        }
        let end = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let number = millionths(&word[..end])?;
        match &word[end..] {
            "" => match words.next() {
                Some(unit) => add(&mut sum, number, unit)?,
                // A number alone is in seconds.
                None => add(&mut sum, number, "second")?,
            },
            unit => add(&mut sum, number, unit)?,
        }
    }
    if ago {
        sum = Sum { months: -sum.months, days: -sum.days, micros: -sum.micros };
    }
    found.then_some(sum)
}

/// `HH:MM[:SS[.f]]`, the sign counts for all of it.
fn clock(word: &str) -> Option<i128> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let mut parts = digits.split(':');
    let hours = millionths(parts.next()?)?;
    let minutes = millionths(parts.next()?)?;
    let seconds = parts.next().map_or(Some(0), millionths)?;
    let in_range = minutes < 60_000_000 && seconds <= 60_000_000 && digits.is_ascii();
    (in_range && parts.next().is_none()).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

/// What follows the `P` of an ISO 8601 duration.
fn iso(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut in_time = false;
    let mut rest = text;
    let mut found = false;
    while let Some(first) = rest.chars().next() {
        if matches!(first, 'T' | 't') && !in_time {
            in_time = true;
            rest = &rest[1..];
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let number = millionths(&rest[..end])?;
        let unit = match (in_time, rest.as_bytes()[end].to_ascii_uppercase()) {
            (false, b'Y') => "year",
            (false, b'M') => "month",
            (false, b'W') => "week",
            (false, b'D') => "day",
            (true, b'H') => "hour",
            (true, b'M') => "minute",
            (true, b'S') => "second",
            _ => return None,
        };
        add(&mut sum, number, unit)?;
        found = true;
        rest = &rest[end + 1..];
    }
    found.then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (i32, i32, i64) {
        let value = interval(text).unwrap();
        (value.months, value.days, value.nanoseconds)
    }

    #[test]
    fn forms() {
        assert_eq!(parts("1 year 2 mons 3 days 04:05:06.5"), (14, 3, 14_706_500_000_000));
        assert_eq!(parts("30 minutes"), (0, 0, 1_800_000_000_000));
        assert_eq!(parts("1h 30m"), parts("90 min"));
        assert_eq!(parts("@ 1 day ago"), (0, -1, 0));
        assert_eq!(parts("-1 days +02:03"), (0, -1, 7_380_000_000_000));
        assert_eq!(parts("1.5 months"), (1, 15, 0));
        assert_eq!(parts("1.5 days"), (0, 1, 43_200_000_000_000));
        assert_eq!(parts("P1Y2M3DT4H5M6.5S"), (14, 3, 14_706_500_000_000));
        assert_eq!(parts("PT1H"), (0, 0, 3_600_000_000_000));
        assert_eq!(parts("5"), (0, 0, 5_000_000_000));
        assert_eq!(parts("2 weeks"), (0, 14, 0));
    }

    #[test]
    fn refused() {
        for bad in ["", "day", "1 parsec", "P", "PT", "1:2:3:4", "1 day x", "é 1", "P1é"] {
            assert_eq!(interval(bad).unwrap_err().code, "22007", "{bad}");
        }
        assert_eq!(interval("999999999999 years").unwrap_err().code, "22015");
    }
}
