//! DataFusion, set up as the planner and engine of AsofDB: our catalog, types, relations, rules
//! and operators, and nothing that reaches the file system.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use asofdb_storage::History;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    SchemaProvider, TableProvider,
};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ParamValues, exec_err};
use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{
    SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext,
};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use sqlparser::ast::{self, Query, Statement, Visit, Visitor};

use crate::catalog::{Catalog, Relation};
use crate::checked::CheckArithmetic;
use crate::error::{Error, Result};
use crate::functions;
use crate::logical::entity_scan::EntityTable;
use crate::logical::online_lookup::PlanLookups;
use crate::logical::prune_calls::PruneCalls;
use crate::logical::push_filters::PushFilters;
use crate::maintain::Timelines;
use crate::operator::AsofQueryPlanner;
use crate::reading::read_rows;
use crate::recompute::Recompute;
use crate::relation::VersionedRelations;
use crate::source_table::{HISTORY_URL, SourceTable};
use crate::types::{AsofTypes, UTC};

const CATALOG: &str = "asofdb";
/// The schema of all relations.
pub const SCHEMA: &str = "public";

/// Rows in a batch.
const BATCH_ROWS: usize = 8192;

/// Makes plans and runs them. Clones share everything.
#[derive(Clone)]
pub struct Planning {
    base: Arc<SessionState>,
    /// What all lookups that are planned once run with.
    task_context: Arc<TaskContext>,
    /// `None` if the history is with another server.
    history: Option<History>,
    recompute: Recompute,
}

impl Planning {
    /// A planner whose lookups read `timelines` and whose scans read `history`.
    pub fn new(
        timelines: Arc<Timelines>,
        history: Option<&History>,
        memory_limit_bytes: usize,
    ) -> Result<Self> {
        let files = history.map_or_else(|| Arc::new(InMemory::new()) as _, History::store);
        let recompute = Recompute::default();
        let mut state = SessionStateBuilder::new()
            .with_config(config())
            .with_runtime_env(runtime(files, memory_limit_bytes)?)
            .with_default_features()
            .with_type_planner(Arc::new(AsofTypes))
            .with_query_planner(Arc::new(AsofQueryPlanner::new(timelines, recompute.clone())))
            .with_analyzer_rule(Arc::new(CheckArithmetic))
            .with_optimizer_rules(rules())
            .build();
        state.register_relation_planner(Arc::new(VersionedRelations))?;
        functions::register(&mut state)?;
        let base = Arc::new(state);
        recompute.set_engine(&base, history);
        let task_context = base.task_ctx();
        Ok(Planning { base, task_context, history: history.cloned(), recompute })
    }

    /// Runs a physical plan.
    pub fn run(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        state: &SessionState,
    ) -> Result<SendableRecordBatchStream> {
        read_rows(self.history.as_ref(), plan, state.task_ctx())
    }

    /// What lookups run with that are planned once.
    pub fn task_context(&self) -> &Arc<TaskContext> {
        &self.task_context
    }

    /// What computes features from events.
    pub fn recompute(&self) -> &Recompute {
        &self.recompute
    }

    /// The state that one statement is planned and run with: it sees one catalog and one now.
    pub fn state(&self, catalog: &Arc<Catalog>) -> SessionState {
        let mut state = self.base.as_ref().clone();
        let schema =
            CatalogSchema { catalog: Arc::clone(catalog), planning: self.clone(), depth: 0 };
        state.register_catalog_list(catalog_list(Arc::new(schema)));
        state.mark_start_execution();
        state
    }

    /// The time of the clock, in microseconds since the epoch: for upkeep, which has no statement,
    /// and for statements that are planned already.
    pub fn now_micros(&self) -> i64 {
        chrono::Utc::now().timestamp_micros()
    }

    /// Plans a query. Names and types are resolved, parameters are left.
    pub async fn plan_query(&self, catalog: &Arc<Catalog>, query: &Query) -> Result<LogicalPlan> {
        plan_statement(&self.state(catalog), catalog, Statement::Query(Box::new(query.clone())))
            .await
    }

