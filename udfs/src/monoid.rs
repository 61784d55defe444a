//! The algebra: a commutative monoid with a bit-exact merge, and its partial state as an object.

use std::any::Any;
use std::fmt::Debug;

use crate::aggregate::Meta;
use crate::error::Error;
use crate::kind::{Cell, Cells, Kind, Output};
use crate::sweep::{Input, Window, slide};
use crate::timeline::{States, View};

/// An aggregate over one column: states form a commutative monoid under `merge`, exactly.
///
/// The laws, which the tests run over every aggregate: `merge` is associative and commutative
/// with `identity` as its unit; inserting values one by one in any order equals merging the
/// states of any grouping of them; where `INVERTIBLE`, `remove` undoes `insert`; `decode` undoes
/// `encode`.
pub(crate) trait Monoid: Clone + Debug + Send + Sync + 'static {
    /// The kind of the argument.
    type Input: Kind;
    /// The kind of the result.
    type Output: Kind;
    /// What is known of a set of values.
    type State: Clone + Debug + PartialEq + Send + Sync + 'static;
    /// Whether `remove` may be called.
    const INVERTIBLE: bool = false;
    /// Whether a timeline keeps states in its nodes; else it scans the events of a window.
    const SUMMARISED: bool = true;

    /// The state of no values.
    fn identity(&self) -> Self::State;
    /// Adds a value that is not NULL.
    fn insert(&self, state: &mut Self::State, value: <Self::Input as Kind>::Value<'_>);
    /// Takes back a value that was inserted. Only called where `INVERTIBLE`.
    fn remove(&self, _state: &mut Self::State, _value: <Self::Input as Kind>::Value<'_>) {}
    /// Adds all values of another state.
    fn merge(&self, state: &mut Self::State, other: &Self::State);
    /// The result; `None` is NULL.
    fn finish<'s>(
        &self,
        state: &'s Self::State,
    ) -> Result<Option<<Self::Output as Kind>::Value<'s>>, Error>;
    /// Appends the state's bytes: equal states have equal bytes.
    fn encode(&self, state: &Self::State, out: &mut Vec<u8>);
    /// Takes a state off the front of what `encode` wrote.
    fn decode(&self, bytes: &mut &[u8]) -> Option<Self::State>;

    /// Adds what a row holds: NULL is skipped unless the aggregate counts rows.
    fn accept(&self, state: &mut Self::State, cell: Option<Cell<'_>>) {
        if let Some(value) = cell.and_then(<Self::Input as Kind>::cell) {
            self.insert(state, value);
        }
    }

    /// Takes back what a row holds.
    fn retract(&self, state: &mut Self::State, cell: Option<Cell<'_>>) {
        if let Some(value) = cell.and_then(<Self::Input as Kind>::cell) {
            self.remove(state, value);
        }
    }

    /// Adds the rows of a chunk that `mask` selects.
    fn scan(&self, state: &mut Self::State, column: Option<&Cells>, mask: u128) {
        let Some(cells) = column else { return };
        let Some(store) = Self::Input::store(&cells.values) else { return };
        let mut left = mask & cells.valid;
        while left != 0 {
            let row = left.trailing_zeros() as usize;
            left &= left - 1;
            self.insert(state, Self::Input::stored(store, row));
        }
    }

    /// The value of one window of a timeline.
    fn read(&self, view: &View<'_>, output: &mut Output) -> Result<(), Error> {
        let mut state = self.identity();
        view.fold(self, &mut state)?;
        output.push::<Self::Output>(self.finish(&state)?)
    }

    /// The values of many windows of a run, for each list of windows.
    fn sweep(
        &self,
        meta: &Meta,
        input: &Input<'_>,
        frames: &[&[Window]],
    ) -> Result<Vec<Output>, Error> {
        slide::sweep(self, meta, input, frames)
    }

    /// No states yet, for a node of a timeline, if it keeps any.
    fn states(&self) -> Option<States<Self>> {
        Self::SUMMARISED.then(|| States::new(self.clone()))
    }
}

/// The state of one aggregate over some events, to be merged with others elsewhere.
///
/// Partial states of one bound aggregate form a commutative monoid: see the crate's laws.
pub trait Partial: Any + Debug + Send + Sync {
    /// Adds an event: its (time, position) and its argument, `None` for NULL.
    fn insert(&mut self, order: (i64, u64), value: Option<Cell<'_>>);
    /// Takes an inserted event back; `false`, and nothing done, if the aggregate has no inverse.
    fn remove(&mut self, value: Option<Cell<'_>>) -> bool;
    /// Adds all events of another state of the same aggregate.
    fn merge(&mut self, other: &dyn Partial) -> Result<(), Error>;
    /// The value, as an array of one row.
    fn finish(&self) -> Result<arrow::array::ArrayRef, Error>;
    /// The state's bytes: equal states have equal bytes.
    fn encode(&self) -> Vec<u8>;
}

/// The partial state of a monoid.
#[derive(Debug, Clone)]
pub(crate) struct Part<M: Monoid> {
    pub(crate) meta: Meta,
    pub(crate) monoid: M,
    pub(crate) state: M::State,
}

impl<M: Monoid> Partial for Part<M> {
    fn insert(&mut self, _order: (i64, u64), value: Option<Cell<'_>>) {
        self.monoid.accept(&mut self.state, value);
    }

    fn remove(&mut self, value: Option<Cell<'_>>) -> bool {
        if M::INVERTIBLE {
            self.monoid.retract(&mut self.state, value);
        }
        M::INVERTIBLE
    }

    fn merge(&mut self, other: &dyn Partial) -> Result<(), Error> {
        match (other as &dyn Any).downcast_ref::<Part<M>>() {
            Some(other) if other.meta == self.meta => {
                self.monoid.merge(&mut self.state, &other.state);
                Ok(())
            }
            _ => Err(Error::StateMismatch { aggregate: self.meta.name }),
        }
    }

    fn finish(&self) -> Result<arrow::array::ArrayRef, Error> {
        let mut output = Output::new(&self.meta.output, 1);
        output.push::<M::Output>(self.monoid.finish(&self.state)?)?;
        output.finish(&self.meta.output)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.monoid.encode(&self.state, &mut bytes);
        bytes
    }
}
