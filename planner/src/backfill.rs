//! Filling a track's timelines from the rows committed before it was made.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::physical_plan::execute_stream_partitioned;
use futures::TryStreamExt;

use crate::catalog::{Catalog, Connector};
use crate::database::Inner;
use crate::error::{Error, Result};
use crate::maintain::LiveTrack;
use crate::source_table::SourceTable;
use crate::track::{Track, TrackProgram};

/// Registers a track and inserts the rows committed so far, while ingest goes on.
///
/// Rows below the position of registration come from the snapshot, those from there on arrive by
/// ingest; both are told apart under one lock, so no row is missed or counted twice. The order of
/// insertion does not matter to a timeline.
pub async fn backfill(
    database: &Arc<Inner>,
    catalog: &Arc<Catalog>,
    track: &Arc<Track>,
) -> Result<()> {
    let state = database.planning.state(catalog);
    let program = TrackProgram::compile(track, &state)?;
    let source = &track.stream.source;
    let (live, plan) = {
        let registered = database.ingest.at_position(|position| {
            let live =
                Arc::new(LiveTrack { track: Arc::clone(track), program, live_from: position });
            database.timelines.register(Arc::clone(&live))?;
            Ok::<_, Error>((live, source.data.snapshot()))
        });
        let (live, snapshot) = registered?;
        let table = match &source.connector {
            Connector::Log => SourceTable::of_snapshot(Arc::clone(source), snapshot),
            Connector::Parquet { .. } => SourceTable::with_position(Arc::clone(source)),
        };
        let plan = table.scan(&state, None, &[], None).await?;
        (live, plan)
    };
    for mut stream in execute_stream_partitioned(plan, state.task_ctx())? {
        while let Some(batch) = stream.try_next().await.map_err(Error::from_datafusion)? {
            database.timelines.insert(&live, &batch)?;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