    /// Plans `INSERT`.
    pub async fn plan_insert(
        &self,
        catalog: &Arc<Catalog>,
        insert: &ast::Insert,
    ) -> Result<LogicalPlan> {
        plan_statement(&self.state(catalog), catalog, Statement::Insert(insert.clone())).await
    }

    /// Binds parameters, optimizes and makes the physical plan.
    pub async fn physical_plan(
        &self,
        state: &SessionState,
        plan: LogicalPlan,
        parameters: Vec<datafusion::scalar::ScalarValue>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = match parameters.is_empty() {
            true => plan,
            false => plan.with_param_values(ParamValues::from(parameters))?,
        };
        state.create_physical_plan(&plan).await.map_err(Error::from_datafusion)
    }
}

/// Plans a statement of DataFusion's, its references to entities given their instants.
async fn plan_statement(
    state: &SessionState,
    catalog: &Catalog,
    mut statement: Statement,
) -> Result<LogicalPlan> {
    let is_entity = |name: &ast::ObjectName| {
        let parts = asofdb_sql::fold_name(name);
        match parts.as_slice() {
            [name] => matches!(catalog.relations.get(name), Some(Relation::Entity(_))),
            [schema, name] if schema == SCHEMA => {
                matches!(catalog.relations.get(name), Some(Relation::Entity(_)))
            }
            _ => false,
        }
    };
    check_width(&statement)?;
    asofdb_sql::rewrite::version_entities(&mut statement, &is_entity);
    let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
    let plan = state.statement_to_plan(statement).await.map_err(Error::from_datafusion)?;
    infer_array_parameters(plan)
}

/// The columns that a relation may have, as in PostgreSQL. Planning takes time that grows with the
/// square of their number.
pub const COLUMNS_MAX: usize = 1664;

/// Refuses lists of columns that are too long before anything is planned.
fn check_width(statement: &Statement) -> Result<()> {
    struct Widest(usize);
    impl Visitor for Widest {
        type Break = ();

        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<()> {
            self.0 = self.0.max(select.projection.len());
            ControlFlow::Continue(())
        }
    }
    let mut widest = Widest(0);
    let _ = statement.visit(&mut widest);
    match widest.0 {
        count if count > COLUMNS_MAX => Err(Error::TooManyColumns { count, limit: COLUMNS_MAX }),
        _ => Ok(()),
    }
}

/// In `key = ANY ($1)` the parameter is an array of the key's type, which DataFusion leaves open.
fn infer_array_parameters(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let mut schema = DFSchema::empty();
        for input in node.inputs() {
            schema.merge(input.schema());
        }
        if let LogicalPlan::TableScan(scan) = &node {
            schema.merge(&scan.projected_schema);
        }
        node.map_expressions(|expr| expr.transform_up(|e| infer_array_parameter(e, &schema)))
    });
    Ok(plan.map_err(Error::from_datafusion)?.data)
}

fn infer_array_parameter(
    expr: Expr,
    schema: &DFSchema,
) -> Result<Transformed<Expr>, DataFusionError> {
    let Expr::ScalarFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
    let typed = match (call.func.name(), call.args.as_slice()) {
        ("array_has", [Expr::Placeholder(Placeholder { id, field: None }), needle]) => {
            let item = needle.get_type(schema)?;
            let field = Field::new("", DataType::new_list(item, true), true);
            Expr::Placeholder(Placeholder::new_with_field(id.clone(), Some(Arc::new(field))))
        }
        _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
    };
    call.args[0] = typed;
    Ok(Transformed::yes(Expr::ScalarFunction(call)))
}

/// DataFusion's rules and ours. Filters go below our join right after they went below everything
/// else; lookups and calls are settled when all filters and projections are in their places.
fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Vec::new();
    for rule in Optimizer::new().rules {
        let pushes_filters = rule.name() == "push_down_filter";
        rules.push(rule);
        if pushes_filters {
            rules.push(Arc::new(PushFilters) as _);
        }
    }
    rules.push(Arc::new(PlanLookups));
    rules.push(Arc::new(PruneCalls));
    rules
}

