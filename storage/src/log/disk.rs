//! The three operations of the writer that may fail half-way, behind a trait for the tests' sake.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// How the writer touches a segment.
pub(super) trait Disk: Send {
    /// Appends all of `bytes` at the file's cursor.
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    fn sync(&mut self, file: &File) -> io::Result<()>;

    /// Cuts the file to `length`, durably, and puts its cursor there.
    fn cut(&mut self, file: &mut File, length: u64) -> io::Result<()>;
}

/// The operating system's own.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        fail::fail_point!("log::sync", |_| Err(io::Error::other("a fault of the disk")));
        file.sync_data()
    }

    fn cut(&mut self, file: &mut File, length: u64) -> io::Result<()> {
        file.set_len(length)?;
        file.sync_all()?;
        file.seek(SeekFrom::Start(length)).map(drop)
    }
}
