//! The standing maintenance of features: every committed event goes into the timeline of its key,
//! on every track that its source feeds. Lookups read those timelines.
//!
//! The timelines are in an online store. What is written to it is written by the applier
//! (`applier.rs`), in the order of the log; here is what everybody else does with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use asofdb_storage::Error as StorageError;
use asofdb_storage::online::{Look, OnlineStore};
use asofdb_udfs::{AsOf, Error as KernelError, Outputs, ValueList};
use hashbrown::HashMap;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::applier::{Command, Committed};
use crate::cell::{TimelineCell, Want, range};
use crate::error::{Error, Result};
use crate::jobs::Jobs;
use crate::live_track::LiveTrack;
use crate::track::{Track, TrackProgram};

/// An online store of timelines.
pub type Store = Arc<dyn OnlineStore<TimelineCell>>;

/// How often a read looks again at state that is not complete, and how long it waits each time.
const LOOKS: u32 = 80;
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// How long a store that hangs is waited for when the database is closed.
const STOP: Duration = Duration::from_secs(2);

/// Keys that are looked at together when all known ones are wanted.
const KEYS_AT_ONCE: usize = 4096;

/// The timelines of all tracks.
pub struct Timelines {
    store: Store,
    live: RwLock<HashMap<u32, Vec<Arc<LiveTrack>>>>,
    commands: mpsc::UnboundedSender<Command>,
    jobs: Arc<Jobs>,
    stopping: Arc<AtomicBool>,
}

impl std::fmt::Debug for Timelines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timelines").finish_non_exhaustive()
    }
}

