//! A running server: opens the database, listens, and stops in order.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use asofdb_planner::{
    CheckpointOptions, Database, DatabaseOptions, ObjectStorePlace, OnlineOptions, ReaderOptions,
    RedisOptions,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use url::Url;

use crate::config::{OnlineUrl, ServeConfig};
use crate::connection::Shared;
use crate::listener;
use crate::task::{Task, Threads};

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address to listen on is no address.
    #[error("cannot resolve the address to listen on, \"{address}\": {source}")]
    Address {
        /// The address as configured.
        address: String,
        /// The reason.
        source: std::io::Error,
    },
    /// There is no authentication, so only this machine may connect.
    #[error(
        "refusing to listen on {address}: there is no authentication, anyone who can reach the \
         port can read and change everything; use 127.0.0.1, or --insecure-allow-remote"
    )]
    NotLoopback {
        /// The address as configured.
        address: SocketAddr,
    },
    /// The port can't be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// The reason.
        source: std::io::Error,
    },
    /// The system gives no more threads.
    #[error("cannot start the threads for connections: {0}")]
    Threads(std::io::Error),
    /// The database can't be opened.
    #[error("cannot open the database: {0}")]
    Open(#[from] asofdb_planner::Error),
}

/// A server that accepts connections. Dropping it ends it without draining.
pub struct Server {
    local_addr: SocketAddr,
    database: Database,
    stop: watch::Sender<bool>,
    listener: Task,
}

impl Server {
    /// Opens the database and starts to listen.
    pub async fn start(config: ServeConfig) -> Result<Server, StartError> {
        let address = resolve(&config.listen).await?;
        if !is_loopback(address.ip()) && !config.insecure_allow_remote {
            return Err(StartError::NotLoopback { address });
        }
        // The port first: a second server on it must not touch the data.
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let (max_connections, memory) = (config.max_connections, config.memory_limit_bytes);
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = Threads::start(cores).map_err(StartError::Threads)?;
        let database = open(config).await?;
        let (stop, stopping) = watch::channel(false);
        let shared =
            Arc::new(Shared::new(database.clone(), max_connections, memory / 2, stopping.clone()));
        let listener = Task::spawn(listener::run(listener, threads, shared, stopping));
        tracing::info!(%local_addr, "ready for connections");
        Ok(Server { local_addr, database, stop, listener })
    }

    /// The address that is listened on; its port is never 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The database, for use inside the process.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Stops accepting, tells idle clients to leave, lets running statements end for up to seven
    /// seconds, and closes the database.
    pub async fn shutdown(self) {
        tracing::info!("stopping");
        self.stop.send_replace(true);
        self.listener.await;
        self.database.close().await;
        tracing::info!("stopped");
    }
}

async fn open(config: ServeConfig) -> Result<Database, asofdb_planner::Error> {
    let online = online(config.online, config.online_prefix);
    let (import_dirs, memory_limit_bytes) = (config.import_dirs, config.memory_limit_bytes);
    if let (true, OnlineOptions::Redis(online)) = (config.read_only, &online) {
        let online = online.clone();
        return Database::open_reader(ReaderOptions { online, import_dirs, memory_limit_bytes })
            .await;
    }
    Database::open(DatabaseOptions {
        data_dir: config.data,
        history: config.history.map(object_store_place),
        online,
        import_dirs,
        memory_limit_bytes,
        checkpoint: CheckpointOptions {
            interval: config.checkpoint_interval,
            bytes: config.checkpoint_bytes as u64,
        },
    })
    .await
}

fn online(url: Option<OnlineUrl>, prefix: String) -> OnlineOptions {
    match url {
        None => OnlineOptions::Embedded,
        Some(OnlineUrl(url)) => {
            OnlineOptions::Redis(RedisOptions { prefix, ..RedisOptions::new(url) })
        }
    }
}

/// The folder at `url`, with what the environment says of how to reach it: `AWS_REGION` and so on.
fn object_store_place(url: Url) -> ObjectStorePlace {
    let options = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
    ObjectStorePlace {
        url,
        options: options.filter(|(name, _)| name.starts_with("aws_")).collect(),
    }
}

/// Serves until `shutdown` completes.
pub async fn serve(
    config: ServeConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let server = Server::start(config).await?;
    shutdown.await;
    server.shutdown().await;
    Ok(())
}

async fn resolve(address: &str) -> Result<SocketAddr, StartError> {
    let failed = |source| StartError::Address { address: address.to_owned(), source };
    let mut found = tokio::net::lookup_host(address).await.map_err(failed)?;
    found.next().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
