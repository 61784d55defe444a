//! A disk whose fsync fails, and one that is full.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use asofdb_tests::clients::insert_rows;
use asofdb_tests::database::{Database, copy_folder, serve};
use asofdb_tests::process::ServerProcess;
use tokio_postgres::Client;

use crate::{PROGRAM, answer, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_fsync_fails_takes_nothing_more() {
    let database = Database::new(PROGRAM, Vec::new()).await;
    let mut command = database.command();
    command.env("FAILPOINTS", "log::sync=4*off->1*return");
    let server = ServerProcess::start(&mut command).expect("the binary serves");
    let client = server.connect().await;
    for turn in 0..8 {
        let inserted = insert_rows(&client, &database.ledger, 3).await;
        if turn < 4 {
            inserted.expect("inserts");
            continue;
        }
        // The fifth fsync fails; it would succeed from the sixth on.
        let error = inserted.expect_err("the log has failed");
        let error = error.as_db_error().expect("an answer");
        assert_eq!(error.code().code(), "58030");
        assert!(error.message().contains("fsync"), "{}", error.message());
        assert_eq!(answer(&client, "SELECT count(*) FROM events").await, ["12"]);
        assert_eq!(answer(&client, "SELECT sum(n) FROM things").await, ["12"]);
    }
    let (code, message) = refused(&client, "CHECKPOINT").await;
    assert_eq!(code, "58030", "{message}");
    assert_eq!(answer(&client, "SELECT count(*) FROM events").await, ["12"]);
    drop(server);
    let (rows, _) = database.check(&database.start()).await;
    // What was in doubt is there whole or not at all.
    assert!([12, 15].contains(&rows), "{rows} rows");
}

/// The size of the disk, and of a file on it that makes room when it goes.
const DISK_BYTES: u64 = 16 << 20;
const BALLAST_BYTES: usize = 9 << 20;

/// Rows of an `INSERT`.
const ROWS: u64 = 50;

/// A server on a small disk of its own, which nobody else sees.
struct SmallDisk {
    server: ServerProcess,
    /// Where the disk is for those outside.
    disk: PathBuf,
    _folder: tempfile::TempDir,
}

impl SmallDisk {
    fn start() -> SmallDisk {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = serve(Path::new(PROGRAM), &folder.path().join("db"));
        let mut command = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size={DISK_BYTES} none \"$0\" && exec \"$@\"");
        command.args(["-rm", "sh", "-c", &mount]).arg(folder.path());
        command.arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let server = ServerProcess::start(&mut command).expect("the binary serves");
        let disk = PathBuf::from(format!("/proc/{}/root", server.id()));
        let disk = disk.join(folder.path().strip_prefix("/").expect("an absolute path"));
        SmallDisk { server, disk, _folder: folder }
    }

    /// Fills the disk to its last byte.
    fn fill(&self) -> PathBuf {
        let filler = self.disk.join("filler");
        let mut file = OpenOptions::new().append(true).create(true).open(&filler).expect("a file");
        while file.write_all(&[1; 512]).is_ok() {}
        filler
    }
}

/// A text that cannot be compressed much.
fn text(seed: u64) -> String {
    use rand::distr::{Alphanumeric, SampleString};
    use rand::{SeedableRng, rngs::StdRng};
    Alphanumeric.sample_string(&mut StdRng::seed_from_u64(seed), 2000)
}

/// Inserts rows of 2,000 bytes from an id on.
async fn insert(client: &Client, first: u64) -> Result<(), tokio_postgres::Error> {
    let row = |id: u64| format!("({id}, {}, '{}', now())", id % 3, text(id));
    let rows: Vec<String> = (first..first + ROWS).map(row).collect();
    client.batch_execute(&format!("INSERT INTO texts VALUES {}", rows.join(", "))).await
}

/// How many rows there are, and how many the feature counts.
async fn counts(client: &Client) -> (Vec<String>, Vec<String>) {
    let rows = answer(client, "SELECT count(*), count(DISTINCT id), max(id) FROM texts").await;
    (rows, answer(client, "SELECT sum(n), sum(n) + 0, max(newest) FROM texters").await)
}

fn expected(rows: u64, newest: u64) -> (Vec<String>, Vec<String>) {
    let one = vec![format!("{rows}|{rows}|{newest}")];
    (one.clone(), one)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|done| done.success()) {
        println!("NOT RUN: this machine allows no mount namespaces");
        return;
    }
    let small = SmallDisk::start();
    let client = small.server.connect().await;
    let declared = client.batch_execute(
        "CREATE SOURCE texts (id BIGINT, k BIGINT, body TEXT, ts TIMESTAMPTZ) EVENT TIME ts;
         CREATE ENTITY texters (k BIGINT);
         CREATE FEATURES ON texters AS SELECT count(*) OVER (RANGE UNBOUNDED PRECEDING) AS n,
           max(id) OVER (RANGE UNBOUNDED PRECEDING) AS newest FROM texts",
    );
    declared.await.expect("declares");
    let ballast = small.disk.join("ballast");
    fs::write(&ballast, vec![1; BALLAST_BYTES]).expect("there is room");
    let mut rows = 0;
    let refusal = loop {
        match insert(&client, rows).await {
            Ok(()) => rows += ROWS,
            Err(error) => break error,
        }
    };
    let refusal = refusal.as_db_error().expect("an answer");
    assert_eq!(refusal.code().code(), "53100", "{refusal:?}");
    assert!(rows > 10 * ROWS, "{rows}");
    let filler = small.fill();
    // Reads go on, and nothing of what failed is there.
    let inserted = insert(&client, rows).await.expect_err("the disk is full");
    assert_eq!(inserted.code().map(|code| code.code()), Some("53100"), "{inserted:?}");
    assert_eq!(counts(&client).await, expected(rows, rows - 1));
    for statement in ["CHECKPOINT", "CREATE VIEW v AS SELECT 1 AS one", "CHECKPOINT"] {
        let (code, message) = refused(&client, statement).await;
        assert_eq!(code, "53100", "{statement}: {message}");
        assert_eq!(counts(&client).await, expected(rows, rows - 1));
    }
    // With room again all of it succeeds, without a restart.
    fs::remove_file(filler).expect("the filler goes");
    fs::remove_file(ballast).expect("the ballast goes");
    insert(&client, rows).await.expect("there is room");
    rows += ROWS;
    client.batch_execute("CREATE VIEW v AS SELECT 1 AS one").await.expect("there is room");
    client.batch_execute("CHECKPOINT").await.expect("there is room");
    insert(&client, rows).await.expect("there is room");
    rows += ROWS;
    assert_eq!(counts(&client).await, expected(rows, rows - 1));
    // The disk goes with the server: another one starts on a copy.
    small.server.signal("STOP").expect("a signal");
    let copy = tempfile::tempdir().expect("a folder");
    copy_folder(&small.disk.join("db"), copy.path());
    drop(small);
    let mut command = serve(Path::new(PROGRAM), copy.path());
    let server = ServerProcess::start(&mut command).expect("the binary serves");
    assert_eq!(counts(&server.connect().await).await, expected(rows, rows - 1));
}
