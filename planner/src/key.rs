//! Keys as columns and as bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Field, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use asofdb_storage::key::{KeyPart, decode_key, encode_key_into};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};

/// Encodes the key in row `row` of `columns`; false where a part is NULL, which is no key.
pub fn encode_row(columns: &[ArrayRef], row: usize, key: &mut Vec<u8>) -> Result<bool> {
    key.clear();
    for column in columns {
        if column.is_null(row) {
            return Ok(false);
        }
        encode_key_into(key, &[key_part(column, row)?]);
    }
    Ok(true)
}

/// Whether columns of this type can be keys.
pub fn is_key_type(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Utf8
            | DataType::Boolean
            | DataType::Date32
            | DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _)
    )
}

/// The part of a key that a row of a column is, which is not NULL.
pub fn key_part(column: &ArrayRef, row: usize) -> Result<KeyPart<'_>> {
    Ok(match column.data_type() {
        DataType::Int16 => KeyPart::Int(column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => KeyPart::Int(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => KeyPart::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => KeyPart::Int(column.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(_, _) => {
            KeyPart::Int(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Utf8 => KeyPart::Text(column.as_string::<i32>().value(row)),
        DataType::Boolean => KeyPart::Bool(column.as_boolean().value(row)),
        other => return Err(Error::Internal(format!("{other} is no key type"))),
    })
}

/// The part of a key that a value is; `None` for NULL, which is no key.
pub fn scalar_part(value: &ScalarValue) -> Result<Option<KeyPart<'_>>> {
    Ok(match value {
        ScalarValue::Int16(value) => value.map(|value| KeyPart::Int(value.into())),
        ScalarValue::Int32(value) | ScalarValue::Date32(value) => {
            value.map(|value| KeyPart::Int(value.into()))
        }
        ScalarValue::Int64(value) | ScalarValue::TimestampMicrosecond(value, _) => {
            value.map(KeyPart::Int)
        }
        ScalarValue::Utf8(text) => text.as_deref().map(KeyPart::Text),
        ScalarValue::Boolean(value) => value.map(KeyPart::Bool),
        other => return Err(Error::Internal(format!("{} is no key type", other.data_type()))),
    })
}

/// The key columns of encoded keys, of the types of `fields`.
pub fn decode_keys(keys: &[Box<[u8]>], fields: &[Field]) -> Result<Vec<ArrayRef>> {
    use arrow::array::{BooleanArray, Int64Array, StringArray};
    let decoded = keys.iter().map(|k| Ok(decode_key(k)?)).collect::<Result<Vec<_>>>()?;
    let column = |index: usize, field: &Field| -> Result<ArrayRef> {
        let parts = decoded.iter().map(|parts| &parts[index]);
        let wrong = || Error::Internal("a key part has another type than its column".into());
        let array: ArrayRef = match field.data_type() {
            DataType::Utf8 => {
                let text = parts.map(|p| match p {
                    KeyPart::Text(text) => Ok(*text),
                    _ => Err(wrong()),
                });
                Arc::new(StringArray::from_iter_values(text.collect::<Result<Vec<_>>>()?))
            }
            DataType::Boolean => {
                let values = parts.map(|p| match p {
                    KeyPart::Bool(value) => Ok(*value),
                    _ => Err(wrong()),
                });
                Arc::new(BooleanArray::from(values.collect::<Result<Vec<_>>>()?))
            }
            _ => {
                let values = parts.map(|p| match p {
                    KeyPart::Int(value) => Ok(*value),
                    _ => Err(wrong()),
                });
                Arc::new(Int64Array::from(values.collect::<Result<Vec<_>>>()?))
            }
        };
        narrow(&array, field.data_type())
    };
    fields.iter().enumerate().map(|(index, field)| column(index, field)).collect()
}

/// 64-bit integers back to the key column's type.
fn narrow(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    let through = match data_type {
        DataType::Date32 => arrow::compute::cast(array, &DataType::Int32)?,
        _ => Arc::clone(array),
    };
    Ok(arrow::compute::cast(&through, data_type)?)
}
