//! The order of rows whose sort columns are integers, by words.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::{SortColumn, SortOptions, concat, lexsort_to_indices};
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, DataType, Date32Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use arrow::error::ArrowError;

/// Whether values of a type are integers here.
pub fn packs(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt64
            | DataType::Date32
            | DataType::Timestamp(TimeUnit::Microsecond, _)
    )
}

/// Where a row lies: batch and row.
pub type Place = (usize, usize);

/// The rows in their order.
pub enum Order {
    /// Their words.
    Words(Words),
    /// The places of rows whose numbers are too long for a word.
    Places(Vec<Place>),
}

/// Sorted words: of each row the numbers by which it is sorted, and its place in the lowest bits.
pub struct Words {
    words: Vec<u128>,
    packed: Arc<Packed>,
}

/// How the numbers of rows are packed into words.
pub struct Packed {
    /// Each column, and how many bits are below its numbers.
    columns: Vec<(Packing, u32)>,
    row_bits: u32,
    place_bits: u32,
}

impl Order {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Order::Words(words) => words.words.len(),
            Order::Places(places) => places.len(),
        }
    }

    /// The places of some rows.
    pub fn places(&self, rows: Range<usize>) -> Vec<Place> {
        match self {
            Order::Places(places) => places[rows].to_vec(),
            Order::Words(words) => {
                let Packed { row_bits, place_bits, .. } = *words.packed;
                let place = |word: &u128| {
                    let place = *word as u64 & ((1 << place_bits) - 1);
                    ((place >> row_bits) as usize, (place & ((1 << row_bits) - 1)) as usize)
                };
                words.words[rows].iter().map(place).collect()
            }
        }
    }
}

impl Words {
    /// The values of the `index`th column, of `data_type`, in some rows.
    pub fn column(&self, index: usize, rows: Range<usize>, data_type: &DataType) -> ArrayRef {
        let (packing, shift) = &self.packed.columns[index];
        let packed = (&self.words[rows], packing, *shift);
        match data_type {
            DataType::Int16 => Arc::new(array_of::<Int16Type>(packed, |n| unsigned(n) as i16)),
            DataType::Int32 => Arc::new(array_of::<Int32Type>(packed, |n| unsigned(n) as i32)),
            DataType::Date32 => Arc::new(array_of::<Date32Type>(packed, |n| unsigned(n) as i32)),
            DataType::UInt64 => Arc::new(array_of::<UInt64Type>(packed, |n| n)),
            DataType::Timestamp(_, zone) => {
                let times = array_of::<TimestampMicrosecondType>(packed, unsigned);
                Arc::new(times.with_timezone_opt(zone.clone()))
            }
            _ => Arc::new(array_of::<Int64Type>(packed, unsigned)),
        }
    }
}

fn array_of<T: ArrowPrimitiveType>(
    (words, packing, shift): (&[u128], &Packing, u32),
    value: impl Fn(u64) -> T::Native,
) -> PrimitiveArray<T> {
    match packing.offset {
        0 => {
            let numbers = words.iter().map(|word| packing.packed(*word, shift) + packing.least);
            PrimitiveArray::from_iter_values(numbers.map(value))
        }
        offset => {
            let number = |word: &u128| packing.packed(*word, shift).checked_sub(offset);
            let numbers = words.iter().map(|word| Some(number(word)? + packing.least));
            numbers.map(|number| number.map(&value)).collect()
        }
    }
}

impl Packed {
    /// Of each batch the columns are given by which rows are sorted, of types that are packed; every
    /// batch has a row. `None` if the numbers are too long for a word.
    pub fn of(batches: &[Vec<ArrayRef>]) -> Option<Packed> {
        let lens = batches.iter().map(|columns| columns.first().map_or(0, |column| column.len()));
        let row_bits = bits_of(lens.max().unwrap_or(0) as u64);
        let place_bits = row_bits + bits_of(batches.len() as u64);
        let width = batches.first().map_or(0, Vec::len);
        let columns: Vec<Packing> = (0..width)
            .map(|index| Packing::of(batches.iter().map(|columns| columns[index].as_ref())))
            .collect();
        let mut below = columns.iter().map(|column| column.bits).sum::<u32>() + place_bits;
        if below > u128::BITS || place_bits > 63 {
            return None;
        }
        let columns = columns.into_iter().map(|packing| {
            below -= packing.bits;
            (packing, below)
        });
        Some(Packed { columns: columns.collect(), row_bits, place_bits })
    }

