//! The one place where tasks and threads are spawned, so that none is forgotten at shutdown.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

/// Deep plans recurse, also when they are dropped; the 2 MiB of others are too few for them.
pub const STACK_BYTES: usize = 8 << 20;

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

    /// Starts a task on a thread, and keeps it there.
    pub fn spawn_on(&mut self, thread: &Thread, task: impl Future<Output = ()> + Send + 'static) {
        let held = Arc::clone(&thread.load);
        let task = async move {
            task.await;
            drop(held);
        };
        self.set.spawn_on(task, &thread.runtime);
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
) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await
}

/// A task that ends when its handle is dropped.
pub struct Task<T = ()> {
    handle: JoinHandle<T>,
}

impl<T: Send + 'static> Task<T> {
    /// Starts a task.
    pub fn spawn(task: impl Future<Output = T> + Send + 'static) -> Self {
        Task { handle: tokio::spawn(task) }
    }
}

/// Waits for the task to end; `None` if a panic ended it, or the end of its runtime, which is logged.
impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.handle).poll(context).map(|ended| {
            ended.inspect_err(|error| tracing::error!(%error, "a task ended abnormally")).ok()
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// The runtime of whoever asked for it: tasks that may take long run there, on all cores.
pub struct Workers {
    runtime: Handle,
    /// Each task has a receiver.
    tasks: watch::Sender<()>,
}

impl Workers {
    /// Those of the caller, which has to be a task of theirs.
    pub fn current() -> Self {
        Workers { runtime: Handle::current(), tasks: watch::Sender::new(()) }
    }

    /// Starts a task on them.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        let present = self.tasks.subscribe();
        let task = async move {
            let done = task.await;
            drop(present);
            done
        };
        Task { handle: self.runtime.spawn(task) }
    }

    /// Waits until there are no tasks, also none that was aborted.
    pub async fn ended(&self) {
        self.tasks.closed().await;
    }
}

/// Threads with a runtime for each. Their tasks do not move from one to another, and wake none but
/// their own thread, which is most of what a short task costs otherwise. Dropping them ends them
/// and their tasks.
pub struct Threads(Vec<Thread>);

/// A thread that runs tasks.
pub struct Thread {
    runtime: Handle,
    /// Referred to by each task.
    load: Arc<()>,
    /// Ends the thread when it is dropped.
    _stop: oneshot::Sender<()>,
}

impl Threads {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// The system has no room for another one.
    pub fn start(count: NonZeroUsize) -> io::Result<Threads> {
        (0..count.get()).map(|_| Thread::start()).collect::<io::Result<_>>().map(Threads)
    }

    /// The thread with the fewest tasks.
    pub fn idlest(&self) -> &Thread {
        let load = |thread: &&Thread| Arc::strong_count(&thread.load);
        self.0.iter().min_by_key(load).unwrap_or(&self.0[0])
    }
}

impl Thread {
    fn start() -> io::Result<Thread> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("asofdb-clients".to_owned());
        thread.stack_size(STACK_BYTES).spawn(move || {
            // An error is that the sender is dropped: the same.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Thread { runtime: handle, load: Arc::default(), _stop: stop })
    }
}
