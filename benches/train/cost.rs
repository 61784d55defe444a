//! What a training set costs: AsofDB's statement, a peer's script, a floor.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::{System, Task};
use crate::process::AsofDb;
use crate::{Error, Setting, definition};

/// What one run took.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    pub wall_s: f64,
    pub user_s: f64,
    pub system_s: f64,
    /// Greatest resident memory of the whole process.
    pub peak_mb: f64,
}

/// Runs a statement that writes `file`.
pub async fn asofdb(
    server: &AsofDb,
    client: &Client,
    sql: &str,
    file: &Path,
) -> Result<Cost, Error> {
    if file.exists() {
        std::fs::remove_file(file)?;
    }
    server.reset_peak()?;
    let (before, start) = (server.usage()?, Instant::now());
    client.batch_execute(sql).await?;
    let wall_s = start.elapsed().as_secs_f64();
    let after = server.usage()?;
    Ok(Cost {
        wall_s,
        user_s: after.user_s - before.user_s,
        system_s: after.system_s - before.system_s,
        peak_mb: after.peak_mb,
    })
}

/// Runs a peer over the files in `folder`; it writes `file`.
pub fn peer(
    setting: &Setting,
    task: Task,
    system: System,
    folder: &Path,
    file: &Path,
) -> Result<Cost, Error> {
    let distinct = task == Task::Windows;
    let script = match (system, task) {
        (System::Duckdb, _) => "duckdb_sql.py",
        (System::Polars, Task::Latest) => "latest_polars.py",
        (System::Pandas, Task::Latest) => "latest_pandas.py",
        (System::Polars, _) => "train_polars.py",
        _ => return Err(format!("{} has no such task", system.name()).into()),
    };
    let peers = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/peers"));
    let mut command = Command::new(&setting.python);
    command.arg(peers.join(script));
    let (in_folder, to_file) = (folder.display().to_string(), file.display().to_string());
    match (system, task) {
        (System::Duckdb, Task::Latest) => {
            command.arg(definition::duckdb_latest(&in_folder, &to_file))
        }
        (System::Duckdb, _) => {
            command.arg(definition::duckdb_training_set(&in_folder, &to_file, distinct))
        }
        (_, Task::Latest) => command.arg(folder).arg(file),
        _ => {
            command.arg(folder).arg(file).arg(windows_json()?);
            command.args(distinct.then_some("distinct"))
        }
    };
    run(&mut command, system.name())
}

/// Runs a floor over files, each with its columns, that have so many rows together.
pub fn floor(files: &[String], rows: usize, sort: bool) -> Result<Cost, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "read", "--rows", &rows.to_string()]);
    command.args(sort.then_some("--sort")).args(files);
    run(&mut command, "the floor")
}

/// Runs a program whose output is its cost.
pub fn run(command: &mut Command, name: &str) -> Result<Cost, Error> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The windows as `{"5m": 300000000, …}`.
fn windows_json() -> Result<String, Error> {
    let windows: Vec<(&str, i64)> =
        definition::WINDOWS.iter().map(|w| (w.name, w.micros)).collect();
    Ok(serde_json::to_string(&windows)?)
}
