//! Events as bytes: what waits beside a stored timeline until it is written into the tree.
//!
//! An encoding is the number of events, then each event: time and position as distances from
//! those of the event before it in the encoding, a bit per column that says whether it is not
//! NULL, and the values. Encodings that follow each other are one list of events.

use smallvec::SmallVec;

use super::node::Order;
use super::{order_at, read_cells};
use crate::bytes;
use crate::error::Error;
use crate::kind::{Cell, put_cell, take_cell};
use crate::layout::{Events, Layout};

/// Appends the given rows of a run. Encodings may be appended to each other.
///
/// # Errors
///
/// `Ragged`, `OutsideRun` or `ColumnType`; then `out` is as before.
pub fn encode_rows(
    layout: &Layout,
    events: &Events,
    rows: &[u32],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    let encoded = try_encode(layout, events, rows, out);
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

fn try_encode(
    layout: &Layout,
    events: &Events,
    rows: &[u32],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    bytes::put(rows.len() as u64, out);
    let mut last: Order = (0, 0);
    for &row in rows {
        let order = order_at(events, row as usize)?;
        let cells = read_cells(layout, events, row as usize)?;
        bytes::put_signed(order.0.wrapping_sub(last.0), out);
        bytes::put_signed(order.1.wrapping_sub(last.1) as i64, out);
        last = order;
        for eight in cells.chunks(8) {
            let bits = eight.iter().enumerate();
            out.push(bits.fold(0, |bits, (i, cell)| bits | (u8::from(cell.is_some()) << i)));
        }
        cells.iter().flatten().for_each(|cell| put_cell(*cell, out));
    }
    Ok(())
}

/// Calls `f` with the order and the values of every event of any number of encodings.
///
/// Stops with the first error of `f`, or with `DamagedBytes`.
pub(super) fn each<'a>(
    layout: &Layout,
    mut from: &'a [u8],
    mut f: impl FnMut(Order, &[Option<Cell<'a>>]) -> Result<(), Error>,
) -> Result<(), Error> {
    let damaged = |reason| Error::DamagedBytes { what: "a list of events", reason };
    while !from.is_empty() {
        let count = bytes::take(&mut from).ok_or_else(|| damaged("its length does not end"))?;
        let mut last: Order = (0, 0);
        for _ in 0..count {
            let (order, cells) =
                take_row(layout, last, &mut from).ok_or_else(|| damaged("an event is torn"))?;
            f(order, &cells)?;
            last = order;
        }
    }
    Ok(())
}

type Row<'a> = (Order, SmallVec<[Option<Cell<'a>>; 8]>);

fn take_row<'a>(layout: &Layout, last: Order, from: &mut &'a [u8]) -> Option<Row<'a>> {
    let time = last.0.wrapping_add(bytes::take_signed(from)?);
    let position = last.1.wrapping_add(bytes::take_signed(from)? as u64);
    let columns = layout.columns();
    let present = bytes::take_slice(from, columns.len().div_ceil(8))?;
    let is_present = |index: usize| present[index / 8] >> (index % 8) & 1 == 1;
    if (columns.len()..present.len() * 8).any(is_present) {
        return None;
    }
    let cell = |(index, data_type)| match is_present(index) {
        true => take_cell(data_type, from).map(Some),
        false => Some(None),
    };
    let cells = columns.iter().enumerate().map(cell).collect::<Option<_>>()?;
    Some(((time, position), cells))
}
