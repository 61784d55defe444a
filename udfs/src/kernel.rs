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

    /// Online: no states yet, for the nodes of a timeline; `None` if it keeps none.
    #[doc(hidden)]
    fn summaries(&self) -> Option<Box<dyn Summaries>>;

    /// Online: which events of a window `read` looks at.
    #[doc(hidden)]
    fn looks(&self) -> Looks;
}

/// Which events of a window a read looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// Those of chunks that lie in the window in part; of others it takes the states.
    States,
    /// All.
    Events,
    /// The first that is visible and those before it.
    First { ignore_nulls: bool },
    /// The last that is visible and those after it.
    Last { ignore_nulls: bool },
}
