//! `VACUUM`: merge the files of the history now, without what has expired.

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::Statement;
use crate::error::Error;
use crate::token;

/// `VACUUM [source]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuum {
    /// The source; `None` for all.
    pub source: Option<Ident>,
}

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_word(p, "VACUUM")?;
    let source = match p.peek_token_ref().token {
        Token::EOF | Token::SemiColon => None,
        _ => Some(token::relation(p)?),
    };
    Ok(Statement::Vacuum(Vacuum { source }))
}

impl fmt::Display for Vacuum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "VACUUM {source}"),
            None => f.write_str("VACUUM"),
        }
    }
}
