//! Reading our own grammar from sqlparser's parser: words, names, lists.
//!
//! Words of our statements (SOURCE, ENTITY, FEATURE) are not keywords of sqlparser, so they are
//! compared as text; a quoted word is never a keyword.

use sqlparser::ast::{DataType, Ident};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use crate::error::{Error, Location};
use crate::name;

/// Whether a token is this unquoted word.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Whether the next tokens are these words.
pub(crate) fn at_words(p: &Parser, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(n, word)| is_word(&p.peek_nth_token_ref(n).token, word))
}

/// Takes these words if all of them come next.
pub(crate) fn eat_words(p: &mut Parser, words: &[&str]) -> bool {
    let found = at_words(p, words);
    if found {
        words.iter().for_each(|_| drop(p.next_token()));
    }
    found
}

/// Takes this word if it comes next.
pub(crate) fn eat(p: &mut Parser, word: &str) -> bool {
    eat_words(p, &[word])
}

/// Takes one of these words if it comes next, and says which (as spelled in `words`).
pub(crate) fn eat_one_of<'w>(p: &mut Parser, words: &[&'w str]) -> Option<&'w str> {
    words.iter().copied().find(|word| eat(p, word))
}

pub(crate) fn expect_word(p: &mut Parser, word: &str) -> Result<(), Error> {
    match eat(p, word) {
        true => Ok(()),
        false => Err(expected(p, word)),
    }
}

pub(crate) fn expect_words(p: &mut Parser, words: &[&str]) -> Result<(), Error> {
    words.iter().try_for_each(|word| expect_word(p, word))
}

/// One of `words`; otherwise an error that lists them and hints at the nearest.
pub(crate) fn expect_one_of<'w>(p: &mut Parser, words: &[&'w str]) -> Result<&'w str, Error> {
    if let Some(word) = eat_one_of(p, words) {
        return Ok(word);
    }
    let error = expected(p, &words.join(", "));
    let found = p.peek_token_ref();
    Err(match &found.token {
        Token::Word(word) => match nearest(&word.value.to_ascii_uppercase(), words) {
            Some(near) => error.with_hint(format!("Did you mean {near}?")),
            None => error,
        },
        _ => error,
    })
}

/// The error that the next token is not what was expected.
pub(crate) fn expected(p: &Parser, what: &str) -> Error {
    unexpected(what, p.peek_token_ref())
}

/// The error that `found` is not what was expected.
pub(crate) fn unexpected(what: &str, found: &TokenWithSpan) -> Error {
    let text = match &found.token {
        Token::EOF => "end of statement".to_owned(),
        token => shorten(&token.to_string()),
    };
    Error::syntax(format!("expected {what}, found {text}"), found.span)
}

