//! Streams a result's rows to the socket, without collecting them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{FutureExt, StreamExt};
use pgwire::api::ConnectionHandle;
use tokio::time::Instant;

use super::settings::Settings;
use super::wire::Wire;
use super::{Failure, Reply};
use crate::encode::BatchEncoder;
use crate::sqlstate;

/// What ends a running statement from outside.
pub struct Interrupt {
    cancel: futures::channel::oneshot::Receiver<()>,
    deadline: Option<Instant>,
}

impl Interrupt {
    /// What can end a statement of a session that starts now.
    pub async fn begin(handle: &ConnectionHandle, settings: &Settings) -> Self {
        // Fires when another connection asks for it.
        let cancel = handle.start_query().await;
        let deadline = settings.statement_timeout().map(|limit| Instant::now() + limit);
        Interrupt { cancel, deadline }
    }

    /// Ends when the statement has to end, with the reason.
    pub async fn fired(&mut self) -> Failure {
        let deadline = self.deadline;
        let timeout = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let cancel = async {
            if (&mut self.cancel).await.is_err() {
                // Nobody can ask any more.
                std::future::pending::<()>().await;
            }
        };
        let reason = tokio::select! {
            () = cancel => "user request",
            () = timeout => "statement timeout",
        };
        sqlstate::error("57014", format!("canceling statement due to {reason}")).into()
    }

    /// Runs a part of a statement, unless it is cancelled, the client leaves or it panics.
    pub async fn guard<T>(
        &mut self,
        wire: &mut Wire,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::select! {
            biased;
            done = work => done.map_err(|_| Failure::panicked()),
            failure = self.fired() => Err(failure),
            () = wire.closed() => Err(Failure::Gone),
        }
    }

    /// Runs a part of a statement that must not be left half-way.
    pub async fn guard_to_end<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Failure::panicked())
    }

    /// Sends what is buffered; a client that reads nothing can still be cancelled.
    pub async fn flush(&mut self, wire: &mut Wire) -> Reply {
        tokio::select! {
            biased;
            done = wire.flush() => done.map_err(|_| Failure::Gone),
            failure = self.fired() => Err(failure),
        }
    }
}

/// Whether a result has more rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The limit was reached.
    Suspended,
    /// All rows are sent: their number in this call.
    Finished(u64),
}

/// A result that is being sent.
pub struct Rows {
    stream: SendableRecordBatchStream,
    /// The batch under way and its next row.
    current: Option<(BatchEncoder, usize)>,
    binary: Vec<bool>,
    /// The command tag without a number.
    pub tag: &'static str,
}

impl Rows {
    /// `binary` has one entry per column.
    pub fn new(stream: SendableRecordBatchStream, binary: Vec<bool>, tag: &'static str) -> Self {
        Rows { stream, current: None, binary, tag }
    }

    /// The same rows in other formats.
    pub fn with_formats(self, binary: Vec<bool>) -> Self {
        Rows { binary, ..self }
    }

    /// Sends rows, at most `limit` of them.
    pub async fn send(
        &mut self,
        wire: &mut Wire,
        interrupt: &mut Interrupt,
        limit: Option<u64>,
    ) -> Result<Progress, Failure> {
        let mut sent = 0;
        loop {
            let Some((encoder, next)) = &mut self.current else {
                match interrupt.guard(wire, self.stream.next()).await? {
                    None => return Ok(Progress::Finished(sent)),
                    Some(Err(error)) => return Err(Failure::from_datafusion(error)),
                    Some(Ok(batch)) => {
                        let encoder = BatchEncoder::new(&batch, &self.binary)?;
                        self.current = Some((encoder, 0));
                    }
                }
                continue;
            };
            while *next < encoder.rows() {
                if limit == Some(sent) {
                    return Ok(Progress::Suspended);
                }
                encoder.write_row(*next, wire.out());
                *next += 1;
                sent += 1;
                if wire.is_full() {
                    interrupt.flush(wire).await?;
                }
            }
            self.current = None;
            if limit == Some(sent) {
                return Ok(Progress::Suspended);
            }
        }
    }

    /// The command tag after `rows` rows.
    pub fn complete(&self, rows: u64) -> String {
        match self.tag {
            "SELECT" => format!("SELECT {rows}"),
            tag => tag.to_owned(),
        }
    }
}

/// The schema of text columns.
pub fn text_schema(names: &[&str]) -> SchemaRef {
    let fields = names.iter().map(|name| Field::new(*name, DataType::Utf8, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A stream of one batch of text columns.
pub fn text_stream(
    schema: SchemaRef,
    columns: Vec<Vec<String>>,
) -> Result<SendableRecordBatchStream, Failure> {
    let arrays = columns.into_iter().map(|column| Arc::new(StringArray::from(column)) as ArrayRef);
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays.collect())
        .map_err(|error| Failure::from_datafusion(error.into()))?;
    let stream = futures::stream::iter([Ok(batch)]);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
}
