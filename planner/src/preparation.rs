//! Rows on their way to a commit: checked, encoded for the log, and as every track sees them, by
//! key. That is done batch by batch, so that it goes on while further rows are read.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::ipc::writer::StreamWriter;
use asofdb_storage::Entry;
use asofdb_udfs::Events;
use bytes::Bytes;
use hashbrown::HashMap;

use crate::catalog::Source;
use crate::cell::{Changes, KeyEvents};
use crate::error::{Error, Result};
use crate::key::encode_row;
use crate::live_track::LiveTrack;
use crate::maintain::Timelines;
use crate::source_file::number_rows;
use crate::track::KeyedEvents;

/// Rows in one record of the log.
const RECORD_ROWS: usize = 65_536;

/// Event times lie between these years: beyond them calendar arithmetic has no room, and an event
/// of the year 200,000 is a unit mistaken, not an event.
const YEARS: std::ops::RangeInclusive<i64> = -4000..=9999;

/// The rows of a transaction that is not committed yet.
pub struct Preparation {
    /// Where the rows go.
    pub source: Arc<Source>,
    /// How many there are.
    pub rows: u64,
    /// The rows, with the source's columns.
    pub batches: Vec<RecordBatch>,
    /// The same for the log.
    pub entries: Vec<Entry>,
    /// The same for the online state, with positions from 0.
    pub tracks: Vec<TrackRows>,
}

/// Rows as a track sees them.
pub struct TrackRows {
    /// The track.
    pub live: Arc<LiveTrack>,
    /// Its events.
    pub events: GroupedEvents,
}

impl Preparation {
    /// No rows yet.
    pub fn new(source: &Arc<Source>, timelines: &Timelines) -> Self {
        let track = |live| TrackRows { live, events: GroupedEvents::default() };
        Preparation {
            source: Arc::clone(source),
            rows: 0,
            batches: Vec::new(),
            entries: Vec::new(),
            tracks: timelines.tracks_of(source.id).into_iter().map(track).collect(),
        }
    }

    /// Adds rows, which have the source's columns.
    ///
    /// # Errors
    /// The source's definition excludes a row. A feature's expression fails on one: then the rows
    /// must not be committed, for the feature could never again be computed over them.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        check_rows(&self.source, batch)?;
        let schema = Arc::clone(&self.source.schema);
        let batch = RecordBatch::try_new(schema, batch.columns().to_vec())?;
        for start in (0..batch.num_rows()).step_by(RECORD_ROWS) {
            let length = RECORD_ROWS.min(batch.num_rows() - start);
            let payload = encode(&batch.slice(start, length))?;
            self.entries.push(Entry { stream: self.source.id, rows: length as u32, payload });
        }
        let numbered = number_rows(&batch, self.rows)?;
        for track in &mut self.tracks {
            track.events.add(track.live.program.run(&numbered)?)?;
        }
        self.rows += batch.num_rows() as u64;
        self.batches.push(batch);
        Ok(())
    }

    /// Ends the adding: also for tracks that were made meanwhile.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn complete(&mut self, timelines: &Timelines) -> Result<()> {
        for live in timelines.tracks_of(self.source.id) {
            if self.tracks.iter().any(|track| track.live.track.id == live.track.id) {
                continue;
            }
            let (mut events, mut first) = (GroupedEvents::default(), 0);
            for batch in &self.batches {
                events.add(live.program.run(&number_rows(batch, first)?)?)?;
                first += batch.num_rows() as u64;
            }
            self.tracks.push(TrackRows { live, events });
        }
        self.tracks.iter_mut().try_for_each(|track| track.events.join())
    }

    /// The memory of the rows, in bytes.
    pub fn memory_size(&self) -> usize {
        self.batches.iter().map(RecordBatch::get_array_memory_size).sum()
    }
}

/// Events by their keys.
#[derive(Default)]
pub struct GroupedEvents {
    /// Parts one after the other; keys count the rows through all of them.
    parts: Vec<Events>,
    rows: usize,
    groups: HashMap<Vec<u8>, Vec<u32>>,
}

impl GroupedEvents {
    /// Appends events. Those with a NULL key are nobody's.
    pub fn add(&mut self, keyed: KeyedEvents) -> Result<()> {
        let first = self.rows;
        self.rows = first
            .checked_add(keyed.events.len())
            .filter(|rows| u32::try_from(*rows).is_ok())
            .ok_or_else(|| Error::unsupported("more than 4,294,967,295 rows in one transaction"))?;
        let mut key = Vec::new();
        for row in 0..keyed.events.len() {
            if !encode_row(&keyed.keys, row, &mut key)? {
                continue;
            }
            let place = (first + row) as u32;
            match self.groups.get_mut(&key) {
                Some(rows) => rows.push(place),
                None => {
                    self.groups.insert(key.clone(), vec![place]);
                }
            }
        }
        self.parts.push(keyed.events);
        Ok(())
    }

    /// Makes one part of all.
    fn join(&mut self) -> Result<()> {
        if self.parts.len() > 1 {
            let column = |index: usize| -> Result<ArrayRef> {
                let column = self.parts.iter().map(|part| part.columns[index].as_ref());
                Ok(concat(&column.collect::<Vec<&dyn Array>>())?)
            };
            let columns = (0..self.parts[0].columns.len()).map(column).collect::<Result<_>>()?;
            let times: Vec<i64> = self.parts.iter().flat_map(|p| p.times.iter()).copied().collect();
            let positions = self.parts.iter().flat_map(|p| p.positions.iter()).copied();
            let positions: Vec<u64> = positions.collect();
            let joined = Events { times: times.into(), positions: positions.into(), columns };
            self.parts = vec![joined];
        }
        Ok(())
    }

    /// The events of each key, with `first` added to the positions.
    pub fn into_changes(mut self, first: u64) -> Result<Changes> {
        self.join()?;
        let Some(mut events) = self.parts.pop() else { return Ok(Vec::new()) };
        if first > 0 {
            events.positions = events.positions.iter().map(|position| position + first).collect();
        }
        let events = Arc::new(events);
        let change = |(key, rows)| (key, KeyEvents { events: Arc::clone(&events), rows });
        Ok(self.groups.into_iter().map(change).collect())
    }
}

/// The events of each key.
pub fn changes(keyed: KeyedEvents) -> Result<Changes> {
    let mut events = GroupedEvents::default();
    events.add(keyed)?;
    events.into_changes(0)
}

/// Rejects rows that the source's definition excludes.
fn check_rows(source: &Source, batch: &RecordBatch) -> Result<()> {
    for (index, field) in source.schema.fields().iter().enumerate() {
        let must = !field.is_nullable() || index == source.event_time;
        if must && batch.column(index).null_count() > 0 {
            return Err(Error::NullValue {
                source_name: source.name.clone(),
                column: field.name().clone(),
            });
        }
    }
    let times = crate::track::times(batch.column(source.event_time))?;
    // 366 days a year from 1970: outside by less than a day a year, never inside.
    let micros_per_year = 31_556_952_000_000i64;
    let range = (YEARS.start() - 1970) * micros_per_year..(YEARS.end() - 1969) * micros_per_year;
    match times.values().iter().find(|t| !range.contains(t)) {
        None => Ok(()),
        Some(time) => Err(Error::OutOfRange {
            message: format!(
                "event time {time} microseconds is outside of the years {} to {}",
                YEARS.start(),
                YEARS.end()
            ),
        }),
    }
}

/// A batch as an Arrow IPC stream, schema included: a record explains itself.
fn encode(batch: &RecordBatch) -> Result<Bytes> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    Ok(Bytes::from(writer.into_inner()?))
}
