//! The catalog's file: one document, replaced atomically.
//!
//! The file is a header line and the document. The header states the format version, the
//! document's length in bytes and its CRC32C, so that a damaged file is told from a good one:
//!
//! ```text
//! asofdb-catalog 1 1234 89abcdef
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::durable;
use crate::error::Error;

const MAGIC: &str = "asofdb-catalog";
const VERSION: u64 = 1;
/// No header line is longer; a longer first line is damage.
const HEADER_LIMIT: usize = 80;

/// One document on disk, replaced as a whole.
#[derive(Debug)]
pub struct CatalogFile {
    path: PathBuf,
    /// Two writers would share the name of the file written aside.
    writer: Mutex<()>,
}

impl CatalogFile {
    /// Names the file; its directory is created, the file itself only by the first
    /// [`store`](Self::store).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be created, or a replacement that a crash interrupted
    /// cannot be removed.
    pub fn open(path: impl Into<PathBuf>) -> Result<CatalogFile, Error> {
        let path = path.into();
        durable::create_dir(durable::parent_of(&path))?;
        let aside = durable::aside_of(&path);
        match fs::remove_file(&aside) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { operation: "remove", path: aside, source }),
        }
        Ok(CatalogFile { path, writer: Mutex::new(()) })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the document; `None` if none was ever stored.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the content is not what was stored, [`Error::UnknownVersion`] if a
    /// later program wrote it, [`Error::Io`] if it cannot be read.
    pub fn load(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Io { operation: "read", path: self.path.clone(), source });
            }
        };
        let header_bytes = self.check(&bytes)?;
        bytes.drain(..header_bytes);
        Ok(Some(bytes))
    }

    /// Replaces the document. When it returns the new one is durable; a crash before that leaves
    /// the old one or the new one, whole.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be written; the old document is then still there, unless only the
    /// last step (the fsync of the directory) failed.
    pub fn store(&self, document: &[u8]) -> Result<(), Error> {
        let checksum = crc32c::crc32c(document);
        let header = format!("{MAGIC} {VERSION} {} {checksum:08x}\n", document.len());
        let mut bytes = header.into_bytes();
        bytes.extend_from_slice(document);
        let _one_writer = self.writer.lock();
        durable::replace_file(&self.path, &bytes)
    }

    /// Checks the whole file and returns the length of its header line.
    fn check(&self, bytes: &[u8]) -> Result<usize, Error> {
        let damaged = |offset: usize, reason: String| {
            Err(Error::Damaged { file: self.path.clone(), offset: offset as u64, reason })
        };
        let head = &bytes[..bytes.len().min(HEADER_LIMIT)];
        let line = head.iter().position(|byte| *byte == b'\n').map(|end| &head[..end]);
        let Some(line) = line.and_then(|line| std::str::from_utf8(line).ok()) else {
            return damaged(0, format!("it does not start with a `{MAGIC}` line"));
        };
        let mut fields = line.split(' ');
        if fields.next() != Some(MAGIC) {
            return damaged(0, format!("it does not start with `{MAGIC}`"));
        }
        let Some(version) = fields.next().and_then(|field| field.parse::<u64>().ok()) else {
            return damaged(0, "its header states no version".to_owned());
        };
        if version != VERSION {
            let (file, supported) = (self.path.clone(), VERSION);
            return Err(Error::UnknownVersion { file, found: version, supported });
        }
        let length = fields.next().and_then(|field| field.parse::<usize>().ok());
        let checksum = fields.next().and_then(|field| u32::from_str_radix(field, 16).ok());
        let (Some(length), Some(checksum), None) = (length, checksum, fields.next()) else {
            return damaged(0, format!("its header line is `{line}`"));
        };
        let start = line.len() + 1;
        let document = &bytes[start..];
        if document.len() != length {
            let present = document.len();
            return damaged(start, format!("its header states {length} bytes, it has {present}"));
        }
        let found = crc32c::crc32c(document);
        if found != checksum {
            return damaged(
                start,
                format!(
                    "its header states the checksum {checksum:08x}, the content has {found:08x}"
                ),
            );
        }
        Ok(start)
    }
}
