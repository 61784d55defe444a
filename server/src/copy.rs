//! The data of `COPY ... FROM`: text, CSV and binary, parsed piece by piece into batches.
//!
//! [`CopyParser`] is pure: bytes go in at any boundaries, batches come out. Files on the server
//! and `CopyData` messages are read by the same code.

mod binary;
mod csv;
mod error;
mod lines;
mod text;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
pub use error::CopyError;

use crate::input::{ColumnBuilder, InputError};

/// Rows in a batch, at most.
pub const BATCH_ROWS: usize = 65_536;
/// A batch is closed when its values have about this many bytes.
const BATCH_BYTES: usize = 32 << 20;
/// The longest row that is accepted, in bytes; bounds what a parser holds.
pub const MAX_ROW_BYTES: usize = 256 << 20;

/// How the data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyFormat {
    /// PostgreSQL's text format.
    #[default]
    Text,
    /// Comma-separated values.
    Csv,
    /// PostgreSQL's binary format.
    Binary,
}

/// The first line of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// Is a row.
    #[default]
    None,
    /// Is skipped.
    Skip,
    /// Must have the columns' names.
    Match,
}

/// The options of a `COPY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// The table, for messages.
    pub table: String,
    /// The format.
    pub format: CopyFormat,
    /// Between values, one byte.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: String,
    /// What the first line is.
    pub header: Header,
    /// Around values of CSV.
    pub quote: u8,
    /// Before a quote in a quoted value of CSV.
    pub escape: u8,
}

impl CopyOptions {
    /// The defaults of a format, as PostgreSQL has them.
    pub fn new(table: impl Into<String>, format: CopyFormat) -> Self {
        let csv = format == CopyFormat::Csv;
        CopyOptions {
            table: table.into(),
            format,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { String::new() } else { "\\N".to_owned() },
            header: Header::None,
            quote: b'"',
            escape: b'"',
        }
    }

    /// Whether the options can be used together; the text says which can't.
    pub fn check(&self) -> Result<(), InputError> {
        let refuse = |message: &str| Err(InputError::new("22023", message));
        let line_end = |b: u8| b == b'\n' || b == b'\r';
        if self.format == CopyFormat::Binary {
            return Ok(());
        }
        if line_end(self.delimiter) || self.delimiter >= 0x80 || self.delimiter == 0 {
            return refuse("COPY delimiter must be a single one-byte character, not a line end");
        }
        if self.null.bytes().any(line_end) {
            return refuse("COPY null representation cannot use newline or carriage return");
        }
        if self.null.bytes().any(|b| b == self.delimiter) {
            return refuse("COPY delimiter character must not appear in the NULL specification");
        }
        if self.format == CopyFormat::Text {
            let reserved = b"\\.abcdefghijklmnopqrstuvwxyz0123456789";
            if reserved.contains(&self.delimiter) {
                let shown = self.delimiter as char;
                return refuse(&format!("COPY delimiter cannot be \"{shown}\""));
            }
        } else if self.quote == self.delimiter {
            return refuse("COPY delimiter and quote must be different");
        } else if self.null.bytes().any(|b| b == self.quote) {
            return refuse("CSV quote character must not appear in the NULL specification");
        }
        Ok(())
    }
}

/// The options of a parsed `COPY` from a client or a file that isn't Parquet.
///
/// Without `FORMAT`, a file whose name ends with `.csv` is CSV; everything else is text.
pub fn options_of(copy: &asofdb_sql::Copy) -> Result<CopyOptions, InputError> {
    use asofdb_sql::{CopyEndpoint, CopyFormat as Parsed, CopyTarget};
    let is_csv_file = match &copy.endpoint {
        CopyEndpoint::File(path) => path.to_ascii_lowercase().ends_with(".csv"),
        CopyEndpoint::Stdin | CopyEndpoint::Stdout => false,
    };
    let table = match &copy.target {
        CopyTarget::Table { name, .. } => asofdb_sql::fold(name),
        CopyTarget::Query(_) => return Err(InputError::new("0A000", "COPY FROM needs a source")),
    };
    let format = match copy.format {
        None if is_csv_file => CopyFormat::Csv,
        None | Some(Parsed::Text) => CopyFormat::Text,
        Some(Parsed::Csv) => CopyFormat::Csv,
        Some(Parsed::Binary) => CopyFormat::Binary,
        Some(Parsed::Parquet) => {
            return Err(InputError::new("0A000", "COPY in format parquet needs a file"));
        }
    };
    let byte = |option: &str, value: Option<char>| {
        let byte = value.map(|c| u8::try_from(c).ok().filter(u8::is_ascii));
        byte.map(|byte| {
            let message = format!("COPY {option} must be a single one-byte character");
            byte.ok_or_else(|| InputError::new("22023", message))
        })
        .transpose()
    };
    let mut options = CopyOptions::new(table, format);
    if let Some(delimiter) = byte("delimiter", copy.delimiter)? {
        options.delimiter = delimiter;
    }
    if let Some(quote) = byte("quote", copy.quote)? {
        (options.quote, options.escape) = (quote, quote);
    }
    if let Some(escape) = byte("escape", copy.escape)? {
        options.escape = escape;
    }
    if let Some(null) = &copy.null {
        options.null.clone_from(null);
    }
    if copy.header == Some(true) {
        options.header = Header::Skip;
    }
    options.check()?;
    Ok(options)
}

/// Turns the bytes of a `COPY` into batches of a schema.
pub struct CopyParser {
    input: Input,
    rows: Rows,
}

enum Input {
    Lines(lines::Lines),
    Binary(binary::Binary),
}

