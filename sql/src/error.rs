//! The one error of this crate. It carries data; the server maps variants to SQLSTATE.
//!
//! Locations are lines and columns of the whole text given to [`crate::parse`]: also a span found
//! later in a statement's tree can be turned into a [`Location`] and then into a character
//! position.

use std::fmt;

use sqlparser::parser::ParserError;
use sqlparser::tokenizer::Span;

/// A place in the SQL text: both parts count from 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl Location {
    /// Where a span starts; `None` for the empty span of a node that was not parsed from text.
    pub fn of(span: Span) -> Option<Location> {
        Location::from_token(span.start)
    }

    pub(crate) fn from_token(at: sqlparser::tokenizer::Location) -> Option<Location> {
        (at.line > 0).then_some(Location { line: at.line, column: at.column })
    }

    /// The 1-based character offset into `sql`, as PostgreSQL's error field `P` wants it.
    pub fn position(self, sql: &str) -> usize {
        let (mut line, mut column) = (1, 1);
        for (index, ch) in sql.chars().enumerate() {
            if (line, column) >= (self.line, self.column) {
                return index + 1;
            }
            if ch == '\n' {
                (line, column) = (line + 1, 1);
            } else {
                column += 1;
            }
        }
        sql.chars().count() + 1
    }
}

/// What can be wrong with a text given to [`crate::parse`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text does not follow the grammar (42601).
    #[error("syntax error: {message}")]
    Syntax {
        /// What was expected and what was found.
        message: String,
        /// Where, if known.
        location: Option<Location>,
        /// What to write instead, if known.
        hint: Option<String>,
    },
    /// A statement or clause of SQL that this database does not have (0A000).
    #[error("{statement} is not supported")]
    Unsupported {
        /// The kind of statement or clause, in upper case.
        statement: String,
        /// Where it starts.
        location: Option<Location>,
        /// What to use instead.
        hint: Option<String>,
    },
    /// An option in `WITH (...)` that the statement does not know (42601).
    #[error("unknown option \"{name}\"")]
    UnknownOption {
        /// The option as folded.
        name: String,
        /// The nearest known option, if one is near.
        nearest: Option<String>,
        /// All options that would have been accepted.
        known: Vec<String>,
        /// Where its name stands.
        location: Option<Location>,
    },
    /// An option that is given twice (42601).
    #[error("option \"{name}\" is given more than once")]
    DuplicateOption {
        /// The option as folded.
        name: String,
        /// Where its second name stands.
        location: Option<Location>,
    },
    /// A statement whose tree would be too deep or too long for later stages (54001).
    #[error("statement too complex: more than {limit} {what}")]
    TooComplex {
        /// What was counted.
        what: &'static str,
        /// The largest number that is accepted.
        limit: usize,
    },
    /// A text that is too long to be looked at (54000).
    #[error("SQL text of {bytes} bytes is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The largest accepted length in bytes.
        limit: usize,
    },
    /// An identifier that cannot be a name (42622 for the length, 42602 otherwise).
    #[error("invalid name \"{name}\": {problem}")]
    InvalidName {
        /// The name, shortened when it is long.
        name: String,
        /// What is wrong with it.
        problem: NameProblem,
        /// Where it stands.
        location: Option<Location>,
    },
    /// A text that holds characters no statement may hold (22021).
    #[error("invalid text: {message}")]
    InvalidText {
        /// What was found.
        message: String,
        /// Where it stands.
        location: Option<Location>,
    },
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameProblem {
    /// More bytes than [`crate::MAX_NAME_BYTES`] (42622).
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// `""` (42601 in PostgreSQL: zero-length delimited identifier).
    Empty,
    /// Two neighbouring quotes, or a quote after a backslash: sqlparser's `Display` does not keep
    /// such names apart from others, so they could not be written back safely.
    Quotes,
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameProblem::TooLong { bytes } => {
                write!(f, "{bytes} bytes are longer than {} bytes", crate::MAX_NAME_BYTES)
            }
            NameProblem::Empty => f.write_str("a name has at least one character"),
            NameProblem::Quotes => f.write_str(
                "a name cannot hold two neighbouring quotes or a quote after a backslash",
            ),
        }
    }
}

