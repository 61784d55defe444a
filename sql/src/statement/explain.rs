//! `EXPLAIN`: the plan of a statement.

use std::fmt;

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::Statement;
use crate::error::Error;
use crate::options::OptionValue;
use crate::token;

/// `EXPLAIN [ANALYZE] [VERBOSE] statement`, `EXPLAIN (option [value], ...) statement`
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    /// Run the statement and report what it did.
    pub analyze: bool,
    /// More detail.
    pub verbose: bool,
    /// A query, an `INSERT` or a definition; never another `EXPLAIN`.
    pub statement: Box<Statement>,
}

/// Options of PostgreSQL that are taken and change nothing here.
const IGNORED: &[&str] = &[
    "COSTS",
    "SETTINGS",
    "GENERIC_PLAN",
    "BUFFERS",
    "SERIALIZE",
    "WAL",
    "TIMING",
    "SUMMARY",
    "MEMORY",
];

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_word(p, "EXPLAIN")?;
    let (analyze, verbose) = match has_options(p) {
        true => options(p)?,
        false => {
            (token::eat_one_of(p, &["ANALYZE", "ANALYSE"]).is_some(), token::eat(p, "VERBOSE"))
        }
    };
    let span = token::here(p);
    // Refused before it is parsed: a chain of them would be a chain of calls.
    if token::at_words(p, &["EXPLAIN"]) {
        return Err(Error::syntax("EXPLAIN cannot explain itself", span));
    }
    let statement = super::parse(p)?;
    match statement {
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::CreateFeatures(_)
        | Statement::CreateView(_)
        | Statement::Session(super::SessionStatement::Execute { .. }) => {
            Ok(Statement::Explain(Explain { analyze, verbose, statement: Box::new(statement) }))
        }
        _ => Err(Error::syntax("EXPLAIN expects a query or an INSERT", span)),
    }
}

/// A parenthesis may also start a query.
fn has_options(p: &Parser) -> bool {
    p.peek_token_ref().token == Token::LParen
        && !["SELECT", "WITH", "VALUES", "TABLE"]
            .iter()
            .any(|word| token::is_word(&p.peek_nth_token_ref(1).token, word))
        && p.peek_nth_token_ref(1).token != Token::LParen
}

fn options(p: &mut Parser) -> Result<(bool, bool), Error> {
    let (mut analyze, mut verbose) = (false, false);
    token::parenthesized(p, |p| {
        let name = token::label(p)?;
        let word = name.value.to_ascii_uppercase();
        let value = match &p.peek_token_ref().token {
            Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) => {
                p.next_token().token.to_string()
            }
            _ => "true".to_owned(),
        };
        let switch = OptionValue::String(value.clone()).boolean();
        let wrong = || Error::syntax(format!("EXPLAIN option {word} cannot be {value}"), name.span);
        match word.as_str() {
            "ANALYZE" | "ANALYSE" => analyze = switch.ok_or_else(wrong)?,
            "VERBOSE" => verbose = switch.ok_or_else(wrong)?,
            "FORMAT" if value.eq_ignore_ascii_case("text") => {}
            "FORMAT" => return Err(wrong().with_hint("Plans are shown as text.")),
            other if IGNORED.contains(&other) => {}
            _ => {
                let error = Error::syntax(format!("unknown EXPLAIN option {word}"), name.span);
                return Err(error.with_hint("Known options: ANALYZE, VERBOSE, FORMAT."));
            }
        }
        Ok(())
    })?;
    Ok((analyze, verbose))
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EXPLAIN ")?;
        f.write_str(if self.analyze { "ANALYZE " } else { "" })?;
        f.write_str(if self.verbose { "VERBOSE " } else { "" })?;
        self.statement.fmt(f)
    }
}
