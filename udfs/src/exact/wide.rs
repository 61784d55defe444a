//! The spill of a running sum: a signed fixed-point number as long as the data need.

use super::big::Big;

/// A two's complement number: `limbs` little-endian, the lowest worth `2^(64 * base)`.
///
/// Invariant: there is a top limb and it is pure sign, 0 or `u64::MAX`. So adding a number whose
/// magnitude lies below the top limb cannot overflow; it can only make the top limb impure, and
/// then one more limb is pushed. Doubles reach from 2^-1074 (squares: 2^-2148) to 2^1024
/// (2^2048), so the length is bounded by 70 limbs.
#[derive(Debug, Clone)]
pub(super) struct Wide {
    base: i32,
    limbs: Vec<u64>,
}

impl Wide {
    pub(super) fn new() -> Self {
        Wide { base: 0, limbs: Vec::new() }
    }

    /// Adds `±magnitude * 2^exponent`, exactly.
    pub(super) fn add(&mut self, negative: bool, magnitude: &Big, exponent: i32) {
        if magnitude.is_zero() {
            return;
        }
        let shifted = magnitude.shl(exponent.rem_euclid(64) as u32);
        let low = exponent.div_euclid(64);
        self.cover(low, low + shifted.limbs().len() as i32 + 1);
        let at = (low - self.base) as usize;
        let mut carry = false;
        for i in at..self.limbs.len() {
            let operand = shifted.limbs().get(i - at).copied().unwrap_or(0);
            if operand == 0 && !carry {
                if i - at >= shifted.limbs().len() {
                    break;
                }
                continue;
            }
            let (limb, first, second);
            if negative {
                let (difference, borrowed) = self.limbs[i].overflowing_sub(operand);
                first = borrowed;
                (limb, second) = difference.overflowing_sub(u64::from(carry));
            } else {
                let (sum, carried) = self.limbs[i].overflowing_add(operand);
                first = carried;
                (limb, second) = sum.overflowing_add(u64::from(carry));
            }
            self.limbs[i] = limb;
            carry = first || second;
        }
        if let Some(&top) = self.limbs.last()
            && top != 0
            && top != u64::MAX
        {
            self.limbs.push(sign_of(top));
        }
    }

    /// Makes limbs `low..high` (absolute) exist.
    fn cover(&mut self, low: i32, high: i32) {
        if self.limbs.is_empty() {
            self.base = low;
        }
        if low < self.base {
            let missing = (self.base - low) as usize;
            self.limbs.splice(0..0, std::iter::repeat_n(0, missing));
            self.base = low;
        }
        let length = (high - self.base) as usize;
        if length > self.limbs.len() {
            let sign = self.limbs.last().map_or(0, |&top| sign_of(top));
            self.limbs.resize(length, sign);
        }
    }

    /// The value as sign, magnitude and exponent of the last bit.
    pub(super) fn value(&self) -> (bool, Big, i32) {
        let exponent = self.base * 64;
        if self.limbs.last().is_none_or(|&top| top == 0) {
            return (false, Big::from_limbs(&self.limbs), exponent);
        }
        let mut carry = true;
        let mut magnitude = self.limbs.clone();
        for limb in &mut magnitude {
            let (negated, carried) = (!*limb).overflowing_add(u64::from(carry));
            *limb = negated;
            carry = carried;
        }
        if carry {
            magnitude.push(1);
        }
        (true, Big::from_limbs(&magnitude), exponent)
    }
}

/// The sign extension of a top limb.
fn sign_of(top: u64) -> u64 {
    if top >> 63 == 1 { u64::MAX } else { 0 }
}
