//! The running exact sum of binary floating-point numbers.
//!
//! 1. A sum is `window * 2^base + spill`. The window is one machine integer (128 bits for
//!    doubles, 256 for their squares), so an ordinary addition is a shift and an add.
//! 2. A number outside of the window's reach, or an addition that would overflow it, moves the
//!    window's contents to the spill, which is as long as it must be, and places the window anew.
//! 3. Nothing is ever rounded: addition is commutative, associative and has an inverse.

use super::big::{Big, quotient, quotient_u128};
use super::wide::Wide;

/// The integer type of a sum's window.
pub(crate) trait Window: Copy + std::fmt::Debug + Send + Sync + 'static {
    /// The empty window.
    const ZERO: Self;
    /// The greatest shift that `place` takes.
    const REACH: u32;
    /// How far below a first number's last bit the window begins.
    const LIFT: i32;
    /// The most bits of a magnitude with room for another addition.
    const ROOM: u32;
    /// `±mantissa << shift`, which has at most `ROOM` bits.
    fn place(negative: bool, mantissa: u128, shift: u32) -> Self;
    /// The exact sum if it fits.
    fn checked_add(self, other: Self) -> Option<Self>;
    /// The sum modulo the word's length.
    fn wrapping_add(self, other: Self) -> Self;
    /// The difference modulo the word's length.
    fn wrapping_sub(self, other: Self) -> Self;
    /// `self << bits` if it fits.
    fn checked_shl(self, bits: u32) -> Option<Self>;
    /// Whether it is zero.
    fn is_zero(self) -> bool;
    /// Sign and magnitude.
    fn value(self) -> (bool, Big);
    /// Sign and magnitude if the latter fits one `u128`.
    fn narrow(self) -> Option<(bool, u128)>;
}

impl Window for i128 {
    const ZERO: Self = 0;
    // A double's mantissa has 53 bits: at most 126 bits and a sign.
    const REACH: u32 = 73;
    const LIFT: i32 = 28;
    const ROOM: u32 = 126;

    #[inline]
    fn place(negative: bool, mantissa: u128, shift: u32) -> Self {
        let placed = (mantissa << shift) as i128;
        if negative { -placed } else { placed }
    }

    #[inline]
    fn checked_add(self, other: Self) -> Option<Self> {
        i128::checked_add(self, other)
    }

    #[inline]
    fn wrapping_add(self, other: Self) -> Self {
        i128::wrapping_add(self, other)
    }

    #[inline]
    fn wrapping_sub(self, other: Self) -> Self {
        i128::wrapping_sub(self, other)
    }

    fn checked_shl(self, bits: u32) -> Option<Self> {
        (bits < 127 && self.unsigned_abs().leading_zeros() > bits).then(|| self << bits)
    }

    #[inline]
    fn is_zero(self) -> bool {
        self == 0
    }

    fn value(self) -> (bool, Big) {
        (self < 0, Big::from_u128(self.unsigned_abs()))
    }

    fn narrow(self) -> Option<(bool, u128)> {
        Some((self < 0, self.unsigned_abs()))
    }
}

/// A 256-bit two's complement integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fixed256 {
    low: u128,
    high: i128,
}

impl Fixed256 {
    /// The sign extension of a word.
    #[inline]
    pub(crate) fn from_i128(value: i128) -> Self {
        Fixed256 { low: value as u128, high: value >> 127 }
    }

    /// An unsigned word.
    #[inline]
    pub(crate) fn from_u128(low: u128) -> Self {
        Fixed256 { low, high: 0 }
    }

    /// The sum modulo 2^256.
    #[inline]
    pub(crate) fn wrapping_add(self, other: Self) -> Self {
        let (low, carry) = self.low.overflowing_add(other.low);
        Fixed256 { low, high: self.high.wrapping_add(other.high).wrapping_add(i128::from(carry)) }
    }

    /// The negation modulo 2^256.
    #[inline]
    pub(crate) fn wrapping_neg(self) -> Self {
        let (low, carry) = (!self.low).overflowing_add(1);
        Fixed256 { low, high: (!self.high).wrapping_add(i128::from(carry)) }
    }

    /// The value as `i128` if it fits.
    pub(crate) fn to_i128(self) -> Option<i128> {
        let word = self.low as i128;
        (self.high == word >> 127).then_some(word)
    }

    /// The limbs of a number that is not negative, the lowest first.
    #[inline]
    pub(crate) fn limbs(self) -> [u64; 4] {
        let (low, high) = (self.low, self.high as u128);
        [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64]
    }

