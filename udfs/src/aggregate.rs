//! The aggregates: what each is called, what it takes and gives, and the list of all of them.
//!
//! A new aggregate is one file under `aggregate/` and one line in `FAMILIES`; the laws then run
//! over it by themselves. This file knows no window and no timeline.

mod bits;
mod boolean;
mod count;
mod distinct;
mod extreme;
mod moments;
mod pick;
mod sum;
mod total;

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;

use crate::error::Error;
use crate::kernel::{Kernel, Looks};
use crate::kind::Output;
use crate::monoid::{Monoid, Part, Partial};
use crate::sweep::{Input, Window};
use crate::timeline::{Summaries, View};

/// Every family of aggregates. The first that has the name (and takes DISTINCT, if asked) binds.
const FAMILIES: &[Family] = &[
    count::FAMILY,
    sum::FAMILY,
    moments::FAMILY,
    extreme::FAMILY,
    pick::FAMILY,
    boolean::FAMILY,
    bits::FAMILY,
];

/// A family: aggregates that share their code.
pub(crate) struct Family {
    /// Each name with the name it is short for, or with itself.
    names: &'static [(&'static str, &'static str)],
    bind: fn(&Request<'_>) -> Result<Arc<dyn Aggregate>, Error>,
}

/// What a call asks for.
pub(crate) struct Request<'a> {
    name: &'static str,
    distinct: bool,
    ignore_nulls: bool,
    argument: Option<&'a DataType>,
}

impl Request<'_> {
    fn refused(&self, accepted: &'static str) -> Error {
        let argument = self.argument.cloned();
        Error::ArgumentType { aggregate: self.name, argument, accepted }
    }

    fn meta(&self, output: DataType) -> Meta {
        Meta {
            name: self.name,
            distinct: self.distinct,
            ignore_nulls: self.ignore_nulls,
            argument: self.argument.cloned(),
            output,
        }
    }

    fn no_distinct(&self) -> Result<(), Error> {
        if self.distinct { Err(Error::Distinct { aggregate: self.name }) } else { Ok(()) }
    }

    fn no_ignore_nulls(&self) -> Result<(), Error> {
        if self.ignore_nulls { Err(Error::IgnoreNulls { aggregate: self.name }) } else { Ok(()) }
    }
}

/// What a bound aggregate is: equal for aggregates that compute the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Meta {
    /// The name, of aliases the one they are short for.
    pub name: &'static str,
    /// Whether only distinct values count.
    pub distinct: bool,
    /// Whether NULLs are skipped on request (`first_value`, `last_value`).
    pub ignore_nulls: bool,
    /// The argument's type; `None` for `count(*)`.
    pub argument: Option<DataType>,
    /// The result's type.
    pub output: DataType,
}

/// An aggregate bound to an argument type.
///
/// It is evaluated by [`crate::sweep`] and [`crate::Timeline`], bit for bit alike; other places
/// may build and merge [`Partial`] states of it.
pub trait Aggregate: Kernel + Debug + Send + Sync {
    /// What it is: name, argument and result.
    fn meta(&self) -> &Meta;
    /// The state of no events.
    fn partial(&self) -> Box<dyn Partial>;
    /// The state that [`Partial::encode`] wrote.
    fn decode(&self, bytes: &[u8]) -> Result<Box<dyn Partial>, Error>;

    /// The canonical name.
    fn name(&self) -> &'static str {
        self.meta().name
    }

    /// The argument's type; `None` for `count(*)`.
    fn argument(&self) -> Option<&DataType> {
        self.meta().argument.as_ref()
    }

    /// The result's Arrow type.
    fn output(&self) -> DataType {
        self.meta().output.clone()
    }
}

/// The names of all aggregates, aliases included.
pub fn names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        FAMILIES.iter().flat_map(|family| family.names).map(|(name, _)| *name).collect()
    });
    &NAMES
}

