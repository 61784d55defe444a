//! Looks whether a file of the history can be what was written.

use object_store::{Error as StoreError, ObjectStoreExt};

use super::History;
use super::manifest::DataFile;
use crate::error::Error;

impl History {
    /// Looks whether a file is there, and as long as it was.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it is not; [`Error::Store`].
    pub async fn check(&self, file: &DataFile) -> Result<(), Error> {
        let location = self.location(file);
        let found = match self.inner.target.store.head(&location).await {
            Ok(meta) => Some(meta.size),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(Error::store(&location)(error)),
        };
        let damaged = |reason| Error::damaged(location.as_ref().as_ref(), 0, reason);
        mismatch(file, found).map_or(Ok(()), |reason| Err(damaged(reason)))
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
