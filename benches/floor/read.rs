//! What a training set cannot cost less than: its columns read from Parquet, or read and sorted by
//! DataFusion as a point-in-time join wants them.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use datafusion::execution::context::SessionContext;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, execute_stream_partitioned};
use datafusion::prelude::ParquetReadOptions;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Error;
use crate::process::Usage;
use crate::train::Cost;

/// The flags of `floor read`.
#[derive(Args)]
pub struct ReadArgs {
    /// Files, each with its columns: `events.parquet:user_id,ts`
    #[arg(required = true, value_name = "FILE:COLUMNS")]
    files: Vec<String>,
    /// Sort each by its user_id and ts, after it is divided among as many partitions as there are cores
    #[arg(long)]
    sort: bool,
    /// How many rows the files have together
    #[arg(long, value_name = "N")]
    rows: usize,
    /// Passes of which the mean is taken: a pass is short, and CPU is counted in hundredths
    #[arg(long, default_value_t = 5, value_name = "N")]
    passes: u32,
}

/// Reads the files.
pub async fn run(args: &ReadArgs) -> Result<(), Error> {
    let files: Vec<(&str, Vec<&str>)> =
        args.files.iter().map(|file| parse(file)).collect::<Result<_, _>>()?;
    let passes = args.passes.max(1);
    let process = std::process::id();
    let (before, start) = (Usage::of(process)?, Instant::now());
    let mut rows = 0;
    for _ in 0..passes {
        rows = 0;
        for (file, columns) in &files {
            rows += match args.sort {
                true => sort(file, columns).await?,
                false => read(file, columns)?,
            };
        }
    }
    let each = |seconds: f64| seconds / f64::from(passes);
    let wall_s = each(start.elapsed().as_secs_f64());
    let after = Usage::of(process)?;
    let cost = Cost {
        wall_s,
        user_s: each(after.user_s - before.user_s),
        system_s: each(after.system_s - before.system_s),
        peak_mb: after.peak_mb,
    };
    if rows != args.rows {
        return Err(format!("{rows} rows instead of {}", args.rows).into());
    }
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

fn parse(file: &str) -> Result<(&str, Vec<&str>), Error> {
    let (path, columns) = file.rsplit_once(':').ok_or_else(|| format!("{file}: no columns"))?;
    Ok((path, columns.split(',').collect()))
}

/// Decodes columns of a file, in one thread.
fn read(path: &str, columns: &[&str]) -> Result<usize, Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let mut rows = 0;
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        if batch.num_columns() != columns.len() {
            return Err(format!("{path} has not all of {columns:?}").into());
        }
        rows += std::hint::black_box(batch).num_rows();
    }
    Ok(rows)
}

/// Reads columns of a file, divides the rows by user and sorts each part by user and time.
async fn sort(path: &str, columns: &[&str]) -> Result<usize, Error> {
    let context = SessionContext::new();
    let table = context.read_parquet(path, ParquetReadOptions::default()).await?;
    let plan = table.select_columns(columns)?.create_physical_plan().await?;
    let (user, ts) = (col("user_id", &plan.schema())?, col("ts", &plan.schema())?);
    let partitions = std::thread::available_parallelism()?.get();
    let by_user = Partitioning::Hash(vec![Arc::clone(&user)], partitions);
    let divided = RepartitionExec::try_new(plan, by_user)?;
    let ordering = [user, ts].map(PhysicalSortExpr::new_default);
    let ordering = LexOrdering::new(ordering).ok_or("there is an order")?;
    let sorted = SortExec::new(ordering, Arc::new(divided)).with_preserve_partitioning(true);
    let sorted: Arc<dyn ExecutionPlan> = Arc::new(sorted);
    let streams = execute_stream_partitioned(sorted, context.task_ctx())?;
    let counts = streams.into_iter().map(|stream| {
        tokio::spawn(stream.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }))
    });
    let mut rows = 0;
    for count in futures::future::try_join_all(counts).await? {
        rows += count?;
    }
    Ok(rows)
}
