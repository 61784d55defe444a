//! Redis servers for tests: started on free ports with a folder of their own, and ended.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;

/// How long a server may take to start.
const START_TRIES: u32 = 400;

/// The name of a configuration file, which only sentinels have.
const FILE: &str = "sentinel.conf";

/// A server that ends with the test.
pub struct RedisServer {
    pub port: u16,
    dir: TempDir,
    config: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server that keeps nothing on its disk.
    pub fn start() -> RedisServer {
        RedisServer::with(&["--save", "", "--appendonly", "no"])
    }

    /// Starts a server with these arguments.
    pub fn with(config: &[&str]) -> RedisServer {
        RedisServer::start_in(tempfile::tempdir().unwrap(), config)
    }

    /// Starts a sentinel with these lines in its configuration.
    pub fn sentinel(lines: &str) -> RedisServer {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), lines).unwrap();
        RedisServer::start_in(dir, &["--sentinel"])
    }

    fn start_in(dir: TempDir, config: &[&str]) -> RedisServer {
        let config = config.iter().map(|word| (*word).to_owned()).collect();
        let mut server = RedisServer { port: 0, dir, config, child: None };
        // Another process may take a port between our looking and Redis's binding.
        for _ in 0..5 {
            server.port = free_port();
            if server.spawn() {
                return server;
            }
        }
        panic!("redis-server does not start in {}", server.dir.path().display());
    }

    fn spawn(&mut self) -> bool {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let file = self.dir.path().join(FILE);
        let child = Command::new("redis-server")
            .args(file.exists().then_some(file))
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--dir", &self.dir.path().display().to_string()])
            .args(["--repl-diskless-sync-delay", "0"])
            .args(&self.config)
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => panic!(
                "redis-server cannot be run ({error}): these tests need it; apt-get install redis-server"
            ),
        };
        for _ in 0..START_TRIES {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if answers(self.port) {
                self.child = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        false
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on the same port and folder.
    pub fn start_again(&mut self) {
        for _ in 0..50 {
            if self.spawn() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("redis-server does not start again on port {}", self.port);
    }

    /// A connection as the default user.
    pub fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Sends a command; panics if it fails.
    pub fn command(&self, words: &[&str]) -> redis::Value {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.client()).unwrap()
    }

    /// A number out of INFO.
    pub fn info(&self, name: &str) -> u64 {
        self.info_text(name).parse().unwrap()
    }

    /// A field of INFO.
    pub fn info_text(&self, name: &str) -> String {
        let text: String = redis::cmd("INFO").arg("all").query(&mut self.client()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap().trim().to_owned()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn free_port() -> u16 {
    // The bus of a cluster's node is at its port plus 10,000.
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 55_000 {
            return port;
        }
    }
}

/// Whether a server is there that has loaded its data. It may ask for a password.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut answer = [0; 8];
    let sent = stream.write_all(b"PING\r\n").and_then(|()| stream.read(&mut answer));
    matches!(sent, Ok(n) if answer[..n].starts_with(b"+PONG") || answer[..n].starts_with(b"-NOAUTH"))
}

/// A port that leads to a server and can swallow answers: what was asked has its effect, but the
/// connection ends before the answer.
pub struct Proxy {
    pub port: u16,
    server: Arc<AtomicU16>,
    pass: Arc<AtomicUsize>,
    swallow: Arc<AtomicUsize>,
    hold: Arc<AtomicUsize>,
}

/// How long a request is held.
const HELD: Duration = Duration::from_millis(45);

impl Proxy {
    pub fn to(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let [pass, swallow, hold] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let answering = [Arc::clone(&pass), Arc::clone(&swallow)];
        let holding = Arc::clone(&hold);
        let server = Arc::new(AtomicU16::new(server));
        let target = Arc::clone(&server);
        // The thread ends with the process; a test has few of them.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let server = TcpStream::connect(("127.0.0.1", target.load(Ordering::SeqCst)));
                let (Ok(client), Ok(server)) = (client, server) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (answering, hold) = (answering.clone(), Arc::clone(&holding));
                std::thread::spawn(move || ask(from, to, &hold));
                std::thread::spawn(move || answer(server, client, &answering));
            }
        });
        Proxy { port, server, pass, swallow, hold }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, server: u16) {
        self.server.store(server, Ordering::SeqCst);
    }

    /// Swallows the next answers, each with its connection.
    pub fn swallow(&self, answers: usize) {
        self.swallow.store(answers, Ordering::SeqCst);
    }

    /// Lets so many answers pass, then swallows one.
    pub fn swallow_after(&self, answers: usize) {
        self.pass.store(answers, Ordering::SeqCst);
        self.swallow(1);
    }

    /// Ends the connections of the next requests, and gives the requests to the server later.
    pub fn hold(&self, requests: usize) {
        self.hold.store(requests, Ordering::SeqCst);
    }

    /// How many it has yet to swallow.
    pub fn left(&self) -> usize {
        self.swallow.load(Ordering::SeqCst)
    }
}

fn take_one(from: &AtomicUsize) -> bool {
    from.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

fn ask(mut client: TcpStream, mut server: TcpStream, hold: &AtomicUsize) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        if take_one(hold) {
            let _ = client.shutdown(std::net::Shutdown::Both);
            std::thread::sleep(HELD);
            // The server executes it; nobody reads the answer.
            let _ = server.write_all(&buffer[..count]);
            return;
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
}

fn answer(mut server: TcpStream, mut client: TcpStream, [pass, swallow]: &[Arc<AtomicUsize>; 2]) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        let swallowed = !take_one(pass) && take_one(swallow);
        if swallowed || client.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
    let _ = client.shutdown(std::net::Shutdown::Both);
}
