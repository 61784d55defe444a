//! From sorted rows of one stream to one Parquet file of the history.
//!
//! Rows are sorted by the layout's columns, then (time, position), so that a reader that wants a
//! key or a stretch of time can skip row groups and pages by their statistics, and merge files
//! without sorting them again. A file is written piece by piece: memory is bounded by a row group.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{
    DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio::io::AsyncWriteExt;

use super::manifest::{DataFile, FileLayout};
use super::sums::Summing;
use super::target::{Target, blocking};
use crate::durable;
use crate::error::Error;

/// Rows of a row group: 128 Ki.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// What the rows of a stream look like.
#[derive(Clone, Debug)]
pub struct RowShape {
    /// The folder of the stream's files: a plain name, another for each stream.
    pub folder: String,
    /// The schema of every batch.
    pub schema: SchemaRef,
    /// The index of the event time: microseconds (or `Int64`), without NULLs.
    pub time_column: usize,
    /// The index of the position in the log: `UInt64` or `Int64`, without NULLs.
    pub position_column: usize,
}

/// Rows of one stream on their way into the history.
#[derive(Clone, Debug)]
pub struct StreamRows {
    /// What they look like.
    pub shape: RowShape,
    /// The rows, in any order.
    pub batches: Vec<RecordBatch>,
    /// The indices of the columns that they are sorted by before (time, position).
    pub sort_columns: Vec<usize>,
}

impl StreamRows {
    /// How a file of these rows is laid out.
    pub(super) fn layout(&self) -> FileLayout {
        let fields = self.shape.schema.fields();
        let names = self.sort_columns.iter().filter_map(|&index| fields.get(index));
        FileLayout { sorted_by: names.map(|f| f.name().clone()).collect(), bucket: None }
    }

    /// All rows in the order of the layout.
    pub(super) fn sorted(&self, stream: u32) -> Result<RecordBatch, Error> {
        let arrow = |source| Error::Arrow { stream, source };
        let batch = concat_batches(&self.shape.schema, &self.batches).map_err(arrow)?;
        let keys = [self.shape.time_column, self.shape.position_column];
        let sort = self.sort_columns.iter().chain(&keys).map(|&index| {
            let values = column(stream, &batch, index)?;
            Ok(SortColumn { values: Arc::clone(values), options: None })
        });
        let order = lexsort_to_indices(&sort.collect::<Result<Vec<_>, Error>>()?, None);
        take_record_batch(&batch, &order.map_err(arrow)?).map_err(arrow)
    }
}

/// A file under way. It becomes part of the history when a manifest names what
/// [`finish`](Self::finish) returned; until then a crash leaves garbage at most.
pub struct FileWriter {
    stream: u32,
    shape: RowShape,
    /// What is known of the file so far.
    file: DataFile,
    writer: AsyncArrowWriter<Summing<Upload>>,
}

impl FileWriter {
    pub(super) fn new(
        stream: u32,
        shape: RowShape,
        layout: FileLayout,
        (target, location, path): (&Target, &Path, String),
    ) -> Result<FileWriter, Error> {
        let properties = properties(&shape, &layout);
        let failed = |source| Error::Parquet { path: path.clone(), source };
        let properties = properties.map_err(failed)?;
        let upload = Summing::new(Upload::start(target, location)?);
        let schema = Arc::clone(&shape.schema);
        let writer = AsyncArrowWriter::try_new(upload, schema, Some(properties)).map_err(failed)?;
        let file = DataFile {
            path,
            rows: 0,
            bytes: 0,
            first_position: u64::MAX,
            last_position: 0,
            min_time: i64::MAX,
            max_time: i64::MIN,
            layout,
            sums: None,
        };
        Ok(FileWriter { stream, shape, file, writer })
    }

