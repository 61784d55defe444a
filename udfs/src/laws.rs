//! The laws, run over every aggregate and every argument type that it takes.
//!
//! * `algebra`: partial states are a commutative monoid, with an inverse where claimed.
//! * `equivalence`: timeline, sweep and oracle agree bit for bit on random histories.
//!   So does a timeline that a store keeps as nodes and loads in part.
//! * `oracle`: the judge: rational arithmetic, loops and sorting; it shares no code with the rest.
//! * `datum`: values of every type, extremes included, in and out of arrays.

mod algebra;
mod datum;
mod equivalence;
mod oracle;

use std::sync::Arc;

use arrow::datatypes::DataType;

use crate::{Aggregate, bind, names};

/// Every aggregate bound to every argument type and modifier that it takes.
fn everything() -> Vec<Arc<dyn Aggregate>> {
    let mut all: Vec<Arc<dyn Aggregate>> = Vec::new();
    for name in names() {
        for argument in std::iter::once(None).chain(datum::types().iter().map(Some)) {
            for (distinct, ignore_nulls) in [(false, false), (true, false), (false, true)] {
                let Ok(bound) = bind(name, distinct, ignore_nulls, argument) else { continue };
                if !all.iter().any(|known| known.meta() == bound.meta()) {
                    all.push(bound);
                }
            }
        }
    }
    all
}

#[test]
fn every_documented_combination_binds() {
    let count = |name: &str| everything().iter().filter(|a| a.name() == name).count();
    let types = datum::types().len();
    assert_eq!(count("count"), 1 + 2 * types);
    assert_eq!(count("first_value"), 2 * types);
    assert_eq!(count("max"), types - 1);
    assert_eq!(count("sum"), 8);
    assert_eq!(count("stddev_samp"), 8);
    assert_eq!(count("bool_and"), 1);
    assert_eq!(count("bit_and"), 3);
    assert_eq!(count("bit_xor"), 3);
    assert!(bind("sum", false, false, Some(&DataType::Date32)).is_err());
}
