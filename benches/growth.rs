//! Growth: how the cost of a training set rises with the events, and with the features.
//!
//! There is a label for ten events. The features are the 34 of `train` while events grow; while
//! features grow, they are six aggregates over as many windows as it takes. DuckDB computes the same
//! where that is not too much, and then the answers are compared.

use std::path::Path;
use std::process::Command;

use clap::Args;
use tokio_postgres::Client;

use crate::process::{AsofDb, settle};
use crate::report::cell;
use crate::train::{Cost, cost};
use crate::workload::{self, Shape};
use crate::{Error, Setting, agree, definition};

/// The flags of `growth`.
#[derive(Args)]
pub struct GrowthArgs {
    /// Events, with 34 features
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000000,3000000,10000000",
        value_name = "NUMBERS"
    )]
    sizes: Vec<usize>,
    /// Features, over as many events as --events says
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000", value_name = "NUMBERS")]
    features: Vec<usize>,
    /// DuckDB runs, too, where events times features are not more
    #[arg(long, default_value_t = 120_000_000, value_name = "N")]
    peer_work: usize,
    /// Memory that AsofDB's queries may use
    #[arg(long, default_value = "8GiB", value_name = "SIZE")]
    memory_limit: String,
}

/// What is computed.
#[derive(Clone, Copy)]
enum Features {
    /// The 34 of `train`.
    Usual,
    /// So many.
    Grown(usize),
}

/// One size.
struct Point {
    events: usize,
    features: Features,
}

/// How many labels there are for an event.
const LABELS_SHARE: usize = 10;

/// Runs the benchmark.
pub async fn run(setting: &Setting, args: &GrowthArgs) -> Result<(), Error> {
    let of_events = args.sizes.iter().map(|events| (*events, Features::Usual));
    let of_features = args.features.iter().map(|n| (setting.workload.events, Features::Grown(*n)));
    println!("\n## Growth: {} users\n", setting.workload.users);
    println!(
        "| events | labels | features | system | wall, s | labels/s | user CPU, s | system CPU, s \
         | CPU, ns a label and feature | peak memory, MB |"
    );
    println!("|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|");
    for (events, features) in of_events.chain(of_features) {
        Point { events, features }.run(setting, args).await?;
    }
    Ok(())
}

impl Features {
    fn count(self) -> usize {
        match self {
            Features::Usual => definition::names(true).len(),
            Features::Grown(count) => count,
        }
    }

    fn create(self) -> String {
        match self {
            Features::Usual => definition::create_all(),
            Features::Grown(count) => definition::create_grown(count),
        }
    }

    fn names(self) -> Vec<String> {
        match self {
            Features::Usual => definition::names(true),
            Features::Grown(count) => definition::grown_names(count),
        }
    }

    fn duckdb(self, folder: &str, file: &str) -> String {
        match self {
            Features::Usual => definition::duckdb_training_set(folder, file, true),
            Features::Grown(count) => definition::duckdb_grown(count, folder, file),
        }
    }
}

impl Point {
    async fn run(&self, setting: &Setting, args: &GrowthArgs) -> Result<(), Error> {
        let folder = tempfile::tempdir()?;
        let labels = (self.events / LABELS_SHARE).max(1);
        let shape = Shape { events: self.events, labels, ..setting.workload.clone() };
        workload::write(&shape, folder.path())?;
        let (server, client) = self.start(setting, args, folder.path()).await?;
        let (ours, theirs) =
            (folder.path().join("asofdb.parquet"), folder.path().join("peer.parquet"));
        let statement =
            definition::training_set("users", &self.features.names(), &ours.display().to_string());
        let with_peer = self.events.saturating_mul(self.features.count()) <= args.peer_work;
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..setting.rounds {
            settle().await;
            costs[0].push(cost::asofdb(&server, &client, &statement, &ours).await?);
            if with_peer {
                settle().await;
                costs[1].push(self.duckdb(setting, folder.path(), &theirs)?);
                agree::training_sets(&ours, &theirs, false)
                    .map_err(|error| format!("DuckDB gives another answer: {error}"))?;
            }
        }
        self.print("AsofDB", labels, &costs[0]);
        match with_peer {
            true => self.print("DuckDB, same answers", labels, &costs[1]),
            false => println!(
                "| {} | {labels} | {} | DuckDB was not run | | | | | | |",
                self.events,
                self.features.count()
            ),
        }
        Ok(())
    }

    async fn start(
        &self,
        setting: &Setting,
        args: &GrowthArgs,
        folder: &Path,
    ) -> Result<(AsofDb, Client), Error> {
        let import = format!("--import-dir={}", folder.display());
        let limit = format!("--memory-limit={}", args.memory_limit);
        let server = AsofDb::with(&setting.asofdb, [import, limit])?;
        let client = server.connect().await?;
        let parquet = |file: &str| {
            let file = folder.join(file);
            format!(" WITH (connector = 'parquet', location = '{}')", file.display())
        };
        client.batch_execute(&definition::create_events(&parquet("events.parquet"))).await?;
        client.batch_execute(&definition::create_labels(&parquet("labels.parquet"))).await?;
        client.batch_execute(&self.features.create()).await?;
        Ok((server, client))
    }

    fn duckdb(&self, setting: &Setting, folder: &Path, file: &Path) -> Result<Cost, Error> {
        let (folder, file) = (folder.display().to_string(), file.display().to_string());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/duckdb_sql.py");
        let mut command = Command::new(&setting.python);
        command.arg(script).arg(self.features.duckdb(&folder, &file));
        cost::run(&mut command, "DuckDB")
    }

    /// A line: medians, and in brackets the least and the greatest of the rounds.
    fn print(&self, system: &str, labels: usize, costs: &[Cost]) {
        let of = |value: &dyn Fn(&Cost) -> f64| cell(&costs.iter().map(value).collect::<Vec<_>>());
        let values = labels as f64 * self.features.count() as f64;
        println!(
            "| {} | {labels} | {} | {system} | {} | {} | {} | {} | {} | {} |",
            self.events,
            self.features.count(),
            of(&|cost| cost.wall_s),
            of(&|cost| labels as f64 / cost.wall_s),
            of(&|cost| cost.user_s),
            of(&|cost| cost.system_s),
            of(&|cost| (cost.user_s + cost.system_s) * 1e9 / values),
            of(&|cost| cost.peak_mb),
        );
    }
}
