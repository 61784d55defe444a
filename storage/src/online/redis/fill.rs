//! What shards have, and filling them: lost shards become filling, then ready.

use super::Redis;
use super::layout::Witness;
use super::script::Call;
use super::space::{FILL_BATCHES, Progress, ShardProgress, Space};
use super::witness::{Change, Changed};
use super::writer::{array, random, unexpected};
use crate::error::Error;
use crate::online::Coverage;
use crate::online::cell::Cell;

impl<C: Cell> Redis<C> {
    /// Stamps the shards of a space and learns what they have.
    pub(super) async fn coverage_of_writer(
        &self,
        space: &Space<C>,
    ) -> Result<Vec<Coverage>, Error> {
        let mut progress = space.progress.lock().await;
        self.renew().await?;
        let shards: Vec<u32> = (0..self.names.shards()).collect();
        let changed = self.change_witnesses(space.id, &shards, &Change::Stamp).await?;
        let head = progress.live_next;
        for (&shard, changed) in shards.iter().zip(&changed) {
            let Changed::Done(found) = changed else {
                progress.set(shard, None);
                continue;
            };
            let found =
                ShardProgress { position: found.position, fill: found.fill, ready: found.ready };
            // No read answers from less than what the shard has now.
            if found.ready {
                space.raise_seen(shard, found.position);
            }
            // A shard that is as this process left it has everything that this process applied.
            if progress.shard(shard) != Some(found) || head.is_none() {
                progress.fall_back(found.position);
            }
            progress.set(shard, Some(found));
        }
        Ok(coverage(&progress))
    }

    /// Reads the witnesses of a space.
    pub(super) async fn coverage_of_reader(
        &self,
        space: &Space<C>,
    ) -> Result<Vec<Coverage>, Error> {
        let shards = 0..self.names.shards();
        let calls: Vec<Call> =
            shards.map(|shard| self.page(space, shard, (b"0".to_vec(), 0))).collect();
        let mut coverage = Vec::with_capacity(calls.len());
        for answer in self.reads.run(&calls).await? {
            let value = answer.map_err(|failure| failure.into_error())?;
            let witness = match array(&value)?.first() {
                Some(redis::Value::BulkString(bytes)) => Witness::decode(bytes),
                Some(redis::Value::Nil) => None,
                _ => return Err(unexpected(&value)),
            };
            coverage.push(match witness {
                Some(found) if self.is_ours(found.generation).await? => {
                    of(found.ready, found.position)
                }
                _ => Coverage::Lost,
            });
        }
        Ok(coverage)
    }

    /// Empties shards and begins to fill them.
    pub(super) async fn reset_shards(
        &self,
        space: &Space<C>,
        shards: &[u32],
        position: u64,
    ) -> Result<(), Error> {
        let mut progress = space.progress.lock().await;
        if progress.dropped {
            return Err(Error::UnknownSpace { space: space.id });
        }
        // The record is there before the first shard is, so that a later writer finds the shards.
        self.keep_with_space(space.id).await?;
        shards.iter().for_each(|&shard| progress.set(shard, None));
        let fill = new_fill();
        self.change_witnesses(space.id, shards, &Change::Reset { position, fill }).await?;
        let others = progress.shards.iter().any(Option::is_some);
        let filling = ShardProgress { position, fill, ready: false };
        for &shard in shards {
            progress.set(shard, Some(filling));
            space.restart_seen(shard, position);
        }
        progress.fill_next = 0;
        if others {
            progress.fall_back(position);
        } else {
            progress.live_next = Some(position);
        }
        Ok(())
    }

    /// Makes filling shards ready.
    pub(super) async fn ready_shards(&self, space: &Space<C>) -> Result<(), Error> {
        let mut progress = space.progress.lock().await;
        if progress.dropped {
            return Err(Error::UnknownSpace { space: space.id });
        }
        let filling: Vec<(u32, ShardProgress)> = (0..self.names.shards())
            .filter_map(|shard| Some((shard, progress.shard(shard)?)))
            .filter(|(_, found)| !found.ready)
            .collect();
        let calls: Vec<Call> = filling
            .iter()
            .map(|(shard, found)| self.witness_call(space.id, *shard, &Change::Ready(found.fill)))
            .collect::<Result<_, _>>()?;
        for ((shard, found), answer) in filling.into_iter().zip(self.writes.run(&calls).await?) {
            let value = answer.map_err(|failure| failure.into_error())?;
            match self.witness_answer(&value)? {
                Changed::Done(_) => {
                    progress.set(shard, Some(ShardProgress { ready: true, ..found }))
                }
                Changed::Lost | Changed::Gone => progress.set(shard, None),
                Changed::FillAt(next) => {
                    progress.set(shard, None);
                    let sequence = progress.fill_next;
                    let next = next & FILL_BATCHES;
                    return Err(Error::FillGap { space: space.id, sequence, next });
                }
            }
        }
        match progress.lost() {
            lost if lost.is_empty() => Ok(()),
            shards => Err(Error::StateLost { space: space.id, shards }),
        }
    }

    /// Removes a space from Redis, whether this process knows it or not.
    pub(super) async fn unlink_space(&self, space: u32) -> Result<(), Error> {
        self.renew().await?;
        let shards: Vec<u32> = (0..self.names.shards()).collect();
        self.change_witnesses(space, &shards, &Change::Drop).await?;
        self.keep_without_space(space).await
    }
}

/// The number of a fill, with its first batch.
fn new_fill() -> u64 {
    let [a, b, c, d, ..] = random();
    u64::from(u32::from_be_bytes([a, b, c, d])) << 32
}

fn of(ready: bool, position: u64) -> Coverage {
    if ready { Coverage::Ready { position } } else { Coverage::Filling { position } }
}

/// A shard whose own position is lower has none of the events between.
fn coverage(progress: &Progress) -> Vec<Coverage> {
    let head = progress.live_next.unwrap_or(0);
    let shard = |shard: &Option<ShardProgress>| match shard {
        Some(found) => of(found.ready, found.position.max(head)),
        None => Coverage::Lost,
    };
    progress.shards.iter().map(shard).collect()
}