impl Timelines {
    /// No tracks yet. What is sent to `commands` is for the applier.
    pub fn new(store: Store, commands: mpsc::UnboundedSender<Command>, jobs: Arc<Jobs>) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        Timelines { store, live: RwLock::new(HashMap::new()), commands, jobs, stopping }
    }

    /// Where fills are listed.
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Starts to keep a track of an entity up to date, with rows that come by ingest from
    /// `live_from` on. The caller holds the order of commits.
    pub fn register(
        &self,
        (entity, track): (&str, &Arc<Track>),
        program: TrackProgram,
        live_from: u64,
    ) -> Arc<LiveTrack> {
        let stopping = Arc::clone(&self.stopping);
        let live = LiveTrack::new((entity, Arc::clone(track)), program, live_from, stopping);
        let live = Arc::new(live);
        let source = track.stream.source.id;
        self.live.write().entry(source).or_default().push(Arc::clone(&live));
        self.send(Command::Register(Arc::clone(&live)));
        live
    }

    /// Forgets a track and its timelines.
    pub fn remove(&self, track: &Arc<Track>) {
        track.retire();
        if !track.stream.online {
            return;
        }
        if let Some(tracks) = self.live.write().get_mut(&track.stream.source.id) {
            tracks.retain(|live| live.track.id != track.id);
        }
        self.send(Command::Drop(Arc::clone(track)));
    }

    /// The tracks that a source feeds.
    pub fn tracks_of(&self, source: u32) -> Vec<Arc<LiveTrack>> {
        self.live.read().get(&source).cloned().unwrap_or_default()
    }

    /// Fails if there is nobody to apply rows any more: then none may be committed.
    pub fn check_applier(&self) -> Result<()> {
        match self.commands.is_closed() {
            false => Ok(()),
            true => Err(Error::Internal("online state is not kept any more; restart".into())),
        }
    }

    /// Hands committed rows to the applier, in the order of the log; it answers when every later
    /// read sees them.
    pub fn committed(&self, committed: Committed) {
        self.send(Command::Commit(committed));
    }

    /// Asks the applier to look what all tracks have in the store.
    pub fn check_all(&self) {
        self.all_tracks().iter().for_each(|live| self.ask_for_repair(live));
    }

    /// The tracks of all sources.
    pub fn all_tracks(&self) -> Vec<Arc<LiveTrack>> {
        self.live.read().values().flatten().cloned().collect()
    }

    /// Ends the applier, after what it was sent if the store takes it soon. A start completes what
    /// is missing then.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let (done, stopped) = oneshot::channel();
        self.send(Command::Stop(done));
        // An applier that is gone has stopped; one that waits for its store would do so for long.
        if tokio::time::timeout(STOP, stopped).await.is_err() {
            tracing::warn!("the online store does not answer and is left as it is");
        }
    }

    fn send(&self, command: Command) {
        // The applier goes last of all: what it does not take nobody waits for.
        let _ = self.commands.send(command);
    }

    /// Asks the applier to bring a track what is missing.
    pub fn ask_for_repair(&self, live: &Arc<LiveTrack>) {
        if live.ask_for_repair() {
            self.send(Command::Repair(Arc::clone(live)));
        }
    }

    /// The values of `calls`, an array each, for `keys` as of `instant`.
    ///
    /// # Errors
    /// [`Error::Storage`] if the state is not complete, also after a while; a sum out of range.
    pub async fn read(
        &self,
        track: &Arc<Track>,
        calls: &Arc<[usize]>,
        keys: &[Box<[u8]>],
        instant: i64,
    ) -> Result<Vec<ArrayRef>> {
        let layout = &*track.layout;
        let want = Want { as_of: as_of(track, instant), calls: Arc::clone(calls) };
        let as_of = want.as_of;
        let mut waits = Waits::default();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        loop {
            let mut out = Outputs::with_capacity(layout, calls, keys.len());
            let mut order = Vec::with_capacity(keys.len());
            let mut see = |index: usize, cell: Option<&TimelineCell>| {
                match cell {
                    None => out.append_empty_row(layout)?,
                    Some(cell) => cell.0.read(layout, as_of, calls, &mut out)?,
                }
                order.push(index as u32);
                Ok(())
            };
            if self.look(track, &keys, &want, &mut see, &mut waits).await? {
                not_retired(track)?;
                return in_order(&order, out.finish()?);
            }
        }
    }

    /// Appends the values of `calls` for each of `keys` as of `instant`, in the order that is given
    /// back.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_values(
        &self,
        track: &Arc<Track>,
        calls: &Arc<[usize]>,
        keys: &[&[u8]],
        instant: i64,
        values: &mut ValueList,
    ) -> Result<ReadOrder> {
        let layout = &*track.layout;
        let want = Want { as_of: as_of(track, instant), calls: Arc::clone(calls) };
        let (as_of, length) = (want.as_of, values.as_slice().len());
        let mut waits = Waits::default();
        loop {
            values.truncate(length);
            let mut order = ReadOrder::default();
            let mut see = |key: usize, cell: Option<&TimelineCell>| {
                let before = values.as_slice().len();
                let seen = match cell {
                    None => values.append_empty(layout, calls),
                    Some(cell) => cell.0.read_values(layout, as_of, calls, values),
                };
                match seen {
                    Ok(()) => order.push(key, keys.len()),
                    // It may be shown again.
                    Err(_) => values.truncate(before),
                }
                seen
            };
            if self.look(track, keys, &want, &mut see, &mut waits).await? {
                not_retired(track)?;
                return Ok(order);
            }
        }
    }

    /// The keys with an event on any of `tracks`, which are online, at or before `instant`; encoded,
    /// in their order.
    pub async fn known_keys(&self, tracks: &[Arc<Track>], instant: i64) -> Result<Vec<Box<[u8]>>> {
        let mut known = std::collections::BTreeSet::new();
        for track in tracks {
            let keys = self.stored_keys(track).await?;
            let want = Want { as_of: as_of(track, instant), calls: Arc::default() };
            let as_of = want.as_of;
            for keys in keys.chunks(KEYS_AT_ONCE) {
                let encoded: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
                let mut waits = Waits::default();
                loop {
                    let mut found = Vec::new();
                    let mut see = |index: usize, cell: Option<&TimelineCell>| {
                        if cell.map_or(Ok(false), |cell| cell.0.has_events(as_of))? {
                            found.push(index);
                        }
                        Ok(())
                    };
                    if self.look(track, &encoded, &want, &mut see, &mut waits).await? {
                        known.extend(found.into_iter().map(|index| keys[index].clone()));
                        break;
                    }
                }
            }
            not_retired(track)?;
        }
        Ok(known.into_iter().collect())
    }

    /// All keys of a track.
    async fn stored_keys(&self, track: &Arc<Track>) -> Result<Vec<Box<[u8]>>> {
        let mut waits = Waits::default();
        loop {
            let mut keys: Vec<Box<[u8]>> = Vec::new();
            match self.store.keys(track.id, &mut |key| keys.push(key.into())).await {
                Ok(()) => return Ok(keys),
                Err(error) => waits.wait(self, track, error).await?,
            }
        }
    }

    /// Shows each key's timeline to `see` once it has what `see` needs of it. `false` if the state
    /// was not complete, so that all is to be looked at again.
    async fn look(
        &self,
        track: &Arc<Track>,
        keys: &[&[u8]],
        want: &Want,
        see: &mut See<'_>,
        waits: &mut Waits,
    ) -> Result<bool> {
        let mut failure = None;
        let mut look = |index: usize, cell: Option<&TimelineCell>| {
            match see(index, cell) {
                Err(KernelError::NotLoaded { from, to }) => {
                    return Look::More(vec![range(from, to)]);
                }
                Err(error) => _ = failure.get_or_insert(error),
                Ok(()) => {}
            }
            Look::Done
        };
        let looked = self.store.read(track.id, keys, want, &mut look).await;
        match (looked, failure) {
            (Ok(()), None) => Ok(true),
            (Ok(()), Some(error)) => Err(error.into()),
            (Err(error), _) => {
                waits.wait(self, track, error).await?;
                Ok(false)
            }
        }
    }
}

