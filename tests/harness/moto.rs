//! An S3 of the test's own: the server of `moto` on a free port, behind a proxy. What it holds is
//! in its memory.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::http_proxy::{Fault, HttpProxy};

/// What may happen to a request on its way to S3.
const FAULTS: &[Fault] = &[
    Fault::Refuse(503),
    Fault::Refuse(429),
    Fault::Refuse(500),
    Fault::Cut,
    Fault::LoseAnswer,
    Fault::HalveAnswer,
    Fault::Slow(Duration::from_millis(40)),
];

/// A running S3 with the bucket `bucket`. It is killed when it is dropped.
pub struct MotoServer {
    child: Child,
    port: u16,
    /// The way that [`environment`](Self::environment) leads.
    pub way: HttpProxy,
}

impl MotoServer {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn start() -> Result<MotoServer> {
        let mut child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::other(format!("moto_server: {error}; see tests/install.sh")))?;
        let stderr = child.stderr.take().ok_or_else(|| Error::other("stderr is piped"))?;
        let mut log = BufReader::new(stderr);
        let mut said = String::new();
        let port = loop {
            let from = said.len();
            if log.read_line(&mut said)? == 0 {
                return Err(Error::other(format!("moto_server ended: {said}")));
            }
            let address = said[from..].split_once("http://127.0.0.1:");
            if let Some(port) = address.and_then(|(_, rest)| rest.trim().parse().ok()) {
                break port;
            }
        };
        // It writes a line for each request, and must not wait for somebody to read it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let server = MotoServer { child, port, way: HttpProxy::to(port)? };
        server.create_bucket()?;
        Ok(server)
    }

    /// What tells `asofdb` to keep its history in the bucket, below `db`.
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.way.port());
        [
            ("ASOFDB_HISTORY", "s3://bucket/db"),
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "eu-central-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// From now on one request of `one_in`, at random, meets a fault.
    pub fn fail_at_random(&self, one_in: u32, mut rng: StdRng) {
        self.way.rule(move |_| match rng.random_range(0..one_in) {
            0 => FAULTS.choose(&mut rng).copied(),
            _ => None,
        });
    }

    fn create_bucket(&self) -> Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let head = format!("PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", self.port);
        let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all((head + rest).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.starts_with("HTTP/1.1 200") {
            true => Ok(()),
            false => Err(Error::other(answer)),
        }
    }
}

impl Drop for MotoServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
