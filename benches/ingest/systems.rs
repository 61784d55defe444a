//! The systems that take events.

use asofdb_tests::redis::RedisServer;
use tokio_postgres::Client;

use crate::process::{AsofDb, Postgres, Usage, redis_usage};
use crate::{Error, Setting, definition};

/// Who takes events.
#[derive(Clone, Copy, PartialEq)]
pub enum System {
    /// AsofDB with online state in its memory.
    Asofdb,
    /// AsofDB with online state in a Redis of its own.
    AsofdbRedis,
    /// PostgreSQL with an index that covers the features' windows.
    Postgresql,
    /// PostgreSQL without an index.
    PostgresqlBare,
    /// Redis alone, five sums an event.
    RedisPipe,
}

impl System {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            System::Asofdb => "AsofDB",
            System::AsofdbRedis => "AsofDB on Redis",
            System::Postgresql => "PostgreSQL, one index",
            System::PostgresqlBare => "PostgreSQL, no index",
            System::RedisPipe => "redis-cli --pipe, five sums",
        }
    }

    /// Makes the events anew, without rows.
    pub async fn recreate(self, client: &Client) -> Result<(), Error> {
        match self {
            System::Asofdb | System::AsofdbRedis => recreate(client).await,
            _ => {
                let index = self == System::Postgresql;
                Ok(client.batch_execute(&definition::postgres_events(index)).await?)
            }
        }
    }
}

/// AsofDB: an empty source with 30 features.
pub async fn recreate(client: &Client) -> Result<(), Error> {
    client
        .batch_execute("DROP SOURCE IF EXISTS events CASCADE; DROP ENTITY IF EXISTS users")
        .await?;
    client.batch_execute("CHECKPOINT").await?;
    client.batch_execute(&definition::create_events("")).await?;
    client.batch_execute(&definition::create_windowed()).await?;
    Ok(())
}

/// A server that is connected to.
pub enum Database {
    /// AsofDB, with the Redis that holds its online state, if there is one.
    AsofDb(Box<AsofDb>, Option<RedisServer>),
    /// PostgreSQL.
    Postgres(Postgres),
}

impl Database {
    /// Starts AsofDB, with online state in its memory or in a Redis of its own.
    pub fn asofdb(setting: &Setting, on_redis: bool) -> Result<Database, Error> {
        let redis = on_redis.then(RedisServer::start).transpose()?;
        let online = redis.as_ref().map(|redis| format!("--online={}", redis.url()));
        let server = AsofDb::with(&setting.asofdb, online)?;
        Ok(Database::AsofDb(Box::new(server), redis))
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Client, Error> {
        match self {
            Database::AsofDb(server, _) => server.connect().await,
            Database::Postgres(server) => server.connect().await,
        }
    }

    /// What all its processes have used, Redis included.
    pub fn usage(&self) -> Result<Usage, Error> {
        match self {
            Database::AsofDb(server, Some(redis)) => Ok(server.usage()?.plus(redis_usage(redis)?)),
            Database::AsofDb(server, None) => server.usage(),
            Database::Postgres(server) => server.usage(),
        }
    }
}

/// All of them, running.
pub struct Systems {
    asofdb: Database,
    on_redis: Database,
    postgres: Database,
    /// For `redis-cli --pipe`.
    pub piped: RedisServer,
}

impl Systems {
    /// Starts all of them.
    pub fn start(setting: &Setting) -> Result<Systems, Error> {
        Ok(Systems {
            asofdb: Database::asofdb(setting, false)?,
            on_redis: Database::asofdb(setting, true)?,
            postgres: Database::Postgres(Postgres::start()?),
            piped: RedisServer::start()?,
        })
    }

    /// The database of a system.
    pub fn database(&self, system: System) -> Result<&Database, Error> {
        match system {
            System::Asofdb => Ok(&self.asofdb),
            System::AsofdbRedis => Ok(&self.on_redis),
            System::Postgresql | System::PostgresqlBare => Ok(&self.postgres),
            System::RedisPipe => Err("Redis is no database of SQL".into()),
        }
    }
}