    /// Appends rows, which follow those before them in the layout's order.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRows`] for NULLs or other types in the two columns; [`Error::Parquet`],
    /// which carries failures of the store and the disk, too.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (min, max) = time_range(self.stream, batch, self.shape.time_column)?;
        let (first, last) = position_range(self.stream, batch, self.shape.position_column)?;
        self.writer.write(batch).await.map_err(|source| self.failed(source))?;
        self.file.rows += batch.num_rows() as u64;
        self.file.min_time = self.file.min_time.min(min);
        self.file.max_time = self.file.max_time.max(max);
        self.file.first_position = self.file.first_position.min(first);
        self.file.last_position = self.file.last_position.max(last);
        Ok(())
    }

    /// The number of rows so far.
    pub fn rows(&self) -> u64 {
        self.file.rows
    }

    /// Makes the file durable. `None`, and no file, if it has no rows.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn finish(mut self) -> Result<Option<DataFile>, Error> {
        if self.file.rows == 0 {
            self.abandon().await;
            return Ok(None);
        }
        self.writer.finish().await.map_err(|source| self.failed(source))?;
        self.file.bytes = self.writer.bytes_written() as u64;
        let (_, sums) = self.writer.into_inner().into_parts();
        Ok(Some(DataFile { sums: Some(sums), ..self.file }))
    }

    /// Gives up: what was written so far is removed, as far as that is possible. Parts that are
    /// already in an object store stay there if a writer is dropped instead.
    pub async fn abandon(self) {
        self.writer.into_inner().into_parts().0.abandon().await;
    }

    /// The failure of the disk or the store, if it was one.
    fn failed(&self, source: ParquetError) -> Error {
        let path = self.file.path.clone();
        let ParquetError::External(inner) = source else { return Error::Parquet { path, source } };
        // Parquet's writer wraps its own errors, too.
        let inner = match inner.downcast::<ParquetError>() {
            Ok(source) => return self.failed(*source),
            Err(inner) => inner,
        };
        let inner = match inner.downcast::<Error>() {
            Ok(error) => return *error,
            Err(inner) => inner,
        };
        match inner.downcast::<object_store::Error>() {
            Ok(source) => Error::Store { path, source: *source },
            Err(inner) => Error::Parquet { path, source: ParquetError::External(inner) },
        }
    }
}

/// Where the bytes of a file go.
enum Upload {
    /// Aside, and renamed when it is complete.
    Local { file: Arc<File>, aside: Arc<Aside>, path: PathBuf },
    /// To an object store, in parts if there are many.
    Store(Box<BufWriter>),
}

/// The name of a local file under way; nothing is left under it once nobody writes there.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // It is not there if the file was renamed; what cannot be removed is garbage for `open`.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Upload {
    fn start(target: &Target, location: &Path) -> Result<Upload, Error> {
        let Some(dir) = &target.local else {
            let writer = BufWriter::new(Arc::clone(&target.store), location.clone());
            // Parts in flight are in memory, for each of the files that a merge writes.
            let writer = writer.with_max_concurrency(2);
            return Ok(Upload::Store(Box::new(writer)));
        };
        let path = dir.join(location.as_ref());
        durable::create_dir(durable::parent_of(&path))?;
        let aside = durable::aside_of(&path);
        let file = File::create(&aside).map_err(Error::io("create", &aside))?;
        Ok(Upload::Local { file: Arc::new(file), aside: Arc::new(Aside(aside)), path })
    }

    async fn abandon(self) {
        match self {
            Upload::Local { aside, .. } => drop(aside),
            Upload::Store(mut writer) => drop(writer.abort().await),
        }
    }
}

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ParquetError>> {
        async move {
            match self {
                Upload::Local { file, aside, .. } => {
                    let (file, aside) = (Arc::clone(file), Arc::clone(aside));
                    let write =
                        move || (&*file).write_all(&bytes).map_err(Error::io("write", &aside.0));
                    blocking(write).await.map_err(external)
                }
                Upload::Store(writer) => writer.put(bytes).await.map_err(external),
            }
        }
        .boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), ParquetError>> {
        async move {
            match self {
                Upload::Local { file, aside, path } => {
                    let (file, path) = (Arc::clone(file), path.clone());
                    // Held, so that the name stays even if nobody waits for this any more.
                    let aside = Arc::clone(aside);
                    let publish = move || durable::publish(&file, &aside.0, &path);
                    blocking(publish).await.map_err(external)
                }
                Upload::Store(writer) => {
                    let unwrap = |error: std::io::Error| match error.downcast() {
                        Ok(error) => external::<object_store::Error>(error),
                        Err(error) => external(error),
                    };
                    writer.shutdown().await.map_err(unwrap)
                }
            }
        }
        .boxed()
    }
}

