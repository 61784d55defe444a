//! Partial states are a commutative monoid, have an inverse where claimed, and are what the
//! oracle says.

use proptest::prelude::*;

use super::datum::{self, Datum};
use super::{everything, oracle};
use crate::{Aggregate, Error, Partial};

/// An event: (time, position) and value.
type Event = ((i64, u64), Option<Datum>);

fn state(aggregate: &dyn Aggregate, events: &[&Event]) -> Box<dyn Partial> {
    let mut partial = aggregate.partial();
    for (order, value) in events {
        partial.insert(*order, value.as_ref().map(Datum::cell));
    }
    partial
}

fn merged(a: &dyn Partial, b: &dyn Partial, aggregate: &dyn Aggregate) -> Box<dyn Partial> {
    let mut sum = aggregate.decode(&a.encode()).unwrap();
    sum.merge(b).unwrap();
    sum
}

/// The value, or that it is out of range.
fn value(partial: &dyn Partial) -> Result<Option<Datum>, oracle::OutOfRange> {
    match partial.finish() {
        Ok(array) => Ok(datum::datum(&array, 0)),
        Err(Error::OutOfRange { .. }) => Err(oracle::OutOfRange),
        Err(error) => panic!("{error}"),
    }
}

fn laws(aggregate: &dyn Aggregate, events: &[Event], cuts: (usize, usize)) {
    let all: Vec<&Event> = events.iter().collect();
    let (low, high) = (cuts.0.min(cuts.1), cuts.0.max(cuts.1));
    let (a, b, c) = (&all[..low], &all[low..high], &all[high..]);
    let (sa, sb, sc) = (state(aggregate, a), state(aggregate, b), state(aggregate, c));
    let whole = state(aggregate, &all);
    let name = format!("{:?}", aggregate.meta());

    let with_identity = merged(&*sa, &*aggregate.partial(), aggregate);
    assert_eq!(with_identity.encode(), sa.encode(), "right identity of {name}");
    let with_identity = merged(&*aggregate.partial(), &*sa, aggregate);
    assert_eq!(with_identity.encode(), sa.encode(), "left identity of {name}");
    let (ab, ba) = (merged(&*sa, &*sb, aggregate), merged(&*sb, &*sa, aggregate));
    assert_eq!(ab.encode(), ba.encode(), "commutativity of {name}");
    let left = merged(&*ab, &*sc, aggregate);
    let right = merged(&*sa, &*merged(&*sb, &*sc, aggregate), aggregate);
    assert_eq!(left.encode(), right.encode(), "associativity of {name}");
    assert_eq!(left.encode(), whole.encode(), "merge is insert of {name}");
    let reversed: Vec<&Event> = all.iter().rev().copied().collect();
    assert_eq!(state(aggregate, &reversed).encode(), whole.encode(), "order of {name}");

    let mut undone = state(aggregate, &all);
    let mut inverse = true;
    for (_, value) in b.iter().rev().chain(c) {
        inverse &= undone.remove(value.as_ref().map(Datum::cell));
    }
    if inverse {
        assert_eq!(undone.encode(), sa.encode(), "inverse of {name}");
        assert_eq!(value(&*undone), value(&*sa), "value after the inverse of {name}");
    }

    let bytes = whole.encode();
    let again = aggregate.decode(&bytes).unwrap();
    assert_eq!(again.encode(), bytes, "round trip of {name}");
    for end in 0..bytes.len() {
        assert!(aggregate.decode(&bytes[..end]).is_err(), "torn state of {name}");
    }

    let mut sorted: Vec<Event> = events.to_vec();
    sorted.sort_by_key(|event| event.0);
    let rows: Vec<Option<Datum>> = sorted.into_iter().map(|event| event.1).collect();
    let expected = oracle::aggregate(aggregate.meta(), &rows);
    assert_eq!(value(&*whole), expected, "value of {name} over {rows:?}");
    assert_eq!(value(&*again), expected, "value of decoded {name} over {rows:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn every_aggregate_obeys_the_laws(
        seeds in prop::collection::vec((0..6_i64, any::<u8>(), any::<u64>()), 0..24),
        cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        tame in any::<bool>(),
    ) {
        for aggregate in everything() {
            let argument = aggregate.argument();
            let events: Vec<Event> = seeds
                .iter()
                .enumerate()
                .map(|(position, (time, choice, bits))| {
                    let value = argument.and_then(|a| datum::make(a, *choice, *bits, tame));
                    ((*time, position as u64), value)
                })
                .collect();
            let length = events.len() + 1;
            laws(&*aggregate, &events, (cuts.0.index(length), cuts.1.index(length)));
        }
    }

    #[test]
    fn doubles_of_every_magnitude_sum_exactly(
        bits in prop::collection::vec(any::<u64>(), 1..40),
        cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let double = Some(&arrow::datatypes::DataType::Float64);
        for name in ["sum", "avg", "var_pop", "var_samp", "stddev_pop"] {
            let aggregate = crate::bind(name, false, false, double).unwrap();
            let finite = |bits: &u64| f64::from_bits(*bits & !(1 << 62));
            let event = |(i, bits)| ((0, i as u64), Some(Datum::Double(finite(bits))));
            let events: Vec<Event> = bits.iter().enumerate().map(event).collect();
            let length = events.len() + 1;
            laws(&*aggregate, &events, (cuts.0.index(length), cuts.1.index(length)));
        }
    }
}

#[test]
fn states_of_different_aggregates_do_not_merge() {
    let double = Some(&arrow::datatypes::DataType::Float64);
    let (min, max) = (
        crate::bind("min", false, false, double).unwrap(),
        crate::bind("max", false, false, double).unwrap(),
    );
    let error = min.partial().merge(&*max.partial()).unwrap_err();
    assert_eq!(error, Error::StateMismatch { aggregate: "min" });
}
