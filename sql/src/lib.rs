//! The SQL of AsofDB: text in, statements out, and back.
//!
//! [`parse`] splits a text into statements. Expressions, data types and queries are sqlparser's
//! (PostgreSQL's dialect with `FOR SYSTEM_TIME AS OF`); the statements about sources, entities and
//! features are our own, one file each below `statement`. Every statement's `Display` writes SQL
//! that reads back as an equal tree.
//!
//! This crate knows no types beyond sqlparser's, no catalog and no data. Nothing in it reads a
//! clock, a file or a socket. No text, however hostile, may end the process: limits are checked on
//! the tokens, before a tree exists (see `limit`).

mod dialect;
mod display;
mod error;
mod limit;
mod name;
mod options;
mod parser;
pub mod rewrite;
mod shape;
mod statement;
mod token;

pub use dialect::AsofDialect;
pub use display::canonical;
pub use error::{Error, Location, NameProblem};
pub use limit::{MAX_EXPRESSION_DEPTH, MAX_NESTING, MAX_RELATIONS, MAX_TEXT_BYTES, MAX_TOKENS};
pub use name::{MAX_NAME_BYTES, fold, fold_name, ident};
pub use options::{OptionValue, Options};
pub use parser::{Parsed, parse, parse_expr};
pub use shape::{Literal, Shape, shape};
pub use statement::*;

/// The trees of expressions, data types and queries that the statements hold.
pub use sqlparser;
