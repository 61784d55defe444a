//! `min` and `max`: NaN is greater than every number, -0.0 is less than +0.0.

use std::cmp::Ordering;
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
        let mut outputs = Vec::with_capacity(frames.len());
        for frames in frames.chunk_by(|a, b| end_alike(a, b)) {
            let empty = |windows: &&[Window]| Output::new(&meta.output, windows.len());
            let mut values: Vec<Output> = frames.iter().map(empty).collect();
            match input.visible() {
                None => self.slide(&run, |_| true, frames, &mut values)?,
                Some(bits) => self.slide(&run, |row| bits.value(row), frames, &mut values)?,
            }
            outputs.append(&mut values);
        }
        Ok(outputs)
    }
}

/// Whether the windows of two frames end at the same events.
fn end_alike(a: &[Window], b: &[Window]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.hi == b.hi && a.is_null() == b.is_null())
}

impl<K: Kind> Extreme<K> {
    /// A stack of the rows that may still be the answer for the widest of frames that end alike:
    /// each is better than all that follow, or as good and earlier. A window's answer is the first
    /// of them in it. A window that moves back starts anew.
    fn slide(
        &self,
        run: &K::Run,
        is_visible: impl Fn(usize) -> bool,
        frames: &[&[Window]],
        outputs: &mut [Output],
    ) -> Result<(), Error> {
        let builders: Option<Vec<_>> = outputs.iter_mut().map(K::builder).collect();
        let mut builders = builders.ok_or(Error::Internal("output of another kind"))?;
        let mut stack: Vec<u32> = Vec::new();
        // The rows before it have left the widest window.
        let mut front = 0;
        let mut last = Window::EMPTY;
        for at in 0..frames[0].len() {
            let Some(widest) = frames.iter().map(|windows| windows[at]).min_by_key(|w| w.lo) else {
                continue;
            };
            if widest.is_null() {
                builders.iter_mut().for_each(|builder| K::push(builder, None));
                continue;
            }
            if widest.lo < last.lo || widest.hi < last.hi || widest.lo >= last.hi {
                stack.clear();
                front = 0;
                last.hi = widest.lo;
            }
            while stack.get(front).is_some_and(|&row| row < widest.lo) {
                front += 1;
            }
            for row in (last.hi..widest.hi).filter(|&row| is_visible(row as usize)) {
                let value = K::get(run, row as usize);
                while front < stack.len()
                    && K::compare(value, K::get(run, stack[stack.len() - 1] as usize)) == self.0
                {
                    stack.pop();
                }
                stack.push(row);
            }
            for (builder, windows) in builders.iter_mut().zip(frames) {
                let candidates = &stack[front..];
                let first = candidates.partition_point(|&row| row < windows[at].lo);
                K::push(builder, candidates.get(first).map(|&row| K::get(run, row as usize)));
            }
            last = widest;
        }
        Ok(())
    }
}
