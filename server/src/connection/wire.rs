//! The socket with its two buffers.
//!
//! Messages are appended to the outgoing buffer and flushed by whoever knows that the client waits
//! for them; a long result is flushed whenever [`Wire::is_full`], so a connection's memory is
//! bounded. Reading and flushing may be cancelled at any time without losing a byte.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use pgwire::error::ErrorInfo;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::message::{self, Frontend, Malformed, Startup};
use crate::sqlstate;

/// Buffers start with and shrink back to this many bytes.
const IDLE_BYTES: usize = 4096;
/// The outgoing buffer is flushed when it has this many bytes.
const FLUSH_BYTES: usize = 64 << 10;
/// Buffers larger than this are given back when they are empty.
const KEEP_BYTES: usize = 256 << 10;
/// Bytes read ahead while a statement runs, to notice that the client is gone.
const AHEAD_BYTES: usize = 64 << 10;
/// The longest first packet.
const STARTUP_BYTES: usize = 10_000;

/// Why reading ended.
#[derive(Debug)]
pub enum ReadError {
    /// The client is gone, or its socket failed.
    Closed,
    /// The client does not speak the protocol.
    Malformed(Malformed),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        tracing::debug!(%error, "a socket failed");
        ReadError::Closed
    }
}

impl From<Malformed> for ReadError {
    fn from(error: Malformed) -> Self {
        ReadError::Malformed(error)
    }
}

/// A statement's frame that is longer than allowed and read over.
struct Skip {
    kind: u8,
    bytes: usize,
    left: usize,
}

/// A client's socket.
pub struct Wire {
    socket: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
    skip: Option<Skip>,
}

impl Wire {
    /// Takes over a socket.
    pub fn new(socket: TcpStream) -> Self {
        let buffer = || BytesMut::with_capacity(IDLE_BYTES);
        Wire { socket, incoming: buffer(), outgoing: buffer(), skip: None }
    }

    /// The connection's first packet.
    pub async fn read_startup(&mut self) -> Result<Startup, ReadError> {
        loop {
            if let Some(length) = self.incoming.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if !(8..=STARTUP_BYTES).contains(&length) {
                    return Err(Malformed("invalid length of startup packet").into());
                }
                if self.incoming.len() >= length {
                    let body = self.incoming.split_to(length).freeze().slice(4..);
                    return Ok(message::decode_startup(body)?);
                }
            }
            self.fill().await?;
        }
    }

    /// Refuses encryption. Bytes that follow the request unencrypted are refused too.
    pub async fn refuse_encryption(&mut self) -> Result<(), ReadError> {
        if !self.incoming.is_empty() {
            return Err(Malformed("data after encryption request").into());
        }
        self.outgoing.extend_from_slice(b"N");
        Ok(self.flush().await?)
    }

    /// The next message, if it has come whole already.
    pub fn buffered(&mut self) -> Result<Option<Frontend>, ReadError> {
        Ok(self.take()?)
    }

    /// The next message.
    pub async fn read(&mut self) -> Result<Frontend, ReadError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// The next message if it is in the buffer already.
    fn take(&mut self) -> Result<Option<Frontend>, Malformed> {
        if let Some(skip) = &mut self.skip {
            let skipped = skip.left.min(self.incoming.len());
            self.incoming.advance(skipped);
            skip.left -= skipped;
            return Ok((skip.left == 0).then(|| self.skipped()).flatten());
        }
        let Some(&[kind, a, b, c, d]) = self.incoming.first_chunk::<5>() else {
            return Ok(None);
        };
        let limit = message::body_limit(kind).ok_or(Malformed("unknown message type"))?;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let length = length.checked_sub(4).ok_or(Malformed("invalid message length"))?;
        if length > limit {
            if !matches!(kind, b'Q' | b'P') || length > i32::MAX as usize {
                return Err(Malformed("message is too long"));
            }
            self.incoming.advance(5);
            self.skip = Some(Skip { kind, bytes: length, left: length });
            return self.take();
        }
        if self.incoming.len() < 5 + length {
            return Ok(None);
        }
        if length > KEEP_BYTES {
            let body = self.incoming.split_to(5 + length).freeze().slice(5..);
            return message::decode(kind, &body, || body.clone()).map(Some);
        }
        let body = &self.incoming[5..5 + length];
        // A copy lets the buffer be used again even if a value is kept for long.
        let message = message::decode(kind, body, || Bytes::copy_from_slice(body));
        self.incoming.advance(5 + length);
        message.map(Some)
    }

    fn skipped(&mut self) -> Option<Frontend> {
        let skip = self.skip.take()?;
        let message = format!("statement of {} bytes is too long; the limit is 16 MiB", skip.bytes);
        Some(Frontend::Refused { extended: skip.kind == b'P', code: "54000", message })
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        if self.incoming.is_empty() && self.incoming.capacity() > KEEP_BYTES {
            self.incoming = BytesMut::with_capacity(IDLE_BYTES);
        }
        self.incoming.reserve(IDLE_BYTES);
        match self.socket.read_buf(&mut self.incoming).await? {
            0 => Err(ReadError::Closed),
            _ => Ok(()),
        }
    }

    /// Ends when the client is gone. What it sends meanwhile is kept for [`Wire::read`].
    pub async fn closed(&mut self) {
        while self.incoming.len() < AHEAD_BYTES {
            if self.fill().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }

    /// The outgoing buffer.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// Whether the outgoing buffer should be flushed before more is appended.
    pub fn is_full(&self) -> bool {
        self.outgoing.len() >= FLUSH_BYTES
    }

    /// Appends a message.
    pub fn put(&mut self, message: PgWireBackendMessage) {
        let start = self.outgoing.len();
        if let Err(error) = message.encode(&mut self.outgoing) {
            // Only messages longer than a client takes; an error instead keeps it in step.
            self.outgoing.truncate(start);
            tracing::error!(%error, "a message could not be encoded");
            self.put_error(sqlstate::error("54000", "the answer is too large for the protocol"));
        }
    }

    /// Appends an `ErrorResponse`.
    pub fn put_error(&mut self, mut info: ErrorInfo) {
        shorten(&mut info);
        let message = PgWireBackendMessage::ErrorResponse(ErrorResponse::from(info));
        if message.encode(&mut self.outgoing).is_err() {
            tracing::error!("an error message could not be encoded");
        }
    }

    /// Appends a `NoticeResponse`.
    pub fn put_notice(&mut self, mut info: ErrorInfo) {
        shorten(&mut info);
        self.put(PgWireBackendMessage::NoticeResponse(NoticeResponse::from(info)));
    }

    /// Sends what is buffered.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => self.outgoing.advance(sent),
            }
        }
        if self.outgoing.capacity() > KEEP_BYTES {
            self.outgoing = BytesMut::with_capacity(IDLE_BYTES);
        }
        Ok(())
    }

    /// Sends what is buffered and closes the socket.
    pub async fn close(&mut self) {
        if self.flush().await.is_ok() {
            let _ = self.socket.shutdown().await;
        }
    }
}

/// Clients refuse messages of more than 30,000 bytes here; texts are cut well before that.
fn shorten(info: &mut ErrorInfo) {
    const LIMIT: usize = 6000;
    let fields = [Some(&mut info.message), info.detail.as_mut(), info.hint.as_mut()];
    for text in fields.into_iter().flatten().filter(|text| text.len() > LIMIT) {
        let end = (0..=LIMIT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    // A zero would end the field early.
    for text in [Some(&mut info.message), info.detail.as_mut(), info.hint.as_mut()] {
        if let Some(text) = text.filter(|text| text.contains('\0')) {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
}
