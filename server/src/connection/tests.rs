//! What needs no data: sessions, settings, transactions, protocol errors, over a real socket.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::task::Task;
use crate::{ServeConfig, Server};

struct Fixture {
    server: Server,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new(max_connections: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = ServeConfig {
            listen: "127.0.0.1:0".to_owned(),
            max_connections,
            ..ServeConfig::new(folder.path())
        };
        Fixture { server: Server::start(config).await.unwrap(), _folder: folder }
    }

    async fn connect(&self) -> Result<(Client, Task), tokio_postgres::Error> {
        let port = self.server.local_addr().port();
        let config = format!("host=127.0.0.1 port={port} user=me dbname=asofdb");
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
        Ok((client, Task::spawn(async move { drop(connection.await) })))
    }

    async fn socket(&self) -> TcpStream {
        let mut socket = TcpStream::connect(self.server.local_addr()).await.unwrap();
        let body = b"\0\x03\0\0user\0me\0\0";
        let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
        packet.extend(body);
        socket.write_all(&packet).await.unwrap();
        socket
    }
}

async fn shown(client: &Client, sql: &str) -> String {
    let messages = client.simple_query(sql).await.unwrap();
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.unwrap()
}

fn code(error: tokio_postgres::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

#[tokio::test]
async fn settings_in_both_protocols() {
    let fixture = Fixture::new(10).await;
    let (client, _task) = fixture.connect().await.unwrap();
    assert_eq!(shown(&client, "SHOW server_version").await, "16.6");
    let row = client.query_one("SHOW server_version", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "16.6");
    client
        .batch_execute("SET statement_timeout TO '5s'; SET application_name = 'x'")
        .await
        .unwrap();
    assert_eq!(shown(&client, "SHOW application_name").await, "x");
    client.batch_execute("DISCARD ALL").await.unwrap();
    assert_eq!(shown(&client, "SHOW application_name").await, "");
    let error = client.batch_execute("SET aplication_name = 'x'").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().hint(), Some("Did you mean \"application_name\"?"));
    assert_eq!(code(error), "42704");
    client.batch_execute("").await.unwrap();
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn transactions_fail_and_end() {
    let fixture = Fixture::new(10).await;
    let (mut client, _task) = fixture.connect().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    assert_eq!(code(transaction.batch_execute("SHOW nope").await.unwrap_err()), "42704");
    let error = transaction.batch_execute("SHOW server_version").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    assert!(transaction.query("SHOW server_version", &[]).await.is_err());
    transaction.rollback().await.unwrap();
    assert_eq!(shown(&client, "SHOW server_version").await, "16.6");
    let reset = "CLOSE ALL; UNLISTEN *; RESET ALL;";
    client.batch_execute(reset).await.unwrap();
    let error = client.batch_execute("PREPARE x AS SELECT 1").await.unwrap_err();
    assert_eq!(code(error), "0A000");
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn results_before_a_failing_statement_are_kept() {
    let fixture = Fixture::new(10).await;
    let mut socket = fixture.socket().await;
    let packet = message(b'Q', b"SHOW server_version; SHOW nope; SHOW server_version\0");
    socket.write_all(&packet).await.unwrap();
    let kinds = read_kinds(&mut socket, 2).await;
    let answer = kinds.split_once('Z').unwrap().1;
    assert_eq!(answer, "TDCEZ");
    fixture.server.shutdown().await;
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind], length.as_slice(), body].concat()
}

/// The types of the messages up to the `ready`th ReadyForQuery.
async fn read_kinds(socket: &mut TcpStream, ready: usize) -> String {
    let mut kinds = String::new();
    while kinds.matches('Z').count() < ready {
        let kind = socket.read_u8().await.unwrap();
        let length = socket.read_u32().await.unwrap() as usize - 4;
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.unwrap();
        kinds.push(kind as char);
    }
    kinds
}

#[tokio::test]
async fn sessions_beyond_the_limit_are_refused() {
    let fixture = Fixture::new(1).await;
    let (first, task) = fixture.connect().await.unwrap();
    let error = fixture.connect().await.map(|_| ()).unwrap_err();
    assert_eq!(code(error), "53300");
    drop((first, task));
    for _ in 0..100 {
        if fixture.connect().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the session's place was not given back");
}

#[tokio::test]
async fn nonsense_ends_only_its_connection() {
    let fixture = Fixture::new(10).await;
    for nonsense in [
        b"?\0\0\0\x04".as_slice(),
        b"Q\0\0\0\0",
        b"B\x7f\xff\xff\xff",
        b"P\0\0\0\x05\0",
        b"E\0\0\0\x0a\0\xff\xff\xff\xff\0",
        b"C\0\0\0\x06?\0",
    ] {
        let mut socket = fixture.socket().await;
        socket.write_all(nonsense).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut answer));
        let _ = read.await.expect("the connection is closed");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("08P01"), "{nonsense:?}: {text}");
    }
    let (client, _task) = fixture.connect().await.unwrap();
    assert_eq!(shown(&client, "SHOW server_version").await, "16.6");
}

#[tokio::test]
async fn missing_names_and_skipping_to_sync() {
    let fixture = Fixture::new(10).await;
    let mut socket = fixture.socket().await;
    // Bind of an unknown statement, Execute, Sync; Execute of an unknown portal, Sync; an empty
    // statement with a negative row limit.
    let packet = [
        message(b'B', b"\0nope\0\0\0\0\0\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
        message(b'E', b"x\0\0\0\0\0"),
        message(b'S', b""),
        message(b'P', b"\0\0\0\0"),
        message(b'B', b"\0\0\0\0\0\0\0\0"),
        message(b'E', b"\0\xff\xff\xff\xff"),
        message(b'S', b""),
    ]
    .concat();
    socket.write_all(&packet).await.unwrap();
    let kinds = read_kinds(&mut socket, 4).await;
    assert_eq!(kinds.split_once('Z').unwrap().1, "EZEZ12IZ");
}

#[tokio::test]
async fn too_long_statements_are_read_over() {
    let fixture = Fixture::new(10).await;
    let (client, _task) = fixture.connect().await.unwrap();
    let sql = format!("SHOW {}", "x".repeat(17 << 20));
    assert_eq!(code(client.batch_execute(&sql).await.unwrap_err()), "54000");
    assert_eq!(shown(&client, "SHOW server_version").await, "16.6");
}

#[tokio::test]
async fn idle_clients_are_told_of_the_end() {
    let fixture = Fixture::new(10).await;
    let mut socket = fixture.socket().await;
    read_kinds(&mut socket, 1).await;
    fixture.server.shutdown().await;
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("57P01"));
}

#[tokio::test]
async fn remote_addresses_need_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    let config = ServeConfig { listen: "0.0.0.0:0".to_owned(), ..ServeConfig::new(folder.path()) };
    let error = Server::start(config).await.err().unwrap().to_string();
    assert!(error.contains("--insecure-allow-remote"), "{error}");
}
