//! `bit_and`, `bit_or` and `bit_xor` of integers.
//!
//! Integers are computed as 64 bits with the sign in front. All three operations keep the sign in
//! front, so a result fits the type of its argument.

use std::sync::Arc;

use arrow::datatypes::DataType;

use super::{Aggregate, Family, Request, folded};
use crate::error::Error;
use crate::kind::{Long, take};
use crate::monoid::Monoid;

pub(super) const FAMILY: Family =
    Family { names: &[("bit_and", "bit_and"), ("bit_or", "bit_or"), ("bit_xor", "bit_xor")], bind };

/// DISTINCT changes `bit_xor`; for the others it changes nothing, so it is taken and dropped.
fn bind(request: &Request<'_>) -> Result<Arc<dyn Aggregate>, Error> {
    request.no_ignore_nulls()?;
    let Some(argument @ (DataType::Int16 | DataType::Int32 | DataType::Int64)) = request.argument
    else {
        return Err(request.refused("an integer: SMALLINT, INTEGER or BIGINT"));
    };
    let mut meta = request.meta(argument.clone());
    if request.name == "bit_xor" {
        request.no_distinct()?;
        return folded(meta, Xor);
    }
    meta.distinct = false;
    folded(meta, Masked { all: request.name == "bit_and" })
}

/// The bits that all, or any, of the values have. What a value did to them cannot be undone
/// without a count for each bit, which would make states 64 times as large.
#[derive(Debug, Clone)]
struct Masked {
    all: bool,
}

impl Monoid for Masked {
    type Input = Long;
    type Output = Long;
    type State = Option<i64>;

    fn identity(&self) -> Option<i64> {
        None
    }

    #[inline]
    fn insert(&self, state: &mut Option<i64>, value: i64) {
        *state = Some(match *state {
            None => value,
            Some(bits) if self.all => bits & value,
            Some(bits) => bits | value,
        });
    }

    fn merge(&self, state: &mut Option<i64>, other: &Option<i64>) {
        if let Some(bits) = *other {
            self.insert(state, bits);
        }
    }

    fn finish(&self, state: &Option<i64>) -> Result<Option<i64>, Error> {
        Ok(*state)
    }

    fn encode(&self, state: &Option<i64>, out: &mut Vec<u8>) {
        out.push(u8::from(state.is_some()));
        if let Some(bits) = state {
            out.extend_from_slice(&bits.to_le_bytes());
        }
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<Option<i64>> {
        match take(bytes)? {
            [0] => Some(None),
            [1] => take(bytes).map(|bits| Some(i64::from_le_bytes(bits))),
            _ => None,
        }
    }
}

/// The bits that an odd number of the values have.
#[derive(Debug, Clone)]
struct Xor;

/// The bits of all values together; the count tells 0 from no value.
#[derive(Debug, Clone, Default, PartialEq)]
struct Parity {
    count: u64,
    bits: i64,
}

impl Monoid for Xor {
    type Input = Long;
    type Output = Long;
    type State = Parity;
    const INVERTIBLE: bool = true;

    fn identity(&self) -> Parity {
        Parity::default()
    }

    #[inline]
    fn insert(&self, state: &mut Parity, value: i64) {
        state.count += 1;
        state.bits ^= value;
    }

    #[inline]
    fn remove(&self, state: &mut Parity, value: i64) {
        state.count -= 1;
        state.bits ^= value;
    }

    fn merge(&self, state: &mut Parity, other: &Parity) {
        state.count += other.count;
        state.bits ^= other.bits;
    }

    fn finish(&self, state: &Parity) -> Result<Option<i64>, Error> {
        Ok((state.count > 0).then_some(state.bits))
    }

    fn encode(&self, state: &Parity, out: &mut Vec<u8>) {
        out.extend_from_slice(&state.count.to_le_bytes());
        out.extend_from_slice(&state.bits.to_le_bytes());
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<Parity> {
        let count = u64::from_le_bytes(take(bytes)?);
        Some(Parity { count, bits: i64::from_le_bytes(take(bytes)?) })
    }
}
