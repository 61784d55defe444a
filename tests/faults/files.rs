//! Files of the history, and files read in place, that are damaged, cut short or gone while the
//! server runs.

use std::fs;
use std::path::{Path, PathBuf};

use asofdb_tests::clients::insert_rows;
use asofdb_tests::database::Database;
use asofdb_tests::process::ServerProcess;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use crate::{PROGRAM, answer, only_file, refused};

/// Damages the file that has these bytes.
type Damage = fn(&Path, &[u8]);

/// What happens to a file, and the SQLSTATE of a query that reads it in place then.
const DAMAGES: &[(&str, Damage, &str)] = &[
    ("its data are other bytes", |file, bytes| overwrite(file, bytes, 4..bytes.len() / 2), "22P02"),
    (
        "its footer is other bytes",
        |file, bytes| {
            overwrite(file, bytes, bytes.len() - 200..bytes.len() - 100);
        },
        "22P02",
    ),
    (
        "the length of its footer is nonsense",
        |file, bytes| {
            overwrite(file, bytes, bytes.len() - 8..bytes.len() - 4);
        },
        "22P02",
    ),
    ("it is cut short", |file, bytes| write(file, &bytes[..bytes.len() / 2]), "22P02"),
    ("it is empty", |file, _| write(file, &[]), "22P02"),
    ("it is gone", |file, _| fs::remove_file(file).expect("it goes"), "58P01"),
];

fn write(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).expect("writes");
}

fn overwrite(file: &Path, bytes: &[u8], range: std::ops::Range<usize>) {
    let mut bytes = bytes.to_vec();
    bytes[range].fill(0xa5);
    write(file, &bytes);
}

fn name_of(file: &Path) -> String {
    file.file_name().expect("a name").to_string_lossy().into_owned()
}

