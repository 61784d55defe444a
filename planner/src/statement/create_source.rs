//! `CREATE SOURCE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use asofdb_sql::{CreateSource, fold};

use crate::catalog::document::build_source;
use crate::catalog::{Connector, Relation};
use crate::data::SourceData;
use crate::database::Database;
use crate::error::{Error, ObjectKind, Result};
use crate::session::Outcome;
use crate::source_file::{ParquetRows, allowed_path};
use crate::statement::drop;

const TAG: &str = "CREATE SOURCE";

/// The options of a source and what they are for.
const OPTIONS: &[&str] = &["connector", "location", "retention"];

/// Declares a source.
pub async fn run(database: &Database, create: &CreateSource) -> Result<Outcome> {
    let inner = &database.inner;
    let _ddl = inner.writing()?.ddl.lock().await;
    let mut catalog = inner.catalog().as_ref().clone();
    let name = fold(&create.name);
    if create.if_not_exists && catalog.relations.contains_key(&name) {
        return Ok(Outcome::notice(TAG, format!("relation \"{name}\" already exists, skipping")));
    }
    if create.or_replace && catalog.source(&name).is_ok() {
        drop::check_unused(&catalog, ObjectKind::Source, &name)?;
    }
    let connector = connector(create, &inner.import_dirs)?;
    let definition = CreateSource { if_not_exists: false, or_replace: false, ..create.clone() };
    let id = catalog.take_id();
    let source = build_source(id, definition, connector, Arc::new(SourceData::default()))?;
    if let Connector::Parquet { files } = &source.connector {
        for file in files {
            ParquetRows::open(file, Arc::clone(&source.schema))?;
        }
    }
    let replaced = catalog.source(&name).ok().map(|s| s.id);
    catalog.add(&name, Relation::Source(Arc::new(source)), create.or_replace)?;
    inner.publish_catalog(catalog)?;
    if let Some(id) = replaced {
        inner.writing()?.history.drop_stream(id).await?;
    }
    Ok(Outcome::done(TAG))
}

/// Where a source's rows live, from its options.
///
/// The files of a parquet source are those that are there when the source is declared or the
/// database opened: online answers and training sets have the same rows.
pub fn connector(create: &CreateSource, import_dirs: &[PathBuf]) -> Result<Connector> {
    create.options.check(OPTIONS)?;
    let location = create.options.get("location").map(|value| value.text().to_owned());
    match (create.options.get("connector").map(|v| v.text()), location) {
        (None, None) => Ok(Connector::Log),
        (Some("parquet"), Some(location)) => {
            let files = files(&location, import_dirs)?;
            Ok(Connector::Parquet { files })
        }
        (Some("parquet"), None) => Err(Error::definition("connector 'parquet' needs a location")),
        (None, Some(_)) => Err(Error::Definition {
            message: "a location needs a connector".into(),
            hint: Some("Add connector = 'parquet'.".into()),
        }),
        (Some(other), _) => Err(Error::Definition {
            message: format!("there is no connector '{other}'"),
            hint: Some("Connectors: 'parquet'.".into()),
        }),
    }
}

/// The files at a location, which is a path; its last part may contain `*`.
fn files(location: &str, import_dirs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let path = location.strip_prefix("file://").unwrap_or(location);
    if path.contains("://") {
        return Err(Error::Unsupported {
            what: format!("location '{location}' is not supported yet"),
            hint: Some("Use a path below an allowed directory.".into()),
        });
    }
    let given = Path::new(path);
    let name = given.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if !name.contains('*') {
        return Ok(vec![allowed_path(path, import_dirs)?]);
    }
    let parent = given.parent().and_then(Path::to_str).filter(|p| !p.is_empty()).unwrap_or(".");
    let dir = allowed_path(parent, import_dirs)?;
    let entries = std::fs::read_dir(&dir)
        .map_err(|source| Error::File { path: dir.display().to_string(), source })?;
    let mut found = Vec::new();
    for entry in entries {
        let entry =
            entry.map_err(|source| Error::File { path: dir.display().to_string(), source })?;
        if entry.file_name().to_str().is_some_and(|n| matches_pattern(n, name)) {
            let path = entry.path();
            found.push(allowed_path(&path.display().to_string(), import_dirs)?);
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err(Error::definition(format!("no file matches '{location}'"))),
        false => Ok(found),
    }
}

/// Whether `name` fits a pattern in which `*` stands for any text.
fn matches_pattern(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((prefix, rest)) => name.strip_prefix(prefix).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|i| tail.is_char_boundary(*i))
                .any(|i| matches_pattern(&tail[i..], rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches_pattern;

    #[test]
    fn patterns() {
        assert!(matches_pattern("a.parquet", "*.parquet"));
        assert!(matches_pattern("day1-é.parquet", "day*-*.parquet"));
        assert!(!matches_pattern("a.csv", "*.parquet"));
        assert!(!matches_pattern("ab", "a"));
    }
}
