//! One record: the bytes of one entry in a segment.
//!
//! All integers are little-endian. A record starts at a multiple of eight bytes and is padded with
//! zeros to one.
//!
//! | offset | width | field |
//! |---|---|---|
//! | 0 | 4 | magic |
//! | 4 | 4 | CRC32C of the segment's salt and of every other byte of the record, padding included |
//! | 8 | 4 | payload length in bytes |
//! | 12 | 4 | stream |
//! | 16 | 4 | rows, at least 1 |
//! | 20 | 4 | flags: bit 0 is set on the last record of a transaction; the others are zero |
//! | 24 | 8 | position of the first row |
//! | 32 | 8 | durable: the length of this segment that was known durable when this was written |
//! | 40 | … | payload, padding |
//!
//! The salt keeps bytes that only look like a record (an old block of the file system, a payload
//! that holds a copy of a log) from passing for one. `durable` is what recovery uses to tell a torn
//! tail from damage: a valid record whose `durable` is above a bad offset proves that the bad bytes
//! had been acknowledged.

use bytes::{Bytes, BytesMut};

/// The longest payload of one entry: 256 MiB.
pub(super) const PAYLOAD_LIMIT: usize = 256 << 20;
/// Records start and end at a multiple of this.
pub(super) const ALIGNMENT: usize = 8;
/// The bytes before the payload.
pub(super) const HEAD_BYTES: usize = 40;

const MAGIC: [u8; 4] = *b"aREC";
const FLAG_LAST: u32 = 1;

/// The fields of a record beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub stream: u32,
    pub rows: u32,
    pub last: bool,
    pub position: u64,
    pub durable: u64,
}

/// The length of a record with a payload of `payload` bytes.
pub(super) fn encoded_bytes(payload: usize) -> usize {
    (HEAD_BYTES + payload).next_multiple_of(ALIGNMENT)
}

/// Appends a record to `out`, whose length is a multiple of eight.
///
/// The payload is at most [`PAYLOAD_LIMIT`] long; the caller has checked it.
pub(super) fn encode(out: &mut BytesMut, salt: u32, head: &Head, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&head.stream.to_le_bytes());
    out.extend_from_slice(&head.rows.to_le_bytes());
    out.extend_from_slice(&(if head.last { FLAG_LAST } else { 0 }).to_le_bytes());
    out.extend_from_slice(&head.position.to_le_bytes());
    out.extend_from_slice(&head.durable.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(start + encoded_bytes(payload.len()), 0);
    let crc = checksum(salt, &out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Decodes the record at `offset` of a segment's bytes; also returns the offset behind it.
///
/// # Errors
///
/// What is wrong with the bytes, in words.
pub(super) fn decode(
    segment: &Bytes,
    salt: u32,
    offset: usize,
) -> Result<(Head, Bytes, usize), &'static str> {
    let rest = segment.get(offset..).unwrap_or_default();
    if rest.len() < HEAD_BYTES {
        return Err("the file ends within the head of a record");
    }
    if rest[..4] != MAGIC {
        return Err("there is no record's magic number");
    }
    let payload = u32_at(rest, 8) as usize;
    if payload > PAYLOAD_LIMIT {
        return Err("the record's length is above the limit");
    }
    let Some(record) = rest.get(..encoded_bytes(payload)) else {
        return Err("the file ends within a record");
    };
    if u32_at(record, 4) != checksum(salt, record) {
        return Err("the record's checksum does not match its content");
    }
    let (rows, flags) = (u32_at(record, 16), u32_at(record, 20));
    if rows == 0 || flags & !FLAG_LAST != 0 {
        return Err("the record has no rows or unknown flags");
    }
    let head = Head {
        stream: u32_at(record, 12),
        rows,
        last: flags & FLAG_LAST != 0,
        position: u64_at(record, 24),
        durable: u64_at(record, 32),
    };
    let start = offset + HEAD_BYTES;
    Ok((head, segment.slice(start..start + payload), offset + record.len()))
}

/// Finds a valid record at or after `offset` whose `durable` is above `bad`; returns its offset.
pub(super) fn find_proof(segment: &Bytes, salt: u32, offset: usize, bad: u64) -> Option<usize> {
    (offset.next_multiple_of(ALIGNMENT)..segment.len()).step_by(ALIGNMENT).find(|&candidate| {
        // The cheap tests come first: a checksum at every offset would be quadratic.
        let rest = &segment[candidate..];
        rest.len() >= HEAD_BYTES
            && rest[..4] == MAGIC
            && u64_at(rest, 32) > bad
            && u64_at(rest, 32) <= candidate as u64
            && decode(segment, salt, candidate).is_ok()
    })
}

fn checksum(salt: u32, record: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(salt, &record[..4]);
    crc32c::crc32c_append(crc, &record[8..])
}

/// The integer at `offset`; the caller has checked that it is there.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(field)
}

/// The integer at `offset`; the caller has checked that it is there.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(field)
}
