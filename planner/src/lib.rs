//! From statements to answers: the catalog, name and type resolution, logical nodes and rules,
//! the operators of our own, and the standing maintenance of features.
//!
//! Knows no sockets and no wire formats; it names neither Redis nor files of the log.

mod applier;
mod backfill;
mod catalog;
mod cell;
mod checked;
mod clustering;
mod data;
mod database;
mod error;
mod feature;
mod forget;
mod functions;
mod historian;
mod ingest;
mod jobs;
mod key;
mod live_track;
mod logical;
mod maintain;
mod merge;
mod operator;
mod parameters;
mod parquet_scan;
mod planning;
mod preparation;
mod reading;
mod ready_lookup;
mod recompute;
mod relation;
mod session;
mod sharing;
mod source_file;
mod source_table;
mod statement;
mod task;
mod track;
mod types;

pub use asofdb_storage::{OnlineOptions, RedisOptions};
pub use asofdb_udfs::Value;
pub use database::{Database, DatabaseOptions, ObjectStorePlace, ReaderOptions};
pub use error::{Error, ObjectKind, Result};
pub use functions::VERSION;
pub use historian::CheckpointOptions;
pub use operator::direct_lookup::Found;
pub use session::{CopyIn, CopyRows, Outcome, Prepared, Session};
pub use types::sql_name;
