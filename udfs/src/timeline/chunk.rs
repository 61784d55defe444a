//! A chunk: at most 128 events in order, column by column.

use arrow::datatypes::DataType;
use smallvec::SmallVec;

use crate::bytes;
use crate::kind::{Cell, Cells, split_values};

/// The most events in a chunk: the bits of the masks that select its rows.
pub(super) const CAPACITY: usize = u128::BITS as usize;

/// Events in order of (time, position).
#[derive(Debug)]
pub struct Chunk {
    times: SmallVec<[i64; 2]>,
    positions: SmallVec<[u64; 2]>,
    columns: Box<[Cells]>,
}

impl Chunk {
    pub(super) fn new(columns: &[DataType]) -> Self {
        let columns = columns.iter().map(Cells::new).collect();
        Chunk { times: SmallVec::new(), positions: SmallVec::new(), columns }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn first_time(&self) -> i64 {
        self.times.first().copied().unwrap_or(i64::MAX)
    }

    pub(super) fn last_time(&self) -> i64 {
        self.times.last().copied().unwrap_or(i64::MIN)
    }

    pub(super) fn last_order(&self) -> (i64, u64) {
        (self.last_time(), self.positions.last().copied().unwrap_or(0))
    }

    pub(super) fn column(&self, index: usize) -> Option<&Cells> {
        self.columns.get(index)
    }

    /// The first row whose time is not `before`.
    pub(super) fn partition(&self, before: impl Fn(i64) -> bool) -> usize {
        self.times.partition_point(|&time| before(time))
    }

    /// Inserts an event, after those of the same order; returns its row. There is room.
    pub(super) fn insert(&mut self, order: (i64, u64), cells: &[Option<Cell<'_>>]) -> usize {
        let row = if self.len() == 0 || self.last_order() <= order {
            self.len()
        } else {
            let first = self.times.partition_point(|&time| time < order.0);
            let ties = self.times[first..].partition_point(|&time| time == order.0);
            let ties = &self.positions[first..first + ties];
            first + ties.partition_point(|&position| position <= order.1)
        };
        self.times.insert(row, order.0);
        self.positions.insert(row, order.1);
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.insert(row, *cell);
        }
        row
    }

    /// Moves the upper half into a new chunk.
    pub(super) fn split(&mut self) -> Chunk {
        self.split_off(self.len() / 2)
    }

    /// Drops the first rows, and gives their memory back.
    pub(super) fn drop_first(&mut self, rows: usize) {
        *self = self.split_off(rows);
    }

    /// Moves the rows from `row` on, which is one of the chunk, into a new chunk.
    fn split_off(&mut self, row: usize) -> Chunk {
        Chunk {
            times: split_values(&mut self.times, row),
            positions: split_values(&mut self.positions, row),
            columns: self.columns.iter_mut().map(|column| column.split_off(row)).collect(),
        }
    }

    /// Reads of each column what says where its values are; few are beside that.
    pub(super) fn touch(&self) {
        let touched = self.columns.iter().fold(0, |bits, column| bits ^ column.valid as u64);
        std::hint::black_box(touched);
    }

    /// Appends the events, which are ordered: times as distances, then positions, then columns.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        bytes::put(self.len() as u64, out);
        let mut last = 0;
        for (row, &time) in self.times.iter().enumerate() {
            match row {
                0 => bytes::put_signed(time, out),
                // The distance fits 64 bits without a sign.
                _ => bytes::put(time.wrapping_sub(last) as u64, out),
            }
            last = time;
        }
        let mut last = 0;
        for &position in &self.positions {
            bytes::put_signed(position.wrapping_sub(last) as i64, out);
            last = position;
        }
        self.columns.iter().for_each(|column| column.encode(self.len(), out));
    }

    /// Takes what `encode` wrote off the front; `None` if it is damaged.
    pub(super) fn decode(columns: &[DataType], from: &mut &[u8]) -> Option<Chunk> {
        let rows = bytes::take_count(from, CAPACITY)?;
        let mut times: SmallVec<[i64; 2]> = SmallVec::with_capacity(rows);
        for _ in 0..rows {
            times.push(match times.last() {
                None => bytes::take_signed(from)?,
                Some(last) => last.checked_add_unsigned(bytes::take(from)?)?,
            });
        }
        let mut positions: SmallVec<[u64; 2]> = SmallVec::with_capacity(rows);
        for row in 0..rows {
            let last = positions.last().copied().unwrap_or(0);
            let position = last.wrapping_add(bytes::take_signed(from)? as u64);
            if row > 0 && times[row - 1] == times[row] && position < last {
                return None;
            }
            positions.push(position);
        }
        let columns = columns.iter().map(|column| Cells::decode(column, rows, from));
        Some(Chunk { times, positions, columns: columns.collect::<Option<_>>()? })
    }

    /// The time of a row.
    pub(super) fn time(&self, row: usize) -> Option<i64> {
        self.times.get(row).copied()
    }
}
