//! The workload: events of users with skewed activity, and labels to join them to.
//!
//! The same seed and sizes give the same rows on every machine.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use clap::Args;
use parquet::arrow::ArrowWriter;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, LogNormal, Zipf};

use crate::Error;
use crate::definition::{PROFILE, WINDOWS};

/// 2024-01-01T00:00:00Z in microseconds since 1970.
const START: i64 = 1_704_067_200_000_000;
/// Events and labels fall into 180 days.
const SPAN: i64 = 180 * 86_400_000_000;
/// A microsecond after the last event can have happened: the instant that lookups are as of.
pub const END: i64 = START + SPAN;
const MERCHANTS: f64 = 50_000.0;
const CATEGORIES: [&str; 20] = [
    "grocery",
    "fuel",
    "travel",
    "dining",
    "online",
    "electronics",
    "pharmacy",
    "clothing",
    "utility",
    "rent",
    "gaming",
    "books",
    "sports",
    "music",
    "health",
    "beauty",
    "pets",
    "auto",
    "garden",
    "other",
];
/// One label of so many falls exactly on an event, and one exactly a window's length after one.
const EDGE_SHARE: usize = 20;
const BATCH: usize = 1 << 17;

/// The sizes of a workload.
#[derive(Args, Clone)]
pub struct Shape {
    /// Seed of the generator
    #[arg(long, global = true, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Events
    #[arg(long, global = true, default_value_t = 1_000_000, value_name = "N")]
    pub events: usize,
    /// Labels
    #[arg(long, global = true, default_value_t = 100_000, value_name = "N")]
    pub labels: usize,
    /// Users
    #[arg(long, global = true, default_value_t = 100_000, value_name = "N")]
    pub users: usize,
    /// Exponent of the Zipf distribution of activity over users; 0 is uniform
    #[arg(long, global = true, default_value_t = 0.8, value_name = "S")]
    pub skew: f64,
}

impl Shape {
    /// Refuses sizes that make no workload.
    pub fn check(&self) -> Result<(), Error> {
        let zipf = Zipf::new(self.users as f64, self.skew);
        let wrong = zipf.err().map(|error| format!("--users, --skew: {error}"));
        let wrong = wrong.or((self.events == 0).then(|| "--events: at least one".to_owned()));
        wrong.map_or(Ok(()), |message| Err(message.into()))
    }
}

/// Draws users in proportion to their activity: rank 1 is the most active one.
pub struct Users(Zipf<f64>);

impl Users {
    /// The users of a workload.
    pub fn new(shape: &Shape) -> Result<Users, Error> {
        Ok(Users(Zipf::new(shape.users as f64, shape.skew)?))
    }

    /// A user: 1 to the number of users.
    pub fn draw(&self, rng: &mut impl Rng) -> i64 {
        self.0.sample(rng) as i64
    }
}

/// Events in the order of their time, which no two share: the last one is the same for everybody.
pub struct Events {
    pub user_id: Vec<i64>,
    pub merchant_id: Vec<i64>,
    pub amount: Vec<f64>,
    category: Vec<u8>,
    pub ts: Vec<i64>,
}

