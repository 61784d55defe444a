//! The online store in a Redis whose master is chosen by sentinels.

use std::collections::HashMap;
use std::time::Duration;

use asofdb_storage::Error;
use asofdb_storage::online::{OnlineStore, Redis, replay};

use crate::conformance::test_cell::TestCell;
use crate::conformance::{self, ALL, ask, event, live, ready, sum};
use crate::redis_faults::{open, open_reader, options, writer};
use crate::redis_server::RedisServer;
use crate::redis_writers::{RULES, in_step, replicated};

type Store = Redis<TestCell>;

/// A sentinel's configuration. It does not take a server that is slow for one that is down.
fn lines(master: &RedisServer, quorum: usize) -> String {
    format!(
        "sentinel monitor main 127.0.0.1 {} {quorum}\n\
         sentinel config-epoch main 1\n\
         sentinel down-after-milliseconds main 60000\n\
         sentinel failover-timeout main 2000\n",
        master.port
    )
}

/// Sentinels that know each other and the master's one replica.
fn sentinels(master: &RedisServer, count: usize, quorum: usize) -> Vec<RedisServer> {
    let start = |_| RedisServer::sentinel(&lines(master, quorum));
    let sentinels: Vec<RedisServer> = (0..count).map(start).collect();
    let known = format!(",slaves=1,sentinels={count}");
    let knows_all = |sentinel: &RedisServer| {
        let mut replicas = redis::cmd("SENTINEL");
        let replicas: Vec<HashMap<String, String>> =
            replicas.arg("REPLICAS").arg("main").query(&mut sentinel.client()).unwrap();
        sentinel.info_text("master0").ends_with(&known)
            && replicas.iter().all(|replica| replica["master-link-status"] == "ok")
    };
    while !sentinels.iter().all(knows_all) {
        std::thread::sleep(Duration::from_millis(20));
    }
    sentinels
}

fn tell_all(sentinels: &[RedisServer], words: &[&str]) {
    for sentinel in sentinels {
        sentinel.command(words);
    }
}

fn url(sentinels: &[&RedisServer]) -> String {
    let hosts: Vec<_> = sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
    format!("redis+sentinel://{}/main", hosts.join(","))
}

