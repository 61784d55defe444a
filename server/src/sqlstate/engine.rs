//! DataFusion's and Arrow's errors in the user's terms.

use std::error::Error as StdError;
use std::sync::Arc;

use arrow::error::ArrowError;
use asofdb_planner::Error;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use pgwire::error::ErrorInfo;
use tokio::task::JoinError;

use super::{error, of_planner};

/// An error of planning or running a query.
pub(super) fn of_datafusion(source: &DataFusionError, sql: &str) -> ErrorInfo {
    if let Some(ours) = find_ours(source) {
        return of_planner(ours, sql);
    }
    match source.find_root() {
        DataFusionError::ArrowError(source, _) => of_arrow(source, sql),
        DataFusionError::SchemaError(source, _) => of_schema(source),
        DataFusionError::Plan(message) => of_plan(message),
        DataFusionError::SQL(source, _) => error("42601", clean(&source.to_string())),
        DataFusionError::NotImplemented(message) => error("0A000", clean(message)),
        DataFusionError::Configuration(message) => error("22023", clean(message)),
        DataFusionError::ResourcesExhausted(message) => {
            let mut info = error("53200", "out of memory for this query");
            info.detail = Some(clean(message));
            info.hint = Some(
                "Ask for fewer rows or columns, or start the server with a larger --memory-limit."
                    .to_owned(),
            );
            info
        }
        DataFusionError::Execution(message) => of_execution(message),
        DataFusionError::IoError(source) => error("58030", source.to_string()),
        DataFusionError::ObjectStore(source) => error("58030", clean(&source.to_string())),
        DataFusionError::ParquetError(source) => error("58030", clean(&source.to_string())),
        DataFusionError::ExecutionJoin(_) => panicked(),
        DataFusionError::External(inner) if inner.is::<Arc<JoinError>>() => panicked(),
        DataFusionError::Diagnostic(_, source) => of_datafusion(source, sql),
        DataFusionError::Collection(sources) => match sources.first() {
            Some(first) => of_datafusion(first, sql),
            None => error("XX000", "internal error"),
        },
        other => error("XX000", format!("internal error: {}", clean(&other.message()))),
    }
}

/// A task of the query's panicked; whoever waits for several tasks gets that shared.
fn panicked() -> ErrorInfo {
    error("XX000", "internal error: the statement could not be completed")
}

/// Our own error, however deep it is wrapped.
fn find_ours(source: &DataFusionError) -> Option<&Error> {
    let mut current: Option<&(dyn StdError + 'static)> = Some(source);
    while let Some(error) = current {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Some(ours);
        }
        current = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)) => {
                Some(inner.as_ref())
            }
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Collection(inner)) => {
                inner.first().map(|first| first as &(dyn StdError + 'static))
            }
            Some(DataFusionError::ArrowError(inner, _)) => Some(inner.as_ref()),
            _ => match error.downcast_ref::<ArrowError>() {
                Some(ArrowError::ExternalError(inner)) => Some(inner.as_ref()),
                _ => error.source(),
            },
        };
    }
    None
}

/// An error of a kernel.
pub(super) fn of_arrow(source: &ArrowError, sql: &str) -> ErrorInfo {
    match source {
        ArrowError::DivideByZero => error("22012", "division by zero"),
        ArrowError::ArithmeticOverflow(message) => error("22003", clean(message)),
        ArrowError::CastError(message) | ArrowError::ParseError(message) => {
            error(value_code(message), clean(message))
        }
        ArrowError::InvalidArgumentError(message) | ArrowError::ComputeError(message) => {
            of_execution(message)
        }
        ArrowError::NotYetImplemented(message) => error("0A000", clean(message)),
        ArrowError::MemoryError(message) => error("53200", clean(message)),
        ArrowError::OffsetOverflowError(_) => error("54000", "a result column is too large"),
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => of_datafusion(inner, sql),
            None => match inner.downcast_ref::<Error>() {
                Some(inner) => of_planner(inner, sql),
                None => error("XX000", clean(&inner.to_string())),
            },
        },
        ArrowError::IoError(message, _) => error("58030", clean(message)),
        ArrowError::ParquetError(message) => error("XX001", clean(message)),
        other => error("XX000", clean(&other.to_string())),
    }
}

/// A value that its type can't hold, or that is no value of it.
fn value_code(message: &str) -> &'static str {
    let lower = message.to_ascii_lowercase();
    let out_of_range = ["overflow", "out of range", "too large", "can't cast value", "precision"];
    if lower.contains("timestamp") || lower.contains("date32") || lower.contains("date ") {
        "22007"
    } else if out_of_range.iter().any(|word| lower.contains(word)) {
        "22003"
    } else {
        "22P02"
    }
}

