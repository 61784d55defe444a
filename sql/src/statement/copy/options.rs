//! The options of `COPY`: in parentheses, and in the older form without them.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Copy, CopyFormat};
use crate::error::{Error, Location};
use crate::options::OptionValue;
use crate::token;

const KNOWN: &[&str] = &[
    "format",
    "header",
    "delimiter",
    "null",
    "quote",
    "escape",
    "freeze",
    "encoding",
    "on_error",
    "force_null",
    "force_not_null",
    "force_quote",
];

/// `[WITH] (name [value], ...)`, or `[WITH] name [AS] value ...`.
pub(super) fn parse(p: &mut Parser, copy: &mut Copy) -> Result<(), Error> {
    token::eat(p, "WITH");
    let mut seen = Vec::new();
    if p.peek_token_ref().token == Token::LParen {
        token::parenthesized(p, |p| option(p, copy, &mut seen))?;
        return Ok(());
    }
    while p.peek_token_ref().token != Token::EOF {
        legacy(p, copy, &mut seen)?;
    }
    Ok(())
}

fn option(p: &mut Parser, copy: &mut Copy, seen: &mut Vec<String>) -> Result<(), Error> {
    let ident = token::label(p)?;
    let name = ident.value.to_ascii_lowercase();
    let location = Location::of(ident.span);
    if !KNOWN.contains(&name.as_str()) {
        return Err(Error::UnknownOption {
            nearest: token::nearest(&name, KNOWN),
            known: KNOWN.iter().map(|&option| option.to_owned()).collect(),
            location,
            name,
        });
    }
    once(&name, location, seen)?;
    match name.as_str() {
        "format" => copy.format = Some(format(p)?),
        "header" => copy.header = Some(switch(p)?),
        "freeze" => drop(switch(p)?),
        "encoding" => encoding(p)?,
        "delimiter" => copy.delimiter = Some(character(p)?),
        "null" => copy.null = Some(token::string(p)?),
        "quote" => copy.quote = Some(character(p)?),
        "escape" => copy.escape = Some(character(p)?),
        "on_error" if token::eat(p, "STOP") => {}
        _ => {
            return Err(Error::unsupported(
                format!("COPY option {}", name.to_uppercase()),
                ident.span,
                "",
            ));
        }
    }
    Ok(())
}

fn once(name: &str, location: Option<Location>, seen: &mut Vec<String>) -> Result<(), Error> {
    if seen.iter().any(|other| other == name) {
        return Err(Error::DuplicateOption { name: name.to_owned(), location });
    }
    seen.push(name.to_owned());
    Ok(())
}

fn legacy(p: &mut Parser, copy: &mut Copy, seen: &mut Vec<String>) -> Result<(), Error> {
    const WORDS: &[&str] =
        &["BINARY", "CSV", "HEADER", "DELIMITER", "NULL", "QUOTE", "ESCAPE", "FREEZE"];
    let location = Location::of(token::here(p));
    let word = token::expect_one_of(p, WORDS)?;
    let name = if matches!(word, "BINARY" | "CSV") { "format" } else { word };
    once(&name.to_ascii_lowercase(), location, seen)?;
    let has_value = !matches!(word, "BINARY" | "CSV" | "HEADER" | "FREEZE");
    if has_value {
        token::eat(p, "AS");
    }
    match word {
        "BINARY" => copy.format = Some(CopyFormat::Binary),
        "CSV" => copy.format = Some(CopyFormat::Csv),
        "HEADER" => copy.header = Some(true),
        "DELIMITER" => copy.delimiter = Some(character(p)?),
        "NULL" => copy.null = Some(token::string(p)?),
        "QUOTE" => copy.quote = Some(character(p)?),
        "ESCAPE" => copy.escape = Some(character(p)?),
        _ => {}
    }
    Ok(())
}

fn format(p: &mut Parser) -> Result<CopyFormat, Error> {
    let found = p.next_token();
    let name = match &found.token {
        Token::Word(word) => word.value.to_ascii_lowercase(),
        Token::SingleQuotedString(text) => text.to_ascii_lowercase(),
        _ => return Err(token::unexpected("a format", &found)),
    };
    let known = CopyFormat::ALL.into_iter().find(|format| format.name() == name);
    known.ok_or_else(|| {
        token::unexpected("a format", &found)
            .with_hint("Formats are text, csv, binary and, for files, parquet.")
    })
}

fn switch(p: &mut Parser) -> Result<bool, Error> {
    let text = match &p.peek_token_ref().token {
        Token::Word(word) => word.value.clone(),
        Token::Number(text, _) | Token::SingleQuotedString(text) => text.clone(),
        _ => return Ok(true),
    };
    let value = OptionValue::String(text).boolean();
    let found = p.next_token();
    value.ok_or_else(|| token::unexpected("true or false", &found))
}

fn encoding(p: &mut Parser) -> Result<(), Error> {
    let found = p.peek_token();
    let name = token::string(p)?.to_ascii_uppercase().replace(['-', '_'], "");
    match matches!(name.as_str(), "UTF8" | "UNICODE") {
        true => Ok(()),
        false => Err(Error::unsupported("an ENCODING other than UTF8", found.span, "")),
    }
}

/// A string of one byte, as PostgreSQL asks for.
fn character(p: &mut Parser) -> Result<char, Error> {
    let found = p.peek_token();
    let text = token::string(p)?;
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(ch), None) if ch.is_ascii() => Ok(ch),
        _ => Err(token::unexpected("a string of one ASCII character", &found)),
    }
}
