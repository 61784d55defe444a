//! The crate's promises from the outside: what survives, what is refused, what is never invented.
#![allow(clippy::unwrap_used, clippy::panic)]

mod catalog_file;
mod failing_store;
mod history;
mod key;
mod log;
mod log_damage;
mod rows;
