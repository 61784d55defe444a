//! The states of a measure: one per chunk, and a hierarchy over them with a fan-out of 16.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

use super::view::Source;
use crate::monoid::Monoid;

const FAN_OUT: usize = 16;

/// The states of one measure of a timeline, kept in step with its chunks.
pub trait Summaries: Any + Debug + Send + Sync {
    /// An event was inserted into a chunk as `row`.
    fn insert(&mut self, source: &Source<'_>, chunk: usize, row: usize);
    /// A chunk was added after `chunk`, whose events it may have taken over in part.
    fn chunk_added(&mut self, source: &Source<'_>, chunk: usize);
}

/// The states of a monoid. `levels[0]` has one per chunk, `levels[k + 1]` one per 16 of
/// `levels[k]`; the top has at most 16. With no level, nothing is summarised yet.
#[derive(Debug)]
pub(crate) struct Tree<M: Monoid> {
    monoid: M,
    levels: Vec<Vec<M::State>>,
}

impl<M: Monoid> Tree<M> {
    pub(crate) fn new(monoid: M) -> Self {
        Tree { monoid, levels: Vec::new() }
    }

    fn chunk_state(&self, source: &Source<'_>, chunk: usize) -> M::State {
        let mut state = self.monoid.identity();
        let (column, mask) = source.rows(chunk, u128::MAX);
        self.monoid.scan(&mut state, column, mask);
        state
    }

    /// Recomputes the states above those of `levels[0][from..]`.
    fn raise(&mut self, from: usize) {
        let (mut level, mut from) = (0, from);
        while self.levels[level].len() > FAN_OUT {
            if level + 1 == self.levels.len() {
                self.levels.push(Vec::new());
            }
            from = (from / FAN_OUT).min(self.levels[level + 1].len());
            let groups = self.levels[level].chunks(FAN_OUT).skip(from);
            let merged: Vec<M::State> = groups
                .map(|group| {
                    let mut state = self.monoid.identity();
                    group.iter().for_each(|part| self.monoid.merge(&mut state, part));
                    state
                })
                .collect();
            self.levels[level + 1].truncate(from);
            self.levels[level + 1].extend(merged);
            level += 1;
        }
    }

    /// Adds the states of the chunks of `range` to `state`.
    pub(crate) fn fold(&self, range: Range<usize>, state: &mut M::State) {
        let Range { mut start, mut end } = range;
        for (level, states) in self.levels.iter().enumerate() {
            let top = level + 1 == self.levels.len();
            while start < end && (top || start % FAN_OUT != 0) {
                self.monoid.merge(state, &states[start]);
                start += 1;
            }
            while start < end && end % FAN_OUT != 0 {
                end -= 1;
                self.monoid.merge(state, &states[end]);
            }
            if start >= end {
                return;
            }
            (start, end) = (start / FAN_OUT, end / FAN_OUT);
        }
    }
}

impl<M: Monoid> Summaries for Tree<M> {
    fn insert(&mut self, source: &Source<'_>, chunk: usize, row: usize) {
        let (column, mask) = source.rows(chunk, 1 << row);
        let mut at = chunk;
        for states in &mut self.levels {
            if let Some(state) = states.get_mut(at) {
                self.monoid.scan(state, column, mask);
            }
            at /= FAN_OUT;
        }
    }

    fn chunk_added(&mut self, source: &Source<'_>, chunk: usize) {
        if self.levels.is_empty() {
            let states = (0..source.chunks()).map(|chunk| self.chunk_state(source, chunk));
            self.levels = vec![states.collect()];
            self.raise(0);
            return;
        }
        let upper = self.chunk_state(source, chunk + 1);
        // A chunk that was full to the last event has not changed.
        if chunk + 2 < source.chunks() || source.rows(chunk + 1, u128::MAX).1 != 0 {
            self.levels[0][chunk] = self.chunk_state(source, chunk);
        }
        self.levels[0].insert(chunk + 1, upper);
        self.raise(chunk);
    }
}