fn shorten(text: &str) -> String {
    const LONGEST_CHARS: usize = 64;
    match text.char_indices().nth(LONGEST_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A name: a quoted word or an unquoted one that is not reserved.
pub(crate) fn ident(p: &mut Parser) -> Result<Ident, Error> {
    let found = p.next_token();
    match found.token {
        Token::Word(word) if word.quote_style.is_none() && name::is_reserved(&word.value) => {
            let hint = format!("Quote it to use it as a name: \"{}\".", word.value.to_lowercase());
            let message = format!("expected a name, found the reserved word {}", word.value);
            Err(Error::syntax(message, found.span).with_hint(hint))
        }
        Token::Word(word) => Ok(word.into_ident(found.span)),
        _ => Err(unexpected("a name", &found)),
    }
}

/// A name that may be any word, such as an option's.
pub(crate) fn label(p: &mut Parser) -> Result<Ident, Error> {
    let found = p.next_token();
    match found.token {
        Token::Word(word) => Ok(word.into_ident(found.span)),
        _ => Err(unexpected("a name", &found)),
    }
}

/// The name of a relation: `[public.]name`. There is one schema, so it is left out.
pub(crate) fn relation(p: &mut Parser) -> Result<Ident, Error> {
    let first = ident(p)?;
    if p.peek_token_ref().token != Token::Period {
        return Ok(first);
    }
    let period = p.next_token();
    match name::fold(&first) == "public" {
        true => ident(p),
        false => Err(Error::syntax(format!("there is no schema {first}"), period.span)
            .with_hint("All relations are in the schema public; leave the schema out.")),
    }
}

/// A string literal, plain or with escapes.
pub(crate) fn string(p: &mut Parser) -> Result<String, Error> {
    let found = p.next_token();
    match found.token {
        Token::SingleQuotedString(text)
        | Token::EscapedStringLiteral(text)
        | Token::UnicodeStringLiteral(text) => Ok(text),
        Token::DollarQuotedString(quoted) => Ok(quoted.value),
        _ => Err(unexpected("a string", &found)),
    }
}

/// One or more items with commas between them.
pub(crate) fn list<T>(
    p: &mut Parser,
    mut item: impl FnMut(&mut Parser) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut items = vec![item(p)?];
    while p.consume_token(&Token::Comma) {
        items.push(item(p)?);
    }
    Ok(items)
}

/// `(item, ...)`, not empty.
pub(crate) fn parenthesized<T>(
    p: &mut Parser,
    item: impl FnMut(&mut Parser) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    expect(p, &Token::LParen)?;
    let items = list(p, item)?;
    match p.consume_token(&Token::RParen) {
        true => Ok(items),
        false => Err(expected(p, "a comma or )")),
    }
}

/// `[(name, ...)]`.
pub(crate) fn optional_columns(p: &mut Parser) -> Result<Vec<Ident>, Error> {
    match p.peek_token_ref().token == Token::LParen {
        true => parenthesized(p, ident),
        false => Ok(Vec::new()),
    }
}

pub(crate) fn expect(p: &mut Parser, token: &Token) -> Result<(), Error> {
    match p.consume_token(token) {
        true => Ok(()),
        false => Err(expected(p, &token.to_string())),
    }
}

/// A data type; a word that starts another clause is the lack of one.
pub(crate) fn data_type(p: &mut Parser, of: &Ident) -> Result<DataType, Error> {
    match &p.peek_token_ref().token {
        Token::Comma | Token::RParen | Token::EOF => {
            Err(expected(p, &format!("the data type of {of}")))
        }
        _ => Ok(p.parse_data_type()?),
    }
}

pub(crate) fn if_not_exists(p: &mut Parser) -> bool {
    p.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS])
}

pub(crate) fn if_exists(p: &mut Parser) -> bool {
    p.parse_keywords(&[Keyword::IF, Keyword::EXISTS])
}

/// Refuses whatever follows a whole statement.
pub(crate) fn end(p: &Parser) -> Result<(), Error> {
    match p.peek_token_ref().token == Token::EOF {
        true => Ok(()),
        false => Err(expected(p, "end of statement")),
    }
}

/// Refuses a name that stands twice in a list.
pub(crate) fn unique<'i>(
    what: &str,
    names: impl IntoIterator<Item = &'i Ident>,
) -> Result<(), Error> {
    let mut seen = std::collections::HashSet::new();
    for ident in names {
        if !seen.insert(name::fold(ident)) {
            return Err(Error::syntax(format!("{what} {ident} is given twice"), ident.span));
        }
    }
    Ok(())
}

/// The span of the next token.
pub(crate) fn here(p: &Parser) -> Span {
    p.peek_token_ref().span
}

/// The nearest of `known` to `word`, if it is a likely slip of the keyboard.
pub(crate) fn nearest(word: &str, known: &[&str]) -> Option<String> {
    const LONGEST_BYTES: usize = 64;
    if word.len() > LONGEST_BYTES {
        return None;
    }
    let far = word.chars().count().div_ceil(3);
    let distance = |known: &&&str| strsim::damerau_levenshtein(word, known);
    let best = known.iter().min_by_key(distance)?;
    (distance(&best) <= far).then(|| (*best).to_owned())
}

/// The place behind a list of tokens: where an unexpected end is reported.
pub(crate) fn end_of(tokens: &[TokenWithSpan]) -> Option<Location> {
    let last = tokens.iter().rev().find(|t| !matches!(t.token, Token::Whitespace(_)))?;
    Location::from_token(last.span.end)
}