    /// 32 bytes, little-endian.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.low.to_le_bytes());
        bytes[16..].copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    /// The inverse of `to_bytes`.
    pub(crate) fn from_words(low: u128, high: u128) -> Self {
        Fixed256 { low, high: high as i128 }
    }
}

impl Window for Fixed256 {
    const ZERO: Self = Fixed256 { low: 0, high: 0 };
    // A square of a mantissa has 106 bits: at most 254 bits and a sign.
    const REACH: u32 = 148;
    const LIFT: i32 = 64;
    const ROOM: u32 = 254;

    #[inline]
    fn place(negative: bool, mantissa: u128, shift: u32) -> Self {
        let placed = if shift == 0 {
            Fixed256 { low: mantissa, high: 0 }
        } else if shift < 128 {
            Fixed256 { low: mantissa << shift, high: (mantissa >> (128 - shift)) as i128 }
        } else {
            Fixed256 { low: 0, high: (mantissa << (shift - 128)) as i128 }
        };
        if negative { placed.wrapping_neg() } else { placed }
    }

    #[inline]
    fn checked_add(self, other: Self) -> Option<Self> {
        let sum = self.wrapping_add(other);
        // Overflow happened if both operands have the sign that the sum has not.
        let overflowed = (self.high ^ sum.high) & (other.high ^ sum.high) < 0;
        (!overflowed).then_some(sum)
    }

    #[inline]
    fn wrapping_add(self, other: Self) -> Self {
        Fixed256::wrapping_add(self, other)
    }

    #[inline]
    fn wrapping_sub(self, other: Self) -> Self {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        let high = self.high.wrapping_sub(other.high).wrapping_sub(i128::from(borrow));
        Fixed256 { low, high }
    }

    fn checked_shl(self, bits: u32) -> Option<Self> {
        let (negative, magnitude) = self.value();
        if magnitude.bits() + bits > 254 {
            return None;
        }
        let shifted = magnitude.shl(bits);
        let word = |at: usize| u128::from(shifted.limbs().get(at).copied().unwrap_or(0));
        let low = word(0) | (word(1) << 64);
        let placed = Fixed256 { low, high: (word(2) | (word(3) << 64)) as i128 };
        Some(if negative { placed.wrapping_neg() } else { placed })
    }

    #[inline]
    fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    fn value(self) -> (bool, Big) {
        let negative = self.high < 0;
        let magnitude = if negative { self.wrapping_neg() } else { self };
        (negative, Big::from_limbs(&magnitude.limbs()))
    }

    fn narrow(self) -> Option<(bool, u128)> {
        let word = self.to_i128()?;
        Some((word < 0, word.unsigned_abs()))
    }
}

/// A multiple of 16, so that the windows of different sums are often the same.
fn aligned(base: i32) -> i32 {
    base.div_euclid(16) * 16
}

/// An exact sum of numbers `±mantissa * 2^exponent`.
#[derive(Debug, Clone)]
pub(crate) struct Sum<W> {
    window: W,
    base: i32,
    spill: Option<Box<Wide>>,
}

impl<W: Window> Sum<W> {
    /// The empty sum.
    pub(crate) const ZERO: Sum<W> = Sum { window: W::ZERO, base: 0, spill: None };

    /// The sum `window * 2^base`.
    #[inline]
    pub(crate) fn new(window: W, base: i32) -> Self {
        Sum { window, base, spill: None }
    }

    /// The window and its base if nothing was spilled: then the sum is `window * 2^base`.
    #[inline]
    pub(crate) fn word(&self) -> Option<(W, i32)> {
        self.spill.is_none().then_some((self.window, self.base))
    }

    /// Adds `±mantissa * 2^exponent`; the mantissa has at most 53 bits (256-bit window: 106).
    #[inline]
    pub(crate) fn add(&mut self, negative: bool, mantissa: u128, exponent: i32) {
        let shift = exponent.wrapping_sub(self.base) as u32;
        if shift <= W::REACH
            && let Some(sum) = self.window.checked_add(W::place(negative, mantissa, shift))
        {
            self.window = sum;
        } else {
            self.add_far(negative, mantissa, exponent);
        }
    }

    /// Adds a number that does not fit the window where it stands.
    #[cold]
    #[inline(never)]
    fn add_far(&mut self, negative: bool, mantissa: u128, exponent: i32) {
        if mantissa == 0 {
            return;
        }
        let base = aligned(exponent - W::LIFT);
        let lowered = exponent < self.base && self.lower(base);
        if !lowered && !self.window.is_zero() {
            let (sign, magnitude) = self.window.value();
            self.spill
                .get_or_insert_with(|| Box::new(Wide::new()))
                .add(sign, &magnitude, self.base);
            self.window = W::ZERO;
        }
        if self.window.is_zero() {
            self.window = W::place(negative, mantissa, (exponent - base) as u32);
            self.base = base;
        } else {
            self.add(negative, mantissa, exponent);
        }
    }

