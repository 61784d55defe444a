//! The database: opening, recovery, closing, and what all sessions share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use asofdb_storage::{
    CatalogFile, History, Log, LogOptions, OnlineOptions, Owner, Record, RedisOptions, identity,
    online,
};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::time::timeout;
use url::Url;

use crate::applier::Applier;
use crate::backfill::backfill;
use crate::catalog::document::Document;
use crate::catalog::{Catalog, Source};
use crate::data::SourceData;
use crate::error::{Error, Result};
use crate::historian::{CheckpointOptions, Historian, Tails};
use crate::ingest::{Ingest, decode};
use crate::jobs::Jobs;
use crate::maintain::Timelines;
use crate::planning::Planning;
use crate::preparation::Preparation;
use crate::session::Session;
use crate::sharing;
use crate::source_file::number_rows;
use crate::statement::create_source;
use crate::task::{Background, to_the_end};

/// How long a change of the history that is under way is waited for when the database is closed.
const CLOSE: Duration = Duration::from_millis(500);

/// A folder of an object store.
#[derive(Clone, Debug)]
pub struct ObjectStorePlace {
    /// `s3://bucket/prefix`.
    pub url: Url,
    /// The store's options, such as `aws_region`; those that it does not know are ignored.
    pub options: Vec<(String, String)>,
}

/// What a database is opened with.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// The folder that holds log, history and catalog.
    pub data_dir: PathBuf,
    /// Where the history is, if not in `data_dir`.
    pub history: Option<ObjectStorePlace>,
    /// Where the online state is.
    pub online: OnlineOptions,
    /// The directories that `COPY` and parquet sources may touch.
    pub import_dirs: Vec<PathBuf>,
    /// Memory that queries may use together, in bytes.
    pub memory_limit_bytes: usize,
    /// When rows leave the log for the history.
    pub checkpoint: CheckpointOptions,
}

#[cfg(test)]
impl DatabaseOptions {
    /// A database of tests, which makes no checkpoint by itself.
    pub fn of_tests(folder: &Path) -> Self {
        DatabaseOptions {
            data_dir: folder.to_owned(),
            history: None,
            online: OnlineOptions::Embedded,
            import_dirs: Vec::new(),
            memory_limit_bytes: 64 << 20,
            checkpoint: CheckpointOptions { bytes: 1 << 30, interval: Duration::from_secs(3600) },
        }
    }
}

/// What a database is opened with that another server writes.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// Where that server keeps the online state.
    pub online: RedisOptions,
    /// The directories that `COPY` may touch.
    pub import_dirs: Vec<PathBuf>,
    /// Memory that queries may use together, in bytes.
    pub memory_limit_bytes: usize,
}

/// An open database; clones share it.
#[derive(Clone)]
pub struct Database {
    pub(crate) inner: Arc<Inner>,
}

/// What the sessions share.
pub(crate) struct Inner {
    pub import_dirs: Vec<PathBuf>,
    pub planning: Planning,
    pub timelines: Arc<Timelines>,
    pub jobs: Arc<Jobs>,
    /// The present catalog.
    catalog: ArcSwap<Catalog>,
    pub closing: AtomicBool,
    /// `None` if another server writes.
    writing: Option<Writing>,
}

/// What the server has that writes.
pub(crate) struct Writing {
    pub options: DatabaseOptions,
    pub ingest: Ingest,
    pub history: History,
    catalog_file: CatalogFile,
    /// Held while the catalog changes; one change at a time.
    pub ddl: Mutex<()>,
    /// Held during a checkpoint; one at a time.
    pub checkpoint: Mutex<()>,
    /// Held while files are merged; one merge at a time.
    pub merge: Mutex<()>,
    pub historian: Historian,
    /// Told when there is something new for the servers that only read.
    pub news: Arc<Notify>,
}

