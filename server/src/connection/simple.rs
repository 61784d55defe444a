//! The simple protocol: each statement's result is sent as it is produced; what follows a
//! failing statement is skipped.

use asofdb_planner::Outcome;
use asofdb_sql::{Parsed, Statement};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::RowDescription;
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};

use super::command::Answer;
use super::rows::{Interrupt, Progress, Rows};
use super::{Connection, Failure, Reply};
use crate::encode::describe;
use crate::sqlstate;

impl Connection {
    /// Runs the statements in `sql`.
    pub(super) async fn simple_query(&mut self, sql: &str) -> Reply {
        let statements =
            asofdb_sql::parse(sql).map_err(|error| Failure::from(sqlstate::of_sql(&error, sql)))?;
        if statements.is_empty() {
            self.wire.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        // The unnamed statement and portal end with the next simple query.
        self.statements.remove("");
        self.portals.remove("");
        for parsed in &statements {
            self.check_transaction(parsed)?;
            let tag = self.simple_statement(parsed, sql).await?;
            self.complete(tag);
        }
        Ok(())
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
