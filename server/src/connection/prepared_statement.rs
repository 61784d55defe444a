//! Prepared statements.

use std::sync::OnceLock;

use arrow::datatypes::SchemaRef;
use asofdb_planner::{Prepared, Session};
use asofdb_sql::{Parsed, SessionStatement, Statement};
use bytes::{Bytes, BytesMut};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, RowDescription};
use postgres_types::Type;

use super::command;
use super::wire::Wire;
use crate::encode::describe;

/// A prepared statement.
pub(super) struct PreparedStatement {
    pub(super) kind: Kind,
    /// The statement's text, for positions in errors.
    pub(super) sql: String,
    /// The parameters' types as the client is told.
    pub(super) parameters: Vec<Type>,
    /// Which of them the client declared.
    pub(super) declared: Vec<Option<Type>>,
    /// The `RowDescription` of columns in text, and of columns in binary format.
    pub(super) descriptions: [OnceLock<Bytes>; 2],
}

pub(super) enum Kind {
    /// A text without a statement.
    Empty,
    /// About the session.
    Session(Parsed),
    /// The planner's.
    Planned(Parsed, Prepared),
}

impl PreparedStatement {
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        match &self.kind {
            Kind::Empty => None,
            Kind::Session(parsed) => session_statement(parsed).and_then(command::schema),
            Kind::Planned(_, prepared) => prepared.schema.clone(),
        }
    }

    /// The planner's side of a query or an `INSERT`.
    pub(super) fn planned(&self) -> Option<&Prepared> {
        match &self.kind {
            Kind::Planned(_, prepared) => Some(prepared),
            _ => None,
        }
    }

    /// Whether it is planned for the present catalog.
    pub(super) fn is_current(&self, session: &Session) -> bool {
        self.planned().is_none_or(|prepared| session.is_current(prepared))
    }

    /// Whether it runs without any more planning.
    pub(super) fn is_ready(&self) -> bool {
        self.planned().is_some_and(Prepared::is_ready)
    }

    /// Whether another session may have use for it.
    pub(super) fn is_reusable(&self) -> bool {
        matches!(&self.kind, Kind::Planned(Parsed { statement: Statement::Query(_), .. }, _))
    }

    /// Appends the `RowDescription`, or that there are no rows.
    pub(super) fn describe_rows(&self, binary: &[bool], wire: &mut Wire) {
        let Some(schema) = self.schema() else {
            return wire.put(PgWireBackendMessage::NoData(NoData::new()));
        };
        let description =
            || PgWireBackendMessage::RowDescription(RowDescription::new(describe(&schema, binary)));
        let first = binary.first().copied().unwrap_or(false);
        if binary.iter().any(|format| *format != first) {
            return wire.put(description());
        }
        let known = self.descriptions[usize::from(first)].get_or_init(|| {
            let mut bytes = BytesMut::new();
            // What is too long for a message is told when it is put.
            if description().encode(&mut bytes).is_err() {
                bytes.clear();
            }
            bytes.freeze()
        });
        match known.is_empty() {
            false => wire.out().extend_from_slice(known),
            true => wire.put(description()),
        }
    }

    pub(super) fn parsed(&self) -> Option<&Parsed> {
        match &self.kind {
            Kind::Empty => None,
            Kind::Session(parsed) | Kind::Planned(parsed, _) => Some(parsed),
        }
    }
}

pub(super) fn session_statement(parsed: &Parsed) -> Option<&SessionStatement> {
    match &parsed.statement {
        Statement::Session(statement) => Some(statement),
        _ => None,
    }
}
