//! A segment: one file of the log, its name and its header.
//!
//! The name is the position of the first row, padded with zeros to 20 digits, and `.log`. The
//! header is the same in every version of the format:
//!
//! | offset | width | field (little-endian) |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | version of the record format |
//! | 12 | 4 | salt of the records' checksums |
//! | 16 | 8 | position of the first row |
//! | 24 | 4 | zero |
//! | 28 | 4 | CRC32C of the bytes before |
//!
//! The header is durable before the first record is written, so a file that is longer than a
//! header and has no valid one is damaged, not torn.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::record::{u32_at, u64_at};
use crate::durable;
use crate::error::Error;

/// The length of a segment's header.
pub(super) const HEADER_BYTES: usize = 32;

const MAGIC: [u8; 8] = *b"asofLOG\n";
const VERSION: u32 = 1;
const EXTENSION: &str = "log";

/// Where a segment is and which row it starts with.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub path: PathBuf,
    pub first_position: u64,
}

/// A segment open for appending.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub file: File,
    pub path: PathBuf,
    pub salt: u32,
    /// The length up to which the file is durable and holds whole transactions.
    pub committed: u64,
}

/// The segments of `dir`, oldest first.
pub(super) fn list(dir: &Path) -> Result<Vec<Segment>, Error> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        match stem.parse::<u64>() {
            Ok(first_position) if stem.len() == 20 && first_position > 0 => {
                segments.push(Segment { path, first_position });
            }
            _ => return Err(Error::damaged(&path, 0, "its name is not a position of 20 digits")),
        }
    }
    segments.sort_by_key(|segment| segment.first_position);
    Ok(segments)
}

/// Creates the segment that starts at `first_position`, durably.
///
/// # Errors
///
/// [`Error::Io`]; the file may exist then, without records.
pub(super) fn create(dir: &Path, first_position: u64) -> Result<OpenSegment, Error> {
    let path = path_of(dir, first_position);
    let salt = RandomState::new().hash_one(first_position) as u32;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(Error::io("create", &path))?;
    file.write_all(&encode_header(salt, first_position)).map_err(Error::io("write", &path))?;
    file.sync_all().map_err(Error::io("fsync", &path))?;
    durable::sync_dir(dir)?;
    Ok(OpenSegment { file, path, salt, committed: HEADER_BYTES as u64 })
}

/// The path of the segment that starts at `first_position`.
pub(super) fn path_of(dir: &Path, first_position: u64) -> PathBuf {
    dir.join(format!("{first_position:020}.{EXTENSION}"))
}

fn encode_header(salt: u32, first_position: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&salt.to_le_bytes());
    header[16..24].copy_from_slice(&first_position.to_le_bytes());
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Checks the header of `segment`, whose content is `bytes`, and returns the salt.
///
/// # Errors
///
/// [`Error::Damaged`], also for a torn header; [`Error::UnknownVersion`].
pub(super) fn check_header(segment: &Segment, bytes: &[u8]) -> Result<u32, Error> {
    let damaged = |reason: &str| Err(Error::damaged(&segment.path, 0, reason));
    if bytes.len() < HEADER_BYTES {
        return damaged("the file ends within its header");
    }
    if bytes[..8] != MAGIC {
        return damaged("it is not a segment of a log");
    }
    if u32_at(bytes, 28) != crc32c::crc32c(&bytes[..28]) {
        return damaged("the header's checksum does not match its content");
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(Error::UnknownVersion {
            file: segment.path.clone(),
            found: u64::from(version),
            supported: u64::from(VERSION),
        });
    }
    if u64_at(bytes, 16) != segment.first_position {
        return damaged("the header states another first position than the file's name");
    }
    Ok(u32_at(bytes, 12))
}
