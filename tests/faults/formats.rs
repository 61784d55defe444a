//! Data folders of other versions, and folders that were moved.
//!
//! `tests/data/formats/<n>` holds folders as versions of this program wrote them; every later one
//! has to read them, or to refuse them by their version. When a format changes, a folder is added:
//!
//! ```sh
//! ASOFDB_WRITE_FORMAT=3 cargo test --workspace --test faults folders_of_earlier
//! ```
//!
//! and the number joins `EARLIER`. Folders that are there are never written anew.

use std::fs;
use std::path::{Path, PathBuf};

use asofdb_tests::clients::insert_rows;
use asofdb_tests::database::{Database, copy_folder, files_below, serve};
use asofdb_tests::process::ServerProcess;
use tokio_postgres::Client;

use crate::{PATIENCE, PROGRAM, answer, only_file, start_fails};

/// The folders that this version reads.
const EARLIER: &[u32] = &[1, 2];

const DECLARATIONS: &str = "
    CREATE SOURCE payments (id BIGINT NOT NULL, customer TEXT, shop INTEGER, amount NUMERIC(12, 2),
      rate DOUBLE PRECISION, weight REAL, small SMALLINT, settled BOOLEAN, day DATE,
      noted TIMESTAMP, code VARCHAR, ts TIMESTAMPTZ) EVENT TIME ts;
    CREATE SOURCE visits (customer TEXT, shop INTEGER, ts TIMESTAMPTZ) EVENT TIME ts
      WITH (retention = '900 years');
    CREATE ENTITY customers (customer TEXT);
    CREATE ENTITY pairs (customer TEXT, shop INTEGER);
    CREATE FEATURES ON customers AS
      SELECT count(*) OVER all_time AS n, sum(amount) OVER all_time AS spent,
        sum(rate) FILTER (WHERE settled) OVER w AS rates, avg(weight) OVER w AS weight,
        last_value(code) AS code, max(noted) OVER all_time AS noted
      FROM payments
      WINDOW w AS (RANGE INTERVAL '10 days' PRECEDING), all_time AS (RANGE UNBOUNDED PRECEDING);
    CREATE FEATURE spent_twice ON customers AS SELECT spent * 2;
    CREATE FEATURE visits ON pairs AS SELECT count(*) OVER (ROWS 3 PRECEDING) FROM visits;
    CREATE VIEW spenders AS SELECT customer, spent FROM customers WHERE spent > 50;";

/// The events with some numbers, as statements.
fn inserts(ids: std::ops::Range<u32>) -> String {
    let payment = |id: u32| {
        let (customer, day) = (["'ann'", "'bob'", "NULL", "'cy''d'"][id as usize % 4], id % 27 + 1);
        format!(
            "({id}, {customer}, {}, {}.{:02}, {}, {}, {}, {}, '2025-01-{day:02}', \
             '2025-01-{day:02} 10:00:{:02}', {}, '2025-01-{day:02} 12:{:02}:00Z')",
            id % 3,
            id * 7 % 100,
            id % 100,
            f64::from(id) * 0.1,
            f64::from(id) * 0.25,
            i64::from(id) - 20,
            id.is_multiple_of(2),
            id % 60,
            if id.is_multiple_of(5) { "NULL".to_owned() } else { format!("'c{id}'") },
            id % 60,
        )
    };
    let visit = |id: u32| format!("('{}', {}, '2025-02-01 00:{:02}:00Z')", id % 2, id % 3, id % 60);
    let listed = |row: &dyn Fn(u32) -> String| ids.clone().map(row).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO payments VALUES {}; INSERT INTO visits VALUES {}",
        listed(&payment),
        listed(&visit)
    )
}

/// What everything answers.
async fn answers(client: &Client) -> Vec<String> {
    let mut found = Vec::new();
    for query in [
        "SELECT * FROM payments ORDER BY id",
        "SELECT * FROM visits ORDER BY ts",
        "SELECT * FROM customers ORDER BY customer",
        "SELECT * FROM customers FOR SYSTEM_TIME AS OF TIMESTAMPTZ '2025-01-15 00:00:00Z' \
         ORDER BY customer",
        "SELECT * FROM pairs ORDER BY customer, shop",
        "SELECT * FROM spenders ORDER BY customer",
        "SELECT p.id, c.n, c.spent, c.rates, c.code FROM payments AS p LEFT JOIN customers \
         FOR SYSTEM_TIME AS OF p.ts AS c ON c.customer = p.customer ORDER BY p.id",
        "VERIFY FEATURES ON customers",
        "VERIFY FEATURES ON pairs",
        "SHOW SOURCES",
        "SHOW FEATURES",
    ] {
        found.push(query.to_owned());
        found.extend(answer(client, query).await);
    }
    found
}

/// Fills a folder: rows in the history, in a file of two checkpoints and one of one, and rows that
/// are only in the log.
async fn fill(folder: &Path) {
    let server = ServerProcess::start(&mut serve(Path::new(PROGRAM), folder));
    let mut server = server.expect("the binary serves");
    let client = server.connect().await;
    client.batch_execute(DECLARATIONS).await.expect("declares");
    let vacuum = "; VACUUM; CHECKPOINT";
    for (ids, then) in [(0..10, "; CHECKPOINT"), (10..20, vacuum), (20..30, "; CHECKPOINT")] {
        client.batch_execute(&(inserts(ids) + then)).await.expect("inserts");
    }
    client.batch_execute(&inserts(30..40)).await.expect("inserts");
    server.signal("TERM").expect("a signal");
    assert!(server.ended(PATIENCE).await.expect("it ends").success());
}

