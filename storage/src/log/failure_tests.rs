//! The log on a disk that fails: what must latch, what must be undone.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::disk::{Disk, RealDisk};
use super::{Entry, Log, LogOptions, Record};
use crate::error::Error;

/// The next failures, shared with the test.
#[derive(Default)]
struct Plan {
    /// Fail the next write after this many bytes.
    write: Option<(usize, ErrorKind)>,
    sync: Option<ErrorKind>,
    cut: Option<ErrorKind>,
}

struct FailingDisk(Arc<Mutex<Plan>>);

impl Disk for FailingDisk {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if let Some((length, kind)) = self.0.lock().write.take() {
            file.write_all(&bytes[..length])?;
            return Err(kind.into());
        }
        RealDisk.write(file, bytes)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        match self.0.lock().sync.take() {
            Some(kind) => Err(kind.into()),
            None => RealDisk.sync(file),
        }
    }

    fn cut(&mut self, file: &mut File, length: u64) -> io::Result<()> {
        match self.0.lock().cut.take() {
            Some(kind) => Err(kind.into()),
            None => RealDisk.cut(file, length),
        }
    }
}

fn open(dir: &Path, plan: &Arc<Mutex<Plan>>) -> Log {
    let disk = Box::new(FailingDisk(plan.clone()));
    Log::open_on(dir, LogOptions::default(), 1, &mut |_| Ok(()), disk).unwrap().0
}

async fn append(log: &Log, text: &str) -> Result<u64, Error> {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    log.append(vec![Entry { stream: 1, rows: 1, payload }], Box::new(|_| {})).await
}

fn texts(dir: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    let mut replay = |record: Record| {
        texts.push(String::from_utf8(record.payload.to_vec()).unwrap());
        Ok::<(), Infallible>(())
    };
    Log::open(dir, LogOptions::default(), 1, &mut replay).unwrap();
    texts
}

#[tokio::test]
async fn a_full_disk_is_undone_and_later_appends_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Arc::new(Mutex::new(Plan::default()));
    let log = open(dir.path(), &plan);
    assert_eq!(append(&log, "one").await.unwrap(), 1);
    plan.lock().write = Some((17, ErrorKind::StorageFull));
    assert!(matches!(append(&log, "lost").await, Err(Error::DiskFull { .. })));
    assert_eq!(append(&log, "two").await.unwrap(), 2);
    assert_eq!(log.next_position(), 3);
    log.close().await;
    assert_eq!(texts(dir.path()), ["one", "two"]);
}

#[tokio::test]
async fn every_other_failure_latches() {
    let cases = [
        Plan { write: Some((17, ErrorKind::Other)), ..Plan::default() },
        Plan { sync: Some(ErrorKind::Other), ..Plan::default() },
        Plan { sync: Some(ErrorKind::StorageFull), ..Plan::default() },
        Plan {
            write: Some((0, ErrorKind::StorageFull)),
            cut: Some(ErrorKind::Other),
            ..Plan::default()
        },
    ];
    for case in cases {
        let dir = tempfile::tempdir().unwrap();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let log = open(dir.path(), &plan);
        append(&log, "one").await.unwrap();
        *plan.lock() = case;
        assert!(matches!(append(&log, "unknown").await, Err(Error::LogFailed { .. })));
        assert!(matches!(append(&log, "refused").await, Err(Error::LogFailed { .. })));
        assert!(matches!(log.rotate().await, Err(Error::LogFailed { .. })));
        assert_eq!(log.next_position(), 2, "nothing was published");
        log.close().await;
        let texts = texts(dir.path());
        assert_eq!(texts[0], "one");
        assert!(!texts.contains(&"refused".to_owned()), "{texts:?}");
    }
}

#[tokio::test]
async fn a_panicking_callback_latches() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &Arc::default());
    let entry = Entry { stream: 1, rows: 3, payload: Bytes::from_static(b"x") };
    let result = log.append(vec![entry], Box::new(|_| panic!("on purpose"))).await;
    assert!(matches!(result, Err(Error::LogFailed { .. })), "{result:?}");
    assert!(matches!(append(&log, "refused").await, Err(Error::LogFailed { .. })));
    log.close().await;
    assert_eq!(texts(dir.path()), ["x"], "the rows were durable");
}
