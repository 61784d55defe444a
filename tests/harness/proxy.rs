//! A TCP proxy: a port that leads to a server, until something happens on the way.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rand::Rng;
use rand::rngs::StdRng;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    There,
    /// From the server to the client.
    Back,
}

/// A port of 127.0.0.1 that leads to another one. Connections end when it is dropped.
pub struct Proxy {
    port: u16,
    way: Arc<Way>,
}

struct Way {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: u16,
    /// Connections that come are ended at once.
    closed: bool,
    /// Bytes wait.
    held: bool,
    /// How many bytes still pass in a direction before the connection that has them ends.
    cut_after: Option<(Direction, usize)>,
    /// Both ends of each connection, so that they can be ended.
    connections: Vec<TcpStream>,
}

impl Proxy {
    /// A way to a port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub fn to(target: u16) -> Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (closed, held, cut_after) = (false, false, None);
        let state = State { target, closed, held, cut_after, connections: Vec::new() };
        let way = Arc::new(Way { state: Mutex::new(state), changed: Condvar::new() });
        let shared = Arc::clone(&way);
        // The thread ends with the process; a test has few of them.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is away, and a client that has left, end the connection.
                let _ = shared.connect(client);
            }
        });
        Ok(Proxy { port, way })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to another port from now on; the connections end.
    pub fn lead_to(&self, target: u16) {
        self.change(|state| state.target = target);
        self.cut();
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.change(State::end_connections);
    }

    /// Ends one connection at a byte, at random, of the next 64 KiB in this direction; more often at
    /// one of the first.
    pub fn cut_within(&self, direction: Direction, rng: &mut StdRng) {
        let magnitude = rng.random_range(1..=16);
        let bytes = rng.random_range(0..1 << magnitude);
        self.change(|state| state.cut_after = Some((direction, bytes)));
    }

    /// Ends all connections, and those that come.
    pub fn close(&self) {
        self.change(|state| state.closed = true);
        self.cut();
    }

    /// Lets connections come again.
    pub fn open(&self) {
        self.change(|state| state.closed = false);
    }

    /// Keeps what comes; connections stay.
    pub fn hold(&self) {
        self.change(|state| state.held = true);
    }

    /// Hands on what was kept, also if the other end has left meanwhile.
    pub fn release(&self) {
        self.change(|state| state.held = false);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.way.lock());
        self.way.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
        self.release();
    }
}

impl State {
    fn end_connections(&mut self) {
        for stream in self.connections.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Way {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> Result<()> {
        let mut state = self.lock();
        if state.closed {
            return Ok(());
        }
        let server = TcpStream::connect(("127.0.0.1", state.target))?;
        // Those that have ended have no other end any more.
        state.connections.retain(|stream| stream.peer_addr().is_ok());
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            state.connections.push(stream.try_clone()?);
        }
        for (direction, from, to) in [
            (Direction::There, client.try_clone()?, server.try_clone()?),
            (Direction::Back, server, client),
        ] {
            let way = Arc::clone(self);
            std::thread::spawn(move || way.carry(direction, from, to));
        }
        Ok(())
    }

    /// Hands on what comes until one end is closed.
    fn carry(&self, direction: Direction, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let passes = self.pass(direction, count);
            if to.write_all(&buffer[..passes]).is_err() || passes < count {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Waits until bytes may pass; how many of `count` do.
    fn pass(&self, direction: Direction, count: usize) -> usize {
        let state = self.changed.wait_while(self.lock(), |state| state.held);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        match state.cut_after {
            Some((cut, bytes)) if cut == direction && bytes < count => {
                state.cut_after = None;
                bytes
            }
            Some((cut, bytes)) if cut == direction => {
                state.cut_after = Some((cut, bytes - count));
                count
            }
            _ => count,
        }
    }
}
