//! Dates, times, instants and intervals as PostgreSQL prints and sends them, with
//! `DateStyle` ISO and `IntervalStyle` postgres.

use arrow::datatypes::IntervalMonthDayNano;
use bytes::{BufMut, BytesMut};

use super::number::write_integer;
use crate::input::{MICROS_PER_DAY, PG_EPOCH_DAYS, PG_EPOCH_MICROS};

/// Year, month, day of a day since 1970-01-01, by Howard Hinnant's formula.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// A number of at least `width` digits.
fn write_padded(value: i64, width: u32, out: &mut BytesMut) {
    let mut smallest = 10_i64.pow(width - 1);
    while smallest > value.max(1) {
        out.put_u8(b'0');
        smallest /= 10;
    }
    write_integer(value, out);
}

/// Writes the calendar part and tells whether the year is before Christ.
fn write_calendar(days: i64, out: &mut BytesMut) -> bool {
    let (year, month, day) = civil(days);
    write_padded(if year > 0 { year } else { 1 - year }, 4, out);
    out.put_u8(b'-');
    write_padded(month, 2, out);
    out.put_u8(b'-');
    write_padded(day, 2, out);
    year <= 0
}

/// `HH:MM:SS` and as many digits of the fraction as are not zero at the end.
fn write_clock(micros: i64, out: &mut BytesMut) {
    let seconds = micros / 1_000_000;
    write_padded(seconds / 3600, 2, out);
    out.put_u8(b':');
    write_padded(seconds / 60 % 60, 2, out);
    out.put_u8(b':');
    write_padded(seconds % 60, 2, out);
    let mut fraction = micros % 1_000_000;
    if fraction > 0 {
        let mut width = 6;
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        out.put_u8(b'.');
        write_padded(fraction, width, out);
    }
}

/// A `date`.
pub fn write_date(days: i32, out: &mut BytesMut) {
    match days {
        i32::MAX => out.put_slice(b"infinity"),
        i32::MIN => out.put_slice(b"-infinity"),
        days => {
            if write_calendar(i64::from(days), out) {
                out.put_slice(b" BC");
            }
        }
    }
}

/// A `timestamp`, or with `zone` a `timestamptz` in UTC.
pub fn write_instant(micros: i64, zone: bool, out: &mut BytesMut) {
    match micros {
        i64::MAX => return out.put_slice(b"infinity"),
        i64::MIN => return out.put_slice(b"-infinity"),
        _ => {}
    }
    let before_christ = write_calendar(micros.div_euclid(MICROS_PER_DAY), out);
    out.put_u8(b' ');
    write_clock(micros.rem_euclid(MICROS_PER_DAY), out);
    if zone {
        out.put_slice(b"+00");
    }
    if before_christ {
        out.put_slice(b" BC");
    }
}

/// A `time`.
pub fn write_time(micros: i64, out: &mut BytesMut) {
    write_clock(micros, out);
}

/// A `date` in binary.
pub fn write_date_binary(days: i32, out: &mut BytesMut) {
    let infinite = days == i32::MAX || days == i32::MIN;
    out.put_i32(if infinite { days } else { days.saturating_sub(PG_EPOCH_DAYS) });
}

/// An instant in binary.
pub fn write_instant_binary(micros: i64, out: &mut BytesMut) {
    let infinite = micros == i64::MAX || micros == i64::MIN;
    out.put_i64(if infinite { micros } else { micros.saturating_sub(PG_EPOCH_MICROS) });
}

/// An `interval`: each part with its own sign, the clock last.
pub fn write_interval(value: IntervalMonthDayNano, out: &mut BytesMut) {
    let micros = value.nanoseconds / 1000;
    let mut first = true;
    let mut before_negative = false;
    let months = i64::from(value.months);
    let parts = [(months / 12, "year"), (months % 12, "mon"), (i64::from(value.days), "day")];
    for (number, unit) in parts {
        if number == 0 {
            continue;
        }
        if !first {
            out.put_u8(b' ');
        }
        if before_negative && number > 0 {
            out.put_u8(b'+');
        }
        write_integer(number, out);
        out.put_u8(b' ');
        out.put_slice(unit.as_bytes());
        if number != 1 {
            out.put_u8(b's');
        }
        first = false;
        before_negative = number < 0;
    }
    if first || micros != 0 {
        if !first {
            out.put_u8(b' ');
        }
        if micros < 0 {
            out.put_u8(b'-');
        } else if before_negative {
            out.put_u8(b'+');
        }
        write_clock(micros.saturating_abs(), out);
    }
}

/// An `interval` in binary.
pub fn write_interval_binary(value: IntervalMonthDayNano, out: &mut BytesMut) {
    out.put_i64(value.nanoseconds / 1000);
    out.put_i32(value.days);
    out.put_i32(value.months);
}
