//! `VALUES` of literals and parameters, made into columns without a plan.
//!
//! A value goes the way of DataFusion's expression of it: it has the type of its literal (whole
//! numbers are BIGINT, other numbers DOUBLE PRECISION, texts TEXT), is cast to the type that is
//! written beside it, if one is, and then to that of its column. Here each step is one call of the
//! same kernels for all values of a column.
//!
//! Whatever else a row holds (calls, operators, `DEFAULT`, queries), and every value that a cast
//! refuses, is left to the plan, which gives the errors too: this file has no message.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{can_cast_types, interleave};
use arrow::datatypes::DataType;
use asofdb_sql::{fold, fold_name};
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;
use sqlparser::ast::{
    CastKind, Expr, Insert, ObjectName, Parens, Query, SetExpr, TableObject, TypedString,
    UnaryOperator, Value, Values,
};

use super::writable;
use crate::catalog::{Catalog, Source};
use crate::parameters::{PARAMETERS_MAX, Uses, settle};
use crate::planning::SCHEMA;
use crate::source_table::nullable;
use crate::types::arrow_type;

/// The rows of an `INSERT`, each as long as its list of columns.
pub struct LiteralRows<'a> {
    /// Where they go.
    pub source: &'a Arc<Source>,
    rows: &'a [Parens<Vec<Expr>>],
    /// The columns of the source that the values of a row go to, in their order.
    columns: Vec<usize>,
}

impl<'a> LiteralRows<'a> {
    /// The rows, if the statement is `INSERT INTO source [(column, …)] VALUES …` and nothing more.
    /// Their values are not looked at yet.
    pub fn of(catalog: &'a Catalog, insert: &'a Insert) -> Option<Self> {
        let rows = values(insert)?;
        let source = source(catalog, insert)?;
        let columns = match insert.columns.as_slice() {
            [] => (0..source.schema.fields().len()).collect(),
            names => named_columns(source, names)?,
        };
        let whole = rows.iter().all(|row| row.len() == columns.len());
        whole.then_some(LiteralRows { source, rows, columns })
    }

    /// The parameters' types, as a plan of the rows has them. `None` if it takes a plan.
    pub fn parameter_types(&self, declared: &[Option<DataType>]) -> Option<Vec<DataType>> {
        let mut uses = BTreeMap::<usize, Uses>::new();
        for (expr, target) in self.cells() {
            match item(expr)? {
                (Item::Parameter(index), None) => {
                    // Of several columns the last one in the text counts.
                    uses.entry(index).or_default().needed = Some(target.clone());
                }
                (Item::Parameter(index), Some(written)) => {
                    uses.entry(index).or_default().suggested.get_or_insert(written);
                }
                (Item::Literal(_), _) => {}
            }
        }
        let types = settle(declared, uses);
        self.cells().all(|(expr, target)| can_be(expr, &types, target)).then_some(types)
    }

    /// All columns of the source; those that are not named are NULL. `None` if it takes a plan, or
    /// a value does not become one of its column's type.
    pub fn batch(&self, parameters: &[ScalarValue]) -> Option<RecordBatch> {
        let schema = nullable(&self.source.schema);
        let column = |(index, target)| match self.columns.iter().position(|c| *c == index) {
            None => Some(new_null_array(target, self.rows.len())),
            Some(place) => self.column(place, target, parameters),
        };
        let types = schema.fields().iter().map(|field| field.data_type());
        let columns = types.enumerate().map(column).collect::<Option<Vec<_>>>()?;
        RecordBatch::try_new(schema, columns).ok()
    }

    /// The values with the types of their columns, in the order of the text.
    fn cells(&self) -> impl Iterator<Item = (&'a Expr, &'a DataType)> + '_ {
        let fields = self.source.schema.fields();
        self.rows.iter().flat_map(move |row| {
            let values = row.content.iter().zip(&self.columns);
            values.map(|(expr, column)| (expr, fields[*column].data_type()))
        })
    }

    /// The values at one place of all rows.
    fn column(
        &self,
        place: usize,
        target: &DataType,
        parameters: &[ScalarValue],
    ) -> Option<ArrayRef> {
        let mut parts: Vec<Part> = Vec::new();
        let mut order = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            let (item, written) = item(row.get(place)?)?;
            let value = match item {
                Item::Literal(value) => value,
                Item::Parameter(index) => parameters.get(index)?.clone(),
            };
            let own = value.data_type();
            let known = parts.iter().position(|part| part.own == own && part.written == written);
            let part = known.unwrap_or_else(|| {
                parts.push(Part { own, written, values: Vec::new() });
                parts.len() - 1
            });
            order.push((part, parts[part].values.len()));
            parts[part].values.push(value);
        }
        let arrays = parts.into_iter().map(|part| part.cast(target)).collect::<Option<Vec<_>>>()?;
        match arrays.as_slice() {
            [array] => Some(Arc::clone(array)),
            arrays => {
                let arrays: Vec<_> = arrays.iter().map(AsRef::as_ref).collect();
                interleave(&arrays, &order).ok()
            }
        }
    }
}

/// Values of a column that are cast alike.
struct Part {
    own: DataType,
    written: Option<DataType>,
    values: Vec<ScalarValue>,
}

