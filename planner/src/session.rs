//! A session: prepares and executes statements.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use asofdb_sql::{Parsed, Statement};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use futures::future::{self, BoxFuture};
use futures::{FutureExt, StreamExt, TryStreamExt};
use sqlparser::ast::Insert;

use crate::catalog::{Catalog, Source};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::operator::direct_lookup::Found;
use crate::operator::online_lookup::LOOKUP;
use crate::parameters::{parameter_types, result_schema};
use crate::preparation::Preparation;
use crate::ready_lookup::ReadyLookup;
use crate::statement;
use crate::task::blocking;

/// A statement with its parameters' and result's types known.
#[derive(Debug)]
pub struct Prepared {
    /// The parameters' types, `$1` first. [`DataType::Null`] where nothing tells it.
    pub parameters: Vec<DataType>,
    /// The result's columns; `None` for statements without rows.
    pub schema: Option<SchemaRef>,
    parsed: Arc<Parsed>,
    /// The types that the client declared.
    declared: Vec<Option<DataType>>,
    /// The version of the catalog under which the types above were found.
    catalog_version: u64,
    /// The plan; another one when the catalog has changed.
    plan: Option<ArcSwap<Planned>>,
}

impl Prepared {
    /// Whether it is a lookup that runs without any more planning.
    pub fn is_ready(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.load().ready.is_some())
    }
}

/// A plan and the catalog it was made under.
#[derive(Debug)]
struct Planned {
    plan: LogicalPlan,
    catalog: Arc<Catalog>,
    /// The same, if it need not be planned any further.
    ready: Option<Arc<ReadyLookup>>,
}

impl Planned {
    /// What runs with these parameters without any more planning.
    fn ready_for(&self, parameters: &[ScalarValue]) -> Option<&Arc<ReadyLookup>> {
        self.ready.as_ref().filter(|ready| ready.takes(parameters))
    }
}

/// What planning a statement gives.
struct Plan {
    parameters: Vec<DataType>,
    schema: Option<SchemaRef>,
    catalog_version: u64,
    planned: Option<Planned>,
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
    /// Begins to take the rows.
    pub fn begin(&self) -> CopyRows {
        let preparation = self.database.prepare(&self.source);
        let work = future::ready(Ok(preparation)).boxed();
        CopyRows { database: self.database.clone(), work: Some(work) }
    }
}

/// The rows of a `COPY`, which are made ready to be committed while others are read.
pub struct CopyRows {
    database: Database,
    /// What makes the rows given last ready; `None` after an error.
    work: Option<BoxFuture<'static, Result<Preparation>>>,
}

