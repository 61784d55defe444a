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
use crate::report::{self, cell};
use crate::train::{Cost, cost};
use crate::workload::{self, Shape};
use crate::{Error, Setting, agree, definition};

/// The flags of `growth`.
#[derive(Args)]
pub struct GrowthArgs {
    /// Events, with 34 features; 0 for none
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000000,3000000,10000000",
        value_name = "NUMBERS"
    )]
    sizes: Vec<usize>,
    /// Features, over as many events as --events says; 0 for none
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
    let mut measured = Vec::new();
    for (events, features) in of_events.chain(of_features) {
        if events > 0 && features.count() > 0 {
            let point = Point { events, features };
            let costs = point.run(setting, args).await?;
            measured.push((point, costs));
        }
    }
    plot(&measured);
    Ok(())
}

/// Prints how the medians rise, as charts that Mermaid draws.
fn plot(measured: &[(Point, Vec<Cost>)]) {
    let wall = |costs: &[Cost]| report::median(&costs.iter().map(|c| c.wall_s).collect::<Vec<_>>());
    let processor = |costs: &[Cost]| {
        report::median(&costs.iter().map(|c| c.user_s + c.system_s).collect::<Vec<_>>())
    };
    let of_events: Vec<_> =
        measured.iter().filter(|(point, _)| matches!(point.features, Features::Usual)).collect();
    let of_features: Vec<_> =
        measured.iter().filter(|(point, _)| matches!(point.features, Features::Grown(_))).collect();
    for (title, x, unit, points) in [
        ("34 features, ns for each event", "events", 1e9, of_events),
        ("ms for each feature", "features", 1e3, of_features),
    ] {
        if points.len() < 2 {
            continue;
        }
        let count = |point: &Point| match point.features {
            Features::Usual => point.events,
            Features::Grown(count) => count,
        };
        let names = points.iter().map(|(point, _)| format!("\"{}\"", short(count(point))));
        let line = |value: &dyn Fn(&[Cost]) -> f64| {
            let of = |(point, costs): &&(Point, Vec<Cost>)| {
                format!("{:.1}", value(costs) * unit / count(point) as f64)
            };
            points.iter().map(of).collect::<Vec<_>>().join(", ")
        };
        println!("\n```mermaid\nxychart-beta\n    title \"{title}: time (bars) and CPU (line)\"");
        println!("    x-axis \"{x}\" [{}]", names.collect::<Vec<_>>().join(", "));
        println!("    bar [{}]\n    line [{}]\n```", line(&wall), line(&processor));
    }
}

/// A number of millions, if it is one.
fn short(number: usize) -> String {
    match number % 1_000_000 {
        0 => format!("{} M", number / 1_000_000),
        _ => number.to_string(),
    }
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
    /// Prints what was measured; AsofDB's cost of each round.
    async fn run(&self, setting: &Setting, args: &GrowthArgs) -> Result<Vec<Cost>, Error> {
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
        let [ours, _] = costs;
        Ok(ours)
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
