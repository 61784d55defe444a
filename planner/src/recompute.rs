//! Features as of one instant, computed from the events, as training computes them. `VERIFY
//! FEATURES` compares online state with that, and lookups as of instants for which online state has
//! forgotten events are answered with it.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, Weak};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::Schema;
use asofdb_storage::History;
use datafusion::catalog::MemTable;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use hashbrown::HashMap;

use crate::catalog::Entity;
use crate::error::{Error, Result};
use crate::key::{decode_keys, encode_row};
use crate::reading::read_rows;
use crate::relation::join_entity;
use crate::source_table::SourceTable;
use crate::track::{EVENT_TIME, column, event_key_name};
use crate::types::UTC;

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

    /// The keys, and after them the entity's features, as of `instant`; a row for each of the
    /// distinct `keys`, in any order.
    pub async fn features(
        &self,
        entity: &Arc<Entity>,
        keys: &[Box<[u8]>],
        instant: i64,
    ) -> Result<SendableRecordBatchStream> {
        let schema = Arc::new(Schema::new(entity.key.clone()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), decode_keys(keys, &entity.key)?)?;
        let table = Arc::new(MemTable::try_new(schema, vec![vec![batch]])?);
        let spine = LogicalPlanBuilder::scan("keys", provider_as_source(table), None)?.build()?;
        let keys: Vec<Expr> = spine.schema().columns().into_iter().map(Expr::Column).collect();
        let alias = TableReference::bare(entity.name.clone());
        let joined = join_entity(spine, (entity, &alias), (&keys, &as_of(instant)), true)?;
        self.stream(joined).await
    }

    /// The same, as one batch in the order of `keys`.
    pub async fn features_in_order(
        &self,
        entity: &Arc<Entity>,
        keys: &[Box<[u8]>],
        instant: i64,
    ) -> Result<RecordBatch> {
        let stream = self.features(entity, keys, instant).await?;
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

fn as_of(instant: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(instant), Some(UTC.into())))
}
