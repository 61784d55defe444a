//! The history: rows that left the log, as Parquet files on an object store.
//!
//! Below the prefix are `manifest.json` and `data/<generation>-<stream>-<nonce>.parquet`.
//!
//! Invariants:
//!
//! 1. A file is written, durably, before a manifest names it, and is never changed: whoever holds a
//!    manifest reads one snapshot.
//! 2. The manifest is replaced as a whole and only by the process that read the one before it, so
//!    a crash leaves the old snapshot or the new one, and at most files that no manifest names.
//! 3. `covered` never goes backwards, and each appended row's position is in
//!    `[covered before, covered after)`: no row can enter twice.
//!
//! Files that no manifest names are deleted when the history is opened. A history has one writer.

mod manifest;
mod target;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, UpdateVersion};
use parking_lot::RwLock;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use tokio::sync::{Mutex, MutexGuard};

pub use manifest::{DataFile, Manifest};
pub use writer::StreamRows;

use crate::durable;
use crate::error::Error;
use target::{Target, blocking};

const MANIFEST: &str = "manifest.json";
const DATA: &str = "data";

/// A handle to an open history; clones share it.
#[derive(Clone, Debug)]
pub struct History {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    target: Target,
    prefix: Path,
    current: RwLock<Arc<Manifest>>,
    /// Appends and drops take turns.
    writer: Mutex<WriterState>,
    /// Held while a local history is open.
    _lock: Option<File>,
}

/// What only the writer needs to know.
#[derive(Debug)]
struct WriterState {
    /// The version of the stored manifest; `None` if none is stored.
    version: Option<UpdateVersion>,
    /// Whether a replacement failed so that the stored manifest must be read again first.
    unknown: bool,
}

impl History {
    /// Opens the history below `prefix` of `store`, or an empty one, and deletes the files that its
    /// manifest does not name.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the manifest is not what was written or a file that it names is
    /// missing or of another length; [`Error::UnknownVersion`]; [`Error::Store`].
    pub async fn open(store: Arc<dyn ObjectStore>, prefix: Path) -> Result<History, Error> {
        History::open_on(Target { store, local: None }, prefix, None).await
    }

    /// Opens the history in the directory `dir`, or creates it. Files are fsynced before they
    /// become visible, and the directory is locked.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`Error::Locked`], [`Error::Io`].
    pub async fn open_local(dir: &std::path::Path) -> Result<History, Error> {
        let root: PathBuf = dir.to_path_buf();
        let lock = blocking(move || {
            durable::create_dir(&root.join(DATA))?;
            durable::lock_dir(&root, "HISTORY_LOCK")
        })
        .await?;
        let store = LocalFileSystem::new_with_prefix(dir)
            .map_err(|source| Error::Store { path: dir.display().to_string(), source })?;
        let target = Target { store: Arc::new(store), local: Some(dir.to_path_buf()) };
        History::open_on(target, Path::default(), Some(lock)).await
    }

    async fn open_on(target: Target, prefix: Path, lock: Option<File>) -> Result<History, Error> {
        let (manifest, version) = load(&target, &prefix).await?;
        let inner = Inner {
            target,
            prefix,
            current: RwLock::new(Arc::new(manifest)),
            writer: Mutex::new(WriterState { version, unknown: false }),
            _lock: lock,
        };
        let history = History { inner: Arc::new(inner) };
        history.collect_garbage().await?;
        Ok(history)
    }

    /// The present snapshot.
    pub fn manifest(&self) -> Arc<Manifest> {
        self.inner.current.read().clone()
    }

