//! Both passes give what the join in one pass gives, and that runs if memory lacks.

use arrow::array::{Int64Array, StringArray, UInt64Array};
use arrow::compute::concat_batches;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::collect_partitioned;

use super::*;

const EVENTS: u64 = 10_000;
const BATCH: u64 = 100;
const LABELS: usize = 1_000;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

fn plan(partitions: Vec<Vec<RecordBatch>>) -> Arc<dyn ExecutionPlan> {
    let schema = partitions[0][0].schema();
    MemorySourceConfig::try_new_exec(&partitions, schema, None).unwrap()
}

fn text(position: u64) -> Option<String> {
    (!position.is_multiple_of(7)).then(|| format!("text {position}").repeat(position as usize % 5))
}

fn number(position: u64) -> Option<i64> {
    (!position.is_multiple_of(11)).then_some(position as i64 * 3)
}

/// Events, of which every fifth was filtered out; their order is none.
fn values() -> Arc<dyn ExecutionPlan> {
    let rows = |index: u64| {
        let scattered = (0..BATCH).map(move |row| (row * EVENTS / BATCH + index * 37) % EVENTS);
        let positions = || scattered.clone().filter(|position| !position.is_multiple_of(5));
        batch(vec![
            ("position", Arc::new(UInt64Array::from_iter_values(positions()))),
            ("text", Arc::new(positions().map(text).collect::<StringArray>())),
            ("number", Arc::new(positions().map(number).collect::<Int64Array>())),
        ])
    };
    let batches = |part: u64| (part..EVENTS / BATCH).step_by(3);
    plan((0..3).map(|part| batches(part).map(rows).collect()).collect())
}

/// Labels of a partition, and for each the positions that two calls picked. Some are picked by
/// none, and some by many.
fn picked(part: usize) -> Vec<(i64, Option<u64>, Option<u64>)> {
    let mut state = part as u64 + 1;
    let mut pick = |most: u64| {
        state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        let position = (state >> 33) % most;
        (!position.is_multiple_of(5)).then_some(position)
    };
    (0..LABELS as i64).map(|label| (label, pick(EVENTS), pick(40))).collect()
}

fn picks() -> Arc<dyn ExecutionPlan> {
    let rows = |labels: &[(i64, Option<u64>, Option<u64>)]| {
        let all = labels.iter();
        let position = |position: Option<u64>| position.map(|position| position as i64);
        let first: ArrayRef =
            Arc::new(all.clone().map(|row| position(row.1)).collect::<Int64Array>());
        let second: ArrayRef =
            Arc::new(all.clone().map(|row| position(row.2)).collect::<Int64Array>());
        batch(vec![
            ("label", Arc::new(Int64Array::from_iter_values(all.map(|row| row.0)))),
            ("a", Arc::clone(&first)),
            ("b", first),
            ("c", second),
        ])
    };
    plan((0..2).map(|part| picked(part).chunks(90).map(rows).collect()).collect())
}

/// The result: texts and numbers of the first positions, numbers of the second.
fn whole() -> Vec<RecordBatch> {
    let rows = |part: usize| {
        let labels = picked(part);
        let all = labels.iter();
        batch(vec![
            ("label", Arc::new(Int64Array::from_iter_values(all.clone().map(|row| row.0)))),
            ("a", Arc::new(all.clone().map(|row| row.1.and_then(text)).collect::<StringArray>())),
            ("b", Arc::new(all.clone().map(|row| row.1.and_then(number)).collect::<Int64Array>())),
            ("c", Arc::new(all.map(|row| row.2.and_then(number)).collect::<Int64Array>())),
        ])
    };
    (0..2).map(rows).collect()
}

