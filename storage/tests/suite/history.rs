//! The history: a snapshot is visible whole or not at all, and its files are plain Parquet.

use std::fs;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt64Type};
use asofdb_storage::{Error, History, StreamRows};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::failing_store::{FailingStore, Failure};

/// (value, time, position) of one row.
type Row = (i64, i64, u64);

fn batch(rows: &[Row]) -> RecordBatch {
    let time: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.1)).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("value", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>())),
        ("ts", Arc::new(time.with_timezone("UTC"))),
        ("position", Arc::new(rows.iter().map(|row| Some(row.2)).collect::<UInt64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let values = batch.column(0).as_primitive::<Int64Type>().values();
    let times = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
    let positions = batch.column(2).as_primitive::<UInt64Type>().values();
    (0..batch.num_rows()).map(|row| (values[row], times[row], positions[row])).collect()
}

fn stream_rows(batches: &[&[Row]]) -> StreamRows {
    let batches: Vec<_> = batches.iter().map(|rows| batch(rows)).collect();
    StreamRows { schema: batch(&[]).schema(), batches, time_column: 1, position_column: 2 }
}

async fn read_all(history: &History, stream: u32) -> Vec<Vec<Row>> {
    let mut files = Vec::new();
    for file in history.manifest().files(stream) {
        let batches = history.read(file).await.unwrap();
        files.push(batches.flat_map(|batch| rows_of(&batch.unwrap())).collect());
    }
    files
}

async fn data_files(store: &dyn ObjectStore) -> Vec<String> {
    let all: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut paths: Vec<_> = all.iter().map(|object| object.location.to_string()).collect();
    paths.retain(|path| path.contains("data/"));
    paths.sort();
    paths
}

async fn open(store: &Arc<FailingStore>) -> Result<History, Error> {
    History::open(store.clone(), Path::from("some/prefix")).await
}

#[tokio::test]
async fn a_local_history_comes_back_sorted_and_readable_as_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/history");
    let history = History::open_local(&root).await.unwrap();
    assert_eq!((history.manifest().generation, history.manifest().covered), (0, 1));
    let rows = stream_rows(&[&[(10, 300, 1), (11, 100, 4)], &[(12, 300, 3), (13, -5, 2)]]);
    let manifest = history.append(5, vec![(7, rows), (8, stream_rows(&[]))]).await.unwrap();
    assert_eq!((manifest.generation, manifest.covered), (1, 5));
    assert_eq!(manifest.streams.keys().collect::<Vec<_>>(), [&7]);
    let more = history.append(9, vec![(7, stream_rows(&[&[(14, 0, 8)]]))]).await.unwrap();
    assert!(matches!(History::open_local(&root).await, Err(Error::Locked { .. })));
    drop(history);

    let history = History::open_local(&root).await.unwrap();
    assert_eq!(history.manifest(), more);
    let sorted = vec![(13, -5, 2), (11, 100, 4), (10, 300, 1), (12, 300, 3)];
    assert_eq!(read_all(&history, 7).await, [sorted.clone(), vec![(14, 0, 8)]]);
    let file = &more.files(7)[0];
    assert_eq!((file.rows, file.first_position, file.last_position), (4, 1, 4));
    assert_eq!((file.min_time, file.max_time), (-5, 300));

    let plain = fs::File::open(root.join(&file.path)).unwrap();
    assert_eq!(plain.metadata().unwrap().len(), file.bytes);
    let builder = ParquetRecordBatchReaderBuilder::try_new(plain).unwrap();
    let column = builder.metadata().row_group(0).column(1).clone();
    assert!(column.statistics().is_some());
    assert!(matches!(column.compression(), parquet::basic::Compression::ZSTD(_)));
    let batches = builder.build().unwrap();
    assert_eq!(batches.flat_map(|batch| rows_of(&batch.unwrap())).collect::<Vec<_>>(), sorted);
}

