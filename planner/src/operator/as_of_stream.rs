//! One partition of the point-in-time join at work.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType, UInt64Type};
use arrow::row::{OwnedRow, Row, RowConverter, Rows, SortField};
use asofdb_udfs::{Events, Layout, SpineRow, retained_from, sweep};
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

use crate::error::Error;
use crate::track::{EVENT_POSITION, EVENT_TIME, events};

/// What a partition is started with.
pub struct StreamParts {
    pub spine: SendableRecordBatchStream,
    pub events: SendableRecordBatchStream,
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub as_of: Arc<dyn PhysicalExpr>,
    pub layout: Arc<Layout>,
    pub schema: SchemaRef,
    pub context: Arc<TaskContext>,
    pub metrics: (ExecutionPlanMetricsSet, usize),
}

/// The state between two batches of the spine.
pub struct AsOfStream {
    events: SendableRecordBatchStream,
    events_done: bool,
    /// Events read and still needed, ordered by key, time and position.
    buffer: Vec<RecordBatch>,
    /// The last key in `buffer`.
    last_event_key: Option<OwnedRow>,
    converter: RowConverter,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    as_of: Arc<dyn PhysicalExpr>,
    layout: Arc<Layout>,
    calls: Vec<usize>,
    schema: SchemaRef,
    reservation: MemoryReservation,
    metrics: BaselineMetrics,
}

impl AsOfStream {
    /// Starts the partition.
    pub fn start(parts: StreamParts) -> Result<SendableRecordBatchStream> {
        let event_schema = parts.events.schema();
        let key_fields = &event_schema.fields()[..parts.keys.len()];
        let fields = key_fields.iter().map(|f| SortField::new(f.data_type().clone()));
        let reservation = MemoryConsumer::new("AsOfJoin").register(parts.context.memory_pool());
        let state = AsOfStream {
            events: parts.events,
            events_done: false,
            buffer: Vec::new(),
            last_event_key: None,
            converter: RowConverter::new(fields.collect())?,
            keys: parts.keys,
            as_of: parts.as_of,
            calls: (0..parts.layout.calls().len()).collect(),
            layout: parts.layout,
            schema: Arc::clone(&parts.schema),
            reservation,
            metrics: BaselineMetrics::new(&parts.metrics.0, parts.metrics.1),
        };
        let stream = futures::stream::try_unfold(
            (parts.spine, state),
            |(mut spine, mut state)| async move {
                let Some(batch) = spine.try_next().await? else {
                    return Ok::<_, DataFusionError>(None);
                };
                let joined = state.join(batch).await?;
                Ok(Some((joined, (spine, state))))
            },
        );
        Ok(Box::pin(RecordBatchStreamAdapter::new(parts.schema, stream.fuse())))
    }

