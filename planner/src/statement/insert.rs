//! `INSERT INTO source`.

mod literal_rows;

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{DmlStatement, LogicalPlan};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use sqlparser::ast::{Insert, TableObject};

use crate::catalog::{Catalog, Connector, Relation, Source};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::planning::Planning;
use crate::session::Outcome;
use crate::statement::copy::complete;
use literal_rows::LiteralRows;

/// Plans the rows to insert, with all columns of the source in order.
pub async fn plan(
    planning: &Planning,
    catalog: &Arc<Catalog>,
    insert: &Insert,
) -> Result<LogicalPlan> {
    target(catalog, insert)?;
    let unsupported = [
        ("ON CONFLICT", insert.on.is_some()),
        ("RETURNING", insert.returning.is_some()),
        ("OVERWRITE", insert.overwrite),
    ];
    if let Some((clause, _)) = unsupported.iter().find(|(_, given)| *given) {
        return Err(Error::unsupported(format!("INSERT … {clause} is not supported")));
    }
    match planning.plan_insert(catalog, insert).await? {
        LogicalPlan::Dml(DmlStatement { input, .. }) => Ok(input.as_ref().clone()),
        _ => Err(Error::Internal("INSERT is planned as such".into())),
    }
}

/// The parameters' types of rows that [`run_literals`] may take; `None` if they need a plan.
pub fn parameter_types(
    catalog: &Catalog,
    insert: &Insert,
    declared: &[Option<DataType>],
) -> Option<Vec<DataType>> {
    LiteralRows::of(catalog, insert)?.parameter_types(declared)
}

/// Commits rows of literals and parameters; `None`, and nothing is done, if they need a plan.
pub async fn run_literals(
    database: &Database,
    insert: &Insert,
    parameters: &[ScalarValue],
) -> Result<Option<Outcome>> {
    let catalog = database.inner.catalog();
    let Some(rows) = LiteralRows::of(&catalog, insert) else { return Ok(None) };
    let Some(batch) = rows.batch(parameters) else { return Ok(None) };
    let mut preparation = database.prepare(rows.source);
    preparation.add(&batch)?;
    let rows = database.commit(preparation).await?;
    Ok(Some(Outcome::done(format!("INSERT 0 {rows}"))))
}

/// Commits the planned rows.
pub async fn run(
    database: &Database,
    catalog: &Arc<Catalog>,
    insert: &Insert,
    stream: SendableRecordBatchStream,
) -> Result<Outcome> {
    let source = target(catalog, insert)?;
    let batches: Vec<_> = stream.try_collect().await.map_err(Error::from_datafusion)?;
    let mut preparation = database.prepare(source);
    if let Some(first) = batches.first() {
        preparation.add(&complete(source, &concat_batches(&first.schema(), &batches)?)?)?;
    }
    let rows = database.commit(preparation).await?;
    Ok(Outcome::done(format!("INSERT 0 {rows}")))
}

fn target<'a>(catalog: &'a Catalog, insert: &Insert) -> Result<&'a Arc<Source>> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(Error::unsupported("INSERT needs the name of a source"));
    };
    let name = asofdb_sql::fold_name(name).pop().unwrap_or_default();
    writable(catalog, &name)
}

/// The source of this name, if rows can be written to it.
pub fn writable<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Arc<Source>> {
    match catalog.relation(name)? {
        Relation::Source(source) => match source.connector {
            Connector::Log => Ok(source),
            Connector::Elsewhere => Err(Error::ReadOnly {
                what: "events are written to the server that has them".into(),
            }),
            Connector::Parquet { .. } => Err(Error::unsupported(format!(
                "source \"{name}\" is read in place and can't be written"
            ))),
        },
        other => Err(Error::Unsupported {
            what: format!("rows can't be written to {} \"{name}\"", other.kind()),
            hint: Some("Write events to a source; features follow by themselves.".into()),
        }),
    }
}
