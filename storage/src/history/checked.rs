//! The store that the history's files are read through: it gives what was written, or an error.
//!
//! What is read of a file that has checksums is widened to whole blocks, verified, and cut to what
//! was asked for. Everything else passes through, other objects and files without checksums alike.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use parking_lot::RwLock;

use super::check::mismatch;
use super::manifest::{DataFile, FileRef, Manifest};
use super::sums::BLOCK;
use super::{History, below};
use crate::error::Error;

/// How the store calls itself in errors.
const STORE: &str = "history";

impl History {
    /// The store that holds the files. Reading a file of the present snapshot, or of an earlier one
    /// whose [`FileRef`] somebody holds, fails if what is read is not what was written: with
    /// [`Error::Damaged`] as the source of the store's error.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.inner.checked.clone()
    }

    /// Where `file` is in the [`store`](Self::store).
    pub fn location(&self, file: &DataFile) -> Path {
        below(&self.inner.prefix, &file.path)
    }

    /// Has reads of the files of `manifest` verified as long as somebody holds them.
    pub(super) fn verify_files(&self, manifest: &Manifest) {
        let files =
            manifest.all_files().map(|file| (self.location(file), FileRef::downgrade(file)));
        self.inner.checked.add(files);
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct CheckedStore {
    store: Arc<dyn ObjectStore>,
    /// Files that somebody holds; those that nobody holds leave when others come.
    files: RwLock<HashMap<Path, Weak<DataFile>>>,
}

impl CheckedStore {
    pub fn new(store: Arc<dyn ObjectStore>) -> CheckedStore {
        CheckedStore { store, files: RwLock::default() }
    }

    fn add(&self, added: impl Iterator<Item = (Path, Weak<DataFile>)>) {
        let mut files = self.files.write();
        files.retain(|_, file| file.strong_count() > 0);
        files.extend(added);
    }

    /// The file at `location`, if it has checksums.
    fn file(&self, location: &Path) -> Option<Arc<DataFile>> {
        let file = self.files.read().get(location)?.upgrade()?;
        file.sums.is_some().then_some(file)
    }
}

/// Reads `file`, which has checksums, at `location` of `store`. A part is read as a whole before
/// this returns; the whole file comes block by block.
pub(super) async fn get(
    store: &dyn ObjectStore,
    location: &Path,
    file: Arc<DataFile>,
    mut options: GetOptions,
) -> Result<GetResult> {
    let range = options.range.map(|range| resolve(&range, &file)).transpose()?;
    let wide = range.as_ref().map(|range| widen(range, &file));
    options.range = wide.clone().map(GetRange::Bounded);
    let found = store.get_opts(location, options).await?;
    if let Some(reason) = mismatch(&file, Some(found.meta.size)) {
        return Err(damaged(location, 0, reason));
    }
    let (meta, attributes) = (found.meta.clone(), found.attributes.clone());
    let range = range.unwrap_or(0..file.bytes);
    let content = match wide {
        None => blocks(found.into_stream(), file, location.clone()),
        Some(wide) => {
            let bytes = found.bytes().await?;
            verify(&file, location, &wide, &bytes)?;
            let part = cut(&bytes, &wide, &range);
            stream::once(async { Ok(part) }).boxed()
        }
    };
    Ok(GetResult { payload: GetResultPayload::Stream(content), meta, range, attributes })
}

/// The bytes of a file that `range` asks for, at least one.
fn resolve(range: &GetRange, file: &DataFile) -> Result<Range<u64>> {
    let refused = |source| StoreError::Generic { store: STORE, source };
    range.as_range(file.bytes).map_err(|error| refused(Box::new(error)))
}

/// The whole blocks that have the bytes `range`.
fn widen(range: &Range<u64>, file: &DataFile) -> Range<u64> {
    let block = BLOCK as u64;
    range.start / block * block..range.end.next_multiple_of(block).min(file.bytes)
}

/// The part `range` of the bytes `wide`.
fn cut(bytes: &Bytes, wide: &Range<u64>, range: &Range<u64>) -> Bytes {
    bytes.slice((range.start - wide.start) as usize..(range.end - wide.start) as usize)
}

/// The ranges in order, and those that touch as one.
fn join(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touch = next.start <= last.end;
        if touch {
            last.end = last.end.max(next.end);
        }
        touch
    });
    ranges
}

