//! Awkward data, cut at every byte.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};

use super::*;

fn schema(types: &[DataType]) -> SchemaRef {
    let names = ["id", "amount", "note", "more"];
    let fields = types.iter().zip(names).map(|(t, name)| Field::new(name, t.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn run(
    types: &[DataType],
    options: CopyOptions,
    pieces: &[&[u8]],
) -> Result<Vec<RecordBatch>, CopyError> {
    let mut parser = CopyParser::new(schema(types), options)?;
    let mut batches = Vec::new();
    for piece in pieces {
        parser.feed(piece, &mut batches)?;
    }
    parser.finish(&mut batches)?;
    Ok(batches)
}

/// The rows of text columns, the same wherever the data is cut.
fn texts(
    options: &CopyOptions,
    columns: usize,
    data: &[u8],
) -> Result<Vec<Vec<Option<String>>>, CopyError> {
    let types = vec![DataType::Utf8; columns];
    let rows = |batches: Vec<RecordBatch>| {
        let mut rows = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let value = |column: &ArrayRef| {
                    let column = column.as_string::<i32>();
                    column.is_valid(row).then(|| column.value(row).to_owned())
                };
                rows.push(batch.columns().iter().map(value).collect());
            }
        }
        rows
    };
    let whole = run(&types, options.clone(), &[data]).map(rows);
    for cut in 0..=data.len() {
        let pieces = [&data[..cut], &data[cut..]];
        assert_eq!(run(&types, options.clone(), &pieces).map(rows), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(run(&types, options.clone(), &bytes).map(rows), whole, "byte by byte");
    whole
}

fn text() -> CopyOptions {
    CopyOptions::new("t", CopyFormat::Text)
}

fn csv() -> CopyOptions {
    CopyOptions::new("t", CopyFormat::Csv)
}

fn some(rows: &[&[&str]]) -> Vec<Vec<Option<String>>> {
    let value = |v: &&str| (*v != "NULL!").then(|| (*v).to_owned());
    rows.iter().map(|row| row.iter().map(value).collect()).collect()
}

#[test]
fn text_escapes() {
    let data = b"a\\tb\t\\N\n\\\\N\t\\x41\\102\\\t\nx\\\ny\t\\q\\\n\n\t\n";
    let expected = [["a\tb", "NULL!"], ["\\N", "AB\t"], ["x\ny", "q\n"], ["", ""]];
    let expected = expected.each_ref().map(|row| row.as_slice());
    assert_eq!(texts(&text(), 2, data).unwrap(), some(&expected));
    let error = texts(&text(), 2, b"a\n").unwrap_err();
    assert_eq!(error.error.message, "missing data for column \"amount\"");
}

#[test]
fn text_ends() {
    assert_eq!(texts(&text(), 1, b"a\nb").unwrap(), some(&[&["a"], &["b"]]));
    assert_eq!(texts(&text(), 1, b"a\r\nb\r\n").unwrap(), some(&[&["a"], &["b"]]));
    assert_eq!(texts(&text(), 1, b"a\n\\.\nignored\tx\n").unwrap(), some(&[&["a"]]));
    assert_eq!(texts(&text(), 1, b"").unwrap(), some(&[]));
    assert_eq!(texts(&text(), 1, b"\n").unwrap(), some(&[&[""]]));
    let error = texts(&text(), 1, b"a\nb\rc\n").unwrap_err();
    assert_eq!(error.error.code, "22P04");
    let error = texts(&text(), 1, b"a\nb\tc\n").unwrap_err();
    assert_eq!(error.error.message, "extra data after last expected column");
    assert_eq!(error.context, "COPY t, line 2: \"b\tc\"");
    let error = texts(&text(), 1, b"\\xff\n").unwrap_err();
    assert_eq!((error.error.code, error.context.as_str()), ("22021", "COPY t, line 1, column id"));
}

#[test]
fn csv_quotes() {
    let data = b"\"a \"\"q\"\", b\",\"two\nlines\"\n,\"\"\n ab\"c,d\"e , x\n\"\r\n\",\\.\n";
    let expected = some(&[
        &["a \"q\", b", "two\nlines"],
        &["NULL!", ""],
        &[" abc,de ", " x"],
        &["\r\n", "\\."],
    ]);
    assert_eq!(texts(&csv(), 2, data).unwrap(), expected);
    let crlf = b"a,b\r\n\"c\r\nd\",\r\n";
    assert_eq!(texts(&csv(), 2, crlf).unwrap(), some(&[&["a", "b"], &["c\r\nd", "NULL!"]]));
    assert_eq!(texts(&csv(), 1, b"a\n\\.\nb\n").unwrap(), some(&[&["a"]]));
    let error = texts(&csv(), 1, b"a\n\"b\nc").unwrap_err();
    assert_eq!(error.error.message, "unterminated CSV quoted field");
    assert_eq!(texts(&csv(), 1, b"a\nb\rc\n").unwrap_err().error.code, "22P04");
}

#[test]
fn csv_options() {
    let options = CopyOptions {
        delimiter: b';',
        null: "NA".into(),
        quote: b'\'',
        escape: b'\\',
        header: Header::Skip,
        ..csv()
    };
    let data = b"h1;h2;\n'it\\'s; \\\\';NA\n'NA';\n";
    assert_eq!(texts(&options, 2, data).unwrap(), some(&[&["it's; \\", "NULL!"], &["NA", ""]]));
    let header = CopyOptions { header: Header::Match, ..csv() };
    assert_eq!(texts(&header, 2, b"id,amount\n1,2\n").unwrap(), some(&[&["1", "2"]]));
    let error = texts(&header, 2, b"id,amounts\n1,2\n").unwrap_err();
    let message =
        "column name mismatch in header line field 2: got \"amounts\", expected \"amount\"";
    assert_eq!(error.error.message, message);
    for bad in [
        CopyOptions { delimiter: b'\n', ..csv() },
        CopyOptions { delimiter: b'"', ..csv() },
        CopyOptions { null: "a,b".into(), ..csv() },
        CopyOptions { delimiter: b'a', ..text() },
    ] {
        assert_eq!(run(&[], bad, &[]).unwrap_err().error.code, "22023");
    }
}

#[test]
fn values_and_their_errors() {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let types = [DataType::Int64, DataType::Float64, instant];
    let data = b"1\tNaN\t2013-01-01 10:15:00\n2\t-Infinity\t\\N\n";
    let batches = run(&types, text(), &[data]).unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(1), 2);
    assert!(batches[0].column(1).as_primitive::<Float64Type>().value(0).is_nan());
    assert!(batches[0].column(2).is_null(1));

    let fail = |data: &[u8]| run(&types, text(), &[data]).unwrap_err();
    let error = fail(b"1\t2\t\\N\n1\t2\t\\N\n1\tx\t\\N\n");
    assert_eq!(error.context, "COPY t, line 3, column amount: \"x\"");
    assert_eq!(error.error.code, "22P02");
    assert_eq!(fail(b"9223372036854775808\t1\t\\N\n").error.code, "22003");
    assert_eq!(fail(b"1\t1\tyesterday\n").error.code, "22007");
    assert_eq!(fail(b"1\t1\t2013-02-30\n").error.code, "22008");
    assert_eq!(fail(b"1\t1\tinfinity\n").error.code, "22008");
}

#[test]
fn embedded_newlines_count_as_lines() {
    let types = [DataType::Utf8, DataType::Int64];
    let error = run(&types, csv(), &[b"\"a\nb\",1\nc,x\n"]).unwrap_err();
    assert_eq!(error.context, "COPY t, line 3, column amount: \"x\"");
}

#[test]
fn batches_are_bounded() {
    let data = "7\n".repeat(BATCH_ROWS + 1);
    let batches = run(&[DataType::Int64], text(), &[data.as_bytes()]).unwrap();
    let rows: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(rows, [BATCH_ROWS, 1]);
}

fn binary_data() -> Vec<u8> {
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02zz".to_vec();
    data.extend(b"\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x07\0\0\0\x02hi");
    data.extend(b"\0\x02\xff\xff\xff\xff\0\0\0\0");
    data.extend(b"\xff\xff");
    data
}

#[test]
fn binary_rows() {
    let types = [DataType::Int64, DataType::Utf8];
    let options = CopyOptions::new("t", CopyFormat::Binary);
    let data = binary_data();
    for cut in 0..=data.len() {
        let batches = run(&types, options.clone(), &[&data[..cut], &data[cut..]]).unwrap();
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 7, "{cut}");
        assert!(batches[0].column(0).is_null(1));
        assert_eq!(batches[0].column(1).as_string::<i32>().value(0), "hi");
    }
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(run(&types, options.clone(), &bytes).unwrap()[0].num_rows(), 2);
    for length in 0..data.len() {
        let error = run(&types, options.clone(), &[&data[..length]]).unwrap_err();
        assert_eq!(error.error.code, "22P04", "{length}");
    }
    let trailing = [data.as_slice(), b"x"].concat();
    let error = run(&types, options.clone(), &[&trailing]).unwrap_err();
    assert_eq!(error.error.message, "received copy data after EOF marker");
    let error = run(&types[..1], options.clone(), &[&data]).unwrap_err();
    assert_eq!(error.error.message, "row field count is 2, expected 1");
    let error = run(&[DataType::Int32, DataType::Utf8], options, &[&data]).unwrap_err();
    assert_eq!((error.error.code, error.context.as_str()), ("22P03", "COPY t, line 1, column id"));
}

#[test]
fn files_are_read_in_pieces() {
    let data = "1\n2\n3\n";
    let mut rows = 0;
    let read = read_all(data.as_bytes(), schema(&[DataType::Int64]), text(), |batch| {
        rows += batch.num_rows();
        Ok(())
    });
    assert_eq!((read.unwrap().unwrap(), rows), (3, 3));
}
