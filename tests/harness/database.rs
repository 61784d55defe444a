//! A database of the real binary that tests break: its folder, its Redis, and what clients know.

#![allow(clippy::missing_panics_doc, reason = "this is for tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::checks::{declare, verify, verify_features};
use crate::clients::{self, Shared};
use crate::process::ServerProcess;
use crate::redis::RedisServer;

/// How many clients are at work.
pub const CLIENTS: usize = 5;

/// A server's folder, the Redis with its online state if there is one, and what clients know.
pub struct Database {
    program: PathBuf,
    folder: TempDir,
    /// Where online state is, if not in the server's memory.
    pub redis: Option<RedisServer>,
    /// What clients know.
    pub ledger: Shared,
}

impl Database {
    /// An empty database, declared, of the binary `program`.
    pub async fn new(program: &str, redis: Option<RedisServer>) -> Database {
        let folder = tempfile::tempdir().expect("a folder");
        let database =
            Database { program: program.into(), folder, redis, ledger: Shared::default() };
        declare(&database.start().connect().await).await;
        database
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command that serves it. No checkpoint begins by itself.
    pub fn command(&self) -> Command {
        let mut command = serve(&self.program, self.folder());
        command.envs(self.redis.as_ref().map(|redis| ("ASOFDB_ONLINE", redis.url())));
        command
    }

    /// Starts the server.
    pub fn start(&self) -> ServerProcess {
        ServerProcess::start(&mut self.command()).expect("the binary serves")
    }

    /// Clients at work: they insert, copy, make checkpoints, and make and drop a feature. A server
    /// that ends meanwhile has fewer of them.
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
        work
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

fn branch(rng: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(rng.random())
}
