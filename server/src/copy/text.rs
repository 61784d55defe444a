//! Rows of PostgreSQL's text format.

use std::borrow::Cow;

use super::{CopyError, CopyOptions, Rows};
use crate::input::{InputError, utf8};

/// Appends a line's values to `rows`.
pub(super) fn row(line: &[u8], options: &CopyOptions, rows: &mut Rows) -> Result<(), CopyError> {
    let columns = rows.columns();
    let mut count = 0;
    if columns > 0 || !line.is_empty() {
        for raw in fields(line, options.delimiter) {
            if count == columns {
                let error = InputError::new("22P04", "extra data after last expected column");
                return Err(rows.line_error(error, line));
            }
            if raw == options.null.as_bytes() {
                rows.push_text(count, None)?;
            } else {
                let value = unescape(raw);
                let text = utf8(&value).map_err(|e| CopyError::new(e, rows.at_column(count)))?;
                rows.push_text(count, Some(text))?;
            }
            count += 1;
        }
    }
    if count < columns {
        let message = format!("missing data for column \"{}\"", rows.column_name(count));
        return Err(rows.line_error(InputError::new("22P04", message), line));
    }
    Ok(())
}

/// The names in a header line.
pub(super) fn header(line: &[u8], options: &CopyOptions) -> Result<Vec<String>, InputError> {
    let name = |raw| utf8(&unescape(raw)).map(str::to_owned);
    fields(line, options.delimiter).map(name).collect()
}

/// Whether a carriage return stands in the line that no backslash is before.
pub(super) fn has_bare_carriage_return(line: &[u8]) -> bool {
    let mut escaped = false;
    line.iter().any(|byte| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        escaped = *byte == b'\\';
        *byte == b'\r'
    })
}

/// The raw fields: split at delimiters that no backslash is before.
fn fields(line: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    line.split(move |byte| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        escaped = *byte == b'\\';
        *byte == delimiter
    })
}

/// Resolves the backslash sequences.
fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut value = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        // A backslash at the very end stands for itself.
        let Some((&letter, tail)) = rest.split_first() else {
            value.push(b'\\');
            break;
        };
        rest = tail;
        value.push(match letter {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'0'..=b'7' => number(letter - b'0', &mut rest, 8, 2),
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => number(0, &mut rest, 16, 2),
            other => other,
        });
    }
    Cow::Owned(value)
}

/// A byte by its digits, of which `first` is read already and at most `more` follow.
fn number(first: u8, rest: &mut &[u8], radix: u32, more: usize) -> u8 {
    let mut value = u32::from(first);
    for _ in 0..more {
        let Some(digit) = rest.first().and_then(|b| (*b as char).to_digit(radix)) else { break };
        value = value * radix + digit;
        *rest = &rest[1..];
    }
    (value & 0xff) as u8
}
