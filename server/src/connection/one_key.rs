//! Lookups of one key, which are most of all statements: their row goes into the outgoing buffer as
//! it was read.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;

use asofdb_planner::{Found, Prepared};
use datafusion::scalar::ScalarValue;
use futures::FutureExt;

use super::rows::Interrupt;
use super::{Connection, Failure, Reply};
use crate::encode::write_found;

/// The command tags for one row and for none.
const FOUND: &[u8] = b"C\0\0\0\x0dSELECT 1\0";
const FOUND_NONE: &[u8] = b"C\0\0\0\x0dSELECT 0\0";

impl Connection {
    /// Looks a key up; `None` if the statement is anything else.
    pub(super) async fn look_up(
        &mut self,
        prepared: &Prepared,
        values: &[ScalarValue],
    ) -> Reply<asofdb_planner::Result<Option<Found>>> {
        let work = AssertUnwindSafe(self.session.look_up(prepared, values)).catch_unwind();
        let mut work = pin!(work);
        // What is in memory is there at once: nothing could interrupt it.
        let begun = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        let done = match begun {
            Poll::Ready(done) => done,
            Poll::Pending => {
                let mut interrupt = Interrupt::begin(&self.handle, &self.settings).await;
                interrupt.guard(&mut self.wire, work).await?
            }
        };
        done.map_err(|_| Failure::panicked())
    }

    /// Sends what was found. `binary` has one entry per column.
    pub(super) fn send_found(&mut self, found: &Found, binary: &[bool]) {
        let out = self.wire.out();
        let tag = match write_found(found, binary, out) {
            true => FOUND,
            false => FOUND_NONE,
        };
        out.extend_from_slice(tag);
    }
}
