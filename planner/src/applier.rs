//! The applier: the one task that writes to the online store.
//!
//! 1. Commits come in the order of the log, with their rows as each track sees them. All that wait
//!    are applied together, to each track that they concern, and answered.
//! 2. A track that is registered begins with what the store has of it: rows that are missing are
//!    replayed in the order of the log if they are few, or else its shards are filled anew, from
//!    the rows below the position of its registration; rows from there on come as commits.
//! 3. A track of which the store has lost something, or gone back, begins again in the same way,
//!    at the position that was applied last. Reads of it wait or fail meanwhile.
//!
//! A store that does not answer, or takes nothing, is asked again until it does: who commits waits,
//! for what was acknowledged is seen by every later read. The rows are durable all the while.
//!
//! A panic is a defect, and ends nothing but the work at hand: the commits in it fail, and all
//! tracks are filled anew, for nobody knows how far their state has come.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use asofdb_storage::Error as StorageError;
use asofdb_storage::online::{Coverage, LEASE, Lane, replay};
use futures::FutureExt;
use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::backfill::{Fill, missing_rows, passes, rows_from};
use crate::catalog::Connector;
use crate::cell::Changes;
use crate::error::{Error, Result};
use crate::live_track::{Damage, Filled, LiveTrack};
use crate::maintain::{Store, Timelines};
use crate::planning::Planning;
use crate::preparation::{GroupedEvents, TrackRows};
use crate::task::Background;
use crate::track::Track;

/// Commits that are applied together at most.
const COMMITS_AT_ONCE: usize = 256;

/// How long a store that does not take a batch is left alone, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Rows of the log that are replayed one after the other; more are filled in.
const REPLAY_ROWS: u64 = 1 << 18;

/// Rows of one transaction, durable and published.
pub struct Committed {
    /// The source.
    pub source: u32,
    /// The position of the first row.
    pub first: u64,
    /// How many rows there are.
    pub rows: u64,
    /// The rows with their positions.
    pub batches: Vec<RecordBatch>,
    /// The rows as the tracks saw them before they were committed, with positions from 0.
    pub tracks: Vec<TrackRows>,
    /// Told when every later read sees them.
    pub done: oneshot::Sender<Result<()>>,
}

/// What the applier is to do.
pub enum Command {
    /// Apply rows.
    Commit(Committed),
    /// Begin to keep a track up to date.
    Register(Arc<LiveTrack>),
    /// See what the store has of a track, and bring it what is missing.
    Repair(Arc<LiveTrack>),
    /// Drop a track's timelines.
    Drop(Arc<Track>),
    /// End.
    Stop(oneshot::Sender<()>),
}

/// The applier at work.
pub struct Applier {
    timelines: Arc<Timelines>,
    planning: Planning,
    /// The fills under way, by track.
    fills: HashMap<u32, Running>,
}

/// A fill under way.
struct Running {
    cancelled: Arc<AtomicBool>,
    task: Background,
}

impl Applier {
    /// Starts the applier, and the keeper of the right to write.
    pub fn start(
        timelines: &Arc<Timelines>,
        planning: &Planning,
        commands: mpsc::UnboundedReceiver<Command>,
    ) {
        let applier = Applier {
            timelines: Arc::clone(timelines),
            planning: planning.clone(),
            fills: HashMap::new(),
        };
        let keeper = Background::spawn(keep_up(Arc::clone(timelines)));
        Background::spawn(applier.run(commands, keeper));
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>, keeper: Background) {
        let mut batch = Vec::new();
        while commands.recv_many(&mut batch, COMMITS_AT_ONCE).await > 0 {
            let mut commits = Vec::new();
            for command in batch.drain(..) {
                if let Command::Commit(committed) = command {
                    commits.push(committed);
                    continue;
                }
                self.apply_or_recover(std::mem::take(&mut commits)).await;
                if let Command::Stop(done) = command {
                    self.stop(keeper).await;
                    // Who stopped waiting knows nothing of it.
                    let _ = done.send(());
                    return;
                }
                self.obey_or_recover(command).await;
            }
            self.apply_or_recover(commits).await;
        }
    }

