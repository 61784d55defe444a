//! `count(*)` and `count(x)`; `count(DISTINCT x)` is bound by the file `distinct`.

use std::sync::Arc;

use arrow::datatypes::DataType;

use super::{Aggregate, Family, Meta, Request, distinct, folded};
use crate::error::Error;
use crate::kind::{Bool, Cell, Cells, Kind, Long, Output, physical, take};
use crate::monoid::Monoid;
use crate::sweep::{Input, Window};

pub(super) const FAMILY: Family = Family { names: &[("count", "count")], bind };

fn bind(request: &Request<'_>) -> Result<Arc<dyn Aggregate>, Error> {
    request.no_ignore_nulls()?;
    if request.argument.is_some_and(|argument| physical(argument).is_none()) {
        return Err(request.refused("* or any type a source's column can have"));
    }
    if request.distinct {
        return distinct::bind(request);
    }
    folded(request.meta(DataType::Int64), Count { rows: request.argument.is_none() })
}

/// Counts rows, or rows whose argument is not NULL.
#[derive(Debug, Clone)]
struct Count {
    rows: bool,
}

impl Monoid for Count {
    // The argument is never looked at, only whether it is NULL.
    type Input = Bool;
    type Output = Long;
    type State = u64;
    const INVERTIBLE: bool = true;

    fn identity(&self) -> u64 {
        0
    }

    fn insert(&self, state: &mut u64, _value: bool) {
        *state += 1;
    }

    fn merge(&self, state: &mut u64, other: &u64) {
        *state += other;
    }

    fn finish(&self, state: &u64) -> Result<Option<i64>, Error> {
        Ok(Some(i64::try_from(*state).unwrap_or(i64::MAX)))
    }

    fn encode(&self, state: &u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&state.to_le_bytes());
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<u64> {
        take(bytes).map(u64::from_le_bytes)
    }

    fn accept(&self, state: &mut u64, cell: Option<Cell<'_>>) {
        *state += u64::from(self.rows || cell.is_some());
    }

    fn retract(&self, state: &mut u64, cell: Option<Cell<'_>>) {
        *state -= u64::from(self.rows || cell.is_some());
    }

    fn scan(&self, state: &mut u64, column: Option<&Cells>, mask: u128) {
        let counted = if self.rows { mask } else { mask & column.map_or(0, |cells| cells.valid) };
        *state += u64::from(counted.count_ones());
    }

    /// A difference of prefix counts; without NULLs and filter the window's length.
    fn sweep(
        &self,
        meta: &Meta,
        input: &Input<'_>,
        frames: &[&[Window]],
    ) -> Result<Vec<Output>, Error> {
        let mut outputs = Vec::with_capacity(frames.len());
        for windows in frames {
            let mut output = Output::new(&meta.output, windows.len());
            let builder = Long::builder(&mut output).ok_or(Error::Internal("count is Int64"))?;
            for &window in *windows {
                let value = (!window.is_null()).then(|| i64::from(input.count(window)));
                Long::push(builder, value);
            }
            outputs.push(output);
        }
        Ok(outputs)
    }
}
