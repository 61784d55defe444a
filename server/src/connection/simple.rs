//! The simple protocol: each statement's result is sent as it is produced; what follows a
//! failing statement is skipped.

use std::sync::Arc;

use arrow::datatypes::DataType;
use asofdb_planner::Outcome;
use asofdb_sql::{Literal, Parsed, Shape, Statement};
use datafusion::scalar::ScalarValue;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::RowDescription;
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, TransactionStatus};

use super::command::Answer;
use super::extended::same_types;
use super::prepared_statement::PreparedStatement;
use super::rows::{Interrupt, Progress, Rows};
use super::{Connection, Failure, Reply};
use crate::encode::describe;
use crate::sqlstate;

impl Connection {
    /// Answers a lookup of given keys whose shape is known. `false`, and nothing is sent, for all
    /// else.
    pub(super) async fn quick_query(&mut self, sql: &str) -> Reply<bool> {
        // The unnamed statement and portal end with the next simple query.
        self.statements.remove("");
        self.portals.remove("");
        let Some(shape) = asofdb_sql::shape(sql) else { return Ok(false) };
        let known = self.shared.statements.shape(&self.session, &shape.text);
        let Some(lookup) = known.flatten().and_then(|known| Shaped::of(known, &shape)) else {
            return Ok(false);
        };
        self.answer_shaped(&lookup).await
    }

