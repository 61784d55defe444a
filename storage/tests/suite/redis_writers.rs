//! Who may write to Redis, and what a Redis has to be like.

use std::sync::Arc;
use std::time::Duration;

use asofdb_storage::Error;
use asofdb_storage::online::{Coverage, Lane, OnlineStore, Redis, RedisOptions, Writer, replay};

use crate::conformance::test_cell::TestCell;
use crate::conformance::{ALL, ask, event, live, ready, sum};
use crate::redis_faults::{open, options, writer};
use crate::redis_server::{Proxy, RedisServer};

type Store = Redis<TestCell>;

/// The commands that an ACL user needs, on the keys and with the prefix that it is given.
pub const RULES: &str = "~asofdb:* -@all +evalsha +eval +hget +hmget +hset +hdel +hlen +hscan +unlink \
                     +smembers +sadd +srem +time +info";

fn short_lease(holder: &str) -> Writer {
    Writer { lease: Duration::from_millis(300), ..writer(holder) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_is_refused_while_the_lease_lives() {
    let server = RedisServer::start();
    let first = Store::open_writer(&options(server.url()), &short_lease("first")).await.unwrap();
    first.renew().await.unwrap();
    let second = Store::open_writer(&options(server.url()), &short_lease("second")).await;
    match second {
        Err(Error::WriterLeased { holder, left_ms, .. }) => {
            assert_eq!(holder, "first");
            assert!(left_ms <= 300);
        }
        other => panic!("{other:?}"),
    }
    // The same server, restarted, need not wait.
    let again = Store::open_writer(&options(server.url()), &short_lease("first")).await.unwrap();
    assert!(matches!(first.renew().await, Err(Error::StateFenced { .. })));
    again.release().await.unwrap();
    let second = Store::open_writer(&options(server.url()), &short_lease("second")).await.unwrap();
    assert_eq!(second.epoch(), Some(3));
    tokio::time::sleep(Duration::from_millis(350)).await;
    Store::open_writer(&options(server.url()), &short_lease("third")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_replaced_changes_nothing() {
    let server = RedisServer::start();
    let old = Store::open_writer(&options(server.url()), &short_lease("old")).await.unwrap();
    ready(&old, 1, 1).await;
    live(&old, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(350)).await;

    let new = Store::open_writer(&options(server.url()), &short_lease("new")).await.unwrap();
    let fenced = |result: Result<(), Error>| {
        assert!(
            matches!(result, Err(Error::StateFenced { epoch: 1, present: 2, .. })),
            "{result:?}"
        );
    };
    fenced(live(&old, 1, (2, 3), &[event(b"k", 1, 2, 100)]).await);
    fenced(old.begin_fill(1, &[0, 1, 2, 3, 4, 5, 6, 7], 9).await);
    fenced(old.coverage(1).await.map(drop));
    fenced(old.settle(1).await);
    fenced(old.renew().await);
    fenced(old.release().await);
    fenced(old.finish_fill(1).await.and(Err(Error::StateFenced {
        prefix: String::new(),
        epoch: 1,
        present: 2,
    })));
    fenced(old.drop_space(1).await);

    new.create_space(1, Arc::default()).await.unwrap();
    assert_eq!(new.stored_spaces().await.unwrap(), [1]);
    let coverage = new.coverage(1).await.unwrap();
    assert!(coverage.iter().all(|shard| matches!(shard, Coverage::Ready { position: 1 | 2 })));
    live(&new, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    live(&new, 1, (2, 3), &[event(b"k", 1, 2, 2)]).await.unwrap();
    assert_eq!(sum(&new, 1, b"k").await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_before_a_takeover_is_not_written_until_it_is_taken_over_again() {
    let mut server = RedisServer::start();
    let old = Store::open_writer(&options(server.url()), &short_lease("old")).await.unwrap();
    ready(&old, 1, 1).await;
    live(&old, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    old.settle(1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(350)).await;
    server.command(&["SAVE"]);
    let new = Store::open_writer(&options(server.url()), &writer("new")).await.unwrap();
    new.create_space(1, Arc::default()).await.unwrap();
    new.coverage(1).await.unwrap();
    server.kill();
    server.start_again();
    // No event is missing, but the shards do not know of the new writer.
    let stale = live(&new, 1, (2, 3), &[event(b"k", 1, 2, 2)]).await;
    assert!(matches!(stale, Err(Error::StateGap { .. })), "{stale:?}");
    new.coverage(1).await.unwrap();
    let late = live(&old, 1, (2, 3), &[event(b"k", 1, 2, 100)]).await;
    assert!(matches!(late, Err(Error::StateFenced { epoch: 1, present: 2, .. })), "{late:?}");
    live(&new, 1, (2, 3), &[event(b"k", 1, 2, 2)]).await.unwrap();
    assert_eq!(sum(&new, 1, b"k").await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_before_a_flush_does_not_come_back() {
    let server = RedisServer::start();
    let old = Store::open_writer(&options(server.url()), &short_lease("old")).await.unwrap();
    ready(&old, 1, 1).await;
    server.command(&["FLUSHALL"]);
    let new = Store::open_writer(&options(server.url()), &writer("new")).await.unwrap();
    assert_eq!(new.epoch(), Some(1));
    ready(&new, 1, 1).await;
    live(&new, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    let late = live(&old, 1, (1, 2), &[event(b"k", 1, 1, 100)]).await;
    assert!(matches!(late, Err(Error::StateLost { .. })), "{late:?}");
    let late = old.begin_fill(1, &[0, 1, 2, 3, 4, 5, 6, 7], 9).await;
    assert!(matches!(late, Err(Error::StateFenced { .. })), "{late:?}");
    assert_eq!(sum(&new, 1, b"k").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_and_other_shards_are_refused() {
    let server = RedisServer::start();
    open(server.url()).await.release().await.unwrap();
    let other = Writer { database: "db-2".to_owned(), ..writer("b") };
    let refused = Store::open_writer(&options(server.url()), &other).await.unwrap_err();
    assert!(matches!(refused, Error::ForeignState { what: "database", .. }), "{refused}");
    let refused = Store::open_reader(&options(server.url()), "db-2").await.unwrap_err();
    assert!(matches!(refused, Error::ForeignState { what: "database", .. }), "{refused}");
    let more = RedisOptions { shards: 16, ..options(server.url()) };
    let refused = Store::open_writer(&more, &writer("a")).await.unwrap_err();
    assert!(matches!(refused, Error::ForeignState { what: "shards", .. }), "{refused}");
    let elsewhere = RedisOptions { prefix: "other".to_owned(), ..options(server.url()) };
    Store::open_writer(&elsewhere, &other).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_does_not_write() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    let reader = Store::open_reader(&options(server.url()), "db-1").await.unwrap();
    reader.create_space(1, Arc::default()).await.unwrap();
    assert_eq!(reader.coverage(1).await.unwrap(), [Coverage::Ready { position: 1 }; 8]);
    let refused = live(&reader, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await;
    assert!(refused.is_err());
    assert!(matches!(reader.begin_fill(1, &[0], 1).await, Err(Error::StoreReadOnly)));
    assert!(matches!(reader.renew().await, Err(Error::StoreReadOnly)));
    reader.drop_space(1).await.unwrap();
    assert_eq!(store.len(1).await.unwrap(), 0, "a reader forgets a space for itself only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_is_behind_when_it_is_promoted() {
    let (primary, replica) = replicated();
    let proxy = Proxy::to(primary.port);
    let store = open(proxy.url()).await;
    ready(&store, 1, 1).await;
    for p in 1..20 {
        live(&store, 1, (p, p + 1), &[event(b"k", 1, p, 1)]).await.unwrap();
    }
    in_step(&primary, &replica);
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    for p in 20..30 {
        live(&store, 1, (p, p + 1), &[event(b"k", 1, p, 1)]).await.unwrap();
    }
    proxy.lead_to(replica.port);
    drop(primary);

    let behind = ask(&store, 1, &[b"k"], ALL).await;
    assert!(matches!(behind, Err(Error::StateBehind { position: 20, seen: 30, .. })), "{behind:?}");
    for _ in 0..2 {
        let gap = live(&store, 1, (30, 31), &[event(b"k", 1, 30, 1)]).await;
        assert!(matches!(gap, Err(Error::StateGap { position: ..=20, .. })), "{gap:?}");
    }
    for part in replay(&store.coverage(1).await.unwrap(), 31) {
        let events: Vec<_> = part.clone().map(|p| event(b"k", 1, p, 1)).collect();
        live(&store, 1, (part.start, part.end), &events).await.unwrap();
    }
    assert_eq!(sum(&store, 1, b"k").await, Some(30));
}

/// A primary and its replica, in step.
pub fn replicated() -> (RedisServer, RedisServer) {
    let (primary, replica) = (RedisServer::start(), RedisServer::start());
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
    while replica.info_text("master_link_status") != "up" {
        std::thread::sleep(Duration::from_millis(10));
    }
    (primary, replica)
}

/// Waits until the replica has what the primary has.
pub fn in_step(primary: &RedisServer, replica: &RedisServer) {
    let offset = primary.info("master_repl_offset");
    while replica.info("slave_repl_offset") < offset {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_for_the_new_primary() {
    let (primary, replica) = replicated();
    let refused = Store::open_writer(&options(replica.url()), &writer("a")).await.unwrap_err();
    assert!(
        matches!(&refused, Error::StoreUnavailable { reason } if reason.contains("READONLY")),
        "{refused}"
    );
    let proxy = Proxy::to(primary.port);
    let store = open(proxy.url()).await;
    ready(&store, 1, 1).await;
    live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    in_step(&primary, &replica);
    // The two change places; the store's connection stays with the one that it knows.
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    primary.command(&["REPLICAOF", "127.0.0.1", &replica.port.to_string()]);
    let batch = [event(b"k", 1, 2, 2)];
    let write = live(&store, 1, (2, 3), &batch);
    let fail_over = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        proxy.lead_to(replica.port);
    };
    let (written, ()) = futures::join!(write, fail_over);
    written.unwrap();
    assert_eq!(sum(&store, 1, b"k").await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_memory_holds_writes_back_until_it_has_some() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = live(&store, 1, (2, 3), &[event(b"k", 1, 2, 2)]).await;
    assert!(
        matches!(&full, Err(Error::StoreRefusesWrites { code, .. }) if code == "OOM"),
        "{full:?}"
    );
    assert_eq!(sum(&store, 1, b"k").await, Some(1), "reads go on");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    live(&store, 1, (2, 3), &[event(b"k", 1, 2, 2)]).await.unwrap();
    assert_eq!(sum(&store, 1, b"k").await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_persist_holds_writes_back() {
    let server = RedisServer::with(&["--save", "3600 100000", "--appendonly", "no"]);
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    // A folder in the place of the file cannot be replaced by it.
    std::fs::create_dir(server.dir().join("dump.rdb")).unwrap();
    std::fs::write(server.dir().join("dump.rdb/file"), b"").unwrap();
    server.command(&["BGSAVE"]);
    let refused = loop {
        match store.renew().await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&refused, Error::StoreRefusesWrites { code, .. } if code == "MISCONF"),
        "{refused}"
    );
    let refused = live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap_err();
    assert!(
        matches!(&refused, Error::StoreRefusesWrites { code, .. } if code == "MISCONF"),
        "{refused}"
    );
    server.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    assert_eq!(sum(&store, 1, b"k").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_replicas_hold_writes_back() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let refused = live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap_err();
    assert!(
        matches!(&refused, Error::StoreRefusesWrites { code, .. } if code == "NOREPLICAS"),
        "{refused}"
    );
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_is_refused() {
    let server = RedisServer::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let refused = Store::open_writer(&options(server.url()), &writer("a")).await.unwrap_err();
    assert!(
        matches!(&refused, Error::StoreEvicts { policy } if policy == "allkeys-lru"),
        "{refused}"
    );
    assert!(refused.to_string().contains("CONFIG SET maxmemory-policy noeviction"), "{refused}");
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    open(server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_commands_is_enough_and_its_password_is_not_told() {
    let server = RedisServer::start();
    let mut words = vec!["ACL", "SETUSER", "asof", "on", ">canary-7Q"];
    words.extend(RULES.split_whitespace());
    server.command(&words);
    server.command(&["CONFIG", "SET", "requirepass", "other"]);

    let url = |user: &str| format!("redis://{user}127.0.0.1:{}/", server.port);
    for user in ["asof:canary-7Q-wrong@", "canary-7Q:x@", ""] {
        let refused = Store::open_writer(&options(url(user)), &writer("a")).await.unwrap_err();
        assert!(matches!(refused, Error::StoreDenied { .. }), "{refused:?}");
        assert!(!format!("{refused} {refused:?}").contains("canary-7Q"), "{refused:?}");
    }
    let store = open(url("asof:canary-7Q@")).await;
    assert!(!format!("{store:?} {:?}", options(url("asof:canary-7Q@"))).contains("canary"));
    ready(&store, 1, 1).await;
    for p in 1..40 {
        live(&store, 1, (p, p + 1), &[event(b"k", 1, p, 1)]).await.unwrap();
    }
    store.settle(1).await.unwrap();
    store.keys(1, &mut |_| {}).await.unwrap();
    assert_eq!(store.len(1).await.unwrap(), 1);
    assert_eq!(ask(&store, 1, &[b"k"], ALL).await.unwrap(), [Some(39)]);
    store.drop_space(1).await.unwrap();
    store.release().await.unwrap();
    let elsewhere = RedisOptions { prefix: "other".to_owned(), ..options(url("asof:canary-7Q@")) };
    let refused = Store::open_writer(&elsewhere, &writer("a")).await.unwrap_err();
    assert!(matches!(&refused, Error::StoreDenied { code, .. } if code == "NOPERM"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_was_interrupted_begins_again() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    store.create_space(1, Arc::default()).await.unwrap();
    store.begin_fill(1, &[0, 1, 2, 3, 4, 5, 6, 7], 10).await.unwrap();
    store.apply(1, Lane::Fill { sequence: 0 }, &[event(b"k", 1, 1, 1)]).await.unwrap();
    drop(store);
    let store = open(server.url()).await;
    store.create_space(1, Arc::default()).await.unwrap();
    assert_eq!(store.coverage(1).await.unwrap(), [Coverage::Filling { position: 10 }; 8]);
    store.begin_fill(1, &[0, 1, 2, 3, 4, 5, 6, 7], 10).await.unwrap();
    store.apply(1, Lane::Fill { sequence: 0 }, &[event(b"k", 1, 1, 1)]).await.unwrap();
    store.finish_fill(1).await.unwrap();
    assert_eq!(sum(&store, 1, b"k").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_a_new_generation_but_believes_no_foreign_shard() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    let reader = Store::open_reader(&options(server.url()), "db-1").await.unwrap();
    reader.create_space(1, Arc::default()).await.unwrap();
    live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    assert_eq!(sum(&reader, 1, b"k").await, Some(1));
    let names: Vec<String> = (0..8).map(|shard| format!("asofdb:{{1.{shard}}}:c")).collect();
    let dump = |name: &String| -> Vec<u8> {
        redis::cmd("DUMP").arg(name).query(&mut server.client()).unwrap()
    };
    let dumps: Vec<Vec<u8>> = names.iter().map(dump).collect();

    server.command(&["FLUSHALL"]);
    drop(store);
    let store = open(server.url()).await;
    ready(&store, 1, 2).await;
    live(&store, 1, (2, 3), &[event(b"k", 1, 2, 2)]).await.unwrap();
    assert_eq!(sum(&reader, 1, b"k").await, Some(2));

    // Shards of the generation before, copied back by hand.
    for (name, dump) in names.iter().zip(dumps) {
        let mut restore = redis::cmd("RESTORE");
        restore.arg(name).arg(0).arg(dump).arg("REPLACE").exec(&mut server.client()).unwrap();
    }
    for store in [&store, &reader] {
        let foreign = ask(store, 1, &[b"k"], ALL).await;
        assert!(matches!(foreign, Err(Error::StateLost { .. })), "{foreign:?}");
        assert_eq!(store.coverage(1).await.unwrap(), [Coverage::Lost; 8]);
    }
    let foreign = live(&store, 1, (3, 4), &[event(b"k", 1, 3, 4)]).await;
    assert!(matches!(foreign, Err(Error::StateLost { .. })), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_that_nobody_knows_are_found_and_dropped() {
    let server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 3, 1).await;
    ready(&store, 70_000, 1).await;
    let events: Vec<_> = (1..50).map(|p| event(b"k", p, p as u64, 1)).collect();
    live(&store, 3, (1, 50), &events).await.unwrap();
    drop(store);
    let store = open(server.url()).await;
    assert_eq!(store.stored_spaces().await.unwrap(), [3, 70_000]);
    store.drop_space(3).await.unwrap();
    assert_eq!(store.stored_spaces().await.unwrap(), [70_000]);
    store.drop_space(70_000).await.unwrap();
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.client()).unwrap();
    assert_eq!(left, ["asofdb:{database}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_one_server_are_apart() {
    let server = RedisServer::start();
    let first = open(format!("{}1", server.url())).await;
    let second = open(format!("{}2", server.url())).await;
    for (store, amount) in [(&first, 1), (&second, 2)] {
        ready(store, 1, 1).await;
        live(store, 1, (1, 2), &[event(b"k", 1, 1, amount)]).await.unwrap();
    }
    let zeroth = Store::open_reader(&options(server.url()), "db-1").await.unwrap();
    zeroth.create_space(1, Arc::default()).await.unwrap();
    assert!(matches!(ask(&zeroth, 1, &[b"k"], ALL).await, Err(Error::StateLost { .. })));
    assert_eq!(sum(&first, 1, b"k").await, Some(1));
    assert_eq!(sum(&second, 1, b"k").await, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_was_finished_and_comes_back_unfinished_is_noticed() {
    let mut server = RedisServer::start();
    let store = open(server.url()).await;
    store.create_space(1, Arc::default()).await.unwrap();
    store.begin_fill(1, &[0, 1, 2, 3, 4, 5, 6, 7], 10).await.unwrap();
    server.command(&["SAVE"]);
    let filled: Vec<_> = (0..40u8).map(|key| event(&[key], 1, 1, 1)).collect();
    store.apply(1, Lane::Fill { sequence: 0 }, &filled).await.unwrap();
    store.finish_fill(1).await.unwrap();
    server.kill();
    server.start_again();
    // No live event is missing, but all that was filled in is.
    let refused = ask(&store, 1, &[&[1]], ALL).await;
    assert!(matches!(refused, Err(Error::StateNotReady { .. })), "{refused:?}");
    let refused = live(&store, 1, (10, 11), &[event(&[1], 1, 10, 2)]).await;
    assert!(matches!(refused, Err(Error::StateLost { .. })), "{refused:?}");
    store.begin_fill(1, &[0, 1, 2, 3, 4, 5, 6, 7], 11).await.unwrap();
    let all: Vec<_> = filled.into_iter().chain([event(&[1], 1, 10, 2)]).collect();
    store.apply(1, Lane::Fill { sequence: 0 }, &all).await.unwrap();
    store.finish_fill(1).await.unwrap();
    assert_eq!(sum(&store, 1, &[1]).await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_lost_a_batch_is_not_finished() {
    let mut server = RedisServer::start();
    let store = open(server.url()).await;
    store.create_space(1, Arc::default()).await.unwrap();
    store.begin_fill(1, &[0, 1, 2, 3, 4, 5, 6, 7], 10).await.unwrap();
    store.apply(1, Lane::Fill { sequence: 0 }, &[event(b"k", 1, 1, 1)]).await.unwrap();
    server.command(&["SAVE"]);
    store.apply(1, Lane::Fill { sequence: 1 }, &[event(b"k", 1, 2, 2)]).await.unwrap();
    server.kill();
    server.start_again();
    let refused = store.finish_fill(1).await;
    assert!(matches!(refused, Err(Error::FillGap { next: 1, .. })), "{refused:?}");
    let unfinished = ask(&store, 1, &[b"k"], ALL).await;
    assert!(matches!(unfinished, Err(Error::StateNotReady { .. })), "{unfinished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn coverage_tells_of_an_older_state_before_a_write_does() {
    let mut server = RedisServer::start();
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    let log: Vec<_> = (1..41).map(|p| event(&[p as u8 % 5], 1, p, p)).collect();
    live(&store, 1, (1, 21), &log[..20]).await.unwrap();
    store.settle(1).await.unwrap();
    server.command(&["SAVE"]);
    live(&store, 1, (21, 41), &log[20..]).await.unwrap();
    assert_eq!(store.coverage(1).await.unwrap(), [Coverage::Ready { position: 41 }; 8]);
    server.kill();
    server.start_again();
    let parts = replay(&store.coverage(1).await.unwrap(), 41);
    assert_eq!(parts.first().map(|part| part.start), Some(21));
    for part in parts {
        let events = &log[part.start as usize - 1..part.end as usize - 1];
        live(&store, 1, (part.start, part.end), events).await.unwrap();
    }
    let keys: [&[u8]; 5] = [&[0], &[1], &[2], &[3], &[4]];
    let answers = ask(&store, 1, &keys, ALL).await.unwrap();
    assert_eq!(answers.into_iter().flatten().sum::<u64>(), (1..41).sum::<u64>());
}
