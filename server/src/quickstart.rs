//! `asofdb quickstart`: the whole story on real flights, over the wire, as a user would tell it.
//!
//! 1. A server is started on the given or a temporary folder.
//! 2. The flights are loaded, entities and features declared (`quickstart/flights.sql`).
//! 3. A feature is read online.
//! 4. The training set of all scheduled flights is joined point-in-time and written as Parquet.
//! 5. A sample of its rows is read online as of their instants and compared ([`check`]).

mod check;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::config::{QuickstartConfig, ServeConfig};
use crate::server::{Server, StartError};
use crate::task::Task;

/// The statements that load the data and declare the features.
pub const SETUP: &str = include_str!("quickstart/flights.sql");

/// The query of the training set.
pub const TRAINING: &str = include_str!("quickstart/training.sql");

/// Why the quickstart failed.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// The flights are not where they should be.
    #[error(
        "no flights in \"{0}\": name their folder with --flights (in the repository: tests/data)"
    )]
    NoFlights(PathBuf),
    /// The server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A statement failed.
    #[error("{}", describe(.0))]
    Statement(#[from] tokio_postgres::Error),
    /// A folder or a file failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The training set can't be read.
    #[error("the training set can't be read: {0}")]
    TrainingSet(String),
    /// An online answer differs from the training set.
    #[error("{0} values differ between training set and online answers")]
    Differs(usize),
}

fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

/// Tells the story on standard output.
///
/// # Errors
/// Whatever stops it; [`QuickstartError::Differs`] if a value read online is not the one in the
/// training set.
pub async fn run(config: QuickstartConfig) -> Result<(), QuickstartError> {
    let flights = config.flights.canonicalize().unwrap_or_else(|_| config.flights.clone());
    if !flights.join("schedule.parquet").is_file() {
        return Err(QuickstartError::NoFlights(config.flights));
    }
    let temporary = match &config.data {
        Some(_) => None,
        None => Some(tempfile::tempdir()?),
    };
    let data = match (&config.data, &temporary) {
        (Some(data), _) => data.clone(),
        (None, Some(folder)) => folder.path().to_owned(),
        (None, None) => return Err(std::io::Error::other("no folder").into()),
    };
    let export = data.join("export");
    std::fs::create_dir_all(&export)?;
    let serve = ServeConfig {
        listen: if config.serve { config.listen.clone() } else { "127.0.0.1:0".into() },
        online: config.online.clone(),
        import_dirs: vec![flights, export.canonicalize()?],
        ..ServeConfig::new(&data)
    };
    let server = Server::start(serve).await?;
    let mut story = Story::new();
    let told = story.tell(&server, &export.canonicalize()?).await;
    if told.is_ok() {
        story.say_goodbye(&config, &data, &server)?;
    }
    if told.is_ok() && config.serve {
        tokio::signal::ctrl_c().await?;
    }
    server.shutdown().await;
    told
}

struct Story {
    out: std::io::Stdout,
    began: Instant,
}

impl Story {
    fn new() -> Self {
        Story { out: std::io::stdout(), began: Instant::now() }
    }

    fn say(&mut self, text: &str) -> std::io::Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        writeln!(self.out, "[{seconds:6.1} s] {text}")?;
        self.out.flush()
    }

    async fn tell(
        &mut self,
        server: &Server,
        export: &std::path::Path,
    ) -> Result<(), QuickstartError> {
        let (client, _connection) = connect(server).await?;
        self.say(&format!("AsofDB listens on {}", server.local_addr()))?;
        self.set_up(&client).await?;
        self.read_online(&client).await?;
        let file = export.join("training.parquet");
        self.say("joining all scheduled flights point-in-time …")?;
        let rows =
            client.execute(&format!("COPY ({TRAINING}) TO '{}'", file.display()), &[]).await?;
        self.say(&format!("wrote {} rows to {}", grouped(rows), file.display()))?;
        self.say("reading a sample of them online, as of their instants …")?;
        let result = check::check(&client, &file).await?;
        self.say(&format!(
            "{} values compared on {} rows: {} differ",
            grouped(result.compared),
            grouped(result.rows),
            result.differences.len()
        ))?;
        for difference in result.differences.iter().take(10) {
            self.say(&format!("  {difference}"))?;
        }
        match result.differences.len() {
            0 => Ok(()),
            count => Err(QuickstartError::Differs(count)),
        }
    }

    async fn set_up(&mut self, client: &Client) -> Result<(), QuickstartError> {
        for statement in SETUP.split_inclusive(';').filter(|s| s.contains(';')) {
            let first = statement.lines().find(|l| !l.starts_with("--") && !l.trim().is_empty());
            let title = first.unwrap_or_default().trim_end_matches([' ', '(', ';']);
            let tag = client.simple_query(statement).await?;
            let rows = tag.iter().find_map(|message| match message {
                SimpleQueryMessage::CommandComplete(rows) if *rows > 0 => Some(*rows),
                _ => None,
            });
            self.say(&match rows {
                Some(rows) => format!("{title}: {} rows", grouped(rows)),
                None => title.to_owned(),
            })?;
        }
        Ok(())
    }

    async fn read_online(&mut self, client: &Client) -> Result<(), QuickstartError> {
        let query = "SELECT departures_1h, dep_delay_1h, dep_delay_24h, temp FROM airports \
                     FOR SYSTEM_TIME AS OF TIMESTAMPTZ '2013-07-01 18:00:00Z' WHERE origin = 'JFK'";
        let row = client.query_one(query, &[]).await?;
        self.say("online, JFK as of 2013-07-01 18:00 UTC:")?;
        self.say(&format!(
            "  departures_1h = {}, dep_delay_1h = {:.2}, dep_delay_24h = {:.2}, temp = {:.1}",
            row.get::<_, i64>(0),
            row.get::<_, f64>(1),
            row.get::<_, f64>(2),
            row.get::<_, f64>(3)
        ))?;
        Ok(())
    }

    fn say_goodbye(
        &mut self,
        config: &QuickstartConfig,
        data: &std::path::Path,
        server: &Server,
    ) -> std::io::Result<()> {
        let port = match config.serve {
            true => server.local_addr().port(),
            false => 5433,
        };
        let psql = format!("psql -h 127.0.0.1 -p {port} -U asofdb asofdb");
        match (config.serve, &config.data) {
            (true, _) => self.say(&format!("go on with:  {psql}   (Ctrl-C ends the server)")),
            (false, Some(_)) => {
                self.say(&format!("go on with:  asofdb serve --data {} & {psql}", data.display()))
            }
            (false, None) => self.say(&format!(
                "go on with:  asofdb quickstart --data flights-db --serve, then {psql}"
            )),
        }
    }
}

async fn connect(server: &Server) -> Result<(Client, Task), tokio_postgres::Error> {
    let address = server.local_addr();
    let url = format!("host={} port={} user=asofdb dbname=asofdb", address.ip(), address.port());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    // It ends with the client.
    let task = Task::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "connection of the quickstart");
        }
    });
    Ok((client, task))
}

/// A number with commas between thousands.
fn grouped(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or_default().to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
