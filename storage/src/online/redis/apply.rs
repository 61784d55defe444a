//! Applying a batch.
//!
//! 1. The changes are encoded and grouped by key and shard.
//! 2. The batch continues the space's last one, or repeats it; anything else is a gap.
//! 3. Each touched shard gets one call, from its own position (or fill batch) to the batch's end.
//!    A shard without events is not touched, but for one of them in turn, so that no shard stays
//!    behind for more batches than there are shards.
//! 4. Tails that became too long are folded (`fold.rs`).

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashMap;
use redis::Value;

use super::Redis;
use super::failure::Failure;
use super::fold::Long;
use super::script::{Call, Code};
use super::space::{FILL_BATCHES, Progress, ShardProgress, Space};
use super::witness::number;
use super::writer::{text, unexpected};
use crate::error::Error;
use crate::online::Lane;
use crate::online::cell::Cell;

/// Encoded changes by shard, then pairs of key and bytes; a key occurs once.
pub(super) type Encoded = BTreeMap<u32, Vec<(Vec<u8>, Vec<u8>)>>;

/// One shard's part of a batch.
struct Part {
    shard: u32,
    before: ShardProgress,
    /// Where it continues and where it ends: positions or fill batches.
    from: u64,
    to: u64,
}

/// What became of a part.
enum Applied {
    /// It is in; the tails of these cells are too long.
    In {
        ready: bool,
        long: Vec<Long>,
    },
    Lost,
    Fenced(u64),
    Gap {
        ready: bool,
        found: u64,
    },
}

impl<C: Cell> Redis<C> {
    pub(super) fn encode(
        &self,
        space: &Space<C>,
        changes: &[(Vec<u8>, C::Change)],
    ) -> Result<Encoded, Error> {
        let mut by_key: HashMap<&[u8], Vec<u8>> = HashMap::new();
        for (key, change) in changes {
            C::encode_change(&space.schema, change, by_key.entry(key).or_default())
                .map_err(|source| Error::Cell { space: space.id, source })?;
        }
        let mut encoded = Encoded::new();
        for (key, bytes) in by_key {
            encoded.entry(self.names.shard_of(key)).or_default().push((key.to_vec(), bytes));
        }
        Ok(encoded)
    }

