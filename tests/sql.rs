//! Runs `tests/slt/**/*.slt` through the wire: each file on a fresh database, once with the simple
//! protocol (values as text), once with the extended one (values in binary), and once with the
//! online state in Redis.
//!
//! A failed statement's error is `db error SQLSTATE: message`, with ` (hint: …)` behind it.
//! `COPY … FROM STDIN` takes the lines after its own as data. `ASOFDB_SLT=part` runs the files
//! whose path has `part` in it.
//!
//! `script` runs what the other drivers run, with parameters; `historian` waits for checkpoints.

mod fresh;
mod historian;
mod script;
mod value;

use std::fmt;
use std::path::Path;

use asofdb_server::config::OnlineUrl;
use asofdb_tests::database::files_below;
use asofdb_tests::redis::RedisServer;
use async_trait::async_trait;
use bytes::Bytes;
use fresh::Fresh;
use futures::SinkExt;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tokio_postgres::{Client, SimpleQueryMessage};

#[tokio::test(flavor = "multi_thread")]
async fn simple_protocol() -> Result<(), fresh::Error> {
    run_files(false, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_protocol() -> Result<(), fresh::Error> {
    run_files(true, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn online_state_in_redis() -> Result<(), fresh::Error> {
    run_files(true, Some(RedisServer::start()?)).await
}

async fn run_files(extended: bool, redis: Option<RedisServer>) -> Result<(), fresh::Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let wanted = std::env::var("ASOFDB_SLT").unwrap_or_default();
    let mut failures = Vec::new();
    let mut files = 0;
    for file in files_below(&folder, "slt")? {
        if !file.to_string_lossy().contains(&wanted) {
            continue;
        }
        files += 1;
        let database = Fresh::start_with(|config| {
            config.online = redis.as_ref().map(|redis| OnlineUrl(redis.url()));
            config.online_prefix = format!("file{files}");
        });
        let database = database.await?;
        let port = database.port();
        let mut runner = Runner::new(|| async move {
            let client = fresh::connect(port).await.map_err(Failure::from)?;
            Ok(Connection { client, port, extended })
        });
        runner.with_column_validator(same_types);
        if let Err(error) = runner.run_file_async(&file).await {
            failures.push(error.to_string());
        }
        drop(runner);
        database.stop().await;
    }
    assert!(files > 0, "no .slt file below {}", folder.display());
    assert!(failures.is_empty(), "{} of {files} failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// The simple protocol does not tell the types; they are checked with the extended one.
#[allow(clippy::ptr_arg)]
fn same_types(actual: &Vec<DefaultColumnType>, expected: &Vec<DefaultColumnType>) -> bool {
    let same = |(a, e): (&DefaultColumnType, &DefaultColumnType)| {
        a == e || [a, e].contains(&&DefaultColumnType::Any)
    };
    actual.len() == expected.len() && actual.iter().zip(expected).all(same)
}

struct Connection {
    client: Client,
    port: u16,
    extended: bool,
}

/// An error as the tests expect it.
#[derive(Debug)]
struct Failure {
    state: Option<String>,
    text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Failure { state: None, text: format!("client error: {error:?}") };
        };
        let state = db.code().code().to_owned();
        let hint = db.hint().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
        Failure { text: format!("db error {state}: {}{hint}", db.message()), state: Some(state) }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure { state: None, text }
    }
}

#[async_trait]
impl AsyncDB for Connection {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let (first, rest) = sql.split_once('\n').unwrap_or((sql, ""));
        if first.starts_with("COPY") && first.contains("FROM STDIN") {
            return self.copy(first, rest).await;
        }
        match self.extended {
            true => self.run_extended(sql).await,
            false => self.run_simple(sql).await,
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "asofdb"
    }

    fn error_sql_state(error: &Failure) -> Option<String> {
        error.state.clone()
    }
}

impl Connection {
    async fn copy(&self, sql: &str, data: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        // On a connection of its own: the driver loses step with the server when a COPY fails.
        let client = fresh::connect(self.port).await?;
        let sink = client.copy_in::<_, Bytes>(sql).await?;
        futures::pin_mut!(sink);
        if !data.is_empty() {
            sink.send(Bytes::from(format!("{data}\n"))).await?;
        }
        Ok(DBOutput::StatementComplete(sink.finish().await?))
    }

    async fn run_simple(&self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let mut columns = None;
        let mut rows = Vec::new();
        let mut count = 0;
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(described) => columns = Some(described.len()),
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|i| value::shown(row.get(i))).collect());
                }
                SimpleQueryMessage::CommandComplete(completed) => count = completed,
                _ => {}
            }
        }
        Ok(match columns {
            Some(columns) => DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows },
            None => DBOutput::StatementComplete(count),
        })
    }

    async fn run_extended(&self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let statement = self.client.prepare(sql).await?;
        if statement.columns().is_empty() {
            return Ok(DBOutput::StatementComplete(self.client.execute(&statement, &[]).await?));
        }
        let types = statement.columns().iter().map(|c| value::column_type(c.type_())).collect();
        let mut rows = Vec::new();
        for row in self.client.query(&statement, &[]).await? {
            let cells = (0..row.len()).map(|i| value::decoded(&row, i));
            rows.push(cells.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(DBOutput::Rows { types, rows })
    }
}