    /// The words of the rows that go to a partition, in their order.
    ///
    /// They are laid out by the highest bits of the first column: a bucket fits into the processor's
    /// cache, where it is sorted.
    fn sorted(&self, batches: &[Vec<ArrayRef>], goes: &Goes) -> Vec<u128> {
        let Some((first, first_shift)) = self.columns.first() else { return Vec::new() };
        let len = |columns: &[ArrayRef]| columns.first().map_or(0, |column| column.len());
        let mut rows = Vec::new();
        let total: usize = batches
            .iter()
            .enumerate()
            .map(|(batch, columns)| goes.count(batch, len(columns)))
            .sum();
        let bucket_bits = bits_of((total / BUCKET_ROWS) as u64).min(BUCKET_BITS).min(first.bits);
        let shift = first_shift + first.bits - bucket_bits;
        let bucket = |word: u128| match bucket_bits {
            0 => 0,
            _ => (word >> shift) as usize,
        };
        let mut of_batch = Vec::new();
        let mut ends = vec![0; (1 << bucket_bits) + 1];
        for (batch, columns) in batches.iter().enumerate() {
            goes.rows(batch, len(columns), &mut rows);
            of_batch.clear();
            of_batch.resize(rows.len(), 0);
            columns.first().inspect(|column| {
                first.put(column.as_ref(), &rows, *first_shift, &mut of_batch);
            });
            of_batch.iter().for_each(|word| ends[bucket(*word) + 1] += 1);
        }
        // The rows before a bucket now; its end when all of its words were put.
        for index in 1..ends.len() {
            ends[index] += ends[index - 1];
        }
        let mut words = vec![0_u128; total];
        for (batch, columns) in batches.iter().enumerate() {
            goes.rows(batch, len(columns), &mut rows);
            of_batch.clear();
            let place = (batch as u128) << self.row_bits;
            of_batch.extend(rows.iter().map(|row| place | u128::from(*row)));
            for (column, (packing, shift)) in columns.iter().zip(&self.columns) {
                packing.put(column.as_ref(), &rows, *shift, &mut of_batch);
            }
            for word in &of_batch {
                let end = &mut ends[bucket(*word)];
                words[*end] = *word;
                *end += 1;
            }
        }
        let mut start = 0;
        for end in &ends[..ends.len() - 1] {
            words[start..*end].sort_unstable();
            start = *end;
        }
        words
    }
}

/// The most buckets, as bits: their ends are written to side by side.
const BUCKET_BITS: u32 = 10;
/// About how many rows are in a bucket, if they are not too many.
const BUCKET_ROWS: usize = 4096;

/// The rows of batches that go to a partition.
pub struct Goes<'a> {
    /// For each batch the partitions of its rows; nothing if all go there.
    pub partitions: &'a [Vec<u16>],
    pub partition: u16,
}

impl Goes<'_> {
    fn row(&self, batch: usize, row: usize) -> bool {
        self.partitions[batch].get(row).is_none_or(|partition| *partition == self.partition)
    }

    fn count(&self, batch: usize, rows: usize) -> usize {
        match self.partitions[batch].as_slice() {
            [] => rows,
            partitions => partitions.iter().filter(|other| **other == self.partition).count(),
        }
    }

    fn rows(&self, batch: usize, rows: usize, into: &mut Vec<u32>) {
        into.clear();
        into.extend((0..rows as u32).filter(|row| self.row(batch, *row as usize)));
    }
}

/// The order, ascending and NULLs first, of those rows of batches that go to a partition. What is
/// `packed` is as for [`Packed::of`].
pub fn order(
    packed: Option<&Arc<Packed>>,
    batches: &[Vec<ArrayRef>],
    goes: &Goes,
) -> Result<Order, ArrowError> {
    let Some(packed) = packed else {
        let mut places = by_comparing(batches)?;
        places.retain(|(batch, row)| goes.row(*batch, *row));
        return Ok(Order::Places(places));
    };
    let words = packed.sorted(batches, goes);
    Ok(Order::Words(Words { words, packed: Arc::clone(packed) }))
}

/// The bits of the numbers up to `most`.
fn bits_of(most: u64) -> u32 {
    u64::BITS - most.leading_zeros()
}

/// How a column's values become numbers from 0 on, in their order.
struct Packing {
    /// The least value, which becomes `offset`.
    least: u64,
    /// 1 if there are NULLs, which become 0.
    offset: u64,
    bits: u32,
}

impl Packing {
    fn of<'a>(arrays: impl Iterator<Item = &'a dyn Array>) -> Packing {
        let (mut least, mut most, mut offset) = (u64::MAX, 0, 0);
        for array in arrays {
            offset |= u64::from(array.null_count() > 0);
            each(array, 0..array.len(), |number| {
                if let Some(number) = number {
                    least = least.min(number);
                    most = most.max(number);
                }
            });
        }
        match most.checked_sub(least) {
            None => Packing { least: 0, offset: 1, bits: 0 },
            // All bits are taken, and there is none left for NULL.
            Some(u64::MAX) => Packing { least, offset, bits: u128::BITS },
            Some(range) => Packing { least, offset, bits: bits_of(range + offset) },
        }
    }

    /// What a value became, in a word that has `shift` bits below it.
    #[inline]
    fn packed(&self, word: u128, shift: u32) -> u64 {
        match self.bits {
            0 => 0,
            bits => (word >> shift) as u64 & (u64::MAX >> (u64::BITS - bits)),
        }
    }

    /// Puts what the values of some rows become into their words, above `shift` bits.
    fn put(&self, array: &dyn Array, rows: &[u32], shift: u32, words: &mut [u128]) {
        if self.bits == 0 {
            return;
        }
        let rows = rows.iter().map(|row| *row as usize);
        let mut words = words.iter_mut();
        each(array, rows, |number| {
            let number = number.map_or(0, |number| number - self.least + self.offset);
            if let Some(word) = words.next() {
                *word |= u128::from(number) << shift;
            }
        });
    }
}

