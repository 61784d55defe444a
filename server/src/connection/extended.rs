//! The extended protocol: Parse, Bind, Describe, Execute, Close.
//!
//! A portal keeps its row stream between Executes; rows go straight to the socket.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use asofdb_planner::Outcome;
use asofdb_sql::SessionStatement;
use datafusion::scalar::ScalarValue;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::ParameterDescription;
use pgwire::messages::extendedquery::{
    BindComplete, CloseComplete, ParseComplete, PortalSuspended,
};
use pgwire::messages::response::EmptyQueryResponse;
use postgres_types::Type;

use super::command::Answer;
use super::introspection;
use super::message::{Bind, Frontend, Target};
use super::prepared_statement::{Kind, PreparedStatement, session_statement};
use super::rows::{Interrupt, Progress, Rows};
use super::{Connection, Failure, Reply, Work};
use crate::decode::{Parameter, decode};
use crate::encode::formats;
use crate::sqlstate;
use crate::types::{arrow_type, pg_type};

/// Prepared statements, and portals, that a session may have.
const MAX_NAMED: usize = 10_000;

/// A statement with its parameters.
pub(super) struct Portal {
    statement: Arc<PreparedStatement>,
    /// One entry per result column.
    binary: Vec<bool>,
    state: State,
}

enum State {
    /// To be run, with these parameters.
    Bound(Vec<ScalarValue>),
    /// Rows are left.
    Running(Rows),
    /// All rows are sent.
    Drained(&'static str),
    /// Done, without rows.
    Done,
}

impl Connection {
    /// One message of the extended protocol, as far as it is done at once.
    pub(super) async fn extended(&mut self, message: Frontend) -> Reply<Option<Work>> {
        match message {
            Frontend::Parse { name, sql, types } => return self.parse(name, sql, types),
            Frontend::Execute { portal, max_rows } => return self.execute(portal, max_rows).await,
            Frontend::Bind(bind) => self.bind(bind)?,
            Frontend::Describe(Target::Statement, name) => self.describe_statement(&name)?,
            Frontend::Describe(Target::Portal, name) => self.describe_portal(&name)?,
            Frontend::Close(target, name) => {
                match target {
                    Target::Statement => drop(self.statements.remove(&name)),
                    Target::Portal => drop(self.portals.remove(&name)),
                }
                self.wire.put(PgWireBackendMessage::CloseComplete(CloseComplete::new()));
            }
            Frontend::Refused { code, message, .. } => {
                return Err(sqlstate::error(code, message).into());
            }
            _ => {
                let message = "message is not expected here";
                return Err(Failure::Fatal(Box::new(sqlstate::fatal("08P01", message))));
            }
        }
        Ok(None)
    }

    /// Prepares a statement that some session has prepared before; others are left to the workers.
    fn parse(&mut self, name: String, sql: String, types: Vec<u32>) -> Reply<Option<Work>> {
        if !name.is_empty() {
            if self.statements.contains_key(&name) {
                let message = format!("prepared statement \"{name}\" already exists");
                return Err(sqlstate::error("42P05", message).into());
            }
            check_room(self.statements.len(), "prepared statements")?;
        } else {
            self.statements.remove("");
        }
        match self.shared.statements.get(&self.session, &sql, &types) {
            Some(known) => self.parsed(name, known).map(|()| None),
            None => Ok(Some(Work::Parse { name, sql, types })),
        }
    }

    /// Prepares a statement.
    pub(super) async fn parse_new(&mut self, name: String, sql: String, types: &[u32]) -> Reply {
        let statement = Arc::new(Box::pin(self.prepare(&sql, types)).await?);
        self.shared.statements.keep((sql, types), &statement);
        self.parsed(name, statement)
    }

    fn parsed(&mut self, name: String, statement: Arc<PreparedStatement>) -> Reply {
        if let Some(parsed) = statement.parsed() {
            self.check_transaction(parsed)?;
        }
        self.statements.insert(name, statement);
        self.wire.put(PgWireBackendMessage::ParseComplete(ParseComplete::new()));
        Ok(())
    }

