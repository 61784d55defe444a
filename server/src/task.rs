//! The one place where tasks are spawned, so that none is forgotten at shutdown.

use std::future::Future;

use tokio::task::JoinSet;

/// Tasks that belong together; dropping the set ends them.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<()>,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(task);
    }

    /// How many tasks there are, ended ones that were not forgotten yet included.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Forgets the tasks that ended; a panic in one is logged.
    pub fn reap(&mut self) {
        while let Some(ended) = self.set.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a task ended abnormally");
            }
        }
    }

    /// Waits for all tasks to end.
    pub async fn join(&mut self) {
        while self.set.join_next().await.is_some() {}
    }

    /// Ends the tasks that are left, at their next suspension.
    pub async fn abort(&mut self) {
        self.set.shutdown().await;
    }
}

/// Runs `work`, which blocks its thread, away from the other tasks.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

/// A task that ends when its handle is dropped.
pub struct Task {
    handle: tokio::task::JoinHandle<()>,
}

impl Task {
    /// Starts a task.
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Task { handle: tokio::spawn(task) }
    }

    /// Waits for the task to end.
    pub async fn join(mut self) {
        if let Err(error) = (&mut self.handle).await {
            tracing::error!(%error, "a task ended abnormally");
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
