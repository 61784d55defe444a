//! Running a plan, and finding out which file of the history it was that could not be read.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use asofdb_storage::{Error as StorageError, FileRef, History};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use parquet::errors::ParquetError;
use tokio::task::JoinError;

use crate::error::{Error, Result};

/// A file of the history, and the scan of it that a plan makes.
type Scan = (FileRef, FileScanConfig);

/// What a query gives next; the outer error is a panic.
type Step = std::thread::Result<Result<RecordBatch, DataFusionError>>;

/// What is needed to read a query's files once more.
struct Files {
    history: History,
    scans: Vec<Scan>,
    context: Arc<TaskContext>,
}

/// Runs a plan. Parquet's errors say nothing of the file: after one, the files that the plan reads
/// are read once more, each by itself, and the error names the one that is damaged.
pub fn read_rows(
    history: Option<&History>,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let mut scans = Vec::new();
    collect_scans(&plan, &mut scans);
    let rows = execute_stream(plan, Arc::clone(&context)).map_err(Error::from_datafusion)?;
    let Some(history) = history.filter(|_| !scans.is_empty()) else { return Ok(rows) };
    let schema = rows.schema();
    let files = Arc::new(Files { history: history.clone(), scans, context });
    let named =
        AssertUnwindSafe(rows).catch_unwind().then(move |step| named(Arc::clone(&files), step));
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, named)))
}

/// The scans of files, a scan for each file.
fn collect_scans(plan: &Arc<dyn ExecutionPlan>, scans: &mut Vec<Scan>) {
    let scan = plan.downcast_ref::<DataSourceExec>();
    if let Some(scan) = scan.and_then(|s| s.data_source().downcast_ref::<FileScanConfig>()) {
        for file in scan.file_groups.iter().flat_map(|group| group.iter()) {
            let Some(held) = file.extension::<FileRef>().cloned() else { continue };
            let mut alone = scan.clone();
            alone.file_groups = vec![FileGroup::new(vec![file.clone()])];
            scans.push((held, alone));
        }
    }
    plan.children().into_iter().for_each(|child| collect_scans(child, scans));
}

/// A step of a query, or an error that names the file on which it failed.
async fn named(files: Arc<Files>, step: Step) -> Result<RecordBatch, DataFusionError> {
    let of_a_file = match &step {
        Ok(Ok(_)) => false,
        // The readers of Parquet and Arrow panic on some nonsense, here or in a task of the query's.
        Err(_) => true,
        Ok(Err(error)) => match error.find_root() {
            DataFusionError::ObjectStore(_) | DataFusionError::ExecutionJoin(_) => true,
            DataFusionError::External(inner) if inner.is::<Arc<JoinError>>() => true,
            _ => content_of(error).is_some() || tells_of_damage(error),
        },
    };
    if of_a_file {
        files.check().await?;
    }
    step.unwrap_or_else(|panic| resume_unwind(panic))
}

impl Files {
    /// Fails with the first file that is damaged.
    async fn check(&self) -> Result<()> {
        for (file, scan) in &self.scans {
            let checked = match self.history.check(file).await {
                Ok(()) => read_alone(scan, &self.context).await.map_err(|reason| {
                    let file = PathBuf::from(self.history.location(file).as_ref());
                    StorageError::Damaged { file, offset: 0, reason }
                }),
                other => other,
            };
            if let Err(damaged @ StorageError::Damaged { .. }) = checked {
                return Err(Error::Storage(damaged));
            }
        }
        Ok(())
    }
}

/// Reads a file; an error is what is wrong with its content.
async fn read_alone(scan: &FileScanConfig, context: &Arc<TaskContext>) -> Result<(), String> {
    let Ok(mut rows) = scan.open(0, Arc::clone(context)) else { return Ok(()) };
    let all = async {
        while rows.try_next().await?.is_some() {}
        Ok::<_, DataFusionError>(())
    };
    match AssertUnwindSafe(all).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        // If it is not the content, the store failed, or the query.
        Ok(Err(error)) => content_of(&error).map_or(Ok(()), Err),
        Err(_) => Err("its content is nonsense".to_owned()),
    }
}

/// Whether the store of the history gave the error that a file is not what was written.
fn tells_of_damage(error: &(dyn StdError + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(StorageError::Damaged { .. }))
        || error.source().is_some_and(tells_of_damage)
}

/// What is wrong with the content of a file, if that is what an error says.
fn content_of(error: &DataFusionError) -> Option<String> {
    match error.find_root() {
        DataFusionError::ParquetError(content) if !of_the_store(content) => {
            Some(content.to_string())
        }
        DataFusionError::ArrowError(content, _) => match content.as_ref() {
            ArrowError::ParquetError(content) => Some(content.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn of_the_store(error: &ParquetError) -> bool {
    matches!(error, ParquetError::External(inner) if inner.is::<object_store::Error>())
}