impl Error {
    /// Where in the text the mistake is.
    pub fn location(&self) -> Option<Location> {
        match self {
            Error::Syntax { location, .. }
            | Error::Unsupported { location, .. }
            | Error::UnknownOption { location, .. }
            | Error::DuplicateOption { location, .. }
            | Error::InvalidName { location, .. }
            | Error::InvalidText { location, .. } => *location,
            Error::TooComplex { .. } | Error::TooLarge { .. } => None,
        }
    }

    /// The 1-based character offset of the mistake in `sql`, the text that was given to
    /// [`crate::parse`].
    pub fn position(&self, sql: &str) -> Option<usize> {
        Some(self.location()?.position(sql))
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Syntax { hint, .. } | Error::Unsupported { hint, .. } => hint.clone(),
            Error::UnknownOption { nearest, known, .. } => Some(option_hint(nearest, known)),
            Error::DuplicateOption { .. } => Some("Give each option once.".to_owned()),
            Error::TooComplex { .. } => Some(
                "Use IN (...) or = ANY (...) for long lists, or split the statement.".to_owned(),
            ),
            Error::TooLarge { .. } => {
                Some("Use COPY ... FROM STDIN for bulk data, or several statements.".to_owned())
            }
            Error::InvalidName { .. } | Error::InvalidText { .. } => None,
        }
    }

    pub(crate) fn syntax(message: impl Into<String>, span: Span) -> Error {
        Error::Syntax { message: message.into(), location: Location::of(span), hint: None }
    }

    pub(crate) fn unsupported(statement: impl Into<String>, span: Span, hint: &str) -> Error {
        Error::Unsupported {
            statement: statement.into(),
            location: Location::of(span),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        }
    }

    /// Adds a hint where the error takes one and has none.
    pub(crate) fn with_hint(mut self, text: impl Into<String>) -> Error {
        if let Error::Syntax { hint, .. } | Error::Unsupported { hint, .. } = &mut self {
            hint.get_or_insert_with(|| text.into());
        }
        self
    }

    /// Puts an error that has no place (such as an unexpected end) at `place`.
    pub(crate) fn or_at(mut self, place: Option<Location>) -> Error {
        if let Error::Syntax { location, .. } | Error::Unsupported { location, .. } = &mut self {
            *location = location.or(place);
        }
        self
    }
}

fn option_hint(nearest: &Option<String>, known: &[String]) -> String {
    match nearest {
        Some(name) => format!("Did you mean \"{name}\"? Known options: {}.", known.join(", ")),
        None if known.is_empty() => "This statement takes no options.".to_owned(),
        None => format!("Known options: {}.", known.join(", ")),
    }
}

impl From<ParserError> for Error {
    fn from(error: ParserError) -> Error {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => return Error::TOO_DEEP,
        };
        let (text, location) = split_location(&text);
        let message = text
            .replace("Expected: ", "expected ")
            .replace("Expected ", "expected ")
            .replace(", found: EOF", FOUND_END);
        let message = message.replace(", found: ", ", found ");
        let hint = message.contains("found SYSTEM_TIME").then(|| {
            "FOR SYSTEM_TIME AS OF stands directly after the relation's name, before its alias."
                .to_owned()
        });
        Error::Syntax { message, location, hint }
    }
}

const FOUND_END: &str = ", found end of statement";

impl Error {
    pub(crate) const TOO_DEEP: Error =
        Error::TooComplex { what: "nested levels", limit: crate::limit::MAX_NESTING };
}

/// sqlparser ends its messages with ` at Line: x, Column: y`: takes that off.
fn split_location(text: &str) -> (&str, Option<Location>) {
    let found = (|| {
        let (head, tail) = text.rsplit_once(" at Line: ")?;
        let (line, column) = tail.split_once(", Column: ")?;
        let location = Location { line: line.parse().ok()?, column: column.parse().ok()? };
        Some((head, Some(location)))
    })();
    found.unwrap_or((text, None))
}
