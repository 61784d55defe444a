//! From errors to what a client sees: SQLSTATE, message, hint and position.
//!
//! No message holds Rust's debug output or the names of our layers.

mod engine;

use asofdb_planner::{Error, ObjectKind};
use pgwire::error::ErrorInfo;

use crate::copy::CopyError;
use crate::encode::EncodeError;
use crate::input::InputError;

/// An `ERROR` with a SQLSTATE and a message.
pub fn error(code: &str, message: impl Into<String>) -> ErrorInfo {
    with_severity("ERROR", code, message.into())
}

/// An error that ends the connection.
pub fn fatal(code: &str, message: impl Into<String>) -> ErrorInfo {
    with_severity("FATAL", code, message.into())
}

/// A message that isn't an error: `WARNING`, `NOTICE`, `INFO`.
pub fn notice(severity: &str, code: &str, message: impl Into<String>) -> ErrorInfo {
    with_severity(severity, code, message.into())
}

fn with_severity(severity: &str, code: &str, message: String) -> ErrorInfo {
    let mut info = ErrorInfo::new(severity.to_owned(), code.to_owned(), message);
    info.severity_nonlocalized = Some(severity.to_owned());
    info
}

fn hinted(mut info: ErrorInfo, hint: Option<String>) -> ErrorInfo {
    info.hint = hint;
    info
}

/// What the client is told about an error of the statement in `sql`.
pub fn of_planner(source: &Error, sql: &str) -> ErrorInfo {
    let info = |code: &str| hinted(error(code, source.to_string()), source.hint());
    match source {
        Error::Sql(source) => of_sql(source, sql),
        Error::Undefined { kind, .. } => info(match kind {
            ObjectKind::Feature | ObjectKind::Column => "42703",
            ObjectKind::Source | ObjectKind::Entity | ObjectKind::View | ObjectKind::Relation => {
                "42P01"
            }
        }),
        Error::Duplicate { kind, .. } => info(match kind {
            ObjectKind::Feature | ObjectKind::Column => "42701",
            ObjectKind::Source | ObjectKind::Entity | ObjectKind::View | ObjectKind::Relation => {
                "42P07"
            }
        }),
        Error::InUse { .. } => info("2BP01"),
        Error::Definition { .. } => info("42P17"),
        Error::Unsupported { .. } => info("0A000"),
        Error::Type { .. } => info("42804"),
        Error::InvalidValue { .. } => info("22P02"),
        Error::OutOfRange { .. } => info("22003"),
        Error::NullValue { source_name, column } => {
            let mut info = info("23502");
            info.table = Some(source_name.clone());
            info.column = Some(column.clone());
            info
        }
        Error::ParameterCount { .. } => info("08P01"),
        Error::NoParameter { .. } => info("42P02"),
        Error::FileNotAllowed { .. } => info("42501"),
        Error::File { source: reason, .. } => info(match reason.kind() {
            std::io::ErrorKind::NotFound => "58P01",
            std::io::ErrorKind::PermissionDenied => "42501",
            _ => "58030",
        }),
        Error::TooManyColumns { .. } => info("54011"),
        Error::Changed => info("40001"),
        Error::ReadOnly { .. } => info("25006"),
        Error::Filling { .. } => info("57P03"),
        Error::Cancelled => info("57014"),
        Error::TailsFull { .. } => info("53200"),
        Error::Fill(reason) => of_planner(reason, sql),
        Error::Closing => info("57P01"),
        Error::Aggregate(source) => of_aggregate(source),
        Error::Storage(source) => of_storage(source),
        Error::DataFusion(source) => engine::of_datafusion(source, sql),
        Error::Arrow(source) => engine::of_arrow(source, sql),
        Error::Internal(_) => info("XX000"),
    }
}

