//! Files: in which order their rows are, that they say so, and how their bytes get there.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use asofdb_storage::{Bucket, DataFile, Error, FileLayout, History, RowShape, StreamRows};
use parquet::file::metadata::SortingColumn;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::failing_store::{FailingStore, Failure};
use crate::rows::{
    OWNER, Row, batch, by_value, data_files, open, parquet, read, rows, shape, write_file, writer,
};

/// (name, number, time, position) of one row with a key of two columns.
type Keyed = (Option<&'static str>, Option<i64>, i64, u64);

fn keyed_batch(rows: &[Keyed]) -> RecordBatch {
    let name: StringArray = rows.iter().map(|row| row.0).collect();
    let number: Int64Array = rows.iter().map(|row| row.1).collect();
    let time: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.2)).collect();
    let position: UInt64Array = rows.iter().map(|row| Some(row.3)).collect();
    let columns: [(&str, ArrayRef, bool); 4] = [
        ("position", Arc::new(position), false),
        ("number", Arc::new(number), true),
        ("ts", Arc::new(time), false),
        ("name", Arc::new(name), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn sorting(columns: &[i32]) -> Vec<SortingColumn> {
    let ascending =
        |&column_idx| SortingColumn { column_idx, descending: false, nulls_first: true };
    columns.iter().map(ascending).collect()
}

#[tokio::test]
async fn rows_are_sorted_by_key_then_time_then_position_and_the_file_says_so() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let sorted: [Keyed; 9] = [
        (None, None, 5, 7),
        (None, Some(-1), 9, 1),
        (Some(""), None, 4, 9),
        (Some("a"), None, 9, 2),
        (Some("a"), Some(1), 3, 6),
        (Some("a"), Some(1), 8, 4),
        (Some("a"), Some(1), 8, 5),
        (Some("a"), Some(2), -7, 8),
        (Some("b"), Some(-9), -9, 3),
    ];
    let mut any_order = sorted;
    any_order.reverse();
    any_order.swap(1, 6);
    let batches = vec![keyed_batch(&any_order[..4]), keyed_batch(&any_order[4..])];
    let shape = RowShape {
        folder: "keyed".to_owned(),
        schema: keyed_batch(&[]).schema(),
        time_column: 2,
        position_column: 0,
    };
    let by_key = StreamRows { shape, batches, sort_columns: vec![3, 1] };
    let manifest = history.append(10, vec![(1, by_key)]).await.unwrap();
    let file = &manifest.files(1)[0];
    let names = vec!["name".to_owned(), "number".to_owned()];
    assert_eq!(file.layout, FileLayout { sorted_by: names, bucket: None });
    assert_eq!((file.min_time, file.max_time, file.first_position), (-9, 9, 1));
    let reader = parquet(&history, file).await;
    let stated = reader.metadata().row_group(0).sorting_columns().cloned();
    assert_eq!(stated, Some(sorting(&[3, 1, 2, 0])));
    let read: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(read, [keyed_batch(&sorted)]);

    let none = history.append(11, vec![rows(2, &[&[(1, 1, 10)]])]).await.unwrap();
    assert_eq!(none.files(2)[0].layout, FileLayout::default());
    let reader = parquet(&history, &none.files(2)[0]).await;
    assert_eq!(reader.metadata().row_group(0).sorting_columns().cloned(), Some(sorting(&[1, 2])));
    let again = open(&store).await.unwrap();
    assert_eq!(again.manifest(), none, "the layout is in the stored manifest");
}

#[tokio::test]
async fn a_layout_by_a_column_that_is_not_there_is_refused() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let layout = FileLayout { sorted_by: vec!["missing".to_owned()], bucket: None };
    let refused = history.writer(1, shape(1), layout).map(|_| ());
    let Err(Error::Parquet { source, .. }) = refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains("missing"), "{source}");
}