impl CopyRows {
    /// Takes rows, which have [`CopyIn::schema`].
    ///
    /// # Errors
    /// Rows of an earlier call, or these, cannot be committed: then none is.
    pub async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let mut preparation = self.ready().await?;
        let work = blocking(move || {
            let batch = statement::copy::complete(&preparation.source, &batch)?;
            preparation.add(&batch)?;
            Ok(preparation)
        });
        self.work = Some(work.boxed());
        Ok(())
    }

    /// Commits the rows as one transaction and returns their number.
    ///
    /// # Errors
    /// Some rows cannot be committed; those of the commit.
    pub async fn commit(mut self) -> Result<u64> {
        let preparation = self.ready().await?;
        self.database.commit(preparation).await
    }

    /// Waits until the rows that were given are ready.
    async fn ready(&mut self) -> Result<Preparation> {
        let Some(work) = &mut self.work else {
            return Err(Error::Internal("a COPY goes on after an error".into()));
        };
        let done = work.await;
        self.work = None;
        done
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
        self.check_open()?;
        let plan = self.plan(parsed, declared).await?;
        let Plan { parameters, schema, catalog_version, planned } = plan;
        Ok(Prepared {
            parameters,
            schema,
            catalog_version,
            parsed: Arc::new(parsed.clone()),
            declared: declared.to_vec(),
            plan: planned.map(ArcSwap::from_pointee),
        })
    }

    /// Tells the present catalog from others.
    pub fn catalog_version(&self) -> u64 {
        self.database.inner.catalog_version()
    }

    /// Whether the catalog is still the one under which a statement's types were found.
    pub fn is_current(&self, prepared: &Prepared) -> bool {
        prepared.catalog_version == self.catalog_version()
    }

    async fn plan(&self, parsed: &Parsed, declared: &[Option<DataType>]) -> Result<Plan> {
        let catalog = self.database.inner.catalog();
        let catalog_version = catalog.version;
        match &parsed.statement {
            Statement::Query(_) => self.plan_fully(catalog, parsed, declared).await,
            Statement::Insert(insert) => {
                match statement::insert::parameter_types(&catalog, insert, declared) {
                    Some(parameters) => {
                        Ok(Plan { parameters, schema: None, catalog_version, planned: None })
                    }
                    None => self.plan_fully(catalog, parsed, declared).await,
                }
            }
            other => {
                let schema = statement::result_schema(other);
                Ok(Plan { parameters: Vec::new(), schema, catalog_version, planned: None })
            }
        }
    }

    /// Plans a query or an `INSERT`.
    async fn plan_fully(
        &self,
        catalog: Arc<Catalog>,
        parsed: &Parsed,
        declared: &[Option<DataType>],
    ) -> Result<Plan> {
        let planning = &self.database.inner.planning;
        let plan = match &parsed.statement {
            Statement::Query(query) => planning.plan_query(&catalog, query).await?,
            Statement::Insert(insert) => {
                statement::insert::plan(planning, &catalog, insert).await?
            }
            _ => return Err(Error::Internal("only queries and INSERT have plans".into())),
        };
        let parameters = parameter_types(&plan, declared)?;
        let (mut schema, mut ready) = (None, None);
        if let Statement::Query(_) = &parsed.statement {
            schema = Some(result_schema(&planning.state(&catalog), &plan, &parameters)?);
            ready = ReadyLookup::plan(planning, &catalog, &plan, &parameters).await.map(Arc::new);
        }
        let catalog_version = catalog.version;
        let planned = Some(Planned { plan, catalog, ready });
        Ok(Plan { parameters, schema, catalog_version, planned })
    }

    /// Runs a prepared lookup of given keys, whose rows are there without arrays and streams. `None` if
    /// the statement is anything else, and is to be [executed](Self::execute).
    pub async fn look_up(
        &self,
        prepared: &Prepared,
        parameters: &[ScalarValue],
    ) -> Result<Option<Found>> {
        self.check_open()?;
        let Some(plan) = &prepared.plan else { return Ok(None) };
        let planned = plan.load();
        if planned.catalog.version != self.database.inner.catalog_version() {
            return Ok(None);
        }
        let Some(ready) = planned.ready_for(parameters) else { return Ok(None) };
        match ready.find(parameters).await {
            // The features changed between the planning and the reading.
            Err(Error::Changed) => Ok(None),
            done => done,
        }
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
        let Some(plan) = &prepared.plan else {
            return Box::pin(self.execute_unplanned(prepared, parameters)).await;
        };
        let planned = plan.load_full();
        if planned.catalog.version == self.database.inner.catalog_version()
            && let Some(ready) = planned.ready_for(&parameters)
        {
            match ready.run(&parameters).await {
                Ok(rows) => return Ok(Outcome::Rows { tag: "SELECT", stream: Box::pin(rows) }),
                // The features changed between the planning and the reading.
                Err(Error::Changed) => {}
                Err(error) => return Err(error),
            }
        }
        // What is left takes long; its future is large.
        Box::pin(self.execute_planned(prepared, (plan, planned), parameters)).await
    }

    async fn execute_unplanned(
        &self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        let Statement::Insert(insert) = &prepared.parsed.statement else {
            return statement::run(&self.database, &prepared.parsed).await;
        };
        let direct = statement::insert::run_literals(&self.database, insert, &parameters).await?;
        match direct {
            Some(outcome) => Ok(outcome),
            None => self.insert(&*self.plan_again(prepared).await?, insert, parameters).await,
        }
    }

    async fn execute_planned(
        &self,
        prepared: &Prepared,
        (plan, mut planned): (&ArcSwap<Planned>, Arc<Planned>),
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        if planned.catalog.version != self.database.inner.catalog_version() {
            planned = self.renew(prepared, plan).await?;
        }
        match &prepared.parsed.statement {
            Statement::Insert(insert) => self.insert(&planned, insert, parameters).await,
            _ => match self.query(&planned, &parameters).await {
                Err(Error::Changed) => {
                    let planned = self.renew(prepared, plan).await?;
                    self.query(&planned, &parameters).await
                }
                done => done,
            },
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

    /// Plans a statement once more, under the present catalog.
    async fn plan_again(&self, prepared: &Prepared) -> Result<Arc<Planned>> {
        let catalog = self.database.inner.catalog();
        let plan = self.plan_fully(catalog, &prepared.parsed, &prepared.declared).await?;
        plan.planned.map(Arc::new).ok_or(Error::Changed)
    }

    /// The same, and keeps the plan.
    async fn renew(&self, prepared: &Prepared, plan: &ArcSwap<Planned>) -> Result<Arc<Planned>> {
        let renewed = self.plan_again(prepared).await?;
        plan.store(Arc::clone(&renewed));
        Ok(renewed)
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

    async fn query(&self, planned: &Planned, parameters: &[ScalarValue]) -> Result<Outcome> {
        let stream: SendableRecordBatchStream = match planned.ready_for(parameters) {
            Some(ready) => Box::pin(ready.run(parameters).await?),
            None => self.stream(planned, parameters.to_vec()).await?,
        };
        Ok(Outcome::Rows { tag: "SELECT", stream })
    }

    async fn stream(
        &self,
        planned: &Planned,
        parameters: Vec<ScalarValue>,
    ) -> Result<SendableRecordBatchStream> {
        let planning = &self.database.inner.planning;
        let state = planning.state(&planned.catalog);
        let plan = planning.physical_plan(&state, planned.plan.clone(), parameters).await?;
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
