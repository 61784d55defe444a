//! `DROP SOURCE | ENTITY | VIEW` and `DROP FEATURE ... ON entity`.

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::parser::Parser;

use super::{Statement, unsupported};
use crate::display::comma_separated;
use crate::error::Error;
use crate::token;

/// `DROP object [IF EXISTS] name, ... [ON entity] [CASCADE | RESTRICT]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    /// What is dropped.
    pub object: DropObject,
    /// `IF EXISTS`
    pub if_exists: bool,
    /// At least one name.
    pub names: Vec<Ident>,
    /// `CASCADE`; `RESTRICT` is what happens without it.
    pub cascade: bool,
}

/// The kind of object to drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropObject {
    /// `SOURCE`
    Source,
    /// `ENTITY`
    Entity,
    /// `VIEW`
    View,
    /// `FEATURE ... ON entity`
    Feature {
        /// The entity that has the features.
        entity: Ident,
    },
}

const OBJECTS: &[&str] = &["SOURCE", "ENTITY", "VIEW", "FEATURE", "FEATURES"];

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    let span = token::here(p);
    token::expect_word(p, "DROP")?;
    let Some(word) = token::eat_one_of(p, OBJECTS) else {
        return Err(unsupported::object(p, "DROP", OBJECTS, span));
    };
    let if_exists = token::if_exists(p);
    let names = token::list(p, token::relation)?;
    let object = match word {
        "SOURCE" => DropObject::Source,
        "ENTITY" => DropObject::Entity,
        "VIEW" => DropObject::View,
        _ => {
            token::expect_word(p, "ON").map_err(|error| {
                error.with_hint("DROP FEATURE name ON entity: features belong to an entity.")
            })?;
            DropObject::Feature { entity: token::relation(p)? }
        }
    };
    let cascade = token::eat_one_of(p, &["CASCADE", "RESTRICT"]) == Some("CASCADE");
    Ok(Statement::Drop(Drop { object, if_exists, names, cascade }))
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &self.object {
            DropObject::Source => "SOURCE",
            DropObject::Entity => "ENTITY",
            DropObject::View => "VIEW",
            DropObject::Feature { .. } => "FEATURE",
        };
        let if_exists = if self.if_exists { "IF EXISTS " } else { "" };
        write!(f, "DROP {word} {if_exists}{}", comma_separated(&self.names))?;
        if let DropObject::Feature { entity } = &self.object {
            write!(f, " ON {entity}")?;
        }
        f.write_str(if self.cascade { " CASCADE" } else { "" })
    }
}
