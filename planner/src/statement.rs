//! What each statement does, one file each, and the choice among them.

pub mod backup;
pub mod checkpoint;
pub mod copy;
pub mod create_entity;
pub mod create_features;
pub mod create_source;
pub mod create_view;
pub mod describe;
pub mod drop;
pub mod explain;
pub mod insert;
pub mod show;
pub mod show_create;
pub mod vacuum;
pub mod verify;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use asofdb_sql::{CopyDirection, Parsed, Statement};

use crate::database::Database;
use crate::error::{Error, Result};
use crate::session::Outcome;
use crate::task::{Caller, to_the_end};

/// Runs a statement that is neither a query nor an `INSERT`.
pub async fn run(database: &Database, parsed: &Arc<Parsed>) -> Result<Outcome> {
    match &parsed.statement {
        Statement::Copy(copy) if copy.direction == CopyDirection::From => {
            copy::from(database, copy).await
        }
        Statement::Copy(copy) => copy::to(database, copy).await,
        Statement::Show(show) => show::run(database, show).await,
        Statement::Describe(describe) => describe::run(database, describe),
        Statement::ShowCreate(show) => show_create::run(database, show),
        Statement::Explain(explain) => explain::run(database, explain).await,
        Statement::Verify(verify) => verify::run(database, verify).await,
        _ => {
            let (database, parsed) = (database.clone(), Arc::clone(parsed));
            to_the_end(|caller| async move { change(&database, &parsed.statement, caller).await })
                .await
        }
    }
}

/// Runs a statement that changes the database.
async fn change(database: &Database, statement: &Statement, caller: Caller) -> Result<Outcome> {
    match statement {
        Statement::CreateSource(create) => create_source::run(database, create).await,
        Statement::CreateEntity(create) => create_entity::run(database, create).await,
        Statement::CreateFeatures(create) => create_features::run(database, create, caller).await,
        Statement::CreateView(create) => create_view::run(database, create).await,
        Statement::Drop(drop) => drop::run(database, drop).await,
        Statement::Checkpoint => checkpoint::run(database).await,
        Statement::Vacuum(vacuum) => vacuum::run(database, vacuum).await,
        Statement::Backup(backup) => backup::run(database, backup, caller).await,
        Statement::CreateWrittenFeature(_) => {
            Err(Error::unsupported("features that are written directly are not supported yet"))
        }
        Statement::Comment(_) => Err(Error::unsupported("COMMENT is not supported yet")),
        Statement::Copy(_)
        | Statement::Verify(_)
        | Statement::Show(_)
        | Statement::Describe(_)
        | Statement::ShowCreate(_)
        | Statement::Explain(_)
        | Statement::Query(_)
        | Statement::Insert(_) => Err(Error::Internal("the statement changes nothing".into())),
        Statement::Session(_) => {
            Err(Error::Internal("session statements belong to the connection".into()))
        }
    }
}

/// The columns of a statement's rows, for those that have some without a plan.
pub fn result_schema(statement: &Statement) -> Option<SchemaRef> {
    match statement {
        Statement::Show(show) => Some(show::schema(show.kind)),
        Statement::Describe(_) => Some(describe::schema()),
        Statement::ShowCreate(_) => Some(show_create::schema()),
        Statement::Explain(_) => Some(explain::schema()),
        Statement::Verify(_) => Some(verify::schema()),
        _ => None,
    }
}
