//! `SET`: a setting of the session, in PostgreSQL's many forms.
//!
//! The special forms (`TIME ZONE`, `NAMES`, `ROLE`, `SCHEMA`, `SESSION AUTHORIZATION`) become the
//! setting they stand for.

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{SessionStatement, Statement, session};
use crate::display::{comma_separated, quote};
use crate::error::Error;
use crate::name::fold;
use crate::token;

/// `SET [SESSION | LOCAL] name TO | = value, ...`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetVariable {
    /// For how long the value holds.
    pub scope: SetScope,
    /// The setting, folded to lower case; parts of a qualified name are joined by dots.
    pub name: String,
    /// The values; empty for `DEFAULT`.
    pub values: Vec<SettingValue>,
}

/// For how long a setting holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SetScope {
    /// To the end of the session.
    #[default]
    Session,
    /// To the end of the transaction.
    Local,
}

/// A value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// A word such as `on` or `ISO`; folded to lower case unless quoted.
    Word(String),
    /// `'text'`
    String(String),
    /// A number with its sign.
    Number(String),
}

impl SettingValue {
    /// The value as text.
    pub fn text(&self) -> &str {
        match self {
            SettingValue::Word(text) | SettingValue::String(text) | SettingValue::Number(text) => {
                text
            }
        }
    }
}

impl SetVariable {
    /// The values as one text, as `SHOW` would give it; `None` for `DEFAULT`.
    pub fn text(&self) -> Option<String> {
        let texts: Vec<&str> = self.values.iter().map(SettingValue::text).collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }
}

pub(super) fn parse(p: &mut Parser) -> Result<Statement, Error> {
    token::expect_word(p, "SET")?;
    if token::eat_words(p, &["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
        return transaction(p, true);
    }
    if token::eat(p, "TRANSACTION") {
        return transaction(p, false);
    }
    // SESSION AUTHORIZATION is a setting, not a scope.
    let authorization = token::at_words(p, &["SESSION", "AUTHORIZATION"]);
    let scope = match authorization {
        true => None,
        false => token::eat_one_of(p, &["SESSION", "LOCAL"]),
    };
    let scope = if scope == Some("LOCAL") { SetScope::Local } else { SetScope::Session };
    let (name, values) = match special(p)? {
        Some(found) => found,
        None => {
            let name = setting_name(p)?;
            if !p.consume_token(&Token::Eq) && !token::eat(p, "TO") {
                return Err(token::expected(p, "TO or ="));
            }
            (name, values(p)?)
        }
    };
    let set = SetVariable { scope, name, values };
    Ok(Statement::Session(SessionStatement::Set(set)))
}

fn transaction(p: &mut Parser, session: bool) -> Result<Statement, Error> {
    let modes = session::modes(p)?;
    match modes == Default::default() {
        true => Err(token::expected(p, "a transaction mode")),
        false => Ok(Statement::Session(SessionStatement::SetTransaction { session, modes })),
    }
}

/// Forms without `TO`, with the settings they stand for.
const SPECIAL: &[(&[&str], &str)] = &[
    (&["TIME", "ZONE"], "timezone"),
    (&["NAMES"], "client_encoding"),
    (&["ROLE"], "role"),
    (&["SCHEMA"], "search_path"),
    (&["SESSION", "AUTHORIZATION"], "session_authorization"),
];

fn special(p: &mut Parser) -> Result<Option<(String, Vec<SettingValue>)>, Error> {
    for (words, name) in SPECIAL {
        let next = &p.peek_nth_token_ref(words.len()).token;
        let assigned = *next == Token::Eq || token::is_word(next, "TO");
        if assigned || !token::eat_words(p, words) {
            continue;
        }
        // SET TIME ZONE LOCAL and SET NAMES mean the default.
        let default = matches!(p.peek_token_ref().token, Token::EOF)
            || (*name == "timezone" && token::eat(p, "LOCAL"));
        let values = if default { Vec::new() } else { values(p)? };
        return Ok(Some(((*name).to_owned(), values)));
    }
    Ok(None)
}

fn values(p: &mut Parser) -> Result<Vec<SettingValue>, Error> {
    match token::eat(p, "DEFAULT") {
        true => Ok(Vec::new()),
        false => token::list(p, value),
    }
}

fn value(p: &mut Parser) -> Result<SettingValue, Error> {
    let minus = p.consume_token(&Token::Minus);
    let plus = !minus && p.consume_token(&Token::Plus);
    let sign = if minus { "-" } else { "" };
    let found = p.next_token();
    match found.token {
        Token::Number(number, _) => Ok(SettingValue::Number(format!("{sign}{number}"))),
        _ if minus || plus => Err(token::unexpected("a number", &found)),
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
            Ok(SettingValue::String(text))
        }
        Token::Word(word) => Ok(SettingValue::Word(fold(&word.into_ident(found.span)))),
        _ => Err(token::unexpected("a value", &found)),
    }
}

/// `name` or `prefix.name`, folded; any words, since settings are looked up by text.
pub(super) fn setting_name(p: &mut Parser) -> Result<String, Error> {
    if token::eat_words(p, &["TIME", "ZONE"]) {
        return Ok("timezone".to_owned());
    }
    if token::eat_words(p, &["TRANSACTION", "ISOLATION", "LEVEL"]) {
        return Ok("transaction_isolation".to_owned());
    }
    if token::eat_words(p, &["SESSION", "AUTHORIZATION"]) {
        return Ok("session_authorization".to_owned());
    }
    let mut text = token::label(p)?.value.to_ascii_lowercase();
    while p.consume_token(&Token::Period) {
        let part = token::label(p)?.value.to_ascii_lowercase();
        text = format!("{text}.{part}");
    }
    Ok(text)
}

/// Words that mean something else where a setting's name or value is expected.
const TAKEN: &[&str] = &[
    "all",
    "authorization",
    "characteristics",
    "create",
    "default",
    "entities",
    "features",
    "jobs",
    "local",
    "names",
    "schema",
    "session",
    "sources",
    "tables",
    "time",
    "transaction",
    "views",
];

/// A setting's name as SQL.
pub(super) fn display_name(name: &str) -> String {
    // SHOW ALL is SHOW with the name all.
    if name == "all" {
        return "ALL".to_owned();
    }
    let parts: Vec<String> = name.split('.').map(display_word).collect();
    parts.join(".")
}

/// A word of a setting, quoted where it must be; other keywords are as good as names here.
fn display_word(word: &str) -> String {
    let mut chars = word.chars();
    let plain = chars.next().is_some_and(|ch| ch.is_ascii_lowercase() || ch == '_')
        && chars.all(|ch| ch.is_ascii_lowercase() || ch.is_ascii_digit() || ch == '_')
        && !TAKEN.contains(&word);
    match plain {
        true => word.to_owned(),
        false => Ident::with_quote('"', word).to_string(),
    }
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingValue::Word(word) => f.write_str(&display_word(word)),
            SettingValue::String(text) => f.write_str(&quote(text)),
            SettingValue::Number(number) => f.write_str(number),
        }
    }
}

impl fmt::Display for SetVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = if self.scope == SetScope::Local { "LOCAL " } else { "" };
        write!(f, "SET {local}{} TO ", display_name(&self.name))?;
        match self.values.is_empty() {
            true => f.write_str("DEFAULT"),
            false => f.write_str(&comma_separated(&self.values)),
        }
    }
}
