//! Unsigned integers of any length: just what a mean and a variance need.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::round;

/// An unsigned integer, little-endian limbs, no zero limb at the top. Ordinary data stay inline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Big {
    limbs: SmallVec<[u64; 10]>,
}

impl Big {
    pub(crate) fn from_limbs(limbs: &[u64]) -> Self {
        let mut big = Big { limbs: SmallVec::from_slice(limbs) };
        big.trim();
        big
    }

    pub(crate) fn from_u128(value: u128) -> Self {
        Self::from_limbs(&[value as u64, (value >> 64) as u64])
    }

    pub(crate) fn limbs(&self) -> &[u64] {
        &self.limbs
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }

    /// The number of significant bits.
    pub(crate) fn bits(&self) -> u32 {
        match self.limbs.last() {
            None => 0,
            Some(top) => self.limbs.len() as u32 * 64 - top.leading_zeros(),
        }
    }

    /// How often 2 divides the number; 0 for zero.
    pub(crate) fn trailing_zeros(&self) -> u32 {
        match self.limbs.iter().position(|&limb| limb != 0) {
            None => 0,
            Some(at) => at as u32 * 64 + self.limbs[at].trailing_zeros(),
        }
    }

    pub(crate) fn shl(&self, bits: u32) -> Big {
        let (limbs, bits) = ((bits / 64) as usize, bits % 64);
        let mut out = SmallVec::from_elem(0, limbs);
        let mut carry = 0;
        for &limb in &self.limbs {
            out.push((limb << bits) | carry);
            carry = if bits == 0 { 0 } else { limb >> (64 - bits) };
        }
        out.push(carry);
        let mut big = Big { limbs: out };
        big.trim();
        big
    }

    /// Drops the low `bits` bits.
    pub(crate) fn shr(&self, bits: u32) -> Big {
        let (limbs, bits) = ((bits / 64) as usize, bits % 64);
        let kept = self.limbs.get(limbs..).unwrap_or(&[]);
        let mut big = Big { limbs: SmallVec::with_capacity(kept.len()) };
        for (i, &limb) in kept.iter().enumerate() {
            let above = kept.get(i + 1).copied().unwrap_or(0);
            let high = if bits == 0 { 0 } else { above << (64 - bits) };
            big.limbs.push((limb >> bits) | high);
        }
        big.trim();
        big
    }

    pub(crate) fn mul(&self, other: &Big) -> Big {
        let mut out = SmallVec::from_elem(0_u64, self.limbs.len() + other.limbs.len());
        for (i, &a) in self.limbs.iter().enumerate() {
            let mut carry = 0_u128;
            for (j, &b) in other.limbs.iter().enumerate() {
                let sum = u128::from(a) * u128::from(b) + u128::from(out[i + j]) + carry;
                out[i + j] = sum as u64;
                carry = sum >> 64;
            }
            out[i + other.limbs.len()] = carry as u64;
        }
        let mut big = Big { limbs: out };
        big.trim();
        big
    }

    pub(crate) fn mul_u64(&self, factor: u64) -> Big {
        self.mul(&Big::from_limbs(&[factor]))
    }

    /// `self - other`, which must not be negative; returns zero if it were.
    pub(crate) fn saturating_sub(&self, other: &Big) -> Big {
        if self.compare(other) != Ordering::Greater {
            return Big::default();
        }
        let mut big = self.clone();
        let mut borrow = false;
        for (i, limb) in big.limbs.iter_mut().enumerate() {
            let subtrahend = other.limbs.get(i).copied().unwrap_or(0);
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        big.trim();
        big
    }

    pub(crate) fn compare(&self, other: &Big) -> Ordering {
        let by_length = self.limbs.len().cmp(&other.limbs.len());
        by_length.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
    }

    /// Divides in place, rounding down; returns the remainder. `divisor` is not 0.
    fn div_u64(&mut self, divisor: u64) -> u64 {
        let mut rest = 0_u64;
        for limb in self.limbs.iter_mut().rev() {
            let part = (u128::from(rest) << 64) | u128::from(*limb);
            *limb = (part / u128::from(divisor)) as u64;
            rest = (part % u128::from(divisor)) as u64;
        }
        self.trim();
        rest
    }

    /// The value as `u128` if it fits.
    pub(crate) fn to_u128(&self) -> Option<u128> {
        match *self.limbs.as_slice() {
            [] => Some(0),
            [low] => Some(u128::from(low)),
            [low, high] => Some(u128::from(low) | (u128::from(high) << 64)),
            _ => None,
        }
    }
}

/// The `f64` nearest to `±numerator * 2^exponent / product(divisors)`. No divisor is 0.
///
/// Dividing one factor after the other and rounding down each time gives the same integer as
/// dividing by the product; any remainder on the way makes the result inexact (sticky).
pub(crate) fn quotient(
    negative: bool,
    numerator: &Big,
    exponent: i32,
    divisors: impl Iterator<Item = u64> + Clone,
) -> f64 {
    let divisor_bits: u32 = divisors.clone().map(|divisor| 64 - divisor.leading_zeros()).sum();
    // At least 66 bits of quotient: enough for the rounding and its sticky bit.
    let lift = (divisor_bits + 66).saturating_sub(numerator.bits());
    let mut value = if lift == 0 { numerator.clone() } else { numerator.shl(lift) };
    let mut sticky = false;
    for divisor in divisors {
        sticky |= value.div_u64(divisor) != 0;
    }
    let cut = value.bits().saturating_sub(128);
    if cut > 0 {
        sticky |= value.trailing_zeros() < cut;
        value = value.shr(cut);
    }
    // After the cut at most two limbs are left.
    let magnitude = value.to_u128().unwrap_or(u128::MAX);
    round(negative, magnitude, sticky, exponent - lift as i32 + cut as i32)
}

/// The `f64` nearest to `±numerator * 2^exponent / divisor`, for one word. `divisor` is not 0.
pub(crate) fn quotient_u128(negative: bool, numerator: u128, exponent: i32, divisor: u64) -> f64 {
    if numerator == 0 {
        return 0.0;
    }
    if divisor == 1 {
        return round(negative, numerator, false, exponent);
    }
    // With the leading bit at the top the quotient has at least 64 bits.
    let lift = numerator.leading_zeros();
    let lifted = numerator << lift;
    let divisor = u128::from(divisor);
    let whole = lifted / divisor;
    round(negative, whole, lifted != whole * divisor, exponent - lift as i32)
}
