//! Queries: sqlparser's, without the parts that nothing behind us would honour.

use std::ops::ControlFlow;

use sqlparser::ast::{Query, Select, SetExpr, Spanned, TableFactor, TableVersion, Visit, Visitor};
use sqlparser::parser::Parser;

use super::Statement;
use crate::error::Error;
use crate::limit;

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    parse_query(p).map(Statement::Query)
}

pub(super) fn parse_query(p: &mut Parser) -> Result<Box<Query>, Error> {
    let query = p.parse_query()?;
    check(query.as_ref())?;
    Ok(query)
}

/// Refuses trees that are too deep, and clauses that would be ignored silently.
pub(super) fn check<T: Visit>(tree: &T) -> Result<(), Error> {
    limit::check_tree(tree)?;
    match tree.visit(&mut Clauses) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Clauses;

impl Visitor for Clauses {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        let kind = match query.body.as_ref() {
            SetExpr::Insert(_) => "INSERT",
            SetExpr::Update(_) => "UPDATE",
            SetExpr::Delete(_) => "DELETE",
            SetExpr::Merge(_) => "MERGE",
            _ => return ControlFlow::Continue(()),
        };
        let statement = format!("{kind} within a query");
        ControlFlow::Break(Error::unsupported(statement, query.body.span(), ""))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        match &select.into {
            None => ControlFlow::Continue(()),
            Some(into) => ControlFlow::Break(Error::unsupported(
                "SELECT INTO",
                into.span(),
                "CREATE SOURCE ... EVENT TIME ... and INSERT INTO ... SELECT keep rows.",
            )),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::Table { name, version: Some(version), .. }
                if !matches!(version, TableVersion::ForSystemTimeAsOf(_)) =>
            {
                ControlFlow::Break(Error::unsupported(
                    format!("{version}"),
                    name.span(),
                    "A relation at another time is written name FOR SYSTEM_TIME AS OF expression.",
                ))
            }
            TableFactor::Table { name, with_hints, .. } if !with_hints.is_empty() => {
                ControlFlow::Break(Error::unsupported("WITH on a relation", name.span(), ""))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
