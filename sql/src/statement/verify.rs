//! `VERIFY FEATURES`: recompute an entity's features from history and report differences.

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::Statement;
use crate::error::Error;
use crate::token;

/// `VERIFY FEATURES ON entity [SAMPLE keys]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyFeatures {
    /// The entity.
    pub entity: Ident,
    /// How many keys to recompute; `None` for all.
    pub sample: Option<u64>,
}

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_words(p, &["VERIFY", "FEATURES", "ON"])?;
    let entity = token::relation(p)?;
    let sample = match token::eat(p, "SAMPLE") {
        true => Some(keys(p)?),
        false => None,
    };
    Ok(Statement::Verify(VerifyFeatures { entity, sample }))
}

fn keys(p: &mut Parser) -> Result<u64, Error> {
    let found = p.next_token();
    let count = match &found.token {
        Token::Number(text, _) => text.parse().ok(),
        _ => None,
    };
    count.ok_or_else(|| token::unexpected("a number of keys", &found))
}

impl fmt::Display for VerifyFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VERIFY FEATURES ON {}", self.entity)?;
        match self.sample {
            Some(keys) => write!(f, " SAMPLE {keys}"),
            None => Ok(()),
        }
    }
}
