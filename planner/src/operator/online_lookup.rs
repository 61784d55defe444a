//! Reading an entity as of one instant, from the timelines.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray, UInt32Array,
    new_empty_array, new_null_array,
};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimestampMicrosecondType};
use asofdb_udfs::Outputs;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use hashbrown::HashSet;

use crate::catalog::Entity;
use crate::error::Error;
use crate::key::{decode_keys, encode_row};
use crate::maintain::Timelines;
use crate::recompute::Recompute;
use crate::track::{Track, call_name};

/// The operator's name.
pub const LOOKUP: &str = "OnlineLookupExec";

/// Which keys are read.
#[derive(Clone, Debug)]
pub enum KeyAccess {
    /// The given ones: for each key column its values.
    Given(Vec<KeyColumn>),
    /// All that are known at the instant.
    Known,
}

/// The values of one key column.
#[derive(Clone, Debug)]
pub enum KeyColumn {
    /// One expression a value.
    List(Vec<Arc<dyn PhysicalExpr>>),
    /// One expression with an array.
    Array(Arc<dyn PhysicalExpr>),
}

/// Keys encoded, and the same keys as columns.
type Keys = (Vec<Box<[u8]>>, Vec<ArrayRef>);

/// The calls of one track that a lookup needs.
#[derive(Clone, Debug)]
pub(super) struct TrackRead {
    pub track: Arc<Track>,
    pub calls: Arc<[usize]>,
}

impl TrackRead {
    /// Whether there are timelines to read.
    pub fn is_online(&self) -> bool {
        self.track.stream.online
    }
}

/// The operator of [`crate::logical::online_lookup::OnlineLookup`].
#[derive(Debug)]
pub struct OnlineLookupExec {
    lookup: Arc<Lookup>,
    properties: Arc<PlanProperties>,
}

/// What is read, and what is made of it.
#[derive(Debug)]
pub(super) struct Lookup {
    pub entity: Arc<Entity>,
    pub keys: KeyAccess,
    pub as_of: Arc<dyn PhysicalExpr>,
    pub reads: Vec<TrackRead>,
    /// Key columns and calls, which the outputs are computed from.
    pub read_schema: SchemaRef,
    outputs: Vec<Arc<dyn PhysicalExpr>>,
    /// Where the outputs are in `read_schema`, if each is one of its columns.
    pub places: Option<Vec<usize>>,
    /// The columns of the entity that are wanted.
    projection: Vec<usize>,
    pub timelines: Arc<Timelines>,
    recompute: Recompute,
    schema: SchemaRef,
}

