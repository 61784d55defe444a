//! One partition of the point-in-time join at work.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, DynComparator, Int64Array, RecordBatch, make_comparator,
};
use arrow::buffer::ScalarBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType, UInt64Type};
use asofdb_udfs::{Events, Layout, SpineRow, retained_from, sweep};
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::try_join;
use futures::{StreamExt, TryStreamExt};

use super::as_of_join::ORDER;
use super::key_sort::Parts;
use super::late_columns::LateColumns;
use crate::error::Error;
use crate::track::{EVENT_POSITION, EVENT_TIME, events};

/// The columns that the events lack if, with their first batch, there is where to fetch them.
pub type Late = (Arc<LateColumns>, Arc<OnceLock<Arc<Parts>>>);

/// What a partition is started with.
pub struct StreamParts {
    pub spine: SendableRecordBatchStream,
    pub events: SendableRecordBatchStream,
    pub late: Option<Late>,
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub as_of: Arc<dyn PhysicalExpr>,
    pub layout: Arc<Layout>,
    /// Whether the only column of the layout are the events' positions.
    pub positions: bool,
    pub schema: SchemaRef,
    pub context: Arc<TaskContext>,
    pub metrics: (ExecutionPlanMetricsSet, usize),
}

/// The state between two batches of the spine.
pub struct AsOfStream {
    events: SendableRecordBatchStream,
    events_done: bool,
    late: Option<Late>,
    /// Events read and still needed, ordered by key, time and position.
    buffer: Vec<RecordBatch>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    as_of: Arc<dyn PhysicalExpr>,
    layout: Arc<Layout>,
    positions: bool,
    calls: Vec<usize>,
    schema: SchemaRef,
    reservation: MemoryReservation,
    metrics: BaselineMetrics,
}

