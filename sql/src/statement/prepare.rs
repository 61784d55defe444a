//! `PREPARE` and `EXECUTE`: prepared statements by name, in SQL.

use std::fmt;

use sqlparser::ast::{DataType, Ident};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{SessionStatement, Statement, query};
use crate::display::comma_separated;
use crate::error::Error;
use crate::token;

/// `PREPARE name [(types)] AS statement`
#[derive(Debug, Clone, PartialEq)]
pub struct Prepare {
    /// Its name.
    pub name: Ident,
    /// The types of `$1`, `$2`, ...; may be fewer than there are.
    pub types: Vec<DataType>,
    /// A query or an `INSERT`.
    pub statement: Box<Statement>,
}

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_word(p, "PREPARE")?;
    let name = token::ident(p)?;
    let types = match p.peek_token_ref().token == Token::LParen {
        true => token::parenthesized(p, |p| Ok(p.parse_data_type()?))?,
        false => Vec::new(),
    };
    token::expect_word(p, "AS")?;
    let span = token::here(p);
    let not_these = ["PREPARE", "EXPLAIN"];
    let statement = match not_these.iter().any(|word| token::at_words(p, &[word])) {
        true => None,
        false => Some(super::parse(p)?),
    };
    match statement {
        Some(statement @ (Statement::Query(_) | Statement::Insert(_))) => {
            let statement = Box::new(statement);
            let prepare = Prepare { name, types, statement };
            Ok(Statement::Session(SessionStatement::Prepare(prepare)))
        }
        _ => Err(Error::syntax("PREPARE expects a query or an INSERT", span)),
    }
}

pub(super) fn parse_execute(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_word(p, "EXECUTE")?;
    let name = token::ident(p)?;
    let arguments = match p.peek_token_ref().token == Token::LParen {
        true => token::parenthesized(p, |p| Ok(p.parse_expr()?))?,
        false => Vec::new(),
    };
    query::check(&arguments)?;
    Ok(Statement::Session(SessionStatement::Execute { name, arguments }))
}

impl fmt::Display for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PREPARE {}", self.name)?;
        if !self.types.is_empty() {
            write!(f, " ({})", comma_separated(&self.types))?;
        }
        write!(f, " AS {}", self.statement)
    }
}
