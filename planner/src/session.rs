//! A session: prepares and executes statements.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use asofdb_sql::{Parsed, Statement};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use sqlparser::ast::Insert;

use crate::catalog::{Catalog, Source};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::operator::online_lookup::LOOKUP;
use crate::parameters::{parameter_types, result_schema};
use crate::statement;

/// A statement with its parameters' and result's types known.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The parameters' types, `$1` first. [`DataType::Null`] where nothing tells it.
    pub parameters: Vec<DataType>,
    /// The result's columns; `None` for statements without rows.
    pub schema: Option<SchemaRef>,
    parsed: Arc<Parsed>,
    /// The types that the client declared.
    declared: Vec<Option<DataType>>,
    plan: Option<Planned>,
}

/// A plan and the catalog it was made under.
#[derive(Clone, Debug)]
struct Planned {
    plan: Arc<LogicalPlan>,
    catalog: Arc<Catalog>,
}

/// What executing a statement gave.
pub enum Outcome {
    /// Rows, produced while they are read. The command tag is `SELECT n`, or `tag` alone.
    Rows {
        /// `SELECT`, `SHOW`, `EXPLAIN`: completed by the number of rows for `SELECT` only.
        tag: &'static str,
        /// The rows.
        stream: SendableRecordBatchStream,
    },
    /// Done, no rows.
    Done {
        /// The whole command tag, `CREATE SOURCE` or `INSERT 0 5`.
        tag: String,
        /// Notices to send before it.
        notices: Vec<String>,
    },
    /// The client sends rows now.
    CopyIn(CopyIn),
    /// The rows are in a text or csv file, to be read like those that a client sends.
    CopyFile {
        /// The file; access to it is allowed.
        path: std::path::PathBuf,
        /// Where the rows go.
        copy: CopyIn,
    },
}

impl Outcome {
    pub(crate) fn done(tag: impl Into<String>) -> Self {
        Outcome::Done { tag: tag.into(), notices: Vec::new() }
    }

    pub(crate) fn notice(tag: impl Into<String>, notice: String) -> Self {
        Outcome::Done { tag: tag.into(), notices: vec![notice] }
    }

    pub(crate) fn rows(tag: &'static str, batch: RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        let stream = MemoryStream::try_new(vec![batch], schema, None)?;
        Ok(Outcome::Rows { tag, stream: Box::pin(stream) })
    }
}

/// A `COPY source FROM STDIN` under way.
pub struct CopyIn {
    /// The columns to be sent, in order, as the source's types.
    pub schema: SchemaRef,
    /// Format and options as given.
    pub copy: asofdb_sql::Copy,
    pub(crate) database: Database,
    pub(crate) source: Arc<Source>,
}

impl CopyIn {
    /// Commits the rows as one transaction and returns their number.
    ///
    /// `batches` have [`CopyIn::schema`].
    pub async fn finish(self, batches: Vec<RecordBatch>) -> Result<u64> {
        let rows = statement::copy::complete(&self.source, batches)?;
        self.database.commit(&self.source, rows).await
    }
}

/// One connection's view of the database.
pub struct Session {
    database: Database,
}

impl Session {
    pub(crate) fn new(database: Database) -> Self {
        Session { database }
    }

    /// Resolves names and types of a statement.
    ///
    /// `parameter_types` are the types the client declared, `None` where it left them open.
    pub async fn prepare(
        &self,
        parsed: &Parsed,
        declared: &[Option<DataType>],
    ) -> Result<Prepared> {
        self.prepare_shared(Arc::new(parsed.clone()), declared.to_vec()).await
    }

    async fn prepare_shared(
        &self,
        parsed: Arc<Parsed>,
        declared: Vec<Option<DataType>>,
    ) -> Result<Prepared> {
        self.check_open()?;
        let catalog = self.database.inner.catalog();
        if let Statement::Insert(insert) = &parsed.statement
            && let Some(parameters) =
                statement::insert::parameter_types(&catalog, insert, &declared)
        {
            return Ok(Prepared { parameters, schema: None, parsed, declared, plan: None });
        }
        self.prepare_plan(catalog, parsed, declared).await
    }

    async fn prepare_plan(
        &self,
        catalog: Arc<Catalog>,
        parsed: Arc<Parsed>,
        declared: Vec<Option<DataType>>,
    ) -> Result<Prepared> {
        let planning = &self.database.inner.planning;
        let plan = match &parsed.statement {
            Statement::Query(query) => Some(planning.plan_query(&catalog, query).await?),
            Statement::Insert(insert) => {
                Some(statement::insert::plan(planning, &catalog, insert).await?)
            }
            _ => None,
        };
        let (parameters, schema) = match &plan {
            Some(plan) => {
                let types = parameter_types(plan, &declared)?;
                let rows = matches!(parsed.statement, Statement::Query(_));
                let described = || result_schema(&planning.state(&catalog), plan, &types);
                let schema = rows.then(described).transpose()?;
                (types, schema)
            }
            None => (Vec::new(), statement::result_schema(&parsed.statement)),
        };
        let plan = plan.map(|plan| Planned { plan: Arc::new(plan), catalog });
        Ok(Prepared { parameters, schema, parsed, declared, plan })
    }

