//! `CREATE SOURCE`: an append-only relation of events with the column that dates them.

use std::fmt;

use sqlparser::ast::{DataType, Ident};
use sqlparser::parser::Parser;

use super::Statement;
use crate::display::comma_separated;
use crate::error::Error;
use crate::options::Options;
use crate::{name, token};

/// `CREATE [OR REPLACE] SOURCE [IF NOT EXISTS] name (columns) EVENT TIME column [WITH (options)]`
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSource {
    /// The source's name.
    pub name: Ident,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// `OR REPLACE`
    pub or_replace: bool,
    /// The columns in order; empty when an outside source is to tell them.
    pub columns: Vec<ColumnDef>,
    /// The column that says when an event happened; one of `columns` unless these are empty.
    pub event_time: Ident,
    /// `WITH (...)`
    pub options: Options,
}

/// A column of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDef {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub data_type: DataType,
    /// `NOT NULL`
    pub not_null: bool,
}

const HINT: &str =
    "CREATE SOURCE name (column TYPE, ...) EVENT TIME column names the column that dates events.";

pub(super) fn parse(p: &mut Parser, or_replace: bool) -> Result<Statement, Error> {
    let if_not_exists = token::if_not_exists(p);
    let name = token::relation(p)?;
    let columns = match token::at_words(p, &["EVENT"]) {
        true => Vec::new(),
        false => token::parenthesized(p, column)?,
    };
    token::unique("column", columns.iter().map(|column| &column.name))?;
    if !token::eat_words(p, &["EVENT", "TIME"]) {
        return Err(token::expected(p, "EVENT TIME").with_hint(HINT));
    }
    let event_time = token::ident(p).map_err(|error| error.with_hint(HINT))?;
    check_event_time(&columns, &event_time)?;
    let options = Options::parse(p)?;
    Ok(Statement::CreateSource(CreateSource {
        name,
        if_not_exists,
        or_replace,
        columns,
        event_time,
        options,
    }))
}

fn column(p: &mut Parser) -> Result<ColumnDef, Error> {
    let name = token::ident(p)?;
    let data_type = token::data_type(p, &name)?;
    let span = token::here(p);
    let not_null = token::eat_words(p, &["NOT", "NULL"]);
    token::eat(p, "NULL");
    const NOT_OURS: &[&str] =
        &["PRIMARY", "UNIQUE", "REFERENCES", "CHECK", "DEFAULT", "GENERATED", "CONSTRAINT"];
    match token::eat_one_of(p, NOT_OURS) {
        Some(word) => Err(Error::unsupported(
            format!("{word} on a column of a source"),
            span,
            "A source is a log of events: its columns have a type and NOT NULL, nothing else.",
        )),
        None => Ok(ColumnDef { name, data_type, not_null }),
    }
}

fn check_event_time(columns: &[ColumnDef], event_time: &Ident) -> Result<(), Error> {
    let names: Vec<String> = columns.iter().map(|column| name::fold(&column.name)).collect();
    let wanted = name::fold(event_time);
    if columns.is_empty() || names.contains(&wanted) {
        return Ok(());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = Error::syntax(
        format!("EVENT TIME {event_time} is not a column of the source"),
        event_time.span,
    );
    Err(match token::nearest(&wanted, &names) {
        Some(near) => error.with_hint(format!("Did you mean {near}?")),
        None => error.with_hint(format!("Its columns are {}.", names.join(", "))),
    })
}

impl fmt::Display for ColumnDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not_null = if self.not_null { " NOT NULL" } else { "" };
        write!(f, "{} {}{not_null}", self.name, self.data_type)
    }
}

impl fmt::Display for CreateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::create_words(self.or_replace))?;
        f.write_str(" SOURCE ")?;
        f.write_str(super::if_not_exists(self.if_not_exists))?;
        write!(f, "{} ", self.name)?;
        if !self.columns.is_empty() {
            write!(f, "({}) ", comma_separated(&self.columns))?;
        }
        write!(f, "EVENT TIME {}{}", self.event_time, self.options)
    }
}
