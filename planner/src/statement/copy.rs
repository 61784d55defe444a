//! `COPY … FROM` and `COPY … TO`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use asofdb_sql::{Copy, CopyEndpoint, CopyFormat, CopyTarget, fold};
use datafusion::error::DataFusionError;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::catalog::Source;
use crate::database::Database;
use crate::error::{Error, ObjectKind, Result, nearest};
use crate::session::{CopyIn, Outcome};
use crate::source_file::{ParquetRows, allowed_new_file, allowed_path, conform};
use crate::source_table::nullable;
use crate::statement::insert::writable;
use crate::task::blocking;

/// `COPY source FROM`: a file on the server, or rows that the client sends.
pub async fn from(database: &Database, copy: &Copy) -> Result<Outcome> {
    let CopyTarget::Table { name, columns } = &copy.target else {
        return Err(Error::unsupported("COPY FROM needs the name of a source"));
    };
    let catalog = database.inner.catalog();
    let source = Arc::clone(writable(&catalog, &fold(name))?);
    let names: Vec<String> = columns.iter().map(fold).collect();
    let schema = copied_columns(&source, &names)?;
    let copy_in = CopyIn { schema, copy: copy.clone(), database: database.clone(), source };
    match &copy.endpoint {
        CopyEndpoint::Stdin => Ok(Outcome::CopyIn(copy_in)),
        CopyEndpoint::Stdout => Err(Error::unsupported("COPY FROM STDOUT is not possible")),
        CopyEndpoint::File(path) => {
            let file = allowed_path(path, &database.inner.import_dirs)?;
            match file_format(copy, &file)? {
                CopyFormat::Parquet => {
                    let limit = database.inner.writing()?.options.memory_limit_bytes / 2;
                    let batches = read_parquet(file, Arc::clone(&copy_in.schema), limit).await?;
                    let mut rows = copy_in.begin();
                    for batch in batches {
                        rows.push(batch).await?;
                    }
                    Ok(Outcome::done(format!("COPY {}", rows.commit().await?)))
                }
                _ => Ok(Outcome::CopyFile { path: file, copy: copy_in }),
            }
        }
    }
}

/// All rows of a file, which may take `limit` bytes.
async fn read_parquet(file: PathBuf, schema: SchemaRef, limit: usize) -> Result<Vec<RecordBatch>> {
    let mut bytes = 0;
    let counted = move |batch: Result<RecordBatch>| {
        let batch = batch?;
        bytes += batch.get_array_memory_size();
        let message = || format!("the rows of one COPY take more than {} MiB", limit >> 20);
        match bytes > limit {
            true => Err(Error::DataFusion(DataFusionError::ResourcesExhausted(message()))),
            false => Ok(batch),
        }
    };
    blocking(move || ParquetRows::open(&file, schema)?.map(counted).collect()).await
}

/// The columns that a `COPY` names, or all.
fn copied_columns(source: &Source, names: &[String]) -> Result<SchemaRef> {
    match names.is_empty() {
        true => Ok(Arc::clone(&source.schema)),
        false => project(&source.schema, names),
    }
}

fn project(schema: &Schema, names: &[String]) -> Result<SchemaRef> {
    let field = |name: &String| {
        schema.field_with_name(name).cloned().map_err(|_| Error::Undefined {
            kind: ObjectKind::Column,
            name: name.clone(),
            nearest: nearest(name, schema.fields().iter().map(|f| f.name().as_str())),
        })
    };
    Ok(Arc::new(Schema::new(names.iter().map(field).collect::<Result<Vec<_>>>()?)))
}

/// The rows with all columns of the source; those that were not copied are NULL.
pub fn complete(source: &Source, batch: &RecordBatch) -> Result<RecordBatch> {
    // NULL where none may be is refused by the ingest, with the source's name.
    conform(batch, &nullable(&source.schema))
}