impl Database {
    /// Opens or creates the database in `options.data_dir` and recovers its state: the catalog,
    /// the log's rows that no file of the history has, and the timelines.
    pub async fn open(options: DatabaseOptions) -> Result<Database> {
        let dir = options.data_dir.clone();
        std::fs::create_dir_all(&dir)
            .map_err(|source| Error::File { path: dir.display().to_string(), source })?;
        let owner = identity(&dir.join("identity"))?;
        let history = open_history(&options, Owner(&owner)).await?;
        let manifest = history.manifest();
        let store = online::open(&options.online, (&owner, &holder(&dir))).await?;
        let jobs = Arc::new(Jobs::default());
        let (commands, to_do) = mpsc::unbounded_channel();
        let timelines = Arc::new(Timelines::new(store, commands, Arc::clone(&jobs)));
        let planning =
            Planning::new(Arc::clone(&timelines), Some(&history), options.memory_limit_bytes)?;
        let catalog_path = dir.join("catalog");
        let catalog_file = CatalogFile::open(catalog_path.clone())?;
        let stored = catalog_file.load()?;
        let document =
            stored.map(|bytes| Document::from_bytes(&bytes, &catalog_path)).transpose()?;
        let stored_ids = document.as_ref().map_or(0, Document::next_id);
        let catalog = match document {
            None => Catalog::default(),
            Some(document) => document.catalog(
                &planning.state(&Arc::new(Catalog::default())),
                &|id| Arc::new(SourceData::new(&manifest, id)),
                &|definition| create_source::connector(definition, &options.import_dirs),
            )?,
        };
        drop_orphans(&history, &catalog).await?;
        let tails =
            Arc::new(Tails::new(options.checkpoint.bytes, options.memory_limit_bytes as u64));
        let log = open_log(&dir.join("log"), manifest.covered.max(1), &catalog, &tails)?;
        let ingest = Ingest::new(log, Arc::clone(&timelines), tails);
        Applier::start(&timelines, &planning, to_do);
        let writing = Writing {
            options,
            ingest,
            history,
            catalog_file,
            ddl: Mutex::new(()),
            checkpoint: Mutex::new(()),
            merge: Mutex::new(()),
            historian: Historian::default(),
            news: Arc::default(),
        };
        let inner = Inner {
            import_dirs: writing.options.import_dirs.clone(),
            planning,
            timelines,
            jobs,
            catalog: ArcSwap::from_pointee(catalog),
            closing: AtomicBool::new(false),
            writing: Some(writing),
        };
        let database = Database { inner: Arc::new(inner) };
        if database.inner.catalog().next_id != stored_ids {
            // Tracks that are defined otherwise by this version: their ids are never given again.
            database.inner.publish_catalog(database.inner.catalog().as_ref().clone())?;
        }
        fail::fail_point!("recovery::opened");
        database.inner.rebuild().await?;
        fail::fail_point!("recovery::rebuilt");
        let writing = database.inner.writing()?;
        writing.historian.start(&database.inner, writing);
        if let OnlineOptions::Redis(_) = writing.options.online {
            let inner = Arc::downgrade(&database.inner);
            Background::spawn(sharing::share(inner, Arc::clone(&writing.news)));
        }
        Ok(database)
    }

    /// Opens a database that another server writes, to look up features in its online state.
    /// Statements that need events fail with [`Error::ReadOnly`].
    pub async fn open_reader(options: ReaderOptions) -> Result<Database> {
        let store = online::open_reader(&options.online).await?;
        let jobs = Arc::new(Jobs::default());
        // Nobody applies anything here.
        let (commands, _) = mpsc::unbounded_channel();
        let timelines = Arc::new(Timelines::new(store, commands, Arc::clone(&jobs)));
        let planning = Planning::new(Arc::clone(&timelines), None, options.memory_limit_bytes)?;
        let inner = Arc::new(Inner {
            import_dirs: options.import_dirs,
            planning,
            timelines,
            jobs,
            catalog: ArcSwap::default(),
            closing: AtomicBool::new(false),
            writing: None,
        });
        if !sharing::look(&inner, &mut None).await? {
            let prefix = options.online.prefix;
            return Err(asofdb_storage::Error::NoState { prefix }.into());
        }
        Background::spawn(sharing::follow(Arc::downgrade(&inner)));
        Ok(Database { inner })
    }

    /// Begins a transaction of rows of a source.
    pub(crate) fn prepare(&self, source: &Arc<Source>) -> Preparation {
        Preparation::new(source, &self.inner.timelines)
    }

    /// Commits rows as one transaction, whether or not the caller waits for it.
    pub(crate) async fn commit(&self, preparation: Preparation) -> Result<u64> {
        let inner = Arc::clone(&self.inner);
        to_the_end(|_| async move { inner.writing()?.ingest.commit(preparation).await }).await
    }