/// The one file of the history that a source has.
fn only_file_of(database: &Database, source: &str) -> PathBuf {
    let folder = database.folder().join("history/data");
    let folders = fs::read_dir(&folder).expect("folders").map(|entry| entry.expect("one").path());
    let own = folders.filter(|path| name_of(path).starts_with(source)).collect::<Vec<_>>();
    only_file(&own[0], "parquet")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_on_a_damaged_file_of_the_history_fails_and_names_it() {
    let database = Database::new(PROGRAM, Vec::new()).await;
    let server = database.start();
    let client = server.connect().await;
    let other = "CREATE SOURCE other (id BIGINT, ts TIMESTAMPTZ) EVENT TIME ts;
                 INSERT INTO other VALUES (1, now())";
    client.batch_execute(other).await.expect("inserts");
    for _ in 0..10 {
        insert_rows(&client, &database.ledger, 100).await.expect("inserts");
    }
    client.batch_execute("VACUUM").await.expect("files");
    let file = only_file_of(&database, "events");
    let whole = fs::read(&file).expect("a file");
    let training = "SELECT sum(t.total) FROM other AS o \
                    LEFT JOIN things FOR SYSTEM_TIME AS OF o.ts AS t ON t.k = o.id";
    let queries = ["SELECT sum(v), max(id), max(ts), count(k) FROM events", training];
    for query in queries {
        assert_eq!(answer(&client, query).await.len(), 1);
    }
    for (what, damage, _) in DAMAGES {
        damage(&file, &whole);
        for query in queries {
            let (found, message) = refused(&client, query).await;
            assert!(message.contains(&name_of(&file)), "{what}: {message}");
            assert_eq!(found, "XX001", "{what}: {message}");
        }
        // What does not need the file goes on.
        assert_eq!(answer(&client, "SELECT count(*) FROM other").await, ["1"], "{what}");
        assert_eq!(answer(&client, "SELECT n > 0 FROM things WHERE k = 1").await, ["t"], "{what}");
        insert_rows(&client, &database.ledger, 1).await.expect("inserts");
        write(&file, &whole);
        let count = answer(&client, "SELECT count(k) FROM events").await;
        assert_eq!(count, [database.ledger.lock().unwrap().acknowledged.len().to_string()]);
        database.check(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_bit_in_a_large_file_of_the_history_is_never_another_value() {
    let database = Database::new(PROGRAM, Vec::new()).await;
    let server = database.start();
    let client = server.connect().await;
    let source = "CREATE SOURCE texts (id BIGINT, t TEXT, ts TIMESTAMPTZ) EVENT TIME ts";
    client.batch_execute(source).await.expect("a source");
    let mut rng = StdRng::seed_from_u64(1);
    for from in (0..4000).step_by(1000) {
        let text = |rng: &mut StdRng| {
            (0..64).map(|_| format!("{:016x}", rng.random::<u64>())).collect::<String>()
        };
        let row = |id| format!("({id}, '{}', now())", text(&mut rng));
        let rows = (from..from + 1000).map(row).collect::<Vec<_>>().join(", ");
        client.batch_execute(&format!("INSERT INTO texts VALUES {rows}")).await.expect("inserts");
    }
    client.batch_execute("CHECKPOINT").await.expect("a file");
    let file = only_file_of(&database, "texts");
    let whole = fs::read(&file).expect("a file");
    // Pages are not in what is read for the footer.
    assert!(whole.len() > 1 << 20, "{} bytes", whole.len());
    let query = "SELECT max(t), sum(id), max(ts) FROM texts";
    assert_eq!(answer(&client, query).await.len(), 1);
    for position in (4..whole.len()).step_by(whole.len() / 16) {
        let mut changed = whole.clone();
        changed[position] ^= 1;
        write(&file, &changed);
        let (found, message) = refused(&client, query).await;
        assert!(message.contains(&name_of(&file)), "byte {position}: {message}");
        assert_eq!(found, "XX001", "byte {position}: {message}");
    }
}

/// A server that may read the files of a folder.
struct Importing {
    server: ServerProcess,
    files: tempfile::TempDir,
    _database: Database,
}

impl Importing {
    async fn start() -> Importing {
        let database = Database::new(PROGRAM, Vec::new()).await;
        let files = tempfile::tempdir().expect("a folder");
        let mut command = database.command();
        command.arg("--import-dir").arg(files.path());
        let server = ServerProcess::start(&mut command).expect("the binary serves");
        Importing { server, files, _database: database }
    }

    /// Writes a file of 1,000 events.
    async fn write(&self, client: &Client, name: &str) -> PathBuf {
        let copy = "COPY (SELECT value AS id, value * 0.5 AS v, TIMESTAMPTZ '2025-01-01 00:00:00Z' AS ts \
                    FROM generate_series(1, 1000)) TO";
        client.batch_execute(&format!("{copy} '{name}'")).await.expect("a file");
        self.files.path().join(name)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_read_in_place_that_is_bad_fails_the_statement() {
    let importing = Importing::start().await;
    let client = importing.server.connect().await;
    let file = importing.write(&client, "good.parquet").await;
    let whole = fs::read(&file).expect("a file");
    let source = |name: &str, columns: &str, location: &str| {
        format!(
            "CREATE SOURCE {name} ({columns}, ts TIMESTAMPTZ) EVENT TIME ts \
                 WITH (connector = 'parquet', location = '{location}')"
        )
    };
    let declared = source("lake", "id BIGINT, v DOUBLE PRECISION", "good.parquet");
    client.batch_execute(&declared).await.expect("declares");
    let query = "SELECT sum(id), sum(v), max(ts) FROM lake";
    let expected = answer(&client, query).await;
    for (what, damage, code) in DAMAGES {
        damage(&file, &whole);
        let (found, message) = refused(&client, query).await;
        assert_eq!(found, *code, "{what}: {message}");
        assert!(message.contains("good.parquet"), "{what}: {message}");
        let copy = "COPY events (id, v, ts) FROM 'good.parquet'";
        let (found, message) = refused(&client, copy).await;
        assert_eq!(found, *code, "{what}: {message}");
        assert_eq!(answer(&client, "SELECT count(*) FROM events").await, ["0"], "{what}");
        write(&file, &whole);
        assert_eq!(answer(&client, query).await, expected, "{what}");
    }
    // Another schema than the source declares.
    let missing = source("missing", "id BIGINT, nothing BIGINT", "good.parquet");
    let (code, message) = refused(&client, &missing).await;
    assert_eq!(code, "42P17", "{message}");
    assert!(message.contains("good.parquet") && message.contains("nothing"), "{message}");
    let texts = "COPY (SELECT 'x' AS id, 'y' AS v, now() AS ts) TO 'texts.parquet'";
    client.batch_execute(texts).await.expect("a file");
    fs::copy(importing.files.path().join("texts.parquet"), &file).expect("copies");
    let (code, message) = refused(&client, query).await;
    assert_eq!(code, "22P02", "{message}");
    assert!(message.contains("\"id\""), "{message}");
    assert!(!importing.server.log().contains("panicked"), "{}", importing.server.log());
}
