//! Serving: lookups over the wire, by the same driver from AsofDB and from PostgreSQL.
//!
//! * `profile`: the ten latest values of a user; PostgreSQL reads a row by its primary key.
//! * `profiles ×100`: the same for a hundred users in one statement.
//! * `windows`: 30 exact aggregates over five windows as of an instant, users drawn by their
//!   activity; PostgreSQL computes them from an index that holds all it needs.
//!
//! Each client has a connection and a prepared statement and asks for the next as soon as it has
//! the last answer. Clients and server share the machine's cores.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use futures::SinkExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::definition::{self, PROFILE};
use crate::process::{AsofDb, Postgres, connect, settle};
use crate::report::{Better, Series, compare, heading, percentile};
use crate::workload::{END, Events, Shape, Users, instant};
use crate::{Error, Setting, agree, workload};

const BATCH: usize = 100;
/// Answers compared before anything is measured.
const CHECKED: usize = 300;

/// The flags of `serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// Clients at the same time
    #[arg(long, value_delimiter = ',', default_value = "1,8,32", value_name = "NUMBERS")]
    clients: Vec<usize>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0, value_name = "S")]
    seconds: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Lookup {
    Profile,
    Profiles,
    Windows,
}

/// What a measurement saw.
struct Sample {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Runs the benchmark.
pub async fn run(setting: &Setting, args: &ServeArgs) -> Result<(), Error> {
    let shape = &setting.workload;
    let folder = tempfile::tempdir()?;
    workload::write(shape, folder.path())?;
    let server = AsofDb::start(&setting.asofdb, folder.path())?;
    let postgres = Postgres::start()?;
    load(shape, &server, &postgres, &folder.path().join("events.parquet").display().to_string())
        .await?;
    println!("AsofDB holds {:.0} MB with all state", server.usage()?.resident_mb);

    for lookup in [Lookup::Profile, Lookup::Profiles, Lookup::Windows] {
        check(shape, lookup, &server.connect().await?, &postgres.connect().await?).await?;
        heading(&format!(
            "Serving: {} ({} events, {} users)",
            lookup.name(),
            shape.events,
            shape.users
        ));
        for clients in &args.clients {
            let mut samples = (Vec::new(), Vec::new());
            for round in 0..setting.rounds {
                let load = Load { shape, lookup, clients: *clients, seconds: args.seconds, round };
                samples.0.push(load.measure(&server.url(), &lookup.asofdb()).await?);
                samples.1.push(load.measure(&postgres.url(), &lookup.postgres()).await?);
            }
            print(&format!("{clients} clients"), &samples.0, &samples.1);
        }
    }
    Ok(())
}

fn print(clients: &str, ours: &[Sample], theirs: &[Sample]) {
    let series = |value: &dyn Fn(&Sample) -> f64| {
        [("AsofDB", ours), ("PostgreSQL", theirs)].map(|(system, samples)| Series {
            system: system.to_owned(),
            samples: samples.iter().map(value).collect(),
        })
    };
    compare(&format!("{clients}: lookups/s"), Better::Higher, &series(&|s| s.per_second));
    compare(&format!("{clients}: p50, ms"), Better::Lower, &series(&|s| s.p50_ms));
    compare(&format!("{clients}: p99, ms"), Better::Lower, &series(&|s| s.p99_ms));
}

/// Fills both: events from one file, profiles from one text.
async fn load(
    shape: &Shape,
    server: &AsofDb,
    postgres: &Postgres,
    file: &str,
) -> Result<(), Error> {
    let (ours, theirs) = (server.connect().await?, postgres.connect().await?);
    let sql = [
        definition::create_events(""),
        definition::create_windowed(),
        definition::create_profiles(),
    ];
    ours.batch_execute(&sql.join("; ")).await?;
    theirs.batch_execute(&definition::postgres_events()).await?;
    theirs.batch_execute(&definition::postgres_profiles()).await?;

    ours.batch_execute(&format!("COPY events FROM '{file}'")).await?;
    let events = Events::generate(shape)?;
    let chunks = (0..events.len()).step_by(10_000);
    let lines = chunks.map(|from| events.csv(from, events.len().min(from + 10_000)));
    copy(&theirs, "events", lines).await?;

    let mut rng = StdRng::seed_from_u64(shape.seed);
    let profile = |user| {
        let values = PROFILE.map(|_| format!("{:.4}", rng.random_range(-1000.0..1000.0)));
        format!("{user},{},{}\n", values.join(","), instant(END - 1))
    };
    let profiles: Vec<String> = (1..=shape.users).map(profile).collect();
    copy(&ours, "profile_events", profiles.chunks(1000).map(|lines| lines.concat())).await?;
    copy(&theirs, "profiles", profiles.chunks(1000).map(|lines| lines.concat())).await?;
    ours.batch_execute("CHECKPOINT").await?;
    theirs.batch_execute("VACUUM ANALYZE").await?;
    theirs.batch_execute("CHECKPOINT").await?;
    Ok(())
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

/// Compares answers, the most active users' among them.
async fn check(shape: &Shape, lookup: Lookup, ours: &Client, theirs: &Client) -> Result<(), Error> {
    let statements =
        (ours.prepare(&lookup.asofdb()).await?, theirs.prepare(&lookup.postgres()).await?);
    let mut keys = Keys::new(shape, lookup, 0)?;
    let mut values = 0;
    for i in 0..CHECKED {
        let key = if i < 10 { Key::One(i as i64 + 1) } else { keys.draw() };
        let key = if lookup == Lookup::Profiles { keys.draw() } else { key };
        let a = sorted(ask(ours, &statements.0, &key).await?)?;
        let b = sorted(ask(theirs, &statements.1, &key).await?)?;
        let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| agree::near(*a, *b));
        if a.is_empty() || !same {
            return Err(format!("{}: {a:?} here, {b:?} from PostgreSQL", lookup.name()).into());
        }
        values += a.len();
    }
    println!("\n{values} values of {} agree with PostgreSQL", lookup.name());
    Ok(())
}

/// All values, rows in the order of their first column if there are several.
fn sorted(rows: Vec<Row>) -> Result<Vec<Option<f64>>, Error> {
    let mut rows: Vec<_> = rows.iter().map(agree::numbers).collect::<Result<_, _>>()?;
    rows.sort_by(|a, b| a[0].partial_cmp(&b[0]).unwrap_or(std::cmp::Ordering::Equal));
    Ok(rows.concat())
}

enum Key {
    One(i64),
    Many(Vec<i64>),
}

async fn ask(client: &Client, statement: &Statement, key: &Key) -> Result<Vec<Row>, Error> {
    let key: &(dyn ToSql + Sync) = match key {
        Key::One(user) => user,
        Key::Many(users) => users,
    };
    Ok(client.query(statement, &[key]).await?)
}

/// The keys that a client asks for: by activity for windows, else uniformly.
struct Keys {
    lookup: Lookup,
    users: Users,
    count: i64,
    rng: StdRng,
}

impl Keys {
    fn new(shape: &Shape, lookup: Lookup, seed: u64) -> Result<Keys, Error> {
        let rng = StdRng::seed_from_u64(shape.seed.wrapping_mul(1000).wrapping_add(seed));
        Ok(Keys { lookup, users: Users::new(shape)?, count: shape.users as i64, rng })
    }

