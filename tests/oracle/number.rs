//! Exact numbers, and the double nearest to a quotient.

use num_bigint::{BigInt, BigUint};
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Integers times one power of two: exactly the numbers they were made from.
#[derive(Clone, Debug)]
pub struct Exact {
    /// The integers.
    pub units: Vec<BigInt>,
    /// The power of two that they are multiples of.
    pub exponent: i64,
}

impl Exact {
    /// Finite doubles.
    pub fn of_doubles(doubles: &[f64]) -> Exact {
        let parts: Vec<(BigInt, i64)> = doubles.iter().map(|double| parts(*double)).collect();
        let exponent = parts.iter().map(|(_, exponent)| *exponent).min().unwrap_or(0);
        let units = parts.into_iter().map(|(m, e)| m << (e - exponent)).collect();
        Exact { units, exponent }
    }

    /// Integers.
    pub fn of_integers(integers: impl Iterator<Item = i128>) -> Exact {
        Exact { units: integers.map(BigInt::from).collect(), exponent: 0 }
    }

    /// The sum in units.
    pub fn sum(&self) -> BigInt {
        self.units.iter().sum()
    }
}

/// A finite double as mantissa and exponent of two.
fn parts(double: f64) -> (BigInt, i64) {
    let bits = double.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, exponent) = match (bits >> 52) & 0x7ff {
        0 => (fraction, -1074),
        field => (fraction | (1 << 52), field as i64 - 1075),
    };
    let mantissa = BigInt::from(mantissa);
    (if bits >> 63 == 1 { -mantissa } else { mantissa }, exponent)
}

/// The double nearest to `numerator * 2^exponent / denominator`, ties to even.
///
/// # Panics
/// If the denominator is not positive.
pub fn nearest(numerator: &BigInt, exponent: i64, denominator: &BigInt) -> f64 {
    assert!(denominator.is_positive(), "the denominator is {denominator}");
    if numerator.is_zero() {
        return 0.0;
    }
    let magnitude = nearest_magnitude(numerator.magnitude(), exponent, denominator.magnitude());
    if numerator.is_negative() { -magnitude } else { magnitude }
}

fn nearest_magnitude(numerator: &BigUint, exponent: i64, denominator: &BigUint) -> f64 {
    // A quotient of 66 or 67 bits, times 2^scale; what is cut off only matters as not zero.
    let shift = 66 + denominator.bits() as i64 - numerator.bits() as i64;
    let (n, d) = match shift >= 0 {
        true => (numerator << shift, denominator.clone()),
        false => (numerator.clone(), denominator << -shift),
    };
    let quotient = &n / &d;
    let inexact = !(&n % &d).is_zero();
    let scale = exponent - shift;
    let top = quotient.bits() as i64 - 1 + scale;
    if top > 1023 {
        return f64::INFINITY;
    }
    // The place of the last bit that a double has there.
    let place = (top - 52).max(-1074);
    let cut = place - scale;
    let mut kept = &quotient >> cut;
    let rest = &quotient - (&kept << cut);
    let half = BigUint::one() << (cut - 1);
    let is_odd = kept.bit(0);
    if rest > half || (rest == half && (inexact || is_odd)) {
        kept += 1_u32;
    }
    // Both factors are doubles, and so is the product unless it is infinite.
    kept.to_u64().map_or(f64::NAN, |kept| kept as f64) * power_of_two(place)
}

fn power_of_two(power: i64) -> f64 {
    match power >= -1022 {
        true => f64::from_bits(((power + 1023) as u64) << 52),
        false => f64::from_bits(1 << (power + 1074)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(a: i64, b: i64) -> f64 {
        nearest(&a.into(), 0, &b.into())
    }

    #[test]
    fn quotients_of_small_integers_are_those_of_doubles() {
        for (a, b) in [(1, 3), (-2, 3), (10, 7), (1, 1 << 60), (i64::MAX >> 10, 3), (5, 1)] {
            assert_eq!(ratio(a, b).to_bits(), (a as f64 / b as f64).to_bits(), "{a} / {b}");
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let of = |double: f64| parts(double);
        for double in [5e-324, f64::MIN_POSITIVE, f64::MAX, -1e-310, 0.1, -2.0] {
            let (mantissa, exponent) = of(double);
            assert_eq!(nearest(&mantissa, exponent, &BigInt::one()), double);
        }
        let (mantissa, exponent) = of(f64::MAX);
        let twice: BigInt = mantissa * 2;
        assert_eq!(nearest(&twice, exponent, &BigInt::one()), f64::INFINITY);
        // Half of the least double is a tie, which goes to zero; three quarters do not.
        assert_eq!(nearest(&BigInt::one(), -1075, &BigInt::one()), 0.0);
        assert_eq!(nearest(&BigInt::from(3), -1076, &BigInt::one()), 5e-324);
    }

    #[test]
    fn sums_are_exact() {
        let exact = Exact::of_doubles(&[1e17, 1.0, -1e17, f64::MAX, -f64::MAX, 5e-324]);
        assert_eq!(nearest(&exact.sum(), exact.exponent, &BigInt::one()), 1.0);
    }
}
