//! Forgetting: events that no window of a track reaches any more leave its online state. Lookups as
//! of instants before that are answered from the events ([`crate::recompute`]).

use std::sync::Arc;

use arrow::compute::max;
use asofdb_storage::Error as StorageError;

use crate::catalog::{Connector, Source};
use crate::database::Inner;
use crate::error::Result;
use crate::live_track::LiveTrack;
use crate::track::times;

/// Events are kept for longer than the largest window, by this part of it and at least so many
/// microseconds: lookups as of a moment ago find them.
const SLACK_PART: i64 = 8;
const SLACK_MIN: i64 = 60_000_000;

/// Lets the tracks of `source` forget what they can; if not `eager`, only those for which it is worth
/// the way through all keys.
pub async fn forget(inner: &Inner, source: &Arc<Source>, eager: bool) -> Result<()> {
    if source.connector != Connector::Log {
        return Ok(());
    }
    // Of a source that has ended long ago, its last windows stay.
    let Some(newest) = newest(source)? else { return Ok(()) };
    let now = inner.planning.now_micros().min(newest);
    for live in inner.timelines.tracks_of(source.id) {
        let Some((before, slack)) = horizon(&live, now) else { continue };
        let least = if eager { 1 } else { slack };
        if !live.is_whole() || before.saturating_sub(live.forgotten_before()) < least {
            continue;
        }
        match inner.timelines.store().forget_before(live.track.id, before).await {
            Ok(timelines) => {
                live.forgot(before);
                tracing::debug!(track = live.track.id, before, timelines, "events were forgotten");
            }
            // It was dropped meanwhile.
            Err(StorageError::UnknownSpace { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The time before which a track needs no events from `now` on, and how exact that has to be.
fn horizon(live: &LiveTrack, now: i64) -> Option<(i64, i64)> {
    let layout = &live.track.layout;
    let calls: Vec<usize> = (0..layout.calls().len()).collect();
    let expired = live.track.stream.source.data.kept_from();
    let earliest = |instant| layout.earliest(&calls, instant).max(expired);
    let reach = now.saturating_sub(earliest(now));
    let slack = (reach / SLACK_PART).max(SLACK_MIN);
    let before = earliest(now.saturating_sub(slack));
    (before > i64::MIN).then_some((before, slack))
}

/// The event time of the newest row.
fn newest(source: &Source) -> Result<Option<i64>> {
    let snapshot = source.data.snapshot();
    let mut newest = snapshot.files.iter().map(|file| file.max_time).max();
    for batch in &snapshot.tail {
        newest = newest.max(max(&times(batch.column(source.event_time))?));
    }
    Ok(newest)
}
