//! `var_pop`, `var_samp`, `stddev_pop`, `stddev_samp`: from exact moments, by one formula.
//!
//! With n values of sum S1 and sum of squares S2 the variance is `(n*S2 - S1^2) / (n*n)`, for a
//! sample `/ (n*(n-1))`. The numerator is an exact integer times a power of two and the quotient
//! is rounded once; a standard deviation is the square root of that `f64`. Any NaN or infinity
//! among the values makes the result NaN. Decimals are first rounded to the nearest `f64`.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::DataType;

use super::total::{decode_sum, decompose, double_term, encode_sum, long_term, scaled_quotient};
use super::{Aggregate, Family, Meta, Request, folded};
use crate::error::Error;
use crate::exact::{self, Big, Fixed256, Prefix, Sum, Term, Window as _};
use crate::kind::{Decimal, Double, Kind, Long, Output, take};
use crate::monoid::Monoid;
use crate::sweep::{Input, Window, prefixed, slide};

pub(super) const FAMILY: Family = Family {
    names: &[
        ("var_pop", "var_pop"),
        ("var_samp", "var_samp"),
        ("variance", "var_samp"),
        ("stddev_pop", "stddev_pop"),
        ("stddev_samp", "stddev_samp"),
        ("stddev", "stddev_samp"),
    ],
    bind,
};

fn bind(request: &Request<'_>) -> Result<Arc<dyn Aggregate>, Error> {
    request.no_ignore_nulls()?;
    request.no_distinct()?;
    let sample = request.name.ends_with("samp");
    let root = request.name.starts_with("stddev");
    let meta = request.meta(DataType::Float64);
    match request.argument {
        Some(DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            folded(meta, Spread { sample, root, moments: LongMoments::default() })
        }
        Some(DataType::Float32 | DataType::Float64) => {
            folded(meta, Spread { sample, root, moments: DoubleMoments::default() })
        }
        Some(&DataType::Decimal128(_, scale)) => {
            let moments = DecimalMoments { scale, moments: DoubleMoments::default() };
            folded(meta, Spread { sample, root, moments })
        }
        _ => Err(request
            .refused("a number: SMALLINT, INTEGER, BIGINT, REAL, DOUBLE PRECISION or NUMERIC")),
    }
}

/// The variance or its root. `moments` are those of no values.
#[derive(Debug, Clone)]
struct Spread<S> {
    sample: bool,
    root: bool,
    moments: S,
}

/// Prefix sums of values and of their squares.
type Prefixes<'a> = (&'a Prefix<i128>, &'a Prefix<Fixed256>);

/// Both for values of which each has a term.
fn prefixes_of<'a, K: Kind>(
    input: &'a Input<'_>,
    term: impl Fn(K::Value<'_>) -> Option<Term>,
) -> Result<Option<Prefixes<'a>>, Error> {
    Ok(input.sums::<K>(&term)?.zip(input.squares::<K>(&term)?))
}

/// Count, sum and sum of squares, exactly.
trait Moments: Clone + Debug + PartialEq + Send + Sync + 'static {
    type Input: Kind;
    fn add(&mut self, value: <Self::Input as Kind>::Value<'_>, negated: bool);
    fn merge(&mut self, other: &Self);
    fn count(&self) -> u64;
    /// The prefix sums of the values and of their squares, if there are any.
    fn prefixes<'a>(_input: &'a Input<'_>) -> Result<Option<Prefixes<'a>>, Error> {
        Ok(None)
    }
    /// The moments of `count` numbers that add up to `sum * 2^base`, and their squares to
    /// `squares * 2^(2 * base)`.
    fn of(&self, _count: u64, _sum: i128, _squares: Fixed256, _base: i32) -> Self {
        self.clone()
    }
    /// `(n*S2 - S1^2) / divisor`, rounded once, where all that fits machine words.
    fn spread(&self, divisor: u64) -> Option<f64>;
    /// `n*S2 - S1^2` as an integer and the exponent of its last bit; `None` is NaN.
    fn numerator(&self) -> Option<(Big, i32)>;
    fn encode(&self, out: &mut Vec<u8>);
    /// `self` is the empty one.
    fn decode(&self, bytes: &mut &[u8]) -> Option<Self>;
}