fn file_format(copy: &Copy, file: &Path) -> Result<CopyFormat> {
    if let Some(format) = copy.format {
        return Ok(format);
    }
    match file.extension().and_then(|e| e.to_str()) {
        Some("parquet") => Ok(CopyFormat::Parquet),
        Some("csv") => Ok(CopyFormat::Csv),
        _ => Err(Error::Definition {
            message: format!("the format of \"{}\" is not known", file.display()),
            hint: Some("Add WITH (FORMAT parquet) or WITH (FORMAT csv).".into()),
        }),
    }
}

/// `COPY (query) TO 'file.parquet'`, row by row.
pub async fn to(database: &Database, copy: &Copy) -> Result<Outcome> {
    let CopyEndpoint::File(path) = &copy.endpoint else {
        return Err(Error::Unsupported {
            what: "COPY TO STDOUT is not supported yet".into(),
            hint: Some("Use SELECT, or COPY (query) TO 'file.parquet'.".into()),
        });
    };
    let file = allowed_new_file(path, &database.inner.import_dirs)?;
    if file_format(copy, &file)? != CopyFormat::Parquet {
        return Err(Error::unsupported("COPY TO writes Parquet only"));
    }
    let query = match &copy.target {
        CopyTarget::Query(query) => query.as_ref().clone(),
        CopyTarget::Table { name, .. } => {
            let select = asofdb_sql::parse(&format!("SELECT * FROM {name}"))?;
            match select.into_iter().next().map(|parsed| parsed.statement) {
                Some(asofdb_sql::Statement::Query(query)) => *query,
                _ => return Err(Error::Internal("a SELECT is a query".into())),
            }
        }
    };
    let catalog = database.inner.catalog();
    let planning = &database.inner.planning;
    let plan = planning.plan_query(&catalog, &query).await?;
    let state = planning.state(&catalog);
    let plan = planning.physical_plan(&state, plan, Vec::new()).await?;
    let mut stream = planning.run(plan, &state)?;
    let mut writer = PartialFile::create(&file, stream.schema())?;
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await.map_err(Error::from_datafusion)? {
        rows += batch.num_rows();
        writer.write(&batch)?;
    }
    writer.finish()?;
    Ok(Outcome::done(format!("COPY {rows}")))
}

/// How a file is written. Sums and means seldom repeat: collecting their distinct values takes more
/// time than it saves.
fn properties(schema: &Schema) -> WriterProperties {
    let mut properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
    for field in schema.fields().iter().filter(|field| *field.data_type() == DataType::Float64) {
        let column = ColumnPath::from(vec![field.name().clone()]);
        properties = properties.set_column_dictionary_enabled(column, false);
    }
    properties.build()
}

/// A Parquet file under another name until it is whole; removed if it never is.
struct PartialFile {
    partial: PathBuf,
    target: PathBuf,
    writer: Option<ArrowWriter<std::fs::File>>,
}

impl PartialFile {
    fn create(target: &Path, schema: SchemaRef) -> Result<Self> {
        let mut partial = target.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = std::fs::File::create(&partial)
            .map_err(|source| Error::File { path: target.display().to_string(), source })?;
        let properties = properties(&schema);
        let writer =
            ArrowWriter::try_new(file, schema, Some(properties)).map_err(DataFusionError::from)?;
        Ok(PartialFile { partial, target: target.to_owned(), writer: Some(writer) })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            writer.write(batch).map_err(DataFusionError::from)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            let file = writer.into_inner().map_err(DataFusionError::from)?;
            let named = |source| Error::File { path: self.target.display().to_string(), source };
            file.sync_all().map_err(named)?;
            std::fs::rename(&self.partial, &self.target).map_err(named)?;
        }
        Ok(())
    }
}

impl std::ops::Drop for PartialFile {
    fn drop(&mut self) {
        // A file that was finished has gone to its target.
        let _ = std::fs::remove_file(&self.partial);
    }
}
