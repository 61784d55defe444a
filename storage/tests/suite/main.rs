//! The crate's promises from the outside: what survives, what is refused, what is never invented.
#![allow(clippy::unwrap_used, clippy::panic)]

mod catalog_file;
mod failing_store;
mod history;
mod history_deletion;
mod history_layout;
mod history_replace;
mod key;
mod log;
mod log_damage;
mod rows;
mod s3;
