//! Known PostgreSQL texts and bytes.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Int32Type, IntervalMonthDayNano, i256};

use super::*;
use crate::input::decode_numeric;

fn fields(array: ArrayRef, form: Form) -> Vec<Option<Vec<u8>>> {
    let column = Column::new(&array).unwrap();
    let value = |row| {
        let mut out = BytesMut::new();
        column.write(form, row, &mut out);
        out.to_vec()
    };
    (0..array.len()).map(|row| (!column.is_null(row)).then(|| value(row))).collect()
}

fn texts(array: impl Array + 'static) -> Vec<String> {
    let fields = fields(Arc::new(array), Form::Text);
    fields
        .into_iter()
        .map(|f| f.map_or("NULL!".into(), |f| String::from_utf8(f).unwrap()))
        .collect()
}

fn binary(array: impl Array + 'static) -> Vec<u8> {
    fields(Arc::new(array), Form::Binary).remove(0).unwrap()
}

#[test]
fn floats() {
    let values = [
        0.0,
        -0.0,
        1.0,
        0.1,
        1e14,
        1e15,
        1e20,
        123456789012345.0,
        1234567890123456.0,
        1e-4,
        1e-5,
        1.5e300,
        5e-324,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.30000000000000004,
        -2.5,
        12.25,
    ];
    let expected = [
        "0",
        "-0",
        "1",
        "0.1",
        "100000000000000",
        "1e+15",
        "1e+20",
        "123456789012345",
        "1.234567890123456e+15",
        "0.0001",
        "1e-05",
        "1.5e+300",
        "5e-324",
        "NaN",
        "Infinity",
        "-Infinity",
        "0.30000000000000004",
        "-2.5",
        "12.25",
    ];
    assert_eq!(texts(Float64Array::from(values.to_vec())), expected);
    let singles = Float32Array::from(vec![0.1_f32, 1234567.0, 123456.0, 1e-5, 16777216.0]);
    assert_eq!(texts(singles), ["0.1", "1.234567e+06", "123456", "1e-05", "1.6777216e+07"]);
    assert_eq!(binary(Float64Array::from(vec![1.0])), [0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn integers_and_booleans() {
    assert_eq!(texts(Int64Array::from(vec![i64::MIN, 0])), ["-9223372036854775808", "0"]);
    assert_eq!(texts(UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
    assert_eq!(texts(Int8Array::from(vec![Some(-7), None])), ["-7", "NULL!"]);
    assert_eq!(binary(UInt32Array::from(vec![u32::MAX])), [0, 0, 0, 0, 255, 255, 255, 255]);
    assert_eq!(texts(BooleanArray::from(vec![true, false])), ["t", "f"]);
    assert_eq!(texts(NullArray::new(1)), ["NULL!"]);
}

fn decimal(value: i128, precision: u8, scale: i8) -> Decimal128Array {
    Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap()
}

#[test]
fn decimals() {
    let text = |v, p, s| texts(decimal(v, p, s)).remove(0);
    assert_eq!(text(1234, 10, 2), "12.34");
    assert_eq!(text(-5, 10, 2), "-0.05");
    assert_eq!(text(0, 10, 2), "0.00");
    assert_eq!(text(0, 10, -2), "0");
    assert_eq!(text(12, 10, -2), "1200");
    assert_eq!(text(100, 3, 3), "0.100");
    let nines = 10_i128.pow(38) - 1;
    assert_eq!(text(nines, 38, 0), "9".repeat(38));
    assert_eq!(text(-nines, 38, 38), format!("-0.{}", "9".repeat(38)));
    let wide = Decimal256Array::from(vec![i256::from_i128(-1234)]);
    assert_eq!(texts(wide.with_precision_and_scale(50, 2).unwrap()), ["-12.34"]);
}

#[test]
fn decimals_in_binary() {
    let bytes = |halves: &[u16]| halves.iter().flat_map(|h| h.to_be_bytes()).collect::<Vec<_>>();
    assert_eq!(binary(decimal(1234, 10, 2)), bytes(&[2, 0, 0, 2, 12, 3400]));
    assert_eq!(binary(decimal(0, 10, 2)), bytes(&[0, 0, 0, 2]));
    assert_eq!(binary(decimal(-10_000, 10, 0)), bytes(&[1, 1, 0x4000, 0, 1]));
    assert_eq!(binary(decimal(5, 10, 8)), bytes(&[1, 0xfffe, 0, 8, 5]));
    assert_eq!(binary(decimal(12, 10, -3)), bytes(&[2, 1, 0, 0, 1, 2000]));
    assert_eq!(binary(decimal(100_010_000, 10, 4)), bytes(&[2, 1, 0, 4, 1, 1]));
    let nines = 10_i128.pow(38) - 1;
    for (value, scale) in [(nines, 0), (-nines, 38), (nines, 19), (7, 38), (1, 0), (50_000, 5)] {
        let text = texts(decimal(value, 38, scale)).remove(0);
        let read = decode_numeric(&binary(decimal(value, 38, scale))).unwrap();
        let (sign, digits) = read.strip_prefix('-').map_or(("", &*read), |d| ("-", d));
        let trimmed = digits.trim_start_matches('0');
        let zero = if trimmed.is_empty() || trimmed.starts_with('.') { "0" } else { "" };
        assert_eq!(format!("{sign}{zero}{trimmed}"), text);
    }
}

#[test]
fn instants() {
    let micros = 1_357_035_300_000_000;
    let with_zone = |v: Vec<i64>| TimestampMicrosecondArray::from(v).with_timezone("UTC");
    let values = vec![micros, micros + 120_000, -1, -62_135_596_800_000_001, i64::MAX, i64::MIN];
    let expected = [
        "2013-01-01 10:15:00+00",
        "2013-01-01 10:15:00.12+00",
        "1969-12-31 23:59:59.999999+00",
        "0001-12-31 23:59:59.999999+00 BC",
        "infinity",
        "-infinity",
    ];
    assert_eq!(texts(with_zone(values)), expected);
    assert_eq!(texts(TimestampSecondArray::from(vec![0])), ["1970-01-01 00:00:00"]);
    let far = 253_402_300_800_000_000; // 10000-01-01
    assert_eq!(texts(TimestampMicrosecondArray::from(vec![far])), ["10000-01-01 00:00:00"]);
    assert_eq!(binary(with_zone(vec![946_684_800_000_001])), 1_i64.to_be_bytes());
    assert_eq!(binary(with_zone(vec![i64::MAX])), i64::MAX.to_be_bytes());
}

#[test]
fn dates_times_and_intervals() {
    assert_eq!(
        texts(Date32Array::from(vec![0, 11_016, -735_160])),
        ["1970-01-01", "2000-02-29", "0044-03-15 BC"]
    );
    assert_eq!(binary(Date32Array::from(vec![0])), (-10_957_i32).to_be_bytes());
    assert_eq!(texts(Time64MicrosecondArray::from(vec![36_900_500_000])), ["10:15:00.5"]);
    let value = IntervalMonthDayNano::new;
    let hour = 3_600_000_000_000;
    let intervals = vec![
        value(14, 3, 14_706_500_000_000),
        value(0, 0, 0),
        value(0, -1, hour),
        value(-13, 0, -hour),
        value(12, 1, 0),
        value(0, 0, 25 * hour),
    ];
    assert_eq!(
        texts(IntervalMonthDayNanoArray::from(intervals)),
        [
            "1 year 2 mons 3 days 04:05:06.5",
            "00:00:00",
            "-1 days +01:00:00",
            "-1 years -1 mons -01:00:00",
            "1 year 1 day",
            "25:00:00",
        ]
    );
    assert_eq!(texts(DurationSecondArray::from(vec![90_061])), ["25:01:01"]);
}

#[test]
fn arrays() {
    let words = ["a", "b c", "", "NULL", "x\"y\\", "{1,2}"];
    let values: ArrayRef = Arc::new(StringArray::from(words.to_vec()));
    let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let lists = ListArray::new(field, OffsetBuffer::from_lengths([6]), values, None);
    assert_eq!(texts(lists), [r#"{a,"b c","","NULL","x\"y\\","{1,2}"}"#]);

    let numbers = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None]),
        Some(vec![]),
        None,
    ]);
    assert_eq!(texts(numbers.clone()), ["{1,NULL}", "{}", "NULL!"]);
    let mut expected = Vec::new();
    for part in [1_i32, 1, 23, 2, 1, 4, 1, -1] {
        expected.extend(part.to_be_bytes());
    }
    assert_eq!(binary(numbers.clone()), expected);
    assert_eq!(binary(numbers.slice(1, 1)), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23]);
}

#[test]
fn texts_bytes_and_dictionaries() {
    assert_eq!(texts(StringViewArray::from(vec!["é"])), ["é"]);
    assert_eq!(texts(LargeStringArray::from(vec!["x"])), ["x"]);
    assert_eq!(texts(BinaryArray::from(vec![b"\x00\xff".as_slice()])), ["\\x00ff"]);
    let dictionary: DictionaryArray<Int32Type> =
        vec![Some("a"), None, Some("a")].into_iter().collect();
    assert_eq!(texts(dictionary), ["a", "NULL!", "a"]);
}

#[test]
fn rows_are_whole_messages() {
    let a: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
    let b: ArrayRef = Arc::new(StringArray::from(vec!["x", "yz"]));
    let batch = RecordBatch::try_from_iter([("a", a), ("b", b)]).unwrap();
    let encoder = BatchEncoder::new(&batch, &[true, false]).unwrap();
    let mut out = BytesMut::new();
    (0..encoder.rows()).for_each(|row| encoder.write_row(row, &mut out));
    let first = [b"D\0\0\0\x13\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x01x".as_slice()].concat();
    let second = [b"D\0\0\0\x10\0\x02\xff\xff\xff\xff\0\0\0\x02yz".as_slice()].concat();
    assert_eq!(out, [first, second].concat());
}

#[test]
fn format_codes() {
    assert_eq!(formats(&[], 2), Some(vec![false, false]));
    assert_eq!(formats(&[1], 2), Some(vec![true, true]));
    assert_eq!(formats(&[1, 0], 2), Some(vec![true, false]));
    assert_eq!(formats(&[1, 0], 3), None);
    assert_eq!(formats(&[2], 1), None);
}