impl<S: Moments> Monoid for Spread<S> {
    type Input = S::Input;
    type Output = Double;
    type State = S;
    const INVERTIBLE: bool = true;

    fn identity(&self) -> S {
        self.moments.clone()
    }

    #[inline]
    fn insert(&self, state: &mut S, value: <S::Input as Kind>::Value<'_>) {
        state.add(value, false);
    }

    #[inline]
    fn remove(&self, state: &mut S, value: <S::Input as Kind>::Value<'_>) {
        state.add(value, true);
    }

    fn merge(&self, state: &mut S, other: &S) {
        state.merge(other);
    }

    fn finish(&self, state: &S) -> Result<Option<f64>, Error> {
        let count = state.count();
        if count < 1 + u64::from(self.sample) {
            return Ok(None);
        }
        let divisors = [count, count - u64::from(self.sample)];
        let product = divisors[0].checked_mul(divisors[1]);
        let variance = match product.and_then(|divisor| state.spread(divisor)) {
            Some(variance) => variance,
            None => {
                let Some((numerator, exponent)) = state.numerator() else {
                    return Ok(Some(f64::NAN));
                };
                exact::quotient(false, &numerator, exponent, divisors.into_iter())
            }
        };
        Ok(Some(if self.root { variance.sqrt() } else { variance }))
    }

    fn encode(&self, state: &S, out: &mut Vec<u8>) {
        state.encode(out);
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<S> {
        self.moments.decode(bytes)
    }

    /// Over prefix sums where they fit machine words.
    fn sweep(
        &self,
        meta: &Meta,
        input: &Input<'_>,
        frames: &[&[Window]],
    ) -> Result<Vec<Output>, Error> {
        let Some((sums, squares)) = S::prefixes(input)? else {
            return slide::sweep(self, meta, input, frames);
        };
        prefixed::sweep(self, meta, input, frames, |count, window| {
            let (lo, hi) = (window.lo as usize, window.hi as usize);
            let (sum, squared) = (sums.between(lo, hi), squares.between(lo, hi));
            self.moments.of(count, sum, squared, sums.base())
        })
    }
}

/// Integers: a square has at most 126 bits, so 2^64 of them do not overflow 256.
#[derive(Debug, Clone, Default, PartialEq)]
struct LongMoments {
    count: u64,
    sum: i128,
    squares: Fixed256,
}

impl Moments for LongMoments {
    type Input = Long;

