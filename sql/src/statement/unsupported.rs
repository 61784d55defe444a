//! What this database does not have, said in its own terms.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};

use crate::error::Error;
use crate::token;

const ROWS: &str = "Events are appended with INSERT or COPY and kept by the source's retention; \
                    what is known at a time does not change later.";
const ALTER: &str = "Definitions are changed with CREATE OR REPLACE.";
const ROLES: &str = "Roles are part of the server's configuration.";
const UPKEEP: &str = "Upkeep runs by itself; CHECKPOINT and VACUUM do it now.";
const NONE: &str = "";

/// Statements of PostgreSQL by their first word, with what to do instead.
const STATEMENTS: &[(&str, &str)] = &[
    ("UPDATE", ROWS),
    ("DELETE", ROWS),
    ("MERGE", ROWS),
    ("TRUNCATE", "DROP SOURCE and CREATE SOURCE start over."),
    ("ALTER", ALTER),
    ("GRANT", ROLES),
    ("REVOKE", ROLES),
    ("REASSIGN", ROLES),
    ("ANALYZE", UPKEEP),
    ("REINDEX", UPKEEP),
    ("CLUSTER", UPKEEP),
    ("REFRESH", "Features are kept fresh from events; there is nothing to refresh."),
    ("DECLARE", "Large results stream; ask for fewer rows per fetch in the driver instead."),
    ("FETCH", NONE),
    ("MOVE", NONE),
    ("LISTEN", NONE),
    ("NOTIFY", NONE),
    ("LOCK", NONE),
    ("CALL", NONE),
    ("DO", NONE),
    ("LOAD", NONE),
    ("IMPORT", NONE),
    ("SECURITY", NONE),
    ("USE", "There is one database and one schema, public."),
    ("REPLACE", "Write CREATE OR REPLACE, or INSERT."),
];

/// Objects of PostgreSQL after `CREATE` or `DROP`, with what to do instead.
const OBJECTS: &[(&[&str], &str)] = &[
    (&["TABLE"], "Use CREATE SOURCE name (column TYPE, ...) EVENT TIME column."),
    (&["UNLOGGED", "TABLE"], "Use CREATE SOURCE name (column TYPE, ...) EVENT TIME column."),
    (&["EXTERNAL", "TABLE"], "Use CREATE SOURCE ... EVENT TIME column WITH (connector = ...)."),
    (&["FOREIGN", "TABLE"], "Use CREATE SOURCE ... EVENT TIME column WITH (connector = ...)."),
    (&["TEMP", "TABLE"], "There are no temporary relations; use WITH name AS (...)."),
    (&["TEMPORARY", "TABLE"], "There are no temporary relations; use WITH name AS (...)."),
    (&["TEMP", "VIEW"], "There are no temporary relations; use CREATE VIEW."),
    (&["TEMPORARY", "VIEW"], "There are no temporary relations; use CREATE VIEW."),
    (&["MATERIALIZED", "VIEW"], "Use CREATE FEATURES for what is kept, CREATE VIEW otherwise."),
    (&["RECURSIVE", "VIEW"], "Use CREATE VIEW name AS WITH RECURSIVE ...."),
    (&["INDEX"], "Entities are found by their key; no index is needed."),
    (&["UNIQUE", "INDEX"], "Entities are found by their key; no index is needed."),
    (&["SCHEMA"], "There is one schema, public."),
    (&["DATABASE"], "There is one database per server."),
    (&["ROLE"], ROLES),
    (&["USER"], ROLES),
    (&["GROUP"], ROLES),
    (&["STREAM"], "Use CREATE SOURCE name (column TYPE, ...) EVENT TIME column."),
    (&["FUNCTION"], NONE),
    (&["PROCEDURE"], NONE),
    (&["AGGREGATE"], NONE),
    (&["OPERATOR"], NONE),
    (&["SEQUENCE"], NONE),
    (&["TYPE"], NONE),
    (&["DOMAIN"], NONE),
    (&["TRIGGER"], NONE),
    (&["RULE"], NONE),
    (&["POLICY"], NONE),
    (&["EXTENSION"], NONE),
    (&["SERVER"], NONE),
    (&["PUBLICATION"], NONE),
    (&["SUBSCRIPTION"], NONE),
    (&["CAST"], NONE),
    (&["COLLATION"], NONE),
    (&["STATISTICS"], NONE),
    (&["TABLESPACE"], NONE),
];

/// The error for a statement whose first word is none of ours.
pub(super) fn statement(p: &Parser) -> Error {
    let found = p.peek_token_ref();
    if let Some((word, hint)) = STATEMENTS.iter().find(|(word, _)| token::at_words(p, &[word])) {
        return Error::unsupported(*word, found.span, hint);
    }
    with_nearest(token::expected(p, "a statement"), p, &super::first_words())
}

/// The error for an object after `CREATE` or `DROP` (the `verb`, which starts at `span`).
pub(super) fn object(p: &Parser, verb: &str, known: &[&str], span: Span) -> Error {
    if let Some((words, hint)) = OBJECTS.iter().find(|(words, _)| token::at_words(p, words)) {
        let hint = if verb == "CREATE" { hint } else { NONE };
        return Error::unsupported(format!("{verb} {}", words.join(" ")), span, hint);
    }
    let error = token::expected(p, &format!("{} after {verb}", known.join(", ")));
    with_nearest(error, p, known)
}

fn with_nearest(error: Error, p: &Parser, known: &[&str]) -> Error {
    let near = match &p.peek_token_ref().token {
        Token::Word(word) if word.quote_style.is_none() => {
            token::nearest(&word.value.to_ascii_uppercase(), known)
        }
        _ => None,
    };
    match near {
        Some(near) => error.with_hint(format!("Did you mean {near}?")),
        None => error,
    }
}
