//! Filling a track's timelines from the rows committed before it was made, or again after they
//! were lost, while ingest goes on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt64Type;
use asofdb_storage::Error as StorageError;
use asofdb_storage::online::Lane;
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream_partitioned};
use futures::{FutureExt, TryStreamExt};
use tokio::time::sleep;

use crate::applier::{finish, patiently};
use crate::catalog::{Catalog, Connector};
use crate::cell::Changes;
use crate::database::Inner;
use crate::error::{Error, Result};
use crate::jobs::JobKind;
use crate::live_track::{Filled, LiveTrack};
use crate::maintain::Timelines;
use crate::planning::Planning;
use crate::preparation::changes;
use crate::source_table::SourceTable;
use crate::track::{Track, TrackProgram};

/// How long a fill that failed waits before it begins again.
const BEGIN_AGAIN: Duration = Duration::from_millis(200);

/// Registers a track and waits until its timelines have the rows committed so far, while ingest
/// goes on.
///
/// Rows below the position of registration come from the source's snapshot, those from there on
/// arrive by ingest; both are told apart under one lock, so no row is missed or counted twice.
/// Returns the number of rows that they were filled from: 0 if the online store had them, or if the
/// track is to have none.
pub async fn backfill(
    database: &Arc<Inner>,
    catalog: &Arc<Catalog>,
    (entity, track): (&str, &Arc<Track>),
) -> Result<u64> {
    let program = TrackProgram::compile(track, &database.planning.state(catalog))?;
    if !track.stream.online {
        return Ok(0);
    }
    let live = database
        .writing()?
        .ingest
        .at_position(|position| database.timelines.register((entity, track), program, position));
    live.whole().await?;
    Ok(live.fill().map_or(0, |fill| fill.rows()))
}

/// The filling of a track whose shards are waiting for it.
pub struct Fill {
    /// The timelines.
    pub timelines: Arc<Timelines>,
    /// What reads the source.
    pub planning: Planning,
    /// The track.
    pub live: Arc<LiveTrack>,
    /// The position below which rows are filled in.
    pub below: u64,
    /// Set when it is to end.
    pub cancelled: Arc<AtomicBool>,
}

impl Fill {
    /// Fills, and says so; a fill that the store lost track of begins again.
    pub async fn run(self) {
        let filled = match AssertUnwindSafe(self.fill()).catch_unwind().await {
            Ok(Ok(true)) => Filled::Whole,
            Ok(Ok(false)) => return,
            Ok(Err(error)) if passes(&error, &self.live) => {
                tracing::warn!(track = self.live.track.id, %error, "online state is filled again");
                sleep(BEGIN_AGAIN).await;
                self.timelines.ask_for_repair(&self.live);
                return;
            }
            Ok(Err(error)) => Filled::Failed(Arc::new(error)),
            Err(_) => Filled::Failed(Arc::new(Error::Internal("a fill panicked".into()))),
        };
        self.live.settle(filled);
    }

    /// Returns whether all rows are in; `false` if it was cancelled.
    async fn fill(&self) -> Result<bool> {
        let (store, space) = (self.timelines.store(), self.live.track.id);
        let source = &self.live.track.stream.source;
        let total = (source.connector == Connector::Log).then(|| rows_from(&self.live, 0));
        let target = format!("{} from {}", self.live.entity, source.name);
        let job = self.timelines.jobs().begin(JobKind::Fill, target, total);
        self.live.filling(job.job());
        let mut sequence = 0;
        for mut rows in scan(&self.planning, &self.live, 0).await? {
            while let Some(batch) = rows.try_next().await.map_err(Error::from_datafusion)? {
                if self.cancelled.load(Ordering::Acquire) {
                    return Ok(false);
                }
                fail::fail_point!("fill::batch");
                let rows = batch.num_rows();
                let batch = within(&self.live, &batch, 0..self.below)?;
                let changes = changes(self.live.program.run(&batch)?)?;
                patiently(store, &self.live, Lane::Fill { sequence }, changes).await?;
                sequence += 1;
                job.advance(rows);
                tokio::task::yield_now().await;
            }
        }
        finish(store, &self.live).await?;
        let (rows, seconds) = (job.job().rows(), job.job().elapsed().as_secs_f64());
        tracing::info!(space, target = job.job().target, rows, seconds, "online state was filled");
        Ok(true)
    }
}