impl OnlineLookupExec {
    /// A lookup of the entity's columns in `projection`.
    pub fn try_new(
        entity: Arc<Entity>,
        keys: KeyAccess,
        as_of: Arc<dyn PhysicalExpr>,
        projection: Vec<usize>,
        (timelines, recompute): (&Arc<Timelines>, &Recompute),
        session: &dyn Session,
    ) -> Result<Self> {
        let width = entity.key.len();
        let features: Vec<_> = projection
            .iter()
            .filter(|i| **i >= width)
            .map(|i| &entity.features[i - width])
            .collect();
        let read_names: HashSet<String> = features
            .iter()
            .flat_map(|f| f.expr.column_refs())
            .map(|column| column.name.clone())
            .collect();
        let reads = reads(&entity, &read_names);
        let mut fields = entity.key.clone();
        for read in &reads {
            for &call in read.calls.iter() {
                let output = read.track.layout.calls()[call].aggregate.output();
                fields.push(Field::new(read.track.call_name(call), output, true));
            }
        }
        let read_schema = Arc::new(Schema::new(fields));
        let df_schema = DFSchema::try_from(read_schema.as_ref().clone())?;
        let outputs = projection
            .iter()
            .map(|&index| match index.checked_sub(width) {
                None => session.create_physical_expr(
                    crate::track::column(entity.key[index].name()),
                    &df_schema,
                ),
                Some(feature) => {
                    session.create_physical_expr(entity.features[feature].expr.clone(), &df_schema)
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let schema = Arc::new(entity.schema().project(&projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        // There is one batch, before which no operator around it could let others run.
        let properties = Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative));
        let lookup = Lookup {
            entity,
            keys,
            as_of,
            reads,
            read_schema,
            places: outputs.iter().map(place).collect(),
            outputs,
            projection,
            timelines: Arc::clone(timelines),
            recompute: recompute.clone(),
            schema,
        };
        Ok(OnlineLookupExec { lookup: Arc::new(lookup), properties })
    }

    /// What it reads.
    pub(super) fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// The values of the wanted columns for each of `encoded`, the same keys as columns in `keys`,
    /// as of `instant`; without one no feature has a value.
    pub async fn read(
        &self,
        encoded: &[Box<[u8]>],
        keys: Vec<ArrayRef>,
        instant: Option<i64>,
    ) -> Result<RecordBatch> {
        self.lookup.read(encoded, keys, instant).await
    }
}

impl Lookup {
    async fn run(&self) -> Result<RecordBatch> {
        fail::fail_point!("lookup::read");
        let instant = evaluate_constant(&self.as_of)?;
        let instants = instant.as_primitive::<TimestampMicrosecondType>();
        let instant = instants.is_valid(0).then(|| instants.value(0));
        let (encoded, keys) = self.keys(instant).await?;
        self.read(&encoded, keys, instant).await
    }

    async fn read(
        &self,
        encoded: &[Box<[u8]>],
        keys: Vec<ArrayRef>,
        instant: Option<i64>,
    ) -> Result<RecordBatch> {
        if let (Some(instant), false) = (instant, self.reads.iter().all(TrackRead::is_online)) {
            return Box::pin(self.read_events(encoded, instant)).await;
        }
        let mut columns = keys;
        for read in &self.reads {
            let values = match instant {
                Some(instant) => {
                    match self.timelines.read(&read.track, &read.calls, encoded, instant).await {
                        Err(error) if error.is_forgotten() => {
                            return Box::pin(self.read_events(encoded, instant)).await;
                        }
                        values => values?,
                    }
                }
                None => {
                    let mut out = Outputs::new(&read.track.layout, &read.calls);
                    encoded.iter().for_each(|_| out.append_null_row());
                    out.finish().map_err(Error::Aggregate)?
                }
            };
            columns.extend(values);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(encoded.len()));
        if let (Some(places), true) = (&self.places, instant.is_some()) {
            let outputs = places.iter().map(|&place| Arc::clone(&columns[place])).collect();
            let schema = Arc::clone(&self.schema);
            return Ok(RecordBatch::try_new_with_options(schema, outputs, &options)?);
        }
        let read =
            RecordBatch::try_new_with_options(Arc::clone(&self.read_schema), columns, &options)?;
        let schema = &self.schema;
        let output = |(expr, field): (&Arc<dyn PhysicalExpr>, &FieldRef)| {
            // Whatever its expression makes of NULL.
            match instant.is_none() && self.entity.feature(field.name()).is_some() {
                true => Ok(new_null_array(field.data_type(), read.num_rows())),
                false => expr.evaluate(&read)?.into_array(read.num_rows()),
            }
        };
        let outputs = self.outputs.iter().zip(schema.fields());
        let outputs = outputs.map(output).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), outputs, &options)?)
    }

