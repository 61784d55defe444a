//! `COPY`: bulk data between a relation or query and a client or a file on the server.

use std::fmt;

use sqlparser::ast::{Ident, Query};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Statement, query};
use crate::display::{canonical, comma_separated, quote};
use crate::error::Error;
use crate::token;

mod options;

/// `COPY relation [(columns)] | (query) FROM | TO STDIN | STDOUT | 'path' [options]`
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// What is read or written.
    pub target: CopyTarget,
    /// Which way the data goes.
    pub direction: CopyDirection,
    /// Where the data comes from or goes to.
    pub endpoint: CopyEndpoint,
    /// `FORMAT`; text for a client, told by the file's name for a file.
    pub format: Option<CopyFormat>,
    /// `HEADER`
    pub header: Option<bool>,
    /// `DELIMITER`
    pub delimiter: Option<char>,
    /// `NULL`: the text that stands for NULL
    pub null: Option<String>,
    /// `QUOTE`
    pub quote: Option<char>,
    /// `ESCAPE`
    pub escape: Option<char>,
}

/// What `COPY` reads or writes.
#[derive(Debug, Clone, PartialEq)]
pub enum CopyTarget {
    /// A relation, or some of its columns.
    Table {
        /// The relation.
        name: Ident,
        /// The columns; empty for all.
        columns: Vec<Ident>,
    },
    /// The rows of a query; only `TO`.
    Query(Box<Query>),
}

/// Which way `COPY` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDirection {
    /// Into the relation.
    From,
    /// Out of the relation or query.
    To,
}

/// The other end of a `COPY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyEndpoint {
    /// The client sends.
    Stdin,
    /// The client receives.
    Stdout,
    /// A file on the server, or an address in an object store.
    File(String),
}

/// The format of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// PostgreSQL's text format.
    Text,
    /// Comma-separated values.
    Csv,
    /// PostgreSQL's binary format.
    Binary,
    /// Parquet; files only.
    Parquet,
}

impl CopyFormat {
    const ALL: [CopyFormat; 4] =
        [CopyFormat::Text, CopyFormat::Csv, CopyFormat::Binary, CopyFormat::Parquet];

    /// The name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            CopyFormat::Text => "text",
            CopyFormat::Csv => "csv",
            CopyFormat::Binary => "binary",
            CopyFormat::Parquet => "parquet",
        }
    }
}

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_word(p, "COPY")?;
    let span = token::here(p);
    let target = target(p)?;
    let direction = match token::expect_one_of(p, &["FROM", "TO"])? {
        "FROM" => CopyDirection::From,
        _ => CopyDirection::To,
    };
    if direction == CopyDirection::From && matches!(target, CopyTarget::Query(_)) {
        return Err(Error::syntax("COPY FROM needs a source, not a query", span)
            .with_hint("Use INSERT INTO source SELECT ... to store a query's rows."));
    }
    let mut copy = Copy {
        target,
        direction,
        endpoint: endpoint(p, direction)?,
        format: None,
        header: None,
        delimiter: None,
        null: None,
        quote: None,
        escape: None,
    };
    options::parse(p, &mut copy)?;
    let client = !matches!(copy.endpoint, CopyEndpoint::File(_));
    if client && copy.format == Some(CopyFormat::Parquet) {
        return Err(Error::syntax("COPY in format parquet needs a file", span)
            .with_hint("Formats for STDIN and STDOUT are text, csv and binary."));
    }
    Ok(Statement::Copy(copy))
}

fn target(p: &mut Parser) -> Result<CopyTarget, Error> {
    if p.consume_token(&Token::LParen) {
        let query = query::parse_query(p)?;
        token::expect(p, &Token::RParen)?;
        return Ok(CopyTarget::Query(query));
    }
    // BINARY before the name is PostgreSQL's oldest form; no driver sends it.
    Ok(CopyTarget::Table { name: token::relation(p)?, columns: token::optional_columns(p)? })
}

fn endpoint(p: &mut Parser, direction: CopyDirection) -> Result<CopyEndpoint, Error> {
    let (word, client) = match direction {
        CopyDirection::From => ("STDIN", CopyEndpoint::Stdin),
        CopyDirection::To => ("STDOUT", CopyEndpoint::Stdout),
    };
    if token::eat(p, word) {
        return Ok(client);
    }
    if token::at_words(p, &["PROGRAM"]) {
        return Err(Error::unsupported(
            "COPY with PROGRAM",
            token::here(p),
            "Use STDIN or a file.",
        ));
    }
    match token::string(p) {
        Ok(path) => Ok(CopyEndpoint::File(path)),
        Err(error) => {
            p.prev_token();
            drop(error);
            Err(token::expected(p, &format!("{word} or the path of a file")))
        }
    }
}

impl fmt::Display for CopyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyTarget::Query(query) => write!(f, "({})", canonical(query.as_ref())),
            CopyTarget::Table { name, columns } if columns.is_empty() => write!(f, "{name}"),
            CopyTarget::Table { name, columns } => {
                write!(f, "{name} ({})", comma_separated(columns))
            }
        }
    }
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            CopyDirection::From => "FROM",
            CopyDirection::To => "TO",
        };
        write!(f, "COPY {} {direction} ", self.target)?;
        match &self.endpoint {
            CopyEndpoint::Stdin => f.write_str("STDIN")?,
            CopyEndpoint::Stdout => f.write_str("STDOUT")?,
            CopyEndpoint::File(path) => f.write_str(&quote(path))?,
        }
        let character = |name: &str, ch: Option<char>| {
            ch.map(|ch| format!("{name} {}", quote(ch.encode_utf8(&mut [0; 4]))))
        };
        let options = [
            self.format.map(|format| format!("FORMAT {}", format.name())),
            self.header.map(|header| format!("HEADER {header}")),
            character("DELIMITER", self.delimiter),
            self.null.as_ref().map(|null| format!("NULL {}", quote(null))),
            character("QUOTE", self.quote),
            character("ESCAPE", self.escape),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        match options.is_empty() {
            true => Ok(()),
            false => write!(f, " WITH ({})", options.join(", ")),
        }
    }
}
