//! Recovery: from the files in a directory to the committed records and a place to append at.
//!
//! 1. List the segments. Each must start where the one below it ended.
//! 2. A last segment without a valid header and without records was torn while it was created: it
//!    is removed. Nothing can be torn below it, for the log was durable when it was created.
//! 3. Read each segment in order; deliver a transaction when its last record was valid.
//! 4. At the first bad record of the last segment, look onward for a valid record which proves that
//!    the bad bytes had been durable: if there is one, refuse; otherwise it is a torn tail.
//! 5. Cut the torn tail and any incomplete transaction, and fsync: what was delivered is durable.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;

use super::record;
use super::segment::{self, HEADER_BYTES, OpenSegment, Segment};
use super::{Record, Recovery, TornTail};
use crate::durable;
use crate::error::Error;

/// Takes each committed record in order.
pub(super) type Replay<'a> = &'a mut dyn FnMut(Record) -> Result<(), Error>;

/// What the writer continues from.
pub(super) struct Recovered {
    pub segments: Vec<Segment>,
    pub tail: OpenSegment,
    pub report: Recovery,
}

/// Reads the log in `dir`, which is locked, and makes it ready for appending.
pub(super) fn recover(dir: &Path, from: u64, replay: Replay<'_>) -> Result<Recovered, Error> {
    let from = from.max(1);
    let mut segments = segment::list(dir)?;
    let mut truncated = remove_torn_creation(dir, &mut segments)?;
    let creation_was_torn = truncated.is_some();
    let Some(first) = segments.first() else {
        return create_first(dir, from, truncated);
    };
    let first = first.first_position;
    if first > from {
        // The end of the log is not known before it is read; the last segment's start will do.
        let next = segments.last().map_or(first, |segment| segment.first_position);
        return Err(Error::MissingRows { dir: dir.to_path_buf(), from, first, next });
    }
    let mut reader = Reader { next_position: first, from, records: 0, rows: 0, replay };
    let mut tail = None;
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        let end = reader.segment(segment, last && !creation_was_torn)?;
        if last {
            let (opened, cut) = open_tail(segment, &end)?;
            truncated = cut.or(truncated);
            tail = Some(opened);
        }
    }
    let next = reader.next_position;
    if next < from {
        return Err(Error::MissingRows { dir: dir.to_path_buf(), from, first, next });
    }
    let (records, rows) = (reader.records, reader.rows);
    let report = Recovery { next_position: next, truncated, records, rows };
    let Some(tail) = tail else {
        return create_first(dir, from, report.truncated);
    };
    Ok(Recovered { segments, tail, report })
}

/// Starts a log in an empty directory.
fn create_first(dir: &Path, from: u64, truncated: Option<TornTail>) -> Result<Recovered, Error> {
    if from > 1 {
        return Err(Error::MissingRows { dir: dir.to_path_buf(), from, first: 1, next: 1 });
    }
    let tail = segment::create(dir, 1)?;
    let segments = vec![Segment { path: tail.path.clone(), first_position: 1 }];
    let report = Recovery { next_position: 1, truncated, records: 0, rows: 0 };
    Ok(Recovered { segments, tail, report })
}

/// Removes a last segment whose creation did not finish; it never had records.
fn remove_torn_creation(
    dir: &Path,
    segments: &mut Vec<Segment>,
) -> Result<Option<TornTail>, Error> {
    let Some(last) = segments.last() else { return Ok(None) };
    let bytes = fs::read(&last.path).map_err(Error::io("read", &last.path))?;
    let reason = match segment::check_header(last, &bytes) {
        Err(Error::Damaged { reason, .. }) if bytes.len() <= HEADER_BYTES => reason,
        // A valid or damaged header is judged when the segment is read.
        _ => return Ok(None),
    };
    if segments.len() == 1 && last.first_position > 1 {
        // Segments below are deleted only after this one's header was durable.
        return Err(Error::damaged(&last.path, 0, reason));
    }
    fs::remove_file(&last.path).map_err(Error::io("remove", &last.path))?;
    durable::sync_dir(dir)?;
    let torn = TornTail { file: last.path.clone(), offset: 0, bytes_dropped: bytes.len() as u64 };
    segments.pop();
    Ok(Some(torn))
}

