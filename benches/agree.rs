//! Whether two systems gave the same answer. A figure for a wrong answer is worth nothing.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::compute::{cast, concat_batches, sort_to_indices, take};
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::Error;

/// How far floating-point values may be apart, relative to the greater: peers sum in some order.
const TOLERANCE: f64 = 1e-9;

/// Whether two numbers are the same within [`TOLERANCE`].
pub fn near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
        (a, b) => a == b,
    }
}

/// A row's columns as numbers.
pub fn numbers(row: &Row) -> Result<Vec<Option<f64>>, Error> {
    let number = |i: usize| match *row.columns()[i].type_() {
        Type::INT8 => Ok(row.try_get::<_, Option<i64>>(i)?.map(|v| v as f64)),
        _ => Ok(row.try_get::<_, Option<f64>>(i)?),
    };
    (0..row.len()).map(number).collect()
}

/// Compares two training sets column by column, label by label.
///
/// `empty_sum_is_zero`: the peer gives 0, or what rounding left of it, where SQL's sum over nothing
/// is NULL.
pub fn training_sets(ours: &Path, peer: &Path, empty_sum_is_zero: bool) -> Result<usize, Error> {
    let (ours, theirs) = (read(ours)?, read(peer)?);
    if ours.num_rows() != theirs.num_rows() {
        return Err(format!("{} rows, the peer has {}", ours.num_rows(), theirs.num_rows()).into());
    }
    for (field, column) in ours.schema().fields().iter().zip(ours.columns()) {
        let name = field.name();
        let other = theirs.column_by_name(name).ok_or_else(|| format!("the peer has no {name}"))?;
        let zero = empty_sum_is_zero && name.starts_with("sum_");
        let wrong = match column.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                differing_texts(column, other)?
            }
            _ => differing_numbers(column, other, zero)?,
        };
        if wrong > 0 {
            return Err(format!("{wrong} of {} values of {name} differ", ours.num_rows()).into());
        }
    }
    Ok(ours.num_rows() * ours.num_columns())
}

/// A training set in the order of its labels.
fn read(path: &Path) -> Result<RecordBatch, Error> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path)?)?;
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build()?.collect::<Result<_, _>>()?;
    let rows = concat_batches(&schema, &batches)?;
    let labels = rows.column_by_name("label_id").ok_or("no label_id")?;
    let order = sort_to_indices(labels, None, None)?;
    let columns = rows.columns().iter().map(|c| take(c, &order, None));
    Ok(RecordBatch::try_new(schema, columns.collect::<Result<_, _>>()?)?)
}

fn differing_numbers(a: &dyn Array, b: &dyn Array, zero_is_null: bool) -> Result<usize, Error> {
    let (a, b) = (cast(a, &DataType::Float64)?, cast(b, &DataType::Float64)?);
    let (a, b) = (a.as_primitive::<Float64Type>(), b.as_primitive::<Float64Type>());
    let same = |(a, b): (Option<f64>, Option<f64>)| {
        near(a, b) || (zero_is_null && a.is_none() && b.is_some_and(|b| b.abs() <= TOLERANCE))
    };
    Ok(a.iter().zip(b).filter(|pair| !same(*pair)).count())
}

fn differing_texts(a: &dyn Array, b: &dyn Array) -> Result<usize, Error> {
    let (a, b) = (cast(a, &DataType::Utf8)?, cast(b, &DataType::Utf8)?);
    Ok(a.as_string::<i32>().iter().zip(b.as_string::<i32>()).filter(|(a, b)| a != b).count())
}
