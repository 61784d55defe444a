//! Exact totals: the sum and the count of the numbers seen.

use std::fmt::Debug;

use crate::exact::{self, Big, Fixed256, Term, Window};
use crate::kind::{Decimal, Double, Kind, Long, take};

/// The exact sum and the count of some numbers. The default is that of none.
pub(super) trait Total: Default + Clone + Debug + PartialEq + Send + Sync + 'static {
    /// The kind of the numbers.
    type Input: Kind;
    /// The kind of their sum.
    type Output: Kind;

    /// What a number is; `None` if it is not finite.
    fn term(value: <Self::Input as Kind>::Value<'_>) -> Option<Term>;
    /// The total of `count` numbers whose terms add up to `sum * 2^base`.
    fn of(count: u64, sum: i128, base: i32) -> Self;
    /// Adds a number.
    fn insert(&mut self, value: <Self::Input as Kind>::Value<'_>);
    /// Takes a number back.
    fn remove(&mut self, value: <Self::Input as Kind>::Value<'_>);
    /// Adds another total.
    fn merge(&mut self, other: &Self);
    /// How many numbers.
    fn count(&self) -> u64;
    /// The sum; `None` if it is out of range.
    fn sum(&self) -> Option<<Self::Output as Kind>::Value<'_>>;
    /// The sum times 10^-scale over the count (not 0), rounded once.
    fn mean(&self, scale: i8) -> f64;
    /// Appends the bytes of the one form of this total.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes what `encode` wrote off the front.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;
}

/// Integers: 2^64 of them cannot overflow 128 bits.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LongTotal {
    count: u64,
    sum: i128,
}

impl Total for LongTotal {
    type Input = Long;
    type Output = Long;

    #[inline]
    fn term(value: i64) -> Option<Term> {
        Some(long_term(value))
    }

    /// Integers' terms have the exponent 0, and so have their sums.
    #[inline]
    fn of(count: u64, sum: i128, _base: i32) -> Self {
        LongTotal { count, sum }
    }

    #[inline]
    fn insert(&mut self, value: i64) {
        self.count += 1;
        self.sum += i128::from(value);
    }

    #[inline]
    fn remove(&mut self, value: i64) {
        self.count -= 1;
        self.sum -= i128::from(value);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn sum(&self) -> Option<i64> {
        i64::try_from(self.sum).ok()
    }

    fn mean(&self, _scale: i8) -> f64 {
        exact::quotient_u128(self.sum < 0, self.sum.unsigned_abs(), 0, self.count)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.sum.to_le_bytes());
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let count = u64::from_le_bytes(take(bytes)?);
        Some(LongTotal { count, sum: i128::from_le_bytes(take(bytes)?) })
    }
}

/// An integer as a term.
#[inline]
pub(super) fn long_term(value: i64) -> Term {
    Term { negative: value < 0, mantissa: u128::from(value.unsigned_abs()), exponent: 0 }
}

/// Decimals: 2^64 of them cannot overflow 256 bits.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct DecimalTotal {
    count: u64,
    sum: Fixed256,
}

/// The greatest unscaled value of 38 digits.
const MAX_DECIMAL: u128 = 10_u128.pow(38) - 1;

impl Total for DecimalTotal {
    type Input = Decimal;
    type Output = Decimal;

    #[inline]
    fn term(value: i128) -> Option<Term> {
        Some(Term { negative: value < 0, mantissa: value.unsigned_abs(), exponent: 0 })
    }

    /// Unscaled decimals' terms have the exponent 0, and so have their sums.
    #[inline]
    fn of(count: u64, sum: i128, _base: i32) -> Self {
        DecimalTotal { count, sum: Fixed256::from_i128(sum) }
    }

    #[inline]
    fn insert(&mut self, value: i128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(Fixed256::from_i128(value));
    }

    #[inline]
    fn remove(&mut self, value: i128) {
        self.count -= 1;
        self.sum = self.sum.wrapping_add(Fixed256::from_i128(value).wrapping_neg());
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn sum(&self) -> Option<i128> {
        self.sum.to_i128().filter(|sum| sum.unsigned_abs() <= MAX_DECIMAL)
    }

    fn mean(&self, scale: i8) -> f64 {
        let (negative, magnitude) = self.sum.value();
        scaled_quotient(negative, &magnitude, scale, self.count)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.sum.to_bytes());
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let count = u64::from_le_bytes(take(bytes)?);
        let low = u128::from_le_bytes(take(bytes)?);
        let high = u128::from_le_bytes(take(bytes)?);
        Some(DecimalTotal { count, sum: Fixed256::from_words(low, high) })
    }
}

/// The `f64` nearest to `±magnitude * 10^-scale / divisor` (not 0).
pub(super) fn scaled_quotient(negative: bool, magnitude: &Big, scale: i8, divisor: u64) -> f64 {
    let power = u32::from(scale.unsigned_abs());
    if scale < 0 {
        let scaled = exact::powers_of_ten(power).fold(magnitude.clone(), |n, ten| n.mul_u64(ten));
        return exact::quotient(negative, &scaled, 0, std::iter::once(divisor));
    }
    if let (Some(word), Some(all)) =
        (magnitude.to_u128(), 10_u64.checked_pow(power).and_then(|ten| ten.checked_mul(divisor)))
    {
        return exact::quotient_u128(negative, word, 0, all);
    }
    let divisors = std::iter::once(divisor).chain(exact::powers_of_ten(power));
    exact::quotient(negative, magnitude, 0, divisors)
}