/// The order in which keys were read.
#[derive(Debug, Default)]
pub struct ReadOrder {
    read: usize,
    /// Where each key is; nothing while all are at their places.
    places: Vec<u32>,
}

impl ReadOrder {
    /// The next that was read is this one of `keys` keys.
    fn push(&mut self, key: usize, keys: usize) {
        if key != self.read && self.places.is_empty() {
            self.places = (0..keys as u32).collect();
        }
        if let Some(place) = self.places.get_mut(key) {
            *place = self.read as u32;
        }
        self.read += 1;
    }

    /// When a key was read.
    pub fn place(&self, key: usize) -> usize {
        self.places.get(key).map_or(key, |&place| place as usize)
    }
}

/// Sees a key's timeline, by the key's index; `None` if it has no events.
type See<'a> = dyn FnMut(usize, Option<&TimelineCell>) -> Result<(), KernelError> + Send + 'a;

/// How often a read has found its track's state not complete.
#[derive(Default)]
struct Waits(u32);

impl Waits {
    /// Waits until the state may be complete; has it repaired.
    ///
    /// # Errors
    /// `error`, if it has another reason or it has been waited for long enough.
    async fn wait(
        &mut self,
        timelines: &Timelines,
        track: &Arc<Track>,
        error: StorageError,
    ) -> Result<()> {
        let tracks = timelines.tracks_of(track.stream.source.id);
        let live = tracks.iter().find(|live| live.track.id == track.id);
        match &error {
            StorageError::UnknownSpace { .. } if track.is_retired() => return Err(Error::Changed),
            StorageError::StateNotReady { .. } | StorageError::UnknownSpace { .. } => {
                if let Some(reason) = live.and_then(|live| live.failure()) {
                    return Err(Error::Fill(reason));
                }
            }
            StorageError::StateLost { .. }
            | StorageError::StateBehind { .. }
            | StorageError::StateDamaged { .. } => {
                if let (Some(live), StorageError::StateDamaged { shard, .. }) = (live, &error) {
                    live.distrust_shard(*shard);
                }
                live.into_iter().for_each(|live| timelines.ask_for_repair(live));
            }
            _ => return Err(error.into()),
        }
        self.0 += 1;
        if self.0 > LOOKS {
            return Err(match (live.and_then(|live| Some((live, live.fill()?))), error) {
                (Some((live, fill)), StorageError::StateNotReady { .. }) => Error::Filling {
                    entity: live.entity.clone(),
                    rows: fill.rows(),
                    rows_total: fill.rows_total,
                },
                (_, error) => error.into(),
            });
        }
        sleep(LOOK_AGAIN).await;
        Ok(())
    }
}

/// As of when a track is read, without what has expired by now.
fn as_of(track: &Track, instant: i64) -> AsOf {
    AsOf { instant, kept_from: track.stream.source.data.kept_from() }
}

/// Columns whose rows are those of the keys in `order`, put into the keys' order.
fn in_order(order: &[u32], columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    if order.is_sorted() {
        return Ok(columns);
    }
    let mut places = vec![0; order.len()];
    for (place, &index) in order.iter().enumerate() {
        places[index as usize] = place as u32;
    }
    let places = UInt32Array::from(places);
    columns.iter().map(|column| Ok(take(column, &places, None)?)).collect()
}

/// An answer from timelines that may have been gone is none.
fn not_retired(track: &Track) -> Result<()> {
    match track.is_retired() {
        true => Err(Error::Changed),
        false => Ok(()),
    }
}
