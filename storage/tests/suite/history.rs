//! The history: a snapshot is visible whole or not at all, and its files are plain Parquet.

use std::fs;
use std::sync::Arc;

use asofdb_storage::{Error, History, Owner};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::failing_store::{FailingStore, Failure};
use crate::rows::{OWNER, Row, data_files, open, read, read_all, rows, rows_of, write_file};

#[tokio::test]
async fn a_local_history_comes_back_sorted_and_readable_as_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/history");
    let history = History::open_local(&root, OWNER).await.unwrap();
    assert_eq!((history.manifest().generation, history.manifest().covered), (0, 1));
    let seven = rows(7, &[&[(10, 300, 1), (11, 100, 4)], &[(12, 300, 3), (13, -5, 2)]]);
    let manifest = history.append(5, vec![seven, rows(8, &[])]).await.unwrap();
    assert_eq!((manifest.generation, manifest.covered), (1, 5));
    assert_eq!(manifest.streams.keys().collect::<Vec<_>>(), [&7]);
    let more = history.append(9, vec![rows(7, &[&[(14, 0, 8)]])]).await.unwrap();
    assert!(matches!(History::open_local(&root, OWNER).await, Err(Error::Locked { .. })));
    drop(history);

    let history = History::open_local(&root, OWNER).await.unwrap();
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
    let history = History::open_local(dir.path(), OWNER).await.unwrap();
    let count = (128 << 10) + 1;
    let values: Vec<Row> = (0..count).map(|row| (row, -row, row as u64 + 1)).collect();
    let streams = vec![rows(1, &[&values])];
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
    let old = history.append(3, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let kept = data_files(&*store.inner).await;
    for failing in ["manifest.json", "stream2/"] {
        store.fail(Some((failing, Failure::Refused)));
        let streams = vec![rows(1, &[&[(2, 2, 3)]]), rows(2, &[&[(3, 3, 4)]])];
        let result = history.append(5, streams).await;
        assert!(matches!(result, Err(Error::Store { .. } | Error::Parquet { .. })), "{result:?}");
        assert_eq!(history.manifest(), old);
    }
    assert!(data_files(&*store.inner).await.len() > kept.len(), "the crash left garbage");
    drop(history);
    store.fail(None);
    let history = open(&store).await.unwrap();
    assert_eq!(history.manifest().streams, old.streams);
    assert_eq!(data_files(&*store.inner).await, kept, "the garbage is gone, the rest is not");
    assert_eq!(read_all(&history, 1).await, [[(1, 1, 1)]]);
}

#[tokio::test]
async fn after_a_failure_the_same_handle_goes_on() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    store.fail(Some(("manifest.json", Failure::Refused)));
    history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap_err();
    store.fail(None);
    history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    store.fail(Some(("manifest.json", Failure::AnswerLost)));
    let manifest = history.append(3, vec![rows(1, &[&[(2, 2, 2)]])]).await.unwrap();
    assert_eq!(manifest.covered, 3, "the store says that it took effect");
    store.fail(None);
    history.append(4, vec![rows(1, &[&[(3, 3, 3)]])]).await.unwrap();
    assert_eq!(read_all(&history, 1).await, [[(1, 1, 1)], [(2, 2, 2)], [(3, 3, 3)]]);
    assert_eq!(open(&store).await.unwrap().manifest().streams, history.manifest().streams);
}

#[tokio::test]
async fn an_unknown_outcome_is_learnt_before_the_next_write() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let old = history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    store.fail(Some(("manifest.json", Failure::Unreachable)));
    let lost = history.append(3, vec![rows(1, &[&[(2, 2, 2)]])]).await;
    assert!(matches!(lost, Err(Error::Store { .. })), "{lost:?}");
    assert_eq!(history.manifest(), old);
    assert!(history.refresh().await.is_err());
    store.fail(None);
    let again = history.append(3, vec![rows(1, &[&[(2, 2, 2)]])]).await;
    assert!(matches!(again, Err(Error::InvalidRows { .. })), "no row enters twice: {again:?}");
    assert_eq!(history.refresh().await.unwrap().covered, 3);
    history.append(4, vec![rows(1, &[&[(3, 3, 3)]])]).await.unwrap();
    assert_eq!(read_all(&history, 1).await, [[(1, 1, 1)], [(2, 2, 2)], [(3, 3, 3)]]);
}

