//! Bound parameters: from text or binary, by their declared PostgreSQL type, to the scalar that
//! a statement wants.

use arrow::array::Array;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use postgres_types::{Kind, Type};

use crate::input::{ColumnBuilder, InputError, decode_numeric, shorten, utf8};
use crate::types::{arrow_type, sql_name};

/// A parameter in the format in which it came.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// The type the client declared; `None` where it left it open.
    pub declared: Option<&'a Type>,
    /// Its bytes, `None` for NULL.
    pub value: Option<&'a [u8]>,
    /// Whether the bytes are the type's binary form.
    pub binary: bool,
}

/// The scalar of type `wanted` that a parameter is. [`DataType::Null`] wants whatever the
/// client declared, and text if it declared nothing.
pub fn decode(parameter: Parameter<'_>, wanted: &DataType) -> Result<ScalarValue, InputError> {
    if let Some(scalar) = parameter.value.and_then(|bytes| fast(parameter, bytes, wanted)) {
        return Ok(scalar);
    }
    let declared = parameter.declared.and_then(arrow_type);
    let wanted = match wanted {
        DataType::Null => declared.clone().unwrap_or(DataType::Utf8),
        wanted => wanted.clone(),
    };
    let Some(bytes) = parameter.value else {
        return ScalarValue::try_from(&wanted).map_err(|_| unsupported(&wanted));
    };
    if !parameter.binary {
        return from_text(utf8(bytes)?, declared.as_ref(), &wanted);
    }
    match parameter.declared {
        Some(&Type::NUMERIC) => from_text(&decode_numeric(bytes)?, None, &wanted),
        Some(&Type::OID) => {
            let bytes = bytes.try_into().map_err(|_| InputError::binary("oid"))?;
            cast(ScalarValue::Int64(Some(i64::from(u32::from_be_bytes(bytes)))), &wanted, "")
        }
        Some(&Type::JSONB) => match bytes.split_first() {
            Some((1, json)) => from_text(utf8(json)?, None, &wanted),
            _ => Err(InputError::binary("jsonb")),
        },
        Some(other) if declared.is_none() && !is_text(other) => {
            let message =
                format!("parameters of type {} are not supported in binary format", other.name());
            Err(InputError::new("0A000", message))
        }
        declared_type => {
            let source = match (declared, declared_type) {
                (Some(source), _) => source,
                (None, Some(_)) => DataType::Utf8,
                (None, None) => wanted.clone(),
            };
            let source = special_array(declared_type, &wanted).unwrap_or(source);
            let mut builder = ColumnBuilder::new(&source)?;
            builder.append_binary(bytes)?;
            cast(scalar(&mut builder)?, &wanted, "")
        }
    }
}

/// The commonest parameters of all: a number of eight bytes, and the digits of an integer.
fn fast(parameter: Parameter<'_>, bytes: &[u8], wanted: &DataType) -> Option<ScalarValue> {
    match (parameter.declared, wanted) {
        (None | Some(&Type::INT8), DataType::Int64) => {
            let value = match parameter.binary {
                true => i64::from_be_bytes(bytes.try_into().ok()?),
                false => digits(bytes)?,
            };
            Some(ScalarValue::Int64(Some(value)))
        }
        (None | Some(&Type::FLOAT8), DataType::Float64) if parameter.binary => {
            Some(ScalarValue::Float64(Some(f64::from_be_bytes(bytes.try_into().ok()?))))
        }
        _ => None,
    }
}

