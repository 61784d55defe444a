//! Training: point-in-time training sets, from Parquet to Parquet.
//!
//! * `windows`: 34 features over five windows; DuckDB computes standard SQL windows over events and
//!   labels together, Polars rolling groups.
//! * `windows32`: the same without the two distinct counts, which Polars is slow at.
//! * `latest`: the latest ten values; DuckDB and Polars join as of, pandas merges as of.
//!
//! AsofDB reads events and labels in place; and once more with the events ingested and laid out by
//! `VACUUM`. Each system's time runs from the query to the closed file; interpreters and servers are
//! started before. A floor reads the columns that the task needs, and another one sorts them, too.

pub mod cost;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use tokio_postgres::Client;

pub use cost::Cost;

use crate::definition::{self, PROFILE};
use crate::process::{AsofDb, settle};
use crate::report::{Better, Series, compare, heading};
use crate::{Error, Setting, agree, workload};

/// The flags of `train`.
#[derive(Args)]
pub struct TrainArgs {
    /// What is computed
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "windows,windows32,latest",
        value_name = "NAMES"
    )]
    tasks: Vec<Task>,
    /// Peers and floors to run, in turn with AsofDB
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "duckdb,polars,pandas,read,sort,asofdb-history,read-history",
        value_name = "NAMES"
    )]
    systems: Vec<System>,
    /// Memory that AsofDB's queries may use
    #[arg(long, default_value = "8GiB", value_name = "SIZE")]
    memory_limit: String,
}

/// What is computed.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Task {
    /// 34 features over five windows
    Windows,
    /// The 32 of them that are no distinct counts
    Windows32,
    /// The latest values of ten columns
    Latest,
}

/// Who computes it.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum System {
    /// AsofDB, Parquet files read in place
    Asofdb,
    /// AsofDB, events ingested and laid out by VACUUM
    AsofdbHistory,
    /// DuckDB
    Duckdb,
    /// Polars
    Polars,
    /// pandas, the latest values only
    Pandas,
    /// Floor: the columns read
    Read,
    /// Floor: the columns read and sorted
    Sort,
    /// Floor: the columns read from the files that AsofDB's history has
    ReadHistory,
}

/// Who is compared with whom: the first of each line with the others.
const COMPARISONS: [&[System]; 2] = [
    &[System::Asofdb, System::Duckdb, System::Polars, System::Pandas, System::Read, System::Sort],
    &[System::AsofdbHistory, System::Asofdb, System::ReadHistory],
];

/// Runs the benchmark.
pub async fn run(setting: &Setting, args: &TrainArgs) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    workload::write(&setting.workload, folder.path())?;
    if args.tasks.contains(&Task::Latest) {
        workload::write_profiles(&setting.workload, folder.path())?;
    }
    for task in &args.tasks {
        let systems = systems(*task, args);
        let costs = measure(setting, args, *task, &systems, folder.path()).await?;
        print(setting, *task, &systems, &costs);
    }
    Ok(())
}

/// AsofDB, and those of the wanted systems that can do it.
fn systems(task: Task, args: &TrainArgs) -> Vec<System> {
    let wanted = args.systems.iter().copied();
    let wanted = wanted.filter(|s| *s != System::Asofdb);
    let wanted = wanted.filter(|s| *s != System::Pandas || task == Task::Latest);
    std::iter::once(System::Asofdb).chain(wanted).collect()
}

async fn measure(
    setting: &Setting,
    args: &TrainArgs,
    task: Task,
    systems: &[System],
    folder: &Path,
) -> Result<Vec<Vec<Cost>>, Error> {
    let in_place = Server::start(setting, args, task, folder, false).await?;
    let needs_history = |s: &System| matches!(s, System::AsofdbHistory | System::ReadHistory);
    let ingested = match systems.iter().any(needs_history) {
        true => Some(Server::start(setting, args, task, folder, true).await?),
        false => None,
    };
    let ingested = || ingested.as_ref().ok_or("the history is filled");
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); systems.len()];
    let rows = setting.workload.events + setting.workload.labels;
    let floor = |events: &[PathBuf], sort| cost::floor(&task.files(folder, events), rows, sort);
    let (ours, theirs) = (folder.join("asofdb.parquet"), folder.join("peer.parquet"));
    for round in 0..setting.rounds {
        for (system, costs) in systems.iter().zip(&mut costs) {
            settle().await;
            costs.push(match system {
                System::Asofdb => in_place.measure(task, &ours).await?,
                System::AsofdbHistory => ingested()?.measure(task, &theirs).await?,
                System::Read => floor(&[task.events(folder)], false)?,
                System::Sort => floor(&[task.events(folder)], true)?,
                System::ReadHistory => floor(&ingested()?.history()?, false)?,
                _ => cost::peer(setting, task, *system, folder, &theirs)?,
            });
            if matches!(system, System::Asofdb | System::Read | System::Sort | System::ReadHistory)
            {
                continue;
            }
            let zero = *system == System::Polars && task != Task::Latest;
            let values = agree::training_sets(&ours, &theirs, zero)
                .map_err(|error| format!("{} gives another answer: {error}", system.name()))?;
            println!("round {}: {values} values agree with {}", round + 1, system.name());
        }
    }
    Ok(costs)
}

