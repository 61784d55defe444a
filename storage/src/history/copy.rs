//! Copying a snapshot of the history into a folder, while the history goes on.

use std::fs::File;
use std::io::Write;
use std::path::Path as FsPath;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use super::target::blocking;
use super::{DataFile, History, MANIFEST, Manifest};
use crate::durable;
use crate::error::Error;

impl History {
    /// Copies the files of `manifest`, which exist as long as somebody holds it, and the manifest
    /// itself into the folder `dir`, which [`open_local`](Self::open_local) opens then. Tells
    /// `copied` of each file.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if a file is not what was written; [`Error::Store`], [`Error::Io`].
    /// Without the manifest, which is written last, the folder is no history.
    pub async fn copy_to(
        &self,
        manifest: &Manifest,
        dir: &FsPath,
        copied: &mut (dyn FnMut(&DataFile) + Send),
    ) -> Result<(), Error> {
        for file in manifest.all_files() {
            self.copy_file(file, &dir.join(&file.path)).await?;
            copied(file);
        }
        let (path, content) = (dir.join(MANIFEST), manifest.encode(MANIFEST)?);
        blocking(move || {
            durable::create_dir(durable::parent_of(&path))?;
            durable::replace_file(&path, &content)
        })
        .await
    }

    async fn copy_file(&self, file: &DataFile, to: &FsPath) -> Result<(), Error> {
        let location = self.location(file);
        let found = self.store().get(&location).await;
        let mut bytes = found.map_err(Error::store(&location))?.into_stream();
        let (path, aside) = (to.to_owned(), durable::aside_of(to));
        let target = aside.clone();
        let mut copy = blocking(move || {
            durable::create_dir(durable::parent_of(&target))?;
            File::create(&target).map_err(Error::io("create", &target))
        })
        .await?;
        while let Some(chunk) = bytes.try_next().await.map_err(Error::store(&location))? {
            let target = aside.clone();
            let write = move || match copy.write_all(&chunk) {
                Ok(()) => Ok(copy),
                Err(error) => Err(Error::io("write", &target)(error)),
            };
            copy = blocking(write).await?;
        }
        blocking(move || durable::publish(&copy, &aside, &path)).await
    }
}
