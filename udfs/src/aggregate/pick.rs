//! `first_value` and `last_value`: by the order of events, NULLs respected or ignored.

use std::any::Any;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::buffer::BooleanBuffer;

use super::{Aggregate, Family, Meta, Request};
use crate::error::Error;
use crate::kernel::{Kernel, Looks};
use crate::kind::{
    Bool, Cell, Decimal, Double, Kind, Long, Output, Physical, Text, physical, take,
};
use crate::monoid::Partial;
use crate::sweep::{Input, Window};
use crate::timeline::{Summaries, View};

pub(super) const FAMILY: Family =
    Family { names: &[("first_value", "first_value"), ("last_value", "last_value")], bind };

fn bind(request: &Request<'_>) -> Result<Arc<dyn Aggregate>, Error> {
    request.no_distinct()?;
    let refused = || request.refused("any type a source's column can have");
    let argument = request.argument.ok_or_else(refused)?;
    let meta = request.meta(argument.clone());
    let last = request.name == "last_value";
    Ok(match physical(argument).ok_or_else(refused)? {
        Physical::Long => Arc::new(Pick::<Long>::new(meta, last)),
        Physical::Double => Arc::new(Pick::<Double>::new(meta, last)),
        Physical::Decimal => Arc::new(Pick::<Decimal>::new(meta, last)),
        Physical::Bool => Arc::new(Pick::<Bool>::new(meta, last)),
        Physical::Text => Arc::new(Pick::<Text>::new(meta, last)),
    })
}

/// The value of the first or last event.
#[derive(Debug, Clone)]
struct Pick<K> {
    meta: Meta,
    last: bool,
    kind: std::marker::PhantomData<K>,
}

impl<K: Kind> Pick<K> {
    fn new(meta: Meta, last: bool) -> Self {
        Pick { meta, last, kind: std::marker::PhantomData }
    }

    /// Which row of `lo..hi` is picked: all of them are visible.
    fn pick_dense(&self, window: Window) -> Option<usize> {
        let row = if self.last { window.hi.wrapping_sub(1) } else { window.lo };
        (window.lo < window.hi).then_some(row as usize)
    }

    /// For every row the nearest visible one in the direction that the search goes.
    ///
    /// `last`: the last visible row at or before; else the first at or after. `NONE` if none.
    fn nearest(&self, visible: &BooleanBuffer) -> Vec<u32> {
        let mut nearest = vec![NONE; visible.len()];
        let mut found = NONE;
        let mut step = |row: usize| {
            if visible.value(row) {
                found = row as u32;
            }
            nearest[row] = found;
        };
        if self.last {
            (0..visible.len()).for_each(&mut step);
        } else {
            (0..visible.len()).rev().for_each(&mut step);
        }
        nearest
    }
}

/// No visible row.
const NONE: u32 = u32::MAX;

impl<K: Kind> Kernel for Pick<K> {
    fn sweep(&self, input: &Input<'_>, frames: &[&[Window]]) -> Result<Vec<Output>, Error> {
        let run = input.run::<K>()?;
        let nulls = input.nulls();
        let visible = if self.meta.ignore_nulls { input.visible() } else { input.filter() };
        let nearest = visible.map(|visible| self.nearest(visible));
        let mut outputs = Vec::with_capacity(frames.len());
        for windows in frames {
            let mut output = Output::new(&self.meta.output, windows.len());
            let builder =
                K::builder(&mut output).ok_or(Error::Internal("output of another kind"))?;
            for &window in *windows {
                let row = match (&nearest, self.pick_dense(window)) {
                    (Some(nearest), Some(row)) => {
                        let row = nearest[row];
                        (window.lo <= row && row < window.hi).then_some(row as usize)
                    }
                    (_, row) => row,
                };
                let row = row.filter(|&row| nulls.is_none_or(|nulls| nulls.is_valid(row)));
                K::push(builder, row.map(|row| K::get(&run, row)));
            }
            outputs.push(output);
        }
        Ok(outputs)
    }