#[tokio::test]
async fn a_second_writer_is_noticed() {
    let store = Arc::new(FailingStore::default());
    let (first, second) = (open(&store).await.unwrap(), open(&store).await.unwrap());
    let won = first.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let lost = second.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await;
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
    let both = vec![rows(1, &[&[(1, 1, 1)]]), rows(2, &[&[(2, 2, 2)]])];
    let before = history.append(3, both).await.unwrap();
    let after = history.drop_stream(1).await.unwrap();
    assert_eq!((after.files(1).len(), after.files(2).len(), after.covered), (0, 1, 3));
    assert_eq!(read(&history, &before.files(1)[0]).await, [(1, 1, 1)], "an older snapshot");
    assert_eq!(history.drop_stream(1).await.unwrap(), after, "nothing to drop");
    let history = open(&store).await.unwrap();
    assert_eq!(history.manifest().streams, after.streams);
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
        let result = history.append(10, vec![rows(3, &[&[(0, 0, position)]])]).await;
        assert!(matches!(result, Err(Error::InvalidRows { stream: 3, .. })), "{result:?}");
    }
    let mut no_time = rows(3, &[&[(0, 0, 6)]]);
    no_time.1.shape.time_column = 9;
    let mut no_key = rows(3, &[&[(0, 0, 6)]]);
    no_key.1.sort_columns = vec![9];
    for streams in [no_time, no_key] {
        let result = history.append(10, vec![rows(2, &[&[(0, 0, 7)]]), streams]).await;
        assert!(matches!(result, Err(Error::InvalidRows { stream: 3, .. })), "{result:?}");
    }
    assert_eq!(history.manifest().covered, 5);
}

#[tokio::test]
async fn a_damaged_manifest_or_a_missing_file_is_refused() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let manifest = history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let path = Path::from("some/prefix/manifest.json");
    let good = store.inner.get(&path).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(good.to_vec()).unwrap();
    let edits = [
        (text.replace("\"covered\": 2", "\"covered\": 3"), None),
        (text.replace("\"bucket\": null", "\"bucket\": {\"index\": 0, \"count\": 1}"), None),
        (text.replace("\"kept_from\": null", "\"kept_from\": 1"), None),
        (text.replace("\"kept_from\": null", "\"kept_from\": null, \"new\": 1"), None),
        (text.replace("\"format\"", "\"formal\""), None),
        (text[..text.len() / 2].to_owned(), None),
        (String::new(), None),
        (text.replace("\"format\": 3", "\"format\": 4, \"new\": {}"), Some(4)),
        ("{\"checksum\": \"0\", \"manifest\": {\"format\": 1, \"covered\": 2}}".into(), Some(1)),
    ];
    for (edited, other_format) in edits {
        assert_ne!(edited, text);
        store.inner.put(&path, PutPayload::from(edited.clone())).await.unwrap();
        match (open(&store).await, other_format) {
            (Err(Error::UnknownVersion { found, supported: 3, .. }), Some(format)) => {
                assert_eq!(found, format, "{edited}");
            }
            (Err(Error::Damaged { file, .. }), None) => {
                assert_eq!(file.to_str(), Some(path.as_ref()));
            }
            (other, _) => panic!("{other:?} for {edited}"),
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

#[tokio::test]
async fn another_databases_history_is_refused_and_left_alone() {
    let other = Owner("ffffffffffffffffffffffffffffffff");
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let unnamed = write_file(&history, 1, &[(1, 1, 1)]).await;
    let refused = History::open(store.clone(), Path::from("some/prefix"), other).await;
    let Err(Error::ForeignHistory { path, found, ours }) = refused else { panic!("{refused:?}") };
    assert_eq!((&*found, &*ours, &*path), (OWNER.0, other.0, "some/prefix/manifest.json"));
    assert_eq!(read(&history, &unnamed).await, [(1, 1, 1)], "its garbage may be a file under way");
    // A prefix beside it is free.
    History::open(store.clone(), Path::from("some"), other).await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let local = History::open_local(dir.path(), OWNER).await.unwrap();
    // Nothing is stored yet: it is nobody's.
    drop(local);
    let local = History::open_local(dir.path(), other).await.unwrap();
    local.append(2, vec![]).await.unwrap();
    drop(local);
    let refused = History::open_local(dir.path(), OWNER).await;
    assert!(matches!(refused, Err(Error::ForeignHistory { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_history_that_changed_hands_meanwhile_is_not_written() {
    let other = Owner("ffffffffffffffffffffffffffffffff");
    let store = Arc::new(FailingStore::default());
    let ours = open(&store).await.unwrap();
    let theirs = History::open(store.clone(), Path::from("some/prefix"), other).await.unwrap();
    theirs.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let lost = ours.append(2, vec![]).await;
    assert!(matches!(lost, Err(Error::ManifestConflict { generation: 0, .. })), "{lost:?}");
    let again = ours.append(2, vec![]).await;
    assert!(matches!(again, Err(Error::ForeignHistory { .. })), "{again:?}");
}

#[tokio::test]
async fn a_closed_history_is_read_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open_local(dir.path(), OWNER).await.unwrap();
    history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let locked = History::open_local(dir.path(), OWNER).await;
    assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
    history.close().await;
    let next = History::open_local(dir.path(), OWNER).await.unwrap();
    next.append(3, vec![rows(1, &[&[(2, 2, 2)]])]).await.unwrap();
    let refused = history.append(3, vec![rows(1, &[&[(2, 3, 3)]])]).await;
    assert!(matches!(refused, Err(Error::HistoryClosed)), "{refused:?}");
    assert_eq!(read_all(&history, 1).await, [[(1, 1, 1)]]);
    assert_eq!(read_all(&next, 1).await, [[(1, 1, 1)], [(2, 2, 2)]]);
}
