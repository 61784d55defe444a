//! `sum` and `avg`: exact totals, rounded or range-checked once at the end.

use std::sync::Arc;

use arrow::datatypes::DataType;

use super::total::{DecimalTotal, DoubleTotal, LongTotal, Total};
use super::{Aggregate, Family, Meta, Request, folded};
use crate::error::Error;
use crate::kind::{Double, Kind, Output};
use crate::monoid::Monoid;
use crate::sweep::{Input, Window, prefixed, slide};

pub(super) const FAMILY: Family = Family { names: &[("sum", "sum"), ("avg", "avg")], bind };

fn bind(request: &Request<'_>) -> Result<Arc<dyn Aggregate>, Error> {
    request.no_ignore_nulls()?;
    request.no_distinct()?;
    match request.argument {
        Some(DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            bind_total::<LongTotal>(request, DataType::Int64, 0)
        }
        Some(DataType::Float32 | DataType::Float64) => {
            bind_total::<DoubleTotal>(request, DataType::Float64, 0)
        }
        Some(&DataType::Decimal128(_, scale)) => {
            bind_total::<DecimalTotal>(request, DataType::Decimal128(38, scale), scale)
        }
        _ => Err(request
            .refused("a number: SMALLINT, INTEGER, BIGINT, REAL, DOUBLE PRECISION or NUMERIC")),
    }
}

fn bind_total<T: Total>(
    request: &Request<'_>,
    sum: DataType,
    scale: i8,
) -> Result<Arc<dyn Aggregate>, Error> {
    if request.name == "avg" {
        return folded(request.meta(DataType::Float64), Avg::<T> { scale, total: T::default() });
    }
    folded(request.meta(sum.clone()), Sum::<T> { output: sum, total: T::default() })
}

/// The sum. `total` is the empty total.
#[derive(Debug, Clone)]
struct Sum<T> {
    output: DataType,
    total: T,
}

impl<T: Total> Monoid for Sum<T> {
    type Input = T::Input;
    type Output = T::Output;
    type State = T;
    const INVERTIBLE: bool = true;

    fn identity(&self) -> T {
        self.total.clone()
    }

    #[inline]
    fn insert(&self, state: &mut T, value: <T::Input as Kind>::Value<'_>) {
        state.insert(value);
    }

    #[inline]
    fn remove(&self, state: &mut T, value: <T::Input as Kind>::Value<'_>) {
        state.remove(value);
    }

    fn merge(&self, state: &mut T, other: &T) {
        state.merge(other);
    }

    fn finish<'s>(&self, state: &'s T) -> Result<Option<<T::Output as Kind>::Value<'s>>, Error> {
        if state.count() == 0 {
            return Ok(None);
        }
        match state.sum() {
            Some(sum) => Ok(Some(sum)),
            None => Err(Error::OutOfRange { aggregate: "sum", output: self.output.clone() }),
        }
    }

    fn encode(&self, state: &T, out: &mut Vec<u8>) {
        state.encode(out);
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<T> {
        T::decode(bytes)
    }

    fn sweep(
        &self,
        meta: &Meta,
        input: &Input<'_>,
        frames: &[&[Window]],
    ) -> Result<Vec<Output>, Error> {
        sweep_total::<T, Self>(self, meta, input, frames)
    }
}

/// The mean: the exact sum over the count, rounded once. `total` is the empty total.
#[derive(Debug, Clone)]
struct Avg<T> {
    scale: i8,
    total: T,
}

impl<T: Total> Monoid for Avg<T> {
    type Input = T::Input;
    type Output = Double;
    type State = T;
    const INVERTIBLE: bool = true;

    fn identity(&self) -> T {
        self.total.clone()
    }

    #[inline]
    fn insert(&self, state: &mut T, value: <T::Input as Kind>::Value<'_>) {
        state.insert(value);
    }

    #[inline]
    fn remove(&self, state: &mut T, value: <T::Input as Kind>::Value<'_>) {
        state.remove(value);
    }

    fn merge(&self, state: &mut T, other: &T) {
        state.merge(other);
    }

    fn finish(&self, state: &T) -> Result<Option<f64>, Error> {
        Ok((state.count() > 0).then(|| state.mean(self.scale)))
    }

    fn encode(&self, state: &T, out: &mut Vec<u8>) {
        state.encode(out);
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<T> {
        T::decode(bytes)
    }

    fn sweep(
        &self,
        meta: &Meta,
        input: &Input<'_>,
        frames: &[&[Window]],
    ) -> Result<Vec<Output>, Error> {
        sweep_total::<T, Self>(self, meta, input, frames)
    }
}

/// Over prefix sums where they fit machine words.
fn sweep_total<T: Total, M: Monoid<Input = T::Input, State = T>>(
    monoid: &M,
    meta: &Meta,
    input: &Input<'_>,
    frames: &[&[Window]],
) -> Result<Vec<Output>, Error> {
    let Some(sums) = input.sums::<T::Input>(T::term)? else {
        return slide::sweep(monoid, meta, input, frames);
    };
    let base = sums.base();
    prefixed::sweep(monoid, meta, input, frames, |count, window| {
        T::of(count, sums.between(window.lo as usize, window.hi as usize), base)
    })
}