fn of_execution(message: &str) -> ErrorInfo {
    let lower = message.to_ascii_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        error("22012", "division by zero")
    } else if lower.contains("overflow") || lower.contains("out of range") {
        error("22003", clean(message))
    } else if lower.contains("error parsing timestamp") {
        error("22007", clean(message))
    } else if lower.contains("cast") || lower.contains("parse") {
        error(value_code(message), clean(message))
    } else if lower.contains("scalar subquery") || lower.contains("more than one row") {
        error("21000", "more than one row returned by a subquery used as an expression")
    } else if lower.contains("invalid argument") {
        error("22023", clean(message))
    } else {
        error("22000", clean(message))
    }
}

fn of_schema(source: &SchemaError) -> ErrorInfo {
    match source {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut info = error("42703", format!("column {} does not exist", shown(field)));
            info.hint = nearest(field, valid_fields)
                .map(|name| format!("Did you mean \"{name}\"?"))
                .or_else(|| (!valid_fields.is_empty()).then(|| list(valid_fields)));
            info
        }
        SchemaError::AmbiguousReference { field } => {
            let mut info =
                error("42702", format!("column reference {} is ambiguous", shown(field)));
            info.hint = Some("Write the table's name or alias before the column.".to_owned());
            info
        }
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => {
            error("42701", format!("column name \"{name}\" is used more than once"))
        }
    }
}

fn shown(field: &Column) -> String {
    match &field.relation {
        Some(relation) => format!("\"{}.{}\"", relation.table(), field.name),
        None => format!("\"{}\"", field.name),
    }
}

fn nearest(field: &Column, valid: &[Column]) -> Option<String> {
    let candidates = valid.iter().map(|column| {
        let distance = strsim::damerau_levenshtein(&field.name, &column.name);
        (distance, column.name.as_str())
    });
    let (distance, name) = candidates.min()?;
    (distance <= 2.max(name.chars().count() / 3)).then(|| name.to_owned())
}

fn list(valid: &[Column]) -> String {
    let names: Vec<_> = valid.iter().take(20).map(|column| column.name.as_str()).collect();
    let more = if valid.len() > 20 { ", ..." } else { "" };
    format!("Known columns: {}{more}.", names.join(", "))
}

fn of_plan(message: &str) -> ErrorInfo {
    let text = clean(message);
    let lower = text.to_ascii_lowercase();
    let quoted = || text.split('\'').nth(1).map(str::to_owned);
    if lower.starts_with("table ") && lower.contains("not found") {
        let name = quoted().unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or_default();
        return error("42P01", format!("relation \"{name}\" does not exist"));
    }
    if lower.contains("invalid function") || lower.contains("no function matches") {
        let function = quoted().or_else(|| text.split(['"', '(']).nth(1).map(str::to_owned));
        let code = "42883";
        return match (lower.contains("invalid function"), function) {
            (true, Some(name)) => {
                let mut info = error(code, format!("function {name} does not exist"));
                let hint = text.find("Did you mean").map(|at| text[at..].to_owned());
                info.hint = hint;
                info
            }
            _ => error(code, text),
        };
    }
    if lower.contains("must appear in the group by") || lower.contains("must be in group by") {
        return error("42803", text);
    }
    let mismatch = ["cannot coerce", "type mismatch", "cannot infer common", "can't be evaluated"];
    if mismatch.iter().any(|word| lower.contains(word)) {
        return error("42804", text);
    }
    if lower.contains("placeholder") || lower.contains("parameter") {
        return error("42P18", text);
    }
    error("42601", text)
}

/// The message without our layers' prefixes, backtraces and what follows them.
pub(super) fn clean(message: &str) -> String {
    const PREFIXES: &[&str] = &[
        "DataFusion error: ",
        "Arrow error: ",
        "Parquet error: ",
        "External error: ",
        "External: ",
        "Execution error: ",
        "Error during planning: ",
        "Schema error: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
        "Invalid argument error: ",
        "Arithmetic overflow: ",
        "SQL error: ",
        "This feature is not implemented: ",
        "Invalid or Unsupported Configuration: ",
        "Resources exhausted: ",
        "Internal error: ",
    ];
    let mut text = message.split("\n\nbacktrace:").next().unwrap_or(message).trim();
    if let Some(end) = text.find("This issue was likely caused by a bug in DataFusion") {
        text = text[..end].trim();
    }
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest.trim_start();
    }
    text.to_owned()
}
