//! The manifest: the one object that says which files make up the history.
//!
//! It is JSON, `{"checksum": "<CRC32C of the manifest as compact JSON>", "manifest": {…}}`, so
//! that a person can read it and a torn or edited one is noticed.

use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Weak};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::sums::BlockSums;
use crate::error::Error;

/// The version of the manifest's format that is written.
const FORMAT: u64 = 3;

/// The earliest version that is read. Its files have no checksums.
const OLDEST_FORMAT: u64 = 2;

/// In which order a file holds its rows, and which rows of its stream those may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileLayout {
    /// The columns that rows are sorted by before (time, position): ascending, NULL first.
    pub sorted_by: Vec<String>,
    /// Which rows these are by their values in `sorted_by`; `None`: any.
    pub bucket: Option<Bucket>,
}

/// A share of the rows of a stream: those whose key has the hash `index` modulo `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Below `count`.
    pub index: u32,
    /// A power of two.
    pub count: u32,
}

impl Bucket {
    /// The bucket, of `count`, of an encoded key.
    pub fn index_of(key: &[u8], count: u32) -> u32 {
        crc32c::crc32c(key) % count.max(1)
    }
}

/// One Parquet file of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Its path below the history's prefix.
    pub path: String,
    /// How many rows it holds, at least 1.
    pub rows: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// The lowest position of its rows.
    pub first_position: u64,
    /// The highest position of its rows.
    pub last_position: u64,
    /// The lowest time of its rows, in the time column's unit.
    pub min_time: i64,
    /// The highest time of its rows, in the time column's unit.
    pub max_time: i64,
    /// How its rows are laid out.
    pub layout: FileLayout,
    /// The checksums of its content; `None` if an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums: Option<BlockSums>,
}

/// A file that cannot be deleted while somebody holds this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef(Arc<DataFile>);

impl FileRef {
    pub(super) fn new(file: DataFile) -> FileRef {
        FileRef(Arc::new(file))
    }

    /// The file as long as somebody holds it.
    pub(super) fn downgrade(&self) -> Weak<DataFile> {
        Arc::downgrade(&self.0)
    }

    /// Whether nobody else holds the file.
    pub(super) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Deref for FileRef {
    type Target = DataFile;

    fn deref(&self) -> &DataFile {
        &self.0
    }
}

impl Serialize for FileRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FileRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DataFile::deserialize(deserializer).map(FileRef::new)
    }
}

/// What the history holds of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamFiles {
    /// In the order they were written.
    pub files: Vec<FileRef>,
    /// Rows with an earlier time have expired: readers leave them out, and the next merge of a file
    /// drops them.
    pub kept_from: Option<i64>,
}

/// A snapshot of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub format: u64,
    /// Counts the replacements of the manifest; 0 before the first.
    pub generation: u64,
    /// Every position below this is in the files (or belongs to a dropped stream).
    pub covered: u64,
    /// The database whose history it is.
    pub database: String,
    /// The streams that have files or have lost some.
    pub streams: BTreeMap<u32, StreamFiles>,
}

/// What is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    checksum: String,
    manifest: Manifest,
}

impl Manifest {
    /// The history that has no files: positions start at 1.
    pub(super) fn empty(database: &str) -> Manifest {
        let (database, streams) = (database.to_owned(), BTreeMap::new());
        Manifest { format: FORMAT, generation: 0, covered: 1, database, streams }
    }

    /// The files of `stream`; none if it has none.
    pub fn files(&self, stream: u32) -> &[FileRef] {
        self.streams.get(&stream).map_or(&[], |stream| &stream.files)
    }

    /// The time before which the rows of `stream` have expired.
    pub fn kept_from(&self, stream: u32) -> Option<i64> {
        self.streams.get(&stream)?.kept_from
    }

    /// The files of all streams.
    pub fn all_files(&self) -> impl Iterator<Item = &FileRef> {
        self.streams.values().flat_map(|stream| &stream.files)
    }

    /// The paths of all files.
    pub(super) fn paths(&self) -> HashSet<&str> {
        self.all_files().map(|file| file.path.as_str()).collect()
    }

    /// The bytes to store.
    pub(super) fn encode(&self, path: &str) -> Result<Vec<u8>, Error> {
        let envelope = Envelope { checksum: checksum(self, path)?, manifest: self.clone() };
        serde_json::to_vec_pretty(&envelope).map_err(|error| damaged(path, &error.to_string()))
    }

    /// Reads what [`encode`](Self::encode) wrote at `path`.
    pub(super) fn decode(path: &str, bytes: &[u8]) -> Result<Manifest, Error> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| damaged(path, &error.to_string()))?;
        // Another format may have other fields: it is looked at before anything else is expected.
        match value.pointer("/manifest/format").and_then(Value::as_u64) {
            Some(OLDEST_FORMAT..=FORMAT) => {}
            Some(found) => {
                let (file, supported) = (Path::new(path).to_path_buf(), FORMAT);
                return Err(Error::UnknownVersion { file, found, supported });
            }
            None => return Err(damaged(path, "it states no format")),
        }
        // From the text, not from `value`: its map would hide a field that is there twice.
        let envelope: Envelope =
            serde_json::from_slice(bytes).map_err(|error| damaged(path, &error.to_string()))?;
        let found = checksum(&envelope.manifest, path)?;
        if found != envelope.checksum {
            let stated = &envelope.checksum;
            let reason = format!("it states the checksum {stated}, its content has {found}");
            return Err(damaged(path, &reason));
        }
        // It is written as the present version.
        Ok(Manifest { format: FORMAT, ..envelope.manifest })
    }
}

fn checksum(manifest: &Manifest, path: &str) -> Result<String, Error> {
    let json = serde_json::to_vec(manifest).map_err(|error| damaged(path, &error.to_string()))?;
    Ok(format!("{:08x}", crc32c::crc32c(&json)))
}

fn damaged(path: &str, reason: &str) -> Error {
    Error::damaged(Path::new(path), 0, reason)
}
