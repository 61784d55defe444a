//! Checksums of a file's content: one for each block, taken while it is written.
//!
//! Parquet's pages have none, and a changed bit in one often unpacks to other values.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use futures::future::BoxFuture;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::ParquetError;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of a block; the last one of a file is shorter.
pub(super) const BLOCK: usize = 128 << 10;

/// Hexadecimal digits of a checksum in the manifest.
const DIGITS: usize = 8;

/// The CRC32C of each block of 128 KiB of a file, in order.
///
/// In JSON it is a text: eight hexadecimal digits for each block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSums(Vec<u32>);

impl BlockSums {
    /// The offset of the first block that is not what was written, among those of `bytes`, which
    /// begin at the offset `from` of the file, a multiple of a block.
    pub(super) fn mismatch(&self, from: u64, bytes: &[u8]) -> Option<u64> {
        let blocks = (from..).step_by(BLOCK).zip(bytes.chunks(BLOCK));
        let mut changed = blocks.filter(|(offset, block)| {
            let written = self.0.get((offset / BLOCK as u64) as usize);
            written != Some(&crc32c(block))
        });
        changed.next().map(|(offset, _)| offset)
    }
}

impl Serialize for BlockSums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|sum| format!("{sum:08x}")).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for BlockSums {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let sum = |digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let sums: Option<Vec<u32>> = text.as_bytes().chunks(DIGITS).map(sum).collect();
        sums.map(BlockSums).ok_or_else(|| D::Error::custom("checksums are hexadecimal numbers"))
    }
}

/// A writer that takes the checksums of what passes through it.
pub(super) struct Summing<W> {
    inner: W,
    /// Of the blocks that are complete.
    sums: Vec<u32>,
    /// The checksum of the block under way, and how many bytes it has.
    begun: (u32, usize),
}

impl<W> Summing<W> {
    pub fn new(inner: W) -> Summing<W> {
        Summing { inner, sums: Vec::new(), begun: (0, 0) }
    }

    /// The writer below, and the checksums of all that was written.
    pub fn into_parts(mut self) -> (W, BlockSums) {
        if self.begun.1 > 0 {
            self.sums.push(self.begun.0);
        }
        (self.inner, BlockSums(self.sums))
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (sum, length) = self.begun;
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - length));
            self.begun = (crc32c_append(sum, now), length + now.len());
            if self.begun.1 == BLOCK {
                self.sums.push(self.begun.0);
                self.begun = (0, 0);
            }
            bytes = later;
        }
    }
}

impl<W: AsyncFileWriter> AsyncFileWriter for Summing<W> {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ParquetError>> {
        self.add(&bytes);
        self.inner.write(bytes)
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), ParquetError>> {
        self.inner.complete()
    }
}
