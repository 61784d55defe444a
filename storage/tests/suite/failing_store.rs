//! An object store in memory whose writes and deletions fail on demand, and that tells what was
//! read.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

/// How the next writes of paths that contain a text behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The write has no effect and fails.
    Refused,
    /// The write takes effect, but its answer is lost.
    AnswerLost,
    /// The same, and from then on nothing can be read.
    Unreachable,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct FailingStore {
    pub(crate) inner: Arc<InMemory>,
    /// Which writes fail, and how.
    pub(crate) failure: std::sync::Mutex<Option<(&'static str, Failure)>>,
    /// Whether conditional writes are unknown to the store.
    pub(crate) unconditional: bool,
    /// Paths with this text cannot be deleted.
    pub(crate) undeletable: Arc<std::sync::Mutex<Option<String>>>,
    /// The ranges that were read, several in one call.
    pub(crate) ranges: std::sync::Mutex<Vec<Range<u64>>>,
    /// What became of the uploads in parts.
    pub(crate) uploads: Arc<Uploads>,
}

/// How many uploads in parts there were.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    pub(crate) started: AtomicUsize,
    pub(crate) parts: AtomicUsize,
    pub(crate) aborted: AtomicUsize,
}

impl Uploads {
    /// (started, aborted)
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.started.load(Ordering::Relaxed), self.aborted.load(Ordering::Relaxed))
    }
}

impl FailingStore {
    pub(crate) fn fail(&self, failure: Option<(&'static str, Failure)>) {
        *self.failure.lock().unwrap() = failure;
    }

    pub(crate) fn keep(&self, undeletable: Option<&str>) {
        *self.undeletable.lock().unwrap() = undeletable.map(str::to_owned);
    }
}

impl fmt::Display for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failing store")
    }
}

fn lost() -> Error {
    Error::Generic { store: "failing", source: "on purpose".into() }
}

/// An upload that is counted.
#[derive(Debug)]
struct CountedUpload {
    inner: Box<dyn MultipartUpload>,
    uploads: Arc<Uploads>,
}

impl MultipartUpload for CountedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.uploads.parts.fetch_add(1, Ordering::Relaxed);
        self.inner.put_part(data)
    }

    fn complete<'a, 'c>(&'a mut self) -> BoxFuture<'c, Result<PutResult>>
    where
        'a: 'c,
        Self: 'c,
    {
        self.inner.complete()
    }

    fn abort<'a, 'c>(&'a mut self) -> BoxFuture<'c, Result<()>>
    where
        'a: 'c,
        Self: 'c,
    {
        self.uploads.aborted.fetch_add(1, Ordering::Relaxed);
        self.inner.abort()
    }
}

// The traits are `async_trait`s; these are the signatures they stand for.
impl ObjectStore for FailingStore {
    fn put_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> BoxFuture<'c, Result<PutResult>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            if self.unconditional && matches!(opts.mode, PutMode::Update(_)) {
                let (operation, implementer) = ("update".to_owned(), self.to_string());
                return Err(Error::NotImplemented { operation, implementer });
            }
            let failure = *self.failure.lock().unwrap();
            match failure.filter(|(text, _)| location.as_ref().contains(text)) {
                None => self.inner.put_opts(location, payload, opts).await,
                Some((_, Failure::Refused)) => Err(lost()),
                Some((_, Failure::AnswerLost | Failure::Unreachable)) => {
                    self.inner.put_opts(location, payload, opts).await?;
                    Err(lost())
                }
            }
        })
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        opts: PutMultipartOptions,
    ) -> BoxFuture<'c, Result<Box<dyn MultipartUpload>>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            let inner = self.inner.put_multipart_opts(location, opts).await?;
            self.uploads.started.fetch_add(1, Ordering::Relaxed);
            let uploads = Arc::clone(&self.uploads);
            Ok(Box::new(CountedUpload { inner, uploads }) as Box<dyn MultipartUpload>)
        })
    }

    fn get_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        options: GetOptions,
    ) -> BoxFuture<'c, Result<GetResult>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        let failure = *self.failure.lock().unwrap();
        if failure.is_some_and(|(_, failure)| failure == Failure::Unreachable) {
            return Box::pin(async { Err(lost()) });
        }
        self.inner.get_opts(location, options)
    }

    fn get_ranges<'a, 'b, 'd, 'c>(
        &'a self,
        location: &'b Path,
        ranges: &'d [Range<u64>],
    ) -> BoxFuture<'c, Result<Vec<Bytes>>>
    where
        'a: 'c,
        'b: 'c,
        'd: 'c,
        Self: 'c,
    {
        self.ranges.lock().unwrap().extend_from_slice(ranges);
        self.inner.get_ranges(location, ranges)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let undeletable = Arc::clone(&self.undeletable);
        let allowed = locations.map(move |location| {
            let location = location?;
            match &*undeletable.lock().unwrap() {
                Some(text) if location.as_ref().contains(text) => Err(lost()),
                _ => Ok(location),
            }
        });
        self.inner.delete_stream(allowed.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_delimiter<'a, 'b, 'c>(
        &'a self,
        prefix: Option<&'b Path>,
    ) -> BoxFuture<'c, Result<ListResult>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        self.inner.list_with_delimiter(prefix)
    }

    fn copy_opts<'a, 'b, 'd, 'c>(
        &'a self,
        from: &'b Path,
        to: &'d Path,
        options: CopyOptions,
    ) -> BoxFuture<'c, Result<()>>
    where
        'a: 'c,
        'b: 'c,
        'd: 'c,
        Self: 'c,
    {
        self.inner.copy_opts(from, to, options)
    }
}