#[tokio::test]
async fn row_groups_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open_local(dir.path()).await.unwrap();
    let count = (128 << 10) + 1;
    let rows: Vec<Row> = (0..count).map(|row| (row, -row, row as u64 + 1)).collect();
    let streams = vec![(1, stream_rows(&[&rows]))];
    let manifest = history.append(count as u64 + 1, streams).await.unwrap();
    let file = fs::File::open(dir.path().join(&manifest.files(1)[0].path)).unwrap();
    let metadata = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().metadata().clone();
    let groups: Vec<_> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [128 << 10, 1]);
}

#[tokio::test]
async fn a_failed_swap_shows_the_old_snapshot_and_leaves_garbage() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let old = history.append(3, vec![(1, stream_rows(&[&[(1, 1, 1)]]))]).await.unwrap();
    let kept = data_files(&*store.inner).await;
    for failing in ["manifest.json", "-2-"] {
        store.fail(Some((failing, Failure::Refused)));
        let streams = vec![(1, stream_rows(&[&[(2, 2, 3)]])), (2, stream_rows(&[&[(3, 3, 4)]]))];
        let result = history.append(5, streams).await;
        assert!(matches!(result, Err(Error::Store { .. })), "{result:?}");
        assert_eq!(history.manifest(), old);
    }
    assert!(data_files(&*store.inner).await.len() > kept.len(), "the crash left garbage");
    drop(history);
    store.fail(None);
    let history = open(&store).await.unwrap();
    assert_eq!(history.manifest(), old);
    assert_eq!(data_files(&*store.inner).await, kept, "the garbage is gone, the rest is not");
    assert_eq!(read_all(&history, 1).await, [[(1, 1, 1)]]);
}

#[tokio::test]
async fn after_a_failure_the_same_handle_goes_on() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    store.fail(Some(("manifest.json", Failure::Refused)));
    history.append(2, vec![(1, stream_rows(&[&[(1, 1, 1)]]))]).await.unwrap_err();
    store.fail(None);
    history.append(2, vec![(1, stream_rows(&[&[(1, 1, 1)]]))]).await.unwrap();
    store.fail(Some(("manifest.json", Failure::AnswerLost)));
    let manifest = history.append(3, vec![(1, stream_rows(&[&[(2, 2, 2)]]))]).await.unwrap();
    assert_eq!(manifest.covered, 3, "the store says that it took effect");
    store.fail(None);
    history.append(4, vec![(1, stream_rows(&[&[(3, 3, 3)]]))]).await.unwrap();
    assert_eq!(read_all(&history, 1).await, [[(1, 1, 1)], [(2, 2, 2)], [(3, 3, 3)]]);
    assert_eq!(open(&store).await.unwrap().manifest(), history.manifest());
}

#[tokio::test]
async fn an_unknown_outcome_is_learnt_before_the_next_write() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let old = history.append(2, vec![(1, stream_rows(&[&[(1, 1, 1)]]))]).await.unwrap();
    store.fail(Some(("manifest.json", Failure::Unreachable)));
    let lost = history.append(3, vec![(1, stream_rows(&[&[(2, 2, 2)]]))]).await;
    assert!(matches!(lost, Err(Error::Store { .. })), "{lost:?}");
    assert_eq!(history.manifest(), old);
    assert!(history.refresh().await.is_err());
    store.fail(None);
    let again = history.append(3, vec![(1, stream_rows(&[&[(2, 2, 2)]]))]).await;
    assert!(matches!(again, Err(Error::InvalidRows { .. })), "no row enters twice: {again:?}");
    assert_eq!(history.refresh().await.unwrap().covered, 3);
    history.append(4, vec![(1, stream_rows(&[&[(3, 3, 3)]]))]).await.unwrap();
    assert_eq!(read_all(&history, 1).await, [[(1, 1, 1)], [(2, 2, 2)], [(3, 3, 3)]]);
}

#[tokio::test]
async fn a_second_writer_is_noticed() {
    let store = Arc::new(FailingStore::default());
    let (first, second) = (open(&store).await.unwrap(), open(&store).await.unwrap());
    let won = first.append(2, vec![(1, stream_rows(&[&[(1, 1, 1)]]))]).await.unwrap();
    let lost = second.append(2, vec![(1, stream_rows(&[&[(1, 1, 1)]]))]).await;
    assert!(matches!(lost, Err(Error::ManifestConflict { generation: 0, .. })), "{lost:?}");
    first.append(3, vec![]).await.unwrap();
    let lost = second.append(4, vec![]).await;
    assert!(matches!(lost, Err(Error::ManifestConflict { .. })), "{lost:?}");
    assert_eq!(open(&store).await.unwrap().manifest().streams, won.streams);
}

