//! State and recovery: what online state costs, and how long it takes until it is there again.
//!
//! The same events go into a server that keeps online state in its memory and into one that keeps
//! it in a Redis of its own, which stores nothing on the disk. Then the server is killed and started
//! again, and the Redis is flushed. A start is timed until the first lookup, of a thousand users,
//! has its answer. Every answer is compared with what the generator knows.
//!
//! A server's memory is its resident size, less that of the empty server: it includes what the
//! allocator keeps. What was just written is in the machine's cache when a server starts.

#[path = "state/known.rs"]
mod known;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use asofdb_tests::redis::RedisServer;
use bytes::Bytes;
use clap::Args;
use futures::SinkExt;
use tokio_postgres::Client;

use crate::ingest::copy;
use crate::process::{AsofDb, settle};
use crate::report::Table;
use crate::workload::{END, Events, instant};
use crate::{Error, Setting, definition};
use known::Known;

/// The flags of `state`.
#[derive(Args)]
pub struct StateArgs {
    /// Memory that the server's queries may use
    #[arg(long, default_value = "8GiB", value_name = "SIZE")]
    memory_limit: String,
    /// Rows of each COPY of the events [default: all]
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,
}

/// The systems, by the places of their columns.
const SYSTEMS: [&str; 2] = ["in memory", "in Redis"];

/// Rows of a message of a `COPY`, at most.
const CHUNK: usize = 10_000;

/// Users, after all others, whose events are written while Redis is filled again: one each in every
/// `COPY`, and a pause after it.
const WRITERS_USERS: usize = 100;
const WRITERS_PAUSE: Duration = Duration::from_millis(10);

/// Runs the benchmark.
pub async fn run(setting: &Setting, args: &StateArgs) -> Result<(), Error> {
    let shape = &setting.workload;
    let folder = tempfile::tempdir()?;
    let csv = folder.path().join("events.csv");
    let events = Events::generate(shape)?;
    write_csv(&events, &csv)?;
    let known = Known::of(&events, shape.users);
    drop(events);
    let mut table = Table::new(&SYSTEMS);
    for _ in 0..setting.rounds {
        // Redis first: its measures are the more, and the rows stand as they come.
        for (system, redis) in [(1, Some(RedisServer::start()?)), (0, None)] {
            let mut run = Run::start(setting, args, redis.as_ref(), known.clone()).await?;
            run.measure(&csv, args.batch.map_or(shape.events, NonZeroUsize::get)).await?;
            run.figures.into_iter().for_each(|(name, value)| table.add(system, name, value));
        }
    }
    let copies = args.batch.map_or("in one COPY".to_owned(), |n| format!("in COPYs of {n}"));
    let (events, users) = (known.events, known.users);
    table.print(&format!("State and recovery: {events} events of {users} users, {copies}"));
    Ok(())
}

/// One system in one round.
struct Run<'a> {
    server: AsofDb,
    redis: Option<&'a RedisServer>,
    known: Known,
    /// What the server and Redis took when they were empty.
    empty_mb: f64,
    empty_redis: f64,
    figures: Vec<(&'static str, f64)>,
}

