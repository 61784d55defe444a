//! The online store: timelines in memory next to embedded key-value stores.
//!
//! Every store takes the same events in batches of a thousand and gives the same users' sums over
//! the longest window; timelines are measured with all 30 features, too. The key-value stores keep
//! an entry an event, read the window's entries and add them up as they come, which is less than
//! the exact sum that timelines give. None of them syncs: the log has already made the events
//! durable. What a key-value store would save is the rebuilding at start, which costs what the
//! inserting costs here.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::Float64Array;
use arrow::datatypes::DataType;
use asofdb_storage::online::Embedded;
use asofdb_udfs::{
    Bound, Call, Events as Columns, Frame, Interval, Layout, Outputs, Timeline, bind,
};
use clap::Args;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use rand::SeedableRng;
use rand::rngs::StdRng;
use redb::{Durability, ReadableDatabase, TableDefinition};
use tempfile::TempDir;

use crate::definition::WINDOWS;
use crate::process::bytes_below;
use crate::report::{Better, Series, compare, heading, median, percentile};
use crate::workload::{END, Events, Users};
use crate::{Error, Setting, agree};

/// Rows that are written together.
const BATCH: usize = 1000;

/// The flags of `stores`.
#[derive(Args)]
pub struct StoresArgs {
    /// Lookups measured in each round
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    lookups: usize,
}

trait Store {
    fn name(&self) -> &'static str;
    /// Adds events `from..to`.
    fn insert(&mut self, events: &Events, from: usize, to: usize) -> Result<(), Error>;
    /// The sum of a user's amounts over the longest window as of the end.
    fn read(&self, user: i64) -> Result<f64, Error>;
    /// Bytes on the disk.
    fn disk_bytes(&self) -> Result<u64, Error>;
}

/// What one round saw.
struct Sample {
    inserts_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    disk_mb: f64,
}

/// Runs the benchmark.
pub fn run(setting: &Setting, args: &StoresArgs) -> Result<(), Error> {
    let shape = &setting.workload;
    let events = Events::generate(shape)?;
    let users = Users::new(shape)?;
    let mut names = Vec::new();
    let mut samples: Vec<Vec<Sample>> = (0..4).map(|_| Vec::new()).collect();
    for round in 0..setting.rounds {
        let mut rng = StdRng::seed_from_u64(shape.seed + round as u64);
        let asked: Vec<i64> = (0..args.lookups).map(|_| users.draw(&mut rng)).collect();
        let stores: [Box<dyn Store>; 4] = [
            Box::new(Memory::new("timelines, a sum", &[SUM_30D])?),
            Box::new(Memory::new("timelines, 30 features", &Vec::from_iter(0..30))?),
            Box::new(Redb::new()?),
            Box::new(Fjall::new()?),
        ];
        let mut answers = Vec::new();
        names = stores.iter().map(|store| store.name()).collect();
        for (mut store, samples) in stores.into_iter().zip(&mut samples) {
            let (sample, sum) = measure(store.as_mut(), &events, &asked)?;
            samples.push(sample);
            answers.push(sum);
        }
        if !answers.iter().all(|sum| agree::near(Some(*sum), Some(answers[0]))) {
            return Err(format!("the stores disagree: {answers:?}").into());
        }
    }
    heading(&format!("Online stores: {} events, {} users", shape.events, shape.users));
    let series = |value: &dyn Fn(&Sample) -> f64| -> Vec<Series> {
        let of = |(name, samples): (&&str, &Vec<Sample>)| Series {
            system: (*name).to_owned(),
            samples: samples.iter().map(value).collect(),
        };
        names.iter().zip(&samples).map(of).collect()
    };
    compare("events inserted/s", Better::Higher, &series(&|s| s.inserts_per_second));
    compare("read p50, µs", Better::Lower, &series(&|s| s.p50_us));
    compare("read p99, µs", Better::Lower, &series(&|s| s.p99_us));
    for Series { system, samples } in series(&|s| s.disk_mb) {
        println!("\n{system}: {:.0} MB on the disk", median(&samples));
    }
    Ok(())
}

/// Fills a store and reads from it; also returns the sum of all answers.
fn measure(store: &mut dyn Store, events: &Events, asked: &[i64]) -> Result<(Sample, f64), Error> {
    let start = Instant::now();
    for from in (0..events.len()).step_by(BATCH) {
        store.insert(events, from, events.len().min(from + BATCH))?;
    }
    let inserts_per_second = events.len() as f64 / start.elapsed().as_secs_f64();
    let mut nanos = Vec::with_capacity(asked.len());
    let mut sum = 0.0;
    for user in asked {
        let start = Instant::now();
        sum += store.read(*user)?;
        nanos.push(start.elapsed().as_nanos() as u64);
    }
    nanos.sort_unstable();
    let us = |share| percentile(&nanos, share) as f64 / 1e3;
    let disk_mb = store.disk_bytes()? as f64 / 1e6;
    Ok((Sample { inserts_per_second, p50_us: us(0.5), p99_us: us(0.99), disk_mb }, sum))
}

/// Timelines in memory, as the server has them.
struct Memory {
    name: &'static str,
    layout: Layout,
    /// Those that are read.
    calls: Vec<usize>,
    timelines: Embedded<Timeline>,
}

