//! `EXPLAIN` and `EXPLAIN ANALYZE`.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use asofdb_sql::{Explain, Statement};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::displayable;
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;

use crate::database::Database;
use crate::error::{Error, Result};
use crate::session::{Outcome, text_schema};

/// The columns of the answer.
pub fn schema() -> SchemaRef {
    text_schema(&["QUERY PLAN"])
}

/// Shows the optimized plan and the operators; with `ANALYZE` the query is run and the operators
/// show what they did.
pub async fn run(database: &Database, explain: &Explain) -> Result<Outcome> {
    let Statement::Query(query) = explain.statement.as_ref() else {
        return Err(Error::unsupported("EXPLAIN takes a query"));
    };
    let planning = &database.inner.planning;
    let catalog = database.inner.catalog();
    let plan = planning.plan_query(&catalog, query).await?;
    let state = planning.state(&catalog);
    let logical = state.optimize(&plan).map_err(Error::from_datafusion)?;
    let mut text = String::new();
    if !explain.analyze {
        text.push_str(&logical.display_indent().to_string());
        text.push_str("\n\n");
    }
    let physical = planning.physical_plan(&state, plan, Vec::new()).await?;
    if explain.analyze {
        let mut rows = 0;
        let mut stream = execute_stream(Arc::clone(&physical), state.task_ctx())
            .map_err(Error::from_datafusion)?;
        while let Some(batch) = stream.try_next().await.map_err(Error::from_datafusion)? {
            rows += batch.num_rows();
        }
        let shown = DisplayableExecutionPlan::with_metrics(physical.as_ref());
        text.push_str(&format!("{}\n{rows} rows", shown.indent(explain.verbose)));
    } else {
        text.push_str(&displayable(physical.as_ref()).indent(explain.verbose).to_string());
    }
    let lines: StringArray = text.trim_end().lines().map(Some).collect();
    Outcome::rows("EXPLAIN", RecordBatch::try_new(schema(), vec![Arc::new(lines)])?)
}
