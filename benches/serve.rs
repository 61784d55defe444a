//! Serving: lookups over the wire, asked for by the same clients of AsofDB, peers and floors.
//!
//! * `profile`: the ten latest values of a user; PostgreSQL reads a row by its primary key.
//! * `profiles ×100`: the same for a hundred users in one statement.
//! * `windows`: 30 exact aggregates over five windows as of an instant, users drawn by their
//!   activity; PostgreSQL computes them from an index that holds all it needs.
//!
//! A floor is what no server of this protocol can go below: a constant reply, the same with one
//! HMGET inside, and Redis alone. Each client has a connection and asks for the next as soon as it
//! has the last answer. Clients and servers share the machine's cores.

mod lookup;
mod systems;

use clap::Args;

use crate::load::{Load, Sample, measure};
use crate::process::settle;
use crate::report::{Better, Series, compare, heading};
use crate::{Error, Setting, workload};
pub use lookup::REDIS_PREFIX;
use lookup::{Keys, Lookup, Protocol, check};
use systems::{Running, System, start};

/// The flags of `serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// What is looked up
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "profile,profiles,windows",
        value_name = "NAMES"
    )]
    lookups: Vec<Lookup>,
    /// How it is asked for; floors know prepared statements only
    #[arg(long, value_delimiter = ',', default_value = "prepared,simple", value_name = "NAMES")]
    protocols: Vec<Protocol>,
    /// Who is asked, in turn
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "asofdb,asofdb-redis,postgresql,floor,floor-redis,redis",
        value_name = "NAMES"
    )]
    systems: Vec<System>,
    /// Clients at the same time
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,256", value_name = "NUMBERS")]
    clients: Vec<usize>,
    /// Threads that the clients are divided among
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    seconds: f64,
}

/// Who is compared with whom: the first of each line with the others.
const COMPARISONS: [&[System]; 2] = [
    &[System::Asofdb, System::Postgresql, System::Floor],
    &[System::AsofdbRedis, System::Asofdb, System::FloorRedis, System::Redis],
];

/// Runs the benchmark.
pub async fn run(setting: &Setting, args: &ServeArgs) -> Result<(), Error> {
    let shape = &setting.workload;
    let folder = tempfile::tempdir()?;
    workload::write(shape, folder.path())?;
    let systems = start(setting, &args.systems, folder.path()).await?;
    for running in &systems {
        println!("{} holds {:.0} MB", running.system.name(), running.usage()?.resident_mb);
    }
    for lookup in &args.lookups {
        for protocol in &args.protocols {
            check(shape, *lookup, *protocol, &systems).await?;
            let how = match protocol {
                Protocol::Prepared => "prepared",
                Protocol::Simple => "simple protocol",
            };
            let (name, events, users) = (lookup.name(), shape.events, shape.users);
            heading(&format!("Serving: {name}, {how} ({events} events, {users} users)"));
            for clients in &args.clients {
                let load = Load { clients: *clients, threads: args.threads, seconds: args.seconds };
                let samples = rounds(setting, load, *lookup, *protocol, &systems).await?;
                print(&format!("{clients} clients"), &samples);
            }
        }
    }
    Ok(())
}

/// The samples of a system, one a round.
type Samples = Vec<(System, Vec<Sample>)>;

async fn rounds(
    setting: &Setting,
    load: Load,
    lookup: Lookup,
    protocol: Protocol,
    systems: &[Running],
) -> Result<Samples, Error> {
    let mut samples: Samples = Vec::new();
    for round in 0..setting.rounds {
        for running in systems {
            let Some(request) = lookup.request(protocol, running.system) else { continue };
            settle().await;
            let keys = |client| {
                Keys::new(&setting.workload, lookup, (round * load.clients + client) as u64)
            };
            let (address, usage) = (running.address(), || running.usage());
            let sample = measure(load, &address, &request, keys, usage)
                .map_err(|error| format!("{}: {error}", running.system.name()))?;
            match samples.iter_mut().find(|(system, _)| *system == running.system) {
                Some((_, samples)) => samples.push(sample),
                None => samples.push((running.system, vec![sample])),
            }
        }
    }
    Ok(samples)
}

fn print(clients: &str, samples: &Samples) {
    for compared in COMPARISONS {
        let of = |system: &System| samples.iter().find(|(other, _)| other == system);
        let lines: Vec<_> = compared.iter().filter_map(of).collect();
        if of(&compared[0]).is_none() {
            continue;
        }
        let series = |value: &dyn Fn(&Sample) -> f64| -> Vec<Series> {
            let of = |(system, samples): &&(System, Vec<Sample>)| Series {
                system: system.name().to_owned(),
                samples: samples.iter().map(value).collect(),
            };
            lines.iter().map(of).collect()
        };
        let measure = |name: &str| format!("{clients}: {name}");
        compare(&measure("lookups/s"), Better::Higher, &series(&|s| s.per_second));
        compare(&measure("p50, ms"), Better::Lower, &series(&|s| s.p50_ms));
        compare(&measure("p99, ms"), Better::Lower, &series(&|s| s.p99_ms));
        let of_thousand = |what: &str| measure(&format!("{what}, ms for 1,000"));
        compare(&of_thousand("user CPU"), Better::Lower, &series(&|s| s.user_ms));
        compare(&of_thousand("system CPU"), Better::Lower, &series(&|s| s.system_ms));
        compare(&of_thousand("CPU of the clients"), Better::Lower, &series(&|s| s.clients_ms));
        compare(&measure("memory, MB"), Better::Lower, &series(&|s| s.resident_mb));
    }
}