/// What the client is told about a text that is no statement.
pub fn of_sql(source: &asofdb_sql::Error, sql: &str) -> ErrorInfo {
    use asofdb_sql::{Error as Sql, NameProblem};
    let code = match source {
        Sql::Syntax { .. } | Sql::UnknownOption { .. } | Sql::DuplicateOption { .. } => "42601",
        Sql::Unsupported { .. } => "0A000",
        Sql::TooComplex { .. } => "54001",
        Sql::TooLarge { .. } => "54000",
        Sql::InvalidName { problem: NameProblem::TooLong { .. }, .. } => "42622",
        Sql::InvalidName { .. } => "42602",
        Sql::InvalidText { .. } => "22021",
    };
    let mut info = hinted(error(code, source.to_string()), source.hint());
    info.position = source.position(sql).map(|position| position.to_string());
    info
}

fn of_aggregate(source: &asofdb_udfs::Error) -> ErrorInfo {
    use asofdb_udfs::Error as Udfs;
    let code = match source {
        Udfs::NoSuchAggregate { .. } => "42883",
        Udfs::ArgumentType { .. } | Udfs::ArgumentCount { .. } => "42883",
        Udfs::Distinct { .. } | Udfs::IgnoreNulls { .. } => "0A000",
        Udfs::OutOfRange { .. } => "22003",
        Udfs::NegativeOffset { .. } => "22013",
        Udfs::FrameOrder { .. } => "42P20",
        Udfs::UnsupportedColumn { .. } => "0A000",
        Udfs::TooManyEvents { .. } => "54000",
        Udfs::Damaged { .. } | Udfs::DamagedBytes { .. } => "XX001",
        _ => "XX000",
    };
    error(code, source.to_string())
}

fn of_storage(source: &asofdb_storage::Error) -> ErrorInfo {
    use asofdb_storage::Error as Storage;
    let code = match source {
        Storage::DiskFull { .. } => "53100",
        Storage::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => "53100",
        Storage::Io { .. } | Storage::LogFailed { .. } | Storage::Store { .. } => "58030",
        Storage::LogClosed | Storage::HistoryClosed => "57P01",
        Storage::Locked { .. } | Storage::FilesGone { .. } => "55006",
        Storage::ManifestConflict { .. } | Storage::ForeignHistory { .. } => "55006",
        Storage::InvalidTransaction { .. } | Storage::InvalidEntry { .. } => "54000",
        Storage::StateNotReady { .. }
        | Storage::StateLost { .. }
        | Storage::StateDamaged { .. }
        | Storage::StateBehind { .. }
        | Storage::StateGap { .. }
        | Storage::FillGap { .. } => {
            let hint = "Online state is being completed from the events; try again in a while.";
            return hinted(error("57P03", source.to_string()), Some(hint.to_owned()));
        }
        Storage::StoreUnavailable { .. } => "57P03",
        Storage::StoreRefusesWrites { .. } => "53000",
        Storage::StoreDenied { .. } | Storage::StoreUrl { .. } => "28000",
        Storage::StateFenced { .. }
        | Storage::WriterLeased { .. }
        | Storage::ForeignState { .. } => "55006",
        Storage::StoreReadOnly => "25006",
        Storage::StoreEvicts { .. } | Storage::StateForgotten { .. } => "55000",
        _ => "XX001",
    };
    error(code, source.to_string())
}

impl From<InputError> for Box<ErrorInfo> {
    fn from(source: InputError) -> Self {
        let mut info = error(source.code, source.message);
        info.detail = source.detail;
        Box::new(info)
    }
}

impl From<CopyError> for Box<ErrorInfo> {
    fn from(source: CopyError) -> Self {
        let mut info = Box::<ErrorInfo>::from(source.error);
        info.where_context = Some(source.context);
        info
    }
}

impl From<EncodeError> for Box<ErrorInfo> {
    fn from(source: EncodeError) -> Self {
        Box::new(match &source {
            EncodeError::Arrow(source) => engine::of_arrow(source, ""),
            EncodeError::NestedArray => error("0A000", source.to_string()),
        })
    }
}

#[cfg(test)]
mod tests;
