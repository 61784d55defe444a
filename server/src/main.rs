//! The binary `asofdb`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use asofdb_server::config::{Cli, Command, LogLevel, ServeConfig};
use asofdb_server::task::STACK_BYTES;
use asofdb_server::{quickstart, serve};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("asofdb: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds for tests have places where things go wrong as `FAILPOINTS` says, or where the process
/// ends without warning when it comes there for the n-th time: `place:n` in `ASOFDB_CRASH_AT`.
fn arm_failpoints() -> Result<(), Box<dyn std::error::Error>> {
    if !fail::has_failpoints() {
        return Ok(());
    }
    // The scenario would end when it is dropped: it lasts as long as the process.
    std::mem::forget(fail::FailScenario::setup());
    let Ok(text) = std::env::var("ASOFDB_CRASH_AT") else { return Ok(()) };
    let (place, times) = text.rsplit_once(':').ok_or("ASOFDB_CRASH_AT is place:n")?;
    let left = AtomicUsize::new(times.parse()?);
    let crash = move || {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    };
    Ok(fail::cfg_callback(place, crash)?)
}

fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    arm_failpoints()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("asofdb-worker")
        .thread_stack_size(STACK_BYTES)
        .build()?;
    match cli.command {
        Command::Serve(args) => {
            let config = ServeConfig::resolve(args)?;
            log_to_stderr(config.log_level);
            runtime.block_on(async {
                let stop = stop_signal()?;
                Ok(serve(config, stop).await?)
            })
        }
        Command::Quickstart(args) => {
            log_to_stderr(LogLevel::Warn);
            Ok(runtime.block_on(quickstart::run(args.into()))?)
        }
    }
}

/// Completes at SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ours at the level asked for, libraries only what matters. No level holds a statement's text.
fn log_to_stderr(level: LogLevel) {
    let level = level.as_str();
    let libraries = if level == "error" { "error" } else { "warn" };
    let ours = ["asofdb", "asofdb_server", "asofdb_planner", "asofdb_storage", "asofdb_sql"];
    let ours: Vec<_> = ours.iter().map(|name| format!("{name}={level}")).collect();
    let filter = EnvFilter::new(format!("{libraries},{}", ours.join(",")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
