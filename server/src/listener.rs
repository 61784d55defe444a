//! Accepts connections, and lets them go when the server stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::connection::{self, Shared};
use crate::task::{Tasks, Threads};

/// How long running statements may go on after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(7);
/// How long clients whose statements are ended then may take to hear it.
const FAREWELL: Duration = Duration::from_millis(500);
/// Sockets beyond the sessions allowed: for cancel requests and for telling others to leave.
const SPARE_SOCKETS: usize = 100;
/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A silent client is asked whether it is still there after this time.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Serves connections on `threads` until `stopping` turns true; then drains them.
pub(crate) async fn run(
    listener: TcpListener,
    threads: Threads,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = Tasks::new();
    let drained = watch::Sender::new(false);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        connections.reap();
        match accepted {
            // Beyond these a socket is closed unread.
            Ok(_) if connections.len() >= shared.max_connections + SPARE_SOCKETS => {
                tracing::warn!("too many sockets, one is closed");
            }
            Ok((socket, address)) => {
                if let Err(error) = prepare(&socket) {
                    tracing::debug!(%error, "socket options could not be set");
                }
                tracing::debug!(%address, "connection accepted");
                match serve(socket, Arc::clone(&shared), drained.subscribe()) {
                    Ok(served) => connections.spawn_on(threads.idlest(), served),
                    Err(error) => tracing::warn!(%error, "a socket could not be moved"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, connections.join()).await.is_err() {
        tracing::warn!("statements are still running and are ended now");
        drained.send_replace(true);
        if tokio::time::timeout(FAREWELL, connections.join()).await.is_err() {
            connections.abort().await;
            shared.workers.ended().await;
        }
    }
}

/// Serves a connection on whichever thread the future runs, which is to wait for the socket, too.
fn serve(
    socket: TcpStream,
    shared: Arc<Shared>,
    drained: watch::Receiver<bool>,
) -> io::Result<impl Future<Output = ()> + Send> {
    let socket = socket.into_std()?;
    Ok(async move {
        match TcpStream::from_std(socket) {
            Ok(socket) => connection::serve(socket, shared, drained).await,
            Err(error) => tracing::warn!(%error, "a socket could not be moved"),
        }
    })
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}