/// Fails unless `bytes` are what was written at `wide`, which are whole blocks.
fn verify(file: &DataFile, location: &Path, wide: &Range<u64>, bytes: &Bytes) -> Result<()> {
    let Some(sums) = &file.sums else { return Ok(()) };
    let end = wide.start + bytes.len() as u64;
    if end != wide.end {
        let reason = format!("the store ended there, not at {}", wide.end);
        return Err(damaged(location, end, reason));
    }
    sums.mismatch(wide.start, bytes).map_or(Ok(()), |offset| {
        Err(damaged(location, offset, "the block is not what was written".to_owned()))
    })
}

/// The content of a whole file, block by block, each verified before it is given out.
fn blocks(
    input: BoxStream<'static, Result<Bytes>>,
    file: Arc<DataFile>,
    location: Path,
) -> BoxStream<'static, Result<Bytes>> {
    let begin = (input, BytesMut::new(), 0);
    stream::try_unfold(begin, move |(mut input, mut read, offset)| {
        let (file, location) = (Arc::clone(&file), location.clone());
        async move {
            if offset == file.bytes {
                return Ok(None);
            }
            let range = widen(&(offset..offset + 1), &file);
            let length = (range.end - range.start) as usize;
            while read.len() < length {
                let Some(more) = input.try_next().await? else { break };
                read.extend_from_slice(&more);
            }
            let block = read.split_to(length.min(read.len())).freeze();
            verify(&file, &location, &range, &block)?;
            Ok(Some((block, (input, read, range.end))))
        }
    })
    .boxed()
}

fn damaged(location: &Path, offset: u64, reason: String) -> StoreError {
    let source = Box::new(Error::damaged(location.as_ref().as_ref(), offset, reason));
    StoreError::Generic { store: STORE, source }
}

impl fmt::Display for CheckedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, verified", self.store)
    }
}

#[async_trait]
impl ObjectStore for CheckedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.file(location).filter(|_| !options.head) {
            Some(file) => get(&*self.store, location, file, options).await,
            None => self.store.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let Some(file) = self.file(location) else {
            return self.store.get_ranges(location, ranges).await;
        };
        let ranges = ranges.iter().map(|range| resolve(&GetRange::Bounded(range.clone()), &file));
        let ranges = ranges.collect::<Result<Vec<_>>>()?;
        let wide = join(ranges.iter().map(|range| widen(range, &file)).collect());
        let found = self.store.get_ranges(location, &wide).await?;
        for (wide, bytes) in wide.iter().zip(&found) {
            verify(&file, location, wide, bytes)?;
        }
        let part = |range: &Range<u64>| {
            let index = wide.partition_point(|wide| wide.end <= range.start);
            cut(&found[index], &wide[index], range)
        };
        Ok(ranges.iter().map(part).collect())
    }

    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::super::manifest::FileLayout;
    use super::*;

    fn file(path: &str) -> FileRef {
        FileRef::new(DataFile {
            path: path.to_owned(),
            rows: 1,
            bytes: 1,
            first_position: 1,
            last_position: 1,
            min_time: 0,
            max_time: 0,
            layout: FileLayout::default(),
            sums: None,
        })
    }

    #[test]
    fn files_that_nobody_holds_are_forgotten() {
        let store = CheckedStore::new(Arc::new(InMemory::new()));
        let held = ["a", "b"].map(file);
        store.add(held.iter().map(|file| (Path::from(file.path.as_str()), file.downgrade())));
        drop(held);
        let other = file("c");
        store.add(std::iter::once((Path::from("c"), other.downgrade())));
        assert_eq!(store.files.read().keys().collect::<Vec<_>>(), [&Path::from("c")]);
        assert!(other.is_last(), "it may be deleted");
    }
}
