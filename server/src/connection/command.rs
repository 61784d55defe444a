//! Statements about the session: transactions, settings, prepared statements.
//!
//! Statements take effect one by one; a transaction's status is kept as drivers expect it.

use arrow::datatypes::SchemaRef;
use asofdb_sql::{Discard, SessionStatement, SetScope, SetVariable, fold};
use pgwire::messages::response::TransactionStatus;

use super::rows::{Rows, text_schema, text_stream};
use super::{Connection, Reply};
use crate::sqlstate;

/// What a statement about the session gives.
pub(super) enum Answer {
    /// Its command tag.
    Done(String),
    /// Rows of text.
    Rows {
        /// The rows, in text format.
        rows: Rows,
        /// Their columns.
        schema: SchemaRef,
    },
}

/// The result columns of a statement about the session; `None` without rows.
pub(super) fn schema(statement: &SessionStatement) -> Option<SchemaRef> {
    match statement {
        SessionStatement::Show { name } if name == "all" => {
            Some(text_schema(&["name", "setting", "description"]))
        }
        SessionStatement::Show { name } => Some(text_schema(&[name])),
        _ => None,
    }
}

impl Connection {
    /// Runs a statement about the session.
    pub(super) fn command(&mut self, statement: &SessionStatement) -> Reply<Answer> {
        let tag = match statement {
            SessionStatement::Begin { start, .. } => self.begin(*start),
            SessionStatement::Commit { chain } => self.commit(*chain),
            SessionStatement::Rollback { chain } => self.rollback(*chain),
            SessionStatement::Set(set) => return self.set(set),
            SessionStatement::SetTransaction { .. } => "SET",
            SessionStatement::Reset { name } => {
                self.reset(name.as_deref())?;
                "RESET"
            }
            SessionStatement::Show { name } => return self.show(name),
            SessionStatement::Discard(discard) => self.discard(*discard)?,
            SessionStatement::Deallocate { name: None } => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
            SessionStatement::Deallocate { name: Some(name) } => {
                let name = fold(name);
                if self.statements.remove(&name).is_none() {
                    let message = format!("prepared statement \"{name}\" does not exist");
                    return Err(sqlstate::error("26000", message).into());
                }
                "DEALLOCATE"
            }
            SessionStatement::Close { name: None } => {
                self.portals.clear();
                "CLOSE CURSOR ALL"
            }
            SessionStatement::Close { name: Some(name) } => {
                let name = fold(name);
                if self.portals.remove(&name).is_none() {
                    let message = format!("cursor \"{name}\" does not exist");
                    return Err(sqlstate::error("34000", message).into());
                }
                "CLOSE CURSOR"
            }
            SessionStatement::Unlisten { .. } => "UNLISTEN",
            SessionStatement::Savepoint(_)
            | SessionStatement::Release(_)
            | SessionStatement::RollbackTo(_) => {
                let message = "savepoints are not supported: each statement takes effect by itself";
                return Err(sqlstate::error("0A000", message).into());
            }
            SessionStatement::Prepare(_) | SessionStatement::Execute { .. } => {
                let mut info = sqlstate::error("0A000", "PREPARE and EXECUTE are not supported");
                info.hint = Some("Use the driver's prepared statements.".to_owned());
                return Err(info.into());
            }
        };
        Ok(Answer::Done(tag.to_owned()))
    }

    fn begin(&mut self, start: bool) -> &'static str {
        if self.transaction == TransactionStatus::Idle {
            self.transaction = TransactionStatus::Transaction;
        } else {
            self.warn("25001", "there is already a transaction in progress");
        }
        if start { "START TRANSACTION" } else { "BEGIN" }
    }

    fn commit(&mut self, chain: bool) -> &'static str {
        let failed = self.transaction == TransactionStatus::Error;
        self.end_transaction(chain);
        if failed { "ROLLBACK" } else { "COMMIT" }
    }

    fn rollback(&mut self, chain: bool) -> &'static str {
        self.end_transaction(chain);
        "ROLLBACK"
    }

    fn end_transaction(&mut self, chain: bool) {
        if self.transaction == TransactionStatus::Idle {
            self.warn("25P01", "there is no transaction in progress");
            return;
        }
        self.portals.clear();
        self.transaction =
            if chain { TransactionStatus::Transaction } else { TransactionStatus::Idle };
    }

    fn set(&mut self, set: &SetVariable) -> Reply<Answer> {
        if set.scope == SetScope::Local && self.transaction == TransactionStatus::Idle {
            self.warn("25P01", "SET LOCAL can only be used in transaction blocks");
            return Ok(Answer::Done("SET".to_owned()));
        }
        let value = set.text();
        if let Some(changed) = self.settings.set(&set.name, value.as_deref())? {
            self.report(changed);
        }
        Ok(Answer::Done("SET".to_owned()))
    }

    fn reset(&mut self, name: Option<&str>) -> Reply {
        match name {
            Some(name) => {
                if let Some(changed) = self.settings.set(name, None)? {
                    self.report(changed);
                }
            }
            None => {
                for changed in self.settings.reset_all() {
                    self.report(changed);
                }
            }
        }
        Ok(())
    }

    fn show(&mut self, name: &str) -> Reply<Answer> {
        let (schema, columns) = if name == "all" {
            let mut columns = vec![Vec::new(), Vec::new(), Vec::new()];
            for (name, value, description) in self.settings.all() {
                columns[0].push(name.to_owned());
                columns[1].push(value.to_owned());
                columns[2].push(description.to_owned());
            }
            (text_schema(&["name", "setting", "description"]), columns)
        } else {
            let (_, value) = self.settings.show(name)?;
            (text_schema(&[name]), vec![vec![value.to_owned()]])
        };
        let stream = text_stream(schema.clone(), columns)?;
        let text = vec![false; schema.fields().len()];
        Ok(Answer::Rows { rows: Rows::new(stream, text, "SHOW"), schema })
    }

    fn discard(&mut self, discard: Discard) -> Reply<&'static str> {
        Ok(match discard {
            Discard::All => {
                if self.transaction != TransactionStatus::Idle {
                    let message = "DISCARD ALL cannot run inside a transaction block";
                    return Err(sqlstate::error("25001", message).into());
                }
                self.statements.clear();
                self.portals.clear();
                self.reset(None)?;
                "DISCARD ALL"
            }
            Discard::Plans => "DISCARD PLANS",
            Discard::Sequences => "DISCARD SEQUENCES",
            Discard::Temp => "DISCARD TEMP",
        })
    }
}
