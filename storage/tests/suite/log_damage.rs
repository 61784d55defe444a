//! The log after a crash or on a bad disk: cut what was not acknowledged, refuse the rest, and
//! never deliver a record that was not appended.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use asofdb_storage::{Error, Record};

use crate::log::{append, entry, open_from, segments};

/// A log whose only segment is `content`; `ends[n]` is where its transaction n ends.
struct Sample {
    content: Vec<u8>,
    name: PathBuf,
    ends: Vec<usize>,
    records: Vec<Vec<Record>>,
}

/// Writes `count` transactions of two entries each, each in a group of its own.
async fn sample(count: u32) -> Sample {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open_from(dir.path(), 1).unwrap();
    let path = segments(dir.path()).remove(0);
    let mut ends = vec![fs::metadata(&path).unwrap().len() as usize];
    for index in 0..count {
        let text = format!("transaction {index}").repeat(index as usize % 3 + 1);
        let entries = vec![entry(index, 2, text.as_bytes()), entry(99, 1, b"second")];
        append(&log, entries).await;
        ends.push(fs::metadata(&path).unwrap().len() as usize);
    }
    log.close().await;
    let content = fs::read(&path).unwrap();
    let (_log, _, records) = open_from(dir.path(), 1).unwrap();
    let records: Vec<_> = records.chunks(2).map(<[Record]>::to_vec).collect();
    assert_eq!(records.len(), count as usize);
    let name = PathBuf::from(path.file_name().unwrap());
    Sample { content, name, ends, records }
}

impl Sample {
    /// A directory with this log, its content replaced.
    fn with(&self, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(&self.name);
        fs::write(&path, content).unwrap();
        (dir, path)
    }

    /// The records of the first `count` transactions.
    fn prefix(&self, count: usize) -> Vec<Record> {
        self.records[..count].concat()
    }
}

/// Appends to a log that was just recovered and checks that all of it is there afterwards.
async fn goes_on(dir: &Path, before: &[Record]) {
    let (log, recovery, records) = open_from(dir, 1).unwrap();
    assert_eq!(records, before);
    assert_eq!(recovery.truncated, None, "what was cut stays cut");
    let next = before.last().map_or(1, |record| record.position + u64::from(record.rows));
    assert_eq!(append(&log, vec![entry(5, 4, b"after the crash")]).await, next);
    log.close().await;
    let (_log, recovery, records) = open_from(dir, 1).unwrap();
    assert_eq!(records.len(), before.len() + 1);
    assert_eq!(recovery.next_position, next + 4);
}

#[tokio::test]
async fn a_cut_at_any_byte_leaves_the_whole_transactions_before_it() {
    let sample = sample(6).await;
    let first_cut = sample.ends[3];
    for cut in first_cut..=sample.content.len() {
        let (dir, path) = sample.with(&sample.content[..cut]);
        let whole = sample.ends.iter().filter(|end| **end <= cut).count() - 1;
        let expected = sample.prefix(whole);
        let (log, recovery, records) = open_from(dir.path(), 1).unwrap();
        assert_eq!(records, expected, "cut at {cut}");
        assert_eq!(log.next_position(), whole as u64 * 3 + 1);
        let dropped = (cut - sample.ends[whole]) as u64;
        match recovery.truncated {
            None => assert_eq!(dropped, 0, "cut at {cut}"),
            Some(torn) => {
                assert_eq!((torn.file, torn.offset), (path, sample.ends[whole] as u64));
                assert_eq!(torn.bytes_dropped, dropped);
            }
        }
        log.close().await;
        goes_on(dir.path(), &expected).await;
    }
}

/// Opens a log with damage in `bad` and expects to be told so.
fn expect_damage(sample: &Sample, content: &[u8], bad: &Range<usize>, what: &str) {
    let (dir, path) = sample.with(content);
    match open_from(dir.path(), 1) {
        Err(Error::Damaged { file, offset, .. }) => {
            assert_eq!(file, path);
            assert!(bad.contains(&(offset as usize)), "{what}: offset {offset}");
        }
        other => panic!("{what}: {other:?}"),
    }
    assert_eq!(fs::read(&path).unwrap(), content, "{what}: a refusal changes nothing");
}

#[tokio::test]
async fn every_flipped_bit_in_the_middle_is_refused() {
    let sample = sample(5).await;
    let bad = sample.ends[2]..sample.ends[3];
    for offset in bad.clone() {
        for bit in 0..8 {
            let mut content = sample.content.clone();
            content[offset] ^= 1 << bit;
            expect_damage(&sample, &content, &bad, &format!("byte {offset}, bit {bit}"));
        }
    }
}