    /// Parses and plans a statement.
    pub(super) async fn prepare(&mut self, sql: &str, types: &[u32]) -> Reply<PreparedStatement> {
        let (sql, types) = match introspection::substitute(sql) {
            Some(substitute) => (substitute.sql, substitute.parameters),
            None => (sql.to_owned(), types.to_vec()),
        };
        let mut statements = asofdb_sql::parse(&sql)
            .map_err(|error| Failure::from(sqlstate::of_sql(&error, &sql)))?;
        let parsed = statements.pop();
        if !statements.is_empty() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(sqlstate::error("42601", message).into());
        }
        if let Some(parsed) = &parsed {
            self.check_transaction(parsed)?;
        }
        let declared: Vec<_> = types.iter().map(|oid| declared_type(*oid)).collect();
        let kind = match parsed {
            None => Kind::Empty,
            Some(parsed) if session_statement(&parsed).is_some() => Kind::Session(parsed),
            Some(parsed) => {
                let hints: Vec<Option<DataType>> =
                    declared.iter().map(|d| d.as_ref().and_then(arrow_type)).collect();
                let mut interrupt = self.interrupt().await;
                let work = self.session.prepare(&parsed, &hints);
                let prepared = interrupt.guard(&mut self.wire, work).await?;
                let failed = |e| Failure::from(sqlstate::of_planner(&e, &sql));
                Kind::Planned(parsed, prepared.map_err(failed)?)
            }
        };
        let wanted: &[DataType] = match &kind {
            Kind::Planned(_, prepared) => &prepared.parameters,
            _ => &[],
        };
        let parameters = parameter_types(&declared, wanted);
        let descriptions = Default::default();
        Ok(PreparedStatement { kind, sql, parameters, declared, descriptions })
    }

    fn statement(&self, name: &str) -> Reply<&Arc<PreparedStatement>> {
        self.statements.get(name).ok_or_else(|| {
            let message = match name {
                "" => "unnamed prepared statement does not exist".to_owned(),
                name => format!("prepared statement \"{name}\" does not exist"),
            };
            sqlstate::error("26000", message).into()
        })
    }

    fn bind(&mut self, bind: Bind) -> Reply {
        let statement = Arc::clone(self.statement(&bind.statement)?);
        if let Some(parsed) = statement.parsed() {
            self.check_transaction(parsed)?;
        }
        if !bind.portal.is_empty() {
            if self.portals.contains_key(&bind.portal) {
                let message = format!("cursor \"{}\" already exists", bind.portal);
                return Err(sqlstate::error("42P03", message).into());
            }
            check_room(self.portals.len(), "portals")?;
        }
        let values = bound_values(&statement, &bind)?;
        let columns = statement.schema().map_or(0, |schema| schema.fields().len());
        let binary = match columns {
            // A statement without rows does not mind how many formats it is given.
            0 => Vec::new(),
            columns => formats(&bind.result_formats, columns).ok_or_else(|| {
                let given = bind.result_formats.len();
                let message = format!(
                    "bind message has {given} result formats but query has {columns} columns"
                );
                Failure::from(sqlstate::error("08P01", message))
            })?,
        };
        let portal = Portal { statement, binary, state: State::Bound(values) };
        self.portals.insert(bind.portal, portal);
        self.wire.put(PgWireBackendMessage::BindComplete(BindComplete::new()));
        Ok(())
    }

    fn describe_statement(&mut self, name: &str) -> Reply {
        let statement = Arc::clone(self.statement(name)?);
        let oids = statement.parameters.iter().map(Type::oid).collect();
        let parameters = ParameterDescription::new(oids);
        self.wire.put(PgWireBackendMessage::ParameterDescription(parameters));
        let text = vec![false; statement.schema().map_or(0, |schema| schema.fields().len())];
        statement.describe_rows(&text, &mut self.wire);
        Ok(())
    }

    fn describe_portal(&mut self, name: &str) -> Reply {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        portal.statement.describe_rows(&portal.binary, &mut self.wire);
        Ok(())
    }

