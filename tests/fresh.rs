//! A fresh database for one file of tests, served in this process, and connections to it.

use std::path::Path;

use asofdb_server::{ServeConfig, Server};
use tokio_postgres::{Client, NoTls};

/// Whatever stops a test.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A server over an empty database.
pub struct Fresh {
    server: Server,
    /// Removed with the database.
    _folder: tempfile::TempDir,
}

impl Fresh {
    /// Starts a server. Files may be read from an empty folder, which is also where files are
    /// written, from `tests/data` and from `tests/slt/files`.
    pub async fn start() -> Result<Fresh, Error> {
        Fresh::start_with(|_| ()).await
    }

    /// The same, with what `configure` changes.
    pub async fn start_with(configure: impl FnOnce(&mut ServeConfig)) -> Result<Fresh, Error> {
        let folder = tempfile::tempdir()?;
        let files = folder.path().join("files");
        std::fs::create_dir(&files)?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut config = ServeConfig::new(folder.path().join("data"));
        config.listen = "127.0.0.1:0".to_owned();
        config.import_dirs = vec![files, root.join("data"), root.join("slt/files")];
        configure(&mut config);
        let server = Server::start(config).await?;
        Ok(Fresh { server, _folder: folder })
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.server.local_addr().port()
    }

    /// Stops the server.
    pub async fn stop(self) {
        self.server.shutdown().await;
    }
}

/// A connection to a server on this machine.
pub async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let url = format!("host=127.0.0.1 port={port} user=asofdb dbname=asofdb");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    // It ends when the client is dropped.
    tokio::spawn(connection);
    Ok(client)
}
