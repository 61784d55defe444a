//! A Redis of the test's own: on a free port, with a folder that goes when it is dropped.

use std::io::{Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::signal;

/// How often a server that starts is asked whether it answers, and the pause between.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// A running `redis-server`. It is killed without warning when it is dropped.
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Child,
}

impl RedisServer {
    /// Starts a server that keeps nothing on the disk.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn start() -> Result<RedisServer> {
        RedisServer::with(&["--save", "", "--appendonly", "no"])
    }

    /// Starts a server with these arguments.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn with(arguments: &[&str]) -> Result<RedisServer> {
        let folder = tempfile::tempdir()?;
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = spawn(&folder, port, &arguments)?;
        Ok(RedisServer { folder, port, arguments, child })
    }

    /// How it is reached.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A field of what `INFO` says in a section: `used_memory` of `memory`, say.
    ///
    /// # Errors
    ///
    /// If it does not answer, or has no such field.
    pub fn info(&self, section: &str, field: &str) -> Result<String> {
        let answer = self.command(&format!("INFO {section}"))?;
        let named = |line: &str| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned());
        let found = answer.lines().find_map(named);
        found.ok_or_else(|| Error::other(format!("INFO {section} has no {field}: {answer}")))
    }

    /// Kills it and starts it again on what it left on the disk.
    ///
    /// # Errors
    ///
    /// If it cannot be run again.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.child = spawn(&self.folder, self.port, &self.arguments)?;
        Ok(())
    }

    /// Stops it where it is: it answers nothing until it is told to go on.
    ///
    /// # Errors
    ///
    /// If it cannot be stopped.
    pub fn hang(&self) -> Result<()> {
        signal(self.child.id(), "STOP")
    }

    /// Lets it go on after [`hang`](Self::hang).
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn go_on(&self) -> Result<()> {
        signal(self.child.id(), "CONT")
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a command in one line and returns the first line of the answer, or all of it if it is
    /// a text (a bulk string).
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn command(&self, line: &str) -> Result<String> {
        ask(self.port, line)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &TempDir, port: u16, arguments: &[String]) -> Result<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder.path())
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Error::other(format!("redis-server: {error}; see tests/install.sh")))?;
    for _ in 0..TRIES {
        if ask(port, "PING").is_ok_and(|answer| answer == "+PONG") {
            return Ok(child);
        }
        std::thread::sleep(PAUSE);
    }
    child.kill()?;
    child.wait()?;
    Err(Error::other(format!("redis-server does not answer on port {port}")))
}

fn ask(port: u16, line: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&answer).trim_end().to_owned();
    let Some(length) = line.strip_prefix('$').and_then(|length| length.parse().ok()) else {
        return Ok(line);
    };
    let mut text = vec![0; length];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
