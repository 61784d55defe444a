//! An object store in memory whose writes fail on demand.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
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
}

impl FailingStore {
    pub(crate) fn fail(&self, failure: Option<(&'static str, Failure)>) {
        *self.failure.lock().unwrap() = failure;
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

// The trait is an `async_trait`; these are the signatures it stands for.
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
        self.inner.put_multipart_opts(location, opts)
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

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
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
