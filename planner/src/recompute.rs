//! Features as of one instant, computed from the events, as training computes them. `VERIFY
//! FEATURES` compares online state with that, and lookups are answered with it for which there is no
//! online state: as of instants whose events it has forgotten, and of features that have none.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, Weak};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::Schema;
use asofdb_storage::History;
use datafusion::catalog::MemTable;
use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use hashbrown::HashMap;

use crate::catalog::Entity;
use crate::error::{Error, Result};
use crate::key::{decode_keys, encode_row};
use crate::logical::as_of_join::AsOfJoin;
use crate::reading::read_rows;
use crate::relation::join_entity;
use crate::source_table::SourceTable;
use crate::track::{EVENT_TIME, column, event_key_name};
use crate::types::UTC;

/// For up to so many keys only their events are read.
const KEYS_MAX: usize = 1000;

/// Computes features from events. Clones share the engine that does it.
#[derive(Clone, Debug, Default)]
pub struct Recompute {
    engine: Arc<OnceLock<Engine>>,
}

#[derive(Debug)]
struct Engine {
    /// Weak, for its planner holds this.
    state: Weak<SessionState>,
    history: Option<History>,
}

impl Recompute {
    /// Lets an engine compute.
    pub fn set_engine(&self, state: &Arc<SessionState>, history: Option<&History>) {
        let state = Arc::downgrade(state);
        self.engine.get_or_init(|| Engine { state, history: history.cloned() });
    }

    /// The keys, and after them the features of the entity that are `columns` of it, as of
    /// `instant`; a row for each of the distinct `keys`, in any order.
    pub async fn features(
        &self,
        (entity, columns): (&Arc<Entity>, &[usize]),
        keys: &[Box<[u8]>],
        instant: i64,
    ) -> Result<SendableRecordBatchStream> {
        let schema = Arc::new(Schema::new(entity.key.clone()));
        let key_columns = decode_keys(keys, &entity.key)?;
        let only = only_events(&key_columns, instant)?;
        let batch = RecordBatch::try_new(Arc::clone(&schema), key_columns)?;
        let table = Arc::new(MemTable::try_new(schema, vec![vec![batch]])?);
        let spine = LogicalPlanBuilder::scan("keys", provider_as_source(table), None)?.build()?;
        let keys: Vec<Expr> = spine.schema().columns().into_iter().map(Expr::Column).collect();
        let alias = TableReference::bare(entity.name.clone());
        let joined = join_entity(spine, (entity, &alias), (&keys, &as_of(instant)), true)?;
        let width = entity.key.len();
        let features = columns.iter().copied().filter(|&column| column >= width);
        let wanted: Vec<usize> = (0..width).chain(features).collect();
        let wanted = LogicalPlanBuilder::from(joined).select(wanted)?.build()?;
        self.stream(narrow_events(wanted, &only)?).await
    }

    /// The same, as one batch in the order of `keys`.
    pub async fn features_in_order(
        &self,
        (entity, columns): (&Arc<Entity>, &[usize]),
        keys: &[Box<[u8]>],
        instant: i64,
    ) -> Result<RecordBatch> {
        let stream = self.features((entity, columns), keys, instant).await?;
        let schema = stream.schema();
        let batches: Vec<_> = stream.try_collect().await.map_err(Error::from_datafusion)?;
        let batch = concat_batches(&schema, &batches)?;
        let (mut rows, mut key) = (HashMap::new(), Vec::new());
        for row in 0..batch.num_rows() {
            encode_row(&batch.columns()[..entity.key.len()], row, &mut key)?;
            rows.insert(key.clone(), row as u32);
        }
        let order: Option<Vec<u32>> =
            keys.iter().map(|key| rows.get(key.as_ref()).copied()).collect();
        let order = order.ok_or_else(|| Error::Internal("a join lost a key".into()))?;
        Ok(take_record_batch(&batch, &UInt32Array::from(order))?)
    }

    /// The keys with an event at or before `instant`, encoded, in their order.
    pub async fn known_keys(
        &self,
        entity: &Arc<Entity>,
        instant: i64,
    ) -> Result<BTreeSet<Box<[u8]>>> {
        let mut keys = BTreeSet::new();
        for track in &entity.tracks {
            let table = SourceTable::with_position(Arc::clone(&track.stream.source));
            let events = track.events_plan(&[], provider_as_source(Arc::new(table)))?;
            let names: Vec<Expr> =
                (0..entity.key.len()).map(|index| column(&event_key_name(index))).collect();
            let plan = LogicalPlanBuilder::from(events)
                .filter(column(EVENT_TIME).lt_eq(as_of(instant)))?
                .project(names)?
                .distinct()?
                .build()?;
            let mut rows = self.stream(plan).await?;
            let mut key = Vec::new();
            while let Some(batch) = rows.try_next().await.map_err(Error::from_datafusion)? {
                for row in 0..batch.num_rows() {
                    if encode_row(batch.columns(), row, &mut key)? {
                        keys.insert(key.as_slice().into());
                    }
                }
            }
        }
        Ok(keys)
    }

    async fn stream(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
        let engine = self.engine.get().ok_or(Error::Closing)?;
        let state = engine.state.upgrade().ok_or(Error::Closing)?;
        let plan = state.create_physical_plan(&plan).await.map_err(Error::from_datafusion)?;
        read_rows(engine.history.as_ref(), plan, state.task_ctx())
    }
}

/// Which events are needed as of `instant`; of few keys only theirs.
fn only_events(keys: &[ArrayRef], instant: i64) -> Result<Expr> {
    let mut only = column(EVENT_TIME).lt_eq(as_of(instant));
    for (index, keys) in keys.iter().enumerate().filter(|(_, keys)| keys.len() <= KEYS_MAX) {
        let values = (0..keys.len()).map(|row| Ok(lit(ScalarValue::try_from_array(keys, row)?)));
        let values = values.collect::<Result<_, DataFusionError>>()?;
        only = only.and(column(&event_key_name(index)).in_list(values, false));
    }
    Ok(only)
}

/// Lets the point-in-time joins of a plan read no other events.
fn narrow_events(plan: LogicalPlan, only: &Expr) -> Result<LogicalPlan> {
    let narrowed = plan.transform_down(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        let Some(join) = extension.node.as_any().downcast_ref::<AsOfJoin>() else {
            return Ok(Transformed::no(node));
        };
        let events = LogicalPlanBuilder::from(join.events.clone()).filter(only.clone())?.build()?;
        let joined = AsOfJoin::try_new(
            join.input.clone(),
            events,
            join.keys.clone(),
            join.as_of.clone(),
            (Arc::clone(&join.track), join.calls.clone()),
        )?;
        Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(joined) })))
    });
    Ok(narrowed?.data)
}

fn as_of(instant: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(instant), Some(UTC.into())))
}