#[tokio::test]
async fn a_file_that_is_written_piece_by_piece_is_described_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open_local(dir.path(), OWNER).await.unwrap();
    let mut writer = history.writer(3, shape(3), by_value(1, 4)).unwrap();
    let pieces: [&[Row]; 4] = [&[(1, 50, 9), (1, 60, 4)], &[], &[(2, -3, 7)], &[(2, 8, 12)]];
    for (piece, rows) in pieces.into_iter().zip([2, 2, 3, 4]) {
        writer.write(&batch(piece)).await.unwrap();
        assert_eq!(writer.rows(), rows);
    }
    let file = writer.finish().await.unwrap().unwrap();
    assert_eq!(read(&history, &file).await, pieces.concat());
    let bytes = fs::metadata(dir.path().join(&file.path)).unwrap().len();
    let expected = DataFile {
        path: file.path.clone(),
        rows: 4,
        bytes,
        first_position: 4,
        last_position: 12,
        min_time: -3,
        max_time: 60,
        layout: by_value(1, 4),
        sums: file.sums.clone(),
    };
    assert_eq!(file, expected);
    assert!(file.path.starts_with("data/stream3/0000000001-"), "{}", file.path);
    assert_eq!(history.manifest().files(3), [], "no manifest names it yet");
}

#[tokio::test]
async fn a_file_of_a_failed_attempt_is_never_written_over() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let one = write_file(&history, 1, &[(1, 1, 1)]).await;
    let two = write_file(&history, 1, &[(2, 2, 2)]).await;
    assert_ne!(one.path, two.path, "of the same generation");
    assert_eq!(read(&history, &one).await, [(1, 1, 1)]);
}

#[tokio::test]
async fn rows_that_cannot_be_described_are_refused() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let null: TimestampMicrosecondArray = [None, Some(1)].into_iter().collect();
    let position: Int64Array = [Some(3), Some(-1)].into_iter().collect();
    let text: StringArray = [Some("one"), Some("two")].into_iter().collect();
    let good: Int64Array = [Some(3), Some(4)].into_iter().collect();
    let good: ArrayRef = Arc::new(good);
    let cases: [(ArrayRef, ArrayRef, &str); 4] = [
        (Arc::new(null), Arc::clone(&good), "column 0 has NULLs"),
        (Arc::new(text.clone()), Arc::clone(&good), "its time column is Utf8"),
        (Arc::clone(&good), Arc::new(position), "it has the position -1"),
        (Arc::clone(&good), Arc::new(text), "its position column is Utf8"),
    ];
    for (time, position, reason) in cases {
        let columns = [("time", time, true), ("position", position, true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let (folder, schema) = ("odd".to_owned(), batch.schema());
        let shape = RowShape { folder, schema, time_column: 0, position_column: 1 };
        let mut writer = history.writer(1, shape, FileLayout::default()).unwrap();
        let refused = writer.write(&batch).await;
        let Err(Error::InvalidRows { stream: 1, reason: found }) = refused else {
            panic!("{refused:?}")
        };
        assert!(found.starts_with(reason), "{found}");
        writer.abandon().await;
    }
    assert!(data_files(&*store.inner).await.is_empty());
}

/// Rows that do not compress: about 24 bytes each.
fn noise(rows: u64) -> Vec<Row> {
    let mut random = SmallRng::seed_from_u64(7);
    (0..rows).map(|_| (random.random(), random.random(), random.random())).collect()
}

#[tokio::test]
async fn a_large_file_goes_to_the_store_in_parts_and_comes_back() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let large = noise(600_000);
    let mut writer = writer(&history, 1);
    for piece in large.chunks(100_000) {
        writer.write(&batch(piece)).await.unwrap();
    }
    assert_eq!(data_files(&*store.inner).await, [""; 0], "nothing is visible before it is whole");
    let file = writer.finish().await.unwrap().unwrap();
    assert!(file.bytes > 10 << 20, "{} bytes", file.bytes);
    assert_eq!(store.uploads.counts(), (1, 0));
    assert!(store.uploads.parts.load(Ordering::Relaxed) >= 2);
    assert_eq!(read(&history, &file).await, large);
    history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    history.replace(1, &[], vec![file], None).await.unwrap();
    assert!(open(&store).await.is_ok(), "its length is what the manifest says");
}

