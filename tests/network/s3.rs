//! A history on S3, which is reached over a proxy.

use std::time::{Duration, Instant};

use asofdb_tests::database::{Database, OFTEN, branch, end, insert, settings};
use asofdb_tests::http_proxy::{Fault, Request};
use asofdb_tests::moto::MotoServer;
use asofdb_tests::process::ServerProcess;
use bytes::Bytes;
use futures::SinkExt;
use rand::Rng;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use crate::{BOUND, PROGRAM, all_acknowledged, code, outcome, whole};

/// Reads all files; their statistics do not answer it.
const SCAN: &str = "SELECT count(*) FROM events WHERE v * v >= 0";

/// How soon a statement has to end that is cancelled.
const SOON: Duration = Duration::from_secs(10);

async fn on_s3() -> (MotoServer, Database) {
    let moto = MotoServer::start().expect("moto_server runs");
    let database = Database::new(PROGRAM, moto.environment()).await;
    (moto, database)
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("reads").get(0)
}

async fn copy(client: &Client, rows: String) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>("COPY events FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    sink.send(Bytes::from(rows)).await?;
    sink.finish().await
}

fn replaces_manifest(request: &Request) -> bool {
    request.method == "PUT" && request.target.contains("manifest.json")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_fail_at_random_lose_and_double_nothing() {
    let (runs, mut rng) = settings("ASOFDB_NETWORK_RUNS", 1);
    let (moto, database) = on_s3().await;
    for _ in 0..runs {
        let server = database.start_with([OFTEN]);
        moto.fail_at_random(rng.random_range(3..12), branch(&mut rng));
        let work = database.work(&server, &mut rng).await;
        sleep(Duration::from_secs(2)).await;
        database.stop_work();
        moto.way.heal();
        end(work).await;
        all_acknowledged(&database.ledger);
        database.check(&server).await;
        assert_eq!(outcome(&server.connect().await, "VACUUM").await, "OK");
        database.check(&server).await;
        drop(server);
        database.check(&database.start()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_s3_events_are_taken_and_lookups_answered() {
    let (moto, database) = on_s3().await;
    let server = database.start();
    let client = server.connect().await;
    insert(&client, 0..30).await;
    assert_eq!(outcome(&client, "CHECKPOINT").await, "OK");
    moto.way.rule(|_| Some(Fault::Cut));
    insert(&client, 30..60).await;
    let online = "SELECT n FROM things WHERE k = 0";
    assert_eq!(count(&client, online).await, 20);
    for sql in [SCAN, "CHECKPOINT", "VERIFY FEATURES ON things", "VACUUM"] {
        assert_eq!(outcome(&client, sql).await, "58030", "{sql}");
    }
    insert(&client, 60..90).await;
    assert_eq!(count(&client, online).await, 30);
    moto.way.rule(|_| Some(Fault::Refuse(503)));
    assert_eq!(outcome(&client, SCAN).await, "58030");
    drop(server);
    let refused = ServerProcess::start(&mut database.command()).err();
    let refused = refused.expect("it does not start without its history").to_string();
    assert!(refused.contains("manifest.json"), "{refused}");
    moto.way.heal();
    let server = database.start();
    let client = server.connect().await;
    assert_eq!(whole(&client).await, 90);
    assert_eq!(outcome(&client, "CHECKPOINT").await, "OK");
    assert_eq!(whole(&client).await, 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_s3_does_not_take_have_bounded_memory() {
    let (moto, mut database) = on_s3().await;
    let limit = ("ASOFDB_MEMORY_LIMIT".to_owned(), "64MiB".to_owned());
    database.environment.push(limit);
    let server = database.start_with([OFTEN]);
    let client = server.connect().await;
    moto.way.rule(|_| Some(Fault::Cut));
    let mut rows = 0;
    let refused = loop {
        let lines = (rows..rows + 100_000)
            .map(|id| format!("{id}\t{}\t0.5\t2025-03-01 12:00:00Z\n", id % 3));
        match copy(&client, lines.collect()).await {
            Ok(count) => rows += count as i64,
            Err(error) => break code(Err::<(), _>(error)),
        }
        assert!(rows < 10_000_000, "{rows} rows are in memory");
    };
    assert_eq!(refused, "53200");
    assert!(rows >= 500_000, "no more than {rows} rows were taken");
    assert_eq!(count(&client, "SELECT sum(n)::BIGINT FROM things").await, rows);
    moto.way.heal();
    assert_eq!(outcome(&client, "CHECKPOINT").await, "OK");
    insert(&client, rows..rows + 30).await;
    assert_eq!(count(&client, "SELECT count(*) FROM events").await, rows + 30);
    assert_eq!(count(&client, "SELECT sum(n)::BIGINT FROM things").await, rows + 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_that_hangs_is_given_up() {
    let (moto, mut database) = on_s3().await;
    database.environment.push(("AWS_TIMEOUT".to_owned(), "1 seconds".to_owned()));
    let server = database.start();
    let (client, reader) = (server.connect().await, server.connect().await);
    insert(&client, 0..30).await;
    assert_eq!(outcome(&client, "CHECKPOINT").await, "OK");
    insert(&client, 30..60).await;
    moto.way.rule(|_| Some(Fault::Slow(BOUND)));
    let both = tokio::join!(outcome(&reader, SCAN), outcome(&client, "CHECKPOINT"));
    assert_eq!(both, ("58030".to_owned(), "58030".to_owned()));
    insert(&client, 60..90).await;
    moto.way.heal();
    assert_eq!(whole(&client).await, 90);
    assert_eq!(outcome(&client, "CHECKPOINT").await, "OK");
    assert_eq!(whole(&client).await, 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_answers_are_right_and_nobody_has_to_wait_for_them() {
    let (moto, mut database) = on_s3().await;
    database.environment.push(("ASOFDB_MAX_CONNECTIONS".to_owned(), "2".to_owned()));
    let server = database.start();
    let client = server.connect().await;
    insert(&client, 0..30).await;
    assert_eq!(outcome(&client, "CHECKPOINT").await, "OK");
    moto.way.rule(|_| Some(Fault::Slow(Duration::from_millis(25))));
    assert_eq!(count(&client, SCAN).await, 30);
    assert_eq!(outcome(&client, "VACUUM").await, "OK");
    assert_eq!(whole(&client).await, 30);

    moto.way.rule(|_| Some(Fault::Slow(Duration::from_secs(20))));
    let cancel = client.cancel_token();
    let begun = Instant::now();
    let (result, cancelled) = tokio::join!(client.simple_query(SCAN), async {
        sleep(Duration::from_millis(300)).await;
        cancel.cancel_query(NoTls).await
    });
    cancelled.unwrap();
    assert_eq!(code(result), "57014");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());

    // A client that leaves makes room for another.
    let (leaving, connection) = server.session().await.unwrap();
    let read = tokio::spawn(async move { leaving.simple_query(SCAN).await.map(drop) });
    sleep(Duration::from_millis(300)).await;
    assert_eq!(code(server.try_connect().await), "53300");
    connection.abort();
    assert!(read.await.unwrap().is_err(), "its connection is gone");
    let left = Instant::now();
    while server.try_connect().await.is_err() {
        assert!(left.elapsed() < SOON, "the statement of a client that left goes on");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_which_nobody_learnt_that_it_took_effect_moves_its_rows_once() {
    let (moto, database) = on_s3().await;
    let server = database.start();
    let client = server.connect().await;
    let mut rows = 0..10;
    // The second manifest of `VACUUM` is that of the merge.
    for (statement, manifest) in [("CHECKPOINT", 1), ("CHECKPOINT", 1), ("VACUUM", 2)] {
        insert(&client, rows.clone()).await;
        let mut manifests = 0;
        moto.way.rule(move |request| {
            if manifests == manifest {
                return Some(Fault::Cut);
            }
            manifests += u32::from(replaces_manifest(request));
            (manifests == manifest).then_some(Fault::LoseAnswer)
        });
        assert_eq!(outcome(&client, statement).await, "58030", "{statement}");
        let present = rows.end;
        rows = present..present + 10;
        insert(&client, rows.clone()).await;
        moto.way.heal();
        assert_eq!(whole(&client).await, rows.end);
        assert_eq!(outcome(&client, "CHECKPOINT").await, "OK");
        assert_eq!(whole(&client).await, rows.end);
        assert_eq!(outcome(&client, statement).await, "OK");
        assert_eq!(whole(&client).await, rows.end);
        rows = rows.end..rows.end + 10;
    }
    drop(server);
    let server = database.start();
    assert_eq!(whole(&server.connect().await).await, rows.start);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_with_one_history_the_later_writer_is_refused() {
    let (_moto, database) = on_s3().await;
    let server = database.start();
    let client = server.connect().await;
    insert(&client, 0..30).await;
    assert_eq!(outcome(&client, "CHECKPOINT").await, "OK");
    insert(&client, 30..40).await;
    drop(server);
    let copy = database.copy();

    let (server, second) = (database.start(), copy.start());
    let (client, second) = (server.connect().await, second.connect().await);
    insert(&client, 40..50).await;
    assert_eq!(outcome(&client, "CHECKPOINT").await, "OK");
    insert(&second, 100..107).await;
    for statement in ["CHECKPOINT", "VACUUM", "CHECKPOINT"] {
        assert_eq!(outcome(&second, statement).await, "55006", "{statement}");
        assert_eq!(whole(&second).await, 47, "it has what it had");
    }
    assert_eq!(outcome(&client, "VACUUM").await, "OK");
    assert_eq!(whole(&client).await, 50, "nothing of the second");
    drop(server);
    let server = database.start();
    assert_eq!(whole(&server.connect().await).await, 50);
}
