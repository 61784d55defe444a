//! One value of a row, and the columns of a timeline's chunk.

use arrow::array::AsArray;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use smallvec::{Array, SmallVec};

use super::{Physical, physical, run};

/// A value of any kind that is not NULL.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// An integer, a date (days) or a timestamp (microseconds).
    Long(i64),
    /// A floating-point number.
    Double(f64),
    /// A decimal without its scale.
    Decimal(i128),
    /// A boolean.
    Bool(bool),
    /// A string.
    Text(&'a str),
}

/// The value of `row`: `None` if the array is of an unsupported type, `Some(None)` for NULL.
///
/// The row must lie within the array.
pub(crate) fn cell_at(array: &dyn arrow::array::Array, row: usize) -> Option<Option<Cell<'_>>> {
    let cell = match array.data_type() {
        DataType::Int64 => Cell::Long(array.as_primitive_opt::<Int64Type>()?.value(row)),
        DataType::Int32 => Cell::Long(array.as_primitive_opt::<Int32Type>()?.value(row).into()),
        DataType::Int16 => Cell::Long(array.as_primitive_opt::<Int16Type>()?.value(row).into()),
        DataType::Date32 => Cell::Long(array.as_primitive_opt::<Date32Type>()?.value(row).into()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Cell::Long(array.as_primitive_opt::<TimestampMicrosecondType>()?.value(row))
        }
        DataType::Float64 => {
            Cell::Double(run::canonical(array.as_primitive_opt::<Float64Type>()?.value(row)))
        }
        DataType::Float32 => {
            let value = f64::from(array.as_primitive_opt::<Float32Type>()?.value(row));
            Cell::Double(run::canonical(value))
        }
        DataType::Decimal128(_, _) => {
            Cell::Decimal(array.as_primitive_opt::<Decimal128Type>()?.value(row))
        }
        DataType::Boolean => Cell::Bool(array.as_boolean_opt()?.value(row)),
        DataType::Utf8 => Cell::Text(array.as_string_opt::<i32>()?.value(row)),
        _ => return None,
    };
    Some(array.is_valid(row).then_some(cell))
}

/// One column of a chunk of at most 128 rows.
#[derive(Debug, Clone)]
pub struct Cells {
    /// Bit `i` says that row `i` is not NULL.
    pub(crate) valid: u128,
    /// The values; anything where NULL.
    pub(crate) values: Values,
}

/// The values of a column of a chunk. Most keys have few events: one or two need no memory of
/// their own, which a read would have to wait for.
#[derive(Debug, Clone)]
pub enum Values {
    Long(SmallVec<[i64; 2]>),
    Double(SmallVec<[f64; 2]>),
    Decimal(SmallVec<[i128; 1]>),
    Bool(u128),
    Text(SmallVec<[Box<str>; 1]>),
}

impl Cells {
    /// An empty column; a type that no events can have is never read and kept as booleans.
    pub(crate) fn new(data_type: &DataType) -> Self {
        let values = match physical(data_type) {
            Some(Physical::Long) => Values::Long(SmallVec::new()),
            Some(Physical::Double) => Values::Double(SmallVec::new()),
            Some(Physical::Decimal) => Values::Decimal(SmallVec::new()),
            Some(Physical::Text) => Values::Text(SmallVec::new()),
            Some(Physical::Bool) | None => Values::Bool(0),
        };
        Cells { valid: 0, values }
    }

    /// Bit `i` says that the column is boolean and row `i` is true.
    pub(crate) fn truths(&self) -> u128 {
        match self.values {
            Values::Bool(bits) => bits & self.valid,
            _ => 0,
        }
    }

    /// Inserts a value before `row`; a cell of another kind is kept as NULL.
    pub(crate) fn insert(&mut self, row: usize, cell: Option<Cell<'_>>) {
        let mut fits = true;
        match (&mut self.values, cell) {
            (Values::Long(values), Some(Cell::Long(value))) => values.insert(row, value),
            (Values::Double(values), Some(Cell::Double(value))) => values.insert(row, value),
            (Values::Decimal(values), Some(Cell::Decimal(value))) => values.insert(row, value),
            (Values::Text(values), Some(Cell::Text(value))) => values.insert(row, value.into()),
            (Values::Bool(bits), Some(Cell::Bool(value))) => *bits = insert_bit(*bits, row, value),
            (values, _) => {
                fits = false;
                insert_default(values, row);
            }
        }
        self.valid = insert_bit(self.valid, row, fits);
    }

    /// Moves the rows from `row` on into a new column.
    pub(crate) fn split_off(&mut self, row: usize) -> Cells {
        let values = match &mut self.values {
            Values::Long(values) => Values::Long(split_values(values, row)),
            Values::Double(values) => Values::Double(split_values(values, row)),
            Values::Decimal(values) => Values::Decimal(split_values(values, row)),
            Values::Text(values) => Values::Text(split_values(values, row)),
            Values::Bool(bits) => Values::Bool(split_bits(bits, row)),
        };
        Cells { valid: split_bits(&mut self.valid, row), values }
    }
}

fn insert_default(values: &mut Values, row: usize) {
    match values {
        Values::Long(values) => values.insert(row, 0),
        Values::Double(values) => values.insert(row, 0.0),
        Values::Decimal(values) => values.insert(row, 0),
        Values::Text(values) => values.insert(row, Box::default()),
        Values::Bool(bits) => *bits = insert_bit(*bits, row, false),
    }
}

/// Inserts a bit before bit `row` (below 128); the top bit is lost.
fn insert_bit(bits: u128, row: usize, bit: bool) -> u128 {
    let below = bits & ((1 << row) - 1);
    let above = (bits >> row) << row;
    below | (above << 1) | (u128::from(bit) << row)
}

/// Moves the values from `row` on into a vector without room for more.
pub(crate) fn split_values<A: Array>(values: &mut SmallVec<A>, row: usize) -> SmallVec<A> {
    let above: Vec<A::Item> = values.drain(row..).collect();
    SmallVec::from_vec(above)
}

/// Cuts the bits from `row` (below 128) on off.
fn split_bits(bits: &mut u128, row: usize) -> u128 {
    let above = *bits >> row;
    *bits &= (1 << row) - 1;
    above
}
