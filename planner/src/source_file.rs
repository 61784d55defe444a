//! Parquet files that others wrote: read in place as a source, or copied from.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use crate::catalog::with_position;
use crate::error::{Error, ObjectKind, Result, nearest};
use crate::task::blocking;
use crate::types::sql_name;

/// Rows in a batch read from a file, and bytes of its texts: 8 MiB. A row that has more is alone.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: u64 = 8 << 20;

/// Finds `path` below one of the allowed directories, symbolic links resolved.
///
/// # Errors
/// [`Error::FileNotAllowed`] outside of them, [`Error::File`] where it can't be opened.
pub fn allowed_path(path: &str, allowed: &[PathBuf]) -> Result<PathBuf> {
    let not_allowed = || Error::FileNotAllowed { path: path.to_owned(), allowed: allowed.to_vec() };
    let candidates: Vec<PathBuf> = if Path::new(path).is_absolute() {
        vec![PathBuf::from(path)]
    } else {
        allowed.iter().map(|dir| dir.join(path)).collect()
    };
    let mut failure = None;
    for candidate in candidates {
        match candidate.canonicalize() {
            Ok(real) if is_below(&real, allowed) => return Ok(real),
            Ok(_) => return Err(not_allowed()),
            // Whether a file outside exists is nobody's business.
            Err(error) if is_below(&candidate, allowed) && !has_parent_steps(&candidate) => {
                failure = Some(Error::File { path: path.to_owned(), source: error });
            }
            Err(_) => {}
        }
    }
    Err(failure.unwrap_or_else(not_allowed))
}

fn is_below(path: &Path, allowed: &[PathBuf]) -> bool {
    allowed.iter().any(|dir| {
        path.starts_with(dir) || dir.canonicalize().is_ok_and(|dir| path.starts_with(dir))
    })
}

fn has_parent_steps(path: &Path) -> bool {
    path.components().any(|c| matches!(c, std::path::Component::ParentDir))
}

/// Where a new file may be written: its directory has to be allowed.
pub fn allowed_new_file(path: &str, allowed: &[PathBuf]) -> Result<PathBuf> {
    let given = Path::new(path);
    let not_allowed = || Error::FileNotAllowed { path: path.to_owned(), allowed: allowed.to_vec() };
    let name = given.file_name().ok_or_else(not_allowed)?;
    let parent = given.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.map_or(".", |p| p.to_str().unwrap_or("."));
    let target = allowed_path(parent, allowed)?.join(name);
    if target.is_symlink() {
        return Err(not_allowed());
    }
    Ok(target)
}

/// What tells files from others that come into their places.
#[derive(Clone, Debug)]
pub struct FileStamps(Arc<[(PathBuf, Stamp)]>);

/// Device, inode, size, and the time of the last change with its nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

impl FileStamps {
    /// Those of files as they are now.
    pub async fn of(files: &[PathBuf]) -> Result<Self> {
        let files = files.to_vec();
        blocking(move || {
            let stamps = files.into_iter().map(|file| Ok((file.clone(), stamp(&file)?)));
            Ok(FileStamps(stamps.collect::<Result<_>>()?))
        })
        .await
    }

    /// # Errors
    /// A file is not what it was.
    pub async fn check(&self) -> Result<()> {
        let files = Arc::clone(&self.0);
        blocking(move || {
            for (file, before) in files.iter() {
                if stamp(file)? != *before {
                    let path = file.display();
                    let message = format!("\"{path}\" was changed while it was read");
                    return Err(Error::InvalidValue { message });
                }
            }
            Ok(())
        })
        .await
    }
}

