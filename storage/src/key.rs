//! The encoding of an entity's key as bytes.
//!
//! The encoding is *injective*: two different lists of parts never have the same bytes, and every
//! list has exactly one encoding, so equality of bytes is equality of keys. A part is a tag and:
//!
//! | part | tag | then |
//! |---|---|---|
//! | `Int` | 1 | eight bytes, big-endian, sign bit flipped (ordered as the integers are) |
//! | `Text` | 2 | the length in bytes (shortest LEB128), then UTF-8 |
//! | `Bool` | 3 | one byte, 0 or 1 |
//! | `Bytes` | 4 | the length in bytes (shortest LEB128), then the bytes |
//!
//! There is no part for NULL: a NULL key is no entity.

use crate::error::Error;

const TAG_INT: u8 = 1;
const TAG_TEXT: u8 = 2;
const TAG_BOOL: u8 = 3;
const TAG_BYTES: u8 = 4;
const SIGN: u64 = 1 << 63;

/// One column of an entity's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyPart<'a> {
    /// Any integer type; also dates and timestamps by their integer value.
    Int(i64),
    /// Text, compared by its bytes.
    Text(&'a str),
    /// A truth value.
    Bool(bool),
    /// Anything else with one canonical byte form: UUID, BYTEA, decimals.
    Bytes(&'a [u8]),
}

/// Encodes the parts of a key.
///
/// ```
/// use asofdb_storage::{KeyPart, decode_key, encode_key};
/// let parts = [KeyPart::Int(42), KeyPart::Text("FR")];
/// let bytes = encode_key(&parts);
/// assert_eq!(decode_key(&bytes).unwrap(), parts);
/// ```
pub fn encode_key(parts: &[KeyPart<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.len() * 10);
    encode_key_into(&mut out, parts);
    out
}

/// Appends the encoding of `parts` to `out`, which a hot path keeps and clears between keys.
pub fn encode_key_into(out: &mut Vec<u8>, parts: &[KeyPart<'_>]) {
    for part in parts {
        match part {
            KeyPart::Int(value) => {
                out.push(TAG_INT);
                out.extend_from_slice(&(value.cast_unsigned() ^ SIGN).to_be_bytes());
            }
            KeyPart::Text(text) => push_bytes(out, TAG_TEXT, text.as_bytes()),
            KeyPart::Bool(value) => out.extend_from_slice(&[TAG_BOOL, u8::from(*value)]),
            KeyPart::Bytes(bytes) => push_bytes(out, TAG_BYTES, bytes),
        }
    }
}

/// Decodes what [`encode_key`] wrote, borrowing text and bytes from it.
///
/// # Errors
///
/// [`Error::InvalidKey`] for bytes that `encode_key` never writes.
pub fn decode_key(encoded: &[u8]) -> Result<Vec<KeyPart<'_>>, Error> {
    let mut reader = Reader { encoded, offset: 0 };
    let mut parts = Vec::new();
    while reader.offset < encoded.len() {
        parts.push(reader.part()?);
    }
    Ok(parts)
}

fn push_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    let mut length = bytes.len() as u64;
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// A cursor over an encoded key.
struct Reader<'a> {
    encoded: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn part(&mut self) -> Result<KeyPart<'a>, Error> {
        let start = self.offset;
        match self.byte()? {
            TAG_INT => {
                let mut bits = 0u64;
                for byte in self.take(8)? {
                    bits = bits << 8 | u64::from(*byte);
                }
                Ok(KeyPart::Int((bits ^ SIGN).cast_signed()))
            }
            TAG_TEXT => {
                let bytes = self.sized()?;
                std::str::from_utf8(bytes)
                    .map(KeyPart::Text)
                    .map_err(|_| Error::InvalidKey { offset: start, reason: "text is not UTF-8" })
            }
            TAG_BOOL => match self.byte()? {
                0 => Ok(KeyPart::Bool(false)),
                1 => Ok(KeyPart::Bool(true)),
                _ => Err(Error::InvalidKey { offset: start, reason: "a boolean is 0 or 1" }),
            },
            TAG_BYTES => self.sized().map(KeyPart::Bytes),
            _ => Err(Error::InvalidKey { offset: start, reason: "unknown tag" }),
        }
    }

    fn sized(&mut self) -> Result<&'a [u8], Error> {
        let start = self.offset;
        let invalid = |reason| Error::InvalidKey { offset: start, reason };
        let mut length = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 != 0 {
                continue;
            }
            if byte == 0 && shift > 0 {
                return Err(invalid("the length is not in its shortest form"));
            }
            let length = usize::try_from(length).map_err(|_| invalid("the length is too large"))?;
            return self.take(length);
        }
        Err(invalid("the length is too large"))
    }

    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let rest = &self.encoded[self.offset..];
        let Some(taken) = rest.get(..length) else {
            return Err(Error::InvalidKey {
                offset: self.offset,
                reason: "the key ends too early",
            });
        };
        self.offset += length;
        Ok(taken)
    }
}
