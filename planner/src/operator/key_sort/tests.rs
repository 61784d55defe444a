//! The sort gives what DataFusion's gives, also when it spills.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::{ExecutionPlan, collect};
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

async fn run(plan: Arc<dyn ExecutionPlan>, memory_bytes: usize) -> RecordBatch {
    let mut config = SessionConfig::new().with_batch_size(256);
    config.options_mut().execution.sort_spill_reservation_bytes = 64 << 10;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .build_arc()
        .unwrap();
    let context = TaskContext::default().with_session_config(config).with_runtime(runtime);
    let schema = plan.schema();
    concat_batches(&schema, &collect(plan, Arc::new(context)).await.unwrap()).unwrap()
}

#[tokio::test]
async fn rows_come_in_the_order_of_data_fusions_sort() {
    let expected = run(Arc::new(sort()), 1 << 30).await;
    assert_eq!(expected.num_rows() as u64, BATCHES * ROWS);
    assert!(expected.column(0).null_count() > 0);
    for (memory_bytes, spills) in [(1 << 30, false), (600 << 10, true)] {
        let sort = Arc::new(KeySortExec::of(&sort()).unwrap());
        let found = run(Arc::clone(&sort) as _, memory_bytes).await;
        assert_eq!(found, expected);
        let spilled = sort.metrics().unwrap().spill_count().unwrap_or(0);
        assert_eq!(spilled > 0, spills, "{spilled} spills");
    }
}