fn stored(number: u32) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    tests.join(format!("data/formats/{number}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_of_earlier_versions_are_read() {
    if let Ok(number) = std::env::var("ASOFDB_WRITE_FORMAT") {
        let folder = stored(number.parse().expect("a number"));
        assert!(!folder.exists(), "{} is there", folder.display());
        fill(&folder).await;
    }
    let fresh = tempfile::tempdir().expect("a folder");
    fill(fresh.path()).await;
    let server = ServerProcess::start(&mut serve(Path::new(PROGRAM), fresh.path()));
    let expected = answers(&server.expect("the binary serves").connect().await).await;
    assert!(expected.len() > 100, "{expected:#?}");
    for number in EARLIER {
        let copy = tempfile::tempdir().expect("a folder");
        copy_folder(&stored(*number), copy.path());
        for extension in ["log", "parquet", "json"] {
            let files = files_below(copy.path(), extension).expect("a folder");
            assert!(!files.is_empty(), "{number} has no .{extension}");
        }
        // A start may bring the folder to its own form: the second one reads that.
        for _ in 0..2 {
            let server = ServerProcess::start(&mut serve(Path::new(PROGRAM), copy.path()));
            let server = server.expect("the binary serves");
            assert_eq!(answers(&server.connect().await).await, expected);
        }
        let server = ServerProcess::start(&mut serve(Path::new(PROGRAM), copy.path()));
        let server = server.expect("the binary serves");
        let client = server.connect().await;
        let more = inserts(40..50) + "; VACUUM";
        client.batch_execute(&more).await.expect("it is written to");
        assert_eq!(answer(&client, "SELECT count(*) FROM payments").await, ["50"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_a_later_version_is_refused() {
    let database = Database::new(PROGRAM, Vec::new()).await;
    let server = database.start();
    let client = server.connect().await;
    insert_rows(&client, &database.ledger, 10).await.expect("inserts");
    client.batch_execute("CHECKPOINT").await.expect("a file");
    drop(server);
    let folder = database.folder();
    let segment = only_file(&folder.join("log"), "log");
    let replaced = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).expect("a text");
            assert!(text.contains(from), "{text}");
            text.replacen(from, to, 1).into_bytes()
        }
    };
    type Change = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;
    let changes: [(PathBuf, u32, Change); 5] = [
        (segment, 9, Box::new(later_segment)),
        (
            folder.join("history/manifest.json"),
            9,
            Box::new(replaced("\"format\": 3", "\"format\": 9")),
        ),
        (folder.join("catalog"), 9, Box::new(replaced("asofdb-catalog 1", "asofdb-catalog 9"))),
        (folder.join("catalog"), 9, Box::new(later_document)),
        (folder.join("identity"), 9, Box::new(replaced("identity 1", "identity 9"))),
    ];
    for (file, version, change) in changes {
        let whole = fs::read(&file).expect("a file");
        let changed = change(whole.clone());
        assert_ne!(changed, whole);
        fs::write(&file, &changed).expect("writes");
        let message = start_fails(&mut database.command());
        let name = file.file_name().expect("a name").to_string_lossy();
        assert!(message.contains(&*name), "{name}: {message}");
        assert!(message.contains(&format!("version {version}")), "{name}: {message}");
        assert_eq!(fs::read(&file).expect("a file"), changed, "{name} is left as it is");
        fs::write(&file, &whole).expect("writes");
    }
    database.check(&database.start()).await;
}

/// A segment's header with another version and the checksum that belongs to it.
fn later_segment(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The catalog with a document of another version, and the header that belongs to it.
fn later_document(bytes: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(bytes).expect("a text");
    let (_, document) = text.split_once('\n').expect("a header");
    let later = document.replacen("\"format\": 1", "\"format\": 9", 1);
    assert_ne!(later, document);
    let checksum = crc32c::crc32c(later.as_bytes());
    format!("asofdb-catalog 1 {} {checksum:08x}\n{later}", later.len()).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_a_stopped_server_goes_on_elsewhere() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("db");
    fill(&folder).await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let restored = elsewhere.path().join("another/place");
    copy_folder(&folder, &restored);
    let server = ServerProcess::start(&mut serve(Path::new(PROGRAM), &folder));
    let expected = answers(&server.expect("the binary serves").connect().await).await;
    // Nothing in the copy says where it came from.
    drop(home);
    let server = ServerProcess::start(&mut serve(Path::new(PROGRAM), &restored));
    let server = server.expect("the binary serves");
    let client = server.connect().await;
    assert_eq!(answers(&client).await, expected);
    client.batch_execute(&(inserts(40..50) + "; VACUUM")).await.expect("it is written to");
    drop(server);
    let server = ServerProcess::start(&mut serve(Path::new(PROGRAM), &restored));
    let server = server.expect("the binary serves");
    let client = server.connect().await;
    assert_eq!(answer(&client, "SELECT count(*) FROM payments").await, ["50"]);
    assert_eq!(answer(&client, "VERIFY FEATURES ON customers").await, Vec::<String>::new());
}
