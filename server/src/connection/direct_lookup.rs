//! Lookups of given keys, which are most of all statements: their rows go into the outgoing buffer
//! as they were read.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;

use asofdb_planner::{Found, Prepared};
use datafusion::scalar::ScalarValue;
use futures::FutureExt;

use super::rows::Interrupt;
use super::{Connection, Failure, Reply};
use crate::encode::write_found;

/// That a command is complete that had one row.
const FOUND: &[u8] = b"C\0\0\0\x0dSELECT 1\0";

impl Connection {
    /// Looks keys up; `None` if the statement is anything else.
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
    pub(super) async fn send_found(&mut self, found: &Found, binary: &[bool]) -> Reply {
        for row in 0..found.rows() {
            write_found(found, row, binary, self.wire.out());
            if self.wire.is_full() {
                let mut interrupt = Interrupt::begin(&self.handle, &self.settings).await;
                interrupt.flush(&mut self.wire).await?;
            }
        }
        match found.rows() {
            1 => self.wire.out().extend_from_slice(FOUND),
            rows => self.complete(format!("SELECT {rows}")),
        }
        Ok(())
    }
}
