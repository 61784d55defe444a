//! The systems that serve: how each is started, filled, reached, and what it has used.

use std::path::Path;
use std::sync::Arc;

use asofdb_tests::redis::RedisServer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use super::lookup::REDIS_PREFIX;
use crate::definition::{self, PROFILE};
use crate::ingest::copy;
use crate::process::{AsofDb, Floor, Postgres, Usage, redis_usage};
use crate::wire::Address;
use crate::workload::{END, Events, Shape, instant};
use crate::{Error, Setting};

/// What can be asked.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum System {
    /// AsofDB with online state in its memory
    Asofdb,
    /// AsofDB with online state in a Redis of its own
    AsofdbRedis,
    /// PostgreSQL: a primary key, and an index that covers the windows
    Postgresql,
    /// A server that answers every lookup with constant rows
    Floor,
    /// The same with one HMGET of the fields of each key
    FloorRedis,
    /// Redis itself: an HMGET of the fields of each key
    Redis,
}

/// All systems, AsofDB first.
pub const SYSTEMS: [System; 6] = [
    System::Asofdb,
    System::AsofdbRedis,
    System::Postgresql,
    System::Floor,
    System::FloorRedis,
    System::Redis,
];

impl System {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            System::Asofdb => "AsofDB",
            System::AsofdbRedis => "AsofDB on Redis",
            System::Postgresql => "PostgreSQL",
            System::Floor => "floor: constant reply",
            System::FloorRedis => "floor: reply with HMGET",
            System::Redis => "floor: Redis HMGET",
        }
    }
}

/// A system that is filled and serves.
pub struct Running {
    pub system: System,
    server: Server,
}

enum Server {
    AsofDb(Box<AsofDb>, Option<RedisServer>),
    Postgres(Postgres),
    Floor(Floor, Option<Arc<RedisServer>>),
    Redis(Arc<RedisServer>),
}

impl Running {
    /// How it is reached.
    pub fn address(&self) -> Address {
        let (port, name) = match &self.server {
            Server::AsofDb(server, _) => (server.port(), "asofdb"),
            Server::Postgres(server) => (server.port(), "postgres"),
            Server::Floor(server, _) => (server.port(), "floor"),
            Server::Redis(server) => (server.port(), ""),
        };
        Address { port, name }
    }

    /// What all its processes have used, Redis included.
    pub fn usage(&self) -> Result<Usage, Error> {
        let (own, redis) = match &self.server {
            Server::AsofDb(server, redis) => (server.usage()?, redis.as_ref()),
            Server::Postgres(server) => (server.usage()?, None),
            Server::Floor(server, redis) => (server.usage()?, redis.as_deref()),
            Server::Redis(redis) => return redis_usage(redis),
        };
        redis.map_or(Ok(own), |redis| Ok(own.plus(redis_usage(redis)?)))
    }
}

/// Starts and fills systems: events from one file, profiles from one text.
pub async fn start(
    setting: &Setting,
    wanted: &[System],
    folder: &Path,
) -> Result<Vec<Running>, Error> {
    let profiles = profiles(&setting.workload);
    let mut redis = None;
    if wanted.iter().any(|system| matches!(system, System::FloorRedis | System::Redis)) {
        let server = RedisServer::start()?;
        fill_redis(&server, &profiles).await?;
        redis = Some(Arc::new(server));
    }
    let redis = || redis.clone().ok_or("a floor needs Redis");
    let mut running = Vec::new();
    for system in SYSTEMS.into_iter().filter(|system| wanted.contains(system)) {
        let server = match system {
            System::Asofdb => {
                let server = AsofDb::start(&setting.asofdb, folder)?;
                fill_asofdb(&server.connect().await?, folder, &profiles).await?;
                Server::AsofDb(Box::new(server), None)
            }
            System::AsofdbRedis => {
                let redis = RedisServer::start()?;
                let import = format!("--import-dir={}", folder.display());
                let online = format!("--online={}", redis.url());
                let server = AsofDb::with(&setting.asofdb, [import, online])?;
                fill_asofdb(&server.connect().await?, folder, &profiles).await?;
                Server::AsofDb(Box::new(server), Some(redis))
            }
            System::Postgresql => {
                let server = Postgres::start()?;
                fill_postgres(&server.connect().await?, &setting.workload, &profiles).await?;
                Server::Postgres(server)
            }
            System::Floor => Server::Floor(Floor::start(&["reply"])?, None),
            System::FloorRedis => {
                let redis = redis()?;
                Server::Floor(Floor::start(&["reply", "--redis", &redis.url()])?, Some(redis))
            }
            System::Redis => Server::Redis(redis()?),
        };
        running.push(Running { system, server });
    }
    Ok(running)
}

/// A user's number and values, for each user.
type Profiles = Vec<(i64, [f64; PROFILE.len()])>;

fn profiles(shape: &Shape) -> Profiles {
    let mut rng = StdRng::seed_from_u64(shape.seed);
    let mut value = |_| (rng.random_range(-1000.0..1000.0_f64) * 1e4).round() / 1e4;
    (1..=shape.users as i64).map(|user| (user, PROFILE.map(&mut value))).collect()
}

/// The profiles as CSV, a thousand a text.
fn csv(profiles: &Profiles) -> impl Iterator<Item = String> {
    let line = |(user, values): &(i64, [f64; PROFILE.len()])| {
        let values: Vec<String> = values.iter().map(f64::to_string).collect();
        format!("{user},{},{}\n", values.join(","), instant(END - 1))
    };
    profiles.chunks(1000).map(move |chunk| chunk.iter().map(line).collect())
}

async fn fill_asofdb(client: &Client, folder: &Path, profiles: &Profiles) -> Result<(), Error> {
    let sql = [
        definition::create_events(""),
        definition::create_windowed(),
        definition::create_profiles("", true),
    ];
    client.batch_execute(&sql.join("; ")).await?;
    let file = folder.join("events.parquet");
    client.batch_execute(&format!("COPY events FROM '{}'", file.display())).await?;
    copy(client, "profile_events", csv(profiles)).await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

async fn fill_postgres(client: &Client, shape: &Shape, profiles: &Profiles) -> Result<(), Error> {
    client.batch_execute(&definition::postgres_events(true)).await?;
    client.batch_execute(&definition::postgres_profiles()).await?;
    let events = Events::generate(shape)?;
    let chunks = (0..events.len()).step_by(10_000);
    let lines = chunks.map(|from| events.csv(from, events.len().min(from + 10_000)));
    copy(client, "events", lines).await?;
    copy(client, "profiles", csv(profiles)).await?;
    client.batch_execute("VACUUM ANALYZE").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

/// A hash for each user; values are the eight bytes that PostgreSQL's protocol sends.
async fn fill_redis(server: &RedisServer, profiles: &Profiles) -> Result<(), Error> {
    let client = redis::Client::open(server.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    for chunk in profiles.chunks(1000) {
        let mut pipe = redis::pipe();
        for (user, values) in chunk {
            let command = pipe.cmd("HSET").arg(format!("{REDIS_PREFIX}{user}"));
            command.arg("user_id").arg((*user as f64).to_be_bytes().as_slice());
            for (name, value) in PROFILE.iter().zip(values) {
                command.arg(name).arg(value.to_be_bytes().as_slice());
            }
            command.ignore();
        }
        pipe.query_async::<()>(&mut connection).await?;
    }
    Ok(())
}
