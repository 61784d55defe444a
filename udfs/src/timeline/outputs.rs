//! What reads of timelines fill: columns, one per requested call, or a list of values.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::view::View;
use crate::error::Error;
use crate::kind::{Output, Value};
use crate::layout::Layout;

/// One column per requested call, one row per read.
#[derive(Debug)]
pub struct Outputs {
    calls: Vec<usize>,
    types: Vec<DataType>,
    columns: Vec<Output>,
}

impl Outputs {
    /// Columns for `calls`; an index outside of the layout is reported by the first read.
    pub fn new(layout: &Layout, calls: &[usize]) -> Self {
        Self::with_capacity(layout, calls, 1)
    }

    /// Columns for `calls` with room for `rows` rows.
    pub fn with_capacity(layout: &Layout, calls: &[usize], rows: usize) -> Self {
        let output = |&call: &usize| match layout.calls().get(call) {
            Some(call) => call.aggregate.output(),
            None => DataType::Int64,
        };
        let types: Vec<DataType> = calls.iter().map(output).collect();
        let columns = types.iter().map(|data_type| Output::new(data_type, rows)).collect();
        Outputs { calls: calls.to_vec(), types, columns }
    }

    pub(super) fn check(&self, calls: &[usize]) -> Result<(), Error> {
        if self.calls == calls {
            return Ok(());
        }
        Err(Error::Internal("outputs were made for other calls"))
    }

    pub(super) fn columns(&mut self) -> &mut [Output] {
        &mut self.columns
    }

    /// A NULL key or instant: every value is NULL, counts too.
    pub fn append_null_row(&mut self) {
        self.columns.iter_mut().for_each(Output::push_null);
    }

    /// A key without events: counts are 0, everything else is NULL.
    ///
    /// # Errors
    ///
    /// `NoSuchCall` if the outputs were made for calls that the layout does not have.
    pub fn append_empty_row(&mut self, layout: &Layout) -> Result<(), Error> {
        let mut outputs = self.calls.iter().zip(&mut self.columns);
        outputs.try_for_each(|(&call, output)| read_empty(layout, call, output))
    }

    /// The arrays, in the order of the calls.
    ///
    /// # Errors
    ///
    /// `Arrow` if an array cannot be built.
    pub fn finish(self) -> Result<Vec<ArrayRef>, Error> {
        let columns = self.columns.into_iter().zip(&self.types);
        columns.map(|(column, data_type)| column.finish(data_type)).collect()
    }
}

/// The values of reads, call after call, in the kinds that they are computed in.
#[derive(Debug)]
pub struct ValueList {
    output: Output,
}

impl ValueList {
    /// No values yet; there is room for `values`.
    pub fn with_capacity(values: usize) -> Self {
        ValueList { output: Output::List(Vec::with_capacity(values)) }
    }

    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Appends a value.
    pub fn push(&mut self, value: Value) {
        if let Output::List(values) = &mut self.output {
            values.push(value);
        }
    }

    /// A key without events: counts are 0, everything else is NULL.
    ///
    /// # Errors
    ///
    /// `NoSuchCall` if the layout does not have one of `calls`.
    pub fn append_empty(&mut self, layout: &Layout, calls: &[usize]) -> Result<(), Error> {
        calls.iter().try_for_each(|&call| read_empty(layout, call, &mut self.output))
    }

    /// Takes the values from `length` on away.
    pub fn truncate(&mut self, length: usize) {
        if let Output::List(values) = &mut self.output {
            values.truncate(length);
        }
    }

    /// The values.
    pub fn as_slice(&self) -> &[Value] {
        match &self.output {
            Output::List(values) => values,
            _ => &[],
        }
    }
}

/// Appends the value of a call over no events.
fn read_empty(layout: &Layout, call: usize, output: &mut Output) -> Result<(), Error> {
    let (index, _) = layout.plan(call)?;
    let measure = &layout.measures()[index];
    measure.aggregate.read(&View::new(&[], index, measure), output)
}
