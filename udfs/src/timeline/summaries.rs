//! The states of one measure for the children of one node, typed and in one vector.

use std::any::Any;
use std::fmt::Debug;

use crate::kind::{Cell, Cells};
use crate::monoid::Monoid;

/// What a child holds, as one measure sees it.
#[derive(Clone, Copy)]
pub enum Below<'a> {
    /// A chunk: the argument's column and the rows that the filter lets through.
    Rows(Option<&'a Cells>, u128),
    /// A node: the states of its children.
    States(&'a dyn Summaries),
}

/// The states of one measure for the children of one node, in their order.
pub trait Summaries: Any + Debug + Send + Sync {
    /// A child was inserted before `child`.
    fn insert(&mut self, child: usize, below: Below<'_>);
    /// A child has changed altogether.
    fn replace(&mut self, child: usize, below: Below<'_>);
    /// An event that the filter lets through was added below a child.
    fn accept(&mut self, child: usize, argument: Option<Cell<'_>>);
    /// Cuts the states from `child` on off.
    fn split_off(&mut self, child: usize) -> Box<dyn Summaries>;
    /// Drops the states of the first children.
    fn drop_first(&mut self, children: usize);
    /// Appends the states' bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes a state off the front of what `encode` wrote; `None` if it is damaged.
    fn decode(&mut self, from: &mut &[u8]) -> Option<()>;
}

/// The states of a monoid.
#[derive(Debug)]
pub(crate) struct States<M: Monoid> {
    monoid: M,
    states: Vec<M::State>,
}

impl<M: Monoid> States<M> {
    pub(crate) fn new(monoid: M) -> Self {
        States { monoid, states: Vec::new() }
    }

    pub(crate) fn states(&self) -> &[M::State] {
        &self.states
    }

    fn state_of(&self, below: Below<'_>) -> M::State {
        let mut state = self.monoid.identity();
        match below {
            Below::Rows(column, mask) => self.monoid.scan(&mut state, column, mask),
            Below::States(states) => {
                let states = (states as &dyn Any).downcast_ref::<States<M>>();
                let parts = states.into_iter().flat_map(|states| &states.states);
                parts.for_each(|part| self.monoid.merge(&mut state, part));
            }
        }
        state
    }
}

impl<M: Monoid> Summaries for States<M> {
    fn insert(&mut self, child: usize, below: Below<'_>) {
        let state = self.state_of(below);
        self.states.insert(child, state);
    }

    fn replace(&mut self, child: usize, below: Below<'_>) {
        let state = self.state_of(below);
        if let Some(old) = self.states.get_mut(child) {
            *old = state;
        }
    }

    fn accept(&mut self, child: usize, argument: Option<Cell<'_>>) {
        if let Some(state) = self.states.get_mut(child) {
            self.monoid.accept(state, argument);
        }
    }

    fn split_off(&mut self, child: usize) -> Box<dyn Summaries> {
        Box::new(States { monoid: self.monoid.clone(), states: self.states.split_off(child) })
    }

    fn drop_first(&mut self, children: usize) {
        self.states.drain(..children);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.states.iter().for_each(|state| self.monoid.encode(state, out));
    }

    fn decode(&mut self, from: &mut &[u8]) -> Option<()> {
        self.states.push(self.monoid.decode(from)?);
        Some(())
    }
}
