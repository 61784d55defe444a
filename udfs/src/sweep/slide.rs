//! The kernel of aggregates that have no other, and of sums that fit no machine word: one state
//! that slides from window to window if values can be taken back, else a queue.

use super::queue::Queue;
use super::{Input, Window};
use crate::aggregate::Meta;
use crate::error::Error;
use crate::kind::{Kind, Output};
use crate::monoid::Monoid;

/// The values of every list of windows.
pub(crate) fn sweep<M: Monoid>(
    monoid: &M,
    meta: &Meta,
    input: &Input<'_>,
    frames: &[&[Window]],
) -> Result<Vec<Output>, Error> {
    let run = input.run::<M::Input>()?;
    let visible = input.visible();
    let mut outputs = Vec::with_capacity(frames.len());
    for windows in frames {
        let mut output = Output::new(&meta.output, windows.len());
        match visible {
            None => slide(monoid, &run, |_| true, windows, &mut output)?,
            Some(bits) => slide(monoid, &run, |row| bits.value(row), windows, &mut output)?,
        }
        outputs.push(output);
    }
    Ok(outputs)
}

/// Moves the state by what enters and what leaves, or starts anew where that is less work.
fn slide<M: Monoid>(
    monoid: &M,
    run: &<M::Input as Kind>::Run,
    is_visible: impl Fn(usize) -> bool,
    windows: &[Window],
    output: &mut Output,
) -> Result<(), Error> {
    let builder = M::Output::builder(output).ok_or(Error::Internal("output of another kind"))?;
    let mut state = monoid.identity();
    let mut queue = Queue::new(monoid);
    let mut last = Window::EMPTY;
    for &window in windows {
        if window.is_null() {
            M::Output::push(builder, None);
            continue;
        }
        if !M::INVERTIBLE {
            state = queue.state_of(monoid, window, |state, row| {
                if is_visible(row) {
                    monoid.insert(state, M::Input::get(run, row));
                }
            });
        } else if last.distance(window) <= window.len() {
            let step = last.step_to(window);
            for row in step.inserted.into_iter().flatten().filter(|&row| is_visible(row)) {
                monoid.insert(&mut state, M::Input::get(run, row));
            }
            for row in step.removed.into_iter().flatten().filter(|&row| is_visible(row)) {
                monoid.remove(&mut state, M::Input::get(run, row));
            }
        } else {
            state = monoid.identity();
            for row in window.rows().filter(|&row| is_visible(row)) {
                monoid.insert(&mut state, M::Input::get(run, row));
            }
        }
        M::Output::push(builder, monoid.finish(&state)?);
        last = window;
    }
    Ok(())
}