/// Whether a failure passes, if what failed is begun again. Rows that could be read before, and from
/// which the state was computed before, can be read again some time.
pub fn passes(error: &Error, live: &LiveTrack) -> bool {
    let Error::Storage(error) = error else { return live.was_whole() };
    matches!(
        error,
        StorageError::StateLost { .. }
            | StorageError::StateGap { .. }
            | StorageError::StateBehind { .. }
            | StorageError::StateNotReady { .. }
            | StorageError::FillGap { .. }
            | StorageError::StoreUnavailable { .. }
            | StorageError::StoreRefusesWrites { .. }
    )
}

/// The rows of a track's source from position `from` on, and maybe others, in any order.
async fn scan(
    planning: &Planning,
    live: &LiveTrack,
    from: u64,
) -> Result<Vec<SendableRecordBatchStream>> {
    let source = &live.track.stream.source;
    let state = planning.state(&Arc::default());
    let table = match &source.connector {
        Connector::Log => {
            let mut snapshot = source.data.snapshot();
            snapshot.files.retain(|file| file.last_position >= from);
            SourceTable::of_snapshot(Arc::clone(source), snapshot)
        }
        Connector::Parquet { .. } | Connector::Elsewhere => {
            SourceTable::with_position(Arc::clone(source))
        }
    };
    let plan = table.scan(&state, None, &[], None).await?;
    Ok(execute_stream_partitioned(plan, state.task_ctx())?)
}

/// The rows of a batch whose positions in the log are among `positions`.
fn within(live: &LiveTrack, batch: &RecordBatch, positions: Range<u64>) -> Result<RecordBatch> {
    // Rows of files read in place have numbers of their own.
    if live.track.stream.source.connector != Connector::Log {
        return Ok(batch.clone());
    }
    let all = batch.column(batch.num_columns() - 1).as_primitive::<UInt64Type>().values();
    let inside: BooleanArray = all.iter().map(|p| Some(positions.contains(p))).collect();
    Ok(filter_record_batch(batch, &inside)?)
}

/// How many rows a track's source has from position `from` on, at most.
pub fn rows_from(live: &LiveTrack, from: u64) -> u64 {
    let snapshot = live.track.stream.source.data.snapshot();
    let files = snapshot.files.iter().filter(|file| file.last_position >= from);
    let tail: usize = snapshot.tail.iter().map(RecordBatch::num_rows).sum();
    files.map(|file| file.rows).sum::<u64>() + tail as u64
}

/// A part of the log and, of each key, its events in it.
pub type Part = (Range<u64>, Changes);

/// The events of a track at the positions of `parts`, which follow each other.
pub async fn missing_rows(
    planning: &Planning,
    live: &LiveTrack,
    parts: Vec<Range<u64>>,
) -> Result<Vec<Part>> {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Ok(Vec::new()) };
    let all = first.start..last.end;
    let mut found: BTreeMap<u64, Part> =
        parts.iter().map(|part| (part.start, (part.clone(), Vec::new()))).collect();
    for mut rows in scan(planning, live, all.start).await? {
        while let Some(batch) = rows.try_next().await.map_err(Error::from_datafusion)? {
            let batch = within(live, &batch, all.clone())?;
            if batch.num_rows() == 0 {
                continue;
            }
            for (part, events) in found.values_mut() {
                let batch = within(live, &batch, part.clone())?;
                events.extend(changes(live.program.run(&batch)?)?);
            }
        }
    }
    Ok(found.into_values().collect())
}