    /// Runs a portal that is a lookup of given keys, or has nothing to do with the database; others
    /// are left to the workers.
    async fn execute(&mut self, name: String, max_rows: i32) -> Reply<Option<Work>> {
        // Taken out while it runs: an error leaves it out, and statements such as CLOSE ALL may
        // change the others.
        let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
        let limit = u64::try_from(max_rows).ok().filter(|limit| *limit > 0);
        let statement = Arc::clone(&portal.statement);
        if let Some(parsed) = statement.parsed() {
            self.check_transaction(parsed)?;
        }
        match (&statement.kind, &portal.state) {
            (Kind::Empty, _) => {
                self.wire.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
            }
            (Kind::Planned(..), State::Bound(values)) => {
                if limit.is_some() || !self.answer(&statement, values, &portal.binary).await? {
                    return Ok(Some(Work::Execute { name, portal, limit }));
                }
                portal.state = State::Drained("SELECT");
            }
            (Kind::Planned(..), State::Running(_)) => {
                return Ok(Some(Work::Execute { name, portal, limit }));
            }
            _ => return self.run_portal(name, portal, limit).await.map(|()| None),
        }
        self.portals.insert(name, portal);
        Ok(None)
    }

    /// Runs a portal and puts it back among the others.
    pub(super) async fn run_portal(
        &mut self,
        name: String,
        mut portal: Portal,
        limit: Option<u64>,
    ) -> Reply {
        let statement = Arc::clone(&portal.statement);
        let ends_portals = matches!(
            statement.parsed().and_then(session_statement),
            Some(
                SessionStatement::Commit { .. }
                    | SessionStatement::Rollback { .. }
                    | SessionStatement::Close { name: None }
                    | SessionStatement::Discard(_)
            )
        );
        portal.state = self.step(&statement, portal.state, &portal.binary, limit).await?;
        if !ends_portals {
            self.portals.insert(name, portal);
        }
        Ok(())
    }

    /// Answers a lookup of given keys; whether the statement is one.
    async fn answer(
        &mut self,
        statement: &PreparedStatement,
        values: &[ScalarValue],
        binary: &[bool],
    ) -> Reply<bool> {
        let Some(prepared) = statement.planned() else { return Ok(false) };
        let found = self.look_up(prepared, values).await?;
        let found = found.map_err(|e| Failure::from(sqlstate::of_planner(&e, &statement.sql)))?;
        let Some(found) = found else { return Ok(false) };
        if !same_types(found.schema(), prepared.schema.as_ref()) {
            return Err(another_type());
        }
        self.send_found(&found, binary).await?;
        Ok(true)
    }

    /// Runs or goes on with a portal and gives its next state.
    async fn step(
        &mut self,
        statement: &PreparedStatement,
        state: State,
        binary: &[bool],
        limit: Option<u64>,
    ) -> Reply<State> {
        let mut interrupt = self.interrupt().await;
        let mut rows = match state {
            State::Bound(values) => {
                match self.start(statement, values, binary, &mut interrupt).await? {
                    Some(rows) => rows,
                    None => return Ok(State::Done),
                }
            }
            State::Running(rows) => rows,
            State::Drained(tag) => {
                let shown = if tag == "SELECT" { "SELECT 0" } else { tag };
                self.complete(shown.to_owned());
                return Ok(State::Drained(tag));
            }
            State::Done => {
                let message = "portal cannot be run again: its statement is done";
                return Err(sqlstate::error("55000", message).into());
            }
        };
        match rows.send(&mut self.wire, &mut interrupt, limit).await? {
            Progress::Suspended => {
                self.wire.put(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()));
                Ok(State::Running(rows))
            }
            Progress::Finished(count) => {
                self.complete(rows.complete(count));
                Ok(State::Drained(rows.tag))
            }
        }
    }

    /// Starts a statement; without rows it is done afterwards.
    async fn start(
        &mut self,
        statement: &PreparedStatement,
        values: Vec<ScalarValue>,
        binary: &[bool],
        interrupt: &mut Interrupt,
    ) -> Reply<Option<Rows>> {
        let prepared = match &statement.kind {
            Kind::Planned(_, prepared) => prepared,
            Kind::Session(parsed) => {
                let Some(command) = session_statement(parsed) else { return Ok(None) };
                return match self.command(command)? {
                    Answer::Done(tag) => {
                        self.complete(tag);
                        Ok(None)
                    }
                    Answer::Rows { rows, .. } => Ok(Some(rows.with_formats(binary.to_vec()))),
                };
            }
            Kind::Empty => return Ok(None),
        };
        let work = self.session.execute(prepared, values);
        let outcome = interrupt.guard(&mut self.wire, work).await?;
        let outcome =
            outcome.map_err(|e| Failure::from(sqlstate::of_planner(&e, &statement.sql)))?;
        match outcome {
            Outcome::Rows { tag, stream } => {
                if !same_types(&stream.schema(), prepared.schema.as_ref()) {
                    return Err(another_type());
                }
                Ok(Some(Rows::new(stream, binary.to_vec(), tag)))
            }
            Outcome::Done { tag, notices } => {
                self.notices(notices);
                self.complete(tag);
                Ok(None)
            }
            Outcome::CopyIn(copy) => {
                let tag = Box::pin(self.copy_in(copy, interrupt, &statement.sql)).await?;
                self.complete(tag);
                Ok(None)
            }
            Outcome::CopyFile { path, copy } => {
                let tag = Box::pin(self.copy_file(path, copy, interrupt, &statement.sql)).await?;
                self.complete(tag);
                Ok(None)
            }
        }
    }
}

