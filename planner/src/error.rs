//! What can go wrong between a statement and its answer. Variants carry data; the server maps
//! each to a SQLSTATE in one exhaustive match.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

/// The result of planner functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of objects that the catalog holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A table of events.
    Source,
    /// A relation with one row a key at every instant.
    Entity,
    /// A column of an entity, computed from events.
    Feature,
    /// A named query.
    View,
    /// A source, an entity or a view.
    Relation,
    /// A column of a source.
    Column,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Source => "source",
            ObjectKind::Entity => "entity",
            ObjectKind::Feature => "feature",
            ObjectKind::View => "view",
            ObjectKind::Relation => "relation",
            ObjectKind::Column => "column",
        })
    }
}

/// An error of planning or running a statement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a statement.
    #[error(transparent)]
    Sql(#[from] asofdb_sql::Error),
    /// A name that nothing has. SQLSTATE 42P01, or 42703 for columns and features.
    #[error("{kind} \"{name}\" does not exist")]
    Undefined {
        /// What was looked for.
        kind: ObjectKind,
        /// The name as folded.
        name: String,
        /// The nearest existing name.
        nearest: Option<String>,
    },
    /// A name that is taken. SQLSTATE 42P07, or 42701 for columns and features.
    #[error("{kind} \"{name}\" already exists")]
    Duplicate {
        /// The kind of the object that has the name.
        kind: ObjectKind,
        /// The name as folded.
        name: String,
    },
    /// The object is used by others. SQLSTATE 2BP01.
    #[error("cannot drop {kind} \"{name}\" because other objects depend on it: {}", .dependents.join(", "))]
    InUse {
        /// The kind of the object to drop.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// The objects that depend on it.
        dependents: Vec<String>,
    },
    /// A definition that can't be. SQLSTATE 42P17.
    #[error("{message}")]
    Definition {
        /// What is wrong, in the user's terms.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Valid SQL that is not supported. SQLSTATE 0A000.
    #[error("{what}")]
    Unsupported {
        /// What isn't supported.
        what: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// Types that do not fit. SQLSTATE 42804.
    #[error("{message}")]
    Type {
        /// What does not fit what.
        message: String,
    },
    /// A value that is not of its type. SQLSTATE 22P02.
    #[error("{message}")]
    InvalidValue {
        /// Which value, which type.
        message: String,
    },
    /// A number or instant outside its type's range. SQLSTATE 22003.
    #[error("{message}")]
    OutOfRange {
        /// Which value, which type.
        message: String,
    },
    /// A NULL where none may be. SQLSTATE 23502.
    #[error(
        "null value in column \"{column}\" of source \"{source_name}\" violates not-null constraint"
    )]
    NullValue {
        /// The source.
        source_name: String,
        /// The column.
        column: String,
    },
    /// Parameters that do not fit the statement. SQLSTATE 08P01.
    #[error("the statement has {expected} parameters, {given} were given")]
    ParameterCount {
        /// How many the statement has.
        expected: usize,
        /// How many were bound.
        given: usize,
    },
    /// A parameter that no statement can have. SQLSTATE 42P02.
    #[error("there is no parameter {id}")]
    NoParameter {
        /// The parameter as given.
        id: String,
    },
    /// A file outside of the directories allowed. SQLSTATE 42501.
    #[error("access to file \"{path}\" is not allowed")]
    FileNotAllowed {
        /// The path as given.
        path: String,
        /// The directories that are allowed.
        allowed: Vec<PathBuf>,
    },
    /// A file that can't be read or written. SQLSTATE 58P01 where it does not exist, else 58030.
    #[error("could not access file \"{path}\": {source}")]
    File {
        /// The path as given.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// More columns than a relation may have. SQLSTATE 54011.
    #[error("{count} columns are more than the {limit} that a relation may have")]
    TooManyColumns {
        /// How many were asked for.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A feature was replaced or dropped while a statement read it. SQLSTATE 40001.
    #[error("the features changed while the statement ran")]
    Changed,
    /// A feature cannot be computed from the events that are there, or its state not be kept. The
    /// SQLSTATE is that of the reason.
    #[error("{0}")]
    Fill(Arc<Error>),
    /// What only the server that has the events can do. SQLSTATE 25006.
    #[error("{what}")]
    ReadOnly {
        /// What this server cannot do.
        what: String,
    },
    /// A lookup of state that is not complete yet. SQLSTATE 57P03.
    #[error("online state of entity \"{entity}\" is being filled: {rows} rows{} are in", of(*.rows_total))]
    Filling {
        /// The entity.
        entity: String,
        /// The rows that it is filled with so far.
        rows: u64,
        /// The rows in all, if that is known.
        rows_total: Option<u64>,
    },
    /// The client cancelled the statement or left, and what it had begun was undone. SQLSTATE 57014.
    #[error("the statement was cancelled")]
    Cancelled,
    /// No more rows are taken before some of those in memory are in the history. SQLSTATE 53200.
    #[error("{} MiB of rows wait in memory for the history", .bytes >> 20)]
    TailsFull {
        /// The memory that they take.
        bytes: u64,
    },
    /// The database is closing. SQLSTATE 57P01.
    #[error("the database is shutting down")]
    Closing,
    /// An aggregate's error.
    #[error(transparent)]
    Aggregate(#[from] asofdb_udfs::Error),
    /// The log's, the history's or the catalog file's error.
    #[error(transparent)]
    Storage(#[from] asofdb_storage::Error),
    /// DataFusion's error.
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
    /// Arrow's error.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// A broken invariant: a defect of ours. SQLSTATE XX000.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Sql(error) => error.hint(),
            Error::Undefined { nearest: Some(name), .. } => {
                Some(format!("Did you mean \"{name}\"?"))
            }
            Error::Changed => Some("Run it again.".into()),
            Error::ReadOnly { .. } => {
                Some("This server was started with --read-only: it serves lookups.".into())
            }
            Error::TailsFull { .. } => Some("Checkpoints fail: see the server's log.".into()),
            Error::Filling { .. } => Some("SHOW JOBS shows how far it has come.".into()),
            Error::InUse { .. } => Some("Use DROP ... CASCADE to drop them too.".into()),
            Error::Definition { hint, .. } | Error::Unsupported { hint, .. } => hint.clone(),
            Error::FileNotAllowed { allowed, .. } if allowed.is_empty() => {
                Some("Start the server with --import-dir DIR to allow a directory.".into())
            }
            Error::FileNotAllowed { allowed, .. } => {
                let list: Vec<_> = allowed.iter().map(|d| d.display().to_string()).collect();
                Some(format!("Allowed directories: {}.", list.join(", ")))
            }
            _ => None,
        }
    }

    /// Whether online state lacks events that a read as of the past may need.
    pub(crate) fn is_forgotten(&self) -> bool {
        matches!(self, Error::Storage(asofdb_storage::Error::StateForgotten { .. }))
    }

    pub(crate) fn definition(message: impl Into<String>) -> Self {
        Error::Definition { message: message.into(), hint: None }
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Error::Unsupported { what: what.into(), hint: None }
    }
}

fn of(rows_total: Option<u64>) -> String {
    rows_total.map_or_else(String::new, |total| format!(" of {total}"))
}

impl From<Error> for DataFusionError {
    /// Carries our error through DataFusion's planner; [`Error::from_datafusion`] takes it out.
    fn from(error: Error) -> Self {
        match error {
            Error::DataFusion(error) => error,
            error => DataFusionError::External(Box::new(error)),
        }
    }
}

/// The entry among `names` that `name` was most likely meant to be.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    names
        .map(|n| (strsim::damerau_levenshtein(name, n), n))
        .filter(|(distance, n)| *distance <= 2.max(n.len() / 3))
        .min()
        .map(|(_, n)| n.to_owned())
}

impl Error {
    /// Takes our own error out of one that went through DataFusion.
    pub fn from_datafusion(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Error>() {
                Ok(error) => *error,
                Err(inner) => Error::DataFusion(DataFusionError::External(inner)),
            },
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)
                if matches!(inner.find_root(), DataFusionError::External(_)) =>
            {
                Error::from_datafusion(*inner)
            }
            DataFusionError::ArrowError(inner, trace) => match *inner {
                ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
                    Ok(error) => Error::from_datafusion(*error),
                    Err(inner) => Error::Arrow(ArrowError::ExternalError(inner)),
                },
                inner => Error::DataFusion(DataFusionError::ArrowError(Box::new(inner), trace)),
            },
            error => Error::DataFusion(error),
        }
    }
}
