//! A Parquet file in memory, read value by value.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use asofdb_tests::oracle::Value;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Error;

/// All rows of a file, in its order.
pub struct Table {
    batch: RecordBatch,
}

impl Table {
    /// Reads a whole file.
    pub fn read(path: &Path) -> Result<Table, Error> {
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let schema = SchemaRef::clone(builder.schema());
        let batches = builder.build()?.collect::<Result<Vec<_>, _>>()?;
        Ok(Table { batch: concat_batches(&schema, &batches)? })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// The names of the columns.
    pub fn names(&self) -> Vec<String> {
        self.batch.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// A column's value in a row.
    pub fn value(&self, column: &str, row: usize) -> Result<Value, Error> {
        let array =
            self.batch.column_by_name(column).ok_or_else(|| format!("no column {column}"))?;
        if array.is_null(row) {
            return Ok(Value::Null);
        }
        Ok(match array.data_type() {
            DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
            DataType::Float64 => Value::float(array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Value::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            other => return Err(format!("column {column} is of type {other}").into()),
        })
    }

    /// A time, in microseconds since 1970.
    pub fn time(&self, column: &str, row: usize) -> Result<i64, Error> {
        match self.value(column, row)? {
            Value::Timestamp(time) => Ok(time),
            other => Err(format!("{column} of row {row} is {other:?}, not a time").into()),
        }
    }
}