#[tokio::test]
async fn an_abandoned_writer_leaves_no_file() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let empty = writer(&history, 1);
    assert_eq!(empty.finish().await.unwrap(), None);
    let mut small = writer(&history, 1);
    small.write(&batch(&[(1, 1, 1)])).await.unwrap();
    small.abandon().await;
    let mut large = writer(&history, 1);
    large.write(&batch(&noise(600_000))).await.unwrap();
    assert_eq!(store.uploads.counts(), (1, 0));
    large.abandon().await;
    assert_eq!(store.uploads.counts(), (1, 1), "its parts are not kept either");
    assert_eq!(data_files(&*store.inner).await, [""; 0]);

    let dir = tempfile::tempdir().unwrap();
    let history = History::open_local(dir.path(), OWNER).await.unwrap();
    let files = || fs::read_dir(dir.path().join("data/stream1")).unwrap().count();
    for end in ["finished empty", "abandoned", "dropped"] {
        let mut writer = writer(&history, 1);
        assert_eq!(files(), 1, "{end}: it is written aside");
        match end {
            "finished empty" => assert_eq!(writer.finish().await.unwrap(), None),
            "abandoned" => {
                writer.write(&batch(&noise(200_000))).await.unwrap();
                writer.abandon().await;
            }
            _ => drop(writer),
        }
        assert_eq!(files(), 0, "{end}");
    }
}

#[tokio::test]
async fn a_refused_append_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open_local(dir.path(), OWNER).await.unwrap();
    let mut no_key = rows(1, &[&[(0, 0, 1)]]);
    no_key.1.sort_columns = vec![9];
    let mut no_time = rows(1, &[&[(0, 0, 1)]]);
    no_time.1.shape.time_column = 0;
    no_time.1.shape.position_column = 1;
    let beyond = rows(1, &[&[(0, 0, 4)]]);
    for refused in [no_key, no_time, beyond] {
        let result = history.append(3, vec![rows(2, &[&[(0, 0, 2)]]), refused]).await;
        assert!(matches!(result, Err(Error::InvalidRows { stream: 1, .. })), "{result:?}");
        history.delete_retired().await.unwrap();
        assert_eq!(data_files(&*history.store()).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_finished_is_not_left() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open_local(dir.path(), OWNER).await.unwrap();
    let mut writer = writer(&history, 1);
    writer.write(&batch(&[(1, 1, 1)])).await.unwrap();
    // A directory of its name is in its way.
    let folder = dir.path().join("data/stream1");
    let aside = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let in_its_way = aside.with_extension("");
    fs::create_dir_all(in_its_way.join("child")).unwrap();
    let failed = writer.finish().await;
    assert!(matches!(failed, Err(Error::Io { operation: "rename", .. })), "{failed:?}");
    assert!(!aside.exists());

    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    store.fail(Some(("stream1/", Failure::Refused)));
    let mut small = crate::rows::writer(&history, 1);
    small.write(&batch(&[(1, 1, 1)])).await.unwrap();
    let failed = small.finish().await;
    assert!(matches!(failed, Err(Error::Store { .. })), "{failed:?}");
}

#[test]
fn a_bucket_is_part_of_the_one_of_half_as_many() {
    let mut found = [0; 8];
    for key in 0..4000_u32 {
        let key = key.to_be_bytes();
        let [two, four, eight] = [2, 4, 8].map(|count| Bucket::index_of(&key, count));
        assert_eq!((four % 2, eight % 4), (two, four));
        found[eight as usize] += 1;
        assert_eq!((Bucket::index_of(&key, 1), Bucket::index_of(&key, 0)), (0, 0));
    }
    assert!(found.iter().all(|&keys| (400..600).contains(&keys)), "{found:?}");
    // What is stored depends on it: it cannot change.
    assert_eq!(Bucket::index_of(b"123456789", 1 << 31), 0xe306_9283 % (1 << 31));
}