impl AsOfStream {
    /// Starts the partition.
    pub fn start(parts: StreamParts) -> Result<SendableRecordBatchStream> {
        let reservation = MemoryConsumer::new("AsOfJoin").register(parts.context.memory_pool());
        let state = AsOfStream {
            events: parts.events,
            events_done: false,
            late: parts.late,
            buffer: Vec::new(),
            keys: parts.keys,
            as_of: parts.as_of,
            calls: (0..parts.layout.calls().len()).collect(),
            layout: parts.layout,
            positions: parts.positions,
            schema: Arc::clone(&parts.schema),
            reservation,
            metrics: BaselineMetrics::new(&parts.metrics.0, parts.metrics.1),
        };
        let stream = futures::stream::try_unfold(
            (parts.spine, state, true),
            |(mut spine, mut state, is_first)| async move {
                let batch = match is_first {
                    // What both take to begin with, such as sorting, they do side by side.
                    true => try_join(spine.try_next(), state.read_batch()).await?.0,
                    false => spine.try_next().await?,
                };
                let Some(batch) = batch else { return Ok::<_, DataFusionError>(None) };
                let joined = state.join(batch).await?;
                Ok(Some((joined, (spine, state, false))))
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
        let present = present_rows(&keys, &instants);
        if let Some(last) = present.iter().rposition(|p| *p) {
            self.read_through(&keys, last).await?;
        }
        let metrics = self.metrics.clone();
        let _timer = metrics.elapsed_compute().timer();
        let joined = self.sweep(&spine, &keys, &present, &instants)?;
        metrics.record_output(joined.num_rows());
        Ok(joined)
    }

    /// Reads events until one is beyond the key of a row of the spine or there are no more.
    async fn read_through(&mut self, keys: &[ArrayRef], row: usize) -> Result<()> {
        while !self.events_done {
            if let Some(last) = self.buffer.last() {
                let order = KeyOrder::of(keys, &last.columns()[..keys.len()])?;
                if order.compare(row, last.num_rows() - 1) == Ordering::Less {
                    break;
                }
            }
            self.read_batch().await?;
        }
        Ok(())
    }

    /// Reads some more events.
    async fn read_batch(&mut self) -> Result<()> {
        match self.events.try_next().await? {
            None => self.events_done = true,
            Some(batch) if batch.num_rows() == 0 => {}
            Some(batch) => {
                self.reservation.try_grow(batch.get_array_memory_size())?;
                self.buffer.push(batch);
            }
        }
        Ok(())
    }

    fn sweep(
        &mut self,
        spine: &RecordBatch,
        keys: &[ArrayRef],
        present: &[bool],
        instants: &ArrayRef,
    ) -> Result<RecordBatch> {
        fail::fail_point!("join::sweep");
        let (run, late) = match self.buffer.first() {
            None => (RecordBatch::new_empty(self.events.schema()), None),
            Some(first) => (concat_batches(&first.schema(), &self.buffer)?, self.late()),
        };
        let layout = late.as_ref().map_or(&*self.layout, |(late, _)| &late.layout);
        let instants = instants.as_primitive::<TimestampMicrosecondType>();
        let order = KeyOrder::of(keys, &run.columns()[..keys.len()])?;
        let mut groups = KeyGroups { order, events: run.num_rows(), at: 0..0 };
        let rows: Vec<SpineRow> = (0..spine.num_rows())
            .map(|row| match present[row] {
                false => SpineRow { instant: None, events: groups.at.start..groups.at.start },
                true => SpineRow { instant: Some(instants.value(row)), events: groups.seek(row) },
            })
            .collect();
        let events = run_events(&run, self.keys.len(), self.positions)?;
        let mut values = sweep(layout, &self.calls, &events, &rows).map_err(Error::Aggregate)?;
        let last = rows.iter().rfind(|row| row.instant.is_some());
        let retained = last.map(|last| retained_from(layout, &self.calls, &events, last));
        if let Some((late, parts)) = &late {
            values = late.fetch(parts, values)?;
        }
        if let Some(from) = retained {
            self.retain(run, from)?;
        }
        let mut columns = spine.columns().to_vec();
        columns.extend(values);
        if columns.len() != self.schema.fields().len() {
            return internal_err!("one column for each call");
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// The columns that the events lack, and where to fetch them.
    fn late(&self) -> Option<(Arc<LateColumns>, Arc<Parts>)> {
        let (late, parts) = self.late.as_ref()?;
        Some((Arc::clone(late), Arc::clone(parts.get()?)))
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

/// Times, positions and columns of a run of [`crate::track::Track::events_plan`]; or the positions
/// as the only column.
fn run_events(run: &RecordBatch, keys: usize, only_positions: bool) -> Result<Events> {
    let (Some(times), Some(positions)) =
        (run.column_by_name(EVENT_TIME), run.column_by_name(EVENT_POSITION))
    else {
        return internal_err!("events have a time and a position");
    };
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let positions = positions.as_primitive::<UInt64Type>();
    let columns = match only_positions {
        false => run.columns()[keys + 2..].to_vec(),
        true => {
            let values = ScalarBuffer::new(positions.values().inner().clone(), 0, positions.len());
            vec![Arc::new(Int64Array::new(values, None)) as ArrayRef]
        }
    };
    Ok(events(times, positions, columns))
}

/// Compares the keys of two tables.
struct KeyOrder(Vec<DynComparator>);

impl KeyOrder {
    fn of(left: &[ArrayRef], right: &[ArrayRef]) -> Result<Self> {
        let pairs = left.iter().zip(right);
        let columns = pairs.map(|(left, right)| make_comparator(left, right, ORDER));
        Ok(KeyOrder(columns.collect::<Result<_, _>>()?))
    }

    fn compare(&self, left: usize, right: usize) -> Ordering {
        let columns = self.0.iter().map(|compare| compare(left, right));
        columns.fold(Ordering::Equal, Ordering::then)
    }
}

/// Walks over the keys of a run in step with the spine's keys.
struct KeyGroups {
    /// Compares the spine's keys with those of the run.
    order: KeyOrder,
    /// How many events the run has.
    events: usize,
    /// The events of the key sought last.
    at: Range<usize>,
}

impl KeyGroups {
    /// The events of the key of a row of the spine, which is not less than the one sought before.
    fn seek(&mut self, row: usize) -> Range<usize> {
        if self.at.is_empty() || self.order.compare(row, self.at.start) != Ordering::Equal {
            let start = self.gallop(row, self.at.end, Ordering::is_gt);
            let end = self.gallop(row, start, Ordering::is_ge);
            self.at = start..end;
        }
        self.at.clone()
    }

    /// The first event from `from` on that the row's key has not `passed`.
    fn gallop(&self, row: usize, from: usize, passed: fn(Ordering) -> bool) -> usize {
        let before = |event: usize| passed(self.order.compare(row, event));
        let mut step = 1;
        let mut low = from;
        let mut high = from;
        while high < self.events && before(high) {
            low = high + 1;
            high = (high + step).min(self.events);
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match before(middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}
