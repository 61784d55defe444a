//! `COMMENT ON`: a text for people, kept with an object.

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::Statement;
use crate::display::quote;
use crate::error::Error;
use crate::token;

/// `COMMENT ON object IS 'text' | NULL`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// What the comment is about.
    pub object: CommentObject,
    /// The text; `None` takes the comment away.
    pub text: Option<String>,
}

/// What a comment is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommentObject {
    /// `SOURCE name`
    Source(Ident),
    /// `ENTITY name`
    Entity(Ident),
    /// `VIEW name`
    View(Ident),
    /// `TABLE name`: a source, an entity or a view
    Table(Ident),
    /// `FEATURE name ON entity`
    Feature {
        /// The feature.
        name: Ident,
        /// Its entity.
        entity: Ident,
    },
    /// `COLUMN relation.column`
    Column {
        /// The relation.
        relation: Ident,
        /// Its column.
        column: Ident,
    },
}

const OBJECTS: &[&str] = &["SOURCE", "ENTITY", "FEATURE", "VIEW", "TABLE", "COLUMN"];

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_words(p, &["COMMENT", "ON"])?;
    let object = match token::expect_one_of(p, OBJECTS)? {
        "SOURCE" => CommentObject::Source(token::relation(p)?),
        "ENTITY" => CommentObject::Entity(token::relation(p)?),
        "VIEW" => CommentObject::View(token::relation(p)?),
        "TABLE" => CommentObject::Table(token::relation(p)?),
        "FEATURE" => {
            let name = token::ident(p)?;
            token::expect_word(p, "ON")?;
            CommentObject::Feature { name, entity: token::relation(p)? }
        }
        _ => column(p)?,
    };
    token::expect_word(p, "IS")?;
    let text = match token::eat(p, "NULL") {
        true => None,
        false => Some(token::string(p)?),
    };
    Ok(Statement::Comment(Comment { object, text }))
}

/// `[public.]relation.column`
fn column(p: &mut Parser) -> Result<CommentObject, Error> {
    let mut parts = vec![token::ident(p)?];
    while p.consume_token(&Token::Period) {
        parts.push(token::ident(p)?);
    }
    if parts.len() == 3 && crate::name::fold(&parts[0]) == "public" {
        parts.remove(0);
    }
    match <[Ident; 2]>::try_from(parts) {
        Ok([relation, column]) => Ok(CommentObject::Column { relation, column }),
        Err(_) => Err(token::expected(p, "relation.column")),
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("COMMENT ON ")?;
        match &self.object {
            CommentObject::Source(name) => write!(f, "SOURCE {name}")?,
            CommentObject::Entity(name) => write!(f, "ENTITY {name}")?,
            CommentObject::View(name) => write!(f, "VIEW {name}")?,
            CommentObject::Table(name) => write!(f, "TABLE {name}")?,
            CommentObject::Feature { name, entity } => write!(f, "FEATURE {name} ON {entity}")?,
            CommentObject::Column { relation, column } => {
                write!(f, "COLUMN {relation}.{column}")?;
            }
        }
        match &self.text {
            Some(text) => write!(f, " IS {}", quote(text)),
            None => f.write_str(" IS NULL"),
        }
    }
}
