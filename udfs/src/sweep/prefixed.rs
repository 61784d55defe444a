//! The kernel of aggregates over sums: a window's state is a difference of two prefix sums, however
//! many events enter and leave.

use super::{Input, Window};
use crate::aggregate::Meta;
use crate::error::Error;
use crate::kind::{Kind, Output};
use crate::monoid::Monoid;

/// The values of every list of windows. `state_of` makes the state of a window from the number of
/// its visible events and the window.
pub(crate) fn sweep<M: Monoid>(
    monoid: &M,
    meta: &Meta,
    input: &Input<'_>,
    frames: &[&[Window]],
    state_of: impl Fn(u64, Window) -> M::State,
) -> Result<Vec<Output>, Error> {
    let mut outputs = Vec::with_capacity(frames.len());
    for windows in frames {
        let mut output = Output::new(&meta.output, windows.len());
        let builder =
            M::Output::builder(&mut output).ok_or(Error::Internal("output of another kind"))?;
        for &window in *windows {
            if window.is_null() {
                M::Output::push(builder, None);
                continue;
            }
            let state = state_of(u64::from(input.count(window)), window);
            M::Output::push(builder, monoid.finish(&state)?);
        }
        outputs.push(output);
    }
    Ok(outputs)
}