const SIGN: u64 = 1 << 63;

/// The number of a value.
fn signed(value: i64) -> u64 {
    value as u64 ^ SIGN
}

/// The value of a number.
fn unsigned(number: u64) -> i64 {
    (number ^ SIGN) as i64
}

/// The values of some rows of an array as numbers in their order; NULLs are `None`.
fn each(array: &dyn Array, rows: impl Iterator<Item = usize>, take: impl FnMut(Option<u64>)) {
    match array.data_type() {
        DataType::Int16 => each_of::<Int16Type>(array, rows, |v| signed(v.into()), take),
        DataType::Int32 => each_of::<Int32Type>(array, rows, |v| signed(v.into()), take),
        DataType::Date32 => each_of::<Date32Type>(array, rows, |v| signed(v.into()), take),
        DataType::Int64 => each_of::<Int64Type>(array, rows, signed, take),
        DataType::UInt64 => each_of::<UInt64Type>(array, rows, |value| value, take),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            each_of::<TimestampMicrosecondType>(array, rows, signed, take);
        }
        _ => {}
    }
}

fn each_of<T: ArrowPrimitiveType>(
    array: &dyn Array,
    rows: impl Iterator<Item = usize>,
    number: impl Fn(T::Native) -> u64,
    mut take: impl FnMut(Option<u64>),
) where
    T::Native: ArrowNativeType,
{
    let Some(array) = array.as_primitive_opt::<T>() else { return };
    let values = array.values();
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => rows.for_each(|row| take(Some(number(values[row])))),
        Some(nulls) => {
            rows.for_each(|row| take(nulls.is_valid(row).then(|| number(values[row]))));
        }
    }
}

/// The same by comparing the columns.
fn by_comparing(batches: &[Vec<ArrayRef>]) -> Result<Vec<Place>, ArrowError> {
    let width = batches.first().map_or(0, Vec::len);
    let columns = (0..width).map(|index| {
        let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch[index].as_ref()).collect();
        let options = Some(SortOptions { descending: false, nulls_first: true });
        Ok(SortColumn { values: concat(&parts)?, options })
    });
    let order = lexsort_to_indices(&columns.collect::<Result<Vec<_>, ArrowError>>()?, None)?;
    let places: Vec<Place> = batches
        .iter()
        .enumerate()
        .flat_map(|(batch, columns)| (0..columns[0].len()).map(move |row| (batch, row)))
        .collect();
    Ok(order.values().iter().map(|&row| places[row as usize]).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, UInt64Array};

    use super::*;

    type Row = (Option<i64>, u64);

    fn sorted(rows: &[Row]) -> Vec<Row> {
        let batches: Vec<Vec<ArrayRef>> = rows
            .chunks(3)
            .map(|rows| {
                let first: Int64Array = rows.iter().map(|row| row.0).collect();
                let second: UInt64Array = rows.iter().map(|row| Some(row.1)).collect();
                vec![Arc::new(first) as ArrayRef, Arc::new(second) as ArrayRef]
            })
            .collect();
        let packed = Packed::of(&batches).map(Arc::new);
        let partitions = vec![Vec::new(); batches.len()];
        let goes = Goes { partitions: &partitions, partition: 0 };
        let order = order(packed.as_ref(), &batches, &goes).unwrap();
        let places = order.places(0..order.len());
        let found: Vec<Row> =
            places.into_iter().map(|(batch, row)| rows[batch * 3 + row]).collect();
        if let Order::Words(words) = &order {
            let first = words.column(0, 1..rows.len(), &DataType::Int64);
            let second = words.column(1, 1..rows.len(), &DataType::UInt64);
            let first = first.as_primitive::<Int64Type>().iter();
            let second = second.as_primitive::<UInt64Type>().iter();
            let unpacked: Vec<Row> = first.zip(second.map(Option::unwrap)).collect();
            assert_eq!(unpacked, found[1..]);
        }
        found
    }

    #[test]
    fn rows_come_in_order() {
        let mut narrow: Vec<Row> = (0..100).map(|i| (Some(i * 37 % 11 - 5), i as u64)).collect();
        narrow.push((None, 4));
        narrow.push((None, 3));
        narrow.push((Some(i64::MAX / 2), 3));
        let mut wide = narrow.clone();
        wide.push((Some(i64::MIN), u64::MAX));
        wide.push((Some(i64::MAX), 0));
        // Several buckets, one of which has most rows.
        let many = |i: u64| (Some((i * i % 100_003) as i64 / (1 + i as i64 % 3)), i * 7 % 50_000);
        let many: Vec<Row> = (0..50_000).map(many).chain((0..9_000).map(|i| (None, i))).collect();
        let few = [vec![(None, 1)], vec![(Some(7), 7), (Some(7), 7)]];
        for mut rows in [narrow, wide, many].into_iter().chain(few) {
            let found = sorted(&rows);
            rows.sort();
            assert_eq!(found, rows);
        }
    }
}
