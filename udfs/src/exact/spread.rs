//! `(n * S2 - S1^2) / divisor`, rounded once, over machine words: what nearly every variance is.
//! Where a number does not fit, `big` computes the same.

use super::round;
use super::sum::Fixed256;

/// An unsigned integer of 384 bits, the lowest limb first.
type Limbs = [u64; 6];

/// The `f64` nearest to `(count * squares - sum^2) / divisor`; `None` if that takes more bits.
///
/// `sum` is a magnitude and the exponent of its last bit, `squares` is not negative and has its
/// exponent likewise. `divisor` is not 0.
pub(crate) fn spread(
    count: u64,
    (sum, sum_exponent): (u128, i32),
    (squares, squares_exponent): (Fixed256, i32),
    divisor: u64,
) -> Option<f64> {
    let exponent = (2 * sum_exponent).min(squares_exponent);
    let squares = shl(times(squares, count), (squares_exponent - exponent) as u32)?;
    let squared = shl(square(sum), (2 * sum_exponent - exponent) as u32)?;
    let numerator = minus(&squares, &squared);
    let Some(top) = numerator.iter().rposition(|&limb| limb != 0) else { return Some(0.0) };
    let (word, below) = leading(&numerator, top);
    // The leading bit is at the top, so the quotient has at least 64 bits.
    let divisor = u128::from(divisor);
    let whole = word / divisor;
    let sticky = below || word != whole * divisor;
    let bits = 64 * (top as i32 + 1) - numerator[top].leading_zeros() as i32;
    Some(round(false, whole, sticky, exponent + bits - 128))
}

/// The 128 bits from the highest set one on, and whether there is another one below them.
fn leading(limbs: &Limbs, top: usize) -> (u128, bool) {
    let limb = |back: usize| top.checked_sub(back).map_or(0, |at| limbs[at]);
    let shift = limbs[top].leading_zeros();
    let word = (u128::from(limb(0)) << 64) | u128::from(limb(1));
    let next = limb(2);
    let moved_in = if shift == 0 { 0 } else { next >> (64 - shift) };
    let below = next << shift != 0 || limbs[..top.saturating_sub(2)].iter().any(|&l| l != 0);
    ((word << shift) | u128::from(moved_in), below)
}

fn times(value: Fixed256, factor: u64) -> Limbs {
    let mut out = [0; 6];
    let mut carry = 0;
    for (limb, out) in value.limbs().into_iter().zip(&mut out) {
        let product = u128::from(limb) * u128::from(factor) + carry;
        *out = product as u64;
        carry = product >> 64;
    }
    out[4] = carry as u64;
    out
}

fn square(value: u128) -> Limbs {
    let (low, high) = (u128::from(value as u64), value >> 64);
    let (first, mixed, last) = (low * low, low * high, high * high);
    let half = |word: u128| u128::from(word as u64);
    let second = (first >> 64) + 2 * half(mixed);
    let third = (second >> 64) + 2 * (mixed >> 64) + half(last);
    let fourth = (third >> 64) + (last >> 64);
    [first as u64, second as u64, third as u64, fourth as u64, 0, 0]
}

/// `value << bits` if it fits.
fn shl(value: Limbs, bits: u32) -> Option<Limbs> {
    if bits == 0 {
        return Some(value);
    }
    let top = value.iter().rposition(|&limb| limb != 0).unwrap_or(0);
    if 64 * (top as u32 + 1) - value[top].leading_zeros() + bits > 384 {
        return None;
    }
    let (limbs, bits) = ((bits / 64) as usize, bits % 64);
    let mut out = [0; 6];
    for at in limbs..6 {
        let below = (at - limbs).checked_sub(1).map_or(0, |below| value[below]);
        let carried = if bits == 0 { 0 } else { below >> (64 - bits) };
        out[at] = (value[at - limbs] << bits) | carried;
    }
    Some(out)
}

/// The difference, which is not negative: `n * S2 >= S1^2`.
fn minus(from: &Limbs, value: &Limbs) -> Limbs {
    let mut out = *from;
    let mut borrow = false;
    for (limb, subtrahend) in out.iter_mut().zip(value) {
        let (difference, first) = limb.overflowing_sub(*subtrahend);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        *limb = difference;
        borrow = first || second;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exact::{Big, Window, quotient};

    /// The same by integers of any length.
    fn by_big(count: u64, sum: (u128, i32), squares: (Fixed256, i32), divisor: u64) -> f64 {
        let (_, magnitude) = squares.0.value();
        let exponent = (2 * sum.1).min(squares.1);
        let word = Big::from_u128(sum.0);
        let squared = word.mul(&word).shl((2 * sum.1 - exponent) as u32);
        let squares = magnitude.mul_u64(count).shl((squares.1 - exponent) as u32);
        quotient(false, &squares.saturating_sub(&squared), exponent, std::iter::once(divisor))
    }

    proptest! {
        #[test]
        fn words_and_big_integers_agree(
            numbers in prop::collection::vec((any::<u64>(), 0..60_u32), 1..9),
            low in -300..300_i32,
            apart in -40..40_i32,
            divisor in 1..u64::MAX,
        ) {
            let count = numbers.len() as u64;
            let words = numbers.iter().map(|(word, shift)| u128::from(*word >> shift));
            let sum: u128 = words.clone().sum();
            let squares = words.map(|word| word * word).fold(Fixed256::ZERO, |sum, square| {
                sum.wrapping_add(Fixed256::from_u128(square))
            });
            // Both are multiples of powers of two: the exponents need not fit together.
            let (sum, squares) = ((sum, low), (squares, 2 * low));
            let plain = spread(count, sum, squares, divisor);
            prop_assert_eq!(plain, Some(by_big(count, sum, squares, divisor)));
            let lifted = (sum.0, sum.1 - apart.abs());
            let shrunk = Fixed256::place(false, 1, apart.unsigned_abs());
            let one = spread(1, (1, 0), (shrunk, -apart.abs()), divisor);
            prop_assert_eq!(one, Some(0.0));
            if let Some(value) = spread(count, lifted, squares, divisor) {
                prop_assert_eq!(value, by_big(count, lifted, squares, divisor));
            }
        }
    }

    #[test]
    fn numbers_that_are_too_long_are_left_to_others() {
        let one = Fixed256::from_u128(1);
        assert_eq!(spread(1, (0, 0), (one, 400), 1), None);
        assert_eq!(spread(1, (1, 0), (one, 0), 1), Some(0.0));
        let all = Fixed256::from_words(u128::MAX, u128::MAX >> 1);
        assert_eq!(spread(u64::MAX, (0, 0), (all, 0), 1), Some(2_f64.powi(319)));
    }
}
