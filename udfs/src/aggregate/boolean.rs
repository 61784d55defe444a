//! `bool_and` (`every`) and `bool_or`: counts of true and false.

use std::sync::Arc;

use arrow::datatypes::DataType;

use super::{Aggregate, Family, Request, folded};
use crate::error::Error;
use crate::kind::{Bool, take};
use crate::monoid::Monoid;

pub(super) const FAMILY: Family = Family {
    names: &[("bool_and", "bool_and"), ("every", "bool_and"), ("bool_or", "bool_or")],
    bind,
};

/// DISTINCT changes nothing here, so it is taken and dropped.
fn bind(request: &Request<'_>) -> Result<Arc<dyn Aggregate>, Error> {
    request.no_ignore_nulls()?;
    if request.argument != Some(&DataType::Boolean) {
        return Err(request.refused("BOOLEAN"));
    }
    let mut meta = request.meta(DataType::Boolean);
    meta.distinct = false;
    folded(meta, Logical { all: request.name == "bool_and" })
}

/// Whether all, or any, of the values are true.
#[derive(Debug, Clone)]
struct Logical {
    all: bool,
}

/// How many values were true and how many false.
#[derive(Debug, Clone, Default, PartialEq)]
struct Votes {
    yes: u64,
    no: u64,
}

impl Monoid for Logical {
    type Input = Bool;
    type Output = Bool;
    type State = Votes;
    const INVERTIBLE: bool = true;

    fn identity(&self) -> Votes {
        Votes::default()
    }

    #[inline]
    fn insert(&self, state: &mut Votes, value: bool) {
        state.yes += u64::from(value);
        state.no += u64::from(!value);
    }

    #[inline]
    fn remove(&self, state: &mut Votes, value: bool) {
        state.yes -= u64::from(value);
        state.no -= u64::from(!value);
    }

    fn merge(&self, state: &mut Votes, other: &Votes) {
        state.yes += other.yes;
        state.no += other.no;
    }

    fn finish(&self, state: &Votes) -> Result<Option<bool>, Error> {
        let value = if self.all { state.no == 0 } else { state.yes > 0 };
        Ok((state.yes + state.no > 0).then_some(value))
    }

    fn encode(&self, state: &Votes, out: &mut Vec<u8>) {
        out.extend_from_slice(&state.yes.to_le_bytes());
        out.extend_from_slice(&state.no.to_le_bytes());
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<Votes> {
        let yes = u64::from_le_bytes(take(bytes)?);
        Some(Votes { yes, no: u64::from_le_bytes(take(bytes)?) })
    }
}