    /// Runs the statements in `sql`.
    pub(super) async fn simple_query(&mut self, sql: &str) -> Reply {
        if let Some(shape) = asofdb_sql::shape(sql)
            && let Some(known) = self.shape(&shape).await?
            && let Some(lookup) = Shaped::of(known, &shape)
            && (self.answer_shaped(&lookup).await? || self.run_shaped(lookup).await?)
        {
            return Ok(());
        }
        let statements =
            asofdb_sql::parse(sql).map_err(|error| Failure::from(sqlstate::of_sql(&error, sql)))?;
        if statements.is_empty() {
            self.wire.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        for parsed in &statements {
            self.check_transaction(parsed)?;
            let tag = Box::pin(self.simple_statement(parsed, sql)).await?;
            self.complete(tag);
        }
        Ok(())
    }

    /// The lookup that all texts of a shape are. `None` if they are none, and if it can't be
    /// planned: then it is for the text itself to tell.
    async fn shape(&mut self, shape: &Shape<'_>) -> Reply<Option<Arc<PreparedStatement>>> {
        if let Some(known) = self.shared.statements.shape(&self.session, &shape.text) {
            return Ok(known);
        }
        let prepared = match Box::pin(self.prepare(&shape.text, &[])).await {
            Err(Failure::Statement(_)) => return Ok(None),
            prepared => Some(prepared?).filter(PreparedStatement::is_ready).map(Arc::new),
        };
        self.shared.statements.keep_shape(shape.text.clone(), prepared.clone());
        Ok(prepared)
    }

    /// Answers a lookup of given keys. `false`, and nothing is sent, for others, and if it has to
    /// be planned anew.
    async fn answer_shaped(&mut self, lookup: &Shaped) -> Reply<bool> {
        let Some(prepared) = lookup.statement.planned() else { return Ok(false) };
        if self.transaction == TransactionStatus::Error {
            return Ok(false);
        }
        match self.look_up(prepared, &lookup.values).await? {
            Ok(Some(found)) if same_types(found.schema(), prepared.schema.as_ref()) => {
                let text = lookup.formats();
                lookup.statement.describe_rows(&text, &mut self.wire);
                self.send_found(&found, &text).await?;
                Ok(true)
            }
            // Not one of planning, so it has no position in the shape's text.
            Err(error) if lookup.statement.is_current(&self.session) => {
                Err(sqlstate::of_planner(&error, "").into())
            }
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// Runs a lookup through the operators. `false`, and nothing is sent, if it has to be planned
    /// anew.
    async fn run_shaped(&mut self, lookup: Shaped) -> Reply<bool> {
        let Some(prepared) = lookup.statement.planned() else { return Ok(false) };
        if self.transaction == TransactionStatus::Error {
            return Ok(false);
        }
        let text = lookup.formats();
        let mut interrupt = self.interrupt().await;
        let work = self.session.execute(prepared, lookup.values);
        let (tag, stream) = match interrupt.guard(&mut self.wire, work).await? {
            Ok(Outcome::Rows { tag, stream }) => (tag, stream),
            Err(error) if lookup.statement.is_current(&self.session) => {
                return Err(sqlstate::of_planner(&error, "").into());
            }
            Ok(_) | Err(_) => return Ok(false),
        };
        if !same_types(&stream.schema(), prepared.schema.as_ref()) {
            return Ok(false);
        }
        lookup.statement.describe_rows(&text, &mut self.wire);
        let tag = self.send_all(&mut Rows::new(stream, text, tag), &mut interrupt).await?;
        self.complete(tag);
        Ok(true)
    }

    async fn simple_statement(&mut self, parsed: &Parsed, sql: &str) -> Reply<String> {
        let mut interrupt = self.interrupt().await;
        if let Statement::Session(statement) = &parsed.statement {
            return match self.command(statement)? {
                Answer::Done(tag) => Ok(tag),
                Answer::Rows { mut rows, schema } => {
                    let fields = describe(&schema, &vec![false; schema.fields().len()]);
                    let description = RowDescription::new(fields);
                    self.wire.put(PgWireBackendMessage::RowDescription(description));
                    self.send_all(&mut rows, &mut interrupt).await
                }
            };
        }
        let failed =
            |error: asofdb_planner::Error| Failure::from(sqlstate::of_planner(&error, sql));
        let work = async {
            if let Some(done) = self.session.execute_literals(parsed).await? {
                return Ok(done);
            }
            let prepared = self.session.prepare(parsed, &[]).await?;
            self.session.execute(&prepared, Vec::new()).await
        };
        let outcome = interrupt.guard(&mut self.wire, work).await?.map_err(failed)?;
        match outcome {
            Outcome::Rows { tag, stream } => {
                let schema = stream.schema();
                let text = vec![false; schema.fields().len()];
                let description = RowDescription::new(describe(&schema, &text));
                self.wire.put(PgWireBackendMessage::RowDescription(description));
                self.send_all(&mut Rows::new(stream, text, tag), &mut interrupt).await
            }
            Outcome::Done { tag, notices } => {
                self.notices(notices);
                Ok(tag)
            }
            Outcome::CopyIn(copy) => self.copy_in(copy, &mut interrupt, sql).await,
            Outcome::CopyFile { path, copy } => {
                self.copy_file(path, copy, &mut interrupt, sql).await
            }
        }
    }

    async fn send_all(&mut self, rows: &mut Rows, interrupt: &mut Interrupt) -> Reply<String> {
        match rows.send(&mut self.wire, interrupt, None).await? {
            Progress::Finished(count) => Ok(rows.complete(count)),
            Progress::Suspended => Ok(rows.complete(0)),
        }
    }

    pub(super) fn notices(&mut self, notices: Vec<String>) {
        for text in notices {
            self.wire.put_notice(sqlstate::notice("NOTICE", "00000", text));
        }
    }

    pub(super) fn complete(&mut self, tag: String) {
        self.wire.put(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)));
    }
}

/// A lookup with the keys of a text.
struct Shaped {
    statement: Arc<PreparedStatement>,
    values: Vec<ScalarValue>,
}

impl Shaped {
    /// `None` if a literal of the text means something else than a parameter would.
    fn of(statement: Arc<PreparedStatement>, shape: &Shape<'_>) -> Option<Shaped> {
        let values = literal_values(&shape.literals, &statement.planned()?.parameters)?;
        Some(Shaped { statement, values })
    }

    /// All columns are in text.
    fn formats(&self) -> Vec<bool> {
        vec![false; self.statement.schema().map_or(0, |schema| schema.fields().len())]
    }
}

/// The literals as parameters of these types, if they mean the same there.
fn literal_values(literals: &[Literal<'_>], types: &[DataType]) -> Option<Vec<ScalarValue>> {
    if literals.len() != types.len() {
        return None;
    }
    let value = |(literal, wanted): (&Literal<'_>, &DataType)| match (literal, wanted) {
        (Literal::Integer(digits), DataType::Int16) => {
            Some(ScalarValue::Int16(Some(digits.parse().ok()?)))
        }
        (Literal::Integer(digits), DataType::Int32) => {
            Some(ScalarValue::Int32(Some(digits.parse().ok()?)))
        }
        (Literal::Integer(digits), DataType::Int64) => {
            Some(ScalarValue::Int64(Some(digits.parse().ok()?)))
        }
        (Literal::Text(text), DataType::Utf8) => {
            Some(ScalarValue::Utf8(Some(text.clone().into_owned())))
        }
        _ => None,
    };
    literals.iter().zip(types).map(value).collect()
}
