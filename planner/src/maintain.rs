//! The standing maintenance of features: every committed event goes into the timeline of its key,
//! on every track that its source feeds. Lookups read those timelines.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Field, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use asofdb_storage::key::{KeyPart, decode_key, encode_key_into};
use asofdb_storage::online::Embedded;
use asofdb_udfs::{Outputs, Timeline};
use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::error::{Error, Result};
use crate::track::{KeyedEvents, Track, TrackProgram};

/// A track that is kept up to date.
#[derive(Debug)]
pub struct LiveTrack {
    /// The track.
    pub track: Arc<Track>,
    /// Its expressions, compiled.
    pub program: TrackProgram,
    /// Rows from this position on arrive by ingest; those before it by the backfill.
    pub live_from: u64,
}

/// Rows as a track sees them.
pub struct Evaluated {
    live: Arc<LiveTrack>,
    keyed: KeyedEvents,
}

/// The timelines of all tracks.
#[derive(Debug)]
pub struct Timelines {
    store: Embedded<Timeline>,
    live: RwLock<HashMap<u32, Vec<Arc<LiveTrack>>>>,
}

impl Timelines {
    /// No tracks yet.
    pub fn new() -> Self {
        Timelines { store: Embedded::new(), live: RwLock::new(HashMap::new()) }
    }

    /// Starts to keep a track up to date.
    pub fn register(&self, live: Arc<LiveTrack>) -> Result<()> {
        self.store.create_space(live.track.id)?;
        self.live.write().entry(live.track.stream.source.id).or_default().push(live);
        Ok(())
    }

    /// Forgets a track and its timelines.
    pub fn remove(&self, track: &Track) -> Result<()> {
        track.retire();
        if let Some(tracks) = self.live.write().get_mut(&track.stream.source.id) {
            tracks.retain(|live| live.track.id != track.id);
        }
        self.store.drop_space(track.id)?;
        Ok(())
    }

    /// Evaluates rows that are about to be committed on all tracks of their source.
    ///
    /// # Errors
    /// A feature's expression fails on a row: then the rows must not be committed, for no feature
    /// could be computed over them ever after. `batch` has positions from 0.
    pub fn evaluate(&self, source: u32, batch: &RecordBatch) -> Result<Vec<Evaluated>> {
        let tracks = self.live.read().get(&source).cloned().unwrap_or_default();
        let evaluate = |live: Arc<LiveTrack>| {
            let keyed = live.program.run(batch)?;
            Ok(Evaluated { live, keyed })
        };
        tracks.into_iter().map(evaluate).collect()
    }

    /// Applies rows committed from `first_position` on, as [`Timelines::evaluate`] saw them.
    /// Tracks that were registered since then evaluate `batch` now.
    pub fn apply(
        &self,
        source: u32,
        evaluated: Vec<Evaluated>,
        batch: &RecordBatch,
        first_position: u64,
    ) -> Result<()> {
        let tracks = self.live.read().get(&source).cloned().unwrap_or_default();
        let mut evaluated: HashMap<u32, KeyedEvents> =
            evaluated.into_iter().map(|e| (e.live.track.id, e.keyed)).collect();
        for live in tracks.iter().filter(|live| first_position >= live.live_from) {
            match evaluated.remove(&live.track.id) {
                Some(mut keyed) => {
                    let positions = keyed.events.positions.iter().map(|p| p + first_position);
                    keyed.events.positions = positions.collect();
                    self.insert_events(live, &keyed)?;
                }
                None => self.insert(live, batch)?,
            }
        }
        Ok(())
    }

    /// Inserts the events of `batch`, which has the source's columns and the position.
    pub fn insert(&self, live: &LiveTrack, batch: &RecordBatch) -> Result<()> {
        self.insert_events(live, &live.program.run(batch)?)
    }

    fn insert_events(&self, live: &LiveTrack, keyed: &KeyedEvents) -> Result<()> {
        let layout = &live.track.layout;
        fail::fail_point!("timelines::insert", |_| Ok(()));
        for (key, rows) in group_by_key(keyed)? {
            let mut result = Ok(());
            let applied = self.store.update(
                live.track.id,
                &key,
                &mut || Timeline::new(layout),
                &mut |timeline| result = timeline.insert_rows(layout, &keyed.events, &rows),
            );
            match applied {
                // The track was dropped meanwhile: nobody reads it any more.
                Err(asofdb_storage::Error::UnknownSpace { .. }) => return Ok(()),
                other => other?,
            }
            result?;
        }
        Ok(())
    }

    /// Appends the values of `calls` for `key` as of `instant` to `out`.
    pub fn read(
        &self,
        track: &Track,
        calls: &[usize],
        (key, instant): (&[u8], i64),
        out: &mut Outputs,
    ) -> Result<()> {
        let mut result = Ok(());
        self.store.read(track.id, key, &mut |timeline| {
            result = match timeline {
                Some(timeline) => timeline.read(&track.layout, instant, calls, out),
                None => out.append_empty_row(&track.layout),
            };
        })?;
        result?;
        not_retired(track)
    }

