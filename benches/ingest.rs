//! Ingest: events a second, durable when acknowledged.
//!
//! AsofDB keeps 30 features fresh over the events; PostgreSQL keeps an index from which it could
//! compute them. Both sync to disk at each commit. Every run starts with nothing and ends with the
//! count and the sum of what is there.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use tokio_postgres::Client;

use crate::process::{AsofDb, Postgres, settle};
use crate::report::{Better, Series, compare, heading};
use crate::serve::copy;
use crate::workload::Events;
use crate::{Error, Setting, agree, definition};

/// The flags of `ingest`.
#[derive(Args)]
pub struct IngestArgs {
    /// Rows of each of the small `COPY` statements
    #[arg(long, default_value_t = 1000, value_name = "N")]
    batch: usize,
    /// Connections that send the small `COPY` statements
    #[arg(long, default_value_t = 8, value_name = "N")]
    clients: usize,
    /// Events that are inserted with `INSERT`, a hundred rows a statement
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    inserted: usize,
}

#[derive(Clone, Copy)]
enum Way {
    /// All events in one `COPY`.
    Bulk,
    /// Small `COPY` statements on several connections.
    Batches,
    /// `INSERT` of a hundred literal rows.
    Insert,
}

const INSERT_ROWS: usize = 100;
const CHUNK: usize = 10_000;

/// Runs the benchmark.
pub async fn run(setting: &Setting, args: &IngestArgs) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let server = AsofDb::start(&setting.asofdb, folder.path())?;
    let postgres = Postgres::start()?;
    let events = Arc::new(Events::generate(&setting.workload)?);
    heading(&format!("Ingest: {} events, {} users", events.len(), setting.workload.users));
    for way in [Way::Bulk, Way::Batches, Way::Insert] {
        let mut series = ["AsofDB", "PostgreSQL"]
            .map(|system| Series { system: system.to_owned(), samples: Vec::new() });
        for _ in 0..setting.rounds {
            settle().await;
            let mut ours = vec![server.connect().await?];
            let mut theirs = vec![postgres.connect().await?];
            for _ in 1..args.clients {
                ours.push(server.connect().await?);
                theirs.push(postgres.connect().await?);
            }
            recreate(&ours[0]).await?;
            series[0].samples.push(way.measure(&ours, &events, args).await?);
            theirs[0].batch_execute(&definition::postgres_events()).await?;
            series[1].samples.push(way.measure(&theirs, &events, args).await?);
        }
        compare(&format!("{}: events/s", way.name(args)), Better::Higher, &series);
    }
    let disk = server.disk_bytes()? as f64 / 1e6;
    eprintln!("AsofDB's folder after all runs: {disk:.0} MB");
    Ok(())
}

/// AsofDB: an empty source with 30 features.
async fn recreate(client: &Client) -> Result<(), Error> {
    client
        .batch_execute("DROP SOURCE IF EXISTS events CASCADE; DROP ENTITY IF EXISTS users")
        .await?;
    client.batch_execute("CHECKPOINT").await?;
    client.batch_execute(&definition::create_events("")).await?;
    client.batch_execute(&definition::create_windowed()).await?;
    Ok(())
}

impl Way {
    fn name(self, args: &IngestArgs) -> String {
        match self {
            Way::Bulk => "one COPY".to_owned(),
            Way::Batches => format!("COPY of {} rows on {} connections", args.batch, args.clients),
            Way::Insert => format!("INSERT of {INSERT_ROWS} rows"),
        }
    }

    /// Events a second.
    async fn measure(
        self,
        clients: &[Client],
        events: &Arc<Events>,
        args: &IngestArgs,
    ) -> Result<f64, Error> {
        let count = match self {
            Way::Insert => args.inserted.min(events.len()),
            _ => events.len(),
        };
        // The text is made beforehand: it is no database's work.
        let rows = match self {
            Way::Bulk => CHUNK,
            Way::Batches => args.batch,
            Way::Insert => INSERT_ROWS,
        };
        let ranges = (0..count).step_by(rows).map(|from| (from, count.min(from + rows)));
        let texts: Vec<String> = match self {
            Way::Insert => ranges
                .map(|(a, b)| format!("INSERT INTO events VALUES {}", events.values(a, b)))
                .collect(),
            _ => ranges.map(|(a, b)| events.csv(a, b)).collect(),
        };
        let start = Instant::now();
        match self {
            Way::Bulk => copy(&clients[0], "events", texts.into_iter()).await?,
            Way::Batches => in_parallel(clients, &texts).await?,
            Way::Insert => {
                for text in &texts {
                    clients[0].batch_execute(text).await?;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        check(&clients[0], events, count).await?;
        Ok(count as f64 / seconds)
    }
}

/// Each client sends its share, a statement for each text.
async fn in_parallel(clients: &[Client], texts: &[String]) -> Result<(), Error> {
    let shares = clients.iter().enumerate().map(|(i, client)| async move {
        for text in texts.iter().skip(i).step_by(clients.len()) {
            copy(client, "events", std::iter::once(text.clone())).await?;
        }
        Ok::<_, Error>(())
    });
    futures::future::try_join_all(shares).await?;
    Ok(())
}

/// Everything is there, once.
async fn check(client: &Client, events: &Events, count: usize) -> Result<(), Error> {
    let row = client.query_one("SELECT count(*), sum(amount) FROM events", &[]).await?;
    let got = agree::numbers(&row)?;
    let sum = events.amount[..count].iter().sum();
    match got[0] == Some(count as f64) && agree::near(got[1], Some(sum)) {
        true => Ok(()),
        false => Err(format!("{got:?} instead of {count} rows with the sum {sum}").into()),
    }
}
