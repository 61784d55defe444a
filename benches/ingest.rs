//! Ingest: events a second, durable when acknowledged.
//!
//! AsofDB keeps 30 features fresh over the events, in its memory or in a Redis; PostgreSQL keeps an
//! index from which it could compute them, or none at all. Both sync to disk at each commit.
//! `redis-cli --pipe` adds each event to five sums in a Redis that keeps nothing on the disk. Every
//! run starts with nothing and ends with the count and the sum of what is there.

mod pipe;
mod systems;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clap::Args;
use futures::SinkExt;
use tokio_postgres::Client;

use crate::process::settle;
use crate::report::{Better, Series, compare, heading};
use crate::workload::Events;
use crate::{Error, Setting, agree};
pub use systems::{Database, recreate};
use systems::{System, Systems};

/// The flags of `ingest`.
#[derive(Args)]
pub struct IngestArgs {
    /// Rows of each of the small `COPY` statements
    #[arg(long, default_value_t = 1000, value_name = "N")]
    batch: usize,
    /// Connections that send the small `COPY` statements
    #[arg(long, default_value_t = 8, value_name = "N")]
    clients: usize,
    /// Events that are inserted with `INSERT`, a hundred rows a statement
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    inserted: usize,
    /// Events that `redis-cli --pipe` adds, five commands each
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    piped: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// All events in one `COPY`.
    Bulk,
    /// Small `COPY` statements on several connections.
    Batches,
    /// `INSERT` of a hundred literal rows.
    Insert,
}

const INSERT_ROWS: usize = 100;
const CHUNK: usize = 10_000;

/// What one run saw.
struct Sample {
    per_second: f64,
    /// CPU of all processes of the system, seconds for a million events.
    user_s: f64,
    system_s: f64,
    resident_mb: f64,
}

/// Runs the benchmark.
pub async fn run(setting: &Setting, args: &IngestArgs) -> Result<(), Error> {
    let systems = Systems::start(setting)?;
    let events = Arc::new(Events::generate(&setting.workload)?);
    heading(&format!("Ingest: {} events, {} users", events.len(), setting.workload.users));
    for way in [Way::Bulk, Way::Batches, Way::Insert] {
        let mut samples: Vec<(System, Vec<Sample>)> =
            way.systems().iter().map(|system| (*system, Vec::new())).collect();
        for _ in 0..setting.rounds {
            for (system, samples) in &mut samples {
                settle().await;
                let sample = match system {
                    System::RedisPipe => pipe::measure(&systems.piped, &events, args.piped)?,
                    _ => way.measure(&systems, *system, &events, args).await?,
                };
                samples.push(sample);
            }
        }
        print(&way.name(args), &samples);
    }
    Ok(())
}

/// Who is compared with whom: the first of each line with the others.
const COMPARISONS: [&[System]; 2] = [
    &[System::Asofdb, System::Postgresql, System::PostgresqlBare],
    &[System::AsofdbRedis, System::Asofdb, System::RedisPipe],
];

fn print(way: &str, samples: &[(System, Vec<Sample>)]) {
    for compared in COMPARISONS {
        let of = |system: &System| samples.iter().find(|(other, _)| other == system);
        if of(&compared[0]).is_none() {
            continue;
        }
        let series = |value: &dyn Fn(&Sample) -> f64| -> Vec<Series> {
            let of = |(system, samples): &(System, Vec<Sample>)| Series {
                system: system.name().to_owned(),
                samples: samples.iter().map(value).collect(),
            };
            compared
                .iter()
                .filter_map(|system| samples.iter().find(|(s, _)| s == system))
                .map(of)
                .collect()
        };
        compare(&format!("{way}: events/s"), Better::Higher, &series(&|s| s.per_second));
        let of_million = |what: &str| format!("{way}: {what}, s for a million");
        compare(&of_million("user CPU"), Better::Lower, &series(&|s| s.user_s));
        compare(&of_million("system CPU"), Better::Lower, &series(&|s| s.system_s));
        compare(&format!("{way}: memory, MB"), Better::Lower, &series(&|s| s.resident_mb));
    }
}