fn config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_batch_size(BATCH_ROWS)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let options = config.options_mut();
    options.execution.time_zone = Some(UTC.into());
    options.execution.parquet.schema_force_view_types = false;
    options.execution.parquet.pushdown_filters = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    options.sql_parser.parse_float_as_decimal = false;
    options.optimizer.max_passes = 4;
    // The history is laid out for the joins: merging what is sorted is cheaper than sorting.
    options.optimizer.prefer_existing_sort = true;
    config
}

/// The runtime of queries: bounded memory, and of object stores only the history's.
fn runtime(history: Arc<dyn ObjectStore>, memory_limit_bytes: usize) -> Result<Arc<RuntimeEnv>> {
    let registry = HistoryOnly { history };
    Ok(RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(memory_limit_bytes)))
        .with_object_store_registry(Arc::new(registry))
        .build_arc()?)
}

/// The default registry knows `file://`, which would let any statement read any file.
#[derive(Debug)]
struct HistoryOnly {
    history: Arc<dyn ObjectStore>,
}

impl datafusion::execution::object_store::ObjectStoreRegistry for HistoryOnly {
    fn register_store(
        &self,
        _: &url::Url,
        _: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &url::Url) -> Result<Arc<dyn ObjectStore>, DataFusionError> {
        match HISTORY_URL.starts_with(&format!("{}://", url.scheme())) {
            true => Ok(Arc::clone(&self.history)),
            false => exec_err!("there is no object store for {}", url.scheme()),
        }
    }
}

fn catalog_list(schema: Arc<dyn SchemaProvider>) -> Arc<dyn CatalogProviderList> {
    let catalog = MemoryCatalogProvider::new();
    let list = MemoryCatalogProviderList::new();
    // Registering in a fresh memory catalog can't fail.
    let _ = catalog.register_schema(SCHEMA, schema);
    list.register_catalog(CATALOG.into(), Arc::new(catalog));
    Arc::new(list)
}

/// How deep views may be nested.
const VIEW_DEPTH_MAX: usize = 32;

/// One snapshot of our catalog as DataFusion's schema `public`.
struct CatalogSchema {
    catalog: Arc<Catalog>,
    planning: Planning,
    depth: usize,
}

impl std::fmt::Debug for CatalogSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CatalogSchema(version {})", self.catalog.version)
    }
}

#[async_trait]
impl SchemaProvider for CatalogSchema {
    fn table_names(&self) -> Vec<String> {
        self.catalog.relations.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(relation) = self.catalog.relations.get(name) else { return Ok(None) };
        Ok(Some(match relation {
            Relation::Source(source) => Arc::new(SourceTable::visible(Arc::clone(source))),
            Relation::Entity(entity) => Arc::new(EntityTable::new(Arc::clone(entity))),
            Relation::View(view) => {
                if self.depth >= VIEW_DEPTH_MAX {
                    return exec_err!("view \"{name}\" is nested too deeply");
                }
                let definition = view.definition.to_string();
                Arc::new(ViewTable::new(self.view_plan(view).await?, Some(definition)))
            }
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.relations.contains_key(name)
    }
}

impl CatalogSchema {
    async fn view_plan(&self, view: &crate::catalog::View) -> Result<LogicalPlan, DataFusionError> {
        let mut state = self.planning.base.as_ref().clone();
        let schema = CatalogSchema {
            catalog: Arc::clone(&self.catalog),
            planning: self.planning.clone(),
            depth: self.depth + 1,
        };
        state.register_catalog_list(catalog_list(Arc::new(schema)));
        let query = Statement::Query(view.definition.query.clone());
        let plan = plan_statement(&state, &self.catalog, query).await?;
        let columns = &view.definition.columns;
        if columns.is_empty() {
            return Ok(plan);
        }
        let names: Vec<String> = columns.iter().map(asofdb_sql::fold).collect();
        if names.len() != plan.schema().fields().len() {
            return exec_err!("view \"{}\" has another number of columns", view.name);
        }
        let renamed = plan
            .schema()
            .columns()
            .into_iter()
            .zip(names)
            .map(|(column, name)| Expr::Column(column).alias(name));
        let renamed: Vec<_> = renamed.collect();
        datafusion::logical_expr::LogicalPlanBuilder::from(plan).project(renamed)?.build()
    }
}
