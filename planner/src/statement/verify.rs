//! `VERIFY FEATURES`: recomputes an entity's features from its events and reports every value of
//! the online state that is not the same, bit for bit. Features without online state are left out.
//!
//! 1. The keys: all that the events or the online state have, or a sample of them.
//! 2. They are joined point-in-time with the entity, as of the statement's now, as in training.
//! 3. Each batch of that is compared with what a lookup of the same keys gives.
//! 4. Events may be committed meanwhile, with times before that now: keys that differ are
//!    recomputed and looked up again, and only what differs still is reported.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use asofdb_sql::{VerifyFeatures, fold};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use hashbrown::DefaultHashBuilder;

use crate::catalog::Entity;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::key::encode_row;
use crate::operator::online_lookup::{KeyAccess, OnlineLookupExec};
use crate::recompute::Recompute;
use crate::session::{Outcome, text_schema};
use crate::types::UTC;

/// How often keys that differ are looked at again.
const ATTEMPTS: usize = 3;

/// The columns of the answer.
pub fn schema() -> SchemaRef {
    text_schema(&["key", "feature", "online", "recomputed"])
}

/// Compares, as the answer is read: a row for each difference.
pub async fn run(database: &Database, verify: &VerifyFeatures) -> Result<Outcome> {
    let inner = &database.inner;
    let catalog = inner.catalog();
    let entity = Arc::new(catalog.entity(&fold(&verify.entity))?.online_part());
    let state = inner.planning.state(&catalog);
    let instant = inner.planning.now_micros();
    let verifier = Arc::new(Verifier { database: database.clone(), entity, state, instant });
    let keys = verifier.keys(verify.sample).await?;
    let rows = verifier.recompute(keys).await?;
    let differences = rows.and_then(move |batch| {
        let verifier = Arc::clone(&verifier);
        async move { Ok(verifier.differences(batch).await?) }
    });
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema(), differences));
    Ok(Outcome::Rows { tag: "VERIFY", stream })
}

struct Verifier {
    database: Database,
    entity: Arc<Entity>,
    state: SessionState,
    instant: i64,
}

/// A feature of the key in a row of a batch.
type Place = (usize, usize);

impl Verifier {
    /// The keys to look at, encoded; with a sample that many of them, others each time.
    async fn keys(&self, sample: Option<u64>) -> Result<Vec<Box<[u8]>>> {
        let timelines = &self.database.inner.timelines;
        let online = timelines.known_keys(&self.entity.tracks, self.instant).await?;
        let mut keys = self.engine().known_keys(&self.entity, self.instant).await?;
        keys.extend(online);
        let mut keys: Vec<_> = keys.into_iter().collect();
        if let Some(sample) = sample {
            let hasher = DefaultHashBuilder::default();
            keys.sort_by_cached_key(|key| hasher.hash_one(key));
            keys.truncate(usize::try_from(sample).unwrap_or(usize::MAX));
        }
        Ok(keys)
    }

    /// The keys and, from the events, the features of each.
    async fn recompute(&self, keys: Vec<Box<[u8]>>) -> Result<SendableRecordBatchStream> {
        let all: Vec<usize> = (0..self.entity.schema().fields().len()).collect();
        self.engine().features((&self.entity, &all), &keys, self.instant).await
    }

    /// What differs in a batch of recomputed rows, as rows of the answer.
    async fn differences(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let mut recomputed = batch;
        let mut attempts = 1..ATTEMPTS;
        loop {
            let keys = self.encode(&recomputed)?;
            let online = self.look_up(&keys, &recomputed).await?;
            let places = differing(&online, &recomputed, self.entity.key.len());
            if places.is_empty() || attempts.next().is_none() {
                return self.report(&online, &recomputed, &places);
            }
            let rows: BTreeSet<usize> = places.iter().map(|(row, _)| *row).collect();
            let keys = rows.iter().map(|&row| keys[row].clone()).collect();
            let again: Vec<RecordBatch> =
                self.recompute(keys).await?.try_collect().await.map_err(Error::from_datafusion)?;
            recomputed = concat_batches(&recomputed.schema(), &again)?;
        }
    }

    fn encode(&self, batch: &RecordBatch) -> Result<Vec<Box<[u8]>>> {
        let columns = &batch.columns()[..self.entity.key.len()];
        let mut key = Vec::new();
        let encode = |row| {
            encode_row(columns, row, &mut key)?;
            Ok(key.as_slice().into())
        };
        (0..batch.num_rows()).map(encode).collect()
    }

    async fn look_up(&self, keys: &[Box<[u8]>], batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch.columns()[..self.entity.key.len()].to_vec();
        let all = (0..self.entity.schema().fields().len()).collect();
        let timelines = &self.database.inner.timelines;
        let as_of = datafusion::physical_expr::expressions::lit(self.now());
        let lookup = OnlineLookupExec::try_new(
            Arc::clone(&self.entity),
            KeyAccess::Known,
            as_of,
            all,
            (timelines, self.engine()),
            &self.state,
        );
        let lookup = lookup.map_err(Error::from_datafusion)?;
        lookup.read(keys, columns, Some(self.instant)).await.map_err(Error::from_datafusion)
    }

    fn report(
        &self,
        online: &RecordBatch,
        recomputed: &RecordBatch,
        places: &[Place],
    ) -> Result<RecordBatch> {
        let key = |row| {
            let parts = &recomputed.columns()[..self.entity.key.len()];
            let parts = parts.iter().map(|part| shown(part, row)).collect::<Result<Vec<_>>>()?;
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            Ok::<_, Error>(Some(match parts.len() {
                1 => parts.concat(),
                _ => format!("({})", parts.join(", ")),
            }))
        };
        let name = |index: usize| Some(recomputed.schema().field(index).name().clone());
        let text = |values: Result<Vec<Option<String>>>| -> Result<ArrayRef> {
            Ok(Arc::new(StringArray::from(values?)))
        };
        let columns = vec![
            text(places.iter().map(|&(row, _)| key(row)).collect())?,
            text(places.iter().map(|&(_, index)| Ok(name(index))).collect())?,
            text(places.iter().map(|&(row, index)| shown(online.column(index), row)).collect())?,
            text(
                places.iter().map(|&(row, index)| shown(recomputed.column(index), row)).collect(),
            )?,
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }

    fn now(&self) -> ScalarValue {
        ScalarValue::TimestampMicrosecond(Some(self.instant), Some(UTC.into()))
    }

    fn engine(&self) -> &Recompute {
        self.database.inner.planning.recompute()
    }
}

/// The features, from column `first` on, whose bits differ.
fn differing(online: &RecordBatch, recomputed: &RecordBatch, first: usize) -> Vec<Place> {
    let same = |row: usize, index: usize| {
        let cell = |batch: &RecordBatch| batch.column(index).slice(row, 1).to_data();
        cell(online) == cell(recomputed)
    };
    let rows = 0..recomputed.num_rows();
    let places = rows.flat_map(|row| (first..recomputed.num_columns()).map(move |i| (row, i)));
    places.filter(|&(row, index)| !same(row, index)).collect()
}

fn shown(column: &ArrayRef, row: usize) -> Result<Option<String>> {
    if column.is_null(row) {
        return Ok(None);
    }
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    Ok(Some(formatter.value(row).to_string()))
}
