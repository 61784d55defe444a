//! The judge: what an aggregate is, by rational arithmetic, loops and sorting.

use std::cmp::Ordering;
use std::collections::HashSet;

use arrow::datatypes::DataType;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::float::FloatCore;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::datum::Datum;
use crate::Meta;

/// The sum is out of range.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OutOfRange;

/// The value of an aggregate over rows in the order of events, NULLs included.
pub(super) fn aggregate(meta: &Meta, rows: &[Option<Datum>]) -> Result<Option<Datum>, OutOfRange> {
    let values: Vec<&Datum> = rows.iter().flatten().collect();
    let value = match (meta.name, meta.distinct) {
        ("count", true) => Some(Datum::Int(distinct(&values))),
        ("count", _) if meta.argument.is_none() => Some(Datum::Int(rows.len() as i64)),
        ("count", _) => Some(Datum::Int(values.len() as i64)),
        ("first_value", _) if meta.ignore_nulls => values.first().copied().cloned(),
        ("last_value", _) if meta.ignore_nulls => values.last().copied().cloned(),
        ("first_value", _) => rows.first().cloned().flatten(),
        ("last_value", _) => rows.last().cloned().flatten(),
        ("min", _) => values.into_iter().min_by(|a, b| order(a, b)).cloned(),
        ("max", _) => values.into_iter().max_by(|a, b| order(a, b)).cloned(),
        _ if values.is_empty() => None,
        ("bool_and", _) => Some(Datum::Bool(!values.contains(&&Datum::Bool(false)))),
        ("bool_or", _) => Some(Datum::Bool(values.contains(&&Datum::Bool(true)))),
        ("bit_and", _) => Some(bits(&values, |with| with == values.len())),
        ("bit_or", _) => Some(bits(&values, |with| with > 0)),
        ("bit_xor", _) => Some(bits(&values, |with| with % 2 == 1)),
        ("sum", _) => Some(sum(meta, &values)?),
        ("avg", _) => Some(Datum::Double(avg(meta, &values))),
        (name, _) => spread(name, meta, &values).map(Datum::Double),
    };
    Ok(value)
}

fn distinct(values: &[&Datum]) -> i64 {
    let name = |value: &&Datum| match value {
        Datum::Double(value) if *value == 0.0 => "zero".to_owned(),
        other => format!("{other:?}"),
    };
    values.iter().map(name).collect::<HashSet<_>>().len() as i64
}

/// The integer of the bits for which `is_set` holds of how many values have the bit.
fn bits(values: &[&Datum], is_set: impl Fn(usize) -> bool) -> Datum {
    let mut result = 0;
    for bit in 0..64 {
        let has_bit = |value: &&&Datum| match value {
            Datum::Int(value) => (value >> bit) & 1 == 1,
            other => panic!("{other:?}"),
        };
        if is_set(values.iter().filter(has_bit).count()) {
            result |= 1 << bit;
        }
    }
    Datum::Int(result)
}

fn order(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Int(a), Datum::Int(b)) => a.cmp(b),
        (Datum::Decimal(a), Datum::Decimal(b)) => a.cmp(b),
        (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Datum::Double(a), Datum::Double(b)) => match (a.is_nan(), b.is_nan()) {
            (false, false) if a == b => b.is_sign_negative().cmp(&a.is_sign_negative()),
            (false, false) => a.partial_cmp(b).unwrap(),
            (a, b) => a.cmp(&b),
        },
        _ => panic!("{a:?} and {b:?}"),
    }
}

/// What the integers of `scaled` are multiples of one over: the same for all values of a type.
fn unit(meta: &Meta) -> BigInt {
    match meta.argument {
        Some(DataType::Float32 | DataType::Float64) => BigInt::one() << 1074,
        Some(DataType::Decimal128(_, scale)) if scale > 0 => BigInt::from(10).pow(scale as u32),
        _ => BigInt::one(),
    }
}

/// The value times `unit`, an integer; `Err` is NaN or an infinity.
fn scaled(meta: &Meta, value: &Datum) -> Result<BigInt, f64> {
    match value {
        Datum::Int(value) => Ok(BigInt::from(*value)),
        Datum::Double(value) => {
            let (mantissa, exponent, sign) = FloatCore::integer_decode(*value);
            if !value.is_finite() {
                return Err(*value);
            }
            Ok(((BigInt::from(mantissa) * sign) << (exponent + 1075)) >> 1)
        }
        Datum::Decimal(value) => match meta.argument {
            Some(DataType::Decimal128(_, scale)) if scale < 0 => {
                Ok(BigInt::from(*value) * BigInt::from(10).pow(u32::from(scale.unsigned_abs())))
            }
            _ => Ok(BigInt::from(*value)),
        },
        other => panic!("{other:?}"),
    }
}

/// The exact sum times `unit`, or what NaN and infinities make of it.
fn exact_sum(meta: &Meta, values: &[&Datum]) -> Result<BigInt, f64> {
    let mut sum = BigInt::zero();
    let mut special: Option<f64> = None;
    for value in values {
        match scaled(meta, value) {
            Ok(value) => sum += value,
            // inf + -inf is NaN here, too.
            Err(value) => special = Some(special.unwrap_or(0.0) + value),
        }
    }
    match special {
        None => Ok(sum),
        Some(value) if value.is_nan() => Err(f64::NAN),
        Some(value) => Err(value),
    }
}

