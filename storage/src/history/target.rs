//! Where the history's objects go: any object store, or a local directory written durably.
//!
//! `object_store`'s local store does not fsync, so a local history writes its files itself (aside,
//! fsync, rename, fsync the directory) and uses the local store for reading only.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};
use url::Url;

use crate::durable;
use crate::error::Error;

/// How often, and for how long, a request is repeated: what fails for longer than this is tried
/// again by whoever asked.
const RETRIES: usize = 5;
const RETRY_FOR: Duration = Duration::from_secs(30);

/// The folder at `url` as a store of its own, so that a file's path is its location.
pub(super) fn store_at(
    url: &Url,
    options: Vec<(String, String)>,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let prefix = Path::from_url_path(url.path())?;
    let options = options.into_iter().filter_map(|(name, value)| {
        let key: AmazonS3ConfigKey = name.parse().ok()?;
        Some((key, value))
    });
    let retry =
        RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
    let store = options
        .fold(AmazonS3Builder::new().with_url(url.as_str()), |builder, (key, value)| {
            builder.with_config(key, value)
        })
        .with_retry(retry)
        .build()?;
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}

/// A place for objects.
#[derive(Debug)]
pub(super) struct Target {
    pub store: Arc<dyn ObjectStore>,
    /// The directory of a local history, in which a path is a relative file name.
    pub local: Option<PathBuf>,
}

impl Target {
    /// Replaces the object that has the version `expected` (`None`: that does not exist), and
    /// returns its new version. A store without conditional writes replaces whatever there is.
    pub async fn replace(
        &self,
        path: &Path,
        content: Vec<u8>,
        expected: Option<UpdateVersion>,
    ) -> Result<UpdateVersion, Error> {
        if self.local.is_some() {
            self.put_local(path, content).await?;
            return Ok(UpdateVersion { e_tag: None, version: None });
        }
        let payload = PutPayload::from(content);
        let mode = expected.map_or(PutMode::Create, PutMode::Update);
        let put = match self.put_with(path, payload.clone(), mode).await {
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
                self.put_with(path, payload, PutMode::Overwrite).await
            }
            put => put,
        };
        put.map_err(Error::store(path))
    }

    async fn put_with(
        &self,
        path: &Path,
        payload: PutPayload,
        mode: PutMode,
    ) -> Result<UpdateVersion, StoreError> {
        let options = PutOptions { mode, ..PutOptions::default() };
        self.store.put_opts(path, payload, options).await.map(UpdateVersion::from)
    }

    async fn put_local(&self, path: &Path, content: Vec<u8>) -> Result<(), Error> {
        let Some(dir) = &self.local else { return Ok(()) };
        let file = dir.join(path.as_ref());
        blocking(move || durable::replace_file(&file, &content)).await
    }

    /// Reads an object and its version; `None` if there is none.
    pub async fn get(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Error::store(path)(error)),
        };
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        let bytes = found.bytes().await.map_err(Error::store(path))?;
        Ok(Some((bytes, UpdateVersion { e_tag, version })))
    }

    /// The objects below `prefix`.
    pub async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, Error> {
        self.store.list(Some(prefix)).try_collect().await.map_err(Error::store(prefix))
    }

    /// Deletes an object; one that does not exist is as good as deleted.
    pub async fn delete(&self, path: &Path) -> Result<(), Error> {
        match self.store.delete(path).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::store(path)(error)),
        }
    }
}

/// Runs work that blocks or computes for long outside the runtime's own threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Background { reason: error.to_string() }),
    }
}
