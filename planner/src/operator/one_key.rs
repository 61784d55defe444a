//! Reading one key of an entity without operators and arrays.
//!
//! It is the same read as that of [`OnlineLookupExec`], for plans that are nothing else: one key,
//! whose parts and instant are parameters or constants, and columns that are taken as they are
//! read. Whatever else there may be it leaves to the operator.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use asofdb_storage::key::{KeyPart, encode_key_into};
use asofdb_udfs::{Row, Value};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::scalar::ScalarValue;

use super::online_lookup::{KeyAccess, KeyColumn, OnlineLookupExec, TrackRead};
use crate::error::Result;
use crate::functions::parameter_of;
use crate::key::scalar_part;
use crate::maintain::Timelines;
use crate::types::instant_type;

/// A value that a running statement has.
#[derive(Debug)]
enum Operand {
    /// That of a parameter. The one after the last is the statement's instant.
    Parameter(usize),
    /// Always this one.
    Constant(ScalarValue),
}

/// A lookup of one key.
#[derive(Debug)]
pub struct OneKey {
    /// One for each key column, of its type.
    key: Vec<Operand>,
    as_of: Operand,
    reads: Vec<TrackRead>,
    timelines: Arc<Timelines>,
    /// How many values are read: those of the key, and those of the calls.
    width: usize,
    /// Which of them the columns of the result are.
    places: Vec<usize>,
    schema: SchemaRef,
}

/// What a lookup of one key has found.
#[derive(Debug)]
pub struct Found {
    lookup: Arc<OneKey>,
    /// `None` if the key is NULL, which is no key.
    row: Option<Row>,
}

impl Found {
    /// The columns of the result.
    pub fn schema(&self) -> &SchemaRef {
        &self.lookup.schema
    }

    /// The values of the one row, column by column; `None` if there is no row.
    pub fn row(&self) -> Option<impl Iterator<Item = &Value>> {
        let values = self.row.as_ref()?.values();
        Some(self.lookup.places.iter().map(|&place| &values[place]))
    }
}

impl OneKey {
    /// What a plan reads, if it is a lookup of one key and nothing else.
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<OneKey> {
        let projection = plan.downcast_ref::<ProjectionExec>();
        let input = projection.map_or(plan, ProjectionExec::input);
        let lookup = input.downcast_ref::<OnlineLookupExec>()?.lookup();
        let places = lookup.places.as_ref()?;
        if !lookup.reads.iter().all(TrackRead::is_online) {
            return None;
        }
        let places = match projection {
            None => places.clone(),
            Some(projection) => {
                let column = |expr: &Arc<dyn PhysicalExpr>| {
                    places.get(expr.downcast_ref::<Column>()?.index()).copied()
                };
                projection
                    .expr()
                    .iter()
                    .map(|output| column(&output.expr))
                    .collect::<Option<_>>()?
            }
        };
        let KeyAccess::Given(columns) = &lookup.keys else { return None };
        let operand = |(column, field): (&KeyColumn, &arrow::datatypes::Field)| match column {
            KeyColumn::List(list) => match list.as_slice() {
                [value] => Operand::of(value, field.data_type()),
                _ => None,
            },
            KeyColumn::Array(_) => None,
        };
        let key = columns.iter().zip(&lookup.entity.key).map(operand).collect::<Option<_>>()?;
        let schema = plan.schema();
        if !schema.fields().iter().all(|field| is_value(field.data_type())) {
            return None;
        }
        Some(OneKey {
            key,
            as_of: Operand::of(&lookup.as_of, &instant_type())?,
            reads: lookup.reads.clone(),
            timelines: Arc::clone(&lookup.timelines),
            width: lookup.read_schema.fields().len(),
            places,
            schema,
        })
    }

    /// Reads the row, with `now` as the statement's instant. `None` if it is for the operator.
    ///
    /// # Errors
    /// Those of the operator.
    pub async fn read(
        self: &Arc<Self>,
        parameters: &[ScalarValue],
        now: i64,
    ) -> Result<Option<Found>> {
        let Some(instant) = self.instant(parameters, now) else { return Ok(None) };
        let mut key = Vec::with_capacity(self.key.len() * 16);
        let mut row = Row::with_capacity(self.width);
        for operand in &self.key {
            let Some(value) = operand.value(parameters) else { return Ok(None) };
            let Some(part) = scalar_part(value)? else {
                return Ok(Some(Found { lookup: Arc::clone(self), row: None }));
            };
            encode_key_into(&mut key, &[part]);
            row.push(match part {
                KeyPart::Int(value) => Value::Long(value),
                KeyPart::Text(text) => Value::Text(text.into()),
                KeyPart::Bool(value) => Value::Bool(value),
                KeyPart::Bytes(_) => return Ok(None),
            });
        }
        fail::fail_point!("lookup::read");
        for TrackRead { track, calls } in &self.reads {
            match self.timelines.read_row(track, calls, &key, instant, &mut row).await {
                Err(error) if error.is_forgotten() => return Ok(None),
                done => done?,
            }
        }
        Ok(Some(Found { lookup: Arc::clone(self), row: Some(row) }))
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
