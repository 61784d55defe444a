//! From the rows of one stream to the bytes of one Parquet file.
//!
//! Rows are sorted by (time, position), so that a reader that wants a stretch of time can skip row
//! groups and pages by their statistics and merge files without sorting them again.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{
    DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::Error;

/// Rows of a row group: 128 Ki.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// Rows of one stream on their way into the history.
#[derive(Clone, Debug)]
pub struct StreamRows {
    /// The schema of every batch.
    pub schema: SchemaRef,
    /// The rows, in any order.
    pub batches: Vec<RecordBatch>,
    /// The index of the event time: microseconds (or `Int64`), without NULLs.
    pub time_column: usize,
    /// The index of the position in the log: `UInt64` or `Int64`, without NULLs.
    pub position_column: usize,
}

/// A Parquet file in memory and what the manifest will say of it.
pub(super) struct Encoded {
    pub content: Vec<u8>,
    pub rows: u64,
    pub positions: (u64, u64),
    pub times: (i64, i64),
}

/// Sorts and encodes `rows`; `None` if there are none.
pub(super) fn encode(stream: u32, rows: &StreamRows, path: &str) -> Result<Option<Encoded>, Error> {
    let arrow = |source| Error::Arrow { stream, source };
    let batch = concat_batches(&rows.schema, &rows.batches).map_err(arrow)?;
    let column = |index: usize, role: &str| match batch.columns().get(index) {
        Some(column) if column.null_count() == 0 => Ok(column.clone()),
        Some(_) => Err(invalid(stream, format!("the {role} column has NULLs"))),
        None => Err(invalid(stream, format!("it has no column {index} for the {role}"))),
    };
    let time = column(rows.time_column, "time")?;
    let position = column(rows.position_column, "position")?;
    if batch.num_rows() == 0 {
        return Ok(None);
    }
    let times = time_range(stream, &time)?;
    let positions = position_range(stream, &position)?;
    let sort = [time, position].map(|values| SortColumn { values, options: None });
    let order = lexsort_to_indices(&sort, None).map_err(arrow)?;
    let sorted = take_record_batch(&batch, &order).map_err(arrow)?;
    let content = parquet_file(&sorted, rows)
        .map_err(|source| Error::Parquet { path: path.to_owned(), source })?;
    Ok(Some(Encoded { content, rows: sorted.num_rows() as u64, positions, times }))
}

fn parquet_file(sorted: &RecordBatch, rows: &StreamRows) -> Result<Vec<u8>, ParquetError> {
    let sorting = [rows.time_column, rows.position_column].map(|index| SortingColumn {
        column_idx: index as i32,
        descending: false,
        nulls_first: false,
    });
    // A sorting column is named by its leaf: with nested columns before it the indices differ.
    let flat = !rows.schema.fields().iter().any(|field| field.data_type().is_nested());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_sorting_columns(flat.then(|| sorting.to_vec()))
        .build();
    let mut content = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut content, sorted.schema(), Some(properties))?;
    writer.write(sorted)?;
    writer.close()?;
    Ok(content)
}

fn time_range(stream: u32, column: &ArrayRef) -> Result<(i64, i64), Error> {
    let values = match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().values()
        }
        DataType::Int64 => column.as_primitive::<Int64Type>().values(),
        other => {
            let reason = format!("its time column is {other}, not Timestamp(µs) or Int64");
            return Err(invalid(stream, reason));
        }
    };
    range(stream, values.iter().copied())
}

fn position_range(stream: u32, column: &ArrayRef) -> Result<(u64, u64), Error> {
    match column.data_type() {
        DataType::UInt64 => {
            range(stream, column.as_primitive::<UInt64Type>().values().iter().copied())
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().values().iter();
            let (first, last) = range(stream, values.copied())?;
            match (u64::try_from(first), u64::try_from(last)) {
                (Ok(first), Ok(last)) => Ok((first, last)),
                _ => Err(invalid(stream, format!("it has the position {first}"))),
            }
        }
        other => {
            let reason = format!("its position column is {other}, not UInt64 or Int64");
            Err(invalid(stream, reason))
        }
    }
}

fn range<V: Ord + Copy>(
    stream: u32,
    values: impl Iterator<Item = V> + Clone,
) -> Result<(V, V), Error> {
    match (values.clone().min(), values.max()) {
        (Some(min), Some(max)) => Ok((min, max)),
        _ => Err(invalid(stream, "it has no rows".to_owned())),
    }
}

pub(super) fn invalid(stream: u32, reason: String) -> Error {
    Error::InvalidRows { stream, reason }
}
