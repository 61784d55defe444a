//! Benchmarks: AsofDB and its peers on the same work, in turn, in one run, with the answers compared.
//!
//! What each one does is in its own file; `docs/performance.md` says how to run them and how to read
//! what they print. Figures of one machine at one time say little: the ratios are what counts.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

mod agree;
mod definition;
mod floor;
mod freshness;
mod growth;
mod ingest;
mod load;
mod process;
mod report;
mod serve;
mod state;
mod stores;
mod train;
mod wire;
mod workload;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Whatever stops a benchmark, wrong answers among it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Compares AsofDB with its peers.
#[derive(Parser)]
#[command(name = "asofdb-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    setting: Setting,
}

#[derive(Subcommand)]
enum Command {
    /// Write the workload as Parquet: events.parquet, labels.parquet
    Generate(GenerateArgs),
    /// Point-in-time training sets: rows a second, next to DuckDB, Polars, pandas and floors
    Train(train::TrainArgs),
    /// Training sets of more and more events, and of more and more features
    Growth(growth::GrowthArgs),
    /// Lookups over the wire: a second's count, p50, p99, CPU, next to PostgreSQL and floors
    Serve(serve::ServeArgs),
    /// Events a second with 30 features kept fresh, next to PostgreSQL and Redis
    Ingest(ingest::IngestArgs),
    /// How long an event takes from before its commit until a lookup sees it, under load
    Freshness(freshness::FreshnessArgs),
    /// The online store in memory next to embedded key-value stores
    Stores(stores::StoresArgs),
    /// Online state in memory and in Redis: its size, and the time until it is there again
    State(state::StateArgs),
    /// What the other benchmarks run to know how cheap it could be
    #[command(subcommand, hide = true)]
    Floor(floor::FloorCommand),
}

#[derive(Args)]
struct GenerateArgs {
    /// Folder to write to
    folder: PathBuf,
}

/// What all benchmarks share.
#[derive(Args)]
pub struct Setting {
    /// The binary to measure
    #[arg(long, global = true, default_value = "target/release/asofdb", value_name = "FILE")]
    asofdb: PathBuf,
    /// The Python that runs peers; it needs benches/peers/requirements.txt
    #[arg(
        long,
        global = true,
        default_value = "target/bench-venv/bin/python",
        value_name = "FILE"
    )]
    python: PathBuf,
    /// How often each system is measured, in turn
    #[arg(long, global = true, default_value_t = 5, value_name = "N")]
    rounds: usize,
    #[command(flatten)]
    workload: workload::Shape,
}

fn main() -> Result<(), Error> {
    let Cli { command, setting } = Cli::parse();
    setting.workload.check()?;
    let runtime = tokio::runtime::Runtime::new()?;
    match command {
        Command::Generate(args) => workload::write(&setting.workload, &args.folder),
        Command::Train(args) => runtime.block_on(train::run(&setting, &args)),
        Command::Serve(args) => runtime.block_on(serve::run(&setting, &args)),
        Command::Ingest(args) => runtime.block_on(ingest::run(&setting, &args)),
        Command::Stores(args) => stores::run(&setting, &args),
        Command::Growth(args) => runtime.block_on(growth::run(&setting, &args)),
        Command::Freshness(args) => runtime.block_on(freshness::run(&setting, &args)),
        Command::Floor(command) => runtime.block_on(floor::run(&command)),
        Command::State(args) => runtime.block_on(state::run(&setting, &args)),
    }
}