impl Way {
    fn name(self, args: &IngestArgs) -> String {
        match self {
            Way::Bulk => "one COPY".to_owned(),
            Way::Batches => format!("COPY of {} rows on {} connections", args.batch, args.clients),
            Way::Insert => format!("INSERT of {INSERT_ROWS} rows"),
        }
    }

    /// Who does it. Literal rows are the same work whatever an index costs.
    fn systems(self) -> &'static [System] {
        match self {
            Way::Bulk => &[
                System::Asofdb,
                System::Postgresql,
                System::PostgresqlBare,
                System::AsofdbRedis,
                System::RedisPipe,
            ],
            Way::Batches => {
                &[System::Asofdb, System::Postgresql, System::PostgresqlBare, System::AsofdbRedis]
            }
            Way::Insert => &[System::Asofdb, System::Postgresql],
        }
    }

    async fn measure(
        self,
        systems: &Systems,
        system: System,
        events: &Arc<Events>,
        args: &IngestArgs,
    ) -> Result<Sample, Error> {
        let database = systems.database(system)?;
        let mut clients = Vec::new();
        for _ in 0..args.clients.max(1) {
            clients.push(database.connect().await?);
        }
        system.recreate(&clients[0]).await?;
        let count = match self {
            Way::Insert => args.inserted.min(events.len()),
            _ => events.len(),
        };
        // The text is made beforehand: it is no database's work.
        let texts = self.texts(events, count, args);
        let (before, start) = (database.usage()?, Instant::now());
        match self {
            Way::Bulk => copy(&clients[0], "events", texts.into_iter()).await?,
            Way::Batches => in_parallel(&clients, &texts).await?,
            Way::Insert => {
                for text in &texts {
                    clients[0].batch_execute(text).await?;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let after = database.usage()?;
        check(&clients[0], events, count).await?;
        let of_million = |seconds: f64| seconds * 1e6 / count as f64;
        Ok(Sample {
            per_second: count as f64 / seconds,
            user_s: of_million(after.user_s - before.user_s),
            system_s: of_million(after.system_s - before.system_s),
            resident_mb: after.resident_mb,
        })
    }

    /// The statements, or the texts that a `COPY` sends.
    fn texts(self, events: &Events, count: usize, args: &IngestArgs) -> Vec<String> {
        let rows = match self {
            Way::Bulk => CHUNK,
            Way::Batches => args.batch.max(1),
            Way::Insert => INSERT_ROWS,
        };
        let ranges = (0..count).step_by(rows).map(|from| (from, count.min(from + rows)));
        match self {
            Way::Insert => ranges
                .map(|(a, b)| format!("INSERT INTO events VALUES {}", events.values(a, b)))
                .collect(),
            _ => ranges.map(|(a, b)| events.csv(a, b)).collect(),
        }
    }
}

/// Sends lines of CSV in one `COPY`.
pub async fn copy(
    client: &Client,
    table: &str,
    lines: impl Iterator<Item = String>,
) -> Result<(), Error> {
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN WITH (FORMAT csv)")).await?;
    let mut sink = std::pin::pin!(sink);
    for text in lines {
        sink.as_mut().feed(Bytes::from(text)).await?;
    }
    sink.as_mut().finish().await?;
    Ok(())
}

/// Each client sends its share, a statement for each text.
pub async fn in_parallel(clients: &[Client], texts: &[String]) -> Result<(), Error> {
    let shares = clients.iter().enumerate().map(|(i, client)| async move {
        for text in texts.iter().skip(i).step_by(clients.len()) {
            copy(client, "events", std::iter::once(text.clone())).await?;
        }
        Ok::<_, Error>(())
    });
    futures::future::try_join_all(shares).await?;
    Ok(())
}

/// Everything is there, once.
async fn check(client: &Client, events: &Events, count: usize) -> Result<(), Error> {
    let row = client.query_one("SELECT count(*), sum(amount) FROM events", &[]).await?;
    let got = agree::numbers(&row)?;
    let sum = events.amount[..count].iter().sum();
    match got[0] == Some(count as f64) && agree::near(got[1], Some(sum)) {
        true => Ok(()),
        false => Err(format!("{got:?} instead of {count} rows with the sum {sum}").into()),
    }
}
