//! The statements, one file each, and the choice among them by their leading words.

use std::fmt;

use sqlparser::ast::{Insert, Query};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::display::canonical;
use crate::error::Error;
use crate::token;

mod backup;
mod comment;
mod copy;
mod create_entity;
mod create_features;
mod create_source;
mod create_view;
mod describe;
mod drop;
mod explain;
mod insert;
mod prepare;
mod query;
mod session;
mod set;
mod show;
mod unsupported;
mod vacuum;
mod verify;

pub use backup::Backup;
pub use comment::{Comment, CommentObject};
pub use copy::{Copy, CopyDirection, CopyEndpoint, CopyFormat, CopyTarget};
pub use create_entity::{CreateEntity, KeyColumn};
pub use create_features::{Argument, CreateFeatures, CreateWrittenFeature, FeatureDef, From};
pub use create_source::{ColumnDef, CreateSource};
pub use create_view::CreateView;
pub use describe::{Describe, ShowCreate};
pub use drop::{Drop, DropObject};
pub use explain::Explain;
pub(crate) use insert::rows::insert_of_literals;
pub use prepare::Prepare;
pub use session::{Discard, Isolation, SessionStatement, TransactionModes};
pub use set::{SetScope, SetVariable, SettingValue};
pub use show::{ObjectKind, Show, ShowKind};
pub use vacuum::Vacuum;
pub use verify::VerifyFeatures;

/// A statement of AsofDB.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `CREATE SOURCE`
    CreateSource(CreateSource),
    /// `CREATE ENTITY`
    CreateEntity(CreateEntity),
    /// `CREATE FEATURE ... AS SELECT`, `CREATE FEATURES`
    CreateFeatures(Box<CreateFeatures>),
    /// `CREATE FEATURE name ON entity type`
    CreateWrittenFeature(CreateWrittenFeature),
    /// `CREATE VIEW`
    CreateView(CreateView),
    /// `DROP SOURCE | ENTITY | VIEW | FEATURE`
    Drop(Drop),
    /// `INSERT`
    Insert(Box<Insert>),
    /// `COPY`
    Copy(Copy),
    /// `SHOW SOURCES`, `SHOW FEATURES ON entity` and the like
    Show(Show),
    /// `DESCRIBE`
    Describe(Describe),
    /// `SHOW CREATE`
    ShowCreate(ShowCreate),
    /// `CHECKPOINT`
    Checkpoint,
    /// `VACUUM`
    Vacuum(Vacuum),
    /// `BACKUP`
    Backup(Backup),
    /// `COMMENT ON`
    Comment(Comment),
    /// `VERIFY FEATURES ON entity`
    Verify(VerifyFeatures),
    /// `EXPLAIN`
    Explain(Explain),
    /// `SELECT`, `VALUES`, `TABLE`, `WITH`
    Query(Box<Query>),
    /// Transactions, settings, prepared statements
    Session(SessionStatement),
}

type ParseFn = fn(&mut Parser) -> Result<Statement, Error>;
/// Told whether `OR REPLACE` was given.
type CreateFn = fn(&mut Parser, bool) -> Result<Statement, Error>;

/// The statements by their first word, which the parse function finds not yet taken.
const STATEMENTS: &[(&str, ParseFn)] = &[
    ("SELECT", query::parse),
    ("WITH", query::parse),
    ("VALUES", query::parse),
    ("TABLE", query::parse),
    ("INSERT", insert::parse),
    ("CREATE", create),
    ("DROP", drop::parse),
    ("COPY", copy::parse),
    ("SHOW", show::parse),
    ("DESCRIBE", describe::parse),
    ("DESC", describe::parse),
    ("EXPLAIN", explain::parse),
    ("CHECKPOINT", checkpoint),
    ("VACUUM", vacuum::parse),
    ("BACKUP", backup::parse),
    ("COMMENT", comment::parse),
    ("VERIFY", verify::parse),
    ("SET", set::parse),
    ("PREPARE", prepare::parse),
    ("EXECUTE", prepare::parse_execute),
    ("DEALLOCATE", session::parse),
    ("BEGIN", session::parse),
    ("START", session::parse),
    ("COMMIT", session::parse),
    ("END", session::parse),
    ("ROLLBACK", session::parse),
    ("ABORT", session::parse),
    ("SAVEPOINT", session::parse),
    ("RELEASE", session::parse),
    ("RESET", session::parse),
    ("DISCARD", session::parse),
    ("CLOSE", session::parse),
    ("UNLISTEN", session::parse),
];

/// Parses one statement; the caller checks that nothing follows.
pub(crate) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    let first = p.peek_token_ref();
    if first.token == Token::LParen {
        return query::parse(p);
    }
    let known = STATEMENTS.iter().find(|(word, _)| token::is_word(&first.token, word));
    match known {
        Some((_, parse)) => parse(p),
        None => Err(unsupported::statement(p)),
    }
}

/// The first words of all statements.
pub(crate) fn first_words() -> Vec<&'static str> {
    STATEMENTS.iter().map(|(word, _)| *word).collect()
}

/// What `CREATE [OR REPLACE] <word>` makes.
const CREATIONS: &[(&str, CreateFn)] = &[
    ("SOURCE", create_source::parse),
    ("ENTITY", create_entity::parse),
    ("FEATURE", create_features::parse),
    ("FEATURES", create_features::parse_plural),
    ("VIEW", create_view::parse),
];

fn create(p: &mut Parser) -> Result<Statement, Error> {
    let span = token::here(p);
    token::expect_word(p, "CREATE")?;
    let or_replace = token::eat_words(p, &["OR", "REPLACE"]);
    for (word, parse) in CREATIONS {
        if token::eat(p, word) {
            return parse(p, or_replace);
        }
    }
    let known: Vec<&str> = CREATIONS.iter().map(|(word, _)| *word).collect();
    Err(unsupported::object(p, "CREATE", &known, span))
}

fn checkpoint(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_word(p, "CHECKPOINT")?;
    Ok(Statement::Checkpoint)
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::CreateSource(statement) => statement.fmt(f),
            Statement::CreateEntity(statement) => statement.fmt(f),
            Statement::CreateFeatures(statement) => statement.fmt(f),
            Statement::CreateWrittenFeature(statement) => statement.fmt(f),
            Statement::CreateView(statement) => statement.fmt(f),
            Statement::Drop(statement) => statement.fmt(f),
            Statement::Insert(insert) => f.write_str(&canonical(insert.as_ref())),
            Statement::Copy(statement) => statement.fmt(f),
            Statement::Show(statement) => statement.fmt(f),
            Statement::Describe(statement) => statement.fmt(f),
            Statement::ShowCreate(statement) => statement.fmt(f),
            Statement::Checkpoint => f.write_str("CHECKPOINT"),
            Statement::Vacuum(statement) => statement.fmt(f),
            Statement::Backup(statement) => statement.fmt(f),
            Statement::Comment(statement) => statement.fmt(f),
            Statement::Verify(statement) => statement.fmt(f),
            Statement::Explain(statement) => statement.fmt(f),
            Statement::Query(query) => f.write_str(&canonical(query.as_ref())),
            Statement::Session(statement) => statement.fmt(f),
        }
    }
}

fn create_words(or_replace: bool) -> &'static str {
    if or_replace { "CREATE OR REPLACE" } else { "CREATE" }
}

fn if_not_exists(given: bool) -> &'static str {
    if given { "IF NOT EXISTS " } else { "" }
}