impl Events {
    /// Draws the events of a workload.
    pub fn generate(shape: &Shape) -> Result<Events, Error> {
        let mut rng = StdRng::seed_from_u64(shape.seed);
        let users = Users::new(shape)?;
        let merchants = Zipf::new(MERCHANTS, 0.8)?;
        let amounts = LogNormal::new(3.2, 1.1)?;
        let mut ts: Vec<i64> = (0..shape.events).map(|_| rng.random_range(START..END)).collect();
        ts.sort_unstable();
        for i in 1..ts.len() {
            ts[i] = ts[i].max(ts[i - 1] + 1);
        }
        if ts[ts.len() - 1] >= END {
            return Err("the last events fall out of the span: take another seed".into());
        }
        let mut events =
            Events { user_id: vec![], merchant_id: vec![], amount: vec![], category: vec![], ts };
        for _ in 0..shape.events {
            events.user_id.push(users.draw(&mut rng));
            events.merchant_id.push(merchants.sample(&mut rng) as i64);
            events.amount.push((amounts.sample(&mut rng) * 100.0_f64).round() / 100.0);
            events.category.push(rng.random_range(0..CATEGORIES.len() as u8));
        }
        Ok(events)
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Rows `from..to` as the lines of a CSV without header.
    pub fn csv(&self, from: usize, to: usize) -> String {
        let line = |i: usize| {
            let (user, merchant, amount) = (self.user_id[i], self.merchant_id[i], self.amount[i]);
            let category = CATEGORIES[usize::from(self.category[i])];
            format!("{user},{merchant},{amount},{category},{}\n", instant(self.ts[i]))
        };
        (from..to).map(line).collect()
    }

    /// Rows `from..to` as a list of SQL rows.
    pub fn values(&self, from: usize, to: usize) -> String {
        let row = |i: usize| {
            let (user, merchant, amount) = (self.user_id[i], self.merchant_id[i], self.amount[i]);
            let category = CATEGORIES[usize::from(self.category[i])];
            format!("({user},{merchant},{amount},'{category}','{}')", instant(self.ts[i]))
        };
        (from..to).map(row).collect::<Vec<_>>().join(",")
    }

    fn batch(&self, from: usize, to: usize) -> Result<RecordBatch, Error> {
        let category = self.category[from..to].iter().map(|c| Some(CATEGORIES[usize::from(*c)]));
        Ok(RecordBatch::try_from_iter([
            ("user_id", longs(&self.user_id[from..to])),
            ("merchant_id", longs(&self.merchant_id[from..to])),
            ("amount", Arc::new(Float64Array::from(self.amount[from..to].to_vec())) as ArrayRef),
            ("category", Arc::new(category.collect::<StringArray>())),
            ("ts", times(&self.ts[from..to])),
        ])?)
    }
}

/// An instant in microseconds since 1970 as every database reads it.
pub fn instant(micros: i64) -> String {
    let instant = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    instant.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

/// Writes `events.parquet` and `labels.parquet` to a folder.
pub fn write(shape: &Shape, folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder)?;
    let events = Events::generate(shape)?;
    write_file(&folder.join("events.parquet"), events.len(), |from, to| events.batch(from, to))?;
    let (user, ts) = labels(shape, &events)?;
    let ids: Vec<i64> = (0..shape.labels as i64).collect();
    write_file(&folder.join("labels.parquet"), shape.labels, |from, to| {
        let (id, user, ts) = (longs(&ids[from..to]), longs(&user[from..to]), times(&ts[from..to]));
        Ok(RecordBatch::try_from_iter([("label_id", id), ("user_id", user), ("ts", ts)])?)
    })
}

/// Writes `profiles.parquet`: the events' users and times, each with the ten values of a profile.
pub fn write_profiles(shape: &Shape, folder: &Path) -> Result<(), Error> {
    let events = Events::generate(shape)?;
    let mut rng = StdRng::seed_from_u64(shape.seed ^ 0xf00d);
    let mut column = || (0..events.len()).map(|_| rng.random_range(-1000.0..1000.0)).collect();
    let columns: [Vec<f64>; PROFILE.len()] = PROFILE.map(|_| column());
    write_file(&folder.join("profiles.parquet"), events.len(), |from, to| {
        let user = std::iter::once(("user_id", longs(&events.user_id[from..to])));
        let doubles =
            |column: &Vec<f64>| Arc::new(Float64Array::from(column[from..to].to_vec())) as ArrayRef;
        let values = PROFILE.into_iter().zip(columns.iter().map(doubles));
        let ts = std::iter::once(("ts", times(&events.ts[from..to])));
        Ok(RecordBatch::try_from_iter(user.chain(values).chain(ts))?)
    })
}

/// Users and times of the labels. Some fall on the edges of windows, where engines differ first.
fn labels(shape: &Shape, events: &Events) -> Result<(Vec<i64>, Vec<i64>), Error> {
    let mut rng = StdRng::seed_from_u64(shape.seed ^ 0x1abe1);
    let users = Users::new(shape)?;
    let draw = |i: usize| {
        let event = rng.random_range(0..events.len());
        let (user, ts) = (events.user_id[event], events.ts[event]);
        match i % EDGE_SHARE {
            0 => (user, ts),
            1 => (user, ts + WINDOWS[rng.random_range(0..WINDOWS.len())].micros),
            _ => (users.draw(&mut rng), rng.random_range(START..END)),
        }
    };
    Ok((0..shape.labels).map(draw).unzip())
}

fn write_file(
    path: &Path,
    rows: usize,
    batch: impl Fn(usize, usize) -> Result<RecordBatch, Error>,
) -> Result<(), Error> {
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch(0, 0)?.schema(), None)?;
    for from in (0..rows).step_by(BATCH) {
        writer.write(&batch(from, rows.min(from + BATCH))?)?;
    }
    writer.close()?;
    Ok(())
}

fn longs(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn times(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC"))
}