#[tokio::test]
async fn every_flipped_bit_of_the_header_is_refused() {
    let sample = sample(2).await;
    for offset in 0..sample.ends[0] {
        let mut content = sample.content.clone();
        content[offset] ^= 1;
        expect_damage(&sample, &content, &(0..1), &format!("byte {offset}"));
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_last_transaction_never_gives_a_wrong_record() {
    let sample = sample(3).await;
    let mut cut = 0;
    for offset in sample.ends[2]..sample.ends[3] {
        for bit in 0..8 {
            let mut content = sample.content.clone();
            content[offset] ^= 1 << bit;
            let (dir, _) = sample.with(&content);
            match open_from(dir.path(), 1) {
                Ok((_log, recovery, records)) => {
                    assert_eq!(records, sample.prefix(2), "byte {offset}, bit {bit}");
                    assert!(recovery.truncated.is_some(), "byte {offset}, bit {bit}");
                    cut += 1;
                }
                Err(Error::Damaged { .. }) => {}
                Err(other) => panic!("byte {offset}, bit {bit}: {other}"),
            }
        }
    }
    assert!(cut > 0);
}

#[tokio::test]
async fn zeros_over_acknowledged_bytes_are_refused() {
    let sample = sample(200).await;
    for start in (4096..sample.content.len() - 8192).step_by(4096) {
        let mut content = sample.content.clone();
        content[start..start + 4096].fill(0);
        let hit = sample.ends.iter().rfind(|end| **end <= start).unwrap();
        expect_damage(&sample, &content, &(*hit..start + 4096), &format!("page at {start}"));
    }
    assert!(sample.content.len() > 5 * 4096);
    // Zeros up to the end are what a torn write of a grown file leaves.
    let mut content = sample.content.clone();
    content[sample.ends[190]..].fill(0);
    let (dir, _) = sample.with(&content);
    let (log, recovery, records) = open_from(dir.path(), 1).unwrap();
    assert_eq!(records, sample.prefix(190));
    assert!(recovery.truncated.is_some());
    log.close().await;
    goes_on(dir.path(), &sample.prefix(190)).await;
}

#[tokio::test]
async fn bytes_cut_out_of_the_middle_are_refused() {
    let sample = sample(6).await;
    let (start, end) = (sample.ends[2], sample.ends[3]);
    let content = [&sample.content[..start], &sample.content[end..]].concat();
    expect_damage(&sample, &content, &(start..start + 1), "a transaction cut out");
    let twice = [&sample.content[..end], &sample.content[start..]].concat();
    expect_damage(&sample, &twice, &(end..end + 1), "a transaction twice");
}

/// Three segments of one transaction each, and an empty fourth.
async fn segmented(dir: &Path) -> Vec<PathBuf> {
    let (log, ..) = open_from(dir, 1).unwrap();
    for _ in 0..3 {
        append(&log, vec![entry(1, 10, b"ten"), entry(2, 1, b"one")]).await;
        log.rotate().await.unwrap();
    }
    log.close().await;
    segments(dir)
}

#[tokio::test]
async fn a_segment_below_the_last_must_be_whole() {
    let dir = tempfile::tempdir().unwrap();
    let paths = segmented(dir.path()).await;
    let good = fs::read(&paths[1]).unwrap();
    for cut in 0..good.len() {
        fs::write(&paths[1], &good[..cut]).unwrap();
        // Cut to its header alone it is valid, but the next segment starts too high.
        let named = if cut == 32 { &paths[2] } else { &paths[1] };
        match open_from(dir.path(), 1) {
            Err(Error::Damaged { file, .. }) => assert_eq!(file, *named, "cut at {cut}"),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&paths[1], &flipped).unwrap();
    assert!(
        matches!(open_from(dir.path(), 1), Err(Error::Damaged { file, .. }) if file == paths[1])
    );
    fs::write(&paths[1], &good).unwrap();
    assert_eq!(open_from(dir.path(), 1).unwrap().2.len(), 6);
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paths = segmented(dir.path()).await;
    fs::rename(&paths[1], dir.path().join("away")).unwrap();
    assert!(
        matches!(open_from(dir.path(), 1), Err(Error::Damaged { file, .. }) if file == paths[2])
    );
    fs::rename(dir.path().join("away"), &paths[1]).unwrap();
    fs::rename(&paths[2], dir.path().join("away")).unwrap();
    let empty_last = open_from(dir.path(), 1);
    assert!(matches!(empty_last, Err(Error::Damaged { file, .. }) if file == paths[3]));
    fs::rename(dir.path().join("away"), &paths[2]).unwrap();
    fs::remove_file(&paths[0]).unwrap();
    assert!(matches!(open_from(dir.path(), 1), Err(Error::MissingRows { from: 1, first: 12, .. })));
    assert_eq!(open_from(dir.path(), 12).unwrap().2.len(), 4);
}

#[tokio::test]
async fn a_segment_torn_while_it_was_created_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let paths = segmented(dir.path()).await;
    let header = fs::read(&paths[3]).unwrap();
    for cut in 0..header.len() {
        fs::write(&paths[3], &header[..cut]).unwrap();
        let (log, recovery, records) = open_from(dir.path(), 1).unwrap();
        assert_eq!((records.len(), recovery.next_position), (6, 34), "cut at {cut}");
        assert_eq!(recovery.truncated.unwrap().file, paths[3]);
        log.close().await;
        assert_eq!(segments(dir.path()), paths[..3]);
    }
    let (log, ..) = open_from(dir.path(), 1).unwrap();
    assert_eq!(append(&log, vec![entry(1, 1, b"x")]).await, 34);
    log.close().await;

    // Alone it is no torn creation: the segments below it were dropped when it was whole.
    let alone = tempfile::tempdir().unwrap();
    fs::write(alone.path().join(paths[3].file_name().unwrap()), &header[..9]).unwrap();
    assert!(matches!(open_from(alone.path(), 34), Err(Error::Damaged { .. })));

    let fresh = tempfile::tempdir().unwrap();
    fs::write(fresh.path().join(paths[0].file_name().unwrap()), &header[..9]).unwrap();
    assert_eq!(open_from(fresh.path(), 1).unwrap().1.next_position, 1);
}

#[tokio::test]
async fn a_later_format_is_refused() {
    let sample = sample(1).await;
    let mut content = sample.content.clone();
    content[8..12].copy_from_slice(&2u32.to_le_bytes());
    let crc = crc32c::crc32c(&content[..28]);
    content[28..32].copy_from_slice(&crc.to_le_bytes());
    let (dir, path) = sample.with(&content);
    let error = open_from(dir.path(), 1).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownVersion { file, found: 2, supported: 1 } if *file == path),
        "{error}"
    );
}

