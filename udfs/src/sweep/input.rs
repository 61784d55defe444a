//! The column and the filter that one kernel runs over.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};

use crate::error::Error;
use crate::kind::Kind;
use crate::layout::Events;

/// What a measure looks at in a run of events.
pub struct Input<'a> {
    argument: Option<&'a ArrayRef>,
    filter: Option<BooleanBuffer>,
    len: usize,
}

impl<'a> Input<'a> {
    /// The events have been checked against their layout.
    pub(super) fn new(
        events: &'a Events,
        argument: Option<usize>,
        filter: Option<usize>,
    ) -> Result<Self, Error> {
        let lost = Error::Internal("a column is missing");
        let column = |index: usize| events.columns.get(index).ok_or(lost.clone());
        let argument = argument.map(column).transpose()?;
        let filter = match filter.map(column).transpose()? {
            None => None,
            Some(array) => {
                let array = array.as_boolean_opt().ok_or(lost.clone())?;
                Some(match array.nulls() {
                    None => array.values().clone(),
                    Some(nulls) => array.values() & nulls.inner(),
                })
            }
        };
        Ok(Input { argument, filter, len: events.len() })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The argument's values.
    pub(crate) fn run<K: Kind>(&self) -> Result<K::Run, Error> {
        let run = self.argument.and_then(|array| K::run(array));
        run.ok_or(Error::Internal("argument of another kind"))
    }

    /// Which rows the filter lets through; `None` for all.
    pub(crate) fn filter(&self) -> Option<&BooleanBuffer> {
        self.filter.as_ref()
    }

    /// Where the argument is NULL, if anywhere.
    pub(crate) fn nulls(&self) -> Option<&NullBuffer> {
        self.argument.and_then(|array| array.nulls()).filter(|nulls| nulls.null_count() > 0)
    }

    /// Which rows the filter lets through whose argument is not NULL; `None` for all.
    pub(crate) fn visible(&self) -> Option<BooleanBuffer> {
        match (&self.filter, self.nulls()) {
            (None, None) => None,
            (Some(filter), None) => Some(filter.clone()),
            (None, Some(nulls)) => Some(nulls.inner().clone()),
            (Some(filter), Some(nulls)) => Some(filter & nulls.inner()),
        }
    }
}
