//! The five physical kinds that every supported Arrow type is computed in.
//!
//! | kind | Arrow types |
//! |---|---|
//! | [`Long`] | Int16, Int32, Int64, Date32, Timestamp(Microsecond, any zone) |
//! | [`Double`] | Float32 (widened, exact), Float64; every NaN becomes `f64::NAN` |
//! | [`Decimal`] | Decimal128 |
//! | [`Bool`] | Boolean |
//! | [`Text`] | Utf8 |
//!
//! A kernel is written once over [`Kind`] and monomorphised five times. This file knows values
//! and columns, not aggregates.

mod cell;
mod coded;
mod output;
mod run;

use std::cmp::Ordering;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};

use arrow::array::{Array, BooleanArray, BooleanBuilder, StringArray, StringBuilder};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, TimeUnit};

pub(crate) use cell::{Cells, Values, cell_at, split_values};
pub(crate) use coded::{put_cell, take_cell};
pub use output::Value;
pub(crate) use output::{Numbers, Output};

pub use cell::Cell;

/// Which kind a type is computed in; `None` if events cannot have columns of this type.
pub(crate) fn physical(data_type: &DataType) -> Option<Physical> {
    match data_type {
        DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Microsecond, _) => Some(Physical::Long),
        DataType::Float32 | DataType::Float64 => Some(Physical::Double),
        DataType::Decimal128(_, _) => Some(Physical::Decimal),
        DataType::Boolean => Some(Physical::Bool),
        DataType::Utf8 => Some(Physical::Text),
        _ => None,
    }
}

/// The name of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Physical {
    Long,
    Double,
    Decimal,
    Bool,
    Text,
}

