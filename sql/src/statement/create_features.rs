//! `CREATE FEATURE` and `CREATE FEATURES`: columns of an entity, computed from events.
//!
//! The body is parsed as an ordinary query and then held to one plain `SELECT` over at most one
//! source. Windows stay in the expressions as sqlparser reads them.

use std::fmt;

use sqlparser::ast::{DataType, Expr, Ident, WindowSpec};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::Statement;
use crate::display::{canonical, comma_separated};
use crate::error::Error;
use crate::options::Options;
use crate::{parser, token};

mod body;

/// `CREATE [OR REPLACE] FEATURE [IF NOT EXISTS] name[(arguments)] ON entity AS SELECT ...` or
/// `CREATE [OR REPLACE] FEATURES [IF NOT EXISTS] ON entity AS SELECT ...`
#[derive(Debug, Clone, PartialEq)]
pub struct CreateFeatures {
    /// The entity that gets the features.
    pub entity: Ident,
    /// `OR REPLACE`
    pub or_replace: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// Written as `FEATURES`.
    pub plural: bool,
    /// What a reader passes in at request time; only a single feature has arguments.
    pub arguments: Vec<Argument>,
    /// The features, at least one; exactly one unless `plural`.
    pub features: Vec<FeatureDef>,
    /// Where the events come from; `None` for features that derive from other features.
    pub from: Option<From>,
    /// `WITH (...)` at the end.
    pub options: Options,
}

/// A feature and what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureDef {
    /// Its name.
    pub name: Ident,
    /// Its definition.
    pub expr: Expr,
}

/// An argument of a request-time feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub data_type: DataType,
}

/// The clauses `FROM`, `WHERE` and `WINDOW` of a definition.
#[derive(Debug, Clone, PartialEq)]
pub struct From {
    /// The source of the events.
    pub source: Ident,
    /// Its alias in the definition.
    pub alias: Option<Ident>,
    /// `WHERE`: which events count.
    pub selection: Option<Expr>,
    /// `WINDOW name AS (...)`
    pub windows: Vec<(Ident, WindowSpec)>,
}

/// `CREATE [OR REPLACE] FEATURE [IF NOT EXISTS] name ON entity TYPE`: its values are written
/// directly.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateWrittenFeature {
    /// The feature's name.
    pub name: Ident,
    /// The entity that gets it.
    pub entity: Ident,
    /// The type of its values.
    pub data_type: DataType,
    /// `OR REPLACE`
    pub or_replace: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// `WITH (...)`
    pub options: Options,
}

const HINT: &str = "CREATE FEATURE name ON entity AS SELECT expression FROM source [WHERE ...].";

pub(super) fn parse(p: &mut Parser, or_replace: bool) -> Result<Statement, Error> {
    let if_not_exists = token::if_not_exists(p);
    let name = token::ident(p)?;
    let arguments = match p.peek_token_ref().token == Token::LParen {
        true => token::parenthesized(p, argument)?,
        false => Vec::new(),
    };
    token::unique("argument", arguments.iter().map(|argument| &argument.name))?;
    token::expect_word(p, "ON").map_err(|error| error.with_hint(HINT))?;
    let entity = token::relation(p)?;
    if !token::at_words(p, &["AS"]) {
        return parse_written(
            p,
            CreateWrittenFeature {
                name,
                entity,
                // Replaced by what follows.
                data_type: DataType::Unspecified,
                or_replace,
                if_not_exists,
                options: Options::default(),
            },
        );
    }
    let (body, options) = parse_body(p)?;
    let (expr, from) = body.single(&name)?;
    Ok(Statement::CreateFeatures(Box::new(CreateFeatures {
        entity,
        or_replace,
        if_not_exists,
        plural: false,
        arguments,
        features: vec![FeatureDef { name, expr }],
        from,
        options,
    })))
}

pub(super) fn parse_plural(p: &mut Parser, or_replace: bool) -> Result<Statement, Error> {
    let if_not_exists = token::if_not_exists(p);
    token::expect_word(p, "ON").map_err(|error| {
        error.with_hint("CREATE FEATURES ON entity AS SELECT expression AS name, ... FROM source.")
    })?;
    let entity = token::relation(p)?;
    let (body, options) = parse_body(p)?;
    let (features, from) = body.several()?;
    Ok(Statement::CreateFeatures(Box::new(CreateFeatures {
        entity,
        or_replace,
        if_not_exists,
        plural: true,
        arguments: Vec::new(),
        features,
        from,
        options,
    })))
}

