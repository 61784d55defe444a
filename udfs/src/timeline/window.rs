//! Windows as pieces of the tree: chunks in part, and children of nodes as a whole.
//!
//! 1. Both ends of a window become ranks, the number of events before them: on the way to the
//!    leaf that a time lies in, the events of the children to the left are counted.
//! 2. From the root down, children that lie within the ranks as a whole are runs; at most two
//!    children of a node lie in part, and end as masks of chunks.
//!
//! An end between two children needs neither. So of a tree with stubs the leaves of the ends are
//! enough: see `places`.

use smallvec::SmallVec;

use super::AsOf;
use super::chunk::Chunk;
use super::node::{Inner, Node, below};
use crate::error::Error;
use crate::frame::{Bound, Frame};
use crate::layout::Layout;

/// A part of a window; the parts are in order.
#[derive(Clone)]
pub(super) enum Piece<'a> {
    /// Rows of a chunk.
    Rows { chunk: &'a Chunk, mask: u128 },
    /// Children of a node, all of each. None of their events is before the time `after`.
    Run { inner: &'a Inner, from: usize, to: usize, after: i64 },
}

/// The windows of one read: calls with one frame share them.
pub(super) struct Windows<'a> {
    pieces: Pieces<'a>,
    /// For every frame, if it was asked for, where its pieces are.
    spans: SmallVec<[Option<(usize, usize)>; 8]>,
}

impl<'a> Windows<'a> {
    pub(super) fn new(layout: &Layout) -> Self {
        let spans = SmallVec::from_elem(None, layout.frames().len());
        Windows { pieces: SmallVec::new(), spans }
    }

    /// The pieces of a frame's window; `cut` appends them.
    pub(super) fn of(
        &mut self,
        frame: usize,
        cut: impl FnOnce(&mut Pieces<'a>) -> Result<(), Error>,
    ) -> Result<&[Piece<'a>], Error> {
        let (from, to) = match self.spans[frame] {
            Some(span) => span,
            None => {
                let from = self.pieces.len();
                cut(&mut self.pieces)?;
                *self.spans[frame].insert((from, self.pieces.len()))
            }
        };
        Ok(&self.pieces[from..to])
    }
}

/// The pieces of a window, from the first to the last.
pub(super) type Pieces<'a> = SmallVec<[Piece<'a>; 12]>;

/// The ranks of the first event of a window and of the one after its last, of a tree that has
/// forgotten what is before `kept_from`.
pub(super) fn ranks(
    root: Option<&Node>,
    frame: &Frame,
    as_of: AsOf,
    kept_from: i64,
) -> Result<(u64, u64), Error> {
    let AsOf { instant, kept_from: floor } = as_of;
    let forgotten = Err(Error::Forgotten { kept_from });
    match frame {
        Frame::Range { start, end } => {
            let last = end.before(instant);
            let first = match start {
                Bound::Unbounded => i64::MIN,
                Bound::Preceding(start) => start.before(instant),
            };
            let first = first.max(floor);
            if first < kept_from {
                return forgotten;
            }
            let to = rank(root, |time| time <= last)?;
            let from = match (start, first) {
                (Bound::Unbounded, i64::MIN) => 0,
                _ => rank(root, |time| time < first)?,
            };
            Ok((from.min(to), to))
        }
        Frame::Rows { start, end } => {
            let after = rank(root, |time| time <= instant)?;
            let wanted = start.map_or(u64::MAX, |start| start.saturating_add(1));
            let from = after.saturating_sub(wanted);
            if kept_from > floor && (after < wanted || time_at(root, from)? < kept_from) {
                return forgotten;
            }
            let from = match floor {
                i64::MIN => from,
                _ => from.max(rank(root, |time| time < floor)?),
            };
            let to = after.saturating_sub(*end);
            Ok((from.min(to), to))
        }
    }
}

/// The number of events before the first whose time is not `before`.
pub(super) fn rank(root: Option<&Node>, before: impl Fn(i64) -> bool) -> Result<u64, Error> {
    let Some(mut node) = root else { return Ok(0) };
    let (mut rank, mut after, mut last) = (0, i64::MIN, i64::MAX);
    loop {
        match node {
            Node::Leaf(chunk) => return Ok(rank + chunk.partition(&before) as u64),
            Node::Stub => return Err(Error::NotLoaded { from: after, to: last }),
            Node::Inner(inner) => {
                let child = inner.lasts.partition_point(|last| before(last.0));
                rank += inner.rows[..child].iter().sum::<u64>();
                let Some(next) = inner.nodes.get(child) else { return Ok(rank) };
                (after, last) = (inner.floor(child, after), inner.lasts[child].0);
                node = next;
            }
        }
    }
}

/// The time of the event with `rank` events before it.
fn time_at(root: Option<&Node>, mut rank: u64) -> Result<i64, Error> {
    let Some(mut node) = root else { return Ok(i64::MAX) };
    let (mut after, mut last) = (i64::MIN, i64::MAX);
    loop {
        match node {
            Node::Leaf(chunk) => return Ok(chunk.time(rank as usize).unwrap_or(i64::MAX)),
            Node::Stub => return Err(Error::NotLoaded { from: after, to: last }),
            Node::Inner(inner) => {
                let mut child = 0;
                while child + 1 < inner.rows.len() && rank >= inner.rows[child] {
                    rank -= inner.rows[child];
                    child += 1;
                }
                (after, last) = (inner.floor(child, after), inner.lasts[child].0);
                node = &inner.nodes[child];
            }
        }
    }
}

/// Appends the pieces with the ranks `from..to` of a node whose events are not before `after`.
pub(super) fn cut<'a>(
    node: &'a Node,
    (from, to): (u64, u64),
    after: i64,
    pieces: &mut Pieces<'a>,
) -> Result<(), Error> {
    if from >= to {
        return Ok(());
    }
    let inner = match node {
        Node::Inner(inner) => inner,
        Node::Leaf(chunk) => {
            let mask = below(to as usize) & !below(from as usize);
            pieces.push(Piece::Rows { chunk, mask });
            return Ok(());
        }
        Node::Stub => return Err(Error::Internal("a stub was cut")),
    };
    let (mut start, mut whole) = (0, 0..0);
    for (child, rows) in inner.rows.iter().enumerate() {
        let end = start + rows;
        if from <= start && end <= to {
            whole = if whole.is_empty() { child..child + 1 } else { whole.start..child + 1 };
        } else if from < end && start < to {
            push_run(inner, &whole, after, pieces);
            whole = 0..0;
            if let Node::Stub = inner.nodes[child] {
                let (from, to) = (inner.floor(child, after), inner.lasts[child].0);
                return Err(Error::NotLoaded { from, to });
            }
            let part = (from.saturating_sub(start), to.min(end) - start);
            cut(&inner.nodes[child], part, inner.floor(child, after), pieces)?;
        } else if start >= to {
            break;
        }
        start = end;
    }
    push_run(inner, &whole, after, pieces);
    Ok(())
}

fn push_run<'a>(
    inner: &'a Inner,
    whole: &std::ops::Range<usize>,
    after: i64,
    pieces: &mut Pieces<'a>,
) {
    if !whole.is_empty() {
        let after = inner.floor(whole.start, after);
        pieces.push(Piece::Run { inner, from: whole.start, to: whole.end, after });
    }
}