    /// Begins to keep a track, or ends it; after a panic, the track has no values.
    async fn obey_or_recover(&mut self, command: Command) {
        let live = match &command {
            Command::Register(live) | Command::Repair(live) => Some(Arc::clone(live)),
            Command::Commit(_) | Command::Drop(_) | Command::Stop(_) => None,
        };
        if AssertUnwindSafe(self.obey(command)).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!("a panic while a track began or ended");
        if let Some(live) = live {
            let reason = Error::Internal("completing online state panicked".into());
            live.settle(Filled::Failed(Arc::new(reason)));
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Register(live) | Command::Repair(live) => self.begin(&live).await,
            Command::Drop(track) => self.drop_track(&track).await,
            // `run` takes these.
            Command::Commit(_) | Command::Stop(_) => {}
        }
    }

    /// Applies commits; after a panic, what they left of all tracks is filled anew.
    async fn apply_or_recover(&mut self, commits: Vec<Committed>) {
        let Some(last) = commits.last() else { return };
        let to = last.first + last.rows;
        if AssertUnwindSafe(self.apply(commits)).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!("applying rows panicked; all online state is filled anew");
        for live in self.timelines.all_tracks() {
            live.applied.fetch_max(to, Ordering::AcqRel);
            live.distrust();
            self.obey_or_recover(Command::Repair(live)).await;
        }
    }

    async fn stop(&mut self, keeper: Background) {
        keeper.abort();
        for (_, fill) in self.fills.drain() {
            fill.end().await;
        }
        for live in self.timelines.all_tracks() {
            if let Err(error) = self.timelines.store().settle(live.track.id).await {
                tracing::debug!(track = live.track.id, %error, "a start will look for more rows");
            }
        }
        if let Err(error) = self.timelines.store().release().await {
            tracing::warn!(%error, "the online store was not released");
        }
    }

    /// Applies commits, which follow each other, and answers them.
    async fn apply(&mut self, commits: Vec<Committed>) {
        fail::fail_point!("applier::apply");
        let Some(last) = commits.last() else { return };
        let to = last.first + last.rows;
        let mut by_track: HashMap<u32, (Arc<LiveTrack>, Changes)> = HashMap::new();
        let mut answers = Vec::with_capacity(commits.len());
        for commit in commits {
            answers.push(commit.done);
            let tracks = commit.tracks.into_iter().map(|rows| (rows.live.track.id, rows.events));
            let rows = (commit.first, commit.batches.as_slice());
            for (live, changes) in self.collect(commit.source, rows, tracks.collect()).await {
                let entry = by_track.entry(live.track.id);
                entry.or_insert_with(|| (live, Vec::new())).1.extend(changes);
            }
        }
        let mut failure = None;
        for (live, changes) in by_track.into_values() {
            if let Err(error) = self.apply_to(&live, to, changes).await {
                tracing::error!(track = live.track.id, %error, "rows could not be applied");
                failure = Some(Arc::new(error));
            }
        }
        for done in answers {
            // A client that left has no use for the answer.
            let _ = done.send(failure.clone().map_or(Ok(()), |reason| Err(Error::Fill(reason))));
        }
    }

    /// What rows are to each track of their source.
    async fn collect(
        &self,
        source: u32,
        (first, batches): (u64, &[RecordBatch]),
        mut prepared: HashMap<u32, GroupedEvents>,
    ) -> Vec<(Arc<LiveTrack>, Changes)> {
        let mut collected = Vec::new();
        let tracks = self.timelines.tracks_of(source);
        for live in tracks.into_iter().filter(|live| first >= live.live_from) {
            let changes = match prepared.remove(&live.track.id) {
                Some(events) => events.into_changes(first),
                // It was registered after the rows were prepared.
                None => batches
                    .iter()
                    .try_fold(GroupedEvents::default(), |mut events, batch| {
                        events.add(live.program.run(batch)?)?;
                        Ok(events)
                    })
                    .and_then(|events| events.into_changes(0)),
            };
            match changes {
                Ok(changes) => collected.push((live, changes)),
                Err(error) => self.give_up(&live, error).await,
            }
        }
        collected
    }

