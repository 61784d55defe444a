//! The sort gives what DataFusion's gives, also when it spills.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned};
use datafusion::prelude::SessionConfig;

use super::*;
use crate::operator::as_of_join::ORDER;

const BATCHES: u64 = 40;
const ROWS: u64 = 500;

/// Rows with NULL keys, ties in key and time, and texts.
fn rows(batch: u64) -> RecordBatch {
    let number = |row: u64| (batch * ROWS + row).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let key = (0..ROWS).map(|row| Some(number(row) as i64 % 97 - 48).filter(|k| k % 13 != 0));
    let time = (0..ROWS).map(|row| number(row) as i64 % 1000 - 500);
    let position = (0..ROWS).map(|row| batch * ROWS + row);
    let text = (0..ROWS).map(|row| Some("x".repeat(number(row) as usize % 40)));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(key.collect::<Int64Array>())),
        ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(time).with_timezone("UTC"))),
        ("position", Arc::new(UInt64Array::from_iter_values(position))),
        ("text", Arc::new(text.collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

fn sort() -> SortExec {
    let batches: Vec<RecordBatch> = (0..BATCHES).map(rows).collect();
    let schema = batches[0].schema();
    let by = ["key", "time", "position"]
        .map(|name| PhysicalSortExpr { expr: col(name, &schema).unwrap(), options: ORDER });
    let input = MemorySourceConfig::try_new_exec(&[batches], schema, None).unwrap();
    SortExec::new(LexOrdering::new(by).unwrap(), input)
}

/// The same, with rows that are told by hash which of three partitions they go to.
fn sort_by_hash() -> SortExec {
    let inputs: Vec<Vec<RecordBatch>> =
        (0..2).map(|part| (0..BATCHES).filter(|i| i % 2 == part).map(rows).collect()).collect();
    let schema = inputs[0][0].schema();
    let input = MemorySourceConfig::try_new_exec(&inputs, Arc::clone(&schema), None).unwrap();
    let by_hash = Partitioning::Hash(vec![col("key", &schema).unwrap()], 3);
    let input = Arc::new(RepartitionExec::try_new(input, by_hash).unwrap());
    SortExec::new(sort().expr().clone(), input).with_preserve_partitioning(true)
}

fn context(memory_bytes: usize) -> Arc<TaskContext> {
    let mut config = SessionConfig::new().with_batch_size(256);
    config.options_mut().execution.sort_spill_reservation_bytes = 64 << 10;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .build_arc()
        .unwrap();
    Arc::new(TaskContext::default().with_session_config(config).with_runtime(runtime))
}

/// The rows of each partition.
async fn run(plan: Arc<dyn ExecutionPlan>, memory_bytes: usize) -> Vec<RecordBatch> {
    let schema = plan.schema();
    let partitions = collect_partitioned(plan, context(memory_bytes)).await.unwrap();
    partitions.iter().map(|batches| concat_batches(&schema, batches).unwrap()).collect()
}

#[tokio::test]
async fn rows_come_in_the_order_of_data_fusions_sort() {
    for (sort, partitions) in [(sort(), 1), (sort_by_hash(), 3)] {
        let expected = run(Arc::new(sort.clone()), 1 << 30).await;
        let rows: usize = expected.iter().map(RecordBatch::num_rows).sum();
        assert_eq!((expected.len(), rows as u64), (partitions, BATCHES * ROWS));
        assert!(expected.iter().any(|rows| rows.column(0).null_count() > 0));
        for (memory_bytes, spills) in [(1 << 30, false), (900 << 10, true)] {
            let sort = Arc::new(KeySortExec::of(&sort).unwrap());
            let found = run(Arc::clone(&sort) as _, memory_bytes).await;
            assert_eq!(found, expected);
            let spilled = sort.metrics().unwrap().spill_count().unwrap_or(0);
            assert_eq!(spilled > 0, spills, "{spilled} spills");
        }
    }
}

#[tokio::test]
async fn a_partition_without_rows_may_be_beside_others_that_spill() {
    let batches: Vec<RecordBatch> = (0..BATCHES).map(rows).collect();
    let schema = batches[0].schema();
    let one_key = |batch: RecordBatch| {
        let mut columns = batch.columns().to_vec();
        columns[0] = Arc::new(Int64Array::from(vec![7; batch.num_rows()]));
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    };
    let batches: Vec<RecordBatch> = batches.into_iter().map(one_key).collect();
    let input = MemorySourceConfig::try_new_exec(&[batches], Arc::clone(&schema), None).unwrap();
    let by_hash = Partitioning::Hash(vec![col("key", &schema).unwrap()], 3);
    let input = Arc::new(RepartitionExec::try_new(input, by_hash).unwrap());
    let sort = SortExec::new(sort().expr().clone(), input).with_preserve_partitioning(true);
    let sort = Arc::new(KeySortExec::of(&sort).unwrap());
    let found = run(Arc::clone(&sort) as _, 900 << 10).await;
    assert!(sort.metrics().unwrap().spill_count().unwrap_or(0) > 0);
    let mut rows: Vec<usize> = found.iter().map(RecordBatch::num_rows).collect();
    rows.sort_unstable();
    assert_eq!(rows, [0, 0, (BATCHES * ROWS) as usize]);
}

#[tokio::test]
async fn columns_are_fetched_that_were_left_out() {
    let sort = Arc::new(KeySortExec::of(&sort_by_hash()).unwrap());
    let expected = run(Arc::clone(&sort) as _, 1 << 30).await;
    let sort = KeySortExec::of(&sort_by_hash()).unwrap();
    for (partition, expected) in expected.iter().enumerate() {
        let mut rows = sort.rows(partition, &[3], context(1 << 30)).unwrap();
        let mut at = 0;
        while let Some(batch) = rows.stream.try_next().await.unwrap() {
            let parts = rows.late.get().unwrap();
            let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
            assert_eq!(names, ["key", "time", "position", "__place"]);
            let numbers = batch.column(3).as_primitive::<Int64Type>();
            let mut places = parts.places(numbers);
            places.extend(parts.places(&Int64Array::from(vec![None])));
            let fetched = parts.fetch(3, &places).unwrap();
            assert_eq!(
                &fetched.slice(0, batch.num_rows()),
                &expected.column(3).slice(at, batch.num_rows())
            );
            assert!(fetched.is_null(batch.num_rows()));
            at += batch.num_rows();
        }
        assert_eq!(at, expected.num_rows());
    }
}