    async fn join(&mut self, spine: RecordBatch) -> Result<RecordBatch> {
        let keys = self
            .keys
            .iter()
            .map(|k| k.evaluate(&spine)?.into_array(spine.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        let instants = self.as_of.evaluate(&spine)?.into_array(spine.num_rows())?;
        let rows = self.converter.convert_columns(&keys)?;
        let present = present_rows(&keys, &instants);
        if let Some(last) = present.iter().rposition(|p| *p) {
            self.read_through(rows.row(last)).await?;
        }
        let metrics = self.metrics.clone();
        let _timer = metrics.elapsed_compute().timer();
        let joined = self.sweep(&spine, &rows, &present, &instants)?;
        metrics.record_output(joined.num_rows());
        Ok(joined)
    }

    /// Reads events until one is beyond `key` or there are no more.
    async fn read_through(&mut self, key: Row<'_>) -> Result<()> {
        while !self.events_done && self.last_event_key.as_ref().is_none_or(|k| k.row() <= key) {
            match self.events.next().await.transpose()? {
                None => self.events_done = true,
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => {
                    let last = batch.slice(batch.num_rows() - 1, 1);
                    let columns = &last.columns()[..self.keys.len()];
                    let rows = self.converter.convert_columns(columns)?;
                    self.last_event_key = Some(rows.row(0).owned());
                    self.reservation.try_grow(batch.get_array_memory_size())?;
                    self.buffer.push(batch);
                }
            }
        }
        Ok(())
    }

    fn sweep(
        &mut self,
        spine: &RecordBatch,
        keys: &Rows,
        present: &[bool],
        instants: &ArrayRef,
    ) -> Result<RecordBatch> {
        fail::fail_point!("join::sweep");
        let run = concat_batches(&self.events.schema(), &self.buffer)?;
        let run_keys = self.converter.convert_columns(&run.columns()[..self.keys.len()])?;
        let instants = instants.as_primitive::<TimestampMicrosecondType>();
        let mut groups = KeyGroups { keys: &run_keys, at: 0..0 };
        let rows: Vec<SpineRow> = (0..spine.num_rows())
            .map(|row| match present[row] {
                false => SpineRow { instant: None, events: groups.at.start..groups.at.start },
                true => SpineRow {
                    instant: Some(instants.value(row)),
                    events: groups.seek(keys.row(row)),
                },
            })
            .collect();
        let events = run_events(&run, self.keys.len())?;
        let values = sweep(&self.layout, &self.calls, &events, &rows).map_err(Error::Aggregate)?;
        if let Some(last) = rows.iter().rfind(|r| r.instant.is_some()) {
            let from = retained_from(&self.layout, &self.calls, &events, last);
            self.retain(run, from)?;
        }
        let mut columns = spine.columns().to_vec();
        columns.extend(values);
        if columns.len() != self.schema.fields().len() {
            return internal_err!("one column for each call");
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Keeps the events from `from` on.
    fn retain(&mut self, run: RecordBatch, from: usize) -> Result<()> {
        let kept = run.slice(from, run.num_rows() - from);
        // A slice keeps the whole run alive: copy the few that are left.
        let kept = match kept.num_rows() * 2 < run.num_rows() {
            true => concat_batches(&kept.schema(), [&kept])?,
            false => kept,
        };
        self.reservation.try_resize(kept.get_array_memory_size())?;
        self.buffer = if kept.num_rows() == 0 { Vec::new() } else { vec![kept] };
        Ok(())
    }
}

/// Rows with a whole key and an instant.
fn present_rows(keys: &[ArrayRef], instants: &ArrayRef) -> Vec<bool> {
    (0..instants.len())
        .map(|row| keys.iter().chain([instants]).all(|column| column.is_valid(row)))
        .collect()
}

/// Times, positions and columns of a run of [`crate::track::Track::events_plan`].
fn run_events(run: &RecordBatch, keys: usize) -> Result<Events> {
    let (Some(times), Some(positions)) =
        (run.column_by_name(EVENT_TIME), run.column_by_name(EVENT_POSITION))
    else {
        return internal_err!("events have a time and a position");
    };
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let positions = positions.as_primitive::<UInt64Type>();
    Ok(events(times, positions, run.columns()[keys + 2..].to_vec()))
}

/// Walks over the keys of a run in step with the spine's keys.
struct KeyGroups<'a> {
    keys: &'a Rows,
    /// The events of the key sought last.
    at: Range<usize>,
}

impl KeyGroups<'_> {
    /// The events of `key`, which is not less than the one sought before.
    fn seek(&mut self, key: Row<'_>) -> Range<usize> {
        let total = self.keys.num_rows();
        if !self.at.is_empty() && self.keys.row(self.at.start) == key {
            return self.at.clone();
        }
        let start = self.gallop(self.at.end, total, |k| k < key);
        let end = self.gallop(start, total, |k| k <= key);
        self.at = start..end;
        self.at.clone()
    }

    /// The first index from `from` on of which the key is not `before`.
    fn gallop(&self, from: usize, to: usize, before: impl Fn(Row<'_>) -> bool) -> usize {
        let mut step = 1;
        let mut low = from;
        let mut high = from;
        while high < to && before(self.keys.row(high)) {
            low = high + 1;
            high = (high + step).min(to);
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match before(self.keys.row(middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}
