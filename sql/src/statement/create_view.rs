//! `CREATE VIEW`: a named query, such as a model's feature vector.

use std::fmt;

use sqlparser::ast::{Ident, Query};
use sqlparser::parser::Parser;

use super::{Statement, query};
use crate::display::{canonical, comma_separated};
use crate::error::Error;
use crate::token;

/// `CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name [(columns)] AS query`
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// The view's name.
    pub name: Ident,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// `OR REPLACE`
    pub or_replace: bool,
    /// New names for the query's columns; empty to keep them.
    pub columns: Vec<Ident>,
    /// What the view stands for.
    pub query: Box<Query>,
}

pub(super) fn parse(p: &mut Parser, or_replace: bool) -> Result<Statement, Error> {
    let if_not_exists = token::if_not_exists(p);
    let name = token::relation(p)?;
    let columns = token::optional_columns(p)?;
    token::unique("column", &columns)?;
    token::expect_word(p, "AS")?;
    let query = query::parse_query(p)?;
    Ok(Statement::CreateView(CreateView { name, if_not_exists, or_replace, columns, query }))
}

impl fmt::Display for CreateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::create_words(self.or_replace))?;
        f.write_str(" VIEW ")?;
        f.write_str(super::if_not_exists(self.if_not_exists))?;
        write!(f, "{}", self.name)?;
        if !self.columns.is_empty() {
            write!(f, " ({})", comma_separated(&self.columns))?;
        }
        write!(f, " AS {}", canonical(self.query.as_ref()))
    }
}