impl<'a> Run<'a> {
    /// An empty source with seven features, in a server that makes no checkpoint by itself.
    async fn start(
        setting: &Setting,
        args: &StateArgs,
        redis: Option<&'a RedisServer>,
        known: Known,
    ) -> Result<Run<'a>, Error> {
        let empty_redis = redis.map_or(Ok(0.0), used_memory)?;
        let limit = format!("--memory-limit={}", args.memory_limit);
        let mut arguments = vec![limit, "--checkpoint-size=1TiB".to_owned()];
        arguments.push("--checkpoint-interval=1000000".to_owned());
        arguments.extend(redis.map(|redis| format!("--online={}", redis.url())));
        let server = AsofDb::with(&setting.asofdb, arguments)?;
        let client = server.connect().await?;
        client.batch_execute(&definition::create_events("")).await?;
        client.batch_execute(&definition::create_sums()).await?;
        let empty_mb = server.usage()?.resident_mb;
        Ok(Run { server, redis, known, empty_mb, empty_redis, figures: Vec::new() })
    }

    async fn measure(&mut self, csv: &Path, batch: usize) -> Result<(), Error> {
        settle().await;
        let client = self.server.connect().await?;
        let start = Instant::now();
        copy_file(&client, csv, batch).await?;
        self.add("ingest: events/s", self.known.events as f64 / start.elapsed().as_secs_f64());
        let grown_mb = self.server.usage()?.resident_mb - self.empty_mb;
        self.add_per_event("the server's memory after ingest, bytes an event", grown_mb * 1e6);
        self.known.check(&client).await?;
        let log = self.server.bytes_in("log")? as f64;
        self.add_per_event("the log, bytes an event", log);
        let seconds = self.restart().await?;
        self.add("`kill -9`, all rows in the log: right answers after, s", seconds);

        let client = self.server.connect().await?;
        client.batch_execute("CHECKPOINT").await?;
        let history = self.server.bytes_in("history")? as f64;
        self.add_per_event("the history after `CHECKPOINT`, bytes an event", history);
        client.batch_execute("VACUUM").await?;
        let history = self.server.bytes_in("history")? as f64;
        self.add_per_event("the history after `VACUUM`, bytes an event", history);
        let seconds = self.restart().await?;
        self.add("`kill -9` after `VACUUM`: right answers after, s", seconds);
        self.weigh()?;
        if let Some(redis) = self.redis {
            self.lose(redis).await?;
        }
        Ok(())
    }

    fn add(&mut self, measure: &'static str, value: f64) {
        self.figures.push((measure, value));
    }

    fn add_per_event(&mut self, measure: &'static str, bytes: f64) {
        self.add(measure, bytes / self.known.events as f64);
    }

    /// Kills the server and starts it again.
    async fn restart(&mut self) -> Result<f64, Error> {
        self.server.kill();
        settle().await;
        self.start_again().await
    }

    /// Starts the server that was killed; returns after how many seconds it gave right answers.
    async fn start_again(&mut self) -> Result<f64, Error> {
        let start = Instant::now();
        self.server.restart()?;
        let client = self.server.connect().await?;
        self.known.look_up(&client).await?;
        let seconds = start.elapsed().as_secs_f64();
        self.known.check(&client).await?;
        Ok(seconds)
    }

    /// The memory of a server that has only online state there, and of Redis.
    fn weigh(&mut self) -> Result<(), Error> {
        let users = self.known.users as f64;
        let bytes = (self.server.usage()?.resident_mb - self.empty_mb) * 1e6;
        self.add_per_event("the server's memory after that start, bytes an event", bytes);
        self.add("the server's memory after that start, bytes a user", bytes / users);
        if let Some(redis) = self.redis {
            let bytes = used_memory(redis)? - self.empty_redis;
            self.add_per_event("Redis's memory, bytes an event", bytes);
            self.add("Redis's memory, bytes a user", bytes / users);
        }
        Ok(())
    }

    /// Flushes Redis under the running server, to which events are written meanwhile; and again
    /// before the server starts.
    async fn lose(&mut self, redis: &RedisServer) -> Result<(), Error> {
        let (events, users) = (self.known.events as f64, self.known.users as f64);
        let client = self.server.connect().await?;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = self.server.connect().await?;
        let writer = tokio::spawn(write(writer, self.known.last_user, Arc::clone(&stop)));
        settle().await;
        flush(redis)?;
        let start = Instant::now();
        self.known.look_up_when_complete(&client).await?;
        let seconds = start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let written = writer.await??;
        self.known.add(WRITERS_USERS, written.rows);
        self.known.check(&client).await?;
        self.add("`FLUSHALL` while events are written: right answers after, s", seconds);
        self.add("state filled again: events/s", events / seconds);
        self.add("state filled again: users/s", users / seconds);
        self.add("written meanwhile: events/s", written.rows as f64 / written.seconds);
        self.add("the longest `COPY` of a hundred events meanwhile, s", written.longest_s);

        self.server.kill();
        flush(redis)?;
        let seconds = self.start_again().await?;
        self.add("`kill -9`, then `FLUSHALL`: right answers after, s", seconds);
        Ok(())
    }
}

/// What was written while Redis was filled again.
struct Written {
    rows: usize,
    seconds: f64,
    longest_s: f64,
}

/// Writes an event of each of the writer's users, again and again.
async fn write(client: Client, last_user: i64, stop: Arc<AtomicBool>) -> Result<Written, Error> {
    let time = instant(END - 1);
    let users = last_user + 1..=last_user + WRITERS_USERS as i64;
    let text: String = users.map(|user| format!("{user},1,1,other,{time}\n")).collect();
    let mut written = Written { rows: 0, seconds: 0.0, longest_s: 0.0 };
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        copy(&client, "events", std::iter::once(text.clone())).await?;
        written.longest_s = written.longest_s.max(sent.elapsed().as_secs_f64());
        written.rows += WRITERS_USERS;
        tokio::time::sleep(WRITERS_PAUSE).await;
    }
    written.seconds = start.elapsed().as_secs_f64();
    Ok(written)
}

/// Writes all events as CSV: making the text is no work of a database, so it is not timed.
fn write_csv(events: &Events, path: &Path) -> Result<(), Error> {
    let mut file = BufWriter::new(File::create(path)?);
    for from in (0..events.len()).step_by(CHUNK) {
        file.write_all(events.csv(from, events.len().min(from + CHUNK)).as_bytes())?;
    }
    Ok(file.flush()?)
}

/// Sends a file in `COPY`s of `batch` rows; no more than a message of them is in memory.
async fn copy_file(client: &Client, path: &Path, batch: usize) -> Result<(), Error> {
    let mut lines = BufReader::new(File::open(path)?);
    while !lines.fill_buf()?.is_empty() {
        let sink = client.copy_in::<_, Bytes>("COPY events FROM STDIN WITH (FORMAT csv)").await?;
        let mut sink = std::pin::pin!(sink);
        for from in (0..batch).step_by(CHUNK) {
            let mut chunk = String::new();
            for _ in from..batch.min(from + CHUNK) {
                lines.read_line(&mut chunk)?;
            }
            sink.as_mut().feed(Bytes::from(chunk)).await?;
        }
        sink.as_mut().finish().await?;
    }
    Ok(())
}

/// Bytes that Redis has allocated.
fn used_memory(redis: &RedisServer) -> Result<f64, Error> {
    Ok(redis.info("memory", "used_memory")?.parse()?)
}

fn flush(redis: &RedisServer) -> Result<(), Error> {
    match redis.command("FLUSHALL")?.as_str() {
        "+OK" => Ok(()),
        answer => Err(format!("FLUSHALL: {answer}").into()),
    }
}
