//! Rows for the history, and what is read back of them through its store.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt64Type};
use asofdb_storage::{
    Bucket, DataFile, Error, FileLayout, FileWriter, History, Owner, RowShape, StreamRows,
};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::failing_store::FailingStore;

/// Whose histories these are.
pub(crate) const OWNER: Owner = Owner("0123456789abcdef0123456789abcdef");

/// (value, time, position) of one row.
pub(crate) type Row = (i64, i64, u64);

pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let time: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.1)).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("value", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>())),
        ("ts", Arc::new(time.with_timezone("UTC"))),
        ("position", Arc::new(rows.iter().map(|row| Some(row.2)).collect::<UInt64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

pub(crate) fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let values = batch.column(0).as_primitive::<Int64Type>().values();
    let times = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
    let positions = batch.column(2).as_primitive::<UInt64Type>().values();
    (0..batch.num_rows()).map(|row| (values[row], times[row], positions[row])).collect()
}

/// The shape of the [`Row`]s of `stream`.
pub(crate) fn shape(stream: u32) -> RowShape {
    let (folder, schema) = (format!("stream{stream}"), batch(&[]).schema());
    RowShape { folder, schema, time_column: 1, position_column: 2 }
}

/// Rows of `stream`, by time and position only.
pub(crate) fn rows(stream: u32, batches: &[&[Row]]) -> (u32, StreamRows) {
    let batches: Vec<_> = batches.iter().map(|rows| batch(rows)).collect();
    (stream, StreamRows { shape: shape(stream), batches, sort_columns: Vec::new() })
}

/// The layout of bucket `index` of `count`, by value.
pub(crate) fn by_value(index: u32, count: u32) -> FileLayout {
    FileLayout { sorted_by: vec!["value".to_owned()], bucket: Some(Bucket { index, count }) }
}

/// Begins a file of `stream` that is to take the place of others.
pub(crate) fn writer(history: &History, stream: u32) -> FileWriter {
    history.writer(stream, shape(stream), by_value(0, 1)).unwrap()
}

/// Writes a file of `stream` that no manifest names yet.
pub(crate) async fn write_file(history: &History, stream: u32, rows: &[Row]) -> DataFile {
    let mut writer = writer(history, stream);
    writer.write(&batch(rows)).await.unwrap();
    writer.finish().await.unwrap().unwrap()
}

pub(crate) async fn parquet(
    history: &History,
    file: &DataFile,
) -> ParquetRecordBatchReaderBuilder<bytes::Bytes> {
    let found = history.store().get(&history.location(file)).await.unwrap();
    ParquetRecordBatchReaderBuilder::try_new(found.bytes().await.unwrap()).unwrap()
}

pub(crate) async fn read(history: &History, file: &DataFile) -> Vec<Row> {
    let batches = parquet(history, file).await.build().unwrap();
    batches.flat_map(|batch| rows_of(&batch.unwrap())).collect()
}

/// The rows of each file of `stream`, in the present snapshot.
pub(crate) async fn read_all(history: &History, stream: u32) -> Vec<Vec<Row>> {
    let mut files = Vec::new();
    for file in history.manifest().files(stream) {
        files.push(read(history, file).await);
    }
    files
}

/// The paths below `data/`, sorted.
pub(crate) async fn data_files(store: &dyn ObjectStore) -> Vec<String> {
    let all: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut paths: Vec<_> = all.iter().map(|object| object.location.to_string()).collect();
    paths.retain(|path| path.contains("data/"));
    paths.sort();
    paths
}

pub(crate) async fn open(store: &Arc<FailingStore>) -> Result<History, Error> {
    History::open(store.clone(), Path::from("some/prefix"), OWNER).await
}
