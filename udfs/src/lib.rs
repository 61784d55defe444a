//! The aggregate algebra of AsofDB, evaluated two ways that agree bit for bit.
//!
//! * Online: a [`Timeline`] holds all events of one key and answers windows as of any instant. A
//!   store may keep it as [`NodeImage`]s and load what a read needs.
//! * Training: [`sweep`] computes the windows of many label rows over a sorted run of events.
//!
//! Both read one [`Layout`]: the columns of an event and the [`Call`]s of aggregates over them.
//! An aggregate is a commutative monoid whose merge is exact, so the order of arrival and the
//! grouping of events never show in a value; see [`Aggregate`] and [`Partial`].
//!
//! The crate is pure: no IO, no clock, no randomness. It knows Arrow arrays and not where they
//! come from, nor SQL text.

mod aggregate;
mod bytes;
mod error;
mod exact;
mod frame;
mod kernel;
mod kind;
mod layout;
mod monoid;
mod sweep;
mod timeline;

#[cfg(test)]
mod laws;

pub use aggregate::{Aggregate, Meta, bind, names};
pub use error::Error;
pub use frame::{Bound, Frame, Interval};
pub use kind::{Cell, Value};
pub use layout::{Call, Events, Layout};
pub use monoid::Partial;
pub use sweep::{SpineRow, retained_from, sweep};
pub use timeline::{
    AsOf, Entry, NodeImage, Outputs, Place, Timeline, ValueList, descend, encode_rows,
    insert_places,
};
