//! A source as a table that DataFusion can scan: the history's Parquet files and the log's tail.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use asofdb_storage::FileRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, internal_err};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, lit};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::scalar::ScalarValue;

use crate::catalog::{Connector, POSITION, Source};
use crate::data::DataSnapshot;
use crate::error::Error;
use crate::operator::as_of_join::ORDER;
use crate::parquet_scan::parquet_files_exec;
use crate::types::UTC;

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
                let partitions = state.config().target_partitions();
                parquet_files_exec(files, &self.source, (&projection, limit), partitions).await
            }
            Connector::Elsewhere => Err(Error::ReadOnly {
                what: format!(
                    "the rows of source \"{}\" are with the server that writes",
                    self.source.name
                ),
            }
            .into()),
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
    let kept_from = source.data.kept_from();
    if kept_from == i64::MIN {
        return scan_all(source, snapshot, state, (projection, filters, limit));
    }
    // The time column behind those asked for, to tell the rows that have expired.
    let mut wider = projection.to_vec();
    wider.push(source.event_time);
    let all = scan_all(source, snapshot, state, (&wider, filters, None))?;
    let kept = unexpired(all, projection.len(), kept_from)?;
    let schema = kept.schema();
    let names = schema.fields().iter().take(projection.len()).enumerate();
    let columns = names.map(|(index, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        (column, field.name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), kept)?))
}

/// The rows of `input` whose time, in column `time`, is not before `kept_from`.
fn unexpired(
    input: Arc<dyn ExecutionPlan>,
    time: usize,
    kept_from: i64,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let field = schema.field(time);
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), time));
    let kept_from = ScalarValue::TimestampMicrosecond(Some(kept_from), Some(UTC.into()));
    let kept = BinaryExpr::new(column, Operator::GtEq, lit(kept_from));
    Ok(Arc::new(FilterExec::try_new(Arc::new(kept), input)?))
}

/// Expired rows included.
fn scan_all(
    source: &Source,
    snapshot: &DataSnapshot,
    state: &dyn Session,
    (projection, filters, limit): (&[usize], &[Expr], Option<usize>),
) -> Result<Arc<dyn ExecutionPlan>> {
    let predicate = predicate(source, filters, state)?;
    let mut parts = Vec::new();
    let mut layouts: Vec<(&[String], Vec<&FileRef>)> = Vec::new();
    for file in &snapshot.files {
        let sorted_by = file.layout.sorted_by.as_slice();
        match layouts.iter_mut().find(|(other, _)| *other == sorted_by) {
            Some((_, files)) => files.push(file),
            None => layouts.push((sorted_by, vec![file])),
        }
    }
    for (sorted_by, files) in layouts {
        let order = file_order(source, sorted_by)?;
        let config = files_config(source, &files, order, predicate.clone())?;
        let config = config.with_projection_indices(Some(projection.to_vec()))?.with_limit(limit);
        let files: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config.build());
        parts.push(files);
    }
    if !snapshot.tail.is_empty() || parts.is_empty() {
        parts.push(tail_exec(&snapshot.tail, source.schema_with_position(), projection)?);
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

/// All rows of `files` that have not expired, in one stream ordered by `columns`, time and position.
pub fn merge_exec(
    source: &Source,
    files: &[FileRef],
    columns: &[usize],
) -> Result<Arc<dyn ExecutionPlan>> {
    let wanted: Vec<String> =
        columns.iter().map(|&c| source.schema.field(c).name().clone()).collect();
    let order = file_order(source, &wanted)?;
    let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
    for file in files {
        let own = file_order(source, &file.layout.sorted_by)?;
        let config = files_config(source, &[file], own, None)?;
        let rows: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config.build());
        let rows = unexpired(rows, source.event_time, source.data.kept_from())?;
        parts.push(match file.layout.sorted_by == wanted {
            true => rows,
            false => Arc::new(SortExec::new(order.clone(), rows)),
        });
    }
    let all = match parts.len() {
        1 => parts.remove(0),
        _ => UnionExec::try_new(parts)?,
    };
    Ok(Arc::new(SortPreservingMergeExec::new(order, all)))
}

/// The order of the rows of a file: `sorted_by`, then time and position.
fn file_order(source: &Source, sorted_by: &[String]) -> Result<LexOrdering> {
    let schema = source.schema_with_position();
    let time = source.schema.field(source.event_time).name().as_str();
    let names = sorted_by.iter().map(String::as_str).chain([time, POSITION]);
    let sort = |name: &str| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new_with_schema(name, &schema)?);
        Ok(PhysicalSortExpr::new(column, ORDER))
    };
    match LexOrdering::new(names.map(sort).collect::<Result<Vec<_>>>()?) {
        Some(order) => Ok(order),
        None => internal_err!("rows of a file have an order"),
    }
}

/// A scan of files of one order, each in a group of its own: a group's rows are in that order.
fn files_config(
    source: &Source,
    files: &[&FileRef],
    order: LexOrdering,
    predicate: Option<Arc<dyn PhysicalExpr>>,
) -> Result<FileScanConfigBuilder> {
    let mut parquet = ParquetSource::new(source.schema_with_position());
    if let Some(predicate) = predicate {
        parquet = parquet.with_predicate(predicate);
    }
    let group = |file: &&FileRef| {
        let held = FileRef::clone(file);
        let file = PartitionedFile::new(file.path.clone(), file.bytes).with_extension(held);
        FileGroup::new(vec![file])
    };
    let url = ObjectStoreUrl::parse(HISTORY_URL)?;
    Ok(FileScanConfigBuilder::new(url, Arc::new(parquet))
        .with_file_groups(files.iter().map(group).collect())
        .with_output_ordering(vec![order]))
}

fn predicate(
    source: &Source,
    filters: &[Expr],
    state: &dyn Session,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let conjunction = datafusion::logical_expr::utils::conjunction(filters.iter().cloned());
    let Some(filter) = conjunction else { return Ok(None) };
    let schema = DFSchema::try_from(source.schema_with_position().as_ref().clone())?;
    Ok(Some(state.create_physical_expr(unqualified(filter)?, &schema)?))
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
