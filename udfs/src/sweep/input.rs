//! The column and the filter that kernels run over, and what kernels over the same two share.

use std::cell::OnceCell;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};

use super::Window;
use crate::error::Error;
use crate::exact::{Fixed256, Prefix, Term};
use crate::kind::Kind;
use crate::layout::Events;

/// The most rows of a run over which prefix sums are kept, which take 48 bytes a row.
const PREFIX_ROWS_MAX: usize = 1 << 20;

/// What a measure looks at in a run of events.
pub struct Input<'a> {
    argument: Option<&'a ArrayRef>,
    visible: Option<&'a BooleanBuffer>,
    filter: Option<BooleanBuffer>,
    len: usize,
    shared: &'a Shared,
}

/// What kernels over one argument and one filter compute once; `None` where it cannot be.
#[derive(Default)]
pub(super) struct Shared {
    visible: OnceCell<Option<BooleanBuffer>>,
    /// The number of visible rows among the first 0, 1, 2, …; `None` if all are.
    counts: OnceCell<Option<Vec<u32>>>,
    sums: OnceCell<Option<Prefix<i128>>>,
    squares: OnceCell<Option<Prefix<Fixed256>>>,
}

impl<'a> Input<'a> {
    /// The events have been checked against their layout.
    pub(super) fn new(
        events: &'a Events,
        argument: Option<usize>,
        filter: Option<usize>,
        shared: &'a Shared,
    ) -> Result<Self, Error> {
        let lost = Error::Internal("a column is missing");
        let column = |index: usize| events.columns.get(index).ok_or(lost.clone());
        let argument = argument.map(column).transpose()?;
        let filter = match filter.map(column).transpose()? {
            None => None,
            Some(array) => {
                let array = array.as_boolean_opt().ok_or(lost.clone())?;
                Some(match array.nulls() {
                    None => array.values().clone(),
                    Some(nulls) => array.values() & nulls.inner(),
                })
            }
        };
        let visible = shared.visible.get_or_init(|| match (&filter, nulls_of(argument)) {
            (None, None) => None,
            (Some(filter), None) => Some(filter.clone()),
            (None, Some(nulls)) => Some(nulls.inner().clone()),
            (Some(filter), Some(nulls)) => Some(filter & nulls.inner()),
        });
        Ok(Input { argument, visible: visible.as_ref(), filter, len: events.len(), shared })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The argument's values.
    pub(crate) fn run<K: Kind>(&self) -> Result<K::Run, Error> {
        let run = self.argument.and_then(|array| K::run(array));
        run.ok_or(Error::Internal("argument of another kind"))
    }

    /// Which rows the filter lets through; `None` for all.
    pub(crate) fn filter(&self) -> Option<&BooleanBuffer> {
        self.filter.as_ref()
    }

    /// Where the argument is NULL, if anywhere.
    pub(crate) fn nulls(&self) -> Option<&NullBuffer> {
        nulls_of(self.argument)
    }

    /// Which rows the filter lets through whose argument is not NULL; `None` for all.
    pub(crate) fn visible(&self) -> Option<&BooleanBuffer> {
        self.visible
    }

    /// How many rows of a window, which is not NULL, are visible.
    #[inline]
    pub(crate) fn count(&self, window: Window) -> u32 {
        let counts = self.shared.counts.get_or_init(|| {
            let mut seen = 0;
            let counts = self.visible?.iter().map(|bit| {
                seen += u32::from(bit);
                seen
            });
            Some(std::iter::once(0).chain(counts).collect())
        });
        match counts {
            None => window.len(),
            Some(counts) => counts[window.hi as usize] - counts[window.lo as usize],
        }
    }

    /// The sums of the visible values' terms, of which NaN and the infinities have none; `None`
    /// if a sum may not fit.
    ///
    /// A value has one term, whoever asks.
    pub(crate) fn sums<K: Kind>(
        &self,
        term: impl Fn(K::Value<'_>) -> Option<Term>,
    ) -> Result<Option<&Prefix<i128>>, Error> {
        let run = self.run::<K>()?;
        let sums = || self.prefix(|row| term(K::get(&run, row)));
        Ok(self.shared.sums.get_or_init(sums).as_ref())
    }

    /// The sums of the squares of the same terms.
    pub(crate) fn squares<K: Kind>(
        &self,
        term: impl Fn(K::Value<'_>) -> Option<Term>,
    ) -> Result<Option<&Prefix<Fixed256>>, Error> {
        let run = self.run::<K>()?;
        let squares = || self.prefix(|row| term(K::get(&run, row)).map(Term::squared));
        Ok(self.shared.squares.get_or_init(squares).as_ref())
    }

    fn prefix<W: crate::exact::Window>(
        &self,
        term: impl Fn(usize) -> Option<Term>,
    ) -> Option<Prefix<W>> {
        if self.len > PREFIX_ROWS_MAX {
            return None;
        }
        match self.visible {
            None => Prefix::of(self.len, term),
            Some(visible) => Prefix::of(self.len, |row| match visible.value(row) {
                true => term(row),
                false => Some(Term::ZERO),
            }),
        }
    }
}

fn nulls_of(argument: Option<&ArrayRef>) -> Option<&NullBuffer> {
    argument.and_then(|array| array.nulls()).filter(|nulls| nulls.null_count() > 0)
}
