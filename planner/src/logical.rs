//! Logical nodes of our own and the rules that place them.

pub mod as_of_join;
pub mod entity_scan;
pub mod online_lookup;
pub mod prune_calls;
pub mod push_filters;