impl Part {
    fn cast(self, target: &DataType) -> Option<ArrayRef> {
        let mut array = ScalarValue::iter_to_array(self.values).ok()?;
        for target in self.written.iter().chain([target]) {
            let rows = array.len();
            array =
                ColumnarValue::Array(array).cast_to(target, None).ok()?.into_array(rows).ok()?;
        }
        Some(array)
    }
}

/// What stands for a value.
enum Item {
    Literal(ScalarValue),
    /// The index of a parameter: 0 for `$1`.
    Parameter(usize),
}

/// A value and the type that is written beside it: `TIMESTAMPTZ '…'`, `'…'::DATE`, `CAST (…)`.
fn item(expr: &Expr) -> Option<(Item, Option<DataType>)> {
    match expr {
        Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: false }) => {
            let text @ Value::SingleQuotedString(_) = &value.value else { return None };
            Some((plain(text)?, Some(arrow_type(data_type).ok()?)))
        }
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            array: false,
            format: None,
        } => Some((simple(expr)?, Some(arrow_type(data_type).ok()?))),
        expr => Some((simple(expr)?, None)),
    }
}

/// A value or a number with a minus before it.
fn simple(expr: &Expr) -> Option<Item> {
    match expr {
        Expr::Value(value) => plain(&value.value),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => number(&format!("-{digits}")),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn plain(value: &Value) -> Option<Item> {
    Some(match value {
        Value::Number(digits, _) => return number(digits),
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
            Item::Literal(ScalarValue::from(text.as_str()))
        }
        Value::Boolean(truth) => Item::Literal(ScalarValue::from(*truth)),
        Value::Null => Item::Literal(ScalarValue::Null),
        Value::Placeholder(id) => {
            let number: usize = id.strip_prefix('$')?.parse().ok()?;
            let known = (1..=PARAMETERS_MAX).contains(&number) && *id == format!("${number}");
            return known.then(|| Item::Parameter(number - 1));
        }
        _ => return None,
    })
}

/// A whole number of eight bytes, with a sign or without, or else a float.
fn number(text: &str) -> Option<Item> {
    let signed = text.parse::<i64>().map(ScalarValue::from);
    let whole = signed.or_else(|_| text.parse::<u64>().map(ScalarValue::from));
    whole.or_else(|_| text.parse::<f64>().map(ScalarValue::from)).ok().map(Item::Literal)
}

/// Whether a plan casts such a value to this type.
fn can_be(expr: &Expr, parameters: &[DataType], target: &DataType) -> bool {
    let Some((item, written)) = item(expr) else { return false };
    let own = match item {
        Item::Literal(value) => value.data_type(),
        Item::Parameter(index) => parameters.get(index).cloned().unwrap_or(DataType::Null),
    };
    let steps = [Some(own), written, Some(target.clone())];
    let steps: Vec<_> = steps.into_iter().flatten().collect();
    steps.windows(2).all(|step| step[0] == step[1] || can_cast_types(&step[0], &step[1]))
}

/// The source that a statement writes to, if it names one that can be written.
fn source<'a>(catalog: &'a Catalog, insert: &Insert) -> Option<&'a Arc<Source>> {
    let TableObject::TableName(name) = &insert.table else { return None };
    match fold_name(name).as_slice() {
        [name] => writable(catalog, name).ok(),
        [schema, name] if schema == SCHEMA => writable(catalog, name).ok(),
        _ => None,
    }
}

/// The columns of these names, each once.
fn named_columns(source: &Source, names: &[ObjectName]) -> Option<Vec<usize>> {
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let [part] = name.0.as_slice() else { return None };
        let column = source.schema.index_of(&fold(part.as_ident()?)).ok()?;
        if columns.contains(&column) {
            return None;
        }
        columns.push(column);
    }
    Some(columns)
}

/// The rows of a statement that has no other clauses.
fn values(insert: &Insert) -> Option<&[Parens<Vec<Expr>>]> {
    let source = insert.source.as_deref()?;
    let SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows }) =
        source.body.as_ref()
    else {
        return None;
    };
    (is_plain_insert(insert) && is_plain_query(source)).then_some(rows)
}

/// Names every clause, so that a new one is not passed over.
fn is_plain_insert(insert: &Insert) -> bool {
    let Insert {
        insert_token: _,
        optimizer_hints,
        or: None,
        ignore: false,
        into: true,
        table: _,
        table_alias: None,
        columns: _,
        overwrite: false,
        source: _,
        assignments,
        partitioned: None,
        after_columns,
        has_table_keyword: false,
        on: None,
        returning: None,
        output: None,
        replace_into: false,
        priority: None,
        insert_alias: None,
        settings: None,
        format_clause: None,
        multi_table_insert_type: None,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause: None,
    } = insert
    else {
        return false;
    };
    optimizer_hints.is_empty()
        && assignments.is_empty()
        && after_columns.is_empty()
        && multi_table_into_clauses.is_empty()
        && multi_table_when_clauses.is_empty()
}

fn is_plain_query(query: &Query) -> bool {
    let Query {
        with: None,
        body: _,
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return false;
    };
    locks.is_empty() && pipe_operators.is_empty()
}

#[cfg(test)]
mod tests;
