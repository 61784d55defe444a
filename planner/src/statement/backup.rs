//! `BACKUP`: a data folder with all that is committed now, made while the server goes on.

use std::path::Path;
use std::sync::Arc;

use asofdb_sql::Backup;
use asofdb_storage::{CatalogFile, Log, Manifest};

use crate::catalog::Catalog;
use crate::catalog::document::Document;
use crate::database::{Database, Inner};
use crate::error::{Error, Result};
use crate::jobs::JobKind;
use crate::session::Outcome;
use crate::source_file::allowed_new_file;
use crate::statement::checkpoint::checkpoint;
use crate::task::{Caller, blocking};

/// Writes a checkpoint and copies what it has, with the catalog of the same moment. The folder gets
/// its name when it is whole.
pub async fn run(database: &Database, backup: &Backup, mut caller: Caller) -> Result<Outcome> {
    let inner = &database.inner;
    inner.writing()?;
    let folder = allowed_new_file(&backup.folder, &inner.import_dirs)?;
    let named = |source| Error::File { path: backup.folder.clone(), source };
    if folder.exists() {
        return Err(named(std::io::ErrorKind::AlreadyExists.into()));
    }
    let (manifest, catalog) = checkpoint(inner).await?;
    let mut partial = folder.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    std::fs::create_dir(partial)
        .map_err(|source| Error::File { path: partial.display().to_string(), source })?;
    let written = tokio::select! {
        written = write(inner, &manifest, &catalog, partial) => written,
        () = caller.gone() => Err(Error::Cancelled),
    };
    if let Err(error) = written {
        if let Err(error) = std::fs::remove_dir_all(partial) {
            tracing::warn!(folder = %partial.display(), %error, "a part of a backup is left");
        }
        return Err(error);
    }
    std::fs::rename(partial, &folder).map_err(named)?;
    // The name has to outlive a power loss, too.
    let parent = folder.parent().unwrap_or(&folder).to_owned();
    let synced = blocking(move || Ok(std::fs::File::open(parent).and_then(|dir| dir.sync_all())));
    synced.await?.map_err(named)?;
    Ok(Outcome::done("BACKUP"))
}

async fn write(
    inner: &Arc<Inner>,
    manifest: &Manifest,
    catalog: &Catalog,
    folder: &Path,
) -> Result<()> {
    let writing = inner.writing()?;
    let rows = manifest.all_files().map(|file| file.rows).sum();
    let job = inner.jobs.begin(JobKind::Backup, folder.display().to_string(), Some(rows));
    let mut copied = |file: &asofdb_storage::DataFile| job.advance(file.rows as usize);
    writing.history.copy_to(manifest, &folder.join("history"), &mut copied).await?;
    let (document, position) = (Document::of(catalog).to_bytes()?, manifest.covered.max(1));
    let (folder, from) = (folder.to_owned(), writing.options.data_dir.join("identity"));
    blocking(move || {
        Log::begin(&folder.join("log"), position)?;
        CatalogFile::open(folder.join("catalog"))?.store(&document)?;
        asofdb_storage::identity::copy(&from, &folder.join("identity"))?;
        Ok(())
    })
    .await
}
