//! What is wrong with the data of a `COPY`, and where.

use crate::input::InputError;

/// An error in the data of a `COPY`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct CopyError {
    /// What is wrong.
    pub error: InputError,
    /// `COPY table, line 3, column amount: "x"`.
    pub context: String,
}

impl CopyError {
    /// An error with its place.
    pub fn new(error: InputError, context: String) -> Self {
        CopyError { error, context }
    }
}
