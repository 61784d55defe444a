//! Rounding a binary number to the nearest `f64`, ties to even.

/// The `f64` nearest to `±(magnitude + sticky) * 2^exponent`, ties to even.
///
/// `sticky` says that a positive fraction below the last bit was cut off; then `magnitude` must
/// have at least 55 significant bits for the result to be right. Exact zero is `+0.0`; a value
/// too small for a subnormal is a zero of its sign, one beyond the range an infinity.
pub(crate) fn round(negative: bool, magnitude: u128, sticky: bool, exponent: i32) -> f64 {
    if magnitude == 0 {
        return 0.0;
    }
    let bits = (128 - magnitude.leading_zeros()) as i32;
    // The exponent of the leading bit: the value is in [2^top, 2^(top + 1)).
    let top = exponent + bits - 1;
    let sign = u64::from(negative) << 63;
    if top > 1023 {
        return f64::from_bits(sign | f64::INFINITY.to_bits());
    }
    // Below 2^-1022 the last place is fixed at 2^-1074 and precision shrinks.
    let precision = if top >= -1022 { 53 } else { 53 - (-1022 - top) };
    let drop = bits - precision;
    let mantissa = if drop <= 0 {
        (magnitude as u64) << -drop
    } else {
        shift_rounding(magnitude, sticky, drop as u32)
    };
    // A mantissa rounded up to 2^53 carries into the exponent field, as it should.
    let field = if top >= -1022 {
        (((top + 1023) as u64) << 52) + (mantissa - (1 << 52))
    } else {
        mantissa
    };
    f64::from_bits(sign | field)
}

/// `magnitude >> drop`, rounded to nearest, ties to even. The result has at most 54 bits.
fn shift_rounding(magnitude: u128, sticky: bool, drop: u32) -> u64 {
    let kept = magnitude.checked_shr(drop).unwrap_or(0) as u64;
    let half = 1_u128.checked_shl(drop - 1).unwrap_or(0);
    if half == 0 {
        return 0; // Everything is below half of the last place.
    }
    let rest = magnitude & (half | (half - 1));
    let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
    kept + u64::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_as_the_language_does() {
        for shift in 0..127 {
            for low in [0_u128, 1, 2, 3] {
                for base in [1_u128 << shift, (1_u128 << shift).saturating_sub(1)] {
                    let value = base.saturating_add(low);
                    assert_eq!(round(false, value, false, 0).to_bits(), (value as f64).to_bits());
                }
            }
        }
    }

    #[test]
    fn edges() {
        assert_eq!(round(true, 0, false, 0).to_bits(), 0);
        assert_eq!(round(false, 1, false, -1074).to_bits(), 1);
        assert_eq!(round(false, 1, false, -1075).to_bits(), 0);
        assert_eq!(round(false, 3, false, -1075).to_bits(), 2);
        assert_eq!(round(false, (1 << 60) + 1, false, -1135).to_bits(), 1);
        assert_eq!(round(true, 1, false, -1200).to_bits(), (-0.0_f64).to_bits());
        assert_eq!(round(false, 1, false, 1024), f64::INFINITY);
        assert_eq!(round(false, (1 << 53) - 1, false, 971), f64::MAX);
        assert_eq!(round(false, (1 << 54) - 1, false, 970), f64::INFINITY);
        assert_eq!(round(false, (1 << 53) - 1, false, -1075), f64::MIN_POSITIVE);
        assert_eq!(round(false, u128::MAX, true, -1202).to_bits(), 1);
    }
}