/// Binds the aggregate `name` (in lower case) to an argument type; `None` is `count(*)`.
///
/// ```
/// use arrow::datatypes::DataType;
/// let sum = asofdb_udfs::bind("sum", false, false, Some(&DataType::Int32))?;
/// assert_eq!(sum.output(), DataType::Int64);
/// assert!(asofdb_udfs::bind("sum", false, false, Some(&DataType::Utf8)).is_err());
/// # Ok::<(), asofdb_udfs::Error>(())
/// ```
///
/// # Errors
///
/// `NoSuchAggregate`, `ArgumentType`, `Distinct` or `IgnoreNulls`.
pub fn bind(
    name: &str,
    distinct: bool,
    ignore_nulls: bool,
    argument: Option<&DataType>,
) -> Result<Arc<dyn Aggregate>, Error> {
    for family in FAMILIES {
        if let Some((_, name)) = family.names.iter().find(|(known, _)| *known == name) {
            return (family.bind)(&Request { name, distinct, ignore_nulls, argument });
        }
    }
    Err(Error::NoSuchAggregate { name: name.to_owned(), nearest: nearest(name) })
}

/// The known names within a third of the name's length in edits, the nearest first.
fn nearest(name: &str) -> Vec<&'static str> {
    let limit = (name.chars().count() / 3).max(1);
    let mut found: Vec<_> = names()
        .iter()
        .map(|known| (edits(name, known), *known))
        .filter(|(edits, _)| *edits <= limit)
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, known)| known).collect()
}

/// The Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// An aggregate that is a monoid.
#[derive(Debug)]
pub(crate) struct Folded<M> {
    meta: Meta,
    monoid: M,
}

/// A monoid as an aggregate.
fn folded<M: Monoid>(meta: Meta, monoid: M) -> Result<Arc<dyn Aggregate>, Error> {
    Ok(Arc::new(Folded { meta, monoid }))
}

impl<M: Monoid> Folded<M> {
    fn part(&self, state: M::State) -> Box<dyn Partial> {
        Box::new(Part { meta: self.meta.clone(), monoid: self.monoid.clone(), state })
    }
}

impl<M: Monoid> Aggregate for Folded<M> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn partial(&self) -> Box<dyn Partial> {
        self.part(self.monoid.identity())
    }

    fn decode(&self, mut bytes: &[u8]) -> Result<Box<dyn Partial>, Error> {
        match self.monoid.decode(&mut bytes) {
            Some(state) if bytes.is_empty() => Ok(self.part(state)),
            _ => Err(Error::Damaged { aggregate: self.meta.name }),
        }
    }
}

impl<M: Monoid> Kernel for Folded<M> {
    fn sweep(&self, input: &Input<'_>, frames: &[&[Window]]) -> Result<Vec<Output>, Error> {
        self.monoid.sweep(&self.meta, input, frames)
    }

    fn read(&self, view: &View<'_>, output: &mut Output) -> Result<(), Error> {
        self.monoid.read(view, output)
    }

    fn summaries(&self) -> Option<Box<dyn Summaries>> {
        self.monoid.states().map(|states| Box::new(states) as Box<dyn Summaries>)
    }

    fn looks(&self) -> Looks {
        if M::SUMMARISED { Looks::States } else { Looks::Events }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let unique: HashSet<_> = names().iter().collect();
        assert_eq!(unique.len(), names().len());
    }

    #[test]
    fn aliases_are_the_same_aggregate() {
        let double = Some(&DataType::Float64);
        for (alias, name) in [("variance", "var_samp"), ("stddev", "stddev_samp")] {
            let alias = bind(alias, false, false, double).unwrap();
            assert_eq!(alias.meta(), bind(name, false, false, double).unwrap().meta());
        }
        assert_eq!(
            bind("every", false, false, Some(&DataType::Boolean)).unwrap().name(),
            "bool_and"
        );
    }

    #[test]
    fn mistakes_are_explained() {
        let error = bind("sun", false, false, None).unwrap_err();
        assert_eq!(error.to_string(), "aggregate sun does not exist; did you mean sum?");
        let error = bind("median_of_medians", false, false, None).unwrap_err();
        assert_eq!(error.to_string(), "aggregate median_of_medians does not exist");
        let error = bind("sum", false, false, None).unwrap_err();
        assert!(matches!(error, Error::ArgumentType { argument: None, .. }));
        let error = bind("sum", true, false, Some(&DataType::Int64)).unwrap_err();
        assert_eq!(error, Error::Distinct { aggregate: "sum" });
        let error = bind("max", false, true, Some(&DataType::Int64)).unwrap_err();
        assert_eq!(error, Error::IgnoreNulls { aggregate: "max" });
    }
}
