//! The server: PostgreSQL's protocol, the values' formats, errors as SQLSTATEs, configuration.
//!
//! The only crate that names pgwire. It knows statements and their results, not how they are
//! computed. [`Server::start`] runs it inside a process, [`serve`] until a future completes.

pub mod config;
mod connection;
pub mod copy;
pub mod decode;
pub mod encode;
pub mod input;
mod listener;
pub mod quickstart;
mod server;
pub mod sqlstate;
pub mod task;
pub mod types;

pub use config::{QuickstartConfig, ServeConfig};
pub use server::{Server, StartError, serve};
