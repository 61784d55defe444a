//! Identifiers: folding, their limits and the words that must be quoted to be names.

use sqlparser::ast::{Ident, ObjectName};
use sqlparser::tokenizer::{Span, Word};

use crate::error::{Error, Location, NameProblem};

/// The longest name in bytes, as in PostgreSQL. Longer ones are refused, never cut.
pub const MAX_NAME_BYTES: usize = 63;

/// The name an identifier stands for: unquoted ones fold to lower case (ASCII letters only, as
/// PostgreSQL does in UTF-8), quoted ones stay as they are.
pub fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// The parts of a qualified name, folded. A part that is a function call gives its text.
pub fn fold_name(name: &ObjectName) -> Vec<String> {
    let part = |part: &sqlparser::ast::ObjectNamePart| match part.as_ident() {
        Some(ident) => fold(ident),
        None => part.to_string(),
    };
    name.0.iter().map(part).collect()
}

/// An identifier for a folded name: quoted where its text would not read back as that name.
pub fn ident(name: &str) -> Ident {
    match is_plain(name) {
        true => Ident::new(name),
        false => Ident::with_quote('"', name),
    }
}

fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_')
        && chars.all(|ch| ch.is_ascii_lowercase() || ch.is_ascii_digit() || ch == '_')
        && !is_reserved(name)
        && !is_awkward(name)
}

/// Words that sqlparser takes for the start of something else in an expression or a relation.
fn is_awkward(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    sqlparser::keywords::ALL_KEYWORDS.binary_search(&upper.as_str()).is_ok()
}

/// Whether an unquoted word cannot be a name, as in PostgreSQL.
pub(crate) fn is_reserved(word: &str) -> bool {
    let upper = word.to_ascii_uppercase();
    RESERVED.binary_search(&upper.as_str()).is_ok()
}

/// Refuses words that cannot be names; called for every word of a text.
pub(crate) fn check(word: &Word, span: Span) -> Result<(), Error> {
    let problem = if word.value.len() > MAX_NAME_BYTES {
        NameProblem::TooLong { bytes: word.value.len() }
    } else if word.quote_style.is_none() {
        return Ok(());
    } else if word.value.is_empty() {
        NameProblem::Empty
    } else if word.value.contains("\"\"") || word.value.contains("\\\"") {
        NameProblem::Quotes
    } else {
        return Ok(());
    };
    let name = word.value.chars().take(MAX_NAME_BYTES).collect();
    Err(Error::InvalidName { name, problem, location: Location::of(span) })
}

/// PostgreSQL's reserved words, in order.
const RESERVED: &[&str] = &[
    "ALL",
    "ANALYSE",
    "ANALYZE",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "ASYMMETRIC",
    "BOTH",
    "CASE",
    "CAST",
    "CHECK",
    "COLLATE",
    "COLUMN",
    "CONSTRAINT",
    "CREATE",
    "CROSS",
    "CURRENT_CATALOG",
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "DEFAULT",
    "DEFERRABLE",
    "DESC",
    "DISTINCT",
    "DO",
    "ELSE",
    "END",
    "EXCEPT",
    "FALSE",
    "FETCH",
    "FOR",
    "FOREIGN",
    "FROM",
    "FULL",
    "GRANT",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INITIALLY",
    "INNER",
    "INTERSECT",
    "INTO",
    "IS",
    "ISNULL",
    "JOIN",
    "LATERAL",
    "LEADING",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "NATURAL",
    "NOT",
    "NOTNULL",
    "NULL",
    "OFFSET",
    "ON",
    "ONLY",
    "OR",
    "ORDER",
    "OUTER",
    "OVERLAPS",
    "PLACING",
    "PRIMARY",
    "REFERENCES",
    "RETURNING",
    "RIGHT",
    "SELECT",
    "SESSION_USER",
    "SIMILAR",
    "SOME",
    "SYMMETRIC",
    "SYSTEM_USER",
    "TABLE",
    "TABLESAMPLE",
    "THEN",
    "TO",
    "TRAILING",
    "TRUE",
    "UNION",
    "UNIQUE",
    "USER",
    "USING",
    "VARIADIC",
    "VERBOSE",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_words_are_sorted() {
        assert!(RESERVED.is_sorted());
    }

    #[test]
    fn folding_leaves_quoted_names_and_other_letters() {
        assert_eq!(fold(&Ident::new("UsErs")), "users");
        assert_eq!(fold(&Ident::with_quote('"', "UsErs")), "UsErs");
        assert_eq!(fold(&Ident::new("ÄB")), "Äb");
    }
}
