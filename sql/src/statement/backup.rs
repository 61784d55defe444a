//! `BACKUP`: a copy of the database that another server can be started on.

use std::fmt;

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::Statement;
use crate::display::quote;
use crate::error::Error;
use crate::token;

/// `BACKUP TO 'folder'`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The folder to make, on the server.
    pub folder: String,
}

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_words(p, &["BACKUP", "TO"])?;
    let found = p.next_token();
    match &found.token {
        Token::SingleQuotedString(folder) => {
            Ok(Statement::Backup(Backup { folder: folder.clone() }))
        }
        _ => Err(token::unexpected("the name of a folder in single quotes", &found)),
    }
}

impl fmt::Display for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BACKUP TO {}", quote(&self.folder))
    }
}
