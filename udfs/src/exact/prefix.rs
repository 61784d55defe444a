//! Exact sums of all beginnings of a list: the sum of a stretch of it is one subtraction.

use super::sum::Window;

/// The number `±mantissa * 2^exponent`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    pub(crate) negative: bool,
    pub(crate) mantissa: u128,
    pub(crate) exponent: i32,
}

impl Term {
    pub(crate) const ZERO: Term = Term { negative: false, mantissa: 0, exponent: 0 };

    /// The square of a number whose mantissa has at most 64 bits.
    #[inline]
    pub(crate) fn squared(self) -> Term {
        let mantissa = self.mantissa * self.mantissa;
        Term { negative: false, mantissa, exponent: 2 * self.exponent }
    }
}

/// The sums of the first 0, 1, 2, … numbers of a list.
#[derive(Debug)]
pub(crate) struct Prefix<W> {
    base: i32,
    /// Each is worth `sums[i] * 2^base`.
    sums: Vec<W>,
}

impl<W: Window> Prefix<W> {
    /// The sums of the numbers `0..len`; `None` if `term` has none for one of them, or if one sum
    /// might not fit the machine's integer.
    pub(crate) fn of(len: usize, term: impl Fn(usize) -> Option<Term>) -> Option<Self> {
        let (mut low, mut top) = (i32::MAX, i32::MIN);
        for row in 0..len {
            let Term { mantissa, exponent, .. } = term(row)?;
            if mantissa != 0 {
                low = low.min(exponent);
                top = top.max(exponent + 128 - mantissa.leading_zeros() as i32);
            }
        }
        let base = if low < top { low } else { 0 };
        let bits = top.saturating_sub(low).max(0) as u32 + (usize::BITS - len.leading_zeros());
        if bits > W::ROOM {
            return None;
        }
        let mut sum = W::ZERO;
        let mut sums = Vec::with_capacity(len + 1);
        sums.push(sum);
        for row in 0..len {
            let Term { negative, mantissa, exponent } = term(row)?;
            if mantissa != 0 {
                sum = sum.wrapping_add(W::place(negative, mantissa, (exponent - base) as u32));
            }
            sums.push(sum);
        }
        Some(Prefix { base, sums })
    }

    /// The sum of the numbers `lo..hi`, a multiple of `2^base`.
    #[inline]
    pub(crate) fn between(&self, lo: usize, hi: usize) -> W {
        self.sums[hi].wrapping_sub(self.sums[lo])
    }

    /// The exponent of the last bit of all sums.
    #[inline]
    pub(crate) fn base(&self) -> i32 {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::Fixed256;

    fn term(value: f64) -> Term {
        Term { negative: value < 0.0, mantissa: value.abs() as u128, exponent: 0 }
    }

    #[test]
    fn stretches_add_up() {
        let values = [3.0, -5.0, 0.0, 1e15, -1e15, 7.0];
        let narrow = Prefix::<i128>::of(6, |row| Some(term(values[row]))).unwrap();
        let wide = Prefix::<Fixed256>::of(6, |row| Some(term(values[row]).squared())).unwrap();
        for lo in 0..=6 {
            for hi in lo..=6 {
                let sum: f64 = values[lo..hi].iter().sum();
                assert_eq!(narrow.between(lo, hi), sum as i128);
                let squares: i128 = values[lo..hi].iter().map(|v| (*v as i128).pow(2)).sum();
                assert_eq!(wide.between(lo, hi).to_i128(), Some(squares));
            }
        }
    }

    #[test]
    fn what_might_not_fit_is_refused() {
        let far = |row: usize| Term { negative: false, mantissa: 1, exponent: 125 * row as i32 };
        assert!(Prefix::<i128>::of(2, |row| Some(far(row))).is_none());
        assert!(Prefix::<Fixed256>::of(2, |row| Some(far(row))).is_some());
        assert!(Prefix::<i128>::of(2, |_| None).is_none());
        let none = Prefix::<i128>::of(2, |_| Some(Term::ZERO)).unwrap();
        assert_eq!((none.between(0, 2), none.base()), (0, 0));
    }
}
