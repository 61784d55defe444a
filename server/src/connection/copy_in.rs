//! `COPY ... FROM`: data that the client sends, in both protocols, and files on the server.
//!
//! On an error the client is told at once; what it still sends is read over by the connection's
//! loop: all data messages in the simple protocol, all up to Sync in the extended one.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use asofdb_planner::{CopyIn, CopyRows};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::CopyInResponse;

use super::message::Frontend;
use super::rows::Interrupt;
use super::{Connection, Failure, Reply};
use crate::copy::{CopyError, CopyFormat, CopyParser, options_of, read_all};
use crate::input::InputError;
use crate::{sqlstate, task};

impl Connection {
    /// Takes the rows that the client sends and commits them; gives the command tag.
    pub(super) async fn copy_in(
        &mut self,
        copy: CopyIn,
        interrupt: &mut Interrupt,
        sql: &str,
    ) -> Reply<String> {
        let options = options_of(&copy.copy)?;
        let binary = options.format == CopyFormat::Binary;
        let columns = copy.schema.fields().len();
        let mut parser = CopyParser::new(copy.schema.clone(), options).map_err(statement)?;
        let format = i8::from(binary);
        let formats = vec![i16::from(binary); columns];
        let response = CopyInResponse::new(format, columns as i16, formats);
        self.wire.put(PgWireBackendMessage::CopyInResponse(response));
        interrupt.flush(&mut self.wire).await?;

        let mut rows = copy.begin();
        let mut batches = Vec::new();
        let mut held = Held { bytes: 0, limit: self.shared.copy_limit_bytes };
        loop {
            let message = tokio::select! {
                biased;
                message = self.wire.read() => message?,
                failure = interrupt.fired() => return Err(failure),
            };
            match message {
                Frontend::CopyData(data) => {
                    parser.feed(&data, &mut batches).map_err(statement)?;
                    give(&mut rows, &mut batches, &mut held, interrupt, sql).await?;
                }
                Frontend::CopyDone => break,
                Frontend::CopyFail(reason) => {
                    let message = format!("COPY from stdin failed: {reason}");
                    return Err(sqlstate::error("57014", message).into());
                }
                // Drivers pipeline a Sync behind the Execute; PostgreSQL ignores it too.
                Frontend::Flush | Frontend::Sync => {}
                Frontend::Terminate => return Err(Failure::Gone),
                _ => {
                    let message = "unexpected message type during COPY from stdin";
                    return Err(Failure::Fatal(Box::new(sqlstate::fatal("08P01", message))));
                }
            }
        }
        parser.finish(&mut batches).map_err(statement)?;
        give(&mut rows, &mut batches, &mut held, interrupt, sql).await?;
        commit(rows, interrupt, sql).await
    }

    /// Reads the rows of a file and commits them; gives the command tag.
    pub(super) async fn copy_file(
        &mut self,
        path: PathBuf,
        copy: CopyIn,
        interrupt: &mut Interrupt,
        sql: &str,
    ) -> Reply<String> {
        let options = options_of(&copy.copy)?;
        let schema = copy.schema.clone();
        let mut held = Held { bytes: 0, limit: self.shared.copy_limit_bytes };
        // Dropped when the statement is cancelled, which the reading thread sees.
        let waiting = Arc::new(());
        let reader = Arc::downgrade(&waiting);
        let file = path.clone();
        let reading = task::blocking(move || {
            let file = std::fs::File::open(file)?;
            let mut batches = Vec::new();
            let read = read_all(file, schema, options, |batch| {
                held.count(&batch).map_err(|error| CopyError::new(error, String::new()))?;
                batches.push(batch);
                let cancelled =
                    || CopyError::new(InputError::new("57014", "canceled"), String::new());
                reader.upgrade().ok_or_else(cancelled).map(drop)
            })?;
            Ok::<_, std::io::Error>(read.map(|_| batches))
        });
        let read = interrupt.guard(&mut self.wire, reading).await?;
        drop(waiting);
        let batches = match read {
            Ok(Ok(read)) => read.map_err(statement)?,
            Ok(Err(source)) => {
                let path = path.display().to_string();
                let error = asofdb_planner::Error::File { path, source };
                return Err(sqlstate::of_planner(&error, sql).into());
            }
            Err(_) => return Err(Failure::panicked()),
        };
        let mut rows = copy.begin();
        for batch in batches {
            push(&mut rows, batch, interrupt, sql).await?;
        }
        commit(rows, interrupt, sql).await
    }
}

/// Gives batches away, while the memory of all of them has room.
async fn give(
    rows: &mut CopyRows,
    batches: &mut Vec<RecordBatch>,
    held: &mut Held,
    interrupt: &mut Interrupt,
    sql: &str,
) -> Reply {
    for batch in batches.drain(..) {
        held.count(&batch)?;
        push(rows, batch, interrupt, sql).await?;
    }
    Ok(())
}

async fn push(
    rows: &mut CopyRows,
    batch: RecordBatch,
    interrupt: &mut Interrupt,
    sql: &str,
) -> Reply {
    let pushed = tokio::select! {
        biased;
        pushed = rows.push(batch) => pushed,
        failure = interrupt.fired() => return Err(failure),
    };
    pushed.map_err(|error| Failure::from(sqlstate::of_planner(&error, sql)))
}

async fn commit(rows: CopyRows, interrupt: &mut Interrupt, sql: &str) -> Reply<String> {
    // From here on the rows may be durable: neither a cancel nor a leaving client may make the
    // outcome unknown, so only a panic is caught.
    let rows = interrupt.guard_to_end(rows.commit()).await?;
    let rows = rows.map_err(|error| Failure::from(sqlstate::of_planner(&error, sql)))?;
    Ok(format!("COPY {rows}"))
}

fn statement(error: CopyError) -> Failure {
    Failure::Statement(error.into())
}

/// The memory of the batches of one COPY.
struct Held {
    bytes: usize,
    limit: usize,
}

impl Held {
    /// Counts a batch.
    fn count(&mut self, batch: &RecordBatch) -> Result<(), InputError> {
        self.bytes += batch.get_array_memory_size();
        if self.bytes <= self.limit {
            return Ok(());
        }
        let limit = self.limit >> 20;
        Err(InputError {
            code: "53200",
            message: format!("the rows of one COPY take more than {limit} MiB"),
            detail: Some("Split the data into several COPY statements.".to_owned()),
        })
    }
}
