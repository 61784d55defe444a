//! Floors: what a task costs if nothing is done but what everybody has to do.
//!
//! They run as processes of their own, started by the other benchmarks, so that their CPU is counted
//! as that of the systems.

mod read;
mod reply;

use clap::Subcommand;

use crate::Error;

/// The floors.
#[derive(Subcommand)]
pub enum FloorCommand {
    /// Serve constant rows; the first line of the output is the port
    Reply(reply::ReplyArgs),
    /// Read columns of Parquet files, and sort them; the output is what a pass took, as JSON
    Read(read::ReadArgs),
}

/// Runs a floor.
pub async fn run(command: &FloorCommand) -> Result<(), Error> {
    match command {
        FloorCommand::Reply(args) => reply::run(args).await,
        FloorCommand::Read(args) => read::run(args).await,
    }
}
