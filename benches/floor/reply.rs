//! A server that plans nothing: it answers each Execute with constant rows, or with the fields of
//! a hash that it reads from Redis, by messages of pgwire and with one flush for each Sync.
//!
//! A statement's text says how many columns a row has, and whether its parameter is an array. The
//! parameters have to be binary, and so are the values; it knows the extended protocol only.

use std::io::{Read, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use clap::Args;
use pgwire::messages::data::{DataRow, FieldDescription, ParameterDescription, RowDescription};
use pgwire::messages::extendedquery::{BindComplete, ParseComplete};
use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::Authentication;
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage};
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Error;

const INT8: u32 = 20;
const INT8_ARRAY: u32 = 1016;
const FLOAT8: u32 = 701;
const BINARY: i16 = 1;
/// Where the length and the elements are in the bytes of an array of one dimension.
const ARRAY_LENGTH_AT: usize = 12;
const ARRAY_ELEMENTS_AT: usize = 20;

/// The flags of `floor reply`.
#[derive(Args)]
pub struct ReplyArgs {
    /// Redis of which the fields are read [default: rows are constant]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

/// Serves until standard input is closed, which it is when the one who started it has ended.
pub async fn run(args: &ReplyArgs) -> Result<(), Error> {
    let redis = match &args.redis {
        Some(url) => {
            Some(redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?)
        }
        None => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let session = Session::new(socket, redis.clone());
        tokio::spawn(async move {
            if let Err(error) = session.serve().await {
                eprintln!("floor: {error}");
            }
        });
    }
}

/// A connection.
struct Session {
    socket: TcpStream,
    redis: Option<MultiplexedConnection>,
    out: BytesMut,
    /// The names of the columns of the prepared statement.
    columns: Vec<String>,
    array: bool,
    keys: Vec<i64>,
}

impl Session {
    fn new(socket: TcpStream, redis: Option<MultiplexedConnection>) -> Session {
        let (columns, keys) = (Vec::new(), Vec::new());
        Session { socket, redis, out: BytesMut::new(), columns, array: false, keys }
    }

    async fn serve(mut self) -> Result<(), Error> {
        let mut incoming = BytesMut::with_capacity(4096);
        let mut context = DecodeContext::default();
        loop {
            while let Some(message) = PgWireFrontendMessage::decode(&mut incoming, &context)? {
                match message {
                    // Nobody here asks for encryption.
                    PgWireFrontendMessage::SslNegotiation(_) => {
                        context.awaiting_frontend_ssl = false;
                    }
                    PgWireFrontendMessage::Startup(_) => {
                        context.awaiting_frontend_startup = false;
                        self.put(PgWireBackendMessage::Authentication(Authentication::Ok))?;
                        self.ready().await?;
                    }
                    PgWireFrontendMessage::Sync(_) => self.ready().await?,
                    PgWireFrontendMessage::Terminate(_) => return Ok(()),
                    message => self.answer(message).await?,
                }
            }
            if self.socket.read_buf(&mut incoming).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn answer(&mut self, message: PgWireFrontendMessage) -> Result<(), Error> {
        match message {
            PgWireFrontendMessage::Parse(parse) => {
                self.columns = columns(&parse.query)?;
                self.array = parse.query.contains("ANY($1)");
                self.put(PgWireBackendMessage::ParseComplete(ParseComplete::new()))
            }
            PgWireFrontendMessage::Describe(_) => {
                let parameter = if self.array { INT8_ARRAY } else { INT8 };
                let parameters = ParameterDescription::new(vec![parameter]);
                self.put(PgWireBackendMessage::ParameterDescription(parameters))?;
                let field = |name: &String| {
                    FieldDescription::new(name.clone(), 0, 0, FLOAT8, 8, -1, BINARY)
                };
                let fields = self.columns.iter().map(field).collect();
                self.put(PgWireBackendMessage::RowDescription(RowDescription::new(fields)))
            }
            PgWireFrontendMessage::Bind(bind) => {
                let parameter = bind.parameters.into_iter().next().flatten();
                self.keys = keys(parameter.ok_or("there is no parameter")?, self.array)?;
                self.put(PgWireBackendMessage::BindComplete(BindComplete::new()))
            }
            PgWireFrontendMessage::Execute(_) => self.execute().await,
            message => Err(format!("the floor has no answer to {message:?}").into()),
        }
    }

    async fn execute(&mut self) -> Result<(), Error> {
        match self.redis.clone() {
            Some(redis) => self.rows_of_redis(redis).await?,
            None => {
                for row in 0..self.keys.len() {
                    let value = (row as f64).to_be_bytes();
                    let values = std::iter::repeat_n(value.as_slice(), self.columns.len());
                    self.put_row(values.collect())?;
                }
            }
        }
        let tag = format!("SELECT {}", self.keys.len());
        self.put(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)))
    }

    async fn rows_of_redis(&mut self, mut redis: MultiplexedConnection) -> Result<(), Error> {
        let key = |key: &i64| format!("{}{key}", crate::serve::REDIS_PREFIX);
        let rows: Vec<Vec<Vec<u8>>> = match self.keys.as_slice() {
            [one] => {
                let mut command = redis::cmd("HMGET");
                command.arg(key(one)).arg(&self.columns);
                vec![command.query_async(&mut redis).await?]
            }
            many => {
                let mut pipe = redis::pipe();
                for one in many {
                    pipe.cmd("HMGET").arg(key(one)).arg(&self.columns);
                }
                pipe.query_async(&mut redis).await?
            }
        };
        rows.iter().try_for_each(|row| self.put_row(row.iter().map(Vec::as_slice).collect()))
    }

    fn put_row(&mut self, values: Vec<&[u8]>) -> Result<(), Error> {
        let mut data = BytesMut::with_capacity(values.len() * 12);
        for value in &values {
            data.put_i32(value.len() as i32);
            data.put_slice(value);
        }
        let row = DataRow::new(data, values.len() as i16);
        self.put(PgWireBackendMessage::DataRow(row))
    }

    fn put(&mut self, message: PgWireBackendMessage) -> Result<(), Error> {
        Ok(message.encode(&mut self.out)?)
    }

    /// Sends what is buffered.
    async fn ready(&mut self) -> Result<(), Error> {
        let ready = ReadyForQuery::new(TransactionStatus::Idle);
        self.put(PgWireBackendMessage::ReadyForQuery(ready))?;
        self.socket.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }
}

/// The columns of `SELECT a, b FROM …`.
fn columns(sql: &str) -> Result<Vec<String>, Error> {
    let list = sql.strip_prefix("SELECT ").and_then(|sql| sql.split(" FROM ").next());
    let list = list.ok_or_else(|| format!("the floor does not know {sql}"))?;
    Ok(list.split(", ").map(str::to_owned).collect())
}

/// The keys in a binary parameter.
fn keys(mut parameter: Bytes, array: bool) -> Result<Vec<i64>, Error> {
    if !array {
        return Ok(vec![parameter.try_get_i64()?]);
    }
    parameter.try_copy_to_slice(&mut [0; ARRAY_LENGTH_AT])?;
    let length = parameter.try_get_i32()?;
    parameter.try_copy_to_slice(&mut [0; ARRAY_ELEMENTS_AT - ARRAY_LENGTH_AT - 4])?;
    let element = |_| {
        parameter.try_get_i32()?;
        Ok::<_, Error>(parameter.try_get_i64()?)
    };
    (0..length).map(element).collect()
}
