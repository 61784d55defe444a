//! A connection on which commands that are asked at the same time leave in one write.
//!
//! The client's connection is a task that writes what is in its queue. The runtime runs it right
//! after the first caller that wakes it, so that of many callers each would pay for a write of its
//! own, and Redis for a read.
//!
//! 1. A caller that is alone sends its command.
//! 2. Others put theirs on a list and let all run first that is ready to. Whoever of them comes
//!    back first hands the whole list to the connection.
//! 3. Each waits for its own answer. Nobody needs another caller to go on: of one that is dropped
//!    at most a command is left, which is not sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisResult, Value};
use tokio::sync::oneshot;

/// Commands that wait, at most, before they are sent by the next caller that comes.
const WAITING: usize = 256;

/// The answer to a command that has been handed to the connection.
type Answer = BoxFuture<'static, RedisResult<Value>>;

/// A connection to one server.
pub(super) struct Pipe {
    link: MultiplexedConnection,
    /// Commands that wait to be sent; at most [`WAITING`] but for a moment.
    waiting: Mutex<Vec<Waiting>>,
    /// How many commands have no answer yet.
    callers: AtomicUsize,
}

struct Waiting {
    command: Cmd,
    sent: oneshot::Sender<Answer>,
}

/// Counts a caller while it lives.
struct Caller<'a>(&'a AtomicUsize);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pipe {
    pub(super) fn new(link: MultiplexedConnection) -> Pipe {
        Pipe { link, waiting: Mutex::default(), callers: AtomicUsize::new(0) }
    }

    /// Sends commands as they are; the answers are in their order.
    ///
    /// # Errors
    /// The connection failed. What the server refused is an answer.
    pub(super) async fn ask_all(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.link.clone().req_packed_commands(commands, 0, commands.len()).await
    }

    /// Sends a command, together with those of others.
    ///
    /// # Errors
    /// As [`ask_all`](Self::ask_all).
    pub(super) async fn ask(&self, command: Cmd) -> RedisResult<Value> {
        let others = self.callers.fetch_add(1, Ordering::Relaxed);
        let _caller = Caller(&self.callers);
        if others == 0 {
            return self.link.clone().req_packed_command(&command).await;
        }
        let (sent, answer) = oneshot::channel();
        let waiting = {
            let mut waiting = self.waiting.lock();
            waiting.push(Waiting { command, sent });
            waiting.len()
        };
        if waiting < WAITING {
            tokio::task::yield_now().await;
        }
        self.send_waiting();
        match answer.await {
            Ok(answer) => answer.await,
            // Whoever took the command was ended in between by a panic.
            Err(_) => Err((redis::ErrorKind::Io, "the command was not sent").into()),
        }
    }

    /// Hands all commands that wait to the connection.
    fn send_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for Waiting { command, sent } in waiting {
            if sent.is_closed() {
                continue;
            }
            let mut link = self.link.clone();
            let mut answer: Answer = async move { link.req_packed_command(&command).await }.boxed();
            // The first step puts it into the connection's queue. Its caller takes the next ones.
            let mut nobody = Context::from_waker(futures::task::noop_waker_ref());
            if let Poll::Ready(result) = answer.poll_unpin(&mut nobody) {
                answer = futures::future::ready(result).boxed();
            }
            // A caller that was dropped wants no answer.
            let _ = sent.send(answer);
        }
    }
}