fn stamp(path: &Path) -> Result<Stamp> {
    let data = path
        .metadata()
        .map_err(|source| Error::File { path: path.display().to_string(), source })?;
    Ok((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

/// The rows of a Parquet file, cast to `schema` by column name, as they are read.
pub struct ParquetRows {
    path: PathBuf,
    reader: parquet::arrow::arrow_reader::ParquetRecordBatchReader,
    /// Rows that were read and not given yet.
    left: RecordBatch,
    schema: SchemaRef,
}

impl ParquetRows {
    /// Opens a file. Columns of `schema` that the file lacks are an error.
    pub fn open(path: &Path, schema: SchemaRef) -> Result<Self> {
        ParquetRows::read(path, open_builder(path)?, schema)
    }

    /// The rows of some row groups.
    pub fn open_groups(path: &Path, schema: SchemaRef, row_groups: &[usize]) -> Result<Self> {
        let builder = open_builder(path)?.with_row_groups(row_groups.to_vec());
        ParquetRows::read(path, builder, schema)
    }

    fn read(
        path: &Path,
        builder: ParquetRecordBatchReaderBuilder<File>,
        schema: SchemaRef,
    ) -> Result<Self> {
        check_columns(path, builder.schema(), &schema)?;
        let mask = parquet::arrow::ProjectionMask::columns(
            builder.parquet_schema(),
            schema.fields().iter().map(|f| f.name().as_str()),
        );
        let reader = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|e| Error::DataFusion(DataFusionError::from(e)))?;
        let left = RecordBatch::new_empty(Arc::clone(&schema));
        Ok(ParquetRows { path: path.to_owned(), reader, left, schema })
    }
}

/// How many of the first rows have no more than [`BATCH_BYTES`] of texts; at least one.
fn fitting_rows(batch: &RecordBatch) -> usize {
    let texts: Vec<_> = batch.columns().iter().filter_map(|c| c.as_string_view_opt()).collect();
    let mut bytes = 0;
    let full = (0..batch.num_rows()).position(|row| {
        // The lower half of a view is the length.
        bytes += texts.iter().map(|text| u64::from(text.views()[row] as u32)).sum::<u64>();
        bytes > BATCH_BYTES
    });
    full.map_or(batch.num_rows(), |row| row.max(1))
}

fn open_builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path)
        .map_err(|source| Error::File { path: path.display().to_string(), source })?;
    let unreadable = |e: ParquetError| Error::InvalidValue {
        message: format!("\"{}\" is not a readable Parquet file: {e}", path.display()),
    };
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new());
    let metadata = metadata.map_err(unreadable)?;
    // Equal texts of a file may be stored once: as views they stay so, however many rows they are
    // in, until it is known how long they are.
    let views = metadata.schema().fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View))
        }
        _ => Arc::clone(field),
    });
    let options =
        ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(Fields::from_iter(views))));
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options);
    let metadata = metadata.map_err(unreadable)?;
    Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata))
}

/// The number of rows in each row group of a file.
pub fn row_groups(path: &Path) -> Result<Vec<u64>> {
    let builder = open_builder(path)?;
    let groups = builder.metadata().row_groups().iter();
    Ok(groups.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).collect())
}

fn check_columns(path: &Path, present: &Schema, wanted: &Schema) -> Result<()> {
    for field in wanted.fields() {
        if present.field_with_name(field.name()).is_err() {
            let names = present.fields().iter().map(|f| f.name().as_str());
            return Err(Error::Definition {
                message: format!(
                    "file \"{}\" has no {} \"{}\"",
                    path.display(),
                    ObjectKind::Column,
                    field.name()
                ),
                hint: nearest(field.name(), names).map(|n| format!("Did you mean \"{n}\"?")),
            });
        }
    }
    Ok(())
}

impl Iterator for ParquetRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.num_rows() == 0 {
            self.left = match self.reader.next()? {
                Ok(batch) => batch,
                Err(error) => {
                    return Some(Err(Error::InvalidValue {
                        message: format!("\"{}\" is damaged: {error}", self.path.display()),
                    }));
                }
            };
        }
        let rows = fitting_rows(&self.left);
        let batch = self.left.slice(0, rows);
        self.left = self.left.slice(rows, self.left.num_rows() - rows);
        Some(conform(&batch, &self.schema))
    }
}

/// The columns of `batch` in the order and of the types of `schema`, found by name.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) => cast_column(column, field),
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Casts without loss of rows: a value that does not fit is an error, never a NULL.
pub fn cast_column(column: &ArrayRef, field: &arrow::datatypes::Field) -> Result<ArrayRef> {
    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
    arrow::compute::cast_with_options(column, field.data_type(), &options).map_err(|error| {
        Error::InvalidValue {
            message: format!(
                "column \"{}\" of type {} can't be read as {}: {error}",
                field.name(),
                sql_name(column.data_type()),
                sql_name(field.data_type()),
            ),
        }
    })
}

/// Adds the position column: `first` for the first row.
pub fn number_rows(batch: &RecordBatch, first: u64) -> Result<RecordBatch> {
    let rows = batch.num_rows() as u64;
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from_iter_values(first..first + rows)));
    Ok(RecordBatch::try_new(with_position(&batch.schema()), columns)?)
}
