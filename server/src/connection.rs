//! One client's connection, from its first packet to its end.
//!
//! The loop is our own, over pgwire's messages: pgwire's handlers drop the results before a failing
//! statement, buffer whole results, flush after every message and do not let a running row stream
//! be cancelled.

mod command;
mod copy_in;
mod direct_lookup;
mod extended;
mod introspection;
mod message;
mod prepared_statement;
mod rows;
mod settings;
mod shared_statements;
mod simple;
mod startup;
mod wire;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use asofdb_planner::{Database, Session};
use asofdb_sql::{Parsed, SessionStatement, Statement};
use datafusion::error::DataFusionError;
use pgwire::api::{ConnectionHandle, ConnectionManager};
use pgwire::error::ErrorInfo;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use self::extended::Portal;
use self::message::Frontend;
use self::prepared_statement::PreparedStatement;
use self::rows::Interrupt;
use self::settings::{Changed, Settings};
use self::shared_statements::SharedStatements;
use self::wire::{ReadError, Wire};
use crate::encode::EncodeError;
use crate::input::InputError;
use crate::sqlstate;
use crate::task::Workers;

/// What all connections share.
pub struct Shared {
    /// The database.
    pub database: Database,
    /// Running statements by the keys that cancel them.
    pub cancels: Arc<ConnectionManager>,
    /// A permit for each session.
    pub sessions: Arc<Semaphore>,
    /// The largest number of sessions, for messages.
    pub max_connections: usize,
    /// What the rows of one `COPY` may take, in bytes.
    pub copy_limit_bytes: usize,
    /// True when the server stops.
    pub stopping: watch::Receiver<bool>,
    /// Queries that are prepared for all sessions.
    pub statements: SharedStatements,
    /// Who runs what may take long.
    pub workers: Workers,
    next_pid: AtomicI32,
}

impl Shared {
    /// The state of a server that starts. Its workers are the runtime of the caller.
    pub fn new(
        database: Database,
        max_connections: usize,
        copy_limit_bytes: usize,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Shared {
            database,
            cancels: Arc::new(ConnectionManager::new()),
            sessions: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            copy_limit_bytes,
            stopping,
            statements: SharedStatements::new(),
            workers: Workers::current(),
            next_pid: AtomicI32::new(1),
        }
    }

    fn next_pid(&self) -> i32 {
        self.next_pid.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }
}

/// Why a statement did not complete.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of the statement; the session goes on.
    Statement(Box<ErrorInfo>),
    /// An error that ends the session.
    Fatal(Box<ErrorInfo>),
    /// The client is gone.
    Gone,
}

/// What a step of a statement gives.
pub(crate) type Reply<T = ()> = Result<T, Failure>;

impl Failure {
    fn from_datafusion(error: DataFusionError) -> Self {
        sqlstate::of_planner(&asofdb_planner::Error::DataFusion(error), "").into()
    }

    fn panicked() -> Self {
        let message = "internal error: the statement could not be completed";
        Failure::Fatal(Box::new(sqlstate::fatal("XX000", message)))
    }
}

impl From<ErrorInfo> for Failure {
    fn from(info: ErrorInfo) -> Self {
        Failure::Statement(Box::new(info))
    }
}

impl From<Box<ErrorInfo>> for Failure {
    fn from(info: Box<ErrorInfo>) -> Self {
        Failure::Statement(info)
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Self {
        Failure::Statement(error.into())
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Failure::Statement(error.into())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Failure::Gone,
            ReadError::Malformed(malformed) => {
                Failure::Fatal(Box::new(sqlstate::fatal("08P01", malformed.0)))
            }
        }
    }
}

