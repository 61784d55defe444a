//! Looks whether a file of the history can be what was written.

use std::sync::Arc;

use futures::TryStreamExt;
use futures::future::ready;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, ObjectStoreExt};

use super::manifest::DataFile;
use super::{History, checked};
use crate::error::Error;

impl History {
    /// Looks whether a file is there, as long as it was and, if it has checksums, whether its
    /// content is what was written.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it is not; [`Error::Store`].
    pub async fn check(&self, file: &DataFile) -> Result<(), Error> {
        let location = self.location(file);
        let found = match self.read_through(file, &location).await {
            Ok(bytes) => Some(bytes),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(Error::store(&location)(error)),
        };
        let damaged = |reason| Error::damaged(location.as_ref().as_ref(), 0, reason);
        mismatch(file, found).map_or(Ok(()), |reason| Err(damaged(reason)))
    }

    /// Reads a file, if it has checksums, and returns its length.
    async fn read_through(&self, file: &DataFile, location: &Path) -> Result<u64, StoreError> {
        let store = &self.inner.target.store;
        if file.sums.is_none() {
            return Ok(store.head(location).await?.size);
        }
        let (file, all) = (Arc::new(file.clone()), GetOptions::default());
        let found = checked::get(store, location, file, all).await?;
        let bytes = found.meta.size;
        found.into_stream().try_for_each(|_| ready(Ok(()))).await?;
        Ok(bytes)
    }
}

/// What is wrong with a file of this many bytes, or with none.
pub(super) fn mismatch(file: &DataFile, found: Option<u64>) -> Option<String> {
    match found {
        Some(bytes) if bytes == file.bytes => None,
        Some(bytes) => Some(format!("it has {bytes} bytes, the manifest says {}", file.bytes)),
        None => Some("the manifest names it, but it is missing".to_owned()),
    }
}