/// An AsofDB with sources, entity and features.
struct Server {
    server: AsofDb,
    client: Client,
}

impl Server {
    async fn start(
        setting: &Setting,
        args: &TrainArgs,
        task: Task,
        folder: &Path,
        ingest: bool,
    ) -> Result<Server, Error> {
        let import = format!("--import-dir={}", folder.display());
        let limit = format!("--memory-limit={}", args.memory_limit);
        let server = AsofDb::with(&setting.asofdb, [import, limit])?;
        let client = server.connect().await?;
        let parquet =
            |file: &Path| format!(" WITH (connector = 'parquet', location = '{}')", file.display());
        let labels = definition::create_labels(&parquet(&folder.join("labels.parquet")));
        client.batch_execute(&labels).await?;
        let events = task.events(folder);
        let options = if ingest { String::new() } else { parquet(&events) };
        let start = Instant::now();
        let source = match task {
            Task::Latest => {
                client.batch_execute(&definition::create_profiles(&options, false)).await?;
                "profile_events"
            }
            _ => {
                client.batch_execute(&definition::create_events(&options)).await?;
                client.batch_execute(&definition::create_all()).await?;
                "events"
            }
        };
        if ingest {
            let file = events.display();
            client.batch_execute(&format!("COPY {source} FROM '{file}'")).await?;
            client.batch_execute("CHECKPOINT").await?;
            client.batch_execute("VACUUM").await?;
        }
        let how = if ingest { "ingested and laid out" } else { "read in place" };
        let seconds = start.elapsed().as_secs_f64();
        println!("{} events {how}, features created, in {seconds:.1} s", setting.workload.events);
        Ok(Server { server, client })
    }

    async fn measure(&self, task: Task, file: &Path) -> Result<Cost, Error> {
        cost::asofdb(&self.server, &self.client, &task.statement(file), file).await
    }

    /// The Parquet files of its history.
    fn history(&self) -> Result<Vec<PathBuf>, Error> {
        let (mut folders, mut files) = (vec![self.server.folder().join("history")], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.extension().is_some_and(|e| e == "parquet") => files.push(path),
                    false => {}
                }
            }
        }
        Ok(files)
    }
}

impl Task {
    fn title(self) -> &'static str {
        match self {
            Task::Windows => "34 features",
            Task::Windows32 => "32 features, no distinct counts",
            Task::Latest => "the latest ten values",
        }
    }

    fn events(self, folder: &Path) -> PathBuf {
        folder.join(if self == Task::Latest { "profiles.parquet" } else { "events.parquet" })
    }

    fn statement(self, file: &Path) -> String {
        let file = file.display().to_string();
        match self {
            Task::Latest => {
                definition::training_set("profiles", &PROFILE.map(str::to_owned), &file)
            }
            _ => {
                let names = definition::names(self == Task::Windows);
                definition::training_set("users", &names, &file)
            }
        }
    }

    /// Files of events and the file of labels with the columns that the task needs.
    fn files(self, folder: &Path, events: &[PathBuf]) -> Vec<String> {
        let columns = match self {
            Task::Windows => "user_id,merchant_id,amount,category,ts".to_owned(),
            Task::Windows32 => "user_id,amount,category,ts".to_owned(),
            Task::Latest => format!("user_id,{},ts", PROFILE.join(",")),
        };
        let labels = folder.join("labels.parquet");
        let labels = format!("{}:label_id,user_id,ts", labels.display());
        let events = events.iter().map(|file| format!("{}:{columns}", file.display()));
        events.chain([labels]).collect()
    }
}

impl System {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            System::Asofdb => "AsofDB",
            System::AsofdbHistory => "AsofDB, ingested",
            System::Duckdb => "DuckDB",
            System::Polars => "Polars",
            System::Pandas => "pandas",
            System::Read => "floor: read",
            System::Sort => "floor: read and sort",
            System::ReadHistory => "floor: read the history",
        }
    }
}

fn print(setting: &Setting, task: Task, systems: &[System], costs: &[Vec<Cost>]) {
    let shape = &setting.workload;
    let (title, events, labels) = (task.title(), shape.events, shape.labels);
    heading(&format!("Training: {title}, {events} events, {labels} labels"));
    for compared in COMPARISONS {
        let place = |system: &System| systems.iter().position(|other| other == system);
        if place(&compared[0]).is_none() {
            continue;
        }
        let series = |value: &dyn Fn(&Cost) -> f64| -> Vec<Series> {
            let of = |system: &System| {
                let samples = costs[place(system)?].iter().map(value).collect();
                Some(Series { system: system.name().to_owned(), samples })
            };
            compared.iter().filter_map(of).collect()
        };
        compare("labels/s", Better::Higher, &series(&|cost| labels as f64 / cost.wall_s));
        compare("wall, s", Better::Lower, &series(&|cost| cost.wall_s));
        compare("user CPU, s", Better::Lower, &series(&|cost| cost.user_s));
        compare("system CPU, s", Better::Lower, &series(&|cost| cost.system_s));
        compare("CPU, s", Better::Lower, &series(&|cost| cost.user_s + cost.system_s));
        compare("peak memory, MB", Better::Lower, &series(&|cost| cost.peak_mb));
    }
}