/// Opens the last segment for appending, cut to whole transactions.
fn open_tail(
    segment: &Segment,
    end: &SegmentEnd,
) -> Result<(OpenSegment, Option<TornTail>), Error> {
    let path = &segment.path;
    let mut file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
    let mut truncated = None;
    if end.file_bytes > end.committed {
        file.set_len(end.committed).map_err(Error::io("truncate", path))?;
        let bytes_dropped = end.file_bytes - end.committed;
        truncated = Some(TornTail { file: path.clone(), offset: end.committed, bytes_dropped });
    }
    // After a kill the tail may be whole in the page cache only, yet its rows were delivered.
    file.sync_all().map_err(Error::io("fsync", path))?;
    file.seek(SeekFrom::Start(end.committed)).map_err(Error::io("seek", path))?;
    let open = OpenSegment { file, path: path.clone(), salt: end.salt, committed: end.committed };
    Ok((open, truncated))
}

/// Where a segment's whole transactions end.
struct SegmentEnd {
    salt: u32,
    committed: u64,
    file_bytes: u64,
}

/// Reads segments in order.
struct Reader<'a> {
    next_position: u64,
    from: u64,
    records: u64,
    rows: u64,
    replay: Replay<'a>,
}

impl Reader<'_> {
    /// Delivers the transactions of `segment`. Only where `may_be_torn` may its end be invalid.
    fn segment(&mut self, segment: &Segment, may_be_torn: bool) -> Result<SegmentEnd, Error> {
        let path = &segment.path;
        if segment.first_position != self.next_position {
            let reason = format!(
                "it starts at position {}, but the log below it ends before position {}",
                segment.first_position, self.next_position
            );
            return Err(Error::damaged(path, 0, reason));
        }
        let bytes = Bytes::from(fs::read(path).map_err(Error::io("read", path))?);
        let salt = segment::check_header(segment, &bytes)?;
        let (mut offset, mut committed) = (HEADER_BYTES, HEADER_BYTES);
        let mut position = self.next_position;
        let mut transaction = Vec::new();
        while offset < bytes.len() {
            let (head, payload, end) = match record::decode(&bytes, salt, offset) {
                Ok(decoded) => decoded,
                Err(reason) => {
                    judge(path, &bytes, salt, offset, reason, may_be_torn)?;
                    break;
                }
            };
            if head.position != position || head.durable > offset as u64 {
                let reason =
                    format!("a record states position {}, {position} was due", head.position);
                return Err(Error::damaged(path, offset as u64, reason));
            }
            position += u64::from(head.rows);
            offset = end;
            let (stream, rows) = (head.stream, head.rows);
            transaction.push(Record { position: head.position, stream, rows, payload });
            if head.last {
                committed = end;
                self.next_position = position;
                self.deliver(&mut transaction)?;
            }
        }
        if committed < bytes.len() && !may_be_torn {
            let reason = "it ends within a transaction, but a later segment exists";
            return Err(Error::damaged(path, committed as u64, reason));
        }
        Ok(SegmentEnd { salt, committed: committed as u64, file_bytes: bytes.len() as u64 })
    }

    fn deliver(&mut self, transaction: &mut Vec<Record>) -> Result<(), Error> {
        for record in transaction.drain(..) {
            if record.position + u64::from(record.rows) <= self.from {
                continue;
            }
            self.records += 1;
            self.rows += u64::from(record.rows);
            (self.replay)(record)?;
        }
        Ok(())
    }
}

/// Decides whether the bad bytes at `offset` are a torn tail (`Ok`) or damage.
fn judge(
    path: &Path,
    bytes: &Bytes,
    salt: u32,
    offset: usize,
    reason: &str,
    may_be_torn: bool,
) -> Result<(), Error> {
    let bad = offset as u64;
    if !may_be_torn {
        let reason = format!("{reason}, and a later segment exists");
        return Err(Error::damaged(path, bad, reason));
    }
    match record::find_proof(bytes, salt, offset + record::ALIGNMENT, bad) {
        Some(proof) => {
            let reason = format!("{reason}, yet the record at byte {proof} was written after it");
            Err(Error::damaged(path, bad, reason))
        }
        None => Ok(()),
    }
}
