//! Numbers in PostgreSQL's spelling.

use super::{InputError, Result, is_space};

/// A whole number of a type that is `bits` wide.
pub fn integer(text: &str, type_name: &str, min: i64, max: i64) -> Result<i64> {
    let word = text.trim_matches(is_space);
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InputError::syntax(type_name, text));
    }
    match word.parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(InputError::range(type_name, text)),
    }
}

/// `float8in`.
pub fn float8(text: &str) -> Result<f64> {
    let word = float_word(text, "double precision")?;
    let value: f64 = word.parse().map_err(|_| InputError::syntax("double precision", text))?;
    check_range(word, value.is_infinite(), value == 0.0, "double precision")?;
    Ok(value)
}

/// `float4in`; parsed as a `f32` at once, so that it is rounded only once.
pub fn float4(text: &str) -> Result<f32> {
    let word = float_word(text, "real")?;
    let value: f32 = word.parse().map_err(|_| InputError::syntax("real", text))?;
    check_range(word, value.is_infinite(), value == 0.0, "real")?;
    Ok(value)
}

fn float_word<'a>(text: &'a str, type_name: &str) -> Result<&'a str> {
    let word = text.trim_matches(is_space);
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    // PostgreSQL has no signed NaN, Rust's parser does.
    if digits.eq_ignore_ascii_case("nan") && digits.len() != word.len() {
        return Err(InputError::syntax(type_name, text));
    }
    Ok(word)
}

/// A finite spelling must not become an infinity, nor one with a digit other than 0 a zero.
fn check_range(word: &str, infinite: bool, zero: bool, type_name: &str) -> Result<()> {
    let mantissa = word.split(['e', 'E']).next().unwrap_or_default();
    let spelled_in_digits = word.bytes().any(|b| b.is_ascii_digit());
    let non_zero = mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    if spelled_in_digits && (infinite || (zero && non_zero)) {
        let message = format!("\"{}\" is out of range for type {type_name}", super::shorten(word));
        return Err(InputError::new("22003", message));
    }
    Ok(())
}

/// `numeric_in` with a type modifier: the value times 10^scale, rounded half away from zero.
pub fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let word = text.trim_matches(is_space);
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    if ["nan", "inf", "infinity"].iter().any(|s| unsigned.eq_ignore_ascii_case(s)) {
        return Err(overflow(precision, scale));
    }
    let syntax = || InputError::syntax("numeric", text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(syntax());
            }
            let exponent = exponent.parse::<i32>().unwrap_or(if exponent.starts_with('-') {
                -1_000_000
            } else {
                1_000_000
            });
            (mantissa, exponent.clamp(-1_000_000, 1_000_000))
        }
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|b| b.is_ascii_digit()) {
        return Err(syntax());
    }
    // The digits that stay are those before position `kept`.
    let kept = whole.len() as i64 + i64::from(exponent) + i64::from(scale);
    let unscaled = scale_digits(digits(), kept).ok_or_else(|| overflow(precision, scale))?;
    if unscaled >= 10_i128.pow(u32::from(precision.min(38))) {
        return Err(overflow(precision, scale));
    }
    Ok(if word.starts_with('-') { -unscaled } else { unscaled })
}

/// The first `kept` digits as a number, rounded by the next one; `None` if too large.
fn scale_digits(digits: impl Iterator<Item = u8>, kept: i64) -> Option<i128> {
    let mut value: i128 = 0;
    let mut position = 0_i64;
    let mut round_up = false;
    for digit in digits {
        let digit = i128::from(digit - b'0');
        if position < kept {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else if position == kept {
            round_up = digit >= 5;
        }
        position += 1;
    }
    if value != 0 {
        for _ in position..kept {
            value = value.checked_mul(10)?;
        }
    }
    value.checked_add(i128::from(round_up))
}

fn overflow(precision: u8, scale: i8) -> InputError {
    let power = i32::from(precision) - i32::from(scale);
    let detail = format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less \
         than 10^{power}."
    );
    InputError { code: "22003", message: "numeric field overflow".to_owned(), detail: Some(detail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        let int4 = |text| integer(text, "integer", i64::from(i32::MIN), i64::from(i32::MAX));
        assert_eq!(int4(" -42 "), Ok(-42));
        assert_eq!(int4("+7"), Ok(7));
        assert_eq!(int4("2147483648").unwrap_err().code, "22003");
        let message = "value \"99999999999999999999\" is out of range for type integer";
        assert_eq!(int4("99999999999999999999").unwrap_err().message, message);
        for bad in ["", "1.0", "1e3", "- 1", "--1", "0x10", "１"] {
            assert_eq!(int4(bad).unwrap_err().code, "22P02", "{bad}");
        }
    }

    #[test]
    fn floats() {
        assert_eq!(float8(" 1e3 "), Ok(1000.0));
        assert!(float8("NaN").unwrap().is_nan());
        assert_eq!(float8("-Infinity"), Ok(f64::NEG_INFINITY));
        assert_eq!(float8("inf"), Ok(f64::INFINITY));
        assert_eq!(float8("0e-999"), Ok(0.0));
        assert!(float8("-0").unwrap().is_sign_negative());
        assert_eq!(float8("1e400").unwrap_err().code, "22003");
        assert_eq!(float8("1e-400").unwrap_err().code, "22003");
        assert_eq!(float4("1e39").unwrap_err().code, "22003");
        for bad in ["", "abc", "1 2", "+nan", "0x1p3", "1,5"] {
            assert_eq!(float8(bad).unwrap_err().code, "22P02", "{bad}");
        }
    }

    #[test]
    fn decimals_round_half_away_from_zero() {
        assert_eq!(decimal("1.005", 10, 2), Ok(101));
        assert_eq!(decimal("-1.005", 10, 2), Ok(-101));
        assert_eq!(decimal("1.0049999", 10, 2), Ok(100));
        assert_eq!(decimal("12e2", 10, 0), Ok(1200));
        assert_eq!(decimal(".5", 10, 0), Ok(1));
        assert_eq!(decimal("0.05", 10, 0), Ok(0));
        assert_eq!(decimal("5.", 3, 1), Ok(50));
        assert_eq!(decimal("1e-1000000000", 3, 1), Ok(0));
        assert_eq!(decimal("1250", 3, -2), Ok(13));
        assert_eq!(decimal("0e1000000000", 3, 1), Ok(0));
        let error = decimal("999.995", 5, 2).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), ("22003", "numeric field overflow"));
        assert_eq!(decimal("NaN", 5, 2).unwrap_err().code, "22003");
        for bad in ["", ".", "1.2.3", "1e", "abc", "1_0"] {
            assert_eq!(decimal(bad, 10, 2).unwrap_err().code, "22P02", "{bad}");
        }
        let nines = "9".repeat(38);
        assert_eq!(decimal(&nines, 38, 0).unwrap().to_string(), nines);
        assert_eq!(decimal(&format!("{nines}9"), 38, 0).unwrap_err().code, "22003");
    }
}
