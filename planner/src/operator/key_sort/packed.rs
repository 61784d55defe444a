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
        let numbers = self.words[rows].iter().map(|word| packing.number(*word, *shift));
        match data_type {
            DataType::Int16 => array_of::<Int16Type>(numbers, |n| unsigned(n) as i16),
            DataType::Int32 => array_of::<Int32Type>(numbers, |n| unsigned(n) as i32),
            DataType::Date32 => array_of::<Date32Type>(numbers, |n| unsigned(n) as i32),
            DataType::UInt64 => array_of::<UInt64Type>(numbers, |n| n),
            DataType::Timestamp(_, zone) => {
                let times: PrimitiveArray<TimestampMicrosecondType> =
                    numbers.map(|number| number.map(unsigned)).collect();
                Arc::new(times.with_timezone_opt(zone.clone()))
            }
            _ => array_of::<Int64Type>(numbers, unsigned),
        }
    }
}

fn array_of<T: ArrowPrimitiveType>(
    numbers: impl Iterator<Item = Option<u64>>,
    value: impl Fn(u64) -> T::Native,
) -> ArrayRef {
    Arc::new(numbers.map(|number| number.map(&value)).collect::<PrimitiveArray<T>>())
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

    /// The words of those rows, about `capacity`, that `goes` takes, by batch and row.
    fn words(
        &self,
        batches: &[Vec<ArrayRef>],
        capacity: usize,
        goes: impl Fn(usize, usize) -> bool,
    ) -> Vec<u128> {
        let (mut words, mut of_batch) = (Vec::with_capacity(capacity), Vec::new());
        for (batch, columns) in batches.iter().enumerate() {
            of_batch.clear();
            of_batch.resize(columns.first().map_or(0, |column| column.len()), 0);
            for (column, (packing, _)) in columns.iter().zip(&self.columns) {
                packing.push(column.as_ref(), &mut of_batch);
            }
            let place = |row| (batch as u128) << self.row_bits | row as u128;
            let placed = of_batch.iter().enumerate().filter(|(row, _)| goes(batch, *row));
            words.extend(placed.map(|(row, word)| *word << self.place_bits | place(row)));
        }
        words
    }
}

/// The order, ascending and NULLs first, of those rows of batches, about `capacity`, that `goes`
/// takes, by batch and row. What is `packed` is as for [`Packed::of`].
pub fn order(
    packed: Option<&Arc<Packed>>,
    (batches, capacity): (&[Vec<ArrayRef>], usize),
    goes: impl Fn(usize, usize) -> bool,
) -> Result<Order, ArrowError> {
    let Some(packed) = packed else {
        let mut places = by_comparing(batches)?;
        places.retain(|(batch, row)| goes(*batch, *row));
        return Ok(Order::Places(places));
    };
    let mut words = packed.words(batches, capacity, goes);
    words.sort_unstable();
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
            each(array, |_, number| {
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

    /// The value, as a number, in a word that has `shift` bits below it; `None` if it is NULL.
    #[inline]
    fn number(&self, word: u128, shift: u32) -> Option<u64> {
        let packed = match self.bits {
            0 => 0,
            bits => (word >> shift) as u64 & (u64::MAX >> (u64::BITS - bits)),
        };
        Some(packed.checked_sub(self.offset)? + self.least)
    }

    /// Appends the numbers of the values to the words' lower ends.
    fn push(&self, array: &dyn Array, words: &mut [u128]) {
        each(array, |row, number| {
            let number = number.map_or(0, |number| number - self.least + self.offset);
            words[row] = words[row] << self.bits | u128::from(number);
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

/// The values of an array as numbers in their order; NULLs are `None`.
fn each(array: &dyn Array, take: impl FnMut(usize, Option<u64>)) {
    match array.data_type() {
        DataType::Int16 => each_of::<Int16Type>(array, |v| signed(v.into()), take),
        DataType::Int32 => each_of::<Int32Type>(array, |v| signed(v.into()), take),
        DataType::Date32 => each_of::<Date32Type>(array, |v| signed(v.into()), take),
        DataType::Int64 => each_of::<Int64Type>(array, signed, take),
        DataType::UInt64 => each_of::<UInt64Type>(array, |value| value, take),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            each_of::<TimestampMicrosecondType>(array, signed, take);
        }
        _ => {}
    }
}

fn each_of<T: ArrowPrimitiveType>(
    array: &dyn Array,
    number: impl Fn(T::Native) -> u64,
    mut take: impl FnMut(usize, Option<u64>),
) where
    T::Native: ArrowNativeType,
{
    let Some(array) = array.as_primitive_opt::<T>() else { return };
    let values = array.values().iter().enumerate();
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => values.for_each(|(row, value)| take(row, Some(number(*value)))),
        Some(nulls) => values.for_each(|(row, value)| {
            take(row, nulls.is_valid(row).then(|| number(*value)));
        }),
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
        let order = order(packed.as_ref(), (&batches, rows.len()), |_, _| true).unwrap();
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
        for mut rows in [narrow, wide, vec![(None, 1)], vec![(Some(7), 7), (Some(7), 7)]] {
            let found = sorted(&rows);
            rows.sort();
            assert_eq!(found, rows);
        }
    }
}
