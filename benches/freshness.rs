//! Freshness: how long an event takes until a lookup sees it.
//!
//! First clients send as much as they can; then they send a share of that, at even intervals, while
//! a probe writes single events of users that have no others and another connection asks for the
//! user's feature until the event is in it. The time runs from before the `INSERT` is sent until the
//! answer that has the event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio_postgres::{Client, Statement};

use crate::definition::lookup_windowed;
use crate::ingest::{Database, copy, in_parallel, recreate};
use crate::process::settle;
use crate::report::{Table, percentile};
use crate::workload::{END, Events, instant};
use crate::{Error, Setting, agree};

/// The flags of `freshness`.
#[derive(Args)]
pub struct FreshnessArgs {
    /// Rows of each `COPY`
    #[arg(long, default_value_t = 1000, value_name = "N")]
    batch: usize,
    /// Connections that send them
    #[arg(long, default_value_t = 8, value_name = "N")]
    clients: usize,
    /// Share of the maximum load that is sent while events are probed
    #[arg(long, default_value_t = 0.45, value_name = "SHARE")]
    load: f64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    seconds: f64,
}

/// The systems, by the places of their columns.
const SYSTEMS: [&str; 2] = ["in memory", "in Redis"];
/// The pause after a probe.
const PAUSE: Duration = Duration::from_millis(5);
/// How long an event may take until it is seen.
const PATIENCE: Duration = Duration::from_secs(30);
/// The feature that says how many events a user has.
const COUNTED: &str = "cnt_30d";

/// Runs the benchmark.
pub async fn run(setting: &Setting, args: &FreshnessArgs) -> Result<(), Error> {
    let events = Events::generate(&setting.workload)?;
    let ranges = (0..events.len()).step_by(args.batch.max(1));
    let texts = ranges.map(|from| (from, events.len().min(from + args.batch.max(1))));
    let texts: Arc<Vec<(usize, String)>> =
        Arc::new(texts.map(|(from, to)| (to - from, events.csv(from, to))).collect());
    let mut table = Table::new(&SYSTEMS);
    for _ in 0..setting.rounds {
        for (system, on_redis) in [(0, false), (1, true)] {
            settle().await;
            let database = Database::asofdb(setting, on_redis)?;
            let figures = measure(&database, args, &texts, setting.workload.users).await?;
            figures.into_iter().for_each(|(name, value)| table.add(system, name, value));
        }
    }
    let (batch, clients) = (args.batch, args.clients);
    table.print(&format!("Freshness: COPYs of {batch} rows on {clients} connections, 30 features"));
    Ok(())
}

async fn measure(
    database: &Database,
    args: &FreshnessArgs,
    texts: &Arc<Vec<(usize, String)>>,
    users: usize,
) -> Result<Vec<(&'static str, f64)>, Error> {
    let mut clients = Vec::new();
    for _ in 0..args.clients.max(1) {
        clients.push(database.connect().await?);
    }
    recreate(&clients[0]).await?;
    let all: Vec<String> = texts.iter().map(|(_, text)| text.clone()).collect();
    let rows: usize = texts.iter().map(|(rows, _)| rows).sum();
    let start = Instant::now();
    in_parallel(&clients, &all).await?;
    let greatest = rows as f64 / start.elapsed().as_secs_f64();
    drop(all);

    recreate(&clients[0]).await?;
    let end = Instant::now() + Duration::from_secs_f64(args.seconds);
    let interval = args.batch as f64 * clients.len() as f64 / (greatest * args.load);
    let interval = Duration::from_secs_f64(interval);
    let writers = clients.into_iter().enumerate().map(|(place, client)| {
        let writer =
            Writer { client, texts: Arc::clone(texts), place, stride: args.clients.max(1) };
        tokio::spawn(writer.write(interval, end))
    });
    let writers: Vec<_> = writers.collect();
    let (writer, reader) = (database.connect().await?, database.connect().await?);
    let start = Instant::now();
    let (mut seen, mut acknowledged) = probe(&writer, &reader, users as i64, end).await?;
    let mut written = 0;
    for writer in writers {
        written += writer.await??;
    }
    let load = written as f64 / start.elapsed().as_secs_f64();
    let row = reader.query_one("SELECT count(*) FROM events", &[]).await?;
    let expected = (written + seen.len()) as f64;
    if agree::numbers(&row)?[0] != Some(expected) {
        return Err(format!("{row:?} instead of {expected} events").into());
    }
    seen.sort_unstable();
    acknowledged.sort_unstable();
    let ms = |sorted: &[u64], share| percentile(sorted, share) as f64 / 1e6;
    Ok(vec![
        ("the greatest load: events/s", greatest),
        ("the load meanwhile: events/s", load),
        ("events probed", seen.len() as f64),
        ("seen after, p50, ms", ms(&seen, 0.5)),
        ("seen after, p99, ms", ms(&seen, 0.99)),
        ("seen after, the longest, ms", ms(&seen, 1.0)),
        ("acknowledged after, p50, ms", ms(&acknowledged, 0.5)),
        ("acknowledged after, p99, ms", ms(&acknowledged, 0.99)),
        ("acknowledged after, the longest, ms", ms(&acknowledged, 1.0)),
    ])
}