/// The integer that is written with digits only, and few enough that it cannot be out of range.
fn digits(text: &[u8]) -> Option<i64> {
    let plain = matches!(text.len(), 1..=18) && text.iter().all(u8::is_ascii_digit);
    plain.then(|| text.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

fn is_text(declared: &Type) -> bool {
    matches!(*declared, Type::UNKNOWN | Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME)
}

/// Arrays of which the elements are read otherwise than [`arrow_type`] says: those of numeric as
/// the wanted type, so that no digit is lost, those of oid as the four bytes they have.
fn special_array(declared: Option<&Type>, wanted: &DataType) -> Option<DataType> {
    let Kind::Array(element) = declared?.kind() else { return None };
    match wanted {
        DataType::List(item) if *element == Type::NUMERIC && item.data_type().is_decimal() => {
            Some(wanted.clone())
        }
        _ if *element == Type::OID => Some(DataType::new_list(DataType::Int32, true)),
        _ => None,
    }
}

/// A text is read as the declared type; if that holds more or other values than the wanted
/// one, it is cast then.
fn from_text(
    text: &str,
    declared: Option<&DataType>,
    wanted: &DataType,
) -> Result<ScalarValue, InputError> {
    let exact = match declared {
        // Numbers of any spelling into a decimal, and texts into anything, are read at once.
        None | Some(DataType::Utf8 | DataType::Decimal128(..)) => true,
        Some(declared) => declared == wanted,
    };
    if let (true, true) = (exact, wanted.is_integer()) {
        return integer_from_numeric(text, declared, wanted);
    }
    let source = if exact { wanted } else { declared.unwrap_or(wanted) };
    let mut builder = ColumnBuilder::new(source)?;
    builder.append_text(text)?;
    cast(scalar(&mut builder)?, wanted, text)
}

/// A declared `numeric` may have a fraction, which rounds as PostgreSQL's cast does.
fn integer_from_numeric(
    text: &str,
    declared: Option<&DataType>,
    wanted: &DataType,
) -> Result<ScalarValue, InputError> {
    let numeric = matches!(declared, Some(DataType::Decimal128(..)))
        || (declared.is_none() && text.contains('.'));
    let source = if numeric { &DataType::Decimal128(38, 0) } else { wanted };
    let mut builder = ColumnBuilder::new(source)?;
    builder.append_text(text)?;
    cast(scalar(&mut builder)?, wanted, text)
}

fn scalar(builder: &mut ColumnBuilder) -> Result<ScalarValue, InputError> {
    let array = builder.finish()?;
    ScalarValue::try_from_array(&array, 0).map_err(|_| unsupported(array.data_type()))
}

fn cast(value: ScalarValue, wanted: &DataType, text: &str) -> Result<ScalarValue, InputError> {
    let source = value.data_type();
    if source == *wanted {
        return Ok(value);
    }
    let shown = if text.is_empty() { value.to_string() } else { text.to_owned() };
    let array = value.to_array().map_err(|_| unsupported(wanted))?;
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(&array, wanted, &options).map_err(|_| {
        let number = source.is_numeric() && wanted.is_numeric();
        match number {
            true => InputError::range(&sql_name(wanted), &shown),
            false if source == DataType::Utf8 => InputError::syntax(&sql_name(wanted), &shown),
            false => {
                let (from, to) = (sql_name(&source), sql_name(wanted));
                let message = format!("cannot use \"{}\" of type {from} as {to}", shorten(&shown));
                InputError::new("42804", message)
            }
        }
    })?;
    ScalarValue::try_from_array(&cast, 0).map_err(|_| unsupported(wanted))
}

fn unsupported(data_type: &DataType) -> InputError {
    let message = format!("parameters of type {} are not supported", sql_name(data_type));
    InputError::new("0A000", message)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    fn text(
        declared: Option<&Type>,
        value: &str,
        wanted: DataType,
    ) -> Result<ScalarValue, InputError> {
        decode(Parameter { declared, value: Some(value.as_bytes()), binary: false }, &wanted)
    }

    fn binary(
        declared: Option<&Type>,
        value: &[u8],
        wanted: DataType,
    ) -> Result<ScalarValue, InputError> {
        decode(Parameter { declared, value: Some(value), binary: true }, &wanted)
    }

    #[test]
    fn the_declared_type_is_cast_to_the_wanted_one() {
        let seven = ScalarValue::Int64(Some(7));
        let bytes = 7_i32.to_be_bytes();
        assert_eq!(binary(Some(&Type::INT4), &bytes, DataType::Int64).unwrap(), seven);
        assert_eq!(binary(None, &7_i64.to_be_bytes(), DataType::Int64).unwrap(), seven);
        assert_eq!(text(None, "7", DataType::Int64).unwrap(), seven);
        assert_eq!(text(Some(&Type::INT2), "7", DataType::Int64).unwrap(), seven);
        assert_eq!(text(Some(&Type::NUMERIC), "6.5", DataType::Int64).unwrap(), seven);
        let float = ScalarValue::Float64(Some(7.0));
        assert_eq!(binary(Some(&Type::INT4), &bytes, DataType::Float64).unwrap(), float);
        let big = i64::MAX.to_be_bytes();
        let error = binary(Some(&Type::INT8), &big, DataType::Int32).unwrap_err();
        assert_eq!(error.code, "22003");
    }

    #[test]
    fn numerics() {
        // 12.34
        let bytes = [0, 2, 0, 0, 0, 0, 0, 2, 0, 12, 0x0d, 0x48];
        let decimal = binary(Some(&Type::NUMERIC), &bytes, DataType::Decimal128(10, 3)).unwrap();
        assert_eq!(decimal, ScalarValue::Decimal128(Some(12_340), 10, 3));
        let float = binary(Some(&Type::NUMERIC), &bytes, DataType::Float64).unwrap();
        assert_eq!(float, ScalarValue::Float64(Some(12.34)));
    }

    #[test]
    fn nulls_have_the_wanted_type() {
        let null = Parameter { declared: None, value: None, binary: false };
        assert_eq!(decode(null, &DataType::Int64).unwrap(), ScalarValue::Int64(None));
        assert_eq!(decode(null, &DataType::Null).unwrap(), ScalarValue::Utf8(None));
        let list = DataType::new_list(DataType::Int64, true);
        assert_eq!(decode(null, &list).unwrap().data_type(), list);
    }

    #[test]
    fn arrays_of_both_formats() {
        let list = DataType::new_list(DataType::Int64, true);
        let from_text = text(Some(&Type::INT4_ARRAY), "{1,2}", list.clone()).unwrap();
        let mut bytes = Vec::new();
        for part in [1_i32, 0, 23, 2, 1, 4, 1, 4, 2] {
            bytes.extend(part.to_be_bytes());
        }
        let from_binary = binary(Some(&Type::INT4_ARRAY), &bytes, list).unwrap();
        assert_eq!(from_text, from_binary);
        assert_eq!(from_text.to_string(), "[1, 2]");
    }

    #[test]
    fn instants_and_texts() {
        let wanted = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let micros = 1_357_035_300_000_000_i64;
        let expected = ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
        let pg = (micros - crate::input::PG_EPOCH_MICROS).to_be_bytes();
        assert_eq!(binary(Some(&Type::TIMESTAMPTZ), &pg, wanted.clone()).unwrap(), expected);
        let iso = "2013-01-01 11:15:00+01";
        assert_eq!(text(Some(&Type::TEXT), iso, wanted).unwrap(), expected);
        let value = ScalarValue::Utf8View(Some("x".into()));
        assert_eq!(binary(Some(&Type::VARCHAR), b"x", DataType::Utf8View).unwrap(), value);
    }

    #[test]
    fn errors_name_value_and_type() {
        let error = text(None, "x1", DataType::Int64).unwrap_err();
        assert_eq!(error.code, "22P02");
        assert_eq!(error.message, "invalid input syntax for type bigint: \"x1\"");
        assert_eq!(binary(Some(&Type::INT4), &[1], DataType::Int64).unwrap_err().code, "22P03");
        assert_eq!(text(None, "\u{0}", DataType::Utf8).unwrap_err().code, "22021");
        let error = binary(Some(&Type::POINT), &[1], DataType::Int64).unwrap_err();
        assert_eq!(error.code, "0A000");
    }
}