    /// A new session, one for each connection.
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// Flushes and closes; later statements fail with [`Error::Closing`].
    pub async fn close(&self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        if let Some(writing) = &self.inner.writing {
            writing.historian.stop().await;
            writing.ingest.log().close().await;
            if timeout(CLOSE, writing.history.close()).await.is_err() {
                tracing::warn!("the history is still being changed");
            }
            self.inner.timelines.stop().await;
        }
    }
}

impl Inner {
    /// The present catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Tells the present catalog from others.
    pub fn catalog_version(&self) -> u64 {
        self.catalog.load().version
    }

    /// What only the server has that writes.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] if another one does.
    pub fn writing(&self) -> Result<&Writing> {
        self.writing.as_ref().ok_or_else(|| Error::ReadOnly {
            what: "this changes the database, which another server does".into(),
        })
    }

    /// Makes `next` the catalog, durably. The one place where the server that writes changes it;
    /// the caller holds [`Writing::ddl`].
    pub fn publish_catalog(&self, mut next: Catalog) -> Result<()> {
        let writing = self.writing()?;
        next.version += 1;
        writing.catalog_file.store(&Document::of(&next).to_bytes()?)?;
        self.catalog.store(Arc::new(next));
        writing.news.notify_one();
        Ok(())
    }

    /// Makes the catalog of the server that writes the catalog of this one.
    pub async fn adopt(&self, next: Catalog) -> Result<()> {
        let store = self.timelines.store();
        for track in next.tracks().filter(|track| track.stream.online) {
            store.create_space(track.id, Arc::clone(&track.layout)).await?;
        }
        let kept: Vec<u32> = next.tracks().map(|track| track.id).collect();
        let old = self.catalog.swap(Arc::new(next));
        for track in old.tracks().filter(|track| !kept.contains(&track.id)) {
            track.retire();
            store.drop_space(track.id).await?;
        }
        Ok(())
    }

    /// Brings the timelines of all tracks what they miss of history and log, and drops those of
    /// tracks that are no more.
    async fn rebuild(self: &Arc<Self>) -> Result<()> {
        let catalog = self.catalog();
        let known: Vec<u32> = catalog.tracks().map(|track| track.id).collect();
        for space in self.timelines.store().stored_spaces().await? {
            if !known.contains(&space) {
                self.timelines.store().drop_space(space).await?;
            }
        }
        for entity in catalog.entities() {
            for track in &entity.tracks {
                backfill(self, &catalog, (&entity.name, track)).await?;
            }
        }
        Ok(())
    }
}

async fn open_history(options: &DatabaseOptions, owner: Owner<'_>) -> Result<History> {
    Ok(match &options.history {
        None => History::open_local(&options.data_dir.join("history"), owner).await?,
        Some(place) => History::open_url(&place.url, place.options.clone(), owner).await?,
    })
}

/// A name of this server that stays when it is restarted: the machine and the folder.
fn holder(dir: &Path) -> String {
    let machine = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    format!("{}:{}", machine.trim(), dir.display())
}

/// Forgets the files of sources that the catalog no longer has: a crash may have come between the
/// change of the catalog and that of the manifest.
async fn drop_orphans(history: &History, catalog: &Catalog) -> Result<()> {
    let manifest = history.manifest();
    for stream in manifest.streams.keys() {
        if !catalog.sources().any(|source| source.id == *stream) {
            history.drop_stream(*stream).await?;
        }
    }
    Ok(())
}

/// Opens the log and puts its rows into their sources' tails.
fn open_log(dir: &Path, from: u64, catalog: &Catalog, tails: &Tails) -> Result<Log> {
    let sources: hashbrown::HashMap<u32, &Arc<Source>> =
        catalog.sources().map(|s| (s.id, s)).collect();
    let mut replay = |record: Record| -> Result<()> {
        // Rows of a source that was dropped are skipped.
        if let Some(source) = sources.get(&record.stream) {
            let batch = decode(&record.payload, &source.schema)?;
            let batch = number_rows(&batch, record.position)?;
            tails.add(batch.get_array_memory_size());
            source.data.push(batch);
        }
        Ok(())
    };
    let (log, recovery) = Log::open(dir, LogOptions::default(), from, &mut replay)?;
    tracing::info!(rows = recovery.rows, next_position = recovery.next_position, "log replayed");
    Ok(log)
}
