//! `SHOW`: what the catalog holds, or the value of a setting.

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{SessionStatement, Statement, describe, set};
use crate::error::Error;
use crate::token;

/// `SHOW SOURCES | ENTITIES | FEATURES [ON entity] | VIEWS | JOBS | TABLES`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Show {
    /// What is listed.
    pub kind: ShowKind,
    /// The entity of `SHOW FEATURES ON entity`; `None` for all.
    pub entity: Option<Ident>,
}

/// What `SHOW` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowKind {
    /// `SOURCES`
    Sources,
    /// `ENTITIES`
    Entities,
    /// `FEATURES`
    Features,
    /// `VIEWS`
    Views,
    /// `JOBS`
    Jobs,
    /// `TABLES`: sources, entities and views
    Tables,
}

/// A kind of object that has a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// `SOURCE`
    Source,
    /// `ENTITY`
    Entity,
    /// `FEATURE`
    Feature,
    /// `VIEW`
    View,
}

impl ObjectKind {
    const ALL: [ObjectKind; 4] =
        [ObjectKind::Source, ObjectKind::Entity, ObjectKind::Feature, ObjectKind::View];

    /// The keyword.
    pub fn word(self) -> &'static str {
        match self {
            ObjectKind::Source => "SOURCE",
            ObjectKind::Entity => "ENTITY",
            ObjectKind::Feature => "FEATURE",
            ObjectKind::View => "VIEW",
        }
    }

    /// Takes the keyword if a name follows it: without one it is a name itself.
    pub(super) fn parse(p: &mut Parser) -> Option<ObjectKind> {
        let named = matches!(&p.peek_nth_token_ref(1).token, Token::Word(_));
        let on = token::is_word(&p.peek_nth_token_ref(1).token, "ON");
        let kinds = ObjectKind::ALL.into_iter();
        kinds.filter(|_| named && !on).find(|kind| token::eat(p, kind.word()))
    }
}

const KINDS: &[(&str, ShowKind)] = &[
    ("SOURCES", ShowKind::Sources),
    ("ENTITIES", ShowKind::Entities),
    ("FEATURES", ShowKind::Features),
    ("VIEWS", ShowKind::Views),
    ("JOBS", ShowKind::Jobs),
    ("TABLES", ShowKind::Tables),
];

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_word(p, "SHOW")?;
    if token::eat(p, "CREATE") {
        return describe::parse_show_create(p);
    }
    if let Some((_, kind)) = KINDS.iter().find(|(word, _)| token::eat(p, word)) {
        let kind = *kind;
        let of_entity =
            kind == ShowKind::Features && token::eat_one_of(p, &["ON", "FROM"]).is_some();
        let entity = if of_entity { Some(token::relation(p)?) } else { None };
        return Ok(Statement::Show(Show { kind, entity }));
    }
    let name = set::setting_name(p)?;
    Ok(Statement::Session(SessionStatement::Show { name }))
}

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(word, _)| word);
        write!(f, "SHOW {word}")?;
        match &self.entity {
            Some(entity) => write!(f, " ON {entity}"),
            None => Ok(()),
        }
    }
}
