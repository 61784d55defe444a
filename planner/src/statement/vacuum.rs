//! `VACUUM`: all that the historian does by itself from time to time, now and to the end.

use std::sync::Arc;

use asofdb_sql::{Vacuum, fold};

use crate::catalog::{Connector, Source};
use crate::database::Database;
use crate::error::Result;
use crate::forget::forget;
use crate::historian::expire;
use crate::merge::{Extent, merge_files};
use crate::session::Outcome;
use crate::statement::checkpoint::checkpoint;

/// Writes a checkpoint, drops what has expired, merges files, and has online state forget.
pub async fn run(database: &Database, vacuum: &Vacuum) -> Result<Outcome> {
    let inner = &database.inner;
    let catalog = inner.catalog();
    let sources: Vec<Arc<Source>> = match &vacuum.source {
        Some(name) => vec![Arc::clone(catalog.source(&fold(name))?)],
        None => catalog.sources().cloned().collect(),
    };
    checkpoint(inner).await?;
    for source in sources.iter().filter(|source| source.connector == Connector::Log) {
        expire(inner, source).await?;
        merge_files(inner, source, Extent::One).await?;
        forget(inner, source, true).await?;
    }
    inner.writing()?.history.delete_retired().await?;
    Ok(Outcome::done("VACUUM"))
}
