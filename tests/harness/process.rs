//! The real binary as a process of its own.

use std::io::{BufRead, BufReader, Error, Result};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

/// How a connection ends: with an error that the server sent while nothing was asked, for instance.
pub type End = JoinHandle<std::result::Result<(), tokio_postgres::Error>>;

/// A running `asofdb serve`. It is killed without warning when it is dropped. With
/// `ASOFDB_TEST_LOG` in the environment its log goes to the standard error.
pub struct ServerProcess {
    child: Child,
    port: u16,
    log: Arc<Mutex<String>>,
}

impl ServerProcess {
    /// Runs a command that serves on a port of 127.0.0.1, and waits until it does.
    ///
    /// # Errors
    ///
    /// If it cannot be run or ends before it serves; the message holds its log.
    pub fn start(command: &mut Command) -> Result<ServerProcess> {
        let child = command.stderr(Stdio::piped()).spawn()?;
        let mut server = ServerProcess { child, port: 0, log: Arc::default() };
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
                let kept = Arc::clone(&server.log);
                std::thread::spawn(move || {
                    for line in log.lines().map_while(Result::ok) {
                        if show {
                            eprintln!("{line}");
                        }
                        kept.lock().expect("no panic").extend([&line, "\n"]);
                    }
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

    /// What it has logged since it serves.
    ///
    /// # Panics
    ///
    /// If the thread that reads it did.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// A new connection.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    pub async fn connect(&self) -> Client {
        self.try_connect().await.expect("connects")
    }

    /// A new connection, or the reason why there is none.
    ///
    /// # Errors
    ///
    /// The server refuses it, or has ended.
    pub async fn try_connect(&self) -> std::result::Result<Client, tokio_postgres::Error> {
        Ok(self.session().await?.0)
    }

    /// A new connection, and how it ends.
    ///
    /// # Errors
    ///
    /// As [`try_connect`](Self::try_connect).
    pub async fn session(&self) -> std::result::Result<(Client, End), tokio_postgres::Error> {
        let url = format!("host=127.0.0.1 port={} user=asofdb dbname=asofdb", self.port);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        Ok((client, tokio::spawn(connection)))
    }

    /// Sends it a signal, such as `TERM`.
    ///
    /// # Errors
    ///
    /// If it cannot be sent.
    pub fn signal(&self, name: &str) -> Result<()> {
        signal(self.id(), name)
    }

    /// Waits until it has ended by itself, for as long as `patience`.
    ///
    /// # Errors
    ///
    /// If it has not.
    pub async fn ended(&mut self, patience: Duration) -> Result<ExitStatus> {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(patience, wait).await?
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

/// Sends a signal to a process.
///
/// # Errors
///
/// If it cannot be sent.
pub fn signal(process: u32, name: &str) -> Result<()> {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status()?;
    if sent.success() { Ok(()) } else { Err(Error::other(format!("kill -{name}: {sent}"))) }
}

/// The port in the line that says the server is ready.
fn port_in(line: &str) -> Option<u16> {
    let address = line.split("127.0.0.1:").nth(1).filter(|_| line.contains("ready"))?;
    address.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}
