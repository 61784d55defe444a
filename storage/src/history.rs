//! The history: rows that left the log, as Parquet files on an object store.
//!
//! Below the prefix are `manifest.json` and `data/<stream>/<generation>-<nonce>.parquet`.
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
//! 4. A file that a manifest no longer names is deleted when nobody holds its [`FileRef`], or when
//!    the history is opened: a reader of an older snapshot can finish.
//!
//! A history belongs to one database, which alone writes it: of two processes that open it in
//! spite of that, the one that finds a manifest of the other writes no more.

mod check;
mod checked;
mod close;
mod copy;
mod manifest;
pub mod merge;
mod sums;
mod target;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, UpdateVersion};
use parking_lot::RwLock;
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

pub use manifest::{Bucket, DataFile, FileLayout, FileRef, Manifest, StreamFiles};
pub use sums::BlockSums;
pub use writer::{FileWriter, RowShape, StreamRows};

use crate::durable;
use crate::error::Error;
use check::mismatch;
use checked::CheckedStore;
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
    /// What readers get.
    checked: Arc<CheckedStore>,
    prefix: Path,
    database: String,
    current: RwLock<Arc<Manifest>>,
    /// Changes take turns.
    writer: Mutex<WriterState>,
    /// Files that no manifest names any more, but somebody may be reading.
    retired: parking_lot::Mutex<Vec<FileRef>>,
}

/// What only the writer needs to know.
#[derive(Debug, Default)]
struct WriterState {
    /// The version of the stored manifest; `None` if none is stored.
    version: Option<UpdateVersion>,
    /// Whether a replacement failed so that the stored manifest must be read again first.
    unknown: bool,
    /// What replacements of the present manifest without an answer wrote, or may yet write.
    attempts: Vec<Manifest>,
    /// Files of failed replacements. A replacement that the store still has before it could yet
    /// name them; after the next one that succeeds it can not.
    unplaced: Vec<FileRef>,
    /// Held while a local history is open.
    lock: Option<File>,
    closed: bool,
}

/// Where a history is, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a>(pub &'a str);

