//! A queue of values that knows the state of all it holds, for monoids whose values cannot be
//! taken back: two stacks, the older half with the state from each row to its end, the newer half
//! with one state. Each row is inserted twice at most, whatever the windows' length.

use super::Window;
use crate::monoid::Monoid;

/// The rows of the last window.
pub(super) struct Queue<M: Monoid> {
    /// The window that is held.
    window: Window,
    /// Where the newer half begins.
    split: u32,
    /// The state of the rows from `split - 1 - i` to `split`, for each `i`.
    older: Vec<M::State>,
    newer: M::State,
}

impl<M: Monoid> Queue<M> {
    pub(super) fn new(monoid: &M) -> Self {
        Queue { window: Window::EMPTY, split: 0, older: Vec::new(), newer: monoid.identity() }
    }

    /// The state of a window. `insert` adds a row to a state, if it is visible.
    pub(super) fn state_of(
        &mut self,
        monoid: &M,
        window: Window,
        insert: impl Fn(&mut M::State, usize),
    ) -> M::State {
        let held = self.window;
        if window.lo < held.lo || window.hi < held.hi || window.lo >= held.hi {
            *self = Queue { window: Window { hi: window.lo, ..window }, ..Queue::new(monoid) };
            self.split = window.lo;
        }
        for row in self.window.hi..window.hi {
            insert(&mut self.newer, row as usize);
        }
        if window.lo > self.split {
            self.turn_over(monoid, window, insert);
        }
        self.older.truncate(self.split.saturating_sub(window.lo) as usize);
        self.window = window;
        let mut state = self.newer.clone();
        if let Some(older) = self.older.last() {
            monoid.merge(&mut state, older);
        }
        state
    }

    /// Makes all rows of the window the older half.
    fn turn_over(&mut self, monoid: &M, window: Window, insert: impl Fn(&mut M::State, usize)) {
        self.older.clear();
        let mut state = monoid.identity();
        for row in window.rows().rev() {
            insert(&mut state, row);
            self.older.push(state.clone());
        }
        self.split = window.hi;
        self.newer = monoid.identity();
    }
}
