//! Cells and the columns of a chunk as bytes.
//!
//! What is decoded may be damaged: decoding gives `None` then, and allocates no more than the
//! bytes that are there.

use arrow::datatypes::DataType;

use super::{Cell, Cells, Physical, Values, physical, take};
use crate::bytes;

/// Appends a value: numbers in as few bytes as they need, doubles in 8.
pub(crate) fn put_cell(cell: Cell<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Long(value) => bytes::put_signed(value, out),
        Cell::Double(value) => out.extend_from_slice(&value.to_bits().to_le_bytes()),
        Cell::Decimal(value) => bytes::put_wide(value, out),
        Cell::Bool(value) => out.push(u8::from(value)),
        Cell::Text(value) => {
            bytes::put(value.len() as u64, out);
            out.extend_from_slice(value.as_bytes());
        }
    }
}

/// Takes a value of a column's type off the front of what `put_cell` wrote.
pub(crate) fn take_cell<'a>(data_type: &DataType, from: &mut &'a [u8]) -> Option<Cell<'a>> {
    Some(match physical(data_type)? {
        Physical::Long => Cell::Long(bytes::take_signed(from)?),
        Physical::Double => {
            let bits = u64::from_le_bytes(take(from)?);
            let value = f64::from_bits(bits);
            // Cells hold one NaN only.
            if value.is_nan() && bits != f64::NAN.to_bits() {
                return None;
            }
            Cell::Double(value)
        }
        Physical::Decimal => Cell::Decimal(bytes::take_wide(from)?),
        Physical::Bool => match take(from)? {
            [0] => Cell::Bool(false),
            [1] => Cell::Bool(true),
            _ => return None,
        },
        Physical::Text => {
            let length = bytes::take_count(from, from.len())?;
            Cell::Text(std::str::from_utf8(bytes::take_slice(from, length)?).ok()?)
        }
    })
}

/// Appends the lowest `rows` bits: one byte if all are set.
fn put_bits(bits: u128, rows: usize, out: &mut Vec<u8>) {
    if bits.count_ones() as usize == rows {
        return out.push(1);
    }
    out.push(0);
    out.extend_from_slice(&bits.to_le_bytes()[..rows.div_ceil(8)]);
}

fn take_bits(rows: usize, from: &mut &[u8]) -> Option<u128> {
    let all = if rows == 128 { u128::MAX } else { (1 << rows) - 1 };
    match take(from)? {
        [1] => Some(all),
        [0] => {
            let mut word = [0; 16];
            let read = bytes::take_slice(from, rows.div_ceil(8))?;
            word.get_mut(..read.len())?.copy_from_slice(read);
            Some(u128::from_le_bytes(word)).filter(|bits| bits & !all == 0)
        }
        _ => None,
    }
}

impl Cells {
    /// The value of a row; `None` is NULL.
    fn get(&self, row: usize) -> Option<Cell<'_>> {
        if (self.valid >> row) & 1 == 0 {
            return None;
        }
        Some(match &self.values {
            Values::Long(values) => Cell::Long(*values.get(row)?),
            Values::Double(values) => Cell::Double(*values.get(row)?),
            Values::Decimal(values) => Cell::Decimal(*values.get(row)?),
            Values::Bool(bits) => Cell::Bool((bits >> row) & 1 == 1),
            Values::Text(values) => Cell::Text(values.get(row)?),
        })
    }

    /// Appends a column of `rows` rows.
    pub(crate) fn encode(&self, rows: usize, out: &mut Vec<u8>) {
        put_bits(self.valid, rows, out);
        match self.values {
            Values::Bool(bits) => put_bits(bits & self.valid, rows, out),
            _ => (0..rows).filter_map(|row| self.get(row)).for_each(|cell| put_cell(cell, out)),
        }
    }

    /// Takes a column of `rows` (at most 128) rows off the front of what `encode` wrote.
    pub(crate) fn decode(data_type: &DataType, rows: usize, from: &mut &[u8]) -> Option<Cells> {
        let valid = take_bits(rows, from)?;
        let mut cells = Cells::new(data_type);
        if let Values::Bool(bits) = &mut cells.values {
            *bits = take_bits(rows, from)?;
            let hidden = *bits & !valid != 0;
            cells.valid = valid;
            return (!hidden).then_some(cells);
        }
        for row in 0..rows {
            let cell = match (valid >> row) & 1 {
                1 => Some(take_cell(data_type, from)?),
                _ => None,
            };
            cells.insert(row, cell);
        }
        Some(cells)
    }
}
