//! `SIGTERM` under load, also while Redis hangs or is gone.

use std::time::Duration;

use asofdb_tests::database::{CLIENTS, Database, end, seeded};
use asofdb_tests::redis::RedisServer;
use tokio_postgres::error::SqlState;

use crate::{PATIENCE, PROGRAM};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_ends_in_time_and_loses_nothing() {
    stop_under_load(None, |_| (), |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_while_redis_hangs() {
    // What was asked of it before the stop takes effect when it goes on.
    let hang = |redis: &mut RedisServer| redis.hang().expect("it hangs");
    let go_on = |redis: &mut RedisServer| redis.go_on().expect("it goes on");
    stop_under_load(Some(redis()), hang, go_on).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_while_redis_is_gone() {
    let again = |redis: &mut RedisServer| redis.restart().expect("redis-server runs again");
    stop_under_load(Some(redis()), RedisServer::kill, again).await;
}

fn redis() -> RedisServer {
    RedisServer::start().expect("redis-server runs")
}

/// Stops a server whose clients insert, copy and so on, after `fault` was done to its Redis,
/// and starts it again after `recover`.
async fn stop_under_load(
    redis: Option<RedisServer>,
    fault: impl FnOnce(&mut RedisServer),
    recover: impl FnOnce(&mut RedisServer),
) {
    let mut rng = seeded();
    let mut redis = redis;
    let online = redis.iter().map(|redis| ("ASOFDB_ONLINE".to_owned(), redis.url())).collect();
    let database = Database::new(PROGRAM, online).await;
    let mut server = database.start();
    let (_idle, idle_end) = server.session().await.expect("connects");
    let work = database.work(&server, &mut rng).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    if let Some(redis) = &mut redis {
        fault(redis);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    server.signal("TERM").expect("a signal");
    let status = server.ended(PATIENCE).await.expect("it ends in time");
    let log = server.log();
    assert!(status.success() && !log.contains("panicked"), "{status}: {log}");
    end(work).await;
    let told = idle_end.await.expect("no panic").expect_err("it is told");
    assert_eq!(told.code(), Some(&SqlState::ADMIN_SHUTDOWN));
    {
        let ledger = database.ledger.lock().expect("no panic");
        assert!(!ledger.acknowledged.is_empty(), "nothing was acknowledged");
        // A client's library may lose what the server says while nothing is asked.
        let told = ledger.refusals.iter().filter(|code| **code == SqlState::ADMIN_SHUTDOWN).count();
        let refused = |code: &&SqlState| {
            **code != SqlState::ADMIN_SHUTDOWN && **code != SqlState::CANNOT_CONNECT_NOW
        };
        assert_eq!(ledger.refusals.iter().find(refused), None);
        assert!(told > CLIENTS / 2, "{told} of {CLIENTS} were told");
    }
    if let Some(redis) = &mut redis {
        recover(redis);
    }
    let (rows, _) = database.check(&database.start()).await;
    println!("{rows} rows are there once");
}