    /// Runs a prepared statement. `parameters` have the types of [`Prepared::parameters`].
    pub async fn execute(
        &self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        self.check_open()?;
        if parameters.len() != prepared.parameters.len() {
            return Err(Error::ParameterCount {
                expected: prepared.parameters.len(),
                given: parameters.len(),
            });
        }
        let stale =
            |planned: &Planned| planned.catalog.version != self.database.inner.catalog().version;
        let renewed;
        let prepared = match prepared.plan.as_ref().is_some_and(stale) {
            false => prepared,
            true => {
                let (parsed, declared) = (Arc::clone(&prepared.parsed), prepared.declared.clone());
                renewed = self.prepare_shared(parsed, declared).await?;
                &renewed
            }
        };
        match (&prepared.parsed.statement, &prepared.plan) {
            (Statement::Query(_), Some(planned)) => {
                match self.query(planned, parameters.clone()).await {
                    // The features changed between the planning and the reading.
                    Err(Error::Changed) => {
                        let renewed = self
                            .prepare_shared(Arc::clone(&prepared.parsed), prepared.declared.clone())
                            .await?;
                        match &renewed.plan {
                            Some(planned) => self.query(planned, parameters).await,
                            None => Err(Error::Changed),
                        }
                    }
                    done => done,
                }
            }
            (Statement::Insert(insert), Some(planned)) => {
                self.insert(planned, insert, parameters).await
            }
            (Statement::Insert(insert), None) => {
                let direct = statement::insert::run_literals(&self.database, insert, &parameters);
                if let Some(outcome) = direct.await? {
                    return Ok(outcome);
                }
                let (parsed, declared) = (Arc::clone(&prepared.parsed), prepared.declared.clone());
                let catalog = self.database.inner.catalog();
                match self.prepare_plan(catalog, parsed, declared).await?.plan {
                    Some(planned) => self.insert(&planned, insert, parameters).await,
                    None => Err(Error::Internal("INSERT has a plan".into())),
                }
            }
            _ => statement::run(&self.database, &prepared.parsed).await,
        }
    }

    /// Runs a statement that needs neither a plan nor parameters: `INSERT` of literals. `None`, and
    /// nothing is done, for all others.
    pub async fn execute_literals(&self, parsed: &Parsed) -> Result<Option<Outcome>> {
        self.check_open()?;
        match &parsed.statement {
            Statement::Insert(insert) => {
                statement::insert::run_literals(&self.database, insert, &[]).await
            }
            _ => Ok(None),
        }
    }

    async fn insert(
        &self,
        planned: &Planned,
        insert: &Insert,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        let stream = self.stream(planned, parameters).await?;
        statement::insert::run(&self.database, &planned.catalog, insert, stream).await
    }

    async fn query(&self, planned: &Planned, parameters: Vec<ScalarValue>) -> Result<Outcome> {
        Ok(Outcome::Rows { tag: "SELECT", stream: self.stream(planned, parameters).await? })
    }

    async fn stream(
        &self,
        planned: &Planned,
        parameters: Vec<ScalarValue>,
    ) -> Result<SendableRecordBatchStream> {
        let planning = &self.database.inner.planning;
        let state = planning.state(&planned.catalog);
        let plan = planned.plan.as_ref().clone();
        let plan = planning.physical_plan(&state, plan, parameters).await?;
        let looks_up = has_lookup(&plan);
        let mut stream = planning.run(plan, &state)?;
        if !looks_up {
            return Ok(stream);
        }
        // The features may have changed since the planning: that shows with the first rows.
        let first = stream.try_next().await.map_err(Error::from_datafusion)?;
        let schema = stream.schema();
        let rows = futures::stream::iter(first.map(Ok)).chain(stream);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn check_open(&self) -> Result<()> {
        match self.database.inner.closing.load(Ordering::SeqCst) {
            true => Err(Error::Closing),
            false => Ok(()),
        }
    }
}

/// Whether a plan reads online state.
fn has_lookup(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.name() == LOOKUP || plan.children().into_iter().any(has_lookup)
}

/// A schema of text columns.
pub(crate) fn text_schema(names: &[&str]) -> SchemaRef {
    use arrow::datatypes::Field;
    let fields: Vec<_> = names.iter().map(|n| Field::new(*n, DataType::Utf8, true)).collect();
    Arc::new(Schema::new(fields))
}