    fn draw(&mut self) -> Key {
        match self.lookup {
            Lookup::Windows => Key::One(self.users.draw(&mut self.rng)),
            Lookup::Profile => Key::One(self.rng.random_range(1..=self.count)),
            Lookup::Profiles => {
                Key::Many((0..BATCH).map(|_| self.rng.random_range(1..=self.count)).collect())
            }
        }
    }
}

impl Lookup {
    fn name(self) -> &'static str {
        match self {
            Lookup::Profile => "profile",
            Lookup::Profiles => "profiles ×100",
            Lookup::Windows => "windows",
        }
    }

    fn asofdb(self) -> String {
        match self {
            Lookup::Profile => definition::lookup_profile(),
            Lookup::Profiles => definition::lookup_profiles(),
            Lookup::Windows => definition::lookup_windowed(&instant(END)),
        }
    }

    fn postgres(self) -> String {
        match self {
            Lookup::Windows => definition::postgres_windowed(&instant(END)),
            _ => self.asofdb(),
        }
    }
}

/// One measurement.
struct Load<'a> {
    shape: &'a Shape,
    lookup: Lookup,
    clients: usize,
    seconds: f64,
    round: usize,
}

impl Load<'_> {
    async fn measure(&self, url: &str, sql: &str) -> Result<Sample, Error> {
        settle().await;
        let mut tasks = Vec::new();
        for i in 0..self.clients {
            let client = connect(url).await?;
            let statement = client.prepare(sql).await?;
            let keys = Keys::new(self.shape, self.lookup, (self.round * self.clients + i) as u64)?;
            tasks.push((client, statement, keys));
        }
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(self.seconds);
        let tasks: Vec<_> =
            tasks.into_iter().map(|task| tokio::spawn(ask_until(end, task))).collect();
        let mut nanos = Vec::new();
        for task in tasks {
            nanos.extend(task.await??);
        }
        let elapsed = start.elapsed().as_secs_f64();
        nanos.sort_unstable();
        let ms = |share| percentile(&nanos, share) as f64 / 1e6;
        Ok(Sample { per_second: nanos.len() as f64 / elapsed, p50_ms: ms(0.5), p99_ms: ms(0.99) })
    }
}

/// Asks again and again; returns how long each answer took, in nanoseconds.
async fn ask_until(
    end: Instant,
    (client, statement, mut keys): (Client, Statement, Keys),
) -> Result<Vec<u64>, Error> {
    let mut nanos = Vec::new();
    loop {
        let key = keys.draw();
        let start = Instant::now();
        if start >= end {
            return Ok(nanos);
        }
        ask(&client, &statement, &key).await?;
        nanos.push(start.elapsed().as_nanos() as u64);
    }
}
