//! From text to statements: checks the text, splits it at semicolons, parses each part.

use sqlparser::ast::Expr;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::dialect::AsofDialect;
use crate::error::{Error, Location};
use crate::limit::{self, MAX_TEXT_BYTES, MAX_TOKENS};
use crate::statement::{self, Statement};
use crate::{name, token};

/// A statement with the text it was parsed from.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The statement.
    pub statement: Statement,
    /// Its text, without the semicolon and the white space around it.
    pub text: String,
}

/// Parses the statements of a text, which semicolons separate. Empty ones are left out, so a text
/// of white space and comments gives none.
///
/// Locations in errors, and spans in the trees, count from the start of `sql`.
pub fn parse(sql: &str) -> Result<Vec<Parsed>, Error> {
    let mut texts = Cursor::new(sql);
    let mut parsed = Vec::new();
    let tokens = tokenize(sql)?;
    let mut rest = tokens.as_slice();
    while !rest.is_empty() {
        let end = rest.iter().position(|t| t.token == Token::SemiColon).unwrap_or(rest.len());
        let part = &rest[..end];
        let text_end = rest.get(end).map(|semicolon| semicolon.span.start);
        rest = rest.get(end + 1..).unwrap_or_default();
        let Some(first) = part.iter().find(|t| !matches!(t.token, Token::Whitespace(_))) else {
            continue;
        };
        let from = texts.offset(first.span.start);
        let to = text_end.map_or(sql.len(), |at| texts.offset(at));
        let text = sql.get(from..to).unwrap_or_default().trim_end().to_owned();
        parsed.push(Parsed { statement: parse_part(part)?, text });
    }
    Ok(parsed)
}

/// Parses one expression, such as one that a catalog keeps as text.
pub fn parse_expr(sql: &str) -> Result<Expr, Error> {
    on_enough_stack(&tokenize(sql)?, |p| {
        let expr = p.parse_expr()?;
        limit::check_tree(&expr)?;
        Ok(expr)
    })
}

fn parse_part(tokens: &[TokenWithSpan]) -> Result<Statement, Error> {
    if let Some(insert) = statement::insert_of_literals(tokens, parse_all) {
        return Ok(insert);
    }
    parse_all(tokens)
}

fn parse_all(tokens: &[TokenWithSpan]) -> Result<Statement, Error> {
    on_enough_stack(tokens, statement::parse)
}

/// Checks the tokens and parses them. sqlparser's parser guards only some of its recursion against
/// the end of the stack, so what is nested is parsed, and dropped when it is refused, on a thread
/// with a large stack. Ordinary statements stay on this one.
fn on_enough_stack<T: Send>(
    tokens: &[TokenWithSpan],
    parse: impl FnOnce(&mut Parser) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    if !limit::check_tokens(tokens)?.is_deep() {
        return with_parser(tokens, parse);
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("sql-parser".to_owned())
            .stack_size(limit::PARSER_STACK_BYTES)
            .spawn_scoped(scope, || with_parser(tokens, parse));
        let result = thread.ok().and_then(|thread| thread.join().ok());
        // No thread could be had, or sqlparser panicked.
        result.unwrap_or(Err(Error::TOO_DEEP))
    })
}

/// Runs a parsing function over all of these tokens.
pub(crate) fn with_parser<T>(
    tokens: &[TokenWithSpan],
    parse: impl FnOnce(&mut Parser) -> Result<T, Error>,
) -> Result<T, Error> {
    let dialect = AsofDialect::with_steps(limit::parser_steps(tokens.len()));
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(limit::PARSER_DEPTH)
        .with_tokens_with_locations(tokens.to_vec());
    let result = parse(&mut parser).and_then(|value| token::end(&parser).map(|()| value));
    result.map_err(|error| error.or_at(token::end_of(tokens)))
}

fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>, Error> {
    if sql.len() > MAX_TEXT_BYTES {
        return Err(Error::TooLarge { bytes: sql.len(), limit: MAX_TEXT_BYTES });
    }
    if let Some(at) = sql.find('\0') {
        let lines = sql[..at].split('\n');
        let (line, last) = lines.fold((0, ""), |(line, _), text| (line + 1, text));
        let location = Location { line, column: last.chars().count() as u64 + 1 };
        return Err(nul(Some(location)));
    }
    let tokens = Tokenizer::new(&AsofDialect::default(), sql)
        .tokenize_with_location()
        .map_err(|error| Error::from(ParserError::from(error)))?;
    let mut count = 0;
    for found in &tokens {
        match &found.token {
            Token::Whitespace(_) => continue,
            Token::Word(word) => name::check(word, found.span)?,
            Token::EscapedStringLiteral(text) | Token::UnicodeStringLiteral(text)
                if text.contains('\0') =>
            {
                return Err(nul(Location::of(found.span)));
            }
            _ => {}
        }
        count += 1;
    }
    match count > MAX_TOKENS {
        true => Err(Error::TooComplex { what: "tokens", limit: MAX_TOKENS }),
        false => Ok(tokens),
    }
}

fn nul(location: Option<Location>) -> Error {
    Error::InvalidText { message: "a text cannot hold the character NUL".to_owned(), location }
}

/// Turns locations that come in order into byte offsets, in one pass over the text.
struct Cursor<'s> {
    chars: std::str::CharIndices<'s>,
    at: Location,
}

impl<'s> Cursor<'s> {
    fn new(sql: &'s str) -> Cursor<'s> {
        Cursor { chars: sql.char_indices(), at: Location { line: 1, column: 1 } }
    }

    fn offset(&mut self, to: sqlparser::tokenizer::Location) -> usize {
        while (self.at.line, self.at.column) < (to.line, to.column) {
            match self.chars.next() {
                Some((_, '\n')) => self.at = Location { line: self.at.line + 1, column: 1 },
                Some(_) => self.at.column += 1,
                None => break,
            }
        }
        self.chars.offset()
    }
}
