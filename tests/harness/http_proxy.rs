//! An HTTP proxy: each request meets the fault that the test gives it. A connection carries one
//! request.

use std::io::{Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Pieces in which a slow answer comes.
const PIECES: usize = 4;

/// The head of a request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PUT` and so on.
    pub method: String,
    /// What is asked for: the path and what follows a question mark.
    pub target: String,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server is not asked; this status is the answer.
    Refuse(u16),
    /// The server is not asked; the connection ends.
    Cut,
    /// The server is asked; the connection ends before its answer.
    LoseAnswer,
    /// The connection ends in the middle of the answer.
    HalveAnswer,
    /// The answer comes in pieces, each after a pause.
    Slow(Duration),
}

type Rule = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// A port of 127.0.0.1 that leads to an HTTP server.
pub struct HttpProxy {
    port: u16,
    rule: Arc<Mutex<Rule>>,
}

impl HttpProxy {
    /// A way to a port of 127.0.0.1 on which nothing happens.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub fn to(target: u16) -> Result<HttpProxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_| None)));
        let shared = Arc::clone(&rule);
        // The thread ends with the process; a test has few of them.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let rule = Arc::clone(&shared);
                // Whatever fails ends the connection.
                std::thread::spawn(move || drop(serve(client, target, &rule)));
            }
        });
        Ok(HttpProxy { port, rule })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What happens to each request from now on.
    pub fn rule(&self, rule: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// Nothing happens any more.
    pub fn heal(&self) {
        self.rule(|_| None);
    }
}

fn serve(mut client: TcpStream, target: u16, rule: &Mutex<Rule>) -> Result<()> {
    let (head, body) = receive(&mut client)?;
    let mut words = head.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let request = Request { method, target: path };
    let fault = rule.lock().unwrap_or_else(PoisonError::into_inner)(&request);
    match fault {
        Some(Fault::Refuse(status)) => return client.write_all(refusal(status).as_bytes()),
        Some(Fault::Cut) => return Ok(()),
        _ => {}
    }
    let mut server = TcpStream::connect(("127.0.0.1", target))?;
    server.write_all(closing(&head)?.as_bytes())?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    match fault {
        Some(Fault::LoseAnswer) => Ok(()),
        Some(Fault::HalveAnswer) => client.write_all(&answer[..answer.len() / 2]),
        Some(Fault::Slow(pause)) => {
            answer.chunks(answer.len() / PIECES + 1).try_for_each(|piece| {
                std::thread::sleep(pause);
                client.write_all(piece)
            })
        }
        _ => client.write_all(&answer),
    }
}

/// A request's head, with its empty line, and its body.
fn receive(client: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(Error::other)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body)?;
    Ok((head, body))
}

/// The head with the wish that the server ends the connection after its answer.
fn closing(head: &str) -> Result<String> {
    let (line, rest) = head.split_once("\r\n").ok_or_else(|| Error::other("no request line"))?;
    let kept = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
    let rest: Vec<&str> = rest.split("\r\n").filter(kept).collect();
    Ok(format!("{line}\r\nConnection: close\r\n{}", rest.join("\r\n")))
}

fn refusal(status: u16) -> String {
    let body = "<Error><Code>SlowDown</Code><Message>on purpose</Message></Error>";
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Refused\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
