//! The one place of this crate where tasks are spawned.

use std::future::Future;

use datafusion::common::runtime::JoinSet;
use datafusion::error::DataFusionError;
use tokio::sync::watch;

use crate::error::{Error, Result};

/// Whoever waits for work. It may go away, because its client cancelled or left.
pub struct Caller(Option<watch::Receiver<()>>);

impl Caller {
    /// One that does not go away.
    pub fn staying() -> Self {
        Caller(None)
    }

    /// Completes when the caller is gone.
    pub async fn gone(&mut self) {
        match &mut self.0 {
            None => std::future::pending().await,
            Some(present) => while present.changed().await.is_ok() {},
        }
    }
}

/// Runs `work` to its end even if the caller goes away.
///
/// Whatever changes the database runs here: a change that stopped half way would leave rows in
/// the log that no timeline has, or a file that no snapshot names. Work that can be undone may look
/// whether its caller is still there.
pub async fn to_the_end<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    work: impl FnOnce(Caller) -> F,
) -> Result<T> {
    let (_present, caller) = watch::channel(());
    match tokio::spawn(work(Caller(Some(caller)))).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("a change ended abnormally: {error}"))),
    }
}

/// Work that goes on beside the sessions.
pub struct Background(tokio::task::JoinHandle<()>);

impl Background {
    /// Starts `work`.
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Background(tokio::spawn(work))
    }

    /// Ends it at its next pause.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Waits until it has ended.
    pub async fn join(self) {
        if let Err(error) = self.0.await {
            tracing::error!(%error, "background work ended abnormally");
        }
    }
}

/// Parts of a query, at work side by side; their answers are in their order. When one has failed,
/// the others have ended, too.
pub async fn all_beside<T, F>(parts: impl IntoIterator<Item = F>) -> Result<Vec<T>, DataFusionError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, DataFusionError>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (index, part) in parts.into_iter().enumerate() {
        tasks.spawn(async move { Ok((index, part.await?)) });
    }
    let mut answers = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)));
        match ended.flatten() {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                tasks.shutdown().await;
                return Err(error);
            }
        }
    }
    answers.sort_unstable_by_key(|(index, _)| *index);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Runs `work`, which blocks its thread, away from the other tasks, from now on.
pub fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send {
    let task = tokio::task::spawn_blocking(work);
    async move {
        match task.await {
            Ok(result) => result,
            Err(error) => Err(Error::Internal(format!("blocking work ended abnormally: {error}"))),
        }
    }
}
