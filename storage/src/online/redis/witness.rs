//! Changing and believing witnesses.

use redis::Value;

use super::Redis;
use super::layout::{Generation, Witness, biased};
use super::script::{Call, Code};
use super::space::Space;
use super::writer::{array, text, unexpected};
use crate::error::Error;
use crate::online::cell::Cell;

/// A change of one or many shards' witnesses.
pub(super) enum Change {
    /// The writer's epoch becomes the shard's.
    Stamp,
    /// Nothing is left but a witness that is filling, at a position.
    Reset { position: u64, fill: u64 },
    /// A shard that has the fill batches before this one becomes ready.
    Ready(u64),
    /// A shard that is ready may forget events before a time.
    Forget(i64),
    /// Nothing is left.
    Drop,
}

/// What the script answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    Lost,
    /// The witness now.
    Done(Witness),
    /// The shard is gone.
    Gone,
    /// The shard has the fill batches before this one.
    FillAt(u64),
}

impl<C: Cell> Redis<C> {
    /// Makes the same change to shards.
    ///
    /// # Errors
    /// [`Error::StateFenced`] and failed calls. Other shards may have been changed.
    pub(super) async fn change_witnesses(
        &self,
        space: u32,
        shards: &[u32],
        change: &Change,
    ) -> Result<Vec<Changed>, Error> {
        let calls: Vec<Call> = shards
            .iter()
            .map(|&shard| self.witness_call(space, shard, change))
            .collect::<Result<_, _>>()?;
        let answers = self.writes.run(&calls).await?;
        let answers = answers.into_iter().map(|answer| answer.map_err(|f| f.into_error()));
        answers.map(|answer| self.witness_answer(&answer?)).collect()
    }

    /// Makes one change to one shard, as [`change_witnesses`](Self::change_witnesses).
    pub(super) fn witness_call(
        &self,
        space: u32,
        shard: u32,
        change: &Change,
    ) -> Result<Call, Error> {
        let writing = self.writing()?;
        let what: &[u8] = match change {
            Change::Stamp => b"stamp",
            Change::Reset { .. } => b"reset",
            Change::Ready(_) => b"ready",
            Change::Forget(_) => b"forget",
            Change::Drop => b"drop",
        };
        let mut args =
            vec![what.to_vec(), writing.generation.to_vec(), writing.epoch.to_be_bytes().to_vec()];
        match *change {
            Change::Reset { position, fill } => {
                let (generation, epoch) = (writing.generation, writing.epoch);
                let (ready, kept_from) = (false, i64::MIN);
                let witness = Witness { generation, epoch, ready, position, fill, kept_from };
                args.push(witness.encode());
            }
            Change::Ready(fill) => args.push(fill.to_be_bytes().to_vec()),
            Change::Forget(time) => args.push(biased(time).to_vec()),
            Change::Stamp | Change::Drop => {}
        }
        Ok(Call::script(Code::Witness, self.shard_keys(space, shard), args))
    }

    pub(super) fn witness_answer(&self, value: &Value) -> Result<Changed, Error> {
        let fields = array(value)?;
        match (text(fields.first().unwrap_or(&Value::Nil))?.as_str(), &fields[1..]) {
            ("LOST", _) => Ok(Changed::Lost),
            ("OK", [Value::BulkString(bytes)]) if bytes.is_empty() => Ok(Changed::Gone),
            ("OK", [Value::BulkString(bytes)]) => {
                Witness::decode(bytes).map(Changed::Done).ok_or_else(|| unexpected(value))
            }
            ("GAP", [_, fill]) => Ok(Changed::FillAt(number(fill)?)),
            ("FENCED", [epoch]) => Err(self.fenced(number(epoch)?)),
            _ => Err(unexpected(value)),
        }
    }

    pub(super) fn fenced(&self, present: u64) -> Error {
        let prefix = self.names.prefix().to_owned();
        Error::StateFenced { prefix, epoch: self.epoch().unwrap_or(0), present }
    }

    /// Believes a witness that came with cells, or says why they cannot be read. `seen` is what
    /// [`Space::seen`] said before the call was made.
    ///
    /// Returns the time before which events may be forgotten.
    pub(super) async fn believe(
        &self,
        space: &Space<C>,
        shard: u32,
        witness: &Value,
        seen: u64,
    ) -> Result<i64, Error> {
        let lost = || Error::StateLost { space: space.id, shards: vec![shard] };
        let Value::BulkString(bytes) = witness else { return Err(lost()) };
        let witness = Witness::decode(bytes).ok_or_else(lost)?;
        if !self.is_ours(witness.generation).await? {
            return Err(lost());
        }
        if !witness.ready {
            return Err(Error::StateNotReady { space: space.id, shard });
        }
        let position = witness.position;
        if position < seen {
            return Err(Error::StateBehind { space: space.id, shard, position, seen });
        }
        space.raise_seen(shard, position);
        Ok(witness.kept_from)
    }

    /// Whether a generation is the database's. A reader follows the record when it changes.
    pub(super) async fn is_ours(&self, generation: Generation) -> Result<bool, Error> {
        if *self.generation.lock() == Some(generation) {
            return Ok(true);
        }
        if self.writing.is_some() {
            return Ok(false);
        }
        let recorded = self.recorded_generation().await?;
        *self.generation.lock() = recorded;
        Ok(recorded == Some(generation))
    }
}

/// Eight bytes as a number.
pub(super) fn number(value: &Value) -> Result<u64, Error> {
    match value {
        Value::BulkString(bytes) => {
            bytes.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| unexpected(value))
        }
        _ => Err(unexpected(value)),
    }
}
