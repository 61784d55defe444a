//! `count(DISTINCT x)`: exact, by identity: -0.0 is +0.0, every NaN is the same.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::datatypes::DataType;
use hashbrown::{DefaultHashBuilder, HashMap};

use super::{Aggregate, Meta, Request, folded};
use crate::error::Error;
use crate::kind::{Bool, Decimal, Double, Kind, Long, Output, Physical, Text, physical, take};
use crate::monoid::Monoid;
use crate::sweep::{Input, Window};
use crate::timeline::View;

pub(super) fn bind(request: &Request<'_>) -> Result<Arc<dyn Aggregate>, Error> {
    let meta = request.meta(DataType::Int64);
    match request.argument.and_then(physical) {
        Some(Physical::Long) => folded(meta, Distinct::<Long>(PhantomData)),
        Some(Physical::Double) => folded(meta, Distinct::<Double>(PhantomData)),
        Some(Physical::Decimal) => folded(meta, Distinct::<Decimal>(PhantomData)),
        Some(Physical::Bool) => folded(meta, Distinct::<Bool>(PhantomData)),
        Some(Physical::Text) => folded(meta, Distinct::<Text>(PhantomData)),
        None => Err(request.refused("a column: DISTINCT is about values, not rows")),
    }
}

/// Counts distinct values. Not summarised: a chunk's set is as large as the chunk.
#[derive(Debug, Clone)]
struct Distinct<K>(PhantomData<K>);

/// The values seen, each with how often.
#[derive(Debug, Clone)]
struct Seen<K: Kind>(HashMap<K::Key, u64>);

impl<K: Kind> PartialEq for Seen<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K: Kind> Monoid for Distinct<K> {
    type Input = K;
    type Output = Long;
    type State = Seen<K>;
    const INVERTIBLE: bool = true;
    const SUMMARISED: bool = false;

    fn identity(&self) -> Seen<K> {
        Seen(HashMap::new())
    }

    fn insert(&self, state: &mut Seen<K>, value: K::Value<'_>) {
        *state.0.entry(K::key(value)).or_insert(0) += 1;
    }

    fn remove(&self, state: &mut Seen<K>, value: K::Value<'_>) {
        let key = K::key(value);
        if let Some(times) = state.0.get_mut(&key) {
            *times -= 1;
            if *times == 0 {
                state.0.remove(&key);
            }
        }
    }

    fn merge(&self, state: &mut Seen<K>, other: &Seen<K>) {
        for (key, times) in &other.0 {
            *state.0.entry(key.clone()).or_insert(0) += times;
        }
    }

    fn finish(&self, state: &Seen<K>) -> Result<Option<i64>, Error> {
        Ok(Some(i64::try_from(state.0.len()).unwrap_or(i64::MAX)))
    }

    fn encode(&self, state: &Seen<K>, out: &mut Vec<u8>) {
        let sorted: BTreeMap<Vec<u8>, u64> = state
            .0
            .iter()
            .map(|(key, times)| {
                let mut bytes = Vec::new();
                K::encode_key(key, &mut bytes);
                (bytes, *times)
            })
            .collect();
        out.extend_from_slice(&(sorted.len() as u64).to_le_bytes());
        for (key, times) in sorted {
            out.extend_from_slice(&key);
            out.extend_from_slice(&times.to_le_bytes());
        }
    }

    fn decode(&self, bytes: &mut &[u8]) -> Option<Seen<K>> {
        let mut seen = HashMap::new();
        for _ in 0..u64::from_le_bytes(take(bytes)?) {
            let key = K::decode_key(bytes)?;
            let times = u64::from_le_bytes(take(bytes)?);
            if times == 0 || seen.insert(key, times).is_some() {
                return None;
            }
        }
        Some(Seen(seen))
    }

    /// Counts the window's values in one hash table of borrowed values.
    fn read(&self, view: &View<'_>, output: &mut Output) -> Result<(), Error> {
        let hasher = DefaultHashBuilder::default();
        let mut table = hashbrown::HashTable::new();
        view.each::<K>(|value| {
            let hash = K::hash(value, &hasher);
            let entry =
                table.entry(hash, |seen| K::same(*seen, value), |seen| K::hash(*seen, &hasher));
            entry.or_insert(value);
        })?;
        output.push::<Long>(Some(i64::try_from(table.len()).unwrap_or(i64::MAX)))
    }

    /// A value counts in a window where it is the last of its kind, or the first: see [`slide`].
    fn sweep(
        &self,
        meta: &Meta,
        input: &Input<'_>,
        frames: &[&[Window]],
    ) -> Result<Vec<Output>, Error> {
        let run = input.run::<K>()?;
        let visible = input.visible();
        let is_visible = |row: usize| visible.is_none_or(|bits| bits.value(row));
        let same = SameValues::of::<K>(&run, input.len(), is_visible);
        let mut outputs = Vec::with_capacity(frames.len());
        for windows in frames {
            let mut output = Output::new(&meta.output, windows.len());
            slide(&same, windows, &mut output)?;
            outputs.push(output);
        }
        Ok(outputs)
    }
}

/// Where the same values are. An invisible row has itself before it and after it, so that no window
/// counts it.
struct SameValues {
    /// For every row one more than the last row before it with the same value; 0 if there is none.
    before: Vec<u32>,
    /// For every row the first row after it with the same value; `u32::MAX` if there is none.
    after: Vec<u32>,
}

impl SameValues {
    fn of<K: Kind>(run: &K::Run, len: usize, is_visible: impl Fn(usize) -> bool) -> Self {
        let hasher = DefaultHashBuilder::default();
        // The last row of each value so far.
        let mut table: hashbrown::HashTable<u32> = hashbrown::HashTable::new();
        let (mut before, mut after) = (vec![0; len], vec![u32::MAX; len]);
        for row in 0..len {
            let here = row as u32;
            if !is_visible(row) {
                (before[row], after[row]) = (here + 1, here);
                continue;
            }
            let value = K::get(run, row);
            let entry = table.entry(
                K::hash(value, &hasher),
                |last| K::same(K::get(run, *last as usize), value),
                |last| K::hash(K::get(run, *last as usize), &hasher),
            );
            match entry {
                hashbrown::hash_table::Entry::Vacant(entry) => drop(entry.insert(here)),
                hashbrown::hash_table::Entry::Occupied(mut entry) => {
                    let last = std::mem::replace(entry.get_mut(), here);
                    before[row] = last + 1;
                    after[last as usize] = here;
                }
            }
        }
        SameValues { before, after }
    }
}

/// Slides over the rows: at the near end a row is a new value if none in the window before it is
/// the same, at the far end a value goes with its last row. A window that moves back starts anew.
fn slide(same: &SameValues, windows: &[Window], output: &mut Output) -> Result<(), Error> {
    let mut distinct = 0_i64;
    let mut last = Window::EMPTY;
    for &window in windows {
        if window.is_null() {
            output.push::<Long>(None)?;
            continue;
        }
        if window.lo < last.lo || window.hi < last.hi || window.lo >= last.hi {
            distinct = 0;
            last = Window { lo: window.lo, hi: window.lo };
        }
        let entering = &same.before[last.hi as usize..window.hi as usize];
        distinct += entering.iter().filter(|&&before| before <= last.lo).count() as i64;
        let leaving = &same.after[last.lo as usize..window.lo as usize];
        distinct -= leaving.iter().filter(|&&after| after >= window.hi).count() as i64;
        output.push::<Long>(Some(distinct))?;
        last = window;
    }
    Ok(())
}