fn external<E: std::error::Error + Send + Sync + 'static>(error: E) -> ParquetError {
    ParquetError::External(Box::new(error))
}

fn properties(shape: &RowShape, layout: &FileLayout) -> Result<WriterProperties, ParquetError> {
    let sort_column = |name: &String| shape.schema.index_of(name);
    let mut order = layout.sorted_by.iter().map(sort_column).collect::<Result<Vec<_>, _>>()?;
    order.extend([shape.time_column, shape.position_column]);
    let sorting = order.iter().map(|&index| SortingColumn {
        column_idx: index as i32,
        descending: false,
        nulls_first: true,
    });
    // A sorting column is named by its leaf: with nested columns before it the indices differ.
    let flat = !shape.schema.fields().iter().any(|field| field.data_type().is_nested());
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_sorting_columns(flat.then(|| sorting.collect()))
        .build())
}

fn column(stream: u32, batch: &RecordBatch, index: usize) -> Result<&ArrayRef, Error> {
    let missing = || invalid(stream, format!("it has no column {index}"));
    batch.columns().get(index).ok_or_else(missing)
}

fn whole(stream: u32, batch: &RecordBatch, index: usize) -> Result<&ArrayRef, Error> {
    let column = column(stream, batch, index)?;
    match column.null_count() {
        0 => Ok(column),
        _ => Err(invalid(stream, format!("column {index} has NULLs"))),
    }
}

fn time_range(stream: u32, batch: &RecordBatch, index: usize) -> Result<(i64, i64), Error> {
    let column = whole(stream, batch, index)?;
    let values = match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().values()
        }
        DataType::Int64 => column.as_primitive::<Int64Type>().values(),
        other => {
            let reason = format!("its time column is {other}, not Timestamp(µs) or Int64");
            return Err(invalid(stream, reason));
        }
    };
    range(stream, values.iter().copied())
}

fn position_range(stream: u32, batch: &RecordBatch, index: usize) -> Result<(u64, u64), Error> {
    let column = whole(stream, batch, index)?;
    match column.data_type() {
        DataType::UInt64 => {
            range(stream, column.as_primitive::<UInt64Type>().values().iter().copied())
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().values().iter();
            let (first, last) = range(stream, values.copied())?;
            match (u64::try_from(first), u64::try_from(last)) {
                (Ok(first), Ok(last)) => Ok((first, last)),
                _ => Err(invalid(stream, format!("it has the position {first}"))),
            }
        }
        other => {
            let reason = format!("its position column is {other}, not UInt64 or Int64");
            Err(invalid(stream, reason))
        }
    }
}

fn range<V: Ord + Copy>(
    stream: u32,
    values: impl Iterator<Item = V> + Clone,
) -> Result<(V, V), Error> {
    match (values.clone().min(), values.max()) {
        (Some(min), Some(max)) => Ok((min, max)),
        _ => Err(invalid(stream, "it has no rows".to_owned())),
    }
}

pub(super) fn invalid(stream: u32, reason: String) -> Error {
    Error::InvalidRows { stream, reason }
}

/// Whether a file's name is one that [`History::writer`](super::History::writer) gives: what else
/// is there stays.
pub(super) fn is_ours(location: &Path) -> bool {
    let name = location.filename().unwrap_or_default();
    let Some((generation, rest)) = name.split_once('-') else { return false };
    let nonce = rest.strip_suffix(".tmp").unwrap_or(rest).strip_suffix(".parquet");
    let is_number = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    is_number(generation, 10) && nonce.is_some_and(|nonce| is_number(nonce, 16))
}