/// Whether a result has the columns that the client was told of: it reads their bytes as those.
pub(super) fn same_types(found: &SchemaRef, described: Option<&SchemaRef>) -> bool {
    let Some(described) = described else { return false };
    let mut pairs = found.fields().iter().zip(described.fields());
    let same = |a: &DataType, b: &DataType| a == b || pg_type(a) == pg_type(b);
    found.fields().len() == described.fields().len()
        && pairs.all(|(a, b)| same(a.data_type(), b.data_type()))
}

/// Drivers that keep statements know it by the routine, and prepare the statement again.
fn another_type() -> Failure {
    let mut info = sqlstate::error("0A000", "cached plan must not change result type");
    info.routine = Some("RevalidateCachedQuery".to_owned());
    info.into()
}

fn no_portal(name: &str) -> Failure {
    sqlstate::error("34000", format!("portal \"{name}\" does not exist")).into()
}

fn check_room(count: usize, what: &str) -> Reply {
    if count < MAX_NAMED {
        return Ok(());
    }
    let message = format!("a session may have {MAX_NAMED} {what}");
    let mut info = sqlstate::error("54000", message);
    info.hint = Some("Close those that are no longer needed.".to_owned());
    Err(info.into())
}

/// The type a client declared; 0 and `unknown` leave it open.
fn declared_type(oid: u32) -> Option<Type> {
    Type::from_oid(oid).filter(|declared| *declared != Type::UNKNOWN)
}

/// What the client declared wins; a type that nothing tells is text.
fn parameter_types(declared: &[Option<Type>], wanted: &[DataType]) -> Vec<Type> {
    let count = wanted.len().max(declared.len());
    let one = |index: usize| {
        let declared = declared.get(index).cloned().flatten();
        declared.unwrap_or_else(|| wanted.get(index).map_or(Type::TEXT, pg_type))
    };
    (0..count).map(one).collect()
}

fn bound_values(statement: &PreparedStatement, bind: &Bind) -> Reply<Vec<ScalarValue>> {
    let protocol = |message: String| Failure::from(sqlstate::error("08P01", message));
    let (given, expected) = (bind.parameters.len(), statement.parameters.len());
    if given != expected {
        return Err(protocol(format!(
            "bind message supplies {given} parameters, but prepared statement \"{}\" requires \
             {expected}",
            bind.statement
        )));
    }
    let codes = bind.parameter_formats.len();
    let binary = formats(&bind.parameter_formats, given).ok_or_else(|| {
        protocol(format!("bind message has {codes} parameter formats but {given} parameters"))
    })?;
    let Kind::Planned(_, prepared) = &statement.kind else { return Ok(Vec::new()) };
    // A parameter that is declared but not used has no place in the statement.
    let wanted = prepared.parameters.iter().enumerate();
    wanted
        .map(|(index, wanted)| {
            let declared = statement.declared.get(index).and_then(Option::as_ref);
            let described = declared.or(Some(&statement.parameters[index]));
            let value = bind.value(index);
            let parameter = Parameter {
                // Text of an undeclared parameter is read as whatever the statement wants.
                declared: if binary[index] { described } else { declared },
                value,
                binary: binary[index],
            };
            decode(parameter, wanted).map_err(|error| {
                let mut info = Box::<pgwire::error::ErrorInfo>::from(error);
                info.where_context = Some(format!("parameter ${}", index + 1));
                Failure::Statement(info)
            })
        })
        .collect()
}
