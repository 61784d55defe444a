//! What tests and benchmarks share: a server inside the process, the real binary as a process of
//! its own, and the oracle.
//!
//! It knows the server's configuration and the wire protocol, nothing of the engine.

#[path = "harness/checks.rs"]
pub mod checks;
#[path = "harness/clients.rs"]
pub mod clients;
#[path = "harness/codec.rs"]
pub mod codec;
#[path = "harness/database.rs"]
pub mod database;
#[path = "harness/http_proxy.rs"]
pub mod http_proxy;
#[path = "harness/moto.rs"]
pub mod moto;
pub mod oracle;
#[path = "harness/process.rs"]
pub mod process;
#[path = "harness/proxy.rs"]
pub mod proxy;
#[path = "harness/redis.rs"]
pub mod redis;

use std::path::Path;

use asofdb_server::{ServeConfig, Server};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

/// A server on a free port with a folder of its own, which goes when it is dropped.
pub struct TestServer {
    folder: TempDir,
    config: ServeConfig,
    server: Option<Server>,
    port: u16,
}

impl TestServer {
    /// Starts a server on an empty database, with what `configure` changes.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(configure: impl FnOnce(&mut ServeConfig)) -> TestServer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = ServeConfig::new(folder.path());
        config.listen = "127.0.0.1:0".to_owned();
        configure(&mut config);
        let mut server = TestServer { folder, config, server: None, port: 0 };
        server.open().await;
        server
    }

    /// The folder of the database.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new connection. It ends when the client is dropped.
    ///
    /// # Panics
    /// If the server refuses it.
    pub async fn connect(&self) -> Client {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("tester").dbname("asofdb");
        let (client, connection) = config.connect(NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }

    /// Stops the server in order and starts another one on the same folder. Connections end.
    ///
    /// # Panics
    /// If it does not start again.
    pub async fn restart(&mut self) {
        self.close().await;
        self.open().await;
    }

    /// Stops the server in order and removes the folder.
    pub async fn stop(mut self) {
        self.close().await;
    }

    async fn open(&mut self) {
        let server = Server::start(self.config.clone()).await.expect("the server starts");
        self.port = server.local_addr().port();
        self.server = Some(server);
    }

    async fn close(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
    }
}