    /// The keys with an event on any of `tracks` at or before `instant`, encoded, in their order.
    pub fn known_keys(&self, tracks: &[Arc<Track>], instant: i64) -> Result<Vec<Box<[u8]>>> {
        let mut known = std::collections::BTreeSet::new();
        for track in tracks {
            let mut keys: Vec<Box<[u8]>> = Vec::new();
            self.store.keys(track.id, &mut |key| keys.push(key.into()))?;
            for key in keys {
                let mut first = None;
                self.store.read(track.id, &key, &mut |timeline| {
                    first = timeline.and_then(Timeline::first_time);
                })?;
                if first.is_some_and(|time| time <= instant) {
                    known.insert(key);
                }
            }
            not_retired(track)?;
        }
        Ok(known.into_iter().collect())
    }
}

/// An answer from timelines that may have been gone is none.
fn not_retired(track: &Track) -> Result<()> {
    match track.is_retired() {
        true => Err(Error::Changed),
        false => Ok(()),
    }
}

fn group_by_key(keyed: &KeyedEvents) -> Result<HashMap<Vec<u8>, Vec<u32>>> {
    let mut groups: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
    let mut key = Vec::new();
    for row in 0..keyed.events.times.len() {
        if !encode_row(&keyed.keys, row, &mut key)? {
            continue;
        }
        match groups.get_mut(&key) {
            Some(rows) => rows.push(row as u32),
            None => {
                groups.insert(key.clone(), vec![row as u32]);
            }
        }
    }
    Ok(groups)
}

/// Encodes the key in row `row` of `columns`; false where a part is NULL, which is no key.
pub fn encode_row(columns: &[ArrayRef], row: usize, key: &mut Vec<u8>) -> Result<bool> {
    key.clear();
    let mut parts = Vec::with_capacity(columns.len());
    for column in columns {
        if column.is_null(row) {
            return Ok(false);
        }
        parts.push(key_part(column, row)?);
    }
    encode_key_into(key, &parts);
    Ok(true)
}

/// Whether columns of this type can be keys.
pub fn is_key_type(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Utf8
            | DataType::Boolean
            | DataType::Date32
            | DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _)
    )
}

fn key_part(column: &ArrayRef, row: usize) -> Result<KeyPart<'_>> {
    Ok(match column.data_type() {
        DataType::Int16 => KeyPart::Int(column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => KeyPart::Int(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => KeyPart::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => KeyPart::Int(column.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(_, _) => {
            KeyPart::Int(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Utf8 => KeyPart::Text(column.as_string::<i32>().value(row)),
        DataType::Boolean => KeyPart::Bool(column.as_boolean().value(row)),
        other => return Err(Error::Internal(format!("{other} is no key type"))),
    })
}

/// The key columns of encoded keys, of the types of `fields`.
pub fn decode_keys(keys: &[Box<[u8]>], fields: &[Field]) -> Result<Vec<ArrayRef>> {
    use arrow::array::{BooleanArray, Int64Array, StringArray};
    let decoded = keys.iter().map(|k| Ok(decode_key(k)?)).collect::<Result<Vec<_>>>()?;
    let column = |index: usize, field: &Field| -> Result<ArrayRef> {
        let parts = decoded.iter().map(|parts| &parts[index]);
        let wrong = || Error::Internal("a key part has another type than its column".into());
        let array: ArrayRef = match field.data_type() {
            DataType::Utf8 => {
                let text = parts.map(|p| match p {
                    KeyPart::Text(text) => Ok(*text),
                    _ => Err(wrong()),
                });
                Arc::new(StringArray::from_iter_values(text.collect::<Result<Vec<_>>>()?))
            }
            DataType::Boolean => {
                let values = parts.map(|p| match p {
                    KeyPart::Bool(value) => Ok(*value),
                    _ => Err(wrong()),
                });
                Arc::new(BooleanArray::from(values.collect::<Result<Vec<_>>>()?))
            }
            _ => {
                let values = parts.map(|p| match p {
                    KeyPart::Int(value) => Ok(*value),
                    _ => Err(wrong()),
                });
                Arc::new(Int64Array::from(values.collect::<Result<Vec<_>>>()?))
            }
        };
        narrow(&array, field.data_type())
    };
    fields.iter().enumerate().map(|(index, field)| column(index, field)).collect()
}

/// 64-bit integers back to the key column's type.
fn narrow(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    let through = match data_type {
        DataType::Date32 => arrow::compute::cast(array, &DataType::Int32)?,
        _ => Arc::clone(array),
    };
    Ok(arrow::compute::cast(&through, data_type)?)
}