impl History {
    /// Opens the history below `prefix` of `store`, or an empty one, and deletes the files that its
    /// manifest does not name.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignHistory`] if it is another database's; [`Error::Damaged`] if the manifest is
    /// not what was written or a file that it names is missing or of another length;
    /// [`Error::UnknownVersion`]; [`Error::ManifestConflict`] if another process wrote meanwhile;
    /// [`Error::Store`].
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        owner: Owner<'_>,
    ) -> Result<History, Error> {
        History::open_on(Target { store, local: None }, prefix, owner, None).await
    }

    /// Opens the history at `url`, `s3://bucket/prefix` for instance, as [`open`](Self::open), and
    /// one at a `file` URL as [`open_local`](Self::open_local). `options` are the store's own, such
    /// as `aws_region` and `aws_endpoint`; others are ignored.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`Error::Store`] if the URL or an option is not understood.
    pub async fn open_url(
        url: &Url,
        options: Vec<(String, String)>,
        owner: Owner<'_>,
    ) -> Result<History, Error> {
        if let (true, Ok(dir)) = (url.scheme() == "file", url.to_file_path()) {
            return History::open_local(&dir, owner).await;
        }
        let store = target::store_at(url, options)
            .map_err(|source| Error::Store { path: url.to_string(), source })?;
        History::open(store, Path::default(), owner).await
    }

    /// Opens the history in the directory `dir`, or creates it. Files are fsynced before they
    /// become visible, and the directory is locked.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`Error::Locked`], [`Error::Io`].
    pub async fn open_local(dir: &std::path::Path, owner: Owner<'_>) -> Result<History, Error> {
        let root: PathBuf = dir.to_path_buf();
        let lock = blocking(move || {
            durable::create_dir(&root.join(DATA))?;
            durable::lock_dir(&root, "HISTORY_LOCK")
        })
        .await?;
        let store = LocalFileSystem::new_with_prefix(dir)
            .map_err(|source| Error::Store { path: dir.display().to_string(), source })?;
        let target = Target { store: Arc::new(store), local: Some(dir.to_path_buf()) };
        History::open_on(target, Path::default(), owner, Some(lock)).await
    }

    async fn open_on(
        target: Target,
        prefix: Path,
        Owner(database): Owner<'_>,
        lock: Option<File>,
    ) -> Result<History, Error> {
        let (manifest, version) = load(&target, &prefix, database).await?;
        let inner = Inner {
            checked: Arc::new(CheckedStore::new(Arc::clone(&target.store))),
            target,
            prefix,
            database: database.to_owned(),
            current: RwLock::new(Arc::new(manifest)),
            writer: Mutex::new(WriterState { version, lock, ..WriterState::default() }),
            retired: parking_lot::Mutex::default(),
        };
        let history = History { inner: Arc::new(inner) };
        history.verify_files(&history.manifest());
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
    /// As [`open`](Self::open); [`Error::ManifestConflict`] also if another process wrote before.
    pub async fn refresh(&self) -> Result<Arc<Manifest>, Error> {
        let _turn = self.write_turn().await?;
        Ok(self.manifest())
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
        let allowed = present.covered..covered;
        let mut files = Vec::new();
        for (stream, rows) in streams {
            if let Err(error) = self.write_rows(stream, rows, &allowed, &mut files).await {
                self.retire(files.into_iter().map(|(_, file)| file));
                return Err(error);
            }
        }
        let mut next = Manifest::clone(&present);
        next.covered = covered;
        for (stream, file) in files {
            next.streams.entry(stream).or_default().files.push(file);
        }
        self.publish(&mut writer, next).await
    }

    /// Begins a file of `stream` that is to take the place of others: see
    /// [`replace`](Self::replace).
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Parquet`].
    pub fn writer(
        &self,
        stream: u32,
        shape: RowShape,
        layout: FileLayout,
    ) -> Result<FileWriter, Error> {
        // Without the nonce a failed attempt's file could be overwritten while it is in use.
        let generation = self.manifest().generation + 1;
        let nonce = RandomState::new().hash_one(generation);
        let folder = &shape.folder;
        let path = format!("{DATA}/{folder}/{generation:010}-{nonce:016x}.parquet");
        let location = below(&self.inner.prefix, &path);
        FileWriter::new(stream, shape, layout, (&self.inner.target, &location, path))
    }

    /// Puts `added` in the place of `removed` among the files of `stream`, and raises the time
    /// before which its rows have expired to `kept_from` if that is given. `added` has all rows of
    /// `removed` except expired ones, and no others.
    ///
    /// # Errors
    ///
    /// [`Error::FilesGone`], and nothing has changed, if one of `removed` is not there any more
    /// (`added` are then deleted with the [retired](Self::delete_retired) files);
    /// [`Error::ManifestConflict`], [`Error::Store`], [`Error::Io`] as [`append`](Self::append).
    pub async fn replace(
        &self,
        stream: u32,
        removed: &[FileRef],
        added: Vec<DataFile>,
        kept_from: Option<i64>,
    ) -> Result<Arc<Manifest>, Error> {
        let mut writer = self.write_turn().await?;
        let mut next = Manifest::clone(&self.manifest());
        let added = added.into_iter().map(FileRef::new);
        // A stream that was dropped meanwhile does not come back.
        let going =
            |entry: &StreamFiles| entry.files.iter().filter(|f| removed.contains(f)).count();
        let entry = next.streams.get_mut(&stream).filter(|entry| going(entry) == removed.len());
        let Some(entry) = entry else {
            self.retire(added);
            return Err(Error::FilesGone { stream });
        };
        entry.files.retain(|file| !removed.contains(file));
        entry.files.extend(added);
        entry.kept_from = entry.kept_from.max(kept_from);
        self.publish(&mut writer, next).await
    }

    /// Removes all files of `stream` from the snapshot.
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
        self.publish(&mut writer, next).await
    }

    /// Deletes the files that left the snapshot and that nobody reads any more; returns their
    /// number. Those whose deletion fails are tried again the next time.
    ///
    /// # Errors
    ///
    /// [`Error::Store`]: the first failure.
    pub async fn delete_retired(&self) -> Result<usize, Error> {
        let unread: Vec<FileRef> = {
            let mut retired = self.inner.retired.lock();
            let (unread, read) = retired.drain(..).partition(FileRef::is_last);
            *retired = read;
            unread
        };
        let (mut deleted, mut failure) = (0, None);
        for file in unread {
            match self.inner.target.delete(&self.location(&file)).await {
                Ok(()) => deleted += 1,
                Err(error) => {
                    failure.get_or_insert(error);
                    self.inner.retired.lock().push(file);
                }
            }
        }
        failure.map_or(Ok(deleted), Err)
    }

    /// Deletes the files that the present manifest does not name. Called before there are readers.
    async fn collect_garbage(&self) -> Result<(), Error> {
        let manifest = self.manifest();
        let data = below(&self.inner.prefix, DATA);
        let mut found = HashMap::new();
        for object in self.inner.target.list(&data).await? {
            if writer::is_ours(&object.location) {
                found.insert(object.location, object.size);
            }
        }
        for file in manifest.all_files() {
            let location = self.location(file);
            let Some(reason) = mismatch(file, found.remove(&location)) else { continue };
            let name = PathBuf::from(location.as_ref());
            return Err(Error::Damaged { file: name, offset: 0, reason });
        }
        if !found.is_empty() && self.inner.target.local.is_none() {
            // Another process with this history open could be about to name one of them. It cannot
            // any more once the manifest that it read is replaced.
            let mut writer = self.write_turn().await?;
            self.publish(&mut writer, Manifest::clone(&manifest)).await?;
        }
        for garbage in found.into_keys() {
            self.inner.target.delete(&garbage).await?;
        }
        Ok(())
    }

    /// Waits for the turn to write and makes sure that the present manifest is the stored one.
    async fn write_turn(&self) -> Result<MutexGuard<'_, WriterState>, Error> {
        let mut writer = self.inner.writer.lock().await;
        if writer.closed {
            return Err(Error::HistoryClosed);
        }
        if writer.unknown {
            self.reload(&mut writer).await?;
        }
        Ok(writer)
    }

    /// Writes the file of `rows`, if there are any, and puts it among `files`.
    async fn write_rows(
        &self,
        stream: u32,
        rows: StreamRows,
        allowed: &Range<u64>,
        files: &mut Vec<(u32, FileRef)>,
    ) -> Result<(), Error> {
        let (shape, layout) = (rows.shape.clone(), rows.layout());
        let sorted = blocking(move || rows.sorted(stream)).await?;
        let mut writer = self.writer(stream, shape, layout)?;
        if let Err(error) = writer.write(&sorted).await {
            writer.abandon().await;
            return Err(error);
        }
        let Some(file) = writer.finish().await? else { return Ok(()) };
        let (first, last) = (file.first_position, file.last_position);
        files.push((stream, FileRef::new(file)));
        if first < allowed.start || last >= allowed.end {
            let (start, end) = (allowed.start, allowed.end);
            let reason = format!("its positions {first} to {last} are not within [{start}, {end})");
            return Err(writer::invalid(stream, reason));
        }
        Ok(())
    }

    /// Has files deleted that no manifest names or will name.
    fn retire(&self, files: impl IntoIterator<Item = FileRef>) {
        self.inner.retired.lock().extend(files);
    }

    /// Replaces the stored manifest by `next` and then the present one.
    async fn publish(
        &self,
        writer: &mut WriterState,
        mut next: Manifest,
    ) -> Result<Arc<Manifest>, Error> {
        next.generation += 1;
        let path = below(&self.inner.prefix, MANIFEST);
        let content = next.encode(path.as_ref())?;
        // Also if this future is dropped half-way the outcome is unknown.
        writer.unknown = true;
        writer.attempts.push(next.clone());
        fail::fail_point!("history::replacing");
        let replaced = self.inner.target.replace(&path, content, writer.version.clone()).await;
        fail::fail_point!("history::replaced");
        let error = match replaced {
            Ok(version) => {
                writer.version = Some(version);
                writer.unknown = false;
                writer.attempts.clear();
                self.retire(writer.unplaced.drain(..));
                return Ok(self.show(next));
            }
            Err(error) => error,
        };
        // An answer may have been lost on its way: only the store knows what happened.
        let local = self.inner.target.local.is_some();
        let present = self.manifest();
        let known = present.paths();
        let new = next.all_files().filter(|file| !known.contains(file.path.as_str()));
        writer.unplaced.extend(new.cloned());
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

    /// Makes `next` the present manifest; files that it does not name wait for their readers.
    fn show(&self, mut next: Manifest) -> Arc<Manifest> {
        let mut current = self.inner.current.write();
        // A file that both name stays the same object, so that who reads it goes on holding it.
        let known: HashMap<&str, &FileRef> =
            current.all_files().map(|file| (file.path.as_str(), file)).collect();
        for file in next.streams.values_mut().flat_map(|stream| &mut stream.files) {
            if let Some(same) = known.get(file.path.as_str()) {
                *file = FileRef::clone(same);
            }
        }
        let named = next.paths();
        let gone = current.all_files().filter(|file| !named.contains(file.path.as_str()));
        self.retire(gone.cloned());
        self.verify_files(&next);
        let next = Arc::new(next);
        *current = Arc::clone(&next);
        next
    }

    /// Makes the stored manifest the present one, if this process wrote it. Nothing is written
    /// any more over that of another one: it knows nothing of the rows that this one has.
    async fn reload(&self, writer: &mut WriterState) -> Result<(), Error> {
        let inner = &self.inner;
        let (manifest, version) = load(&inner.target, &inner.prefix, &inner.database).await?;
        let present = self.manifest();
        if writer.attempts.contains(&manifest) {
            writer.attempts.clear();
        } else if manifest != *present {
            let path = below(&inner.prefix, MANIFEST).to_string();
            return Err(Error::ManifestConflict { path, generation: present.generation });
        }
        let named = manifest.paths();
        writer.unplaced.retain(|file| !named.contains(file.path.as_str()));
        self.show(manifest);
        (writer.version, writer.unknown) = (version, false);
        Ok(())
    }
}

async fn load(
    target: &Target,
    prefix: &Path,
    database: &str,
) -> Result<(Manifest, Option<UpdateVersion>), Error> {
    let path = below(prefix, MANIFEST);
    let Some((bytes, version)) = target.get(&path).await? else {
        return Ok((Manifest::empty(database), None));
    };
    let manifest = Manifest::decode(path.as_ref(), &bytes)?;
    if manifest.database != database {
        let (path, ours) = (path.to_string(), database.to_owned());
        return Err(Error::ForeignHistory { path, found: manifest.database, ours });
    }
    Ok((manifest, Some(version)))
}

/// The path of `name`, which may have several parts, below `prefix`.
fn below(prefix: &Path, name: &str) -> Path {
    name.split('/').fold(prefix.clone(), |path, part| path.join(part))
}
