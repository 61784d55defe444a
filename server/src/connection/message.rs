//! What clients send, decoded strictly.
//!
//! pgwire's decoder panics on short bodies and replaces bad UTF-8; nothing here does either: a body
//! that is not exactly its message is an error.

use std::ops::Range;

use bytes::{Buf, Bytes};
use pgwire::messages::startup::SecretKey;

/// Why a message can't be taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The first packet of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Startup {
    /// The client asks for TLS or GSSAPI encryption.
    Encryption,
    /// Cancel the statement of another connection.
    Cancel(i32, SecretKey),
    /// A session begins.
    Session {
        /// The protocol version the client asks for.
        version: (u16, u16),
        /// Names and values, in the order sent.
        parameters: Vec<(String, String)>,
    },
}

/// Whether a name is one of a prepared statement or of a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// A message of a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Frontend {
    /// Statements of the simple protocol.
    Query(String),
    /// Prepare a statement.
    Parse {
        /// Its name; empty for the unnamed one.
        name: String,
        /// Its text.
        sql: String,
        /// The oids of the parameters' types; 0 for unspecified.
        types: Vec<u32>,
    },
    /// Bind parameters to a prepared statement.
    Bind(Bind),
    /// Ask for types.
    Describe(Target, String),
    /// Run a portal.
    Execute {
        /// The portal.
        portal: String,
        /// Rows to send at most; 0 or less for all.
        max_rows: i32,
    },
    /// Forget a statement or portal.
    Close(Target, String),
    /// Send what is buffered.
    Flush,
    /// End of a series of extended messages.
    Sync,
    /// Data of a `COPY`.
    CopyData(Bytes),
    /// The end of a `COPY`'s data.
    CopyDone,
    /// The client gives up its `COPY`.
    CopyFail(String),
    /// Good bye.
    Terminate,
    /// A statement that was read over because it is too long or not text.
    Refused {
        /// Whether it belongs to the extended protocol.
        extended: bool,
        /// The SQLSTATE.
        code: &'static str,
        /// The message.
        message: String,
    },
}

/// The body of a Bind message.
#[derive(Debug, PartialEq, Eq)]
pub struct Bind {
    /// The portal; empty for the unnamed one.
    pub portal: String,
    /// The prepared statement.
    pub statement: String,
    /// The parameters' formats: none, one for all, or one each.
    pub parameter_formats: Vec<i16>,
    /// Where the values are in `body`; `None` is NULL.
    pub parameters: Vec<Option<Range<usize>>>,
    /// The message's body.
    pub body: Bytes,
    /// The result columns' formats.
    pub result_formats: Vec<i16>,
}

impl Bind {
    /// A parameter's value; `None` is NULL.
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        self.body.get(self.parameters.get(index)?.clone()?)
    }
}

/// A message's body, read from the front.
struct Body<'a>(&'a [u8]);

const SHORT: Malformed = Malformed("message is too short");

impl Body<'_> {
    fn i16(&mut self) -> Result<i16, Malformed> {
        self.0.try_get_i16().map_err(|_| SHORT)
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.0.try_get_i32().map_err(|_| SHORT)
    }

    /// A count of elements that have `size` bytes each at least.
    fn count(&mut self, size: usize) -> Result<usize, Malformed> {
        let count = self.0.try_get_u16().map_err(|_| SHORT)? as usize;
        if count * size > self.0.len() { Err(SHORT) } else { Ok(count) }
    }

    fn text(&mut self) -> Result<Result<String, Malformed>, Malformed> {
        let end = self.0.iter().position(|b| *b == 0);
        let end = end.ok_or(Malformed("string has no end"))?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        let text = std::str::from_utf8(text).map(str::to_owned);
        Ok(text.map_err(|_| Malformed("string is not valid UTF-8")))
    }

    /// A name; one that is not text can't be a known one.
    fn name(&mut self) -> Result<String, Malformed> {
        self.text()?
    }

    fn formats(&mut self) -> Result<Vec<i16>, Malformed> {
        let count = self.count(2)?;
        (0..count).map(|_| self.i16()).collect()
    }

    /// Where a value is in the body of `whole` bytes.
    fn value(&mut self, whole: usize) -> Result<Option<Range<usize>>, Malformed> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Malformed("invalid value length"))?;
        if length > self.0.len() {
            return Err(SHORT);
        }
        let start = whole - self.0.len();
        self.0.advance(length);
        Ok(Some(start..start + length))
    }

    fn target(&mut self) -> Result<Target, Malformed> {
        match self.0.try_get_u8() {
            Ok(b'S') => Ok(Target::Statement),
            Ok(b'P') => Ok(Target::Portal),
            _ => Err(Malformed("invalid target of a message")),
        }
    }

    fn end<T>(&self, value: T) -> Result<T, Malformed> {
        if self.0.is_empty() { Ok(value) } else { Err(Malformed("message is too long")) }
    }
}

/// The longest body that a message of a type may have; `None` for types that do not exist.
pub fn body_limit(kind: u8) -> Option<usize> {
    /// A statement's text and room for names and types.
    const STATEMENT: usize = (16 << 20) + 65_536 * 5;
    /// A message that holds only names.
    const NAMES: usize = 1 << 16;
    Some(match kind {
        b'Q' | b'P' => STATEMENT,
        b'B' => 256 << 20,
        b'd' => 64 << 20,
        b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' | b'F' => NAMES,
        _ => return None,
    })
}

