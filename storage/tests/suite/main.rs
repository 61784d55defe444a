//! The crate's promises from the outside: what survives, what is refused, what is never invented.
#![allow(clippy::unwrap_used, clippy::panic)]

mod catalog_file;
#[path = "../../src/online/conformance.rs"]
mod conformance;
mod failing_store;
mod history;
mod history_damage;
mod history_deletion;
mod history_layout;
mod history_replace;
mod key;
mod log;
mod log_damage;
mod redis_cluster;
mod redis_faults;
mod redis_forgetting;
mod redis_lookup;
mod redis_measure;
mod redis_random;
mod redis_sentinel;
mod redis_server;
mod redis_tls;
mod redis_writers;
mod rows;
mod s3;
