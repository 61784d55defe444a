//! `DESCRIBE` and `SHOW CREATE`: one object, as columns or as its definition.

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::parser::Parser;

use super::{ObjectKind, Statement};
use crate::error::Error;
use crate::token;

/// `DESCRIBE | DESC [SOURCE | ENTITY | VIEW] name`, `DESCRIBE FEATURE name [ON entity]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Describe {
    /// The kind, if it is given.
    pub kind: Option<ObjectKind>,
    /// The object.
    pub name: Ident,
    /// The entity of a feature.
    pub entity: Option<Ident>,
}

/// `SHOW CREATE [SOURCE | ENTITY | VIEW | FEATURE] name [ON entity]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowCreate {
    /// The kind, if it is given.
    pub kind: Option<ObjectKind>,
    /// The object.
    pub name: Ident,
    /// The entity of a feature.
    pub entity: Option<Ident>,
}

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_one_of(p, &["DESCRIBE", "DESC"])?;
    let (kind, name, entity) = object(p)?;
    Ok(Statement::Describe(Describe { kind, name, entity }))
}

pub(super) fn parse_show_create(p: &mut Parser) -> Result<Statement, Error> {
    let (kind, name, entity) = object(p)?;
    Ok(Statement::ShowCreate(ShowCreate { kind, name, entity }))
}

fn object(p: &mut Parser) -> Result<(Option<ObjectKind>, Ident, Option<Ident>), Error> {
    let kind = ObjectKind::parse(p);
    // TABLE is what tools for other databases send; it says nothing about the kind here.
    token::eat(p, "TABLE");
    let name = token::relation(p)?;
    let may_have_entity = matches!(kind, None | Some(ObjectKind::Feature));
    let entity = match may_have_entity && token::eat(p, "ON") {
        true => Some(token::relation(p)?),
        false => None,
    };
    Ok((kind, name, entity))
}

fn write_object(
    f: &mut fmt::Formatter<'_>,
    kind: Option<ObjectKind>,
    name: &Ident,
    entity: &Option<Ident>,
) -> fmt::Result {
    if let Some(kind) = kind {
        write!(f, " {}", kind.word())?;
    }
    write!(f, " {name}")?;
    match entity {
        Some(entity) => write!(f, " ON {entity}"),
        None => Ok(()),
    }
}

impl fmt::Display for Describe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DESCRIBE")?;
        write_object(f, self.kind, &self.name, &self.entity)
    }
}

impl fmt::Display for ShowCreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SHOW CREATE")?;
        write_object(f, self.kind, &self.name, &self.entity)
    }
}
