//! The rows of all inputs, gathered: each is told which partition it goes to and stays where it is.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::hash_utils::create_hashes;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;
use datafusion::physical_plan::sorts::streaming_merge::SortedSpillFile;
use futures::TryStreamExt;
use parking_lot::Mutex;

use super::packed::{self, Goes, Order, Packed};
use super::sorted::{Parts, Sorted, batch_rows};
use crate::task::all_beside;

/// What the order of a row takes in memory, and its partition.
const ORDER_BYTES: usize = size_of::<u128>() + size_of::<u16>();

/// How rows are gathered.
pub struct Gathering {
    pub by: LexOrdering,
    pub schema: SchemaRef,
    /// What partitions are told by, if there are several.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub partitions: usize,
    pub metrics: ExecutionPlanMetricsSet,
    pub context: Arc<TaskContext>,
}

/// Rows that were gathered.
pub enum Rows {
    /// In memory.
    Held(Held),
    /// Of each partition, sorted runs on the disk.
    Spilled { runs: Vec<Mutex<Vec<SortedSpillFile>>>, spills: SpillManager },
}

/// Batches, and of their rows what is needed for ordering them.
pub struct Held {
    /// The rows.
    pub parts: Arc<Parts>,
    /// For each partition, which takes it.
    pub keys: Mutex<Vec<Option<Arc<SortKeys>>>>,
    /// What the rows take, as long as anybody has it.
    pub memory: Arc<MemoryReservation>,
}

/// Of each batch the columns by which rows are sorted, and the partitions of its rows.
#[derive(Default)]
pub struct SortKeys {
    columns: Vec<Vec<ArrayRef>>,
    partitions: Vec<Vec<u16>>,
    packed: Option<Arc<Packed>>,
}

impl Gathering {
    /// Takes all rows of `inputs`, side by side.
    pub async fn run(self, inputs: Vec<SendableRecordBatchStream>) -> Result<Rows> {
        let collected = Arc::new(Mutex::new(Collected::new(&self)));
        let gathering = Arc::new(self);
        all_beside(inputs.into_iter().map(|mut input| {
            let (gathering, collected) = (Arc::clone(&gathering), Arc::clone(&collected));
            async move {
                while let Some(batch) = input.try_next().await? {
                    if batch.num_rows() > 0 {
                        let keys = gathering.sort_keys(&batch)?;
                        collected.lock().hold(&gathering, batch, keys)?;
                    }
                }
                Ok(())
            }
        }))
        .await?;
        let mut collected = collected.lock();
        collected.finish(&gathering)
    }

    /// The sort columns of a batch, and the partitions of its rows: those that DataFusion's
    /// repartitioning by hash would give them.
    fn sort_keys(&self, batch: &RecordBatch) -> Result<(Vec<ArrayRef>, Vec<u16>)> {
        let rows = batch.num_rows();
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(rows);
        let columns = self.by.iter().map(|by| evaluate(&by.expr)).collect::<Result<_>>()?;
        if self.partitions == 1 {
            return Ok((columns, Vec::new()));
        }
        let keys = self.keys.iter().map(evaluate).collect::<Result<Vec<_>>>()?;
        let mut hashes = vec![0; rows];
        create_hashes(&keys, REPARTITION_RANDOM_STATE.random_state(), &mut hashes)?;
        let partition = |hash: &u64| (hash % self.partitions as u64) as u16;
        Ok((columns, hashes.iter().map(partition).collect()))
    }
}

/// Rows being gathered.
struct Collected {
    batches: Vec<RecordBatch>,
    keys: SortKeys,
    /// For the rows that are held.
    memory: MemoryReservation,
    spills: SpillManager,
    runs: Vec<Vec<SortedSpillFile>>,
}

impl Collected {
    fn new(gathering: &Gathering) -> Self {
        let context = &gathering.context;
        let options = &context.session_config().options().execution;
        let metrics = SpillMetrics::new(&gathering.metrics, 0);
        let schema = Arc::clone(&gathering.schema);
        Collected {
            batches: Vec::new(),
            keys: SortKeys::default(),
            memory: MemoryConsumer::new("KeySort")
                .with_can_spill(true)
                .register(context.memory_pool()),
            spills: SpillManager::new(context.runtime_env(), metrics, schema)
                .with_compression_type(options.spill_compression),
            runs: (0..gathering.partitions).map(|_| Vec::new()).collect(),
        }
    }

    fn hold(
        &mut self,
        gathering: &Gathering,
        batch: RecordBatch,
        (columns, partitions): (Vec<ArrayRef>, Vec<u16>),
    ) -> Result<()> {
        let bytes = batch.get_array_memory_size() + batch.num_rows() * ORDER_BYTES;
        if let Err(error) = self.memory.try_grow(bytes) {
            if self.batches.is_empty() {
                return Err(error);
            }
            self.spill(gathering)?;
            self.memory.try_grow(bytes)?;
        }
        self.batches.push(batch);
        self.keys.columns.push(columns);
        self.keys.partitions.push(partitions);
        Ok(())
    }

    /// Writes the rows that are held, in order, a file for each partition.
    fn spill(&mut self, gathering: &Gathering) -> Result<()> {
        let (parts, keys) = self.take(gathering);
        let rows = batch_rows(self.memory.size(), keys.rows(), &gathering.context);
        for (partition, runs) in self.runs.iter_mut().enumerate() {
            let sorted = Sorted::new(&parts, keys.order(partition)?, rows, &[]);
            let mut file = self.spills.create_in_progress_file("KeySort")?;
            let mut largest = 0;
            for batch in sorted {
                largest = largest.max(file.append_batch(&batch?)?);
            }
            if let Some(file) = file.finish()? {
                runs.push(SortedSpillFile { file, max_record_batch_memory: largest });
            }
        }
        self.memory.free();
        Ok(())
    }

    /// The rows that are held; none are after that.
    fn take(&mut self, gathering: &Gathering) -> (Arc<Parts>, Arc<SortKeys>) {
        let mut keys = std::mem::take(&mut self.keys);
        keys.packed = Packed::of(&keys.columns).map(Arc::new);
        let batches = std::mem::take(&mut self.batches);
        let by = keys.packed.as_ref().map(|_| &gathering.by);
        (Arc::new(Parts::new(&gathering.schema, by, &batches)), Arc::new(keys))
    }

    fn finish(&mut self, gathering: &Gathering) -> Result<Rows> {
        if self.runs.iter().all(Vec::is_empty) {
            let (parts, keys) = self.take(gathering);
            return Ok(Rows::Held(Held {
                parts,
                keys: Mutex::new(vec![Some(keys); gathering.partitions]),
                memory: Arc::new(self.memory.take()),
            }));
        }
        if !self.batches.is_empty() {
            self.spill(gathering)?;
        }
        let runs = std::mem::take(&mut self.runs).into_iter().map(Mutex::new).collect();
        Ok(Rows::Spilled { runs, spills: self.spills.clone() })
    }
}

impl SortKeys {
    /// The number of rows of all partitions.
    pub fn rows(&self) -> usize {
        self.columns.iter().map(|columns| columns.first().map_or(0, |column| column.len())).sum()
    }

    /// The order of the rows of a partition.
    pub fn order(&self, partition: usize) -> Result<Order> {
        let goes = Goes { partitions: &self.partitions, partition: partition as u16 };
        Ok(packed::order(self.packed.as_ref(), &self.columns, &goes)?)
    }
}