/// One physical kind: how its values are read, compared, owned and written.
pub trait Kind: Debug + Copy + Send + Sync + 'static {
    /// A value, cheap to copy.
    type Value<'a>: Copy + Debug;
    /// A value that owns its bytes.
    type Owned: Clone + Debug + PartialEq + Send + Sync + 'static;
    /// Equal exactly when two values are not distinct.
    type Key: Clone + Debug + Eq + Hash + Send + Sync + 'static;
    /// A whole column of a run, for a sweep.
    type Run;
    /// A column of a chunk, for a timeline.
    type Store: ?Sized;
    /// A column being written.
    type Builder;

    /// The column of a run; `None` if the array is of another kind.
    fn run(array: &dyn Array) -> Option<Self::Run>;
    /// The value of a row that is not NULL.
    fn get(run: &Self::Run, row: usize) -> Self::Value<'_>;
    /// The column of a chunk; `None` if it is of another kind.
    fn store(values: &Values) -> Option<&Self::Store>;
    /// The value of a row that is not NULL.
    fn stored(store: &Self::Store, row: usize) -> Self::Value<'_>;
    /// The value in a cell; `None` if it is of another kind.
    fn cell(cell: Cell<'_>) -> Option<Self::Value<'_>>;
    /// Copies a value.
    fn own(value: Self::Value<'_>) -> Self::Owned;
    /// The copied value.
    fn borrow(owned: &Self::Owned) -> Self::Value<'_>;
    /// The order that `min` and `max` go by.
    fn compare(a: Self::Value<'_>, b: Self::Value<'_>) -> Ordering;
    /// The identity that `DISTINCT` goes by.
    fn key(value: Self::Value<'_>) -> Self::Key;
    /// Whether two values have one key.
    fn same(a: Self::Value<'_>, b: Self::Value<'_>) -> bool;
    /// The hash of a value's key.
    fn hash(value: Self::Value<'_>, hasher: &impl BuildHasher) -> u64;
    /// The column being written; `None` if it is of another kind.
    fn builder(output: &mut Output) -> Option<&mut Self::Builder>;
    /// Appends a value or NULL.
    fn push(builder: &mut Self::Builder, value: Option<Self::Value<'_>>);
    /// The value as one of any kind.
    fn value(value: Self::Value<'_>) -> Value;
    /// Appends the value's bytes.
    fn encode(value: Self::Value<'_>, out: &mut Vec<u8>);
    /// Takes a value off the front of what `encode` wrote; `None` if the bytes are damaged.
    fn decode(bytes: &mut &[u8]) -> Option<Self::Owned>;
    /// The key's bytes.
    fn encode_key(key: &Self::Key, out: &mut Vec<u8>);
    /// Takes a key off the front of what `encode_key` wrote.
    fn decode_key(bytes: &mut &[u8]) -> Option<Self::Key>;
}

/// Takes `N` bytes off the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

/// Integers, dates and timestamps.
#[derive(Debug, Clone, Copy)]
pub struct Long;

/// Floating-point numbers.
#[derive(Debug, Clone, Copy)]
pub struct Double;

/// Decimals, unscaled.
#[derive(Debug, Clone, Copy)]
pub struct Decimal;

/// Booleans.
#[derive(Debug, Clone, Copy)]
pub struct Bool;

/// Strings.
#[derive(Debug, Clone, Copy)]
pub struct Text;

/// The methods that are the same for the three kinds of numbers.
macro_rules! number {
    ($variant:ident, $native:ty) => {
        type Value<'a> = $native;
        type Owned = $native;
        type Run = ScalarBuffer<$native>;
        type Store = [$native];

        fn run(array: &dyn Array) -> Option<Self::Run> {
            run::$variant(array)
        }

        #[inline]
        fn get(run: &Self::Run, row: usize) -> $native {
            run[row]
        }

        fn store(values: &Values) -> Option<&Self::Store> {
            match values {
                Values::$variant(store) => Some(store),
                _ => None,
            }
        }

        #[inline]
        fn stored(store: &Self::Store, row: usize) -> $native {
            store[row]
        }

        fn cell(cell: Cell<'_>) -> Option<$native> {
            match cell {
                Cell::$variant(value) => Some(value),
                _ => None,
            }
        }

        #[inline]
        fn own(value: $native) -> $native {
            value
        }

        #[inline]
        fn borrow(owned: &$native) -> $native {
            *owned
        }

        fn builder(output: &mut Output) -> Option<&mut Self::Builder> {
            match output {
                Output::$variant(builder) => Some(builder),
                _ => None,
            }
        }

        #[inline]
        fn push(builder: &mut Self::Builder, value: Option<$native>) {
            builder.append_option(value);
        }

        #[inline]
        fn value(value: $native) -> Value {
            Value::$variant(value)
        }

        #[inline]
        fn same(a: $native, b: $native) -> bool {
            Self::key(a) == Self::key(b)
        }

        #[inline]
        fn hash(value: $native, hasher: &impl BuildHasher) -> u64 {
            hasher.hash_one(Self::key(value))
        }

        fn encode(value: $native, out: &mut Vec<u8>) {
            out.extend_from_slice(&value.to_le_bytes());
        }

        fn decode(bytes: &mut &[u8]) -> Option<$native> {
            take(bytes).map(<$native>::from_le_bytes)
        }

        fn encode_key(key: &Self::Key, out: &mut Vec<u8>) {
            out.extend_from_slice(&key.to_le_bytes());
        }

        fn decode_key(bytes: &mut &[u8]) -> Option<Self::Key> {
            take(bytes).map(Self::Key::from_le_bytes)
        }
    };
}

impl Kind for Long {
    type Key = i64;
    type Builder = Numbers<i64>;

    number!(Long, i64);

    #[inline]
    fn compare(a: i64, b: i64) -> Ordering {
        a.cmp(&b)
    }

    #[inline]
    fn key(value: i64) -> i64 {
        value
    }
}

impl Kind for Double {
    type Key = u64;
    type Builder = Numbers<f64>;

    number!(Double, f64);

    /// -0.0 < +0.0; NaN, which is canonical here, is greater than everything.
    #[inline]
    fn compare(a: f64, b: f64) -> Ordering {
        a.total_cmp(&b)
    }

    /// -0.0 is +0.0; NaN, which is canonical here, is itself.
    #[inline]
    fn key(value: f64) -> u64 {
        if value == 0.0 { 0 } else { value.to_bits() }
    }
}

impl Kind for Decimal {
    type Key = i128;
    type Builder = Numbers<i128>;

    number!(Decimal, i128);

    #[inline]
    fn compare(a: i128, b: i128) -> Ordering {
        a.cmp(&b)
    }

    #[inline]
    fn key(value: i128) -> i128 {
        value
    }
}

impl Kind for Bool {
    type Value<'a> = bool;
    type Owned = bool;
    type Key = bool;
    type Run = BooleanBuffer;
    type Store = u128;
    type Builder = BooleanBuilder;

    fn run(array: &dyn Array) -> Option<Self::Run> {
        array.as_any().downcast_ref::<BooleanArray>().map(|array| array.values().clone())
    }

    #[inline]
    fn get(run: &Self::Run, row: usize) -> bool {
        run.value(row)
    }

    fn store(values: &Values) -> Option<&u128> {
        match values {
            Values::Bool(store) => Some(store),
            _ => None,
        }
    }

    #[inline]
    fn stored(store: &u128, row: usize) -> bool {
        (store >> row) & 1 == 1
    }

    fn cell(cell: Cell<'_>) -> Option<bool> {
        match cell {
            Cell::Bool(value) => Some(value),
            _ => None,
        }
    }

    fn own(value: bool) -> bool {
        value
    }

    fn borrow(owned: &bool) -> bool {
        *owned
    }

    fn compare(a: bool, b: bool) -> Ordering {
        a.cmp(&b)
    }

    fn key(value: bool) -> bool {
        value
    }

    fn same(a: bool, b: bool) -> bool {
        a == b
    }

    fn hash(value: bool, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(value)
    }

    fn builder(output: &mut Output) -> Option<&mut Self::Builder> {
        match output {
            Output::Bool(builder) => Some(builder),
            _ => None,
        }
    }

    #[inline]
    fn push(builder: &mut Self::Builder, value: Option<bool>) {
        builder.append_option(value);
    }

    fn value(value: bool) -> Value {
        Value::Bool(value)
    }

    fn encode(value: bool, out: &mut Vec<u8>) {
        out.push(u8::from(value));
    }

    fn decode(bytes: &mut &[u8]) -> Option<bool> {
        match take(bytes)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn encode_key(key: &bool, out: &mut Vec<u8>) {
        Self::encode(*key, out);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<bool> {
        Self::decode(bytes)
    }
}

impl Kind for Text {
    type Value<'a> = &'a str;
    type Owned = Box<str>;
    type Key = Box<str>;
    type Run = StringArray;
    type Store = [Box<str>];
    type Builder = StringBuilder;

    fn run(array: &dyn Array) -> Option<Self::Run> {
        array.as_any().downcast_ref::<StringArray>().cloned()
    }

    #[inline]
    fn get(run: &Self::Run, row: usize) -> &str {
        run.value(row)
    }

    fn store(values: &Values) -> Option<&Self::Store> {
        match values {
            Values::Text(store) => Some(store),
            _ => None,
        }
    }

    #[inline]
    fn stored(store: &Self::Store, row: usize) -> &str {
        &store[row]
    }

    fn cell(cell: Cell<'_>) -> Option<&str> {
        match cell {
            Cell::Text(value) => Some(value),
            _ => None,
        }
    }

    fn own(value: &str) -> Box<str> {
        value.into()
    }

    fn borrow(owned: &Box<str>) -> &str {
        owned
    }

    #[inline]
    fn compare(a: &str, b: &str) -> Ordering {
        a.cmp(b)
    }

    fn key(value: &str) -> Box<str> {
        value.into()
    }

    #[inline]
    fn same(a: &str, b: &str) -> bool {
        a == b
    }

    #[inline]
    fn hash(value: &str, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(value)
    }

    fn builder(output: &mut Output) -> Option<&mut Self::Builder> {
        match output {
            Output::Text(builder) => Some(builder),
            _ => None,
        }
    }

    #[inline]
    fn push(builder: &mut Self::Builder, value: Option<&str>) {
        builder.append_option(value);
    }

    fn value(value: &str) -> Value {
        Value::Text(value.into())
    }

    fn encode(value: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(value.as_bytes());
    }

    fn decode(bytes: &mut &[u8]) -> Option<Box<str>> {
        let length = usize::try_from(u64::from_le_bytes(take(bytes)?)).ok()?;
        let (head, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        std::str::from_utf8(head).ok().map(Into::into)
    }

    fn encode_key(key: &Box<str>, out: &mut Vec<u8>) {
        Self::encode(key, out);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Box<str>> {
        Self::decode(bytes)
    }
}
