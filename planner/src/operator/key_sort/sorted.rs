//! Rows of a partition, copied in their order.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};

use super::packed::{Order, Place};

/// Bytes of a batch that is given or spilled, if its rows are as long as others: 16 MiB.
const BATCH_BYTES: usize = 16 << 20;

/// The lower bits of a place as one number are the row.
const ROW_BITS: u32 = 32;

/// How many rows are a batch, if all `rows` have so many bytes.
pub fn batch_rows(bytes: usize, rows: usize, context: &TaskContext) -> usize {
    let row_bytes = (bytes / rows.max(1)).max(1);
    (BATCH_BYTES / row_bytes).clamp(1, context.session_config().batch_size())
}

/// The columns of batches.
pub struct Parts {
    schema: SchemaRef,
    columns: Vec<Values>,
    batches: usize,
}

/// Where the values of a column are.
enum Values {
    /// In the words by which rows are ordered: the place among the columns that they are sorted by.
    InWords(usize),
    /// In the batches.
    InBatches(Vec<ArrayRef>),
}

impl Parts {
    /// The columns of `batches`, without those that are in the words that rows are sorted `by`.
    pub fn new(schema: &SchemaRef, by: Option<&LexOrdering>, batches: &[RecordBatch]) -> Self {
        let column = |index: usize| {
            let is_column = |by: &PhysicalSortExpr| {
                by.expr.downcast_ref::<Column>().is_some_and(|column| column.index() == index)
            };
            match by.and_then(|by| by.iter().position(is_column)) {
                Some(place) => Values::InWords(place),
                None => {
                    let parts = batches.iter().map(|batch| Arc::clone(batch.column(index)));
                    Values::InBatches(parts.collect())
                }
            }
        };
        let columns = (0..schema.fields().len()).map(column).collect();
        Parts { schema: Arc::clone(schema), columns, batches: batches.len() }
    }

    /// The places that [`Sorted`] has given numbers; where there is none, one of a NULL.
    pub fn places(&self, numbers: &Int64Array) -> Vec<Place> {
        let place = |number: Option<i64>| match number {
            Some(number) => {
                ((number >> ROW_BITS) as usize, (number & ((1 << ROW_BITS) - 1)) as usize)
            }
            None => (self.batches, 0),
        };
        numbers.iter().map(place).collect()
    }

    /// The values of a column at places.
    pub fn fetch(&self, column: usize, places: &[Place]) -> Result<ArrayRef> {
        let Values::InBatches(parts) = &self.columns[column] else {
            return internal_err!("a column that rows are sorted by is not left out");
        };
        let nothing = new_null_array(self.schema.field(column).data_type(), 1);
        let parts: Vec<&dyn Array> = parts.iter().chain([&nothing]).map(AsRef::as_ref).collect();
        Ok(interleave(&parts, places)?)
    }
}

/// Rows that are put in their order, some at a time.
pub struct Sorted {
    parts: Arc<Parts>,
    order: Order,
    /// The columns that are given; after them, if some are left out, the rows' places as numbers.
    columns: Vec<usize>,
    has_places: bool,
    schema: SchemaRef,
    at: usize,
    rows: usize,
}

impl Sorted {
    /// Gives `rows` at a time, without the columns in `late`, which are to be fetched.
    pub fn new(parts: &Arc<Parts>, order: Order, rows: usize, late: &[usize]) -> Self {
        let all = 0..parts.schema.fields().len();
        let columns: Vec<usize> = all.filter(|column| !late.contains(column)).collect();
        let fields = columns.iter().map(|column| Arc::clone(&parts.schema.fields()[*column]));
        let place: Option<FieldRef> =
            (!late.is_empty()).then(|| Arc::new(Field::new("__place", DataType::Int64, false)));
        let schema = Arc::new(Schema::new(fields.chain(place).collect::<Vec<_>>()));
        let has_places = !late.is_empty();
        Sorted { parts: Arc::clone(parts), order, columns, has_places, schema, at: 0, rows }
    }

    /// The columns of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn batch(&self, rows: Range<usize>) -> Result<RecordBatch> {
        let in_batches =
            |column: &usize| matches!(self.parts.columns[*column], Values::InBatches(_));
        let places = match self.has_places || self.columns.iter().any(in_batches) {
            true => self.order.places(rows.clone()),
            false => Vec::new(),
        };
        let column = |&column: &usize| match (&self.parts.columns[column], &self.order) {
            (Values::InWords(place), Order::Words(words)) => {
                let data_type = self.parts.schema.field(column).data_type();
                Ok(words.column(*place, rows.clone(), data_type))
            }
            (Values::InWords(_), Order::Places(_)) => internal_err!("there are no words"),
            (Values::InBatches(parts), _) => {
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                Ok(interleave(&parts, &places)?)
            }
        };
        let mut columns = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        if self.has_places {
            let number = |(batch, row): &Place| (*batch as i64) << ROW_BITS | *row as i64;
            columns.push(Arc::new(Int64Array::from_iter_values(places.iter().map(number))));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl Iterator for Sorted {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.at..self.order.len().min(self.at + self.rows);
        if rows.is_empty() {
            return None;
        }
        self.at = rows.end;
        Some(self.batch(rows))
    }
}