fn sum(meta: &Meta, values: &[&Datum]) -> Result<Datum, OutOfRange> {
    if let Some(DataType::Decimal128(_, _)) = meta.argument {
        let unscaled = |value: &&Datum| match value {
            Datum::Decimal(value) => BigInt::from(*value),
            other => panic!("{other:?}"),
        };
        let sum: BigInt = values.iter().map(unscaled).sum();
        if sum.abs() >= BigInt::from(10).pow(38) {
            return Err(OutOfRange);
        }
        return Ok(Datum::Decimal(sum.to_i128().unwrap()));
    }
    let sum = exact_sum(meta, values);
    match values[0] {
        Datum::Int(_) => sum.unwrap().to_i64().map(Datum::Int).ok_or(OutOfRange),
        _ => Ok(Datum::Double(match sum {
            Ok(sum) => nearest(&BigRational::new(sum, unit(meta))),
            Err(special) => special,
        })),
    }
}

fn avg(meta: &Meta, values: &[&Datum]) -> f64 {
    match exact_sum(meta, values) {
        Ok(sum) => nearest(&BigRational::new(sum, unit(meta) * BigInt::from(values.len()))),
        Err(special) => special,
    }
}

/// The variance as the mean of squared deviations, which is the documented formula in exact
/// arithmetic; decimals are rounded to doubles first.
fn spread(name: &str, meta: &Meta, values: &[&Datum]) -> Option<f64> {
    let sample = name.ends_with("samp");
    if sample && values.len() < 2 {
        return None;
    }
    if let Some(DataType::Decimal128(_, _)) = meta.argument {
        let unit = unit(meta);
        let double = |value: &&Datum| {
            let scaled = scaled(meta, value).unwrap();
            Datum::Double(nearest(&BigRational::new(scaled, unit.clone())))
        };
        let doubles: Vec<Datum> = values.iter().map(double).collect();
        let meta = Meta { argument: Some(DataType::Float64), ..meta.clone() };
        return spread(name, &meta, &doubles.iter().collect::<Vec<_>>());
    }
    let numbers: Result<Vec<_>, _> = values.iter().map(|value| scaled(meta, value)).collect();
    let Ok(numbers) = numbers else { return Some(f64::NAN) };
    let count = BigInt::from(values.len());
    let sum: BigInt = numbers.iter().sum();
    // n times each deviation is an integer.
    let squares: BigInt = numbers.iter().map(|x| (x * &count - &sum).pow(2)).sum();
    let divisor = if sample { &count - BigInt::one() } else { count.clone() };
    let divisor = divisor * &count * &count * unit(meta).pow(2);
    let variance = nearest(&BigRational::new(squares, divisor));
    Some(if name.starts_with("stddev") { variance.sqrt() } else { variance })
}

/// The double nearest to a rational, ties to even: counts units in the last place.
pub(super) fn nearest(value: &BigRational) -> f64 {
    if value.is_zero() {
        return 0.0;
    }
    let magnitude = value.abs();
    let two = |power: i64| match power < 0 {
        true => BigRational::new(BigInt::one(), BigInt::one() << power.unsigned_abs()),
        false => BigRational::from_integer(BigInt::one() << power as u64),
    };
    let mut top = magnitude.numer().bits() as i64 - magnitude.denom().bits() as i64;
    if magnitude < two(top) {
        top -= 1;
    }
    let place = (top - 52).max(-1074);
    let units = &magnitude / two(place);
    let mut whole = units.to_integer();
    let rest = units - BigRational::from_integer(whole.clone());
    let half = BigRational::new(BigInt::one(), BigInt::from(2));
    let odd = !(&whole % BigInt::from(2)).is_zero();
    if rest > half || (rest == half && odd) {
        whole += 1;
    }
    let rounded = BigRational::from_integer(whole.clone()) * two(place);
    let result = if rounded >= two(1024) {
        f64::INFINITY
    } else {
        // Both factors and the product are doubles.
        whole.to_u64().unwrap() as f64 * power_of_two(place)
    };
    if value.is_negative() { -result } else { result }
}

fn power_of_two(power: i64) -> f64 {
    if power >= -1022 {
        f64::from_bits(((power + 1023) as u64) << 52)
    } else {
        f64::from_bits(1 << (power + 1074))
    }
}

#[test]
fn the_judge_rounds_as_the_language_does() {
    let ratio = |a: i64, b: i64| nearest(&BigRational::new(a.into(), b.into()));
    for (a, b) in [(1, 3), (-2, 3), (10, 7), (1, 1 << 60), (i64::MAX >> 10, 3), (5, 1)] {
        assert_eq!(ratio(a, b).to_bits(), (a as f64 / b as f64).to_bits());
    }
    for value in [5e-324, f64::MIN_POSITIVE, f64::MAX, -1e-310, 0.1] {
        let exact = BigRational::from_float(value).unwrap();
        assert_eq!(nearest(&exact).to_bits(), value.to_bits());
    }
    let beyond = BigRational::from_float(f64::MAX).unwrap() * BigRational::new(3.into(), 2.into());
    assert_eq!(nearest(&beyond), f64::INFINITY);
}