    /// A track that cannot be computed over a row that is committed has no values any more: it was
    /// made while the row was on its way.
    async fn give_up(&self, live: &LiveTrack, error: Error) {
        tracing::error!(track = live.track.id, %error, "a feature cannot be computed any more");
        live.settle(Filled::Failed(Arc::new(error)));
        if let Err(error) = self.timelines.store().drop_space(live.track.id).await {
            tracing::error!(track = live.track.id, %error, "timelines were not dropped");
        }
    }

    /// Applies rows that follow those applied to the track before.
    async fn apply_to(&mut self, live: &Arc<LiveTrack>, to: u64, changes: Changes) -> Result<()> {
        let from = live.applied.load(Ordering::Acquire);
        if to <= from {
            return Ok(());
        }
        let lane = Lane::Live { from, to };
        let applied = patiently(self.timelines.store(), live, lane, kept(changes)).await;
        live.applied.store(to, Ordering::Release);
        match applied {
            Err(StorageError::StateLost { .. } | StorageError::StateGap { .. }) => {
                self.begin(live).await;
                Ok(())
            }
            // It was dropped meanwhile: nobody reads it any more, and no row waits for it.
            Err(_) if live.track.is_retired() => Ok(()),
            Err(StorageError::UnknownSpace { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Brings a track what the store misses of it, below the position applied last. When it
    /// returns no read answers without that any more.
    async fn begin(&mut self, live: &Arc<LiveTrack>) {
        let mut damage = Damage::default();
        let mut wait = RETRY.0;
        while live.is_wanted() {
            live.repairing(&mut damage);
            let error = match self.try_begin(live, &damage).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if !passes(&error, live) {
                tracing::error!(track = live.track.id, %error, "online state stays incomplete");
                live.settle(Filled::Failed(Arc::new(error)));
                return;
            }
            tracing::warn!(track = live.track.id, %error, "online state is not complete");
            sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn try_begin(&mut self, live: &Arc<LiveTrack>, damage: &Damage) -> Result<()> {
        if let Some(fill) = self.fills.remove(&live.track.id) {
            fill.end().await;
        }
        let (store, space) = (Arc::clone(self.timelines.store()), live.track.id);
        store.create_space(space, Arc::clone(&live.track.layout)).await?;
        let until = live.applied.load(Ordering::Acquire);
        let mut shards = coverage(&store, live).await?;
        for (shard, coverage) in (0..).zip(&mut shards) {
            // State of a log that went on otherwise than ours is none.
            let foreign = matches!(coverage, Coverage::Ready { position } if *position > until);
            if foreign || damage.concerns(shard) {
                *coverage = Coverage::Lost;
            }
        }
        let parts = replay(&shards, until);
        let missing = parts.first().map_or(0, |part| rows_from(live, part.start));
        if live.track.stream.source.connector != Connector::Log || missing > REPLAY_ROWS {
            // Files read in place may be others now; and many rows are filled in faster.
            shards.fill(Coverage::Lost);
        } else if !parts.is_empty() {
            let rows = missing_rows(&self.planning, live, parts).await?;
            for (part, changes) in rows {
                let lane = Lane::Live { from: part.start, to: part.end };
                match patiently(&store, live, lane, changes).await {
                    // Shards that are lost are filled below.
                    Ok(()) | Err(StorageError::StateLost { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match settle(&store, live).await {
                Ok(()) | Err(StorageError::StateLost { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            for (shard, now) in shards.iter_mut().zip(coverage(&store, live).await?) {
                if !matches!(shard, Coverage::Lost) {
                    *shard = now;
                }
            }
        }
        let whole = |shard: &Coverage| matches!(shard, Coverage::Ready { .. });
        let lost: Vec<u32> =
            (0..).zip(&shards).filter(|(_, c)| !whole(c)).map(|(n, _)| n).collect();
        if lost.is_empty() {
            live.settle(Filled::Whole);
            return Ok(());
        }
        live.settle(Filled::Not);
        begin_fill(&store, live, (&lost, until)).await?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let fill = Fill {
            timelines: Arc::clone(&self.timelines),
            planning: self.planning.clone(),
            live: Arc::clone(live),
            below: until,
            cancelled: Arc::clone(&cancelled),
        };
        self.fills.insert(space, Running { cancelled, task: Background::spawn(fill.run()) });
        Ok(())
    }

    async fn drop_track(&mut self, track: &Arc<Track>) {
        if let Some(fill) = self.fills.remove(&track.id) {
            fill.end().await;
        }
        // What stays in a store elsewhere goes at the next start.
        if let Err(error) = self.timelines.store().drop_space(track.id).await {
            tracing::warn!(track = track.id, %error, "timelines were not dropped");
        }
    }
}

impl Running {
    async fn end(self) {
        self.cancelled.store(true, Ordering::Release);
        self.task.join().await;
    }
}

/// What is applied of a batch: all of it, unless a test wants state that is wrong.
fn kept(changes: Changes) -> Changes {
    fail::fail_point!("timelines::insert", |_| Vec::new());
    changes
}

/// Applies a batch as soon as the store takes it.
pub async fn patiently(
    store: &Store,
    live: &LiveTrack,
    lane: Lane,
    changes: Changes,
) -> Result<(), StorageError> {
    let mut patience = Patience::default();
    loop {
        match store.apply(live.track.id, lane, &changes).await {
            Ok(()) => return Ok(()),
            Err(error) => patience.wait(live, error).await?,
        }
    }
}

/// What each shard of a track has.
async fn coverage(store: &Store, live: &LiveTrack) -> Result<Vec<Coverage>, StorageError> {
    let mut patience = Patience::default();
    loop {
        match store.coverage(live.track.id).await {
            Ok(coverage) => return Ok(coverage),
            Err(error) => patience.wait(live, error).await?,
        }
    }
}

/// Says to the shards without events, too, how far the track has come.
async fn settle(store: &Store, live: &LiveTrack) -> Result<(), StorageError> {
    let mut patience = Patience::default();
    loop {
        match store.settle(live.track.id).await {
            Ok(()) => return Ok(()),
            Err(error) => patience.wait(live, error).await?,
        }
    }
}

/// Makes the shards that were filled ready.
pub async fn finish(store: &Store, live: &LiveTrack) -> Result<(), StorageError> {
    let mut patience = Patience::default();
    loop {
        match store.finish_fill(live.track.id).await {
            Ok(()) => return Ok(()),
            Err(error) => patience.wait(live, error).await?,
        }
    }
}

/// Empties shards, which are to be filled.
async fn begin_fill(
    store: &Store,
    live: &LiveTrack,
    (shards, position): (&[u32], u64),
) -> Result<(), StorageError> {
    let mut patience = Patience::default();
    loop {
        match store.begin_fill(live.track.id, shards, position).await {
            Ok(()) => return Ok(()),
            Err(error) => patience.wait(live, error).await?,
        }
    }
}

/// With a store that does not answer or takes nothing: a call is made again, later each time.
struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Patience(RETRY.0)
    }
}

impl Patience {
    /// Waits until the call that failed may be made again.
    ///
    /// # Errors
    /// `error`, if that is no use or the track is gone.
    async fn wait(&mut self, live: &LiveTrack, error: StorageError) -> Result<(), StorageError> {
        let passes = matches!(
            error,
            StorageError::StoreUnavailable { .. } | StorageError::StoreRefusesWrites { .. }
        );
        if !passes || !live.is_wanted() {
            return Err(error);
        }
        tracing::warn!(%error, "the online store is asked again");
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(RETRY.1);
        Ok(())
    }
}

/// Keeps the right to write, and notices when the store may have become another.
async fn keep_up(timelines: Arc<Timelines>) {
    loop {
        sleep(LEASE / 4).await;
        match timelines.store().upkeep().await {
            Ok(false) => {}
            Ok(true) => timelines.check_all(),
            Err(error) => tracing::warn!(%error, "the online store was not kept"),
        }
    }
}