fn parse_written(p: &mut Parser, mut feature: CreateWrittenFeature) -> Result<Statement, Error> {
    if matches!(p.peek_token_ref().token, Token::EOF) {
        return Err(token::expected(p, "AS SELECT or a data type").with_hint(HINT));
    }
    feature.data_type = token::data_type(p, &feature.name)?;
    feature.options = Options::parse(p)?;
    Ok(Statement::CreateWrittenFeature(feature))
}

fn argument(p: &mut Parser) -> Result<Argument, Error> {
    let name = token::ident(p)?;
    let data_type = token::data_type(p, &name)?;
    Ok(Argument { name, data_type })
}

/// `AS SELECT ... [WITH (...)]`. sqlparser would take the options for hints on the relation, so the
/// query is parsed from the tokens before them.
fn parse_body(p: &mut Parser) -> Result<(body::Body, Options), Error> {
    token::expect_word(p, "AS").map_err(|error| error.with_hint(HINT))?;
    let start = p.index();
    let (tokens, end) = query_tokens(p, start);
    let query = parser::with_parser(&tokens, super::query::parse_query)?;
    while p.index() < end {
        p.next_token_no_skip();
    }
    let place = tokens.iter().find(|t| !matches!(t.token, Token::Whitespace(_)));
    let body = body::Body::of(*query, place.map(|t| t.span).unwrap_or_else(|| token::here(p)))?;
    Ok((body, Options::parse(p)?))
}

/// The tokens from `start` to the `WITH (` outside of parentheses or to the end, and the index of
/// the first token that is not among them.
fn query_tokens(p: &Parser, start: usize) -> (Vec<TokenWithSpan>, usize) {
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    let mut with = None;
    for index in start.. {
        let found = p.token_at(index);
        match &found.token {
            Token::EOF => return (tokens, index),
            Token::LParen if with.is_some() => break,
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Whitespace(_) => {}
            token if depth == 0 && token::is_word(token, "WITH") => {
                with = Some(tokens.len());
                tokens.push(found.clone());
                continue;
            }
            _ => with = None,
        }
        tokens.push(found.clone());
    }
    let end = with.unwrap_or(tokens.len());
    tokens.truncate(end);
    (tokens, start + end)
}

impl fmt::Display for FeatureDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} AS {}", canonical(&self.expr), self.name)
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.data_type)
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FROM {}", self.source)?;
        if let Some(alias) = &self.alias {
            write!(f, " AS {alias}")?;
        }
        if let Some(selection) = &self.selection {
            write!(f, " WHERE {}", canonical(selection))?;
        }
        if !self.windows.is_empty() {
            let windows =
                self.windows.iter().map(|(name, spec)| format!("{name} AS ({})", canonical(spec)));
            write!(f, " WINDOW {}", comma_separated(windows))?;
        }
        Ok(())
    }
}

impl fmt::Display for CreateFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::create_words(self.or_replace))?;
        f.write_str(if self.plural { " FEATURES " } else { " FEATURE " })?;
        f.write_str(super::if_not_exists(self.if_not_exists))?;
        if self.plural {
            write!(f, "ON {} AS SELECT {}", self.entity, comma_separated(&self.features))?;
        } else {
            for feature in &self.features {
                write!(f, "{}", feature.name)?;
                if !self.arguments.is_empty() {
                    write!(f, "({})", comma_separated(&self.arguments))?;
                }
                write!(f, " ON {} AS SELECT {}", self.entity, canonical(&feature.expr))?;
            }
        }
        if let Some(from) = &self.from {
            write!(f, " {from}")?;
        }
        write!(f, "{}", self.options)
    }
}

impl fmt::Display for CreateWrittenFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::create_words(self.or_replace))?;
        f.write_str(" FEATURE ")?;
        f.write_str(super::if_not_exists(self.if_not_exists))?;
        write!(f, "{} ON {} {}{}", self.name, self.entity, self.data_type, self.options)
    }
}
