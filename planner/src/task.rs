//! The one place of this crate where tasks are spawned.

use std::future::Future;

use crate::error::{Error, Result};

/// Runs `work` to its end even if the caller goes away, because its client cancelled or left.
///
/// Whatever changes the database runs here: a change that stopped half way would leave rows in
/// the log that no timeline has, or a file that no snapshot names.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
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

/// Runs `work`, which blocks its thread, away from the other tasks.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("blocking work ended abnormally: {error}"))),
    }
}
