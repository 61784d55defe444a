//! Reading given keys of an entity without operators and arrays.
//!
//! It is the same read as that of [`OnlineLookupExec`], for plans that are nothing else: keys and
//! an instant that are parameters or constants, and columns that are taken as they are read.
//! Whatever else there may be it leaves to the operator.

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use asofdb_storage::key::{KeyPart, encode_key_into};
use asofdb_udfs::{Value, ValueList};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::scalar::ScalarValue;
use hashbrown::HashSet;
use smallvec::SmallVec;

use super::online_lookup::{KeyAccess, KeyColumn, OnlineLookupExec, TrackRead};
use crate::error::Result;
use crate::functions::parameter_of;
use crate::key::{key_part, scalar_part};
use crate::maintain::{ReadOrder, Timelines};
use crate::types::instant_type;

/// More keys than these are for the operator, which counts the memory of their rows.
const KEYS_MAX: usize = 1000;

/// The values of a key column that a running statement has.
type Parts<'a> = SmallVec<[KeyPart<'a>; 1]>;

/// A value that a running statement has.
#[derive(Debug)]
enum Operand {
    /// That of a parameter. The one after the last is the statement's instant.
    Parameter(usize),
    /// Always this one.
    Constant(ScalarValue),
}

/// The values of a key column.
#[derive(Debug)]
enum KeyOperands {
    /// One operand a value.
    List(Vec<Operand>),
    /// All of them as an array.
    Array(Operand),
}

/// A lookup of given keys.
#[derive(Debug)]
pub struct DirectLookup {
    /// One for each key column, of its type.
    keys: Vec<KeyOperands>,
    as_of: Operand,
    reads: Vec<TrackRead>,
    timelines: Arc<Timelines>,
    /// Where the columns of the result are.
    places: Vec<Place>,
    schema: SchemaRef,
}

/// Where a column of the result is: in the table of the keys, or in that of a read, which follow.
#[derive(Clone, Copy, Debug)]
struct Place {
    table: usize,
    column: usize,
}

/// The values of each key that a part of a lookup gives, among all values.
#[derive(Debug)]
struct Table {
    start: usize,
    width: usize,
    order: ReadOrder,
}

/// What a lookup has found.
#[derive(Debug)]
pub struct Found {
    lookup: Arc<DirectLookup>,
    rows: usize,
    values: ValueList,
    tables: SmallVec<[Table; 4]>,
}

impl Found {
    /// The columns of the result.
    pub fn schema(&self) -> &SchemaRef {
        &self.lookup.schema
    }

    /// The number of rows: one for each key that is not NULL.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The values of a row, column by column.
    pub fn row(&self, row: usize) -> impl Iterator<Item = &Value> {
        let values = self.values.as_slice();
        self.lookup.places.iter().map(move |&Place { table, column }| {
            let table = &self.tables[table];
            &values[table.start + table.order.place(row) * table.width + column]
        })
    }
}

impl DirectLookup {
    /// What a plan reads, if it is a lookup of given keys and nothing else.
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<DirectLookup> {
        let projection = plan.downcast_ref::<ProjectionExec>();
        let input = projection.map_or(plan, ProjectionExec::input);
        let lookup = input.downcast_ref::<OnlineLookupExec>()?.lookup();
        let read = lookup.places.as_ref()?;
        if !lookup.reads.iter().all(TrackRead::is_online) {
            return None;
        }
        let read = match projection {
            None => read.clone(),
            Some(projection) => {
                let column = |expr: &Arc<dyn PhysicalExpr>| {
                    read.get(expr.downcast_ref::<Column>()?.index()).copied()
                };
                projection
                    .expr()
                    .iter()
                    .map(|output| column(&output.expr))
                    .collect::<Option<_>>()?
            }
        };
        let KeyAccess::Given(columns) = &lookup.keys else { return None };
        let fields = columns.iter().zip(&lookup.entity.key);
        let keys = fields.map(|(column, field)| KeyOperands::of(column, field.data_type()));
        let keys: Vec<_> = keys.collect::<Option<_>>()?;
        let schema = plan.schema();
        if !schema.fields().iter().all(|field| is_value(field.data_type())) {
            return None;
        }
        let calls = lookup.reads.iter().map(|read| read.calls.len());
        let widths: Vec<usize> = std::iter::once(keys.len()).chain(calls).collect();
        let place = |mut column: usize| {
            let mut table = 0;
            while column >= *widths.get(table)? {
                column -= widths[table];
                table += 1;
            }
            Some(Place { table, column })
        };
        Some(DirectLookup {
            keys,
            as_of: Operand::of(&lookup.as_of, &instant_type())?,
            reads: lookup.reads.clone(),
            timelines: Arc::clone(&lookup.timelines),
            places: read.into_iter().map(place).collect::<Option<_>>()?,
            schema,
        })
    }

