//! A small file that unpacks to much more than the memory that queries may use.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use asofdb_tests::database::Database;
use asofdb_tests::process::ServerProcess;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::{PROGRAM, answer, refused};

/// The same text, this long, in this many rows: 768 MiB that a dictionary makes small.
const TEXT_BYTES: usize = 96 << 10;
const ROWS: usize = 8192;

/// What queries may use, and what the whole process may take then.
const LIMIT: &str = "64MiB";
const PROCESS_KIB: u64 = 400 << 10;

fn write(file: &Path) {
    let text = "x".repeat(TEXT_BYTES);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let batch = |rows: usize| {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|_| &text)));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let times = TimestampMicrosecondArray::from(vec![0; rows]).with_timezone("UTC");
        let columns = [("id", ids), ("body", texts), ("ts", Arc::new(times) as ArrayRef)];
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    };
    let file = File::create(file).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch(0).schema(), Some(properties)).expect("one");
    for _ in 0..ROWS / 512 {
        writer.write(&batch(512)).expect("writes");
    }
    writer.close().expect("a file");
}

/// The most memory that a process has had.
fn peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|text| text.split_whitespace().next()?.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_unpacks_to_very_much_takes_bounded_memory() {
    let database = Database::new(PROGRAM, Vec::new()).await;
    let files = tempfile::tempdir().expect("a folder");
    let file = files.path().join("bomb.parquet");
    write(&file);
    assert!(fs::metadata(&file).expect("a file").len() < 1 << 20, "it is small");
    let mut command = database.command();
    command.args(["--memory-limit", LIMIT, "--import-dir"]).arg(files.path());
    let server = ServerProcess::start(&mut command).expect("the binary serves");
    let client = server.connect().await;
    let source = "CREATE SOURCE bomb (id BIGINT, body TEXT, ts TIMESTAMPTZ) EVENT TIME ts \
                  WITH (connector = 'parquet', location = 'bomb.parquet');
                  CREATE SOURCE texts (id BIGINT, body TEXT, ts TIMESTAMPTZ) EVENT TIME ts";
    client.batch_execute(source).await.expect("declares");
    assert_eq!(answer(&client, "SELECT count(*) FROM bomb").await, [ROWS.to_string()]);
    let first = answer(&client, "SELECT length(body) FROM bomb LIMIT 1").await;
    assert_eq!(first, [TEXT_BYTES.to_string()]);
    assert_eq!(answer(&client, "SELECT id FROM bomb ORDER BY body, id LIMIT 1").await, ["0"]);
    // Whoever wants all of it at once does not get it.
    let (code, message) = refused(&client, "COPY texts FROM 'bomb.parquet'").await;
    assert_eq!(code, "53200", "{message}");
    assert_eq!(answer(&client, "SELECT count(*) FROM texts").await, ["0"]);
    let peak = peak_kib(server.id());
    println!("{} MiB at most", peak >> 10);
    assert!(peak < PROCESS_KIB, "{} MiB", peak >> 10);
}
