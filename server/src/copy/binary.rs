//! Rows of PostgreSQL's binary format: a header, tuples of counted fields, a trailer of -1.

use arrow::array::RecordBatch;

use super::{CopyError, MAX_ROW_BYTES, Rows};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the header's extension.
const HEADER_BYTES: usize = 19;

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Header,
    /// So many bytes of the header's extension are to be skipped.
    Extension(usize),
    Tuples,
    Ended,
}

/// The parser's place in the data.
#[derive(Default)]
pub(super) struct Binary {
    pending: Vec<u8>,
    state: State,
}

impl Binary {
    pub fn feed(
        &mut self,
        bytes: &[u8],
        rows: &mut Rows,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<(), CopyError> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut rest = pending.as_slice();
        while self.step(&mut rest, rows, batches)? {}
        if rest.len() > MAX_ROW_BYTES {
            let limit = MAX_ROW_BYTES >> 20;
            return Err(rows.error("54000", format!("a row is longer than {limit} MiB")));
        }
        let used = pending.len() - rest.len();
        pending.drain(..used);
        self.pending = pending;
        Ok(())
    }

    pub fn finish(&self, rows: &Rows) -> Result<(), CopyError> {
        match self.state {
            State::Ended => Ok(()),
            State::Header if self.pending.len() < SIGNATURE.len() => {
                Err(rows.error("22P04", "COPY file signature not recognized"))
            }
            _ => Err(rows.error("22P04", "unexpected EOF in COPY data")),
        }
    }

    /// Takes the next part off `rest`; `false` if it is not there as a whole.
    fn step(
        &mut self,
        rest: &mut &[u8],
        rows: &mut Rows,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<bool, CopyError> {
        match self.state {
            State::Header => self.header(rest, rows),
            State::Extension(length) => {
                let skipped = length.min(rest.len());
                *rest = &rest[skipped..];
                let left = length - skipped;
                self.state = if left == 0 { State::Tuples } else { State::Extension(left) };
                Ok(left == 0)
            }
            State::Tuples => self.tuple(rest, rows, batches),
            State::Ended if rest.is_empty() => Ok(false),
            State::Ended => Err(rows.error("22P04", "received copy data after EOF marker")),
        }
    }

    fn header(&mut self, rest: &mut &[u8], rows: &Rows) -> Result<bool, CopyError> {
        let known = rest.len().min(SIGNATURE.len());
        if rest[..known] != SIGNATURE[..known] {
            return Err(rows.error("22P04", "COPY file signature not recognized"));
        }
        let Some(header) = rest.get(..HEADER_BYTES) else { return Ok(false) };
        let flags = u32::from_be_bytes([header[11], header[12], header[13], header[14]]);
        if flags & (1 << 16) != 0 {
            return Err(rows.error("22P04", "invalid COPY file header (WITH OIDS)"));
        }
        if flags >> 16 != 0 {
            return Err(rows.error("22P04", "unrecognized critical flags in COPY file header"));
        }
        let length = i32::from_be_bytes([header[15], header[16], header[17], header[18]]);
        let length = usize::try_from(length)
            .map_err(|_| rows.error("22P04", "invalid COPY file header (wrong length)"))?;
        self.state = State::Extension(length);
        *rest = &rest[HEADER_BYTES..];
        Ok(true)
    }

    fn tuple(
        &mut self,
        rest: &mut &[u8],
        rows: &mut Rows,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<bool, CopyError> {
        let Some((count, mut tail)) = rest.split_first_chunk::<2>() else { return Ok(false) };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.state = State::Ended;
            *rest = tail;
            return Ok(true);
        }
        if count < 0 || count as usize != rows.columns() {
            rows.line += 1;
            let message = format!("row field count is {count}, expected {}", rows.columns());
            return Err(rows.error("22P04", message));
        }
        // First the lengths: nothing may be appended before the row is there as a whole.
        let start = tail;
        for _ in 0..count {
            match field(&mut tail) {
                Some(Ok(_)) => {}
                Some(Err(())) => {
                    rows.line += 1;
                    return Err(rows.error("22P04", "invalid field size"));
                }
                None => return Ok(false),
            }
        }
        rows.line += 1;
        tail = start;
        for column in 0..rows.columns() {
            if let Some(Ok(value)) = field(&mut tail) {
                rows.push_binary(column, value)?;
            }
        }
        *rest = tail;
        rows.end_row(batches)?;
        Ok(true)
    }
}

/// Takes a field off `rest`: `None` if it is not there as a whole, an error for a bad length.
fn field<'a>(rest: &mut &'a [u8]) -> Option<Result<Option<&'a [u8]>, ()>> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = i32::from_be_bytes(*length);
    if length == -1 {
        *rest = tail;
        return Some(Ok(None));
    }
    let Ok(length) = usize::try_from(length) else { return Some(Err(())) };
    let (value, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    Some(Ok(Some(value)))
}
