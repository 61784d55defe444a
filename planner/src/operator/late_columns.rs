//! Columns of events of which the point-in-time join reads few values: those that nothing but
//! `first_value` and `last_value` take. They are not copied in the order of events. The kernels pick
//! the numbers of places instead, once for all such columns, and values are fetched from there.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use asofdb_udfs::{Call, Layout, bind};
use datafusion::error::{DataFusionError, Result};

use super::key_sort::Parts;
use crate::error::Error;

/// What the join computes if some columns come late.
#[derive(Debug)]
pub struct LateColumns {
    /// The columns of the events that come late.
    pub columns: Vec<usize>,
    /// The calls, over the other columns and the places.
    pub layout: Layout,
    /// For each call the column of the events that its value is fetched from.
    fetched: Vec<Option<usize>>,
}

impl LateColumns {
    /// `None` if all columns are needed. The columns of `layout` are those of the events from
    /// `first` on.
    pub fn of(layout: &Layout, first: usize) -> Result<Option<Self>> {
        let calls = layout.calls();
        let takes = |call: &Call, column| {
            call.filter == Some(column) || call.argument == Some(column) && !picks(call)
        };
        let is_late = |column: &usize| !calls.iter().any(|call| takes(call, *column));
        let (late, early): (Vec<usize>, Vec<usize>) =
            (0..layout.columns().len()).partition(is_late);
        if late.is_empty() {
            return Ok(None);
        }
        let place = |column: usize| early.iter().position(|other| *other == column);
        let places = early.len();
        let pick = |call: &Call| match call.argument.filter(|column| late.contains(column)) {
            None => Ok(Call { argument: call.argument.and_then(place), ..moved(call, &place) }),
            Some(_) => Ok(Call {
                aggregate: bind(call.aggregate.name(), false, false, Some(&DataType::Int64))?,
                argument: Some(places),
                ..moved(call, &place)
            }),
        };
        let picked: Result<Vec<Call>, asofdb_udfs::Error> = calls.iter().map(pick).collect();
        let picked = picked.map_err(Error::Aggregate).map_err(DataFusionError::from)?;
        let types = early.iter().map(|column| layout.columns()[*column].clone());
        let types = types.chain([DataType::Int64]).collect();
        let layout = Layout::new(types, picked).map_err(Error::Aggregate)?;
        let late_column = |call: &Call| call.argument.filter(|column| late.contains(column));
        let fetched = calls.iter().map(|call| Some(first + late_column(call)?)).collect();
        let columns = late.iter().map(|column| first + column).collect();
        Ok(Some(LateColumns { columns, layout, fetched }))
    }

    /// For each call the column that its value is in, counted from `first`; `None` if anything but
    /// these columns is needed.
    pub fn picked_columns(&self, first: usize) -> Option<Vec<usize>> {
        if self.layout.columns().len() > 1 {
            return None;
        }
        self.fetched.iter().map(|column| column.map(|column| column - first)).collect()
    }

    /// Puts values in the place of numbers.
    pub fn fetch(&self, parts: &Parts, values: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
        let mut known = None;
        let fetch = |(value, column): (ArrayRef, &Option<usize>)| {
            let Some(column) = column else { return Ok(value) };
            let places = match known.take() {
                Some((numbers, places)) if Arc::ptr_eq(&numbers, &value) => places,
                _ => parts.places(value.as_primitive::<Int64Type>()),
            };
            let fetched = parts.fetch(*column, &places)?;
            known = Some((value, places));
            Ok(fetched)
        };
        values.into_iter().zip(&self.fetched).map(fetch).collect()
    }
}

/// Whether a call gives the argument of one event, whatever it is.
fn picks(call: &Call) -> bool {
    let meta = call.aggregate.meta();
    matches!(meta.name, "first_value" | "last_value") && !meta.ignore_nulls
}

/// The call, its filter at the place that it has now.
fn moved(call: &Call, place: &impl Fn(usize) -> Option<usize>) -> Call {
    Call {
        aggregate: Arc::clone(&call.aggregate),
        argument: call.argument,
        filter: call.filter.and_then(place),
        frame: call.frame,
    }
}