/// The pages of one write reach the disk in any order: of a group that was never acknowledged a
/// later transaction may be whole while an earlier one is not. That is a torn tail, not damage.
#[tokio::test]
async fn a_group_torn_in_its_middle_is_cut() {
    const RECORD_BYTES: usize = 48;
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open_from(dir.path(), 1).unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (enter, entered) = tokio::sync::oneshot::channel();
    let hold = Box::new(move |_| {
        enter.send(()).unwrap();
        released.recv().unwrap();
    });
    let first = log.append(vec![entry(0, 1, b"12345678")], hold);
    // While the writer waits in the first one's callback, the others queue up to be one group.
    let others: Vec<_> = (1..6)
        .map(|stream| log.append(vec![entry(stream, 1, b"12345678")], Box::new(|_| {})))
        .collect();
    let others = async {
        entered.await.unwrap();
        let mut all = futures::future::join_all(others);
        assert!(futures::poll!(&mut all).is_pending());
        release.send(()).unwrap();
        all.await
    };
    let (first, others) = tokio::join!(first, others);
    assert_eq!(first.unwrap(), 1);
    assert!(others.iter().all(Result::is_ok));
    log.close().await;

    let path = segments(dir.path()).remove(0);
    let mut content = fs::read(&path).unwrap();
    let record = |index: usize| 32 + index * RECORD_BYTES..32 + (index + 1) * RECORD_BYTES;
    assert_eq!(content.len(), record(5).end);
    let acknowledged = content.clone();
    content[record(3)].fill(0);
    fs::write(&path, &content).unwrap();
    let (log, recovery, records) = open_from(dir.path(), 1).unwrap();
    let streams: Vec<_> = records.iter().map(|record| record.stream).collect();
    assert_eq!(streams, [0, 1, 2]);
    assert_eq!(recovery.truncated.unwrap().bytes_dropped, 3 * RECORD_BYTES as u64);
    log.close().await;

    // The first was acknowledged before the group was written, and the group proves it.
    let mut content = acknowledged;
    content[record(0)].fill(0);
    fs::write(&path, &content).unwrap();
    assert!(matches!(open_from(dir.path(), 1), Err(Error::Damaged { offset: 32, .. })));
}
