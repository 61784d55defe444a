//! A database of the real binary on a folder of its own, and clients at work on it.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use asofdb_tests::process::ServerProcess;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::checks::{declare, verify, verify_features};
use crate::clients::{self, Shared};

/// A checkpoint size that no test comes to.
pub const NEVER: &str = "1GiB";
/// One that clients come to soon.
pub const OFTEN: &str = "64KiB";

/// A server's folder, and what clients know.
pub struct Database {
    /// The folder.
    pub folder: TempDir,
    /// What the environment tells the server: where Redis or S3 are.
    pub environment: Vec<(String, String)>,
    /// What clients know.
    pub ledger: Shared,
}

impl Database {
    /// An empty database, declared.
    pub async fn new(environment: Vec<(String, String)>) -> Database {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database { folder, environment, ledger: Shared::default() };
        let server = database.start(NEVER, None);
        declare(&connect(&server).await).await;
        database
    }

    /// What runs the server. `checkpoints` is how much memory rows may take before a checkpoint
    /// begins by itself.
    pub fn command(&self, checkpoints: &str) -> Command {
        let mut command = command(self.folder.path(), checkpoints);
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Starts the server so that it ends at a place, or at none.
    pub fn start(&self, checkpoints: &str, place: Option<&str>) -> ServerProcess {
        let mut command = self.command(checkpoints);
        command.envs(place.map(|place| ("ASOFDB_CRASH_AT", place)));
        ServerProcess::start(&mut command).expect("the binary serves")
    }

    /// Clients at work. A server that ends meanwhile has fewer of them.
    pub async fn work(&self, server: &ServerProcess, rng: &mut StdRng) -> Vec<JoinHandle<()>> {
        self.ledger.lock().expect("no panic").stop = false;
        let mut connected = Vec::new();
        for _ in 0..7 {
            connected.extend(try_connect(server).await);
        }
        let mut connected = connected.into_iter();
        let mut client = || Some((connected.next()?, self.ledger.clone(), branch(rng)));
        let mut work = Vec::new();
        for _ in 0..2 {
            work.extend(client().map(|(c, l, r)| tokio::spawn(clients::insert(c, l, r))));
        }
        work.extend(client().map(|(c, l, r)| tokio::spawn(clients::copy(c, l, r))));
        work.extend(client().map(|(c, l, r)| tokio::spawn(clients::checkpoint(c, l, r))));
        work.extend(client().map(|(c, l, r)| tokio::spawn(clients::redefine(c, l, r))));
        work.extend(client().map(|(c, l, r)| tokio::spawn(clients::look_up(c, l, r))));
        work.extend(client().map(|(c, l, r)| tokio::spawn(clients::scan(c, l, r))));
        work
    }

    /// Tells the clients to end after what they are at.
    pub fn stop_work(&self) {
        self.ledger.lock().expect("no panic").stop = true;
    }

    /// Rows and values that are as they should be.
    pub async fn check(&self, server: &ServerProcess) -> (usize, usize) {
        let client = connect(server).await;
        (verify(&client, &self.ledger).await, verify_features(&client).await)
    }
}

/// What runs a server on a folder.
pub fn command(data: &Path, checkpoints: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asofdb"));
    command.env("ASOFDB_CHECKPOINT_SIZE", checkpoints);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command
}

/// A new connection.
pub async fn connect(server: &ServerProcess) -> Client {
    try_connect(server).await.expect("connects")
}

/// A new connection to a server that may have ended.
pub async fn try_connect(server: &ServerProcess) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&url(server), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// How a server is reached.
pub fn url(server: &ServerProcess) -> String {
    format!("host=127.0.0.1 port={} user=asofdb dbname=asofdb", server.port())
}

/// Inserts rows with these ids, in one statement.
pub async fn insert(client: &Client, ids: Range<i64>) {
    let row = |id: i64| format!("({id}, {}, 0.5, now())", id % 3);
    let rows: Vec<String> = ids.map(row).collect();
    let insert = format!("INSERT INTO events VALUES {}", rows.join(", "));
    client.batch_execute(&insert).await.expect("inserts");
}

/// Waits for the clients.
pub async fn end(work: Vec<JoinHandle<()>>) {
    for client in work {
        client.await.expect("a client ends with its connection, or when it is told to");
    }
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copies")),
        }
    }
}

/// How many runs, and the randomness of all.
pub fn settings(name: &str, default: u64) -> (u64, StdRng) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let runs: u64 = number(name).unwrap_or(default);
    let seed: u64 = number("ASOFDB_SEED").unwrap_or_else(|| rand::rng().random());
    println!("ASOFDB_SEED={seed} {name}={runs}");
    (runs, StdRng::seed_from_u64(seed))
}

/// Randomness for somebody else.
pub fn branch(rng: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(rng.random())
}
