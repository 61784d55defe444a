//! Integer arithmetic that does not wrap. DataFusion's own does, silently; here a result out of
//! range is an error, in queries as in features.

mod arithmetic;
mod sum;

pub use arithmetic::{CheckArithmetic, check_arithmetic};
pub use sum::CheckedSum;
