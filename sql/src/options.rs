//! `WITH (name = value, ...)`: ordered, each name once, checked by whoever knows the names.

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::display::{comma_separated, quote};
use crate::error::{Error, Location};
use crate::name::fold;
use crate::token;

/// The options of a statement, in the order they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(pub Vec<(Ident, OptionValue)>);

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// `'text'`, or a bare word (folded).
    String(String),
    /// A number as written, with its sign.
    Number(String),
    /// `true`, `false`, or an option without a value (true).
    Boolean(bool),
}

impl OptionValue {
    /// The value as text, whatever its form.
    pub fn text(&self) -> &str {
        match self {
            OptionValue::String(text) | OptionValue::Number(text) => text,
            OptionValue::Boolean(true) => "true",
            OptionValue::Boolean(false) => "false",
        }
    }

    /// The value as a truth value: `true`, `on`, `yes`, `1` and their opposites.
    pub fn boolean(&self) -> Option<bool> {
        match self.text().to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Some(true),
            "false" | "off" | "no" | "0" => Some(false),
            _ => None,
        }
    }
}

impl Options {
    /// The value of an option by its folded name.
    pub fn get(&self, name: &str) -> Option<&OptionValue> {
        self.0.iter().find(|(ident, _)| fold(ident) == name).map(|(_, value)| value)
    }

    /// Whether no option is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where an option's name stands in the text.
    pub fn location(&self, name: &str) -> Option<Location> {
        let (ident, _) = self.0.iter().find(|(ident, _)| fold(ident) == name)?;
        Location::of(ident.span)
    }

    /// Refuses the first option that is not among `known` and names the nearest one that is.
    pub fn check(&self, known: &[&str]) -> Result<(), Error> {
        for (ident, _) in &self.0 {
            let name = fold(ident);
            if !known.contains(&name.as_str()) {
                return Err(Error::UnknownOption {
                    nearest: token::nearest(&name, known),
                    known: known.iter().map(|&option| option.to_owned()).collect(),
                    location: Location::of(ident.span),
                    name,
                });
            }
        }
        Ok(())
    }

    /// Parses `[WITH (...)]`.
    pub(crate) fn parse(p: &mut Parser) -> Result<Options, Error> {
        match token::at_words(p, &["WITH"]) && p.peek_nth_token_ref(1).token == Token::LParen {
            true => {
                token::expect_word(p, "WITH")?;
                Options::parse_list(p)
            }
            false => Ok(Options::default()),
        }
    }

    fn parse_list(p: &mut Parser) -> Result<Options, Error> {
        let pairs = token::parenthesized(p, |p| {
            let name = token::label(p)?;
            let value = match p.consume_token(&Token::Eq) {
                true => option_value(p)?,
                false => OptionValue::Boolean(true),
            };
            Ok((name, value))
        })?;
        let mut seen = std::collections::HashSet::new();
        for (ident, _) in &pairs {
            let name = fold(ident);
            if !seen.insert(name.clone()) {
                return Err(Error::DuplicateOption { name, location: Location::of(ident.span) });
            }
        }
        Ok(Options(pairs))
    }
}

fn option_value(p: &mut Parser) -> Result<OptionValue, Error> {
    let sign = match p.consume_token(&Token::Minus) {
        true => "-",
        false => "",
    };
    let found = p.next_token();
    Ok(match found.token {
        Token::Number(number, _) => OptionValue::Number(format!("{sign}{number}")),
        _ if !sign.is_empty() => return Err(token::unexpected("a number", &found)),
        Token::SingleQuotedString(text) => OptionValue::String(text),
        Token::Word(word) if word.quote_style.is_none() => {
            match word.value.to_ascii_lowercase().as_str() {
                "true" => OptionValue::Boolean(true),
                "false" => OptionValue::Boolean(false),
                other => OptionValue::String(other.to_owned()),
            }
        }
        _ => {
            return Err(token::unexpected("an option's value", &found)
                .with_hint("Options are written WITH (name = 'value', ...)."));
        }
    })
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionValue::String(text) => f.write_str(&quote(text)),
            OptionValue::Number(_) | OptionValue::Boolean(_) => f.write_str(self.text()),
        }
    }
}

impl fmt::Display for Options {
    /// Starts with a space, so that it can follow any clause; nothing when there are no options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        let pairs = self.0.iter().map(|(name, value)| format!("{name} = {value}"));
        write!(f, " WITH ({})", comma_separated(pairs))
    }
}