    pub(super) async fn apply_encoded(
        &self,
        space: &Space<C>,
        lane: Lane,
        mut changes: Encoded,
    ) -> Result<(), Error> {
        let mut progress = space.progress.lock().await;
        if progress.dropped {
            return Err(Error::UnknownSpace { space: space.id });
        }
        continues(&progress, space.id, lane)?;
        let (parts, mut lost) = self.parts(&mut progress, space.id, lane, &changes)?;
        let calls: Vec<Call> = parts
            .iter()
            .map(|part| {
                let changes = changes.remove(&part.shard).unwrap_or_default();
                self.apply_call(space, lane, part, changes)
            })
            .collect::<Result<_, _>>()?;
        let answers = self.writes.run(&calls).await?;
        drop(calls);

        let mut long = Vec::new();
        let mut failed: Option<Error> = None;
        for (part, answer) in parts.iter().zip(answers) {
            let applied = answer.map_err(Failure::into_error).and_then(applied);
            match applied.and_then(|applied| self.note(&mut progress, space, lane, part, applied)) {
                Ok(Some(cells)) => long.extend(cells.into_iter().map(|cell| (part.shard, cell))),
                Ok(None) => lost.push(part.shard),
                Err(error) => {
                    failed = Some(worse(failed, error));
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        match lane {
            Lane::Live { to, .. } => {
                progress.live_next = progress.live_next.map(|next| next.max(to));
            }
            Lane::Fill { sequence } => progress.fill_next = progress.fill_next.max(sequence + 1),
        }
        self.fold_all(space, &progress, long).await?;
        if lost.is_empty() {
            Ok(())
        } else {
            Err(Error::StateLost { space: space.id, shards: lost })
        }
    }

    /// Says to a space's shards how far the live events have come, whether or not they had any:
    /// after a restart, nothing before that has to be replayed.
    ///
    /// # Errors
    /// As `apply`.
    pub async fn settle(&self, space: u32) -> Result<(), Error> {
        let space = self.space(space)?;
        let mut progress = space.progress.lock().await;
        let Some(to) = progress.live_next else { return Ok(()) };
        let parts: Vec<Part> = (0..self.names.shards())
            .filter_map(|shard| Some((shard, progress.shard(shard)?)))
            .filter(|(_, before)| before.position < to)
            .map(|(shard, before)| Part { shard, before, from: before.position, to })
            .collect();
        let lane = Lane::Live { from: to, to };
        let calls: Vec<Call> = parts
            .iter()
            .map(|part| self.apply_call(&space, lane, part, Vec::new()))
            .collect::<Result<_, _>>()?;
        let mut lost = Vec::new();
        for (part, answer) in parts.iter().zip(self.writes.run(&calls).await?) {
            let applied = applied(answer.map_err(Failure::into_error)?)?;
            if self.note(&mut progress, &space, lane, part, applied)?.is_none() {
                lost.push(part.shard);
            }
        }
        if lost.is_empty() {
            Ok(())
        } else {
            Err(Error::StateLost { space: space.id, shards: lost })
        }
    }

    /// The calls to make, and the shards that cannot take their events because they are lost.
    fn parts(
        &self,
        progress: &mut Progress,
        space: u32,
        lane: Lane,
        changes: &Encoded,
    ) -> Result<(Vec<Part>, Vec<u32>), Error> {
        let mut touched: Vec<u32> = changes.keys().copied().collect();
        if matches!(lane, Lane::Live { .. }) {
            if !changes.contains_key(&progress.turn) {
                touched.push(progress.turn);
            }
            progress.turn = (progress.turn + 1) % self.names.shards();
        }
        let mut parts = Vec::with_capacity(touched.len());
        let mut lost = Vec::new();
        for shard in touched {
            let Some(before) = progress.shard(shard) else {
                if changes.contains_key(&shard) {
                    lost.push(shard);
                }
                continue;
            };
            let (from, to) = match lane {
                Lane::Live { from, to }
                    if before.position > from
                        && before.position < to
                        && changes.contains_key(&shard) =>
                {
                    return Err(Error::StateGap { space, position: before.position, from, to });
                }
                Lane::Live { to, .. } => (before.position, to),
                Lane::Fill { .. } if before.ready => continue,
                Lane::Fill { sequence } => (before.fill, before.fill_at(sequence + 1)),
            };
            if from < to {
                parts.push(Part { shard, before, from, to });
            }
        }
        Ok((parts, lost))
    }

    fn apply_call(
        &self,
        space: &Space<C>,
        lane: Lane,
        part: &Part,
        changes: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Call, Error> {
        let writing = self.writing()?;
        let lane: &[u8] = if matches!(lane, Lane::Live { .. }) { b"L" } else { b"F" };
        let limit = C::tail_limit(&space.schema).bytes;
        let mut args = Vec::with_capacity(6 + 2 * changes.len());
        args.push(writing.generation.to_vec());
        args.push(writing.epoch.to_be_bytes().to_vec());
        args.push(lane.to_vec());
        args.push(part.from.to_be_bytes().to_vec());
        args.push(part.to.to_be_bytes().to_vec());
        args.push(limit.to_string().into_bytes());
        for (key, bytes) in changes {
            args.push(key);
            args.push(bytes);
        }
        Ok(Call::script(Code::Apply, self.shard_keys(space.id, part.shard), args))
    }

    /// Remembers where a shard is now. `None` if it is lost.
    fn note(
        &self,
        progress: &mut Progress,
        space: &Space<C>,
        lane: Lane,
        part: &Part,
        applied: Applied,
    ) -> Result<Option<Vec<Long>>, Error> {
        let with = |value: u64, ready: bool| match lane {
            Lane::Live { .. } => ShardProgress { position: value, ready, ..part.before },
            Lane::Fill { .. } => ShardProgress { fill: value, ready, ..part.before },
        };
        match applied {
            // It was ready and is filling again: an older state came back. It has to be filled.
            Applied::In { ready: false, .. } | Applied::Gap { ready: false, .. }
                if part.before.ready =>
            {
                progress.set(part.shard, None);
                Ok(None)
            }
            Applied::In { ready, long } => {
                let now = with(part.to, ready);
                progress.set(part.shard, Some(now));
                space.raise_seen(part.shard, now.position);
                Ok(Some(long))
            }
            Applied::Lost => {
                progress.set(part.shard, None);
                Ok(None)
            }
            Applied::Fenced(present) => Err(self.fenced(present)),
            Applied::Gap { ready, found } => {
                progress.set(part.shard, Some(with(found, ready)));
                match lane {
                    Lane::Live { from, to } => {
                        progress.fall_back(found);
                        Err(Error::StateGap { space: space.id, position: found, from, to })
                    }
                    Lane::Fill { sequence } => {
                        let next = found & FILL_BATCHES;
                        Err(Error::FillGap { space: space.id, sequence, next })
                    }
                }
            }
        }
    }
}

/// Refuses a batch that leaves something out.
fn continues(progress: &Progress, space: u32, lane: Lane) -> Result<(), Error> {
    match lane {
        Lane::Live { from, to } => match progress.live_next {
            None => Err(Error::StateLost { space, shards: progress.lost() }),
            Some(position) if from > position || from > to => {
                Err(Error::StateGap { space, position, from, to })
            }
            Some(_) => Ok(()),
        },
        Lane::Fill { sequence } if sequence > progress.fill_next || sequence >= FILL_BATCHES => {
            Err(Error::FillGap { space, sequence, next: progress.fill_next })
        }
        Lane::Fill { .. } => Ok(()),
    }
}

/// Reads the answer of `apply.lua`.
fn applied(value: Value) -> Result<Applied, Error> {
    let Value::Array(fields) = value else { return Err(unexpected(&value)) };
    let ready = |field: Option<&Value>| match field {
        Some(Value::BulkString(state)) if state.as_slice() == [0] => Ok(false),
        Some(Value::BulkString(state)) if state.as_slice() == [1] => Ok(true),
        _ => Err(unexpected(&Value::Nil)),
    };
    let nil = Value::Nil;
    let second = fields.get(1);
    match text(fields.first().unwrap_or(&nil))?.as_str() {
        "DONE" => Ok(Applied::In { ready: ready(second)?, long: Vec::new() }),
        "LOST" => Ok(Applied::Lost),
        "FENCED" => Ok(Applied::Fenced(number(second.unwrap_or(&nil))?)),
        "GAP" => {
            let found = number(fields.get(2).unwrap_or(&nil))?;
            Ok(Applied::Gap { ready: ready(second)?, found })
        }
        "OK" => {
            let ready = ready(second)?;
            let mut long = Vec::new();
            let mut rest = fields.into_iter().skip(2);
            while let (Some(key), Some(root)) = (rest.next(), rest.next()) {
                let (Value::BulkString(key), Value::BulkString(root)) = (key, root) else {
                    return Err(unexpected(&nil));
                };
                long.push(Long { key, root: Bytes::from(root) });
            }
            Ok(Applied::In { ready, long })
        }
        _ => Err(unexpected(&nil)),
    }
}

/// The error to report of two: to be fenced ends everything, a gap is repaired at last.
fn worse(first: Option<Error>, second: Error) -> Error {
    let weight = |error: &Error| match error {
        Error::StateFenced { .. } => 3,
        Error::StateGap { .. } | Error::FillGap { .. } => 1,
        _ => 2,
    };
    match first {
        Some(first) if weight(&first) >= weight(&second) => first,
        _ => second,
    }
}
