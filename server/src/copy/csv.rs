//! Rows of comma-separated values.

use super::{CopyError, CopyOptions, Rows};
use crate::input::{InputError, utf8};

/// Reads the fields of a row; the buffer is used for each of them.
struct Fields<'a> {
    rest: Option<&'a [u8]>,
    options: &'a CopyOptions,
    value: Vec<u8>,
}

impl Fields<'_> {
    /// Puts the next field into `value` and tells whether any of it was quoted.
    fn next(&mut self) -> Option<Result<bool, InputError>> {
        let line = self.rest.take()?;
        let CopyOptions { delimiter, quote, escape, .. } = *self.options;
        self.value.clear();
        let (mut at, mut quoted, mut in_quotes) = (0, false, false);
        while let Some(&byte) = line.get(at) {
            at += 1;
            if in_quotes {
                let next = line.get(at).copied();
                let escapes = next.is_some_and(|b| b == quote || b == escape);
                if byte == escape && escapes {
                    self.value.extend(next);
                    at += 1;
                } else if byte == quote {
                    in_quotes = false;
                } else {
                    self.value.push(byte);
                }
            } else if byte == delimiter {
                self.rest = Some(&line[at..]);
                return Some(Ok(quoted));
            } else if byte == quote {
                (quoted, in_quotes) = (true, true);
            } else if byte == b'\r' {
                return Some(Err(InputError {
                    code: "22P04",
                    message: "unquoted carriage return found in data".to_owned(),
                    detail: Some("Use quoted CSV field to represent carriage return.".to_owned()),
                }));
            } else {
                self.value.push(byte);
            }
        }
        if in_quotes {
            return Some(Err(InputError::new("22P04", "unterminated CSV quoted field")));
        }
        Some(Ok(quoted))
    }
}

/// Appends a line's values to `rows`.
pub(super) fn row(line: &[u8], options: &CopyOptions, rows: &mut Rows) -> Result<(), CopyError> {
    let columns = rows.columns();
    let mut fields = Fields { rest: Some(line), options, value: Vec::new() };
    let mut count = 0;
    while let Some(quoted) = fields.next() {
        let quoted = quoted.map_err(|error| rows.line_error(error, line))?;
        if count == columns {
            let error = InputError::new("22P04", "extra data after last expected column");
            return Err(rows.line_error(error, line));
        }
        // Only an unquoted value can be NULL.
        if !quoted && fields.value == options.null.as_bytes() {
            rows.push_text(count, None)?;
        } else {
            let text = utf8(&fields.value).map_err(|e| CopyError::new(e, rows.at_column(count)))?;
            rows.push_text(count, Some(text))?;
        }
        count += 1;
    }
    if count < columns {
        let message = format!("missing data for column \"{}\"", rows.column_name(count));
        return Err(rows.line_error(InputError::new("22P04", message), line));
    }
    Ok(())
}

/// The names in a header line.
pub(super) fn header(line: &[u8], options: &CopyOptions) -> Result<Vec<String>, InputError> {
    let mut fields = Fields { rest: Some(line), options, value: Vec::new() };
    let mut names = Vec::new();
    while let Some(quoted) = fields.next() {
        quoted?;
        names.push(utf8(&fields.value)?.to_owned());
    }
    Ok(names)
}
