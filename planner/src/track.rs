//! A track: the events of one source that concern one entity, with the columns its features read
//! and the aggregate calls over them. One definition serves both paths: as a plan under the
//! point-in-time join, and row by row in the maintenance of the online state.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, TimestampMicrosecondType, UInt64Type};
use asofdb_udfs::{Aggregate, Call, Events, Frame, Layout};
use datafusion::common::{Column, DFSchema};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableSource, cast as cast_to,
};
use datafusion::physical_expr::PhysicalExpr;

use crate::catalog::{Entity, POSITION, Source};
use crate::error::{Error, Result};

/// One aggregate call of a feature's definition, over columns of the source.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// The aggregate, bound to its argument's type.
    pub aggregate: Arc<dyn Aggregate>,
    /// Tells one bound aggregate from another: name, DISTINCT, IGNORE NULLS.
    pub signature: String,
    /// The argument; none for `count(*)`.
    pub argument: Option<Expr>,
    /// The `FILTER` clause.
    pub filter: Option<Expr>,
    /// The window frame.
    pub frame: Frame,
}

impl PartialEq for CallSpec {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
            && self.argument == other.argument
            && self.filter == other.filter
            && self.frame == other.frame
    }
}

/// Which rows of which source belong to which key.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The source.
    pub source: Arc<Source>,
    /// The rows that count, the definition's `WHERE`.
    pub selection: Option<Expr>,
    /// One for each key column of the entity, of its type.
    pub keys: Vec<Expr>,
    /// Whether timelines of the events are kept for lookups. If not, lookups read the events.
    pub online: bool,
}

impl PartialEq for Stream {
    fn eq(&self, other: &Self) -> bool {
        self.source.id == other.source.id
            && self.selection == other.selection
            && self.keys == other.keys
            && self.online == other.online
    }
}

/// A stream with all the aggregate calls that an entity's features make over it.
#[derive(Debug)]
pub struct Track {
    /// Never reused; the space of its timelines in the online store.
    pub id: u32,
    /// Where the events come from.
    pub stream: Stream,
    /// The calls.
    pub calls: Vec<CallSpec>,
    /// The distinct arguments and filters of the calls.
    pub columns: Vec<Expr>,
    /// Columns and calls as the kernels know them.
    pub layout: Arc<Layout>,
    /// Set before its timelines go; what was read from them after that counts for nothing.
    retired: AtomicBool,
}

impl Track {
    /// A track of these calls. `state` resolves the columns' types.
    pub fn new(id: u32, stream: Stream, calls: Vec<CallSpec>) -> Result<Self> {
        let schema = source_schema(&stream.source)?;
        let mut columns: Vec<Expr> = Vec::new();
        let mut place = |expr: &Expr| match columns.iter().position(|c| c == expr) {
            Some(index) => index,
            None => {
                columns.push(expr.clone());
                columns.len() - 1
            }
        };
        let bound = calls
            .iter()
            .map(|call| Call {
                aggregate: Arc::clone(&call.aggregate),
                argument: call.argument.as_ref().map(&mut place),
                filter: call.filter.as_ref().map(&mut place),
                frame: call.frame,
            })
            .collect();
        let types = columns.iter().map(|c| expr_type(c, &schema)).collect::<Result<Vec<_>>>()?;
        let layout = Arc::new(Layout::new(types, bound)?);
        Ok(Track { id, stream, calls, columns, layout, retired: AtomicBool::new(false) })
    }

    /// Tells the track's definition from others, also after a restart: state that was kept under
    /// one fits no other. It may change with a version of this program; then state is filled anew.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.stream, &self.calls)
    }

    /// Says that the timelines are about to go.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Whether the timelines are gone or about to go.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Whether both compute the same.
    pub fn same_definition(&self, stream: &Stream, calls: &[CallSpec]) -> bool {
        self.stream == *stream && self.calls == calls
    }

    /// The column that carries a call's value from the operators to the features' expressions.
    pub fn call_name(&self, call: usize) -> String {
        call_name(self.id, call)
    }

    /// The part of the layout that `calls` need, and the columns of the track in it.
    pub fn restricted(&self, calls: &[usize]) -> Result<(Layout, Vec<usize>)> {
        let mut columns: Vec<usize> = Vec::new();
        let mut place = |index: usize| match columns.iter().position(|c| *c == index) {
            Some(place) => place,
            None => {
                columns.push(index);
                columns.len() - 1
            }
        };
        let all = self.layout.calls();
        let restricted = calls
            .iter()
            .map(|&c| Call {
                aggregate: Arc::clone(&all[c].aggregate),
                argument: all[c].argument.map(&mut place),
                filter: all[c].filter.map(&mut place),
                frame: all[c].frame,
            })
            .collect();
        let types = columns.iter().map(|&c| self.layout.columns()[c].clone()).collect();
        Ok((Layout::new(types, restricted)?, columns))
    }

    /// The events as a plan: the key columns, the event time, the position, and the columns that
    /// `calls` need in the order of [`Track::restricted`]. Rows with a NULL key are left out.
    pub fn events_plan(&self, calls: &[usize], table: Arc<dyn TableSource>) -> Result<LogicalPlan> {
        let source = &self.stream.source;
        let mut plan = LogicalPlanBuilder::scan(source.name.as_str(), table, None)?;
        if let Some(selection) = &self.stream.selection {
            plan = plan.filter(selection.clone())?;
        }
        for key in &self.stream.keys {
            plan = plan.filter(key.clone().is_not_null())?;
        }
        let mut exprs = Vec::new();
        for (index, key) in self.stream.keys.iter().enumerate() {
            exprs.push(key.clone().alias(event_key_name(index)));
        }
        exprs.push(column(source.schema.field(source.event_time).name()).alias(EVENT_TIME));
        exprs.push(column(POSITION).alias(EVENT_POSITION));
        let (_, columns) = self.restricted(calls)?;
        for index in columns {
            exprs.push(self.columns[index].clone().alias(event_column_name(index)));
        }
        Ok(plan.project(exprs)?.build()?)
    }
}

