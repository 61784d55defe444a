//! The evaluation of an aggregate, as the sweep and the timeline call it.
//!
//! It is the sealed half of `Aggregate`: its types are not reachable from outside of the crate.

use crate::error::Error;
use crate::kind::Output;
use crate::sweep::{Input, Window};
use crate::timeline::{Summaries, View};

/// The two evaluations of a bound aggregate. They agree bit for bit.
pub trait Kernel {
    /// Training: the value of every window, one output per list of windows.
    ///
    /// Called once per (aggregate, argument, filter) of a layout, with the windows of each frame.
    #[doc(hidden)]
    fn sweep(&self, input: &Input<'_>, frames: &[&[Window]]) -> Result<Vec<Output>, Error>;

    /// Online: appends the value of one window of a timeline.
    #[doc(hidden)]
    fn read(&self, view: &View<'_>, output: &mut Output) -> Result<(), Error>;

    /// Online: empty states per chunk for a timeline; `None` if windows are scanned.
    #[doc(hidden)]
    fn summaries(&self) -> Option<Box<dyn Summaries>>;
}
