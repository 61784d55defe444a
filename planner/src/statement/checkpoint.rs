//! `CHECKPOINT`: the log's rows become Parquet files of the history, and the log is cut.

use std::sync::Arc;

use asofdb_storage::{Manifest, StreamRows};

use crate::catalog::{Catalog, Connector, Source};
use crate::clustering::sort_columns;
use crate::database::{Database, Inner};
use crate::error::Result;
use crate::jobs::JobKind;
use crate::merge::shape;
use crate::session::Outcome;

/// Writes a checkpoint.
pub async fn run(database: &Database) -> Result<Outcome> {
    checkpoint(&database.inner).await?;
    Ok(Outcome::done("CHECKPOINT"))
}

/// Moves every row committed so far from the log into the history.
///
/// Readers see a row in the tail or in a file, never in both: each source's snapshot is replaced
/// in one step, after the manifest that names the file is durable. Returns that manifest, and the
/// catalog whose sources it has.
pub async fn checkpoint(inner: &Arc<Inner>) -> Result<(Arc<Manifest>, Arc<Catalog>)> {
    let writing = inner.writing()?;
    let (ingest, history) = (&writing.ingest, &writing.history);
    let _one = writing.checkpoint.lock().await;
    // No source may come or go while its rows move.
    let _ddl = writing.ddl.lock().await;
    let catalog = inner.catalog();
    let sources: Vec<&Arc<Source>> =
        catalog.sources().filter(|s| s.connector == Connector::Log).collect();
    show_files(inner, &sources).await?;
    let (covered, tails, bytes) = ingest.at_position(|position| {
        let tails: Vec<_> = sources.iter().map(|s| s.data.snapshot().tail).collect();
        (position, tails, ingest.tails().bytes())
    });
    let mut streams = Vec::new();
    for (source, batches) in sources.iter().zip(&tails) {
        if !batches.is_empty() {
            let rows = StreamRows {
                shape: shape(source),
                batches: batches.clone(),
                sort_columns: sort_columns(&catalog, source),
            };
            streams.push((source.id, rows));
        }
    }
    let rows = tails.iter().flatten().map(|batch| batch.num_rows() as u64).sum();
    let _job = inner.jobs.begin(JobKind::Checkpoint, "log", Some(rows));
    let manifest = history.append(covered, streams).await?;
    sources.iter().for_each(|source| source.data.set_files(&manifest, source.id));
    fail::fail_point!("checkpoint::shown");
    ingest.tails().remove(bytes);
    ingest.log().rotate().await?;
    ingest.log().drop_before(covered).await?;
    writing.historian.checkpointed();
    tracing::info!(covered, "checkpoint");
    Ok((manifest, catalog))
}

/// Shows the files that sources have: a change of them that failed may have taken effect. The
/// caller holds [`Writing::checkpoint`](crate::database::Writing::checkpoint).
pub async fn show_files(inner: &Inner, sources: &[&Arc<Source>]) -> Result<()> {
    let manifest = inner.writing()?.history.refresh().await?;
    sources.iter().for_each(|source| source.data.set_files(&manifest, source.id));
    Ok(())
}
