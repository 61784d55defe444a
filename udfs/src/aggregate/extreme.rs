//! `min` and `max`: NaN is greater than every number, -0.0 is less than +0.0.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{Aggregate, Family, Meta, Request, folded};
use crate::error::Error;
use crate::kind::{Decimal, Double, Kind, Long, Output, Physical, Text, physical, take};
use crate::monoid::Monoid;
use crate::sweep::{Input, Window};

pub(super) const FAMILY: Family = Family { names: &[("min", "min"), ("max", "max")], bind };

/// DISTINCT changes nothing here, so it is taken and dropped.
fn bind(request: &Request<'_>) -> Result<Arc<dyn Aggregate>, Error> {
    request.no_ignore_nulls()?;
    let refused = || request.refused("a number, text, a date or a timestamp");
    let argument = request.argument.ok_or_else(refused)?;
    let mut meta = request.meta(argument.clone());
    meta.distinct = false;
    let wanted = if request.name == "max" { Ordering::Greater } else { Ordering::Less };
    match physical(argument) {
        Some(Physical::Long) => folded(meta, Extreme::<Long>(wanted, PhantomData)),
        Some(Physical::Double) => folded(meta, Extreme::<Double>(wanted, PhantomData)),
        Some(Physical::Decimal) => folded(meta, Extreme::<Decimal>(wanted, PhantomData)),
        Some(Physical::Text) => folded(meta, Extreme::<Text>(wanted, PhantomData)),
        Some(Physical::Bool) | None => Err(refused()),
    }
}

/// The value that compares to all others as the ordering says.
#[derive(Debug, Clone)]
struct Extreme<K>(Ordering, PhantomData<K>);

impl<K: Kind> Monoid for Extreme<K> {
    type Input = K;
    type Output = K;
    type State = Option<K::Owned>;

    fn identity(&self) -> Self::State {
        None
    }

    #[inline]
    fn insert(&self, state: &mut Self::State, value: K::Value<'_>) {
        let better = match state {
            None => true,
            Some(best) => K::compare(value, K::borrow(best)) == self.0,
        };
        if better {
            *state = Some(K::own(value));
        }
    }

    fn merge(&self, state: &mut Self::State, other: &Self::State) {
        if let Some(other) = other {
            self.insert(state, K::borrow(other));
        }
    }

    fn finish<'s>(&self, state: &'s Self::State) -> Result<Option<K::Value<'s>>, Error> {
        Ok(state.as_ref().map(K::borrow))
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        out.push(u8::from(state.is_some()));
        if let Some(value) = state {
            K::encode(K::borrow(value), out);
        }
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<Self::State> {
        match take(bytes)? {
            [0] => Some(None),
            [1] => K::decode(bytes).map(Some),
            _ => None,
        }
    }

    fn sweep(
        &self,
        meta: &Meta,
        input: &Input<'_>,
        frames: &[&[Window]],
    ) -> Result<Vec<Output>, Error> {
        let run = input.run::<K>()?;
        let visible = input.visible();
        let mut outputs = Vec::with_capacity(frames.len());
        for windows in frames {
            let mut output = Output::new(&meta.output, windows.len());
            match &visible {
                None => self.slide(&run, |_| true, windows, &mut output)?,
                Some(bits) => self.slide(&run, |row| bits.value(row), windows, &mut output)?,
            }
            outputs.push(output);
        }
        Ok(outputs)
    }
}

impl<K: Kind> Extreme<K> {
    /// A deque of the rows that may still be the answer: the front is, and each is better than
    /// all that follow, or as good and earlier. A window that moves back starts anew.
    fn slide(
        &self,
        run: &K::Run,
        is_visible: impl Fn(usize) -> bool,
        windows: &[Window],
        output: &mut Output,
    ) -> Result<(), Error> {
        let builder = K::builder(output).ok_or(Error::Internal("output of another kind"))?;
        let mut candidates: VecDeque<u32> = VecDeque::new();
        let mut last = Window::EMPTY;
        for &window in windows {
            if window.is_null() {
                K::push(builder, None);
                continue;
            }
            let mut from = last.hi;
            if window.lo < last.lo || window.hi < last.hi || window.lo >= last.hi {
                candidates.clear();
                from = window.lo;
            }
            while candidates.front().is_some_and(|&row| row < window.lo) {
                candidates.pop_front();
            }
            for row in from..window.hi {
                if !is_visible(row as usize) {
                    continue;
                }
                let value = K::get(run, row as usize);
                while let Some(&back) = candidates.back()
                    && K::compare(value, K::get(run, back as usize)) == self.0
                {
                    candidates.pop_back();
                }
                candidates.push_back(row);
            }
            K::push(builder, candidates.front().map(|&row| K::get(run, row as usize)));
            last = window;
        }
        Ok(())
    }
}