/// Serves a client until it leaves or has to: between two statements when the server stops, and in
/// the midst of one when `drained` turns true.
pub async fn serve(socket: TcpStream, shared: Arc<Shared>, drained: watch::Receiver<bool>) {
    let mut wire = Wire::new(socket);
    let ended = match startup::start(&mut wire, &shared).await {
        Ok(Some(started)) => {
            let connection = Connection::new(wire, started, shared);
            let Some((back, ended)) = connection.run(drained).await else { return };
            wire = back;
            ended
        }
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    match ended {
        Err(Failure::Fatal(info) | Failure::Statement(info)) => {
            tracing::debug!(code = %info.code, message = %info.message, "connection ends");
            wire.put_error(*info);
            wire.close().await;
        }
        Err(Failure::Gone) => {}
        Ok(()) => wire.close().await,
    }
}

/// What may take long, and is left to the workers: the thread of a connection serves others, too.
enum Work {
    /// Statements of the simple protocol.
    Query(String),
    /// A statement to be prepared; its name is free.
    Parse { name: String, sql: String, types: Vec<u32> },
    /// A portal to be run, and how many rows are wanted at most.
    Execute { name: String, portal: Portal, limit: Option<u64> },
}

/// A session with its client.
struct Connection {
    wire: Wire,
    session: Session,
    settings: Settings,
    handle: Arc<ConnectionHandle>,
    shared: Arc<Shared>,
    statements: HashMap<String, Arc<PreparedStatement>>,
    portals: HashMap<String, Portal>,
    transaction: TransactionStatus,
    /// After an error in the extended protocol: all is ignored until Sync.
    skip_until_sync: bool,
    /// Held for as long as the session lives.
    _held: startup::Held,
}

impl Connection {
    fn new(wire: Wire, started: startup::Started, shared: Arc<Shared>) -> Self {
        Connection {
            wire,
            session: shared.database.session(),
            settings: started.settings,
            handle: started.handle,
            shared,
            statements: HashMap::new(),
            portals: HashMap::new(),
            transaction: TransactionStatus::Idle,
            skip_until_sync: false,
            _held: started.held,
        }
    }

    /// Serves the client to the end of the session, and gives the socket back; `None` if a task of
    /// the workers was lost with it.
    async fn run(mut self, mut drained: watch::Receiver<bool>) -> Option<(Wire, Reply)> {
        let mut stopping = self.shared.stopping.clone();
        let mut stopped = pin!(async move {
            // Without a sender the server is gone.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        });
        loop {
            let message = match self.next_message(stopped.as_mut()).await {
                Ok(Frontend::Terminate) => return Some((self.wire, Ok(()))),
                Ok(message) => message,
                Err(failure) => return Some((self.wire, Err(failure))),
            };
            let mut done = unless(&mut drained, self.handle(message)).await;
            if let Ok(Some(work)) = done {
                let (shared, mut drained) = (Arc::clone(&self.shared), drained.clone());
                let working = shared.workers.spawn(async move {
                    let done = unless(&mut drained, self.work(work)).await;
                    (self, done.map(|()| None))
                });
                (self, done) = working.await?;
            }
            if let Err(failure) = done {
                return Some((self.wire, Err(failure)));
            }
        }
    }

    /// The next message, unless the server stops or the session is idle for too long.
    async fn next_message(&mut self, stopped: impl Future<Output = ()>) -> Reply<Frontend> {
        // Nobody is asked to leave between messages that came together.
        if let Some(message) = self.wire.buffered()? {
            return Ok(message);
        }
        let idle_limit = match self.transaction {
            TransactionStatus::Idle => None,
            _ => self.settings.idle_in_transaction_timeout(),
        };
        let idle = async {
            match idle_limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stopped => Err(shutting_down()),
            message = self.wire.read() => Ok(message?),
            () = idle => {
                let message = "terminating connection due to idle-in-transaction timeout";
                Err(Failure::Fatal(Box::new(sqlstate::fatal("25P03", message))))
            }
        }
    }

    /// Does what a message asks for, as far as the thread of the connection does that.
    async fn handle(&mut self, message: Frontend) -> Reply<Option<Work>> {
        if self.skip_until_sync && !matches!(message, Frontend::Sync) {
            return Ok(None);
        }
        match message {
            Frontend::Query(sql) => match self.quick_query(&sql).await {
                Ok(false) => return Ok(Some(Work::Query(sql))),
                done => self.end_query(done.map(drop)).await?,
            },
            Frontend::Refused { extended: false, code, message } => {
                self.end_query(Err(sqlstate::error(code, message).into())).await?;
            }
            Frontend::Sync => {
                self.skip_until_sync = false;
                if self.transaction == TransactionStatus::Idle {
                    self.portals.clear();
                }
                self.ready().await?;
            }
            Frontend::Flush => self.wire.flush().await.map_err(|_| Failure::Gone)?,
            // What is left of a COPY that failed.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => {}
            message => match self.extended(message).await {
                Ok(Some(work)) => return Ok(Some(work)),
                done => self.end_extended(done.map(drop)).await?,
            },
        }
        Ok(None)
    }

    /// Does what may take long.
    async fn work(&mut self, work: Work) -> Reply {
        match work {
            Work::Query(sql) => {
                let done = self.simple_query(&sql).await;
                self.end_query(done).await
            }
            Work::Parse { name, sql, types } => {
                let done = self.parse_new(name, sql, &types).await;
                self.end_extended(done).await
            }
            Work::Execute { name, portal, limit } => {
                let done = self.run_portal(name, portal, limit).await;
                self.end_extended(done).await
            }
        }
    }

    /// Ends a message of the simple protocol.
    async fn end_query(&mut self, done: Reply) -> Reply {
        self.settle(done)?;
        self.ready().await
    }

    /// Ends a message of the extended protocol.
    async fn end_extended(&mut self, done: Reply) -> Reply {
        self.skip_until_sync = done.is_err();
        self.settle(done)?;
        // A client that waits for the answer to a Flush gets the error at once: what it sends next
        // may be the Sync that it sends after an error only.
        if self.skip_until_sync || self.wire.is_full() {
            self.wire.flush().await.map_err(|_| Failure::Gone)?;
        }
        Ok(())
    }

    /// Tells the client of an error of a statement; others are passed on.
    fn settle(&mut self, done: Reply) -> Reply {
        if let Err(Failure::Statement(info)) = done {
            self.transaction = self.transaction.to_error_state();
            tracing::debug!(code = %info.code, "statement failed");
            self.wire.put_error(*info);
            return Ok(());
        }
        done
    }

    async fn ready(&mut self) -> Reply {
        let status = ReadyForQuery::new(self.transaction);
        self.wire.put(PgWireBackendMessage::ReadyForQuery(status));
        self.wire.flush().await.map_err(|_| Failure::Gone)
    }

    /// What can end a statement that starts now.
    async fn interrupt(&mut self) -> Interrupt {
        Interrupt::begin(&self.handle, &self.settings).await
    }

    /// In a failed transaction only its end is accepted.
    fn check_transaction(&self, parsed: &Parsed) -> Reply {
        let ends = matches!(
            parsed.statement,
            Statement::Session(
                SessionStatement::Commit { .. }
                    | SessionStatement::Rollback { .. }
                    | SessionStatement::RollbackTo(_)
            )
        );
        if self.transaction == TransactionStatus::Error && !ends {
            let message = "current transaction is aborted, commands ignored until end of \
                           transaction block";
            return Err(sqlstate::error("25P02", message).into());
        }
        Ok(())
    }

    fn warn(&mut self, code: &str, message: &str) {
        self.wire.put_notice(sqlstate::notice("WARNING", code, message));
    }

    fn report(&mut self, changed: Changed) {
        let status = ParameterStatus::new(changed.name.to_owned(), changed.value);
        self.wire.put(PgWireBackendMessage::ParameterStatus(status));
    }
}

/// Takes a step unless the server was drained.
async fn unless<T>(
    drained: &mut watch::Receiver<bool>,
    step: impl Future<Output = Reply<T>>,
) -> Reply<T> {
    tokio::select! {
        biased;
        done = step => done,
        _ = drained.wait_for(|drained| *drained) => Err(shutting_down()),
    }
}

fn shutting_down() -> Failure {
    let message = "terminating connection due to administrator command";
    Failure::Fatal(Box::new(sqlstate::fatal("57P01", message)))
}

#[cfg(test)]
mod tests;