/// A section of INFO. Sentinels that make a server a replica close all connections to it.
fn info(server: &RedisServer, section: &str) -> String {
    let client = redis::Client::open(server.url()).unwrap();
    for _ in 0..100 {
        let query = |mut client| redis::cmd("INFO").arg(section).query(&mut client);
        if let Ok(text) = client.get_connection().and_then(query) {
            return text;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the server at port {} does not answer", server.port);
}

/// Makes a call until there is a master again, for half a minute at least.
async fn in_the_end<T>(call: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 0..80 {
        match call().await {
            Err(Error::StoreUnavailable { .. }) => {}
            answer => return answer,
        }
    }
    call().await
}

/// Replays what the store lacks below `end`, an event of 1 at each position.
async fn catch_up(store: &Store, end: u64) {
    for part in replay(&store.coverage(1).await.unwrap(), end) {
        let events: Vec<_> = part.clone().map(|p| event(b"k", 1, p, 1)).collect();
        live(store, 1, (part.start, part.end), &events).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_follows_the_master_and_the_old_one_returns_as_a_replica() {
    let (mut old, new) = replicated();
    let sentinels = sentinels(&old, 3, 2);
    let url = url(&sentinels.iter().collect::<Vec<_>>());
    let store = open(url.clone()).await;
    ready(&store, 1, 1).await;
    for p in 1..20 {
        live(&store, 1, (p, p + 1), &[event(b"k", 1, p, 1)]).await.unwrap();
    }
    in_step(&old, &new);
    // From here on it lags.
    new.command(&["REPLICAOF", "NO", "ONE"]);
    for p in 20..30 {
        live(&store, 1, (p, p + 1), &[event(b"k", 1, p, 1)]).await.unwrap();
    }
    old.kill();
    tell_all(&sentinels, &["SENTINEL", "SET", "main", "down-after-milliseconds", "1000"]);
    let behind = in_the_end(async || ask(&store, 1, &[b"k"], ALL).await).await;
    tell_all(&sentinels, &["SENTINEL", "SET", "main", "down-after-milliseconds", "60000"]);
    assert!(matches!(behind, Err(Error::StateBehind { position: 20, seen: 30, .. })), "{behind:?}");
    for _ in 0..2 {
        let gap = live(&store, 1, (30, 31), &[event(b"k", 1, 30, 1)]).await;
        assert!(matches!(gap, Err(Error::StateGap { position: ..=20, .. })), "{gap:?}");
    }
    catch_up(&store, 31).await;
    assert_eq!(sum(&store, 1, b"k").await, Some(30));

    // It thinks that it is a master still, until the sentinels tell it, after four such periods.
    let periods = ["publish-period", "500", "info-period", "500"];
    tell_all(&sentinels, &[&["SENTINEL", "DEBUG"], &periods[..]].concat());
    old.start_again();
    let mut p = 31;
    while info(&old, "replication").contains("role:master") {
        live(&store, 1, (p, p + 1), &[event(b"k", 1, p, 1)]).await.unwrap();
        assert_eq!(sum(&open_reader(url.clone()).await, 1, b"k").await, Some(p));
        p += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(p > 31, "the old master was a master for a while");
    assert_eq!(sum(&store, 1, b"k").await, Some(p - 1));
    let calls = info(&old, "commandstats");
    let called = calls.contains("cmdstat_eval") || calls.contains("cmdstat_hmget");
    assert!(!called, "the old master was not called: {calls}");
    let replication = info(&old, "replication");
    assert!(replication.contains(&format!("master_port:{}\r", new.port)), "{replication}");
}

/// How often a server was written to and read, also by scripts.
fn calls_of(server: &RedisServer) -> [String; 2] {
    ["cmdstat_evalsha", "cmdstat_hmget"].map(|name| server.info_text(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_lives_on_is_left_for_the_new_one() {
    let (old, new) = replicated();
    let sentinels = sentinels(&old, 1, 1);
    let store = open(url(&[&sentinels[0]])).await;
    ready(&store, 1, 1).await;
    in_step(&old, &new);
    // The sentinel cannot make it a replica: it takes all calls, forever.
    old.command(&["ACL", "SETUSER", "default", "-replicaof", "-slaveof"]);
    sentinels[0].command(&["SENTINEL", "FAILOVER", "main"]);
    let mut p = 1;
    loop {
        let calls = calls_of(&old);
        match live(&store, 1, (p, p + 1), &[event(b"k", 1, p, 1)]).await {
            Err(Error::StateGap { .. }) => catch_up(&store, p + 1).await,
            written => written.unwrap(),
        }
        let read = ask(&store, 1, &[b"k"], ALL).await;
        if calls_of(&old) == calls {
            assert_eq!(read.unwrap(), [Some(p)]);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        p += 1;
        assert!(p < 3000, "the old master is still called");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_as_a_user_of_the_servers_whom_the_sentinels_do_not_know() {
    let (master, _replica) = replicated();
    let sentinels = sentinels(&master, 1, 1);
    let mut words = vec!["ACL", "SETUSER", "asof", "on", ">secret", "+select"];
    words.splice(5..5, RULES.split_whitespace());
    master.command(&words);
    let url = url(&[&sentinels[0]]).replace("://", "://asof:secret@") + "/1";
    conformance::run(async || {
        master.command(&["FLUSHALL"]);
        open(url.clone()).await
    })
    .await;
    assert!(master.info_text("db1").starts_with("keys="));
    let wrong = url.replace("secret", "other");
    let refused = Store::open_writer(&options(wrong), &writer("a")).await;
    assert!(matches!(refused, Err(Error::StoreDenied { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_that_are_of_no_use_are_passed_over_and_told() {
    let (master, replica) = replicated();
    let good = &sentinels(&master, 1, 1)[0];
    let closed = &RedisServer::sentinel(&(lines(&master, 1) + "requirepass secret\n"));
    let gone = &mut RedisServer::start();
    gone.kill();
    let gone = &*gone;
    for (bad, why) in [(gone, "refused"), (&master, "unknown command"), (closed, "NOAUTH")] {
        let reason = no_master(url(&[bad, gone])).await;
        assert!(reason.contains(why), "{reason}");
        for sentinel in [bad, gone] {
            assert!(
                reason.contains(&format!("sentinel 127.0.0.1:{}: ", sentinel.port)),
                "{reason}"
            );
        }
        open(url(&[bad, good])).await.release().await.unwrap();
    }
    let reason = no_master(url(&[good]).replace("/main", "/other")).await;
    assert!(reason.contains("No such master"), "{reason}");
    let wrong = &RedisServer::sentinel(&lines(&replica, 1));
    let reason = no_master(url(&[wrong])).await;
    assert!(reason.contains(&format!("127.0.0.1:{} is no master", replica.port)), "{reason}");

    // One that did not hear of the last failover, and the master of before it.
    let before = RedisServer::start();
    let late = lines(&before, 1).replace("config-epoch main 1", "config-epoch main 0");
    let late = &RedisServer::sentinel(&late);
    for sentinels in [[late, good], [good, late]] {
        open(url(&sentinels)).await.release().await.unwrap();
        let keys: u64 = redis::cmd("DBSIZE").query(&mut before.client()).unwrap();
        assert_eq!(keys, 0);
    }
}

/// Why there is no store behind a URL.
async fn no_master(url: String) -> String {
    match Store::open_writer(&options(url), &writer("a")).await {
        Err(Error::StoreUnavailable { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nobody_would_tell_of_another_master_sentinels_are_asked_again() {
    let (master, _replica) = replicated();
    let mut sentinels = sentinels(&master, 2, 1);
    let store = open(url(&[&sentinels[0], &sentinels[1]])).await;
    let made = store.connections();
    sentinels[0].kill();
    for _ in 0..20 {
        store.renew().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.connections(), made, "one of the two would tell");
    sentinels[0].start_again();
    sentinels[1].kill();
    for _ in 0..3000 {
        store.renew().await.unwrap();
        if store.connections() > made {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody was asked");
}
