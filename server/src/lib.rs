//! server
pub mod copy;
pub mod decode;
pub mod encode;
pub mod input;
pub mod sqlstate;
pub mod task;
pub mod types;