async fn run(
    (picks, values): (Arc<dyn ExecutionPlan>, Arc<dyn ExecutionPlan>),
    whole: &[RecordBatch],
    memory_bytes: usize,
) -> Result<Vec<RecordBatch>> {
    let whole = plan(whole.iter().map(|rows| vec![rows.clone()]).collect());
    let schema = whole.schema();
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .build_arc()?;
    let context = Arc::new(TaskContext::default().with_runtime(Arc::clone(&runtime)));
    let files = FileStamps::of(&[]).await?;
    let fetch = Arc::new(LateFetchExec::new((picks, values, whole), vec![0, 1, 1], files));
    let partitions = collect_partitioned(fetch, context).await?;
    assert_eq!(runtime.memory_pool.reserved(), 0);
    let whole = partitions.iter().map(|batches| concat_batches(&schema, batches));
    Ok(whole.collect::<Result<_, _>>()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_fetched_for_what_was_picked() {
    let expected = whole();
    assert!(expected[0].column(1).null_count() > LABELS / 5);
    // In the place of the join in one pass one without rows: it is not run.
    let other: Vec<_> = expected.iter().map(|rows| rows.slice(0, 0)).collect();
    let found = run((picks(), values()), &other, 1 << 30).await.unwrap();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_may_be_picked() {
    let none = |rows: &RecordBatch| {
        let mut columns = rows.columns().to_vec();
        for column in &mut columns[1..] {
            *column = new_null_array(column.data_type(), rows.num_rows());
        }
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    let expected: Vec<_> = whole().iter().map(none).collect();
    let rows = |part: usize| {
        let nothing: ArrayRef = Arc::new(Int64Array::new_null(LABELS));
        let label = Arc::clone(expected[part].column(0));
        let columns = [("a", &nothing), ("b", &nothing), ("c", &nothing)];
        let columns = columns.map(|(name, column)| (name, Arc::clone(column)));
        vec![batch([("label", label)].into_iter().chain(columns).collect())]
    };
    let other: Vec<_> = expected.iter().map(|rows| rows.slice(0, 0)).collect();
    let picks = plan((0..2).map(rows).collect());
    assert_eq!(run((picks, values()), &other, 1 << 30).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_the_join_runs_in_one_pass() {
    // Told from both passes by its labels.
    let other: Vec<_> = whole().iter().map(|rows| rows.slice(0, 7)).collect();
    for memory_bytes in [0, 10 << 10, 60 << 10, 90 << 10, 400 << 10] {
        let found = run((picks(), values()), &other, memory_bytes).await.unwrap();
        assert_eq!(found, other, "{memory_bytes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_were_picked_have_to_be_there() {
    let lacking = plan(vec![vec![row(3)]]);
    let error = run((picks(), lacking), &whole(), 1 << 30).await.unwrap_err();
    assert!(error.to_string().contains("a row that was picked is not there"), "{error}");
    let twice = concat_batches(&row(7).schema(), &[row(7), row(7)]).unwrap();
    let picks = plan(vec![vec![label(7)]; 2]);
    let error = run((picks, plan(vec![vec![twice]])), &whole(), 1 << 30).await.unwrap_err();
    assert!(error.to_string().contains("two rows at position 7"), "{error}");
}

/// An event.
fn row(position: u64) -> RecordBatch {
    batch(vec![
        ("position", Arc::new(UInt64Array::from(vec![position]))),
        ("text", Arc::new(StringArray::from(vec!["a"]))),
        ("number", Arc::new(Int64Array::from(vec![1]))),
    ])
}

/// A label whose calls picked it.
fn label(position: i64) -> RecordBatch {
    let number = || Arc::new(Int64Array::from(vec![position])) as ArrayRef;
    batch(vec![("label", number()), ("a", number()), ("b", number()), ("c", number())])
}

#[tokio::test]
async fn files_have_to_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    std::fs::write(&path, "some").unwrap();
    let files = FileStamps::of(std::slice::from_ref(&path)).await.unwrap();
    let (picks, whole) = (plan(vec![vec![label(7)]]), plan(vec![vec![whole()[0].clone()]]));
    let values = plan(vec![vec![row(7)]]);
    let columns = vec![0, 1, 1];
    let fetch = || {
        let inputs = (Arc::clone(&picks), Arc::clone(&values), Arc::clone(&whole));
        let fetch = LateFetchExec::new(inputs, columns.clone(), files.clone());
        collect_partitioned(Arc::new(fetch), Arc::default())
    };
    assert_eq!(fetch().await.unwrap()[0][0].num_rows(), 1);
    let other = folder.path().join("other");
    std::fs::write(&other, "same").unwrap();
    std::fs::rename(other, &path).unwrap();
    let error = fetch().await.unwrap_err();
    assert!(error.to_string().contains("was changed while it was read"), "{error}");
}
