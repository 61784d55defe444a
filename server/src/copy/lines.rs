//! Splits text and CSV data into rows.
//!
//! Bytes that are not a whole row yet are kept, with the state of the scan, so that each byte is
//! looked at once however the data is cut.

use arrow::array::RecordBatch;

use super::{CopyError, CopyFormat, CopyOptions, Header, MAX_ROW_BYTES, Rows, csv, text};
use crate::input::InputError;

/// How lines end: decided by the first one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Unknown,
    Newline,
    CarriageReturnNewline,
}

/// The state of the search for the end of a row.
#[derive(Default)]
struct Scan {
    /// How much of the pending bytes is scanned.
    at: usize,
    /// In a quoted value of CSV.
    quoted: bool,
    /// After a backslash of the text format, or an escape in a quoted value of CSV.
    escaped: bool,
    /// Newlines in the row so far.
    newlines: u64,
}

/// The splitter.
pub(super) struct Lines {
    options: CopyOptions,
    pending: Vec<u8>,
    scan: Scan,
    line_end: LineEnd,
    header_done: bool,
    /// After `\.`; the rest is ignored.
    ended: bool,
}

impl Lines {
    pub fn new(options: CopyOptions) -> Self {
        Lines {
            header_done: options.header == Header::None,
            options,
            pending: Vec::new(),
            scan: Scan::default(),
            line_end: LineEnd::Unknown,
            ended: false,
        }
    }

    pub fn feed(
        &mut self,
        bytes: &[u8],
        rows: &mut Rows,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<(), CopyError> {
        if self.ended {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(end) = self.next_end(&pending[start..]) {
            let newlines = std::mem::take(&mut self.scan).newlines;
            rows.line += newlines + 1;
            self.row(&pending[start..start + end], rows, batches)?;
            start += end + 1;
            if self.ended {
                return Ok(());
            }
        }
        pending.drain(..start);
        if pending.len() > MAX_ROW_BYTES {
            rows.line += 1;
            let limit = MAX_ROW_BYTES >> 20;
            return Err(rows.error("54000", format!("a row is longer than {limit} MiB")));
        }
        self.pending = pending;
        Ok(())
    }

    pub fn finish(
        &mut self,
        rows: &mut Rows,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<(), CopyError> {
        let last = std::mem::take(&mut self.pending);
        if self.ended || last.is_empty() {
            return Ok(());
        }
        rows.line += self.scan.newlines + 1;
        if self.scan.quoted {
            let error = InputError::new("22P04", "unterminated CSV quoted field");
            return Err(rows.line_error(error, &last));
        }
        self.row(&last, rows, batches)
    }

    /// Where the newline is that ends the row at the start of `bytes`.
    fn next_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let csv = self.options.format == CopyFormat::Csv;
        // An escape that is the quote itself needs no state: two of them toggle twice.
        let escape =
            (csv && self.options.escape != self.options.quote).then_some(self.options.escape);
        let scan = &mut self.scan;
        while let Some(&byte) = bytes.get(scan.at) {
            scan.at += 1;
            if csv {
                let was_escaped = std::mem::take(&mut scan.escaped);
                if scan.quoted && Some(byte) == escape && !was_escaped {
                    scan.escaped = true;
                } else if byte == self.options.quote && !was_escaped {
                    scan.quoted = !scan.quoted;
                } else if byte == b'\n' {
                    if !scan.quoted {
                        return Some(scan.at - 1);
                    }
                    scan.newlines += 1;
                }
            } else if std::mem::take(&mut scan.escaped) {
                scan.newlines += u64::from(byte == b'\n');
            } else if byte == b'\\' {
                scan.escaped = true;
            } else if byte == b'\n' {
                return Some(scan.at - 1);
            }
        }
        None
    }

    fn row(
        &mut self,
        line: &[u8],
        rows: &mut Rows,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<(), CopyError> {
        let line = self.strip_line_end(line, rows)?;
        if line == b"\\." {
            self.ended = true;
            return Ok(());
        }
        if !std::mem::replace(&mut self.header_done, true) {
            if self.options.header == Header::Match {
                self.match_header(line, rows)?;
            }
            return Ok(());
        }
        match self.options.format {
            CopyFormat::Csv => csv::row(line, &self.options, rows)?,
            _ => text::row(line, &self.options, rows)?,
        }
        rows.end_row(batches)
    }

    /// Takes off a carriage return if the lines end with one; one elsewhere is a mistake.
    fn strip_line_end<'a>(&mut self, line: &'a [u8], rows: &Rows) -> Result<&'a [u8], CopyError> {
        let stripped = line.strip_suffix(b"\r");
        if self.line_end == LineEnd::Unknown {
            self.line_end = match stripped {
                Some(_) => LineEnd::CarriageReturnNewline,
                None => LineEnd::Newline,
            };
        }
        let is_csv = self.options.format == CopyFormat::Csv;
        let line = match (self.line_end, stripped) {
            (LineEnd::CarriageReturnNewline, Some(stripped)) => stripped,
            _ => line,
        };
        // Unescaped carriage returns at the end are found here, those in CSV values by its parser.
        if !is_csv && text::has_bare_carriage_return(line) {
            let error = InputError {
                code: "22P04",
                message: "literal carriage return found in data".to_owned(),
                detail: Some("Use \"\\r\" to represent carriage return.".to_owned()),
            };
            return Err(rows.line_error(error, line));
        }
        Ok(line)
    }

    fn match_header(&self, line: &[u8], rows: &Rows) -> Result<(), CopyError> {
        let names = match self.options.format {
            CopyFormat::Csv => csv::header(line, &self.options),
            _ => text::header(line, &self.options),
        }
        .map_err(|error| rows.line_error(error, line))?;
        let refuse = |message: String| {
            let context = format!("COPY {}, line {}", rows.table, rows.line);
            Err(CopyError::new(InputError::new("22P04", message), context))
        };
        if names.len() != rows.columns() {
            return refuse(format!(
                "wrong number of fields in header line: got {}, expected {}",
                names.len(),
                rows.columns()
            ));
        }
        for (index, name) in names.iter().enumerate() {
            let expected = rows.column_name(index);
            if name != expected {
                return refuse(format!(
                    "column name mismatch in header line field {}: got \"{name}\", expected \
                     \"{expected}\"",
                    index + 1
                ));
            }
        }
        Ok(())
    }
}
