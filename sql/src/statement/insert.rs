//! `INSERT`: sqlparser's, in PostgreSQL's form.

pub(super) mod rows;

use sqlparser::ast::{Statement as SqlStatement, TableObject};
use sqlparser::parser::Parser;

use super::{Statement, query};
use crate::error::Error;
use crate::token;

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    let insert = p.next_token();
    let span = insert.span;
    if !token::at_words(p, &["INTO"]) {
        return Err(token::expected(p, "INTO"));
    }
    let SqlStatement::Insert(insert) = p.parse_insert(insert)? else {
        return Err(Error::unsupported("INSERT INTO DIRECTORY", span, ""));
    };
    if !matches!(insert.table, TableObject::TableName(_)) {
        return Err(Error::unsupported("INSERT INTO a function or query", span, ""));
    }
    if insert.partitioned.is_some() {
        return Err(Error::unsupported("PARTITION in INSERT", span, ""));
    }
    query::check(&insert)?;
    Ok(Statement::Insert(Box::new(insert)))
}