/// One connection of the load.
struct Writer {
    client: Client,
    texts: Arc<Vec<(usize, String)>>,
    place: usize,
    stride: usize,
}

impl Writer {
    /// Sends a text at each interval, and begins with its first again after its last; returns how
    /// many rows it sent. One that is late catches up.
    async fn write(self, interval: Duration, end: Instant) -> Result<usize, Error> {
        let mut ticks = tokio::time::interval(interval);
        // The connections do not all send at once.
        ticks.reset_after(interval.mul_f64(self.place as f64 / self.stride as f64));
        let mut rows = 0;
        for i in (self.place..).step_by(self.stride) {
            ticks.tick().await;
            if Instant::now() >= end {
                break;
            }
            let (count, text) = &self.texts[i % self.texts.len()];
            copy(&self.client, "events", std::iter::once(text.clone())).await?;
            rows += count;
        }
        Ok(rows)
    }
}

/// Writes events of users after `last`, one by one; returns how long each took to be seen and to be
/// acknowledged, in nanoseconds.
async fn probe(
    writer: &Client,
    reader: &Client,
    last: i64,
    end: Instant,
) -> Result<(Vec<u64>, Vec<u64>), Error> {
    let lookup = reader.prepare(&lookup_windowed(&instant(END))).await?;
    let (mut seen, mut acknowledged) = (Vec::new(), Vec::new());
    let time = instant(END - 1);
    for user in last + 1.. {
        if Instant::now() >= end {
            break;
        }
        let insert = format!("INSERT INTO events VALUES ({user},1,1,'other','{time}')");
        let start = Instant::now();
        let written = async {
            writer.batch_execute(&insert).await?;
            Ok::<_, Error>(start.elapsed())
        };
        let (written, read) = tokio::try_join!(written, until_seen(reader, &lookup, user, start))?;
        acknowledged.push(written.as_nanos() as u64);
        seen.push(read.as_nanos() as u64);
        tokio::time::sleep(PAUSE).await;
    }
    Ok((seen, acknowledged))
}

/// Asks until the user has its one event.
async fn until_seen(
    reader: &Client,
    lookup: &Statement,
    user: i64,
    start: Instant,
) -> Result<Duration, Error> {
    while start.elapsed() < PATIENCE {
        let row = reader.query_one(lookup, &[&user]).await?;
        match row.try_get::<_, Option<i64>>(COUNTED)? {
            Some(0) => {}
            Some(1) => return Ok(start.elapsed()),
            other => return Err(format!("user {user} has {other:?} events, not one").into()),
        }
    }
    Err(format!("the event of user {user} is not seen after {PATIENCE:?}").into())
}