    /// Reads the rows, with `now` as the statement's instant. `None` if it is for the operator.
    ///
    /// # Errors
    /// Those of the operator.
    pub async fn read(
        self: &Arc<Self>,
        parameters: &[ScalarValue],
        now: i64,
    ) -> Result<Option<Found>> {
        let Some(instant) = self.instant(parameters, now) else { return Ok(None) };
        let mut columns: SmallVec<[Parts<'_>; 1]> = SmallVec::new();
        for operands in &self.keys {
            let Some(parts) = operands.parts(parameters)? else { return Ok(None) };
            columns.push(parts);
        }
        let combinations = columns.iter().map(|parts| parts.len()).try_fold(1, usize::checked_mul);
        let Some(combinations) = combinations.filter(|number| *number <= KEYS_MAX) else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(combinations * self.keys.len() * 16);
        let mut ends: SmallVec<[usize; 1]> = SmallVec::with_capacity(combinations);
        for combination in 0..combinations {
            let parts: SmallVec<[_; 1]> = combined(&columns, combination).collect();
            encode_key_into(&mut bytes, &parts);
            ends.push(bytes.len());
        }
        let width: usize = self.reads.iter().map(|read| read.calls.len()).sum();
        let mut values = ValueList::with_capacity(combinations * (self.keys.len() + width));
        let mut keys: SmallVec<[&[u8]; 1]> = SmallVec::with_capacity(combinations);
        // A key that is given twice is read once.
        let mut seen = HashSet::with_capacity(if combinations > 1 { combinations } else { 0 });
        let mut start = 0;
        for (combination, &end) in ends.iter().enumerate() {
            let key = &bytes[start..end];
            start = end;
            if combinations == 1 || seen.insert(key) {
                keys.push(key);
                for part in combined(&columns, combination) {
                    values.push(match part {
                        KeyPart::Int(value) => Value::Long(value),
                        KeyPart::Text(text) => Value::Text(text.into()),
                        KeyPart::Bool(value) => Value::Bool(value),
                        KeyPart::Bytes(_) => return Ok(None),
                    });
                }
            }
        }
        fail::fail_point!("lookup::read");
        let mut tables = SmallVec::with_capacity(1 + self.reads.len());
        tables.push(Table { start: 0, width: self.keys.len(), order: ReadOrder::default() });
        for TrackRead { track, calls } in &self.reads {
            let start = values.as_slice().len();
            let read = self.timelines.read_values(track, calls, &keys, instant, &mut values);
            match read.await {
                Err(error) if error.is_forgotten() => return Ok(None),
                order => tables.push(Table { start, width: calls.len(), order: order? }),
            }
        }
        Ok(Some(Found { lookup: Arc::clone(self), rows: keys.len(), values, tables }))
    }

    fn instant(&self, parameters: &[ScalarValue], now: i64) -> Option<i64> {
        match &self.as_of {
            Operand::Parameter(place) if *place == parameters.len() => Some(now),
            other => match other.value(parameters)? {
                ScalarValue::TimestampMicrosecond(instant, _) => *instant,
                _ => None,
            },
        }
    }
}

impl KeyOperands {
    /// What a key column's values are, if they are of its type as they stand.
    fn of(column: &KeyColumn, wanted: &DataType) -> Option<KeyOperands> {
        match column {
            KeyColumn::List(list) => {
                let operands = list.iter().map(|value| Operand::of(value, wanted));
                Some(KeyOperands::List(operands.collect::<Option<_>>()?))
            }
            KeyColumn::Array(array) => {
                let wanted = DataType::new_list(wanted.clone(), true);
                Operand::of(array, &wanted).map(KeyOperands::Array)
            }
        }
    }

    /// The values that are not NULL, which is no key; `None` if they are for the operator.
    fn parts<'a>(&'a self, parameters: &'a [ScalarValue]) -> Result<Option<Parts<'a>>> {
        let mut parts = Parts::new();
        match self {
            KeyOperands::List(operands) => {
                for operand in operands {
                    let Some(value) = operand.value(parameters) else { return Ok(None) };
                    parts.extend(scalar_part(value)?);
                }
            }
            KeyOperands::Array(operand) => {
                let Some(ScalarValue::List(array)) = operand.value(parameters) else {
                    return Ok(None);
                };
                if array.len() != 1 {
                    return Ok(None);
                }
                if array.is_valid(0) {
                    let (values, offsets) = (array.values(), array.value_offsets());
                    for row in offsets[0] as usize..offsets[1] as usize {
                        if values.is_valid(row) {
                            parts.push(key_part(values, row)?);
                        }
                    }
                }
            }
        }
        Ok(Some(parts))
    }
}

/// The parts of one of the combinations of a value from each column, the last varying fastest.
fn combined<'a>(columns: &[Parts<'a>], combination: usize) -> impl Iterator<Item = KeyPart<'a>> {
    let mut after: usize = columns.iter().map(|parts| parts.len()).product();
    columns.iter().map(move |parts| {
        after /= parts.len();
        parts[combination / after % parts.len()]
    })
}

impl Operand {
    /// What an expression is, if it is of the wanted type as it stands.
    fn of(expr: &Arc<dyn PhysicalExpr>, wanted: &DataType) -> Option<Operand> {
        if let Some((place, data_type)) = parameter_of(expr) {
            return (data_type == wanted).then_some(Operand::Parameter(place));
        }
        let value = expr.downcast_ref::<Literal>()?.value();
        (value.data_type() == *wanted).then(|| Operand::Constant(value.clone()))
    }

    fn value<'a>(&'a self, parameters: &'a [ScalarValue]) -> Option<&'a ScalarValue> {
        match self {
            Operand::Parameter(place) => parameters.get(*place),
            Operand::Constant(value) => Some(value),
        }
    }
}

/// Whether a [`Value`] and the type are all there is to know of a column's value.
fn is_value(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..)
            | DataType::Boolean
            | DataType::Utf8
            | DataType::Date32
            | DataType::Timestamp(TimeUnit::Microsecond, _)
    )
}