    #[inline]
    fn add(&mut self, value: i64, negated: bool) {
        let magnitude = u128::from(value.unsigned_abs());
        let square = Fixed256::from_u128(magnitude * magnitude);
        if negated {
            self.count -= 1;
            self.sum -= i128::from(value);
            self.squares = self.squares.wrapping_add(square.wrapping_neg());
        } else {
            self.count += 1;
            self.sum += i128::from(value);
            self.squares = self.squares.wrapping_add(square);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares = self.squares.wrapping_add(other.squares);
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn prefixes<'a>(input: &'a Input<'_>) -> Result<Option<Prefixes<'a>>, Error> {
        prefixes_of::<Long>(input, |value| Some(long_term(value)))
    }

    #[inline]
    fn of(&self, count: u64, sum: i128, squares: Fixed256, _base: i32) -> Self {
        LongMoments { count, sum, squares }
    }

    fn spread(&self, divisor: u64) -> Option<f64> {
        exact::spread(self.count, (self.sum.unsigned_abs(), 0), (self.squares, 0), divisor)
    }

    fn numerator(&self) -> Option<(Big, i32)> {
        let sum = Big::from_u128(self.sum.unsigned_abs());
        let (_, squares) = self.squares.value();
        Some((squares.mul_u64(self.count).saturating_sub(&sum.mul(&sum)), 0))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.sum.to_le_bytes());
        out.extend_from_slice(&self.squares.to_bytes());
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<Self> {
        let count = u64::from_le_bytes(take(bytes)?);
        let sum = i128::from_le_bytes(take(bytes)?);
        let low = u128::from_le_bytes(take(bytes)?);
        let squares = Fixed256::from_words(low, u128::from_le_bytes(take(bytes)?));
        Some(LongMoments { count, sum, squares })
    }
}

/// Floating-point numbers; those that are not finite are only counted.
#[derive(Debug, Clone, PartialEq)]
struct DoubleMoments {
    count: u64,
    not_finite: u64,
    sum: Sum<i128>,
    squares: Sum<Fixed256>,
}

impl Default for DoubleMoments {
    fn default() -> Self {
        DoubleMoments { count: 0, not_finite: 0, sum: Sum::ZERO, squares: Sum::ZERO }
    }
}

impl Moments for DoubleMoments {
    type Input = Double;

    #[inline]
    fn add(&mut self, value: f64, negated: bool) {
        let change = |count: u64| if negated { count - 1 } else { count + 1 };
        self.count = change(self.count);
        match decompose(value) {
            Some((negative, mantissa, exponent)) => {
                let mantissa = u128::from(mantissa);
                if mantissa != 0 {
                    self.sum.add(negative ^ negated, mantissa, exponent);
                    self.squares.add(negated, mantissa * mantissa, 2 * exponent);
                }
            }
            None => self.not_finite = change(self.not_finite),
        }
        if self.count == 0 {
            // Lets the windows follow the next numbers.
            *self = Self::default();
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.not_finite += other.not_finite;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn prefixes<'a>(input: &'a Input<'_>) -> Result<Option<Prefixes<'a>>, Error> {
        prefixes_of::<Double>(input, double_term)
    }

    #[inline]
    fn of(&self, count: u64, sum: i128, squares: Fixed256, base: i32) -> Self {
        let (sum, squares) = (Sum::new(sum, base), Sum::new(squares, 2 * base));
        DoubleMoments { count, not_finite: 0, sum, squares }
    }

    fn spread(&self, divisor: u64) -> Option<f64> {
        if self.not_finite > 0 {
            return None;
        }
        let ((sum, base), (squares, squares_base)) = (self.sum.word()?, self.squares.word()?);
        exact::spread(self.count, (sum.unsigned_abs(), base), (squares, squares_base), divisor)
    }

    fn numerator(&self) -> Option<(Big, i32)> {
        if self.not_finite > 0 {
            return None;
        }
        let (_, sum, sum_exponent) = self.sum.value();
        let (_, squares, squares_exponent) = self.squares.value();
        let exponent = (2 * sum_exponent).min(squares_exponent);
        let squared = sum.mul(&sum).shl((2 * sum_exponent - exponent) as u32);
        let squares = squares.mul_u64(self.count).shl((squares_exponent - exponent) as u32);
        Some((squares.saturating_sub(&squared), exponent))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.not_finite.to_le_bytes());
        encode_sum(&self.sum, out);
        encode_sum(&self.squares, out);
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<Self> {
        let count = u64::from_le_bytes(take(bytes)?);
        let not_finite = u64::from_le_bytes(take(bytes)?);
        let sum = decode_sum(bytes)?;
        Some(DoubleMoments { count, not_finite, sum, squares: decode_sum(bytes)? })
    }
}

/// Decimals, each rounded to the nearest `f64` first.
#[derive(Debug, Clone, PartialEq)]
struct DecimalMoments {
    scale: i8,
    moments: DoubleMoments,
}

impl Moments for DecimalMoments {
    type Input = Decimal;

    #[inline]
    fn add(&mut self, value: i128, negated: bool) {
        self.moments.add(nearest(value, self.scale), negated);
    }

    fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
    }

    fn count(&self) -> u64 {
        self.moments.count
    }

    fn spread(&self, divisor: u64) -> Option<f64> {
        self.moments.spread(divisor)
    }

    fn numerator(&self) -> Option<(Big, i32)> {
        self.moments.numerator()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.moments.encode(out);
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<Self> {
        Some(DecimalMoments { scale: self.scale, moments: self.moments.decode(bytes)? })
    }
}

/// The `f64` nearest to `value * 10^-scale`.
fn nearest(value: i128, scale: i8) -> f64 {
    let magnitude = value.unsigned_abs();
    if magnitude < 1 << 53 && (0..=15).contains(&scale) {
        // Both are exact in `f64`, so its division rounds once.
        return value as f64 / 10_u64.pow(u32::from(scale.unsigned_abs())) as f64;
    }
    scaled_quotient(value < 0, &Big::from_u128(magnitude), scale, 1)
}