    /// Moves the window's beginning down to `base` if its contents still fit.
    fn lower(&mut self, base: i32) -> bool {
        let Ok(bits) = u32::try_from(self.base - base) else { return false };
        // One bit is left free, so that the next addition can fit.
        match self.window.checked_shl(bits.saturating_add(1)) {
            Some(_) => {
                self.window = self.window.checked_shl(bits).unwrap_or(W::ZERO);
                self.base = base;
                true
            }
            None => false,
        }
    }

    /// Adds another sum.
    pub(crate) fn merge(&mut self, other: &Sum<W>) {
        if let Some(spill) = &other.spill {
            let (sign, magnitude, exponent) = spill.value();
            self.spill.get_or_insert_with(|| Box::new(Wide::new())).add(sign, &magnitude, exponent);
        }
        if other.window.is_zero() {
            return;
        }
        if self.window.is_zero() {
            (self.window, self.base) = (other.window, other.base);
            return;
        }
        let mut addend = Sum { window: other.window, base: other.base, spill: None };
        let aligned = addend.base == self.base
            || (addend.base > self.base && addend.lower(self.base))
            || (addend.base < self.base && self.lower(addend.base));
        if aligned && let Some(sum) = self.window.checked_add(addend.window) {
            self.window = sum;
        } else {
            let (sign, magnitude) = addend.window.value();
            self.spill.get_or_insert_with(|| Box::new(Wide::new())).add(
                sign,
                &magnitude,
                addend.base,
            );
        }
    }

    /// The exact value: sign, magnitude, and the exponent of the magnitude's last bit.
    pub(crate) fn value(&self) -> (bool, Big, i32) {
        let (sign, magnitude) = self.window.value();
        match &self.spill {
            None => (sign, magnitude, self.base),
            Some(spill) => {
                let mut total = Wide::clone(spill);
                total.add(sign, &magnitude, self.base);
                total.value()
            }
        }
    }

    /// The one form of a value: an odd magnitude, or zero with exponent 0.
    pub(crate) fn canonical(&self) -> (bool, Big, i32) {
        let (sign, magnitude, exponent) = self.value();
        if magnitude.is_zero() {
            return (false, magnitude, 0);
        }
        let zeros = magnitude.trailing_zeros();
        (sign, magnitude.shr(zeros), exponent + zeros as i32)
    }

    /// The sum that `canonical` describes.
    pub(crate) fn from_canonical(negative: bool, magnitude: &[u64], exponent: i32) -> Self {
        let word = match *magnitude {
            [low] => Some(u128::from(low)),
            [low, high] => Some(u128::from(low) | (u128::from(high) << 64)),
            _ => None,
        };
        // Nearly always it fits the window, with room for lower bits or at least where it stands.
        for base in [aligned(exponent - W::LIFT), aligned(exponent)] {
            let shift = (exponent - base) as u32;
            if let Some(word) = word
                && 128 - word.leading_zeros() + shift <= W::ROOM
            {
                return Sum { window: W::place(negative, word, shift), base, spill: None };
            }
        }
        let mut sum = Self::ZERO;
        for (i, &limb) in magnitude.iter().enumerate() {
            let exponent = exponent + 64 * i as i32;
            sum.add(negative, u128::from(limb as u32), exponent);
            sum.add(negative, u128::from(limb >> 32), exponent + 32);
        }
        sum
    }

    /// The `f64` nearest to the sum divided by `divisor` (not 0).
    pub(crate) fn divided(&self, divisor: u64) -> f64 {
        if self.spill.is_none()
            && let Some((sign, magnitude)) = self.window.narrow()
        {
            return quotient_u128(sign, magnitude, self.base, divisor);
        }
        let (sign, magnitude, exponent) = self.value();
        quotient(sign, &magnitude, exponent, std::iter::once(divisor))
    }

    /// The `f64` nearest to the sum.
    pub(crate) fn rounded(&self) -> f64 {
        if self.spill.is_none()
            && let Some((sign, magnitude)) = self.window.narrow()
        {
            return super::round(sign, magnitude, false, self.base);
        }
        let (sign, magnitude, exponent) = self.value();
        quotient(sign, &magnitude, exponent, std::iter::empty())
    }
}

impl<W: Window> PartialEq for Sum<W> {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}