#[tokio::test]
async fn a_store_without_conditional_writes_will_do() {
    let store = Arc::new(FailingStore { unconditional: true, ..FailingStore::default() });
    let history = open(&store).await.unwrap();
    for covered in 2..5 {
        history.append(covered, vec![]).await.unwrap();
    }
    assert_eq!(open(&store).await.unwrap().manifest().covered, 4);
}

#[tokio::test]
async fn a_dropped_stream_is_gone_and_its_files_are_later() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let both = vec![(1, stream_rows(&[&[(1, 1, 1)]])), (2, stream_rows(&[&[(2, 2, 2)]]))];
    let before = history.append(3, both).await.unwrap();
    let after = history.drop_stream(1).await.unwrap();
    assert_eq!((after.files(1).len(), after.files(2).len(), after.covered), (0, 1, 3));
    assert!(history.read(&before.files(1)[0]).await.is_ok(), "an older snapshot is still there");
    assert_eq!(history.drop_stream(1).await.unwrap(), after, "nothing to drop");
    let history = open(&store).await.unwrap();
    assert_eq!(history.manifest(), after);
    assert_eq!(data_files(&*store.inner).await.len(), 1);
}

#[tokio::test]
async fn rows_that_do_not_belong_are_refused() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    history.append(5, vec![]).await.unwrap();
    let backwards = history.append(4, vec![]).await;
    assert!(matches!(backwards, Err(Error::CoveredBackwards { present: 5, asked: 4 })));
    for position in [4, 10] {
        let result = history.append(10, vec![(3, stream_rows(&[&[(0, 0, position)]]))]).await;
        assert!(matches!(result, Err(Error::InvalidRows { stream: 3, .. })), "{result:?}");
    }
    let mut rows = stream_rows(&[&[(0, 0, 6)]]);
    rows.time_column = 9;
    let result = history.append(10, vec![(3, rows)]).await;
    assert!(matches!(result, Err(Error::InvalidRows { stream: 3, .. })), "{result:?}");
    assert_eq!(history.manifest().covered, 5);
}

#[tokio::test]
async fn a_damaged_manifest_or_a_missing_file_is_refused() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let manifest = history.append(2, vec![(1, stream_rows(&[&[(1, 1, 1)]]))]).await.unwrap();
    let path = Path::from("some/prefix/manifest.json");
    let good = store.inner.get(&path).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(good.to_vec()).unwrap();
    let edits = [
        (text.replace("\"covered\": 2", "\"covered\": 3"), false),
        (text[..text.len() / 2].to_owned(), false),
        (String::new(), false),
        (text.replace("\"format\": 1", "\"format\": 2, \"new\": {}"), true),
    ];
    for (edited, later) in edits {
        assert_ne!(edited, text);
        store.inner.put(&path, PutPayload::from(edited.clone())).await.unwrap();
        match open(&store).await {
            Err(Error::UnknownVersion { found: 2, .. }) => assert!(later, "{edited}"),
            Err(Error::Damaged { file, .. }) => {
                assert!(!later, "{edited}");
                assert_eq!(file.to_str(), Some(path.as_ref()));
            }
            other => panic!("{other:?} for {edited}"),
        }
        assert_eq!(data_files(&*store.inner).await.len(), 1, "nothing is deleted on a refusal");
    }
    store.inner.put(&path, PutPayload::from(good)).await.unwrap();
    open(&store).await.unwrap();
    let location = history.location(&manifest.files(1)[0]);
    store.inner.put(&location, PutPayload::from_static(b"short")).await.unwrap();
    assert!(matches!(open(&store).await, Err(Error::Damaged { .. })));
    store.inner.delete(&location).await.unwrap();
    assert!(matches!(open(&store).await, Err(Error::Damaged { .. })));
}