    /// The present snapshot, read again from the store if the outcome of a write is not known.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn refresh(&self) -> Result<Arc<Manifest>, Error> {
        let _turn = self.write_turn().await?;
        Ok(self.manifest())
    }

    /// The store that holds the files.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.inner.target.store.clone()
    }

    /// Where `file` is in the [`store`](Self::store).
    pub fn location(&self, file: &DataFile) -> Path {
        below(&self.inner.prefix, &file.path)
    }

    /// Fetches `file` and decodes its rows batch by batch, in its order.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it is missing, [`Error::Store`], or [`Error::Parquet`] if it is no
    /// Parquet file; the iterator has Arrow's own errors.
    pub async fn read(&self, file: &DataFile) -> Result<ParquetRecordBatchReader, Error> {
        let location = self.location(file);
        let Some((bytes, _)) = self.inner.target.get(&location).await? else {
            let name = PathBuf::from(location.as_ref());
            return Err(Error::damaged(&name, 0, "the manifest names it, but it is missing"));
        };
        ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .map_err(|source| Error::Parquet { path: location.to_string(), source })
    }

    /// Writes one file per stream that has rows, then makes them and `covered` visible at once.
    ///
    /// Every row with a position in `[manifest().covered, covered)` must be among `streams`, and no
    /// other. After an error start a retry from [`refresh`](Self::refresh).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRows`] for positions outside that range, NULLs or other types in the two
    /// columns; [`Error::CoveredBackwards`]; [`Error::ManifestConflict`] if another process wrote;
    /// [`Error::Store`], [`Error::Io`], [`Error::Arrow`], [`Error::Parquet`]. Nothing is visible
    /// then, except that a `Store` or `Io` error of the last step may hide that it took effect.
    pub async fn append(
        &self,
        covered: u64,
        streams: Vec<(u32, StreamRows)>,
    ) -> Result<Arc<Manifest>, Error> {
        let mut writer = self.write_turn().await?;
        let present = self.manifest();
        if covered < present.covered {
            return Err(Error::CoveredBackwards { present: present.covered, asked: covered });
        }
        let mut next = Manifest::clone(&present);
        next.generation += 1;
        next.covered = covered;
        for (stream, rows) in streams {
            let allowed = present.covered..covered;
            if let Some(file) = self.write_file(next.generation, stream, rows, allowed).await? {
                next.streams.entry(stream).or_default().push(file);
            }
        }
        self.publish(&mut writer, next).await
    }

    /// Removes all files of `stream` from the snapshot; they are deleted when the history is opened
    /// next, so that readers of an older snapshot can finish.
    ///
    /// # Errors
    ///
    /// [`Error::ManifestConflict`], [`Error::Store`], [`Error::Io`]; the stream is still there.
    pub async fn drop_stream(&self, stream: u32) -> Result<Arc<Manifest>, Error> {
        let mut writer = self.write_turn().await?;
        let mut next = Manifest::clone(&self.manifest());
        if next.streams.remove(&stream).is_none() {
            return Ok(self.manifest());
        }
        next.generation += 1;
        self.publish(&mut writer, next).await
    }

    /// Deletes the files that the present manifest does not name. Readers of an older snapshot
    /// fail: call it when there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if a file that the manifest names is missing or of another length;
    /// [`Error::Store`].
    pub async fn collect_garbage(&self) -> Result<(), Error> {
        let _turn = self.write_turn().await?;
        let manifest = self.manifest();
        let data = below(&self.inner.prefix, DATA);
        let mut found = HashMap::new();
        for object in self.inner.target.list(&data).await? {
            found.insert(object.location, object.size);
        }
        for file in manifest.streams.values().flatten() {
            let location = self.location(file);
            let reason = match found.remove(&location) {
                Some(bytes) if bytes == file.bytes => continue,
                Some(bytes) => format!("it has {bytes} bytes, the manifest says {}", file.bytes),
                None => "the manifest names it, but it is missing".to_owned(),
            };
            let name = PathBuf::from(location.as_ref());
            return Err(Error::Damaged { file: name, offset: 0, reason });
        }
        for garbage in found.into_keys() {
            self.inner.target.delete(&garbage).await?;
        }
        Ok(())
    }

    /// Waits for the turn to write and makes sure that the present manifest is the stored one.
    async fn write_turn(&self) -> Result<MutexGuard<'_, WriterState>, Error> {
        let mut writer = self.inner.writer.lock().await;
        if writer.unknown {
            self.reload(&mut writer).await?;
        }
        Ok(writer)
    }

    async fn write_file(
        &self,
        generation: u64,
        stream: u32,
        rows: StreamRows,
        allowed: std::ops::Range<u64>,
    ) -> Result<Option<DataFile>, Error> {
        // Without the nonce a failed append's file could be overwritten while it is in use.
        let nonce = RandomState::new().hash_one(generation);
        let path = format!("{DATA}/{generation:010}-{stream}-{nonce:016x}.parquet");
        let name = path.clone();
        let encoded = blocking(move || writer::encode(stream, &rows, &name)).await?;
        let Some(encoded) = encoded else { return Ok(None) };
        let (first_position, last_position) = encoded.positions;
        if first_position < allowed.start || last_position >= allowed.end {
            let (start, end) = (allowed.start, allowed.end);
            let reason = format!(
                "its positions {first_position} to {last_position} are not within [{start}, {end})"
            );
            return Err(writer::invalid(stream, reason));
        }
        let (min_time, max_time) = encoded.times;
        let (rows, bytes) = (encoded.rows, encoded.content.len() as u64);
        let location = below(&self.inner.prefix, &path);
        self.inner.target.put_new(&location, encoded.content).await?;
        Ok(Some(DataFile { path, rows, bytes, first_position, last_position, min_time, max_time }))
    }

    /// Replaces the stored manifest by `next` and then the present one.
    async fn publish(
        &self,
        writer: &mut WriterState,
        next: Manifest,
    ) -> Result<Arc<Manifest>, Error> {
        let path = below(&self.inner.prefix, MANIFEST);
        let content = next.encode(path.as_ref())?;
        // Also if this future is dropped half-way the outcome is unknown.
        writer.unknown = true;
        let replaced = self.inner.target.replace(&path, content, writer.version.clone()).await;
        let error = match replaced {
            Ok(version) => {
                writer.version = Some(version);
                writer.unknown = false;
                let next = Arc::new(next);
                *self.inner.current.write() = next.clone();
                return Ok(next);
            }
            Err(error) => error,
        };
        // An answer may have been lost on its way: only the store knows what happened.
        let local = self.inner.target.local.is_some();
        if self.reload(writer).await.is_ok() && *self.manifest() == next && !local {
            return Ok(self.manifest());
        }
        let (path, generation) = (path.to_string(), next.generation - 1);
        match error {
            Error::Store {
                source: StoreError::AlreadyExists { .. } | StoreError::Precondition { .. },
                ..
            } => Err(Error::ManifestConflict { path, generation }),
            error => Err(error),
        }
    }

    async fn reload(&self, writer: &mut WriterState) -> Result<(), Error> {
        let (manifest, version) = load(&self.inner.target, &self.inner.prefix).await?;
        *self.inner.current.write() = Arc::new(manifest);
        *writer = WriterState { version, unknown: false };
        Ok(())
    }
}

async fn load(target: &Target, prefix: &Path) -> Result<(Manifest, Option<UpdateVersion>), Error> {
    let path = below(prefix, MANIFEST);
    match target.get(&path).await? {
        Some((bytes, version)) => Ok((Manifest::decode(path.as_ref(), &bytes)?, Some(version))),
        None => Ok((Manifest::empty(), None)),
    }
}

/// The path of `name`, which may have several parts, below `prefix`.
fn below(prefix: &Path, name: &str) -> Path {
    name.split('/').fold(prefix.clone(), |path, part| path.join(part))
}
