//! Writing SQL that reads back as the same tree.
//!
//! sqlparser's `Display` guesses whether a string literal is escaped already: `'a\''b'` and
//! `'a'''''` would come out as other text than they went in. So each quote in a literal is
//! replaced by a character that the tree holds nowhere, the tree is written, and the character is
//! replaced by two quotes.

use std::fmt::Display;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, TableFactor, TableVersion, Value, ValueWithSpan, VisitMut, VisitorMut,
};

/// A string literal.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `a, b, c`.
pub(crate) fn comma_separated<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(", ")
}

/// The SQL of a tree of sqlparser's, exact also for literals with quotes and backslashes and for
/// relations with both a version and an alias.
pub fn canonical<T: Display + Clone + VisitMut>(node: &T) -> String {
    let plain = node.to_string();
    if !plain.contains('\'') && !plain.contains("FOR SYSTEM_TIME") {
        return plain;
    }
    // Unicode's noncharacters are for such internal use; a text that holds them all is not SQL.
    let Some(stand_in) = ('\u{FDD0}'..='\u{FDEF}').find(|&ch| !plain.contains(ch)) else {
        return plain;
    };
    let mut node = node.clone();
    let _: ControlFlow<()> = node.visit(&mut Exact(stand_in));
    node.to_string().replace(stand_in, "''")
}

/// Changes a tree so that sqlparser's `Display` writes what its parser reads.
struct Exact(char);

impl VisitorMut for Exact {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if let Value::SingleQuotedString(text) | Value::NationalStringLiteral(text) =
            &mut value.value
        {
            *text = text.replace('\'', self.0.encode_utf8(&mut [0; 4]));
        }
        ControlFlow::Continue(())
    }

    /// `Display` writes the alias before the version, the parser reads it after: the alias goes
    /// into the text of the version's expression, as an identifier that is written as it is.
    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table {
            alias,
            version: Some(TableVersion::ForSystemTimeAsOf(expr)),
            ..
        } = factor
            && let Some(alias) = alias.take()
        {
            *expr = Expr::Identifier(Ident::new(format!("{expr} {alias}")));
        }
        ControlFlow::Continue(())
    }
}