    fn read(&self, view: &View<'_>, output: &mut Output) -> Result<(), Error> {
        let picked = view.pick(self.last, self.meta.ignore_nulls)?;
        let value = picked.and_then(|(cells, row)| {
            let store = K::store(&cells.values)?;
            ((cells.valid >> row) & 1 == 1).then(|| K::stored(store, row))
        });
        output.push::<K>(value)
    }

    /// The order itself is the index.
    fn summaries(&self) -> Option<Box<dyn Summaries>> {
        None
    }

    fn looks(&self) -> Looks {
        let ignore_nulls = self.meta.ignore_nulls;
        if self.last { Looks::Last { ignore_nulls } } else { Looks::First { ignore_nulls } }
    }
}

impl<K: Kind> Aggregate for Pick<K> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn partial(&self) -> Box<dyn Partial> {
        Box::new(Picked { pick: self.clone(), best: None })
    }

    fn decode(&self, bytes: &[u8]) -> Result<Box<dyn Partial>, Error> {
        match decode::<K>(bytes) {
            Some(best) => Ok(Box::new(Picked { pick: self.clone(), best })),
            None => Err(Error::Damaged { aggregate: self.meta.name }),
        }
    }
}

/// An event: its (time, position) and its value.
type Event<K> = ((i64, u64), Option<<K as Kind>::Owned>);

/// The first or last event seen so far.
#[derive(Debug)]
struct Picked<K: Kind> {
    pick: Pick<K>,
    best: Option<Event<K>>,
}

impl<K: Kind> Picked<K> {
    fn offer(&mut self, order: (i64, u64), value: Option<K::Value<'_>>) {
        if value.is_none() && self.pick.meta.ignore_nulls {
            return;
        }
        let better = match &self.best {
            None => true,
            Some((best, _)) if self.pick.last => order > *best,
            Some((best, _)) => order < *best,
        };
        if better {
            self.best = Some((order, value.map(K::own)));
        }
    }
}

impl<K: Kind> Partial for Picked<K> {
    fn insert(&mut self, order: (i64, u64), value: Option<Cell<'_>>) {
        self.offer(order, value.and_then(K::cell));
    }

    fn remove(&mut self, _value: Option<Cell<'_>>) -> bool {
        false
    }

    fn merge(&mut self, other: &dyn Partial) -> Result<(), Error> {
        match (other as &dyn Any).downcast_ref::<Picked<K>>() {
            Some(other) if other.pick.meta == self.pick.meta => {
                if let Some((order, value)) = &other.best {
                    self.offer(*order, value.as_ref().map(K::borrow));
                }
                Ok(())
            }
            _ => Err(Error::StateMismatch { aggregate: self.pick.meta.name }),
        }
    }

    fn finish(&self) -> Result<ArrayRef, Error> {
        let mut output = Output::new(&self.pick.meta.output, 1);
        let value = self.best.as_ref().and_then(|(_, value)| value.as_ref());
        output.push::<K>(value.map(K::borrow))?;
        output.finish(&self.pick.meta.output)
    }

    fn encode(&self) -> Vec<u8> {
        let Some(((time, position), value)) = &self.best else { return vec![0] };
        let mut out = vec![if value.is_some() { 2 } else { 1 }];
        out.extend_from_slice(&time.to_le_bytes());
        out.extend_from_slice(&position.to_le_bytes());
        if let Some(value) = value {
            K::encode(K::borrow(value), &mut out);
        }
        out
    }
}

/// What `Picked::encode` wrote, all of it.
fn decode<K: Kind>(mut bytes: &[u8]) -> Option<Option<Event<K>>> {
    let [tag] = take::<1>(&mut bytes)?;
    let best = match tag {
        0 => None,
        1 | 2 => {
            let time = i64::from_le_bytes(take(&mut bytes)?);
            let order = (time, u64::from_le_bytes(take(&mut bytes)?));
            let value = if tag == 2 { Some(K::decode(&mut bytes)?) } else { None };
            Some((order, value))
        }
        _ => return None,
    };
    bytes.is_empty().then_some(best)
}
