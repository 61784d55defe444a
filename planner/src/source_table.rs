//! A source as a table that DataFusion can scan: the history's Parquet files and the log's tail.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;

use crate::catalog::{Connector, Source};
use crate::data::DataSnapshot;
use crate::source_file::parquet_files_exec;

/// The address under which queries find the history's object store.
pub const HISTORY_URL: &str = "asofdb-history://local/";

/// A source as a table.
#[derive(Debug)]
pub struct SourceTable {
    source: Arc<Source>,
    schema: SchemaRef,
    /// Rows fixed beforehand; otherwise those committed when the scan is planned.
    snapshot: Option<DataSnapshot>,
}

impl SourceTable {
    /// The table that users see. All columns may be NULL here: the ingest refuses a NULL where none
    /// may be, in the user's terms.
    pub fn visible(source: Arc<Source>) -> Self {
        let schema = nullable(&source.schema);
        SourceTable { source, schema, snapshot: None }
    }

    /// The table with the position column, which features are computed from.
    pub fn with_position(source: Arc<Source>) -> Self {
        let schema = source.schema_with_position();
        SourceTable { source, schema, snapshot: None }
    }

    /// The table with the position column and exactly the rows of `snapshot`.
    pub fn of_snapshot(source: Arc<Source>, snapshot: DataSnapshot) -> Self {
        SourceTable { snapshot: Some(snapshot), ..SourceTable::with_position(source) }
    }

    /// The source.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }
}

/// `schema` without `NOT NULL`.
pub fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Row groups whose statistics exclude a filter are skipped; rows are still filtered above.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // All rows in one order: a projection of the full schema fits both table forms.
        let projection = projection
            .cloned()
            .unwrap_or_else(|| (0..self.schema.fields().len()).collect::<Vec<_>>());
        match &self.source.connector {
            Connector::Log => {
                let snapshot = self.snapshot.clone().unwrap_or_else(|| self.source.data.snapshot());
                scan_snapshot(&self.source, &snapshot, state, &projection, filters, limit)
            }
            Connector::Parquet { files } => {
                parquet_files_exec(files, &self.source, &projection, limit)
            }
        }
    }
}

fn scan_snapshot(
    source: &Source,
    snapshot: &DataSnapshot,
    state: &dyn Session,
    projection: &[usize],
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = source.schema_with_position();
    let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
    if !snapshot.files.is_empty() {
        parts.push(history_exec(source, snapshot, state, projection, filters, limit)?);
    }
    if !snapshot.tail.is_empty() || parts.is_empty() {
        parts.push(tail_exec(&snapshot.tail, schema, projection)?);
    }
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => UnionExec::try_new(parts),
    }
}

fn tail_exec(
    tail: &[RecordBatch],
    schema: SchemaRef,
    projection: &[usize],
) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(MemorySourceConfig::try_new_exec(&[tail.to_vec()], schema, Some(projection.to_vec()))?)
}

fn history_exec(
    source: &Source,
    snapshot: &DataSnapshot,
    state: &dyn Session,
    projection: &[usize],
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = source.schema_with_position();
    let mut parquet = ParquetSource::new(Arc::clone(&schema));
    if let Some(filter) = datafusion::logical_expr::utils::conjunction(filters.iter().cloned()) {
        let df_schema = datafusion::common::DFSchema::try_from(schema.as_ref().clone())?;
        let filter = unqualified(filter)?;
        parquet = parquet.with_predicate(state.create_physical_expr(filter, &df_schema)?);
    }
    let files = snapshot.files.iter().map(|f| PartitionedFile::new(f.path.clone(), f.bytes));
    let groups = FileGroup::new(files.collect()).split_files(state.config().target_partitions());
    let url = ObjectStoreUrl::parse(HISTORY_URL)?;
    let config = FileScanConfigBuilder::new(url, Arc::new(parquet))
        .with_file_groups(groups)
        .with_projection_indices(Some(projection.to_vec()))?
        .with_limit(limit)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// The scan's filters name columns by the table; the files have bare names.
fn unqualified(filter: Expr) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let plain = filter.transform(|expr| match expr {
        Expr::Column(column) if column.relation.is_some() => {
            Ok(Transformed::yes(crate::track::column(&column.name)))
        }
        other => Ok::<_, DataFusionError>(Transformed::no(other)),
    })?;
    Ok(plain.data)
}