/// The version of timelines as bytes, in an online store: another one fits no state.
const STATE_FORMAT: u32 = 1;

/// See [`Track::fingerprint`].
pub fn fingerprint(stream: &Stream, calls: &[CallSpec]) -> String {
    let optional = |expr: &Option<Expr>| expr.as_ref().map(ToString::to_string);
    let keys: Vec<_> = stream.keys.iter().map(ToString::to_string).collect();
    let mut hasher = DefaultHasher::new();
    (STATE_FORMAT, stream.source.id, optional(&stream.selection), keys).hash(&mut hasher);
    for field in stream.source.schema.fields() {
        (field.name(), field.data_type()).hash(&mut hasher);
    }
    if !stream.online {
        "offline".hash(&mut hasher);
    }
    for call in calls {
        let parts = (optional(&call.argument), optional(&call.filter), call.frame);
        (&call.signature, parts).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// The event time in [`Track::events_plan`].
pub const EVENT_TIME: &str = "__event_time";
/// The position in [`Track::events_plan`].
pub const EVENT_POSITION: &str = "__event_position";

/// The name of a key column in [`Track::events_plan`].
pub fn event_key_name(index: usize) -> String {
    format!("__event_key_{index}")
}

/// The name of a track's column in [`Track::events_plan`].
pub fn event_column_name(index: usize) -> String {
    format!("__event_column_{index}")
}

/// The name of a call's value.
pub fn call_name(track: u32, call: usize) -> String {
    format!("__call_{track}_{call}")
}

/// A column by its exact name.
pub fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// The schema that a definition's expressions are resolved against.
pub fn source_schema(source: &Source) -> Result<DFSchema> {
    Ok(DFSchema::try_from(source.schema_with_position().as_ref().clone())?)
}

/// The type of a resolved expression.
pub fn expr_type(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    use datafusion::logical_expr::ExprSchemable;
    Ok(expr.get_type(schema)?)
}

/// The keys of a stream, cast to the entity's key types.
pub fn key_exprs(entity: &Entity, columns: &[Expr], schema: &DFSchema) -> Result<Vec<Expr>> {
    entity
        .key
        .iter()
        .zip(columns)
        .map(|(field, expr)| {
            if expr_type(expr, schema)? == *field.data_type() {
                Ok(expr.clone())
            } else {
                Ok(cast_to(expr.clone(), field.data_type().clone()))
            }
        })
        .collect()
}

/// A track's expressions, compiled to run over batches of its source.
#[derive(Debug)]
pub struct TrackProgram {
    selection: Option<Arc<dyn PhysicalExpr>>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    columns: Vec<Arc<dyn PhysicalExpr>>,
    event_time: usize,
}

/// The events of a batch that belong to a track.
pub struct KeyedEvents {
    /// The key columns.
    pub keys: Vec<ArrayRef>,
    /// Times, positions and the track's columns.
    pub events: Events,
}

impl TrackProgram {
    /// Compiles the track's expressions.
    pub fn compile(track: &Track, state: &SessionState) -> Result<Self> {
        let schema = source_schema(&track.stream.source)?;
        let compile = |expr: &Expr| {
            state.create_physical_expr(expr.clone(), &schema).map_err(Error::from_datafusion)
        };
        Ok(TrackProgram {
            selection: track.stream.selection.as_ref().map(compile).transpose()?,
            keys: track.stream.keys.iter().map(compile).collect::<Result<_>>()?,
            columns: track.columns.iter().map(compile).collect::<Result<_>>()?,
            event_time: track.stream.source.event_time,
        })
    }

    /// The events among `batch`, which has the source's columns and the position.
    pub fn run(&self, batch: &RecordBatch) -> Result<KeyedEvents> {
        let selected;
        let batch = match &self.selection {
            None => batch,
            Some(selection) => {
                let mask = evaluate(selection, batch)?;
                let mask: &BooleanArray = mask.as_boolean();
                selected = filter_record_batch(batch, mask)?;
                &selected
            }
        };
        let keys = self.keys.iter().map(|k| evaluate(k, batch)).collect::<Result<_>>()?;
        let columns = self.columns.iter().map(|c| evaluate(c, batch)).collect::<Result<_>>()?;
        let times = times(batch.column(self.event_time))?;
        let positions = batch.column(batch.num_columns() - 1).as_primitive::<UInt64Type>();
        Ok(KeyedEvents { keys, events: events(&times, positions, columns) })
    }
}

fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    let value = expr.evaluate(batch).map_err(Error::from_datafusion)?;
    value.into_array(batch.num_rows()).map_err(Error::from_datafusion)
}

/// An event time column as microseconds.
pub fn times(array: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let array = cast(array, &crate::types::instant_type())?;
    Ok(array.as_primitive::<TimestampMicrosecondType>().clone())
}

/// Events from their columns.
pub fn events(
    times: &TimestampMicrosecondArray,
    positions: &UInt64Array,
    columns: Vec<ArrayRef>,
) -> Events {
    Events { times: times.values().clone(), positions: positions.values().clone(), columns }
}