/// Floating-point numbers. NaN and the infinities are counted apart, so they can be taken back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DoubleTotal {
    count: u64,
    sum: exact::Sum<i128>,
    special: Option<Box<Special>>,
}

/// How many of the numbers were not finite.
#[derive(Debug, Clone, Default, PartialEq)]
struct Special {
    nan: u64,
    positive: u64,
    negative: u64,
}

impl Default for DoubleTotal {
    fn default() -> Self {
        DoubleTotal { count: 0, sum: exact::Sum::ZERO, special: None }
    }
}

const MANTISSA: u64 = (1 << 52) - 1;

/// A finite number as sign, mantissa and exponent of the mantissa's last bit; else `None`.
#[inline]
pub(super) fn decompose(value: f64) -> Option<(bool, u64, i32)> {
    let bits = value.to_bits();
    let field = ((bits >> 52) & 0x7ff) as i32;
    let negative = bits >> 63 == 1;
    match field {
        0x7ff => None,
        0 => Some((negative, bits & MANTISSA, -1074)),
        _ => Some((negative, (bits & MANTISSA) | (MANTISSA + 1), field - 1075)),
    }
}

/// A finite number as a term; else `None`.
#[inline]
pub(super) fn double_term(value: f64) -> Option<Term> {
    let (negative, mantissa, exponent) = decompose(value)?;
    Some(Term { negative, mantissa: u128::from(mantissa), exponent })
}

impl DoubleTotal {
    #[inline]
    fn add(&mut self, value: f64, negated: bool) {
        match decompose(value) {
            Some((negative, mantissa, exponent)) => {
                if mantissa != 0 {
                    self.sum.add(negative ^ negated, u128::from(mantissa), exponent);
                }
            }
            None => self.add_special(value, negated),
        }
    }

    #[cold]
    fn add_special(&mut self, value: f64, negated: bool) {
        let special = self.special.get_or_insert_default();
        let counter = if value.is_nan() {
            &mut special.nan
        } else if value > 0.0 {
            &mut special.positive
        } else {
            &mut special.negative
        };
        *counter = if negated { *counter - 1 } else { *counter + 1 };
        if **special == Special::default() {
            self.special = None;
        }
    }

    /// What NaN and infinities make of the sum and the mean, if there are any.
    fn not_finite(&self) -> Option<f64> {
        let special = self.special.as_ref()?;
        Some(match (special.nan, special.positive, special.negative) {
            (0, _, 0) => f64::INFINITY,
            (0, 0, _) => f64::NEG_INFINITY,
            _ => f64::NAN,
        })
    }
}

impl Total for DoubleTotal {
    type Input = Double;
    type Output = Double;

    #[inline]
    fn term(value: f64) -> Option<Term> {
        double_term(value)
    }

    #[inline]
    fn of(count: u64, sum: i128, base: i32) -> Self {
        DoubleTotal { count, sum: exact::Sum::new(sum, base), special: None }
    }

    #[inline]
    fn insert(&mut self, value: f64) {
        self.count += 1;
        self.add(value, false);
    }

    #[inline]
    fn remove(&mut self, value: f64) {
        self.count -= 1;
        self.add(value, true);
        if self.count == 0 {
            // Lets the window follow the next numbers.
            *self = Self::default();
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum.merge(&other.sum);
        if let Some(other) = &other.special {
            let special = self.special.get_or_insert_default();
            special.nan += other.nan;
            special.positive += other.positive;
            special.negative += other.negative;
        }
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn sum(&self) -> Option<f64> {
        Some(self.not_finite().unwrap_or_else(|| self.sum.rounded()))
    }

    fn mean(&self, _scale: i8) -> f64 {
        self.not_finite().unwrap_or_else(|| self.sum.divided(self.count))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        encode_sum(&self.sum, out);
        let special = self.special.as_deref().cloned().unwrap_or_default();
        for count in [special.nan, special.positive, special.negative] {
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let count = u64::from_le_bytes(take(bytes)?);
        let sum = decode_sum(bytes)?;
        let mut counts = [0; 3];
        for count in &mut counts {
            *count = u64::from_le_bytes(take(bytes)?);
        }
        let [nan, positive, negative] = counts;
        let special = (counts != [0; 3]).then(|| Box::new(Special { nan, positive, negative }));
        Some(DoubleTotal { count, sum, special })
    }
}

/// Appends the one form of an exact sum: sign, exponent, number of limbs, limbs.
pub(super) fn encode_sum<W: Window>(sum: &exact::Sum<W>, out: &mut Vec<u8>) {
    let (negative, magnitude, exponent) = sum.canonical();
    out.push(u8::from(negative));
    out.extend_from_slice(&exponent.to_le_bytes());
    out.push(magnitude.limbs().len() as u8);
    for limb in magnitude.limbs() {
        out.extend_from_slice(&limb.to_le_bytes());
    }
}

/// Takes what `encode_sum` wrote off the front.
pub(super) fn decode_sum<W: Window>(bytes: &mut &[u8]) -> Option<exact::Sum<W>> {
    let [negative] = take::<1>(bytes)?;
    let exponent = i32::from_le_bytes(take(bytes)?);
    let [length] = take::<1>(bytes)?;
    if negative > 1 || !(-2200..=2200).contains(&exponent) || length > 72 {
        return None;
    }
    let mut limbs = Vec::with_capacity(usize::from(length));
    for _ in 0..length {
        limbs.push(u64::from_le_bytes(take(bytes)?));
    }
    Some(exact::Sum::from_canonical(negative == 1, &limbs, exponent))
}
