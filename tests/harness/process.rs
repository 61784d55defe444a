//! The real binary as a process of its own.

use std::io::{BufRead, BufReader, Error, Result};
use std::process::{Child, Command, Stdio};

/// A running `asofdb serve`. It is killed without warning when it is dropped. With
/// `ASOFDB_TEST_LOG` in the environment its log goes to the standard error.
pub struct ServerProcess {
    child: Child,
    port: u16,
}

impl ServerProcess {
    /// Runs a command that serves on a port of 127.0.0.1, and waits until it does.
    ///
    /// # Errors
    ///
    /// If it cannot be run or ends before it serves; the message holds its log.
    pub fn start(command: &mut Command) -> Result<ServerProcess> {
        let child = command.stderr(Stdio::piped()).spawn()?;
        let mut server = ServerProcess { child, port: 0 };
        let stderr = server.child.stderr.take();
        let mut log = BufReader::new(stderr.ok_or_else(|| Error::other("stderr is piped"))?);
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            if log.read_line(&mut line)? == 0 {
                return Err(Error::other(format!("the server ended: {seen}")));
            }
            seen.push_str(&line);
            if let Some(port) = port_in(&line) {
                // Whoever writes to a full pipe waits.
                let show = std::env::var_os("ASOFDB_TEST_LOG").is_some();
                std::thread::spawn(move || {
                    let shown = log.lines().map_while(Result::ok).filter(|_| show);
                    shown.for_each(|line| eprintln!("{line}"));
                });
                server.port = port;
                return Ok(server);
            }
        }
    }

    /// The port that it serves on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The port in the line that says the server is ready.
fn port_in(line: &str) -> Option<u16> {
    let address = line.split("127.0.0.1:").nth(1).filter(|_| line.contains("ready"))?;
    address.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}
