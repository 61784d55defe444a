//! The few steps by which a local file becomes durable: fsync it, rename it, fsync its directory.
//!
//! A rename without an fsync before it may leave an empty file after a power cut, and a new name
//! without an fsync of its directory may be lost altogether.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Makes the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let handle = File::open(dir).map_err(Error::io("open", dir))?;
    handle.sync_all().map_err(Error::io("fsync", dir))
}

/// Creates `dir` and its parents, durably.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(dir).map_err(Error::io("create the directory", dir))?;
    for created in missing.into_iter().rev() {
        sync_dir(parent_of(created))?;
    }
    Ok(())
}

/// Replaces the content of `path` by `bytes`: after a crash it holds the old or the new content.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let aside = aside_of(path);
    let mut file = File::create(&aside).map_err(Error::io("create", &aside))?;
    file.write_all(bytes).map_err(Error::io("write", &aside))?;
    publish(&file, &aside, path)
}

/// Makes `file`, which was written as `aside`, durable under the name `path`.
pub(crate) fn publish(file: &File, aside: &Path, path: &Path) -> Result<(), Error> {
    file.sync_all().map_err(Error::io("fsync", aside))?;
    fs::rename(aside, path).map_err(Error::io("rename", aside))?;
    sync_dir(parent_of(path))
}

/// The name under which new content is prepared: `path` with `.tmp` appended.
pub(crate) fn aside_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Takes the exclusive lock `name` of `dir`; it is held until the returned file is dropped.
pub(crate) fn lock_dir(dir: &Path, name: &str) -> Result<File, Error> {
    let path = dir.join(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path }),
        Err(TryLockError::Error(source)) => Err(Error::Io { operation: "lock", path, source }),
    }
}

/// The directory that holds `path`; a bare file name is held by the current directory.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}
