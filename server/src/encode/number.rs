//! Floats and decimals as PostgreSQL prints and sends them.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

/// A short text on the stack.
struct Digits {
    bytes: [u8; 64],
    len: usize,
}

impl Write for Digits {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let end = self.len + s.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Digits {
    fn of(args: std::fmt::Arguments<'_>) -> Self {
        let mut digits = Digits { bytes: [0; 64], len: 0 };
        // The longest number written here is i128::MIN, 40 characters.
        let _ = digits.write_fmt(args);
        digits
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// An integer's text.
pub fn write_integer(value: i64, out: &mut BytesMut) {
    out.put_slice(Digits::of(format_args!("{value}")).as_slice());
}

/// `float8out`: shortest digits that read back the same, exponents from 15 on.
pub fn write_float8(value: f64, out: &mut BytesMut) {
    if !write_special(value, out) {
        layout(Digits::of(format_args!("{value:e}")).as_slice(), 15, out);
    }
}

/// `float4out`: as [`write_float8`], exponents from 6 on.
pub fn write_float4(value: f32, out: &mut BytesMut) {
    if !write_special(f64::from(value), out) {
        layout(Digits::of(format_args!("{value:e}")).as_slice(), 6, out);
    }
}

fn write_special(value: f64, out: &mut BytesMut) -> bool {
    let text: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value == f64::INFINITY {
        b"Infinity"
    } else if value == f64::NEG_INFINITY {
        b"-Infinity"
    } else {
        return false;
    };
    out.put_slice(text);
    true
}

/// Lays out Rust's `-1.25e-7` as PostgreSQL does.
fn layout(scientific: &[u8], first_exponent: i32, out: &mut BytesMut) {
    let mut digits = scientific;
    if let [b'-', rest @ ..] = digits {
        out.put_u8(b'-');
        digits = rest;
    }
    let e = digits.iter().position(|b| *b == b'e').unwrap_or(digits.len());
    let exponent = std::str::from_utf8(digits.get(e + 1..).unwrap_or_default());
    let exponent: i32 = exponent.ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut mantissa = digits[..e].iter().copied().filter(|b| *b != b'.');
    let count = if e > 1 { e - 1 } else { 1 };
    if !(-4..first_exponent).contains(&exponent) {
        out.extend(mantissa.next());
        if count > 1 {
            out.put_u8(b'.');
            out.extend(mantissa);
        }
        out.put_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            out.put_u8(b'0');
        }
        write_integer(i64::from(exponent.abs()), out);
    } else if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', (-exponent - 1) as usize);
        out.extend(mantissa);
    } else {
        let whole = exponent as usize + 1;
        out.extend(mantissa.by_ref().take(whole));
        if count > whole {
            out.put_u8(b'.');
            out.extend(mantissa);
        } else {
            out.put_bytes(b'0', whole - count);
        }
    }
}

/// `numeric_out` of `value` / 10^`scale`.
pub fn write_decimal(value: i128, scale: i8, out: &mut BytesMut) {
    write_decimal_text(Digits::of(format_args!("{value}")).as_slice(), scale, out);
}

/// As [`write_decimal`], of a number's digits.
pub fn write_decimal_text(number: &[u8], scale: i8, out: &mut BytesMut) {
    let (negative, digits) = split_sign(number);
    if negative {
        out.put_u8(b'-');
    }
    let zero = digits == b"0";
    if scale <= 0 {
        out.put_slice(digits);
        if !zero {
            out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        }
        return;
    }
    let scale = scale as usize;
    match digits.len().checked_sub(scale) {
        Some(whole @ 1..) => {
            out.put_slice(&digits[..whole]);
            out.put_u8(b'.');
            out.put_slice(&digits[whole..]);
        }
        _ => {
            out.put_slice(b"0.");
            out.put_bytes(b'0', scale - digits.len());
            out.put_slice(digits);
        }
    }
}

fn split_sign(number: &[u8]) -> (bool, &[u8]) {
    match number {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    }
}

/// `numeric_send` of `value` / 10^`scale`.
pub fn write_decimal_binary(value: i128, scale: i8, out: &mut BytesMut) {
    write_decimal_binary_text(Digits::of(format_args!("{value}")).as_slice(), scale, out);
}

/// As [`write_decimal_binary`], of a number's digits.
///
/// The value is split into groups of four digits, counted from the point; leading and trailing
/// groups of zero are left out. `weight` is the first group's place, 0 for the one before the
/// point.
pub fn write_decimal_binary_text(number: &[u8], scale: i8, out: &mut BytesMut) {
    let (negative, digits) = split_sign(number);
    let scale = i32::from(scale);
    let length = digits.len() as i32;
    // The digit at place p (0 is the one before the point, -1 the one after it).
    let digit_at = |place: i32| {
        let index = length - 1 - (place + scale);
        usize::try_from(index).ok().and_then(|i| digits.get(i)).map_or(0, |b| u16::from(b - b'0'))
    };
    let group_at = |group: i32| {
        (0..4).rev().fold(0, |value, offset| value * 10 + digit_at(group * 4 + offset))
    };
    let highest = (length - 1 - scale).div_euclid(4);
    let lowest = (-scale).div_euclid(4);
    let first = (lowest..=highest).rev().find(|g| group_at(*g) != 0);
    let last = (lowest..=highest).find(|g| group_at(*g) != 0);
    let (count, weight) = match (first, last) {
        (Some(first), Some(last)) => (first - last + 1, first),
        _ => (0, 0),
    };
    out.put_i16(count as i16);
    out.put_i16(weight as i16);
    out.put_u16(if negative { 0x4000 } else { 0 });
    out.put_i16(scale.max(0) as i16);
    for group in (weight - count + 1..=weight).rev() {
        out.put_u16(group_at(group));
    }
}
