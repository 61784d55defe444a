//! Statements about the session: transactions, settings, prepared statements.

use std::fmt;

use sqlparser::ast::{Expr, Ident};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Prepare, SetVariable, Statement, set};
use crate::display::{canonical, comma_separated};
use crate::error::Error;
use crate::token;

/// A statement that changes or shows the session, not the database.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionStatement {
    /// `BEGIN [WORK | TRANSACTION] [modes]`, `START TRANSACTION [modes]`
    Begin {
        /// Written as `START TRANSACTION`, which is also its command tag.
        start: bool,
        /// Its modes.
        modes: TransactionModes,
    },
    /// `COMMIT`, `END`
    Commit {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`
    Rollback {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `SAVEPOINT name`
    Savepoint(Ident),
    /// `RELEASE [SAVEPOINT] name`
    Release(Ident),
    /// `ROLLBACK TO [SAVEPOINT] name`
    RollbackTo(Ident),
    /// `SET name TO value` and its special forms
    Set(SetVariable),
    /// `SET TRANSACTION modes`, `SET SESSION CHARACTERISTICS AS TRANSACTION modes`
    SetTransaction {
        /// For the session's later transactions, not for this one.
        session: bool,
        /// The modes.
        modes: TransactionModes,
    },
    /// `RESET name`, `RESET ALL`
    Reset {
        /// The folded name; `None` for all.
        name: Option<String>,
    },
    /// `SHOW name`; `SHOW ALL` has the name `all`
    Show {
        /// The folded name.
        name: String,
    },
    /// `DISCARD ALL | PLANS | SEQUENCES | TEMP`
    Discard(Discard),
    /// `DEALLOCATE [PREPARE] name | ALL`
    Deallocate {
        /// The prepared statement; `None` for all.
        name: Option<Ident>,
    },
    /// `PREPARE`
    Prepare(Prepare),
    /// `EXECUTE name [(arguments)]`
    Execute {
        /// The prepared statement.
        name: Ident,
        /// Its parameters.
        arguments: Vec<Expr>,
    },
    /// `CLOSE name | ALL`
    Close {
        /// The cursor; `None` for all.
        name: Option<Ident>,
    },
    /// `UNLISTEN name | *`
    Unlisten {
        /// The channel; `None` for all.
        name: Option<Ident>,
    },
}

/// What `DISCARD` discards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// `ALL`
    All,
    /// `PLANS`
    Plans,
    /// `SEQUENCES`
    Sequences,
    /// `TEMP`, `TEMPORARY`
    Temp,
}

/// A transaction's isolation level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// `READ UNCOMMITTED`
    ReadUncommitted,
    /// `READ COMMITTED`
    ReadCommitted,
    /// `REPEATABLE READ`
    RepeatableRead,
    /// `SERIALIZABLE`
    Serializable,
}

/// The modes of a transaction; `None` where not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// `ISOLATION LEVEL ...`
    pub isolation: Option<Isolation>,
    /// `READ ONLY` or `READ WRITE`
    pub read_only: Option<bool>,
    /// `[NOT] DEFERRABLE`
    pub deferrable: Option<bool>,
}

/// Levels with the words that say them.
const LEVELS: &[(&[&str], Isolation)] = &[
    (&["READ", "UNCOMMITTED"], Isolation::ReadUncommitted),
    (&["READ", "COMMITTED"], Isolation::ReadCommitted),
    (&["REPEATABLE", "READ"], Isolation::RepeatableRead),
    (&["SERIALIZABLE"], Isolation::Serializable),
];

const DISCARDS: &[(&str, Discard)] = &[
    ("ALL", Discard::All),
    ("PLANS", Discard::Plans),
    ("SEQUENCES", Discard::Sequences),
    ("TEMP", Discard::Temp),
    ("TEMPORARY", Discard::Temp),
];

/// Parses the statements whose first word says all; `SET`, `SHOW` and `PREPARE` have files.
pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    let word = p.next_token().token.to_string().to_ascii_uppercase();
    let statement = match word.as_str() {
        "BEGIN" => {
            token::eat_one_of(p, &["WORK", "TRANSACTION"]);
            SessionStatement::Begin { start: false, modes: modes(p)? }
        }
        "START" => {
            token::expect_word(p, "TRANSACTION")?;
            SessionStatement::Begin { start: true, modes: modes(p)? }
        }
        "COMMIT" | "END" => {
            token::eat_one_of(p, &["WORK", "TRANSACTION"]);
            SessionStatement::Commit { chain: chain(p)? }
        }
        "ROLLBACK" | "ABORT" => rollback(p)?,
        "SAVEPOINT" => SessionStatement::Savepoint(token::ident(p)?),
        "RELEASE" => {
            token::eat(p, "SAVEPOINT");
            SessionStatement::Release(token::ident(p)?)
        }
        "RESET" => SessionStatement::Reset { name: reset_name(p)? },
        "DISCARD" => {
            let words: Vec<&str> = DISCARDS.iter().map(|(word, _)| *word).collect();
            let word = token::expect_one_of(p, &words)?;
            let found = DISCARDS.iter().find(|(known, _)| *known == word);
            SessionStatement::Discard(found.map_or(Discard::All, |(_, discard)| *discard))
        }
        "DEALLOCATE" => {
            token::eat(p, "PREPARE");
            SessionStatement::Deallocate { name: name_or_all(p)? }
        }
        "CLOSE" => SessionStatement::Close { name: name_or_all(p)? },
        _ => {
            let all = p.consume_token(&Token::Mul);
            let name = if all { None } else { Some(token::ident(p)?) };
            SessionStatement::Unlisten { name }
        }
    };
    Ok(Statement::Session(statement))
}

fn rollback(p: &mut Parser) -> Result<SessionStatement, Error> {
    token::eat_one_of(p, &["WORK", "TRANSACTION"]);
    if token::eat(p, "TO") {
        token::eat(p, "SAVEPOINT");
        return Ok(SessionStatement::RollbackTo(token::ident(p)?));
    }
    Ok(SessionStatement::Rollback { chain: chain(p)? })
}

fn chain(p: &mut Parser) -> Result<bool, Error> {
    if !token::eat(p, "AND") {
        return Ok(false);
    }
    let no = token::eat(p, "NO");
    token::expect_word(p, "CHAIN")?;
    Ok(!no)
}

fn name_or_all(p: &mut Parser) -> Result<Option<Ident>, Error> {
    match token::eat(p, "ALL") {
        true => Ok(None),
        false => Ok(Some(token::ident(p)?)),
    }
}

fn reset_name(p: &mut Parser) -> Result<Option<String>, Error> {
    match token::eat(p, "ALL") {
        true => Ok(None),
        false => Ok(Some(set::setting_name(p)?)),
    }
}

/// Zero or more modes, with or without commas, as in PostgreSQL.
pub(super) fn modes(p: &mut Parser) -> Result<TransactionModes, Error> {
    let mut modes = TransactionModes::default();
    let mut comma = false;
    loop {
        if token::eat_words(p, &["ISOLATION", "LEVEL"]) {
            let level = LEVELS.iter().find(|(words, _)| token::eat_words(p, words));
            let (_, level) = level.ok_or_else(|| token::expected(p, "an isolation level"))?;
            modes.isolation = Some(*level);
        } else if token::eat_words(p, &["READ", "ONLY"]) {
            modes.read_only = Some(true);
        } else if token::eat_words(p, &["READ", "WRITE"]) {
            modes.read_only = Some(false);
        } else if token::eat(p, "DEFERRABLE") {
            modes.deferrable = Some(true);
        } else if token::eat_words(p, &["NOT", "DEFERRABLE"]) {
            modes.deferrable = Some(false);
        } else if comma {
            return Err(token::expected(p, "a transaction mode"));
        } else {
            return Ok(modes);
        }
        comma = p.consume_token(&Token::Comma);
    }
}

impl fmt::Display for TransactionModes {
    /// Each mode with a space before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(isolation) = self.isolation {
            let words = LEVELS.iter().find(|(_, level)| *level == isolation);
            let words = words.map_or(String::new(), |(words, _)| words.join(" "));
            write!(f, " ISOLATION LEVEL {words}")?;
        }
        match self.read_only {
            Some(true) => f.write_str(" READ ONLY")?,
            Some(false) => f.write_str(" READ WRITE")?,
            None => {}
        }
        match self.deferrable {
            Some(true) => f.write_str(" DEFERRABLE"),
            Some(false) => f.write_str(" NOT DEFERRABLE"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SessionStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let and_chain = |chain: &bool| if *chain { " AND CHAIN" } else { "" };
        let or = |name: &Option<Ident>, all: &str| {
            name.as_ref().map_or(all.to_owned(), |name| name.to_string())
        };
        match self {
            SessionStatement::Begin { start: true, modes } => write!(f, "START TRANSACTION{modes}"),
            SessionStatement::Begin { start: false, modes } => write!(f, "BEGIN{modes}"),
            SessionStatement::Commit { chain } => write!(f, "COMMIT{}", and_chain(chain)),
            SessionStatement::Rollback { chain } => write!(f, "ROLLBACK{}", and_chain(chain)),
            SessionStatement::Savepoint(name) => write!(f, "SAVEPOINT {name}"),
            SessionStatement::Release(name) => write!(f, "RELEASE SAVEPOINT {name}"),
            SessionStatement::RollbackTo(name) => write!(f, "ROLLBACK TO SAVEPOINT {name}"),
            SessionStatement::Set(set) => set.fmt(f),
            SessionStatement::SetTransaction { session: false, modes } => {
                write!(f, "SET TRANSACTION{modes}")
            }
            SessionStatement::SetTransaction { session: true, modes } => {
                write!(f, "SET SESSION CHARACTERISTICS AS TRANSACTION{modes}")
            }
            SessionStatement::Reset { name: None } => f.write_str("RESET ALL"),
            SessionStatement::Reset { name: Some(name) } => {
                write!(f, "RESET {}", set::display_name(name))
            }
            SessionStatement::Show { name } => write!(f, "SHOW {}", set::display_name(name)),
            SessionStatement::Discard(discard) => {
                let word = DISCARDS.iter().find(|(_, known)| known == discard);
                write!(f, "DISCARD {}", word.map_or("ALL", |(word, _)| word))
            }
            SessionStatement::Deallocate { name } => write!(f, "DEALLOCATE {}", or(name, "ALL")),
            SessionStatement::Prepare(prepare) => prepare.fmt(f),
            SessionStatement::Execute { name, arguments } => {
                write!(f, "EXECUTE {name}")?;
                match arguments.is_empty() {
                    true => Ok(()),
                    false => write!(f, "({})", comma_separated(arguments.iter().map(canonical))),
                }
            }
            SessionStatement::Close { name } => write!(f, "CLOSE {}", or(name, "ALL")),
            SessionStatement::Unlisten { name } => write!(f, "UNLISTEN {}", or(name, "*")),
        }
    }
}
