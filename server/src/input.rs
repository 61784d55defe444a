//! PostgreSQL's input functions: from a value's text, or its binary form, to Arrow.
//!
//! The one place where text becomes values: `COPY` and bound parameters both use it.

mod array;
mod binary;
mod builder;
mod datetime;
mod interval;
mod number;

pub use binary::decode_numeric;
pub use builder::ColumnBuilder;
pub use datetime::{MICROS_PER_DAY, PG_EPOCH_DAYS, PG_EPOCH_MICROS};

/// A value that is not one of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InputError {
    /// The SQLSTATE.
    pub code: &'static str,
    /// Names the value and the type.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
}

impl InputError {
    /// 22P02: the text is not a value of the type.
    pub fn syntax(type_name: &str, text: &str) -> Self {
        let message = format!("invalid input syntax for type {type_name}: \"{}\"", shorten(text));
        InputError { code: "22P02", message, detail: None }
    }

    /// 22003: the value does not fit the type.
    pub fn range(type_name: &str, text: &str) -> Self {
        let message = format!("value \"{}\" is out of range for type {type_name}", shorten(text));
        InputError { code: "22003", message, detail: None }
    }

    /// 22P03: bytes that are not the type's binary form.
    pub fn binary(type_name: &str) -> Self {
        let message = format!("incorrect binary data format for type {type_name}");
        InputError { code: "22P03", message, detail: None }
    }

    /// An error with a SQLSTATE of its own.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        InputError { code, message: message.into(), detail: None }
    }
}

/// The result of input functions.
pub type Result<T, E = InputError> = std::result::Result<T, E>;

/// Longest piece of a value that a message shows, in bytes.
const SHOWN_BYTES: usize = 100;

/// `text`, cut to what a message may hold.
pub fn shorten(text: &str) -> String {
    if text.len() <= SHOWN_BYTES {
        return text.to_owned();
    }
    let end = (0..=SHOWN_BYTES).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// The text in `bytes`, or 22021 if they are not UTF-8 or hold a zero.
pub fn utf8(bytes: &[u8]) -> Result<&str> {
    let bad = match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => return Ok(text),
        Ok(_) => 0,
        Err(error) => bytes[error.valid_up_to()],
    };
    let message = format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}");
    Err(InputError::new("22021", message))
}

/// `boolin`: unique prefixes of true, false, yes, no, and on, off, 1, 0.
pub fn boolean(text: &str) -> Result<bool> {
    let word = text.trim_matches(is_space).to_ascii_lowercase();
    let is_prefix = |whole: &str| !word.is_empty() && whole.starts_with(&word);
    match word.as_str() {
        "1" | "on" => Ok(true),
        "0" | "off" | "of" => Ok(false),
        _ if is_prefix("true") || is_prefix("yes") => Ok(true),
        _ if is_prefix("false") || is_prefix("no") => Ok(false),
        _ => Err(InputError::syntax("boolean", text)),
    }
}

/// `byteain`: `\x` and hexadecimal digits, or the escape form.
pub fn bytea(text: &str) -> Result<Vec<u8>> {
    let error = || InputError::syntax("bytea", text);
    let bytes = text.as_bytes();
    if let Some(digits) = bytes.strip_prefix(b"\\x") {
        let mut nibbles = digits.iter().filter(|b| !b.is_ascii_whitespace());
        let mut out = Vec::with_capacity(digits.len() / 2);
        while let Some(high) = nibbles.next() {
            let low = nibbles.next().ok_or_else(error)?;
            let nibble = |b: u8| (b as char).to_digit(16).ok_or_else(error);
            out.push((nibble(*high)? * 16 + nibble(*low)?) as u8);
        }
        return Ok(out);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return Ok(out),
            [b'\\', b'\\', tail @ ..] => {
                out.push(b'\\');
                tail
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                tail
            }
            [b'\\', ..] => return Err(error()),
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
        };
    }
}

/// White space as C's `isspace` has it.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans() {
        for yes in ["t", "true", "TRUE", " yes ", "y", "on", "1", "tru"] {
            assert_eq!(boolean(yes), Ok(true), "{yes}");
        }
        for no in ["f", "false", "no", "n", "off", "of", "0"] {
            assert_eq!(boolean(no), Ok(false), "{no}");
        }
        for bad in ["", "o", "2", "truee", "yess", "x"] {
            assert_eq!(boolean(bad).unwrap_err().code, "22P02", "{bad}");
        }
    }

    #[test]
    fn bytes() {
        assert_eq!(bytea("\\xDEad be").unwrap(), [0xde, 0xad, 0xbe]);
        assert_eq!(bytea("a\\\\b\\001").unwrap(), [b'a', b'\\', b'b', 1]);
        assert!(bytea("\\xabc").is_err());
        assert!(bytea("\\9").is_err());
    }

    #[test]
    fn bad_utf8_is_named() {
        let error = utf8(b"ab\xffc").unwrap_err();
        assert_eq!(error.message, "invalid byte sequence for encoding \"UTF8\": 0xff");
        assert_eq!(utf8(b"a\0").unwrap_err().code, "22021");
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let text = "é".repeat(80);
        assert_eq!(shorten(&text), format!("{}...", "é".repeat(50)));
    }
}
