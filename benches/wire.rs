//! A client that costs little: it sends a lookup and counts the rows of the answer.
//!
//! It speaks PostgreSQL's extended protocol (Bind, Execute and Sync of a prepared statement), its
//! simple protocol, and Redis's. While it measures it decodes nothing; [`Client::values`] does, for
//! the comparison of answers. It knows no workload and no statement.

use bytes::{BufMut, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{Header, Message};
use postgres_protocol::message::frontend;
use postgres_protocol::types::{ArrayDimension, array_to_sql, int8_to_sql};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Error;

const STATEMENT: &str = "lookup";
const BINARY: i16 = 1;
const INT8: u32 = 20;
const FLOAT8: u32 = 701;
const READ_BYTES: usize = 64 << 10;

/// How a lookup is sent.
#[derive(Clone)]
pub enum Request {
    /// Bind, Execute, Sync. The statement's one parameter is a key, or an array of keys.
    Prepared { sql: String, array: bool },
    /// A Query whose text has the keys, separated by commas, in place of `$1`.
    Simple { sql: String },
    /// `HMGET prefix+key fields`, one for each key, in one write.
    Redis { prefix: &'static str, fields: Vec<&'static str> },
}

/// Where a client connects to.
#[derive(Clone)]
pub struct Address {
    pub port: u16,
    /// The user and the database; Redis takes none.
    pub name: &'static str,
}

/// A connection with one kind of lookup.
pub struct Client {
    stream: TcpStream,
    request: Request,
    outgoing: BytesMut,
    incoming: BytesMut,
    /// The types of a prepared statement's columns.
    types: Vec<u32>,
}

/// How far an answer has been looked at.
#[derive(Default)]
struct Scan {
    at: usize,
    rows: usize,
}

impl Client {
    /// Connects and prepares the statement.
    pub async fn connect(address: &Address, request: Request) -> Result<Client, Error> {
        let stream = TcpStream::connect(("127.0.0.1", address.port)).await?;
        stream.set_nodelay(true)?;
        let buffer = || BytesMut::with_capacity(READ_BYTES);
        let (outgoing, incoming) = (buffer(), buffer());
        let mut client = Client { stream, request, outgoing, incoming, types: Vec::new() };
        if !matches!(client.request, Request::Redis { .. }) {
            let parameters = [("user", address.name), ("database", address.name)];
            frontend::startup_message(parameters, &mut client.outgoing)?;
            client.exchange(0).await?;
        }
        if let Request::Prepared { sql, .. } = &client.request {
            frontend::parse(STATEMENT, sql, [], &mut client.outgoing)?;
            frontend::describe(b'S', STATEMENT, &mut client.outgoing)?;
            frontend::sync(&mut client.outgoing);
            client.exchange(0).await?;
            client.types = row_types(&mut client.incoming)?;
        }
        Ok(client)
    }

    /// Looks keys up; returns the number of rows. An error that the server sends is an error.
    pub async fn ask(&mut self, keys: &[i64]) -> Result<usize, Error> {
        self.outgoing.clear();
        self.request.encode(keys, &mut self.outgoing)?;
        self.exchange(keys.len()).await
    }

    /// Looks keys up; returns the rows' values as numbers.
    pub async fn values(&mut self, keys: &[i64]) -> Result<Vec<Vec<Option<f64>>>, Error> {
        self.ask(keys).await?;
        match self.request {
            Request::Redis { .. } => redis_rows(&self.incoming),
            _ => postgres_rows(&mut self.incoming, &self.types),
        }
    }

    /// Sends what is to be sent and reads until the answer is complete.
    async fn exchange(&mut self, replies: usize) -> Result<usize, Error> {
        self.stream.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        self.incoming.clear();
        let mut scan = Scan::default();
        loop {
            self.incoming.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err("the server closed the connection".into());
            }
            let complete = match self.request {
                Request::Redis { .. } => scan.redis(&self.incoming, replies)?,
                _ => scan.postgres(&self.incoming)?,
            };
            if complete {
                return Ok(scan.rows);
            }
        }
    }
}

impl Request {
    fn encode(&self, keys: &[i64], out: &mut BytesMut) -> Result<(), Error> {
        match self {
            Request::Prepared { array, .. } => {
                let write = |_: (), buf: &mut BytesMut| match array {
                    true => int8_array(keys, buf),
                    false => {
                        keys.iter().take(1).for_each(|key| int8_to_sql(*key, buf));
                        Ok(IsNull::No)
                    }
                };
                frontend::bind("", STATEMENT, [BINARY], [()], write, [BINARY], out)
                    .map_err(|_| "a key could not be encoded")?;
                frontend::execute("", 0, out)?;
                frontend::sync(out);
            }
            Request::Simple { sql } => {
                let keys: Vec<String> = keys.iter().map(i64::to_string).collect();
                frontend::query(&sql.replace("$1", &keys.join(",")), out)?;
            }
            Request::Redis { prefix, fields } => {
                for key in keys {
                    let key = format!("{prefix}{key}");
                    out.put_slice(format!("*{}\r\n$5\r\nHMGET\r\n", 2 + fields.len()).as_bytes());
                    for word in std::iter::once(key.as_str()).chain(fields.iter().copied()) {
                        out.put_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
                    }
                }
            }
        }
        Ok(())
    }
}