impl CopyParser {
    /// A parser of data with the columns of `schema` in order.
    pub fn new(schema: SchemaRef, options: CopyOptions) -> Result<Self, CopyError> {
        let table = options.table.clone();
        options.check().map_err(|e| CopyError::new(e, String::new()))?;
        let input = match options.format {
            CopyFormat::Binary => Input::Binary(binary::Binary::default()),
            CopyFormat::Text | CopyFormat::Csv => Input::Lines(lines::Lines::new(options)),
        };
        Ok(CopyParser { input, rows: Rows::new(schema, table)? })
    }

    /// Takes the next bytes; full batches are appended to `batches`.
    pub fn feed(&mut self, bytes: &[u8], batches: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        match &mut self.input {
            Input::Lines(lines) => lines.feed(bytes, &mut self.rows, batches),
            Input::Binary(binary) => binary.feed(bytes, &mut self.rows, batches),
        }
    }

    /// Takes the end of the data; the last batch is appended to `batches`.
    pub fn finish(mut self, batches: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        match &mut self.input {
            Input::Lines(lines) => lines.finish(&mut self.rows, batches)?,
            Input::Binary(binary) => binary.finish(&self.rows)?,
        }
        self.rows.flush(batches)
    }
}

/// Reads a whole file or stream, giving each batch to `sink` as soon as it is full, so that no
/// more than one is held here. An error of `sink` ends the reading. Returns the number of rows.
pub fn read_all(
    mut source: impl std::io::Read,
    schema: SchemaRef,
    options: CopyOptions,
    mut sink: impl FnMut(RecordBatch) -> Result<(), CopyError>,
) -> std::io::Result<Result<u64, CopyError>> {
    let mut parser = match CopyParser::new(schema, options) {
        Ok(parser) => parser,
        Err(error) => return Ok(Err(error)),
    };
    let mut buffer = vec![0; 1 << 18];
    let mut batches = Vec::new();
    let mut rows = 0;
    let mut give = |batches: &mut Vec<RecordBatch>| {
        for batch in batches.drain(..) {
            rows += batch.num_rows() as u64;
            sink(batch)?;
        }
        Ok(())
    };
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let fed = parser.feed(&buffer[..count], &mut batches);
        if let Err(error) = fed.and_then(|()| give(&mut batches)) {
            return Ok(Err(error));
        }
    }
    let finished = parser.finish(&mut batches).and_then(|()| give(&mut batches));
    Ok(finished.map(|()| rows))
}

/// The rows of the batch under construction.
struct Rows {
    schema: SchemaRef,
    table: String,
    builders: Vec<ColumnBuilder>,
    count: usize,
    /// The line, or in binary the row, that is being read; from 1.
    line: u64,
}

impl Rows {
    fn new(schema: SchemaRef, table: String) -> Result<Self, CopyError> {
        let builders = schema.fields().iter().map(|field| ColumnBuilder::new(field.data_type()));
        let builders = builders.collect::<Result<_, _>>();
        let builders = builders.map_err(|e| CopyError::new(e, format!("COPY {table}")))?;
        Ok(Rows { schema, table, builders, count: 0, line: 0 })
    }

    fn columns(&self) -> usize {
        self.builders.len()
    }

    fn column_name(&self, column: usize) -> &str {
        self.schema.field(column).name()
    }

    fn push_text(&mut self, column: usize, value: Option<&str>) -> Result<(), CopyError> {
        let builder = &mut self.builders[column];
        match value {
            None => builder.append_null(),
            Some(text) => builder.append_text(text).map_err(|error| {
                let context = self.at_column(column);
                CopyError::new(error, format!("{context}: \"{}\"", crate::input::shorten(text)))
            })?,
        }
        Ok(())
    }

    fn push_binary(&mut self, column: usize, value: Option<&[u8]>) -> Result<(), CopyError> {
        match value {
            None => self.builders[column].append_null(),
            Some(bytes) => self.builders[column]
                .append_binary(bytes)
                .map_err(|error| CopyError::new(error, self.at_column(column)))?,
        }
        Ok(())
    }

    fn at_column(&self, column: usize) -> String {
        let Rows { table, line, .. } = self;
        format!("COPY {table}, line {line}, column {}", self.column_name(column))
    }

    /// An error about the whole line.
    fn line_error(&self, error: InputError, line: &[u8]) -> CopyError {
        let text = String::from_utf8_lossy(line);
        let shown = crate::input::shorten(&text);
        CopyError::new(error, format!("COPY {}, line {}: \"{shown}\"", self.table, self.line))
    }

    fn error(&self, code: &'static str, message: impl Into<String>) -> CopyError {
        let context = format!("COPY {}, line {}", self.table, self.line);
        CopyError::new(InputError::new(code, message), context)
    }

    /// Ends a row; closes the batch if it is full.
    fn end_row(&mut self, batches: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        self.count += 1;
        let bytes = || self.builders.iter().map(ColumnBuilder::size_bytes).sum::<usize>();
        if self.count >= BATCH_ROWS || (self.count.is_multiple_of(64) && bytes() >= BATCH_BYTES) {
            self.flush(batches)?;
        }
        Ok(())
    }

    fn flush(&mut self, batches: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        if self.count == 0 {
            return Ok(());
        }
        let arrays: Result<Vec<ArrayRef>, InputError> =
            self.builders.iter_mut().map(ColumnBuilder::finish).collect();
        let context = format!("COPY {}", self.table);
        let arrays = arrays.map_err(|e| CopyError::new(e, context.clone()))?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|_| CopyError::new(self.null_error(), context))?;
        self.count = 0;
        batches.push(batch);
        Ok(())
    }

    /// A batch can only be refused for a NULL where the schema allows none.
    fn null_error(&self) -> InputError {
        let message = format!("null value in a column of \"{}\" that allows none", self.table);
        InputError::new("23502", message)
    }
}

#[cfg(test)]
mod tests;
