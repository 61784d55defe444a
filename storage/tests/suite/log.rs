//! The log: what is appended comes back, in order, at dense positions.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use asofdb_storage::{Entry, Error, Log, LogOptions, Record, Recovery};
use bytes::Bytes;

pub(crate) fn entry(stream: u32, rows: u32, payload: &[u8]) -> Entry {
    Entry { stream, rows, payload: Bytes::copy_from_slice(payload) }
}

pub(crate) async fn append(log: &Log, entries: Vec<Entry>) -> u64 {
    log.append(entries, Box::new(|_| {})).await.unwrap()
}

/// Opens the log and collects what is replayed.
pub(crate) fn open_from(dir: &Path, from: u64) -> Result<(Log, Recovery, Vec<Record>), Error> {
    let mut records = Vec::new();
    let mut replay = |record| {
        records.push(record);
        Ok::<(), Infallible>(())
    };
    let (log, recovery) = Log::open(dir, LogOptions::default(), from, &mut replay)?;
    Ok((log, recovery, records))
}

pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn what_is_appended_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovery, records) = open_from(dir.path(), 1).unwrap();
    assert_eq!((recovery.next_position, records.len()), (1, 0));
    assert_eq!(append(&log, vec![entry(7, 3, b"abc"), entry(8, 1, b"")]).await, 1);
    let big = vec![42u8; 3_000_001];
    assert_eq!(append(&log, vec![entry(7, 10, &big)]).await, 5);
    assert_eq!(log.next_position(), 15);
    log.close().await;

    let (log, recovery, records) = open_from(dir.path(), 1).unwrap();
    let record = |position, stream, rows, payload: &[u8]| Record {
        position,
        stream,
        rows,
        payload: Bytes::copy_from_slice(payload),
    };
    let all = [record(1, 7, 3, b"abc"), record(4, 8, 1, b""), record(5, 7, 10, &big)];
    assert_eq!(records, all);
    let expected = Recovery { next_position: 15, truncated: None, records: 3, rows: 14 };
    assert_eq!(recovery, expected);
    assert_eq!(log.next_position(), 15);
    log.close().await;

    for (from, count) in [(4, 2), (5, 1), (14, 1), (15, 0)] {
        let (_log, recovery, records) = open_from(dir.path(), from).unwrap();
        assert_eq!(records, all[3 - count..], "from {from}");
        assert_eq!(recovery.next_position, 15);
    }
    assert!(matches!(
        open_from(dir.path(), 16),
        Err(Error::MissingRows { from: 16, next: 15, .. })
    ));
}

#[tokio::test]
async fn a_log_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open_from(dir.path(), 1).unwrap();
    assert!(matches!(open_from(dir.path(), 1), Err(Error::Locked { .. })));
    log.close().await;
    let (second, ..) = open_from(dir.path(), 1).unwrap();
    assert!(matches!(
        log.append(vec![entry(1, 1, b"")], Box::new(|_| {})).await,
        Err(Error::LogClosed)
    ));
    drop(second);
    open_from(dir.path(), 1).unwrap();
}

