//! Training: a point-in-time training set of 34 features over five windows, from Parquet to Parquet.
//!
//! AsofDB reads the events and labels in place. DuckDB computes the same as standard SQL windows
//! over both, Polars as rolling groups. Each system's time runs from the query to the closed file;
//! interpreters and servers are started before.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;
use serde::Deserialize;

use crate::definition;
use crate::process::{AsofDb, settle};
use crate::report::{Better, Series, compare, heading};
use crate::{Error, Setting, agree, workload};

/// The flags of `train`.
#[derive(Args)]
pub struct TrainArgs {
    /// Peers to run, in turn with AsofDB
    #[arg(long, value_delimiter = ',', default_value = "duckdb,polars", value_name = "NAMES")]
    peers: Vec<Peer>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Peer {
    Duckdb,
    Polars,
}

/// What one run took.
#[derive(Clone, Copy, Deserialize)]
struct Cost {
    wall_s: f64,
    user_s: f64,
    system_s: f64,
    /// Greatest resident memory of the whole process; AsofDB's holds the online state, too.
    peak_mb: f64,
}

/// Runs the benchmark.
pub async fn run(setting: &Setting, args: &TrainArgs) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    workload::write(&setting.workload, folder.path())?;
    let server = AsofDb::start(&setting.asofdb, folder.path())?;
    let client = server.connect().await?;
    let parquet = |file: &str| {
        format!(" WITH (connector = 'parquet', location = '{}/{file}')", folder.path().display())
    };
    client.batch_execute(&definition::create_events(&parquet("events.parquet"))).await?;
    let labels =
        "CREATE SOURCE labels (label_id BIGINT, user_id BIGINT, ts TIMESTAMPTZ) EVENT TIME ts";
    client.batch_execute(&format!("{labels}{}", parquet("labels.parquet"))).await?;
    let before = Instant::now();
    client.batch_execute(&definition::create_all()).await?;
    println!(
        "features created over {} events in {:.1} s",
        setting.workload.events,
        before.elapsed().as_secs_f64()
    );

    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); 1 + args.peers.len()];
    for round in 0..setting.rounds {
        let ours = folder.path().join("asofdb.parquet");
        costs[0].push(asofdb(&server, &client, &ours).await?);
        for (peer, costs) in args.peers.iter().zip(&mut costs[1..]) {
            settle().await;
            let theirs = folder.path().join("peer.parquet");
            costs.push(run_peer(setting, *peer, folder.path(), &theirs)?);
            let values = agree::training_sets(&ours, &theirs, *peer == Peer::Polars)
                .map_err(|error| format!("{} gives another answer: {error}", peer.name()))?;
            println!("round {}: {values} values agree with {}", round + 1, peer.name());
        }
    }
    print(setting, args, &costs);
    Ok(())
}

fn print(setting: &Setting, args: &TrainArgs, costs: &[Vec<Cost>]) {
    let shape = &setting.workload;
    heading(&format!("Training: 34 features, {} events, {} labels", shape.events, shape.labels));
    let mut systems = vec!["AsofDB"];
    systems.extend(args.peers.iter().map(|peer| peer.name()));
    let series = |value: &dyn Fn(&Cost) -> f64| -> Vec<Series> {
        let of = |(system, costs): (&&str, &Vec<Cost>)| Series {
            system: (*system).to_owned(),
            samples: costs.iter().map(value).collect(),
        };
        systems.iter().zip(costs).map(of).collect()
    };
    let labels = shape.labels as f64;
    compare("labels/s", Better::Higher, &series(&|cost| labels / cost.wall_s));
    compare("wall, s", Better::Lower, &series(&|cost| cost.wall_s));
    compare("user CPU, s", Better::Lower, &series(&|cost| cost.user_s));
    compare("system CPU, s", Better::Lower, &series(&|cost| cost.system_s));
    compare("peak memory, MB", Better::Lower, &series(&|cost| cost.peak_mb));
}

async fn asofdb(
    server: &AsofDb,
    client: &tokio_postgres::Client,
    file: &Path,
) -> Result<Cost, Error> {
    if file.exists() {
        std::fs::remove_file(file)?;
    }
    server.reset_peak()?;
    let (before, start) = (server.usage()?, Instant::now());
    client.batch_execute(&definition::training_set(&file.display().to_string())).await?;
    let wall_s = start.elapsed().as_secs_f64();
    let after = server.usage()?;
    Ok(Cost {
        wall_s,
        user_s: after.user_s - before.user_s,
        system_s: after.system_s - before.system_s,
        peak_mb: after.peak_mb,
    })
}

fn run_peer(setting: &Setting, peer: Peer, folder: &Path, file: &Path) -> Result<Cost, Error> {
    let peers = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/peers"));
    let mut command = Command::new(&setting.python);
    command.arg(peers.join(format!("train_{}.py", peer.name())));
    match peer {
        Peer::Duckdb => {
            let file = file.display().to_string();
            command.arg(definition::duckdb_training_set(&folder.display().to_string(), &file))
        }
        Peer::Polars => command.arg(folder).arg(file).arg(windows_json()?),
    };
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", peer.name(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The windows as `{"5m": 300000000, …}`.
fn windows_json() -> Result<String, Error> {
    let windows: Vec<(&str, i64)> =
        definition::WINDOWS.iter().map(|w| (w.name, w.micros)).collect();
    Ok(serde_json::to_string(&windows)?)
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Duckdb => "duckdb",
            Peer::Polars => "polars",
        }
    }
}
