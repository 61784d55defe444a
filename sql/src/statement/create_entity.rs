//! `CREATE ENTITY`: a relation with one row for every key at every instant.

use std::fmt;

use sqlparser::ast::{DataType, Ident};
use sqlparser::parser::Parser;

use super::Statement;
use crate::display::comma_separated;
use crate::error::Error;
use crate::options::Options;
use crate::token;

/// `CREATE [OR REPLACE] ENTITY [IF NOT EXISTS] name (key TYPE, ...) [WITH (options)]`
#[derive(Debug, Clone, PartialEq)]
pub struct CreateEntity {
    /// The entity's name.
    pub name: Ident,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// `OR REPLACE`
    pub or_replace: bool,
    /// The columns of the key, at least one.
    pub key: Vec<KeyColumn>,
    /// `WITH (...)`
    pub options: Options,
}

/// A column of an entity's key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyColumn {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub data_type: DataType,
}

pub(super) fn parse(p: &mut Parser, or_replace: bool) -> Result<Statement, Error> {
    let if_not_exists = token::if_not_exists(p);
    let name = token::relation(p)?;
    let key = token::parenthesized(p, key_column).map_err(|error| {
        error.with_hint("CREATE ENTITY name (key TYPE, ...) lists the columns of the key.")
    })?;
    token::unique("key column", key.iter().map(|column| &column.name))?;
    let options = Options::parse(p)?;
    Ok(Statement::CreateEntity(CreateEntity { name, if_not_exists, or_replace, key, options }))
}

fn key_column(p: &mut Parser) -> Result<KeyColumn, Error> {
    let name = token::ident(p)?;
    let data_type = token::data_type(p, &name)?;
    // A key is never null and is unique by its meaning, so these words say nothing new.
    token::eat_words(p, &["NOT", "NULL"]);
    token::eat_words(p, &["PRIMARY", "KEY"]);
    Ok(KeyColumn { name, data_type })
}

impl fmt::Display for KeyColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.data_type)
    }
}

impl fmt::Display for CreateEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::create_words(self.or_replace))?;
        f.write_str(" ENTITY ")?;
        f.write_str(super::if_not_exists(self.if_not_exists))?;
        write!(f, "{} ({}){}", self.name, comma_separated(&self.key), self.options)
    }
}
