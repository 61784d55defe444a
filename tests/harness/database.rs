//! A database of the real binary that tests break: its folder, and what clients know.

#![allow(clippy::missing_panics_doc, reason = "this is for tests")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::checks::{declare, verify, verify_features};
use crate::clients::{self, Shared};
use crate::process::ServerProcess;

/// How many clients are at work.
pub const CLIENTS: usize = 7;

/// The memory that rows may take before a checkpoint begins by itself: some begin all the time.
pub const OFTEN: (&str, &str) = ("ASOFDB_CHECKPOINT_SIZE", "64KiB");

/// A server's folder, and what clients know.
pub struct Database {
    program: PathBuf,
    folder: TempDir,
    /// What the environment tells the server: where Redis or S3 are.
    pub environment: Vec<(String, String)>,
    /// What clients know.
    pub ledger: Shared,
}

impl Database {
    /// An empty database, declared, of the binary `program`.
    pub async fn new(program: &str, environment: Vec<(String, String)>) -> Database {
        let folder = tempfile::tempdir().expect("a folder");
        let (program, ledger) = (program.into(), Shared::default());
        let database = Database { program, folder, environment, ledger };
        declare(&database.start().connect().await).await;
        database
    }

    /// A database on a copy of the folder, of which clients know nothing.
    pub fn copy(&self) -> Database {
        let folder = tempfile::tempdir().expect("a folder");
        copy_folder(self.folder(), folder.path());
        let (program, environment) = (self.program.clone(), self.environment.clone());
        Database { program, folder, environment, ledger: Shared::default() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command that serves it. No checkpoint begins by itself.
    pub fn command(&self) -> Command {
        let mut command = serve(&self.program, self.folder());
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Starts the server.
    pub fn start(&self) -> ServerProcess {
        self.start_with([])
    }

    /// Starts the server with more in its environment.
    pub fn start_with<'a>(
        &self,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> ServerProcess {
        let mut command = self.command();
        ServerProcess::start(command.envs(environment)).expect("the binary serves")
    }

    /// Clients at work: they insert, copy, make checkpoints, make and drop a feature, and read. A
    /// server that ends meanwhile has fewer of them.
    pub async fn work(&self, server: &ServerProcess, rng: &mut StdRng) -> Vec<JoinHandle<()>> {
        self.ledger.lock().expect("no panic").stop = false;
        let mut connected = Vec::new();
        let mut work = Vec::new();
        for _ in 0..CLIENTS {
            let Ok((client, end)) = server.session().await else { continue };
            connected.push(client);
            let ledger = self.ledger.clone();
            work.push(tokio::spawn(async move {
                clients::note(&ledger, &end.await.expect("no panic"));
            }));
        }
        let mut connected = connected.into_iter();
        let mut client = || Some((connected.next()?, self.ledger.clone(), branch(rng)));
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
        let client = server.connect().await;
        (verify(&client, &self.ledger).await, verify_features(&client).await)
    }
}

/// The command that serves the database in `data` on a free port. No checkpoint begins by itself.
pub fn serve(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("ASOFDB_CHECKPOINT_SIZE", "1GiB");
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command
}

/// Inserts rows with these ids, in one statement.
pub async fn insert(client: &Client, ids: Range<i64>) {
    let row = |id: i64| format!("({id}, {}, 0.5, now())", id % 3);
    let rows: Vec<String> = ids.map(row).collect();
    let insert = format!("INSERT INTO events VALUES {}", rows.join(", "));
    client.batch_execute(&insert).await.expect("inserts");
}

/// Waits for the clients of [`Database::work`].
pub async fn end(work: Vec<JoinHandle<()>>) {
    for client in work {
        client.await.expect("a client ends with its connection, or when it is told to");
    }
}

/// The randomness of a test: `ASOFDB_SEED` repeats a run.
#[allow(clippy::print_stdout, reason = "who repeats a run has to know")]
pub fn seeded() -> StdRng {
    let given = std::env::var("ASOFDB_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| rand::rng().random());
    println!("ASOFDB_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How many runs, by the environment or by default, and the randomness of all.
#[allow(clippy::print_stdout, reason = "who repeats a run has to know")]
pub fn settings(name: &str, default: u64) -> (u64, StdRng) {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    let runs: u64 = given.unwrap_or(default);
    println!("{name}={runs}");
    (runs, seeded())
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

/// The files below `folder` whose name ends with `extension`, sorted.
///
/// # Errors
///
/// If a folder cannot be read.
pub fn files_below(folder: &Path, extension: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Randomness for somebody else.
pub fn branch(rng: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(rng.random())
}
