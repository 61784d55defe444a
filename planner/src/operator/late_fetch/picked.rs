//! Positions that were picked, and the rows that are at them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::common::internal_err;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::error::{DataFusionError, Result};
use futures::TryFutureExt;

use crate::error::Error;
use crate::task::{all_beside, blocking};

/// Bytes of rows that are put together in one batch: below what the offsets of texts can count.
const PART_BYTES: usize = 128 << 20;

/// A set of positions, which are numbers of rows: a bit for each.
pub struct Picked {
    words: Vec<u64>,
    /// For each word how many positions are in those before it.
    before: Vec<u64>,
    count: usize,
}

/// How many words have the bits of the positions up to `most`.
fn word_count(most: Option<i64>) -> usize {
    most.map_or(0, |most| most as usize / 64 + 1)
}

impl Picked {
    /// The bytes of a set of positions up to `most`.
    pub fn bytes(most: Option<i64>) -> usize {
        word_count(most) * 2 * size_of::<u64>()
    }

    /// The positions in arrays of [`Int64Type`], which are up to `most`.
    pub fn of(most: Option<i64>, numbers: impl Iterator<Item = ArrayRef>) -> Self {
        let mut words = vec![0_u64; word_count(most)];
        for array in numbers {
            for position in array.as_primitive::<Int64Type>().iter().flatten() {
                words[position as usize / 64] |= 1 << (position % 64);
            }
        }
        let mut count = 0;
        let before = words.iter().map(|word| {
            let before = count;
            count += u64::from(word.count_ones());
            before
        });
        let before = before.collect();
        Picked { words, before, count: count as usize }
    }

    fn contains(&self, position: u64) -> bool {
        let word = self.words.get((position / 64) as usize);
        word.is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// How many positions are less than one that is in the set.
    fn rank(&self, position: u64) -> usize {
        let (word, bit) = ((position / 64) as usize, position % 64);
        let below = self.words[word] & ((1 << bit) - 1);
        (self.before[word] + u64::from(below.count_ones())) as usize
    }

    /// The rows of a batch whose positions, in its first column, are in the set.
    pub fn keep(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let Some(positions) = batch.column(0).as_primitive_opt::<UInt64Type>() else {
            return internal_err!("the first column are positions");
        };
        let positions = positions.values();
        let kept =
            BooleanBuffer::collect_bool(positions.len(), |row| self.contains(positions[row]));
        Ok(filter_record_batch(batch, &BooleanArray::new(kept, None))?)
    }
}

/// The rows at the positions of a set.
pub struct PickedRows {
    picked: Arc<Picked>,
    /// The rows, without their positions.
    parts: Vec<RecordBatch>,
    /// For each position of the set, in their order, its part and the row in that.
    places: Vec<Place>,
}

/// A part and a row in it.
type Place = (u32, u32);
const NOWHERE: Place = (u32::MAX, u32::MAX);

impl PickedRows {
    /// The bytes of the places of a set's positions.
    pub fn place_bytes(picked: &Picked) -> usize {
        picked.count * size_of::<Place>()
    }

    /// The rows of batches of `bytes` that [`Picked::keep`] gave, in any order.
    ///
    /// # Errors
    /// They are not the rows of all positions of the set, each once.
    pub async fn of(picked: Arc<Picked>, kept: Vec<RecordBatch>, bytes: usize) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let groups = groups(kept, (bytes / cores).min(PART_BYTES));
        let mut parts = all_beside(groups.into_iter().map(|group| {
            blocking(move || {
                let part = concat_batches(&group[0].schema(), &group);
                part.map_err(|error| Error::from_datafusion(error.into()))
            })
            .err_into::<DataFusionError>()
        }))
        .await?;
        let positions: Vec<_> = parts.iter_mut().map(|part| part.remove_column(0)).collect();
        let placed = blocking(move || {
            let mut places = vec![NOWHERE; picked.count];
            for (part, positions) in positions.iter().enumerate() {
                let positions = positions.as_primitive::<UInt64Type>().values();
                for (row, position) in positions.iter().enumerate() {
                    let place = &mut places[picked.rank(*position)];
                    if *place != NOWHERE {
                        return Err(Error::Internal(format!("two rows at position {position}")));
                    }
                    *place = (part as u32, row as u32);
                }
            }
            match places.contains(&NOWHERE) {
                true => Err(Error::Internal("a row that was picked is not there".into())),
                false => Ok((picked, places)),
            }
        });
        let (picked, places) = placed.await?;
        Ok(PickedRows { picked, parts, places })
    }

    /// The rows.
    pub fn parts(&self) -> &[RecordBatch] {
        &self.parts
    }

    /// For each position its part and the row in that; for NULL the first row behind all parts.
    pub fn places(&self, positions: &Int64Array) -> Vec<(usize, usize)> {
        let place = |position: Option<i64>| match position {
            None => (self.parts.len(), 0),
            Some(position) => {
                let (part, row) = self.places[self.picked.rank(position as u64)];
                (part as usize, row as usize)
            }
        };
        positions.iter().map(place).collect()
    }
}

/// Batches in groups of about so many bytes.
fn groups(batches: Vec<RecordBatch>, bytes: usize) -> Vec<Vec<RecordBatch>> {
    let mut groups: Vec<Vec<RecordBatch>> = Vec::new();
    let mut room = 0;
    for batch in batches {
        let size = get_record_batch_memory_size(&batch);
        match groups.last_mut().filter(|_| room >= size) {
            Some(group) => group.push(batch),
            None => {
                groups.push(vec![batch]);
                room = bytes;
            }
        }
        room = room.saturating_sub(size);
    }
    groups
}