    /// The same, computed from the events.
    async fn read_events(&self, keys: &[Box<[u8]>], instant: i64) -> Result<RecordBatch> {
        let wanted = (&self.entity, self.projection.as_slice());
        let rows = self.recompute.features_in_order(wanted, keys, instant).await?;
        let width = self.entity.key.len();
        let mut features = rows.columns().iter().skip(width);
        let column = |&place: &usize| match place < width {
            true => Some(rows.column(place)),
            false => features.next(),
        };
        let columns = self.projection.iter().map_while(column).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// The keys to read, encoded and as columns. NULL is no key; duplicates are read once.
    async fn keys(&self, instant: Option<i64>) -> Result<Keys> {
        let KeyAccess::Given(columns) = &self.keys else {
            let known = match instant {
                None => Vec::new(),
                Some(instant) => self.known_keys(instant).await?,
            };
            let columns = decode_keys(&known, &self.entity.key).map_err(DataFusionError::from)?;
            return Ok((known, columns));
        };
        let values = columns
            .iter()
            .zip(&self.entity.key)
            .map(|(column, field)| column.values(field.data_type()))
            .collect::<Result<Vec<_>>>()?;
        let crossed = cross_product(&values)?;
        let rows = crossed.first().map_or(0, |c| c.len());
        let mut key = Vec::new();
        if rows == 1 {
            let whole = encode_row(&crossed, 0, &mut key).map_err(DataFusionError::from)?;
            return Ok(match whole {
                true => (vec![key.into()], crossed),
                false => (Vec::new(), crossed.iter().map(|c| c.slice(0, 0)).collect()),
            });
        }
        let (mut seen, mut encoded, mut kept) = (HashSet::new(), Vec::new(), Vec::new());
        for row in 0..rows {
            let whole = encode_row(&crossed, row, &mut key).map_err(DataFusionError::from)?;
            if whole && seen.insert(key.clone()) {
                encoded.push(key.as_slice().into());
                kept.push(row as u32);
            }
        }
        let kept = UInt32Array::from(kept);
        let columns = crossed.iter().map(|c| Ok(take(c, &kept, None)?)).collect::<Result<_>>()?;
        Ok((encoded, columns))
    }
}

impl Lookup {
    async fn known_keys(&self, instant: i64) -> Result<Vec<Box<[u8]>>> {
        if self.entity.tracks.iter().all(|track| track.stream.online) {
            match self.timelines.known_keys(&self.entity.tracks, instant).await {
                Err(error) if error.is_forgotten() => {}
                known => return Ok(known?),
            }
        }
        let known = self.recompute.known_keys(&self.entity, instant).await?;
        Ok(known.into_iter().collect())
    }
}

impl KeyColumn {
    fn values(&self, data_type: &DataType) -> Result<ArrayRef> {
        match self {
            KeyColumn::List(list) => {
                let value = |expr| match evaluate_constant(expr)? {
                    value if value.data_type() == data_type => Ok(value),
                    other => Ok(cast(&other, data_type)?),
                };
                let values = list.iter().map(value).collect::<Result<Vec<ArrayRef>>>()?;
                if let [value] = values.as_slice() {
                    return Ok(Arc::clone(value));
                }
                let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
                Ok(concat(&values)?)
            }
            KeyColumn::Array(array) => {
                let array = evaluate_constant(array)?;
                match array.data_type() {
                    DataType::Null => Ok(new_empty_array(data_type)),
                    DataType::List(_) if array.is_null(0) => Ok(new_empty_array(data_type)),
                    DataType::List(_) => Ok(cast(&array.as_list::<i32>().value(0), data_type)?),
                    other => internal_err!("{other} is no array of keys"),
                }
            }
        }
    }
}

/// The place of the column that an expression is.
fn place(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// The calls of each track that have one of `names`; tracks without one are not read.
fn reads(entity: &Entity, names: &HashSet<String>) -> Vec<TrackRead> {
    let needed = |track: &Track| -> Arc<[usize]> {
        (0..track.calls.len()).filter(|c| names.contains(&call_name(track.id, *c))).collect()
    };
    let reads = entity.tracks.iter().map(|t| TrackRead { track: Arc::clone(t), calls: needed(t) });
    reads.filter(|read| !read.calls.is_empty()).collect()
}

/// The value, as an array of one, of an expression without columns.
fn evaluate_constant(expr: &Arc<dyn PhysicalExpr>) -> Result<ArrayRef> {
    static ROW: LazyLock<RecordBatch> =
        LazyLock::new(|| StructArray::new_empty_fields(1, None).into());
    expr.evaluate(&ROW)?.into_array(1)
}

/// Every combination of one value from each column, the last column varying fastest.
fn cross_product(columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    if columns.len() == 1 {
        return Ok(columns.to_vec());
    }
    let rows: usize = columns.iter().map(|c| c.len()).product();
    let mut repeat = rows;
    let mut crossed = Vec::new();
    for column in columns {
        let length = column.len().max(1);
        repeat /= length;
        let indices = (0..rows).map(|row| (row / repeat.max(1) % length) as u32);
        crossed.push(take(column, &UInt32Array::from_iter_values(indices), None)?);
    }
    Ok(crossed)
}

impl DisplayAs for OnlineLookupExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let keys = match &self.lookup.keys {
            KeyAccess::Known => "all known",
            KeyAccess::Given(_) => "given",
        };
        let calls: usize = self.lookup.reads.iter().map(|read| read.calls.len()).sum();
        write!(
            f,
            "OnlineLookupExec: entity={}, keys={keys}, as_of={}, tracks={}, calls={calls}",
            self.lookup.entity.name,
            self.lookup.as_of,
            self.lookup.reads.len()
        )?;
        match self.lookup.reads.iter().all(TrackRead::is_online) {
            true => Ok(()),
            false => write!(f, ", computed from events"),
        }
    }
}

impl ExecutionPlan for OnlineLookupExec {
    fn name(&self) -> &str {
        LOOKUP
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        f(&self.lookup.as_of)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("OnlineLookupExec has no inputs"),
        }
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let lookup = Arc::clone(&self.lookup);
        let answer = futures::stream::once(async move { lookup.run().await });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), answer)))
    }
}