const SPACE: u32 = 1;
/// Which of the calls is the sum over the longest window.
const SUM_30D: usize = 24;

impl Memory {
    fn new(name: &'static str, read: &[usize]) -> Result<Memory, Error> {
        let mut calls = Vec::new();
        for window in WINDOWS {
            let start = Bound::Preceding(Interval::from_micros(window.micros));
            for name in ["sum", "count", "avg", "min", "max", "stddev_samp"] {
                calls.push(Call {
                    aggregate: bind(name, false, false, Some(&DataType::Float64))?,
                    argument: Some(0),
                    filter: None,
                    frame: Frame::Range { start, end: Interval::ZERO },
                });
            }
        }
        let timelines = Embedded::new();
        timelines.create_space(SPACE)?;
        let layout = Layout::new(vec![DataType::Float64], calls)?;
        Ok(Memory { name, calls: read.to_vec(), layout, timelines })
    }
}

impl Store for Memory {
    fn name(&self) -> &'static str {
        self.name
    }

    fn insert(&mut self, events: &Events, from: usize, to: usize) -> Result<(), Error> {
        let columns = Columns {
            times: events.ts[from..to].to_vec().into(),
            positions: (from as u64..to as u64).collect::<Vec<_>>().into(),
            columns: vec![Arc::new(Float64Array::from(events.amount[from..to].to_vec()))],
        };
        for row in 0..to - from {
            let mut inserted = Ok(());
            let key = events.user_id[from + row].to_be_bytes();
            self.timelines.update(
                SPACE,
                &key,
                &mut || Timeline::new(&self.layout),
                &mut |timeline| inserted = timeline.insert(&self.layout, &columns, row),
            )?;
            inserted?;
        }
        Ok(())
    }

    fn read(&self, user: i64) -> Result<f64, Error> {
        let mut out = Outputs::new(&self.layout, &self.calls);
        let mut read = Ok(());
        self.timelines.read(SPACE, &[&user.to_be_bytes()], |_| {}, &mut |_, timeline| {
            read = match timeline {
                Some(timeline) => timeline.read(&self.layout, END, &self.calls, &mut out),
                None => out.append_empty_row(&self.layout),
            };
        })?;
        read?;
        let columns = out.finish()?;
        let place = self.calls.iter().position(|call| *call == SUM_30D).unwrap_or(0);
        let sum = columns[place].as_any().downcast_ref::<Float64Array>();
        Ok(sum.and_then(|sum| sum.iter().next().flatten()).unwrap_or(0.0))
    }

    fn disk_bytes(&self) -> Result<u64, Error> {
        Ok(0)
    }
}

/// Key of an entry: user, time. The times of the workload are distinct.
fn entry(user: i64, ts: i64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&user.to_be_bytes());
    key[8..].copy_from_slice(&ts.to_be_bytes());
    key
}

/// The entries of a user's longest window as of the end.
fn window(user: i64) -> std::ops::RangeInclusive<[u8; 16]> {
    entry(user, END - WINDOWS[WINDOWS.len() - 1].micros)..=entry(user, END)
}

const TABLE: TableDefinition<[u8; 16], f64> = TableDefinition::new("events");

struct Redb {
    database: redb::Database,
    folder: TempDir,
}

impl Redb {
    fn new() -> Result<Redb, Error> {
        let folder = tempfile::tempdir()?;
        let database = redb::Database::create(folder.path().join("events.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        Ok(Redb { database, folder })
    }
}

impl Store for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn insert(&mut self, events: &Events, from: usize, to: usize) -> Result<(), Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::None)?;
        let mut table = transaction.open_table(TABLE)?;
        for i in from..to {
            table.insert(entry(events.user_id[i], events.ts[i]), events.amount[i])?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn read(&self, user: i64) -> Result<f64, Error> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut sum = 0.0;
        for item in table.range(window(user))? {
            sum += item?.1.value();
        }
        Ok(sum)
    }

    fn disk_bytes(&self) -> Result<u64, Error> {
        bytes_below(self.folder.path())
    }
}

struct Fjall {
    database: Database,
    events: Keyspace,
    folder: TempDir,
}

impl Fjall {
    fn new() -> Result<Fjall, Error> {
        let folder = tempfile::tempdir()?;
        let database = Database::builder(folder.path().join("events")).open()?;
        let events = database.keyspace("events", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, events, folder })
    }
}

impl Store for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn insert(&mut self, events: &Events, from: usize, to: usize) -> Result<(), Error> {
        let mut batch = self.database.batch();
        for i in from..to {
            let key = entry(events.user_id[i], events.ts[i]);
            batch.insert(&self.events, key, events.amount[i].to_be_bytes());
        }
        Ok(batch.commit()?)
    }

    fn read(&self, user: i64) -> Result<f64, Error> {
        let mut sum = 0.0;
        for item in self.events.range(window(user)) {
            let value = item.value()?;
            sum += f64::from_be_bytes(value.as_ref().try_into()?);
        }
        Ok(sum)
    }

    fn disk_bytes(&self) -> Result<u64, Error> {
        bytes_below(self.folder.path())
    }
}
