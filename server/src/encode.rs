//! Result columns as fields of `DataRow` messages, in PostgreSQL's text or binary format.
//!
//! A batch's columns are downcast once; each value is then written into the outgoing buffer
//! without a copy in between. Types without a form of their own are cast to one that has.

mod column;
mod datetime;
mod number;
mod scalar;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use asofdb_planner::Found;
use bytes::{BufMut, BytesMut};
use column::{Column, Form};
use pgwire::messages::data::FieldDescription;

use self::scalar::Scalar;
use crate::types::{pg_type, type_modifier, type_size};

/// A column's value can't be sent in the format that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A value that its wire type can't hold, such as an instant beyond the microseconds' range.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// Nested arrays have no binary form here.
    #[error("arrays of arrays are only supported in text format")]
    NestedArray,
}

/// The formats of all columns for the format codes of a Bind message: none is text for all, one
/// counts for all.
pub fn formats(codes: &[i16], columns: usize) -> Option<Vec<bool>> {
    if codes.iter().any(|code| !matches!(code, 0 | 1)) {
        return None;
    }
    match codes {
        [] => Some(vec![false; columns]),
        [code] => Some(vec![*code == 1; columns]),
        codes if codes.len() == columns => Some(codes.iter().map(|code| *code == 1).collect()),
        _ => None,
    }
}

/// The columns of a `RowDescription`. `binary` has one entry per column.
pub fn describe(schema: &Schema, binary: &[bool]) -> Vec<FieldDescription> {
    let fields = schema.fields().iter().zip(binary);
    fields
        .map(|(field, binary)| {
            let pg = pg_type(field.data_type());
            let size = type_size(&pg);
            let modifier = type_modifier(field.data_type());
            let format = i16::from(*binary);
            FieldDescription::new(field.name().clone(), 0, 0, pg.oid(), size, modifier, format)
        })
        .collect()
}

/// A batch whose rows can be written.
pub struct BatchEncoder {
    columns: Vec<(Column, Form)>,
    rows: usize,
}

impl BatchEncoder {
    /// `binary` has one entry per column.
    pub fn new(batch: &RecordBatch, binary: &[bool]) -> Result<Self, EncodeError> {
        let columns = batch.columns().iter().zip(binary);
        let columns = columns
            .map(|(array, binary)| {
                let form = if *binary { Form::Binary } else { Form::Text };
                if *binary && is_nested(array.data_type()) {
                    return Err(EncodeError::NestedArray);
                }
                Ok((Column::new(array)?, form))
            })
            .collect::<Result<_, _>>()?;
        Ok(BatchEncoder { columns, rows: batch.num_rows() })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends a row as a whole `DataRow` message.
    pub fn write_row(&self, row: usize, out: &mut BytesMut) {
        write_message(self.columns.len(), out, |out| {
            for (column, form) in &self.columns {
                write_field(column, *form, row, out);
            }
        });
    }
}

/// Appends a row that a lookup found as a whole `DataRow` message. `binary` has one entry per
/// column.
pub fn write_found(found: &Found, row: usize, binary: &[bool], out: &mut BytesMut) {
    let fields = found.schema().fields();
    write_message(fields.len(), out, |out| {
        for ((value, field), binary) in found.row(row).zip(fields).zip(binary) {
            match Scalar::of(value, field.data_type()) {
                None => out.put_i32(-1),
                Some(scalar) => {
                    let form = if *binary { Form::Binary } else { Form::Text };
                    write_sized(out, |out| scalar.write(form, out));
                }
            }
        }
    });
}

/// Appends a `DataRow` message whose fields `write` appends.
fn write_message(columns: usize, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(b'D');
    let start = out.len();
    out.put_u32(0);
    out.put_u16(columns as u16);
    write(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A field: its length and its bytes; -1 for NULL.
fn write_field(column: &Column, form: Form, row: usize, out: &mut BytesMut) {
    if column.is_null(row) {
        out.put_i32(-1);
        return;
    }
    write_sized(out, |out| column.write(form, row, out));
}

/// What `write` appends, after its length.
fn write_sized(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn is_nested(data_type: &DataType) -> bool {
    let item = |data_type: &DataType| match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item.data_type().clone())
        }
        _ => None,
    };
    item(data_type).and_then(|inner| item(&inner)).is_some()
}

#[cfg(test)]
mod tests;