/// Decodes the body of a message of type `kind`. `own` gives the body to those that keep it.
pub fn decode(kind: u8, whole: &[u8], own: impl FnOnce() -> Bytes) -> Result<Frontend, Malformed> {
    let mut body = Body(whole);
    let message = match kind {
        b'Q' => match body.text()? {
            Ok(sql) => Frontend::Query(sql),
            Err(_) => not_text(false),
        },
        b'P' => {
            let name = body.name()?;
            let sql = body.text()?;
            let count = body.count(4)?;
            let types = (0..count).map(|_| body.i32().map(|oid| oid as u32));
            let types = types.collect::<Result<_, _>>()?;
            match sql {
                Ok(sql) => Frontend::Parse { name, sql, types },
                Err(_) => not_text(true),
            }
        }
        b'B' => {
            let (portal, statement) = (body.name()?, body.name()?);
            let parameter_formats = body.formats()?;
            let count = body.count(4)?;
            let parameters = (0..count).map(|_| body.value(whole.len()));
            let parameters = parameters.collect::<Result<_, _>>()?;
            let result_formats = body.formats()?;
            body.end(())?;
            return Ok(Frontend::Bind(Bind {
                portal,
                statement,
                parameter_formats,
                parameters,
                body: own(),
                result_formats,
            }));
        }
        b'D' => Frontend::Describe(body.target()?, body.name()?),
        b'C' => Frontend::Close(body.target()?, body.name()?),
        b'E' => Frontend::Execute { portal: body.name()?, max_rows: body.i32()? },
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'd' => return Ok(Frontend::CopyData(own())),
        b'c' => Frontend::CopyDone,
        b'f' => Frontend::CopyFail(body.text()?.unwrap_or_default()),
        b'X' => Frontend::Terminate,
        _ => return Err(Malformed("unknown message type")),
    };
    body.end(message)
}

fn not_text(extended: bool) -> Frontend {
    let message = "invalid byte sequence for encoding \"UTF8\" in the statement's text".to_owned();
    Frontend::Refused { extended, code: "22021", message }
}

/// Decodes the body of a connection's first packet.
pub fn decode_startup(whole: Bytes) -> Result<Startup, Malformed> {
    const CANCEL: i32 = 80_877_102;
    const TLS: i32 = 80_877_103;
    const GSS: i32 = 80_877_104;
    let mut body = Body(&whole);
    match body.i32()? {
        TLS | GSS => body.end(Startup::Encryption),
        CANCEL => {
            let pid = body.i32()?;
            match body.0.len() {
                4..=256 => {
                    Ok(Startup::Cancel(pid, SecretKey::Bytes(Bytes::copy_from_slice(body.0))))
                }
                _ => Err(Malformed("invalid length of a cancel key")),
            }
        }
        version => {
            let mut parameters = Vec::new();
            loop {
                let name = body.name()?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, body.name()?));
            }
            let version = ((version >> 16) as u16, version as u16);
            body.end(Startup::Session { version, parameters })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: u8, body: &[u8]) -> Result<Frontend, Malformed> {
        decode(kind, body, || Bytes::copy_from_slice(body))
    }

    #[test]
    fn every_prefix_of_a_message_is_refused_not_a_panic() {
        let bind = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01";
        let decoded = of(b'B', bind).unwrap();
        let Frontend::Bind(bound) = decoded else { panic!("not a bind") };
        assert_eq!(bound.parameters.len(), 2);
        assert_eq!((bound.value(0), bound.value(1)), (Some(b"ab".as_slice()), None));
        assert_eq!((bound.parameter_formats, bound.result_formats), (vec![1], vec![1]));
        for length in 0..bind.len() {
            assert!(of(b'B', &bind[..length]).is_err(), "{length}");
        }
        let parse = b"s\0select\0\0\x01\0\0\0\x14";
        for length in 0..parse.len() {
            assert!(of(b'P', &parse[..length]).is_err(), "{length}");
        }
        assert!(of(b'S', b"x").is_err());
        assert!(of(b'?', b"").is_err());
        assert!(of(b'B', b"\0\0\xff\xff").is_err());
    }

    #[test]
    fn text_must_be_utf8() {
        let refused = of(b'Q', b"\xff\0").unwrap();
        assert!(matches!(refused, Frontend::Refused { extended: false, code: "22021", .. }));
    }

    #[test]
    fn first_packets() {
        let startup = b"\0\x03\0\0user\0me\0database\0db\0\0";
        let Startup::Session { version, parameters } =
            decode_startup(Bytes::from_static(startup)).unwrap()
        else {
            panic!("not a session");
        };
        assert_eq!((version, parameters.len()), ((3, 0), 2));
        for length in 0..startup.len() {
            assert!(decode_startup(Bytes::from_static(&startup[..length])).is_err(), "{length}");
        }
        let tls = 80_877_103_i32.to_be_bytes();
        assert_eq!(decode_startup(Bytes::copy_from_slice(&tls)), Ok(Startup::Encryption));
    }
}