#[tokio::test]
async fn what_cannot_be_appended_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open_from(dir.path(), 1).unwrap();
    let refused = |entries| log.append(entries, Box::new(|_| panic!("not committed")));
    assert!(matches!(refused(vec![]).await, Err(Error::InvalidTransaction { .. })));
    let no_rows = refused(vec![entry(5, 0, b"x")]).await;
    assert!(matches!(no_rows, Err(Error::InvalidEntry { stream: 5, .. })));
    let huge = Entry { stream: 6, rows: 1, payload: Bytes::from(vec![0; (256 << 20) + 1]) };
    assert!(matches!(
        refused(vec![huge.clone()]).await,
        Err(Error::InvalidEntry { stream: 6, .. })
    ));
    let most = Entry { payload: huge.payload.slice(1..), ..huge };
    let many = refused(vec![most; 4]).await;
    assert!(matches!(many, Err(Error::InvalidTransaction { entries: 4, .. })));
    assert_eq!(append(&log, vec![entry(1, 1, b"")]).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_are_dense_and_published_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 4096, queue: 8, queue_bytes: 4096 };
    let mut none = |_| Ok::<(), Infallible>(());
    let (log, _) = Log::open(dir.path(), options, 1, &mut none).unwrap();
    let published = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for task in 0..20u32 {
        let (log, published) = (log.clone(), published.clone());
        tasks.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for index in 0..25u32 {
                let rows = index % 3 + 1;
                let text = format!("{task}/{index}");
                let seen = published.clone();
                let on_commit = Box::new(move |first| seen.lock().unwrap().push((first, rows)));
                let first = log.append(vec![entry(task, rows, text.as_bytes())], on_commit).await;
                let first = first.unwrap();
                assert!(published.lock().unwrap().contains(&(first, rows)), "published before");
                assert!(log.next_position() >= first + u64::from(rows));
                acknowledged.push((first, text));
            }
            acknowledged
        }));
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    log.close().await;
    let mut due = 1;
    for (first, rows) in published.lock().unwrap().iter() {
        assert_eq!(*first, due);
        due += u64::from(*rows);
    }
    acknowledged.sort();
    assert!(segments(dir.path()).len() > 3, "segments are bounded");
    let (_log, recovery, records) = open_from(dir.path(), 1).unwrap();
    assert_eq!(recovery.next_position, due);
    let found: Vec<_> = records
        .iter()
        .map(|record| (record.position, String::from_utf8(record.payload.to_vec()).unwrap()))
        .collect();
    assert_eq!(found, acknowledged);
}

#[tokio::test]
async fn dropping_segments_forgets_no_position() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open_from(dir.path(), 1).unwrap();
    log.rotate().await.unwrap();
    assert_eq!(segments(dir.path()).len(), 1, "an empty segment is not rotated");
    for _ in 0..3 {
        append(&log, vec![entry(1, 10, b"ten")]).await;
        log.rotate().await.unwrap();
    }
    assert_eq!(segments(dir.path()).len(), 4);
    log.drop_before(20).await.unwrap();
    assert_eq!(segments(dir.path()).len(), 3, "rows 11 to 20 are not all below 20");
    log.drop_before(21).await.unwrap();
    assert_eq!(segments(dir.path()).len(), 2);
    log.drop_before(u64::MAX).await.unwrap();
    assert_eq!(segments(dir.path()).len(), 1);
    log.close().await;

    let (log, recovery, records) = open_from(dir.path(), 31).unwrap();
    assert_eq!((recovery.next_position, records.len()), (31, 0));
    assert_eq!(append(&log, vec![entry(1, 1, b"x")]).await, 31);
    log.close().await;
    let (_log, recovery, records) = open_from(dir.path(), 31).unwrap();
    assert_eq!((recovery.next_position, records.len()), (32, 1));
    drop(_log);
    let missing = open_from(dir.path(), 30);
    assert!(matches!(missing, Err(Error::MissingRows { from: 30, first: 31, .. })));
}

#[tokio::test]
async fn an_error_of_the_consumer_ends_the_replay() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open_from(dir.path(), 1).unwrap();
    append(&log, vec![entry(1, 2, b"a"), entry(1, 1, b"b"), entry(1, 1, b"c")]).await;
    log.close().await;
    let mut calls = 0;
    let mut replay = |record: Record| {
        calls += 1;
        if record.position == 3 { Err("cannot decode") } else { Ok(()) }
    };
    let error = Log::open(dir.path(), LogOptions::default(), 1, &mut replay).unwrap_err();
    assert!(matches!(error, Error::Replay { position: 3, .. }), "{error}");
    assert!(error.to_string().contains("cannot decode"));
    assert_eq!(calls, 2);
}

#[tokio::test]
async fn an_append_that_nobody_awaits_is_committed_by_close() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open_from(dir.path(), 1).unwrap();
    let (first, closed) =
        tokio::join!(log.append(vec![entry(1, 1, b"queued")], Box::new(|_| {})), log.close());
    assert_eq!((first.unwrap(), closed), (1, ()));
    assert_eq!(open_from(dir.path(), 1).unwrap().2.len(), 1);
}