fn int8_array(
    keys: &[i64],
    buf: &mut BytesMut,
) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
    let dimension = ArrayDimension { len: keys.len() as i32, lower_bound: 1 };
    let element = |key: &i64, buf: &mut BytesMut| {
        int8_to_sql(*key, buf);
        Ok(IsNull::No)
    };
    array_to_sql([dimension], INT8, keys, element, buf)?;
    Ok(IsNull::No)
}

impl Scan {
    /// Counts rows up to ReadyForQuery; whether it is there.
    fn postgres(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        while let Some(header) = Header::parse(&bytes[self.at..])? {
            let end = self.at + 1 + header.len() as usize;
            if bytes.len() < end {
                return Ok(false);
            }
            match header.tag() {
                b'D' => self.rows += 1,
                b'E' => return Err(String::from_utf8_lossy(&bytes[self.at..end]).into()),
                _ => {}
            }
            self.at = end;
            if header.tag() == b'Z' {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts arrays of texts without nil; whether all replies are there.
    fn redis(&mut self, bytes: &[u8], replies: usize) -> Result<bool, Error> {
        while self.rows < replies {
            let Some((_, end)) = redis_array(bytes, self.at)? else { return Ok(false) };
            (self.at, self.rows) = (end, self.rows + 1);
        }
        Ok(true)
    }
}

/// Where the texts of an array are and where it ends, if it is complete.
type Array = (Vec<(usize, usize)>, usize);

fn redis_array(bytes: &[u8], at: usize) -> Result<Option<Array>, Error> {
    let Some((count, mut at)) = redis_number(bytes, at, b'*')? else { return Ok(None) };
    let mut texts = Vec::with_capacity(count);
    for _ in 0..count {
        let Some((length, start)) = redis_number(bytes, at, b'$')? else { return Ok(None) };
        texts.push((start, start + length));
        at = start + length + 2;
    }
    Ok((at <= bytes.len()).then_some((texts, at)))
}

/// The number of a line such as `$8` and where the line after it begins.
fn redis_number(bytes: &[u8], at: usize, kind: u8) -> Result<Option<(usize, usize)>, Error> {
    let Some(line) = bytes.get(at..) else { return Ok(None) };
    let Some(length) = line.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = &line[..length.saturating_sub(1)];
    let number = line.strip_prefix(&[kind]).and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
    match number {
        Some(number) => Ok(Some((number, at + length + 1))),
        None => Err(format!("Redis answers {}", String::from_utf8_lossy(line)).into()),
    }
}

fn redis_rows(bytes: &[u8]) -> Result<Vec<Vec<Option<f64>>>, Error> {
    let (mut rows, mut at) = (Vec::new(), 0);
    while let Some((texts, end)) = redis_array(bytes, at)? {
        let value = |(from, to)| Ok(Some(f64::from_be_bytes(bytes[from..to].try_into()?)));
        rows.push(texts.into_iter().map(value).collect::<Result<_, Error>>()?);
        at = end;
    }
    Ok(rows)
}

/// The types in the first RowDescription.
fn row_types(bytes: &mut BytesMut) -> Result<Vec<u32>, Error> {
    while let Some(message) = Message::parse(bytes)? {
        if let Message::RowDescription(body) = message {
            return Ok(body.fields().map(|field| Ok(field.type_oid())).collect()?);
        }
    }
    Err("the statement has no rows".into())
}

/// The rows of an answer. Values of a prepared statement, whose types are known, are binary.
fn postgres_rows(bytes: &mut BytesMut, types: &[u32]) -> Result<Vec<Vec<Option<f64>>>, Error> {
    let mut rows = Vec::new();
    while let Some(message) = Message::parse(bytes)? {
        let Message::DataRow(row) = message else { continue };
        let ranges: Vec<_> = row.ranges().collect()?;
        let value = |(column, range): (usize, Option<std::ops::Range<usize>>)| {
            let Some(range) = range else { return Ok(None) };
            number(&row.buffer()[range], types.get(column).copied()).map(Some)
        };
        rows.push(ranges.into_iter().enumerate().map(value).collect::<Result<_, _>>()?);
    }
    Ok(rows)
}

fn number(bytes: &[u8], binary: Option<u32>) -> Result<f64, Error> {
    match binary {
        None => Ok(std::str::from_utf8(bytes)?.parse()?),
        Some(INT8) => Ok(i64::from_be_bytes(bytes.try_into()?) as f64),
        Some(FLOAT8) => Ok(f64::from_be_bytes(bytes.try_into()?)),
        Some(other) => Err(format!("a column has the type {other}").into()),
    }
}
