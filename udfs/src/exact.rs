//! Exact arithmetic with one correct rounding at the end.
//!
//! Sums and sums of squares are kept as exact binary fixed-point numbers, so the order and the
//! grouping of additions do not matter and every addition can be undone. This module knows
//! numbers, not aggregates, NULLs, NaN or infinities.
//!
//! * `big`: unsigned integers of any length, and the rounded quotient.
//! * `prefix`: the exact sums of all beginnings of a list.
//! * `round`: a binary integer times a power of two to the nearest `f64`.
//! * `spread`: the quotient that a variance is, over machine words.
//! * `sum`: the running sum: a machine-word window plus a spill.
//! * `wide`: the spill, a fixed-point number as long as the data need.

mod big;
mod prefix;
mod round;
mod spread;
mod sum;
mod wide;

pub(crate) use big::{Big, quotient, quotient_u128};
pub(crate) use prefix::{Prefix, Term};
pub(crate) use round::round;
pub(crate) use spread::spread;
pub(crate) use sum::{Fixed256, Sum, Window};

/// 10^exponent as factors that fit a `u64`; empty for 0.
pub(crate) fn powers_of_ten(exponent: u32) -> impl Iterator<Item = u64> + Clone {
    let (full, rest) = (exponent / 19, exponent % 19);
    (0..full).map(|_| 19).chain((rest > 0).then_some(rest)).map(|power| 10_u64.pow(power))
}
