//! The online store in a Redis Cluster of three nodes.

use std::process::Command;
use std::time::Duration;

use asofdb_storage::Error;
use asofdb_storage::online::{Coverage, OnlineStore, Redis, RedisOptions};

use crate::conformance::test_cell::TestCell;
use crate::conformance::{self, ALL, ask, event, live, ready};
use crate::redis_faults::{options, writer};
use crate::redis_server::RedisServer;
use crate::redis_writers::RULES;

/// Three nodes that know each other.
fn cluster() -> Vec<RedisServer> {
    let node = || {
        let config = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--save", ""];
        RedisServer::with(&config)
    };
    let nodes = vec![node(), node(), node()];
    let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
    let created = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(addresses)
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    let ready = |node: &RedisServer| {
        format!("{:?}", node.command(&["CLUSTER", "INFO"])).contains("cluster_state:ok")
    };
    while !nodes.iter().all(ready) {
        std::thread::sleep(Duration::from_millis(50));
    }
    nodes
}

fn cluster_options(nodes: &[RedisServer]) -> RedisOptions {
    let hosts: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    options(format!("redis+cluster://{}", hosts.join(",")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_conforms_and_loses_a_nodes_shards_only() {
    let nodes = cluster();
    let open = async || {
        for node in &nodes {
            node.command(&["FLUSHALL"]);
        }
        Redis::<TestCell>::open_writer(&cluster_options(&nodes), &writer("a")).await.unwrap()
    };
    conformance::run(open).await;

    let store = open().await;
    ready(&store, 1, 1).await;
    let keys: Vec<[u8; 1]> = (0..100u8).map(|key| [key]).collect();
    let events: Vec<_> = keys.iter().map(|key| event(key, 1, 1, 1)).collect();
    live(&store, 1, (1, 2), &events).await.unwrap();
    for node in &nodes {
        let size: u64 = redis::cmd("DBSIZE").query(&mut node.client()).unwrap();
        assert!(size > 0, "every node has some of the shards");
    }
    nodes[1].command(&["FLUSHALL"]);
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 1]>::as_slice).collect();
    let lost = ask(&store, 1, &keys, ALL).await;
    assert!(matches!(lost, Err(Error::StateLost { .. })), "{lost:?}");
    let coverage = store.coverage(1).await.unwrap();
    let lost = coverage.iter().filter(|shard| **shard == Coverage::Lost).count();
    assert!(lost > 0 && lost < coverage.len(), "{coverage:?}");

    // A user with few commands, and a node that may evict.
    store.release().await.unwrap();
    let user = cluster_options(&nodes).url.replace("://", "://asof:secret@");
    for node in &nodes {
        let mut words = vec!["ACL", "SETUSER", "asof", "on", ">secret", "+cluster|slots"];
        words.splice(5..5, RULES.split_whitespace());
        node.command(&words);
    }
    let store = Redis::<TestCell>::open_writer(&options(user.clone()), &writer("b")).await.unwrap();
    ready(&store, 1, 1).await;
    live(&store, 1, (1, 2), &events).await.unwrap();
    store.release().await.unwrap();
    for node in &nodes {
        node.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
        let refused = Redis::<TestCell>::open_writer(&options(user.clone()), &writer("b")).await;
        assert!(matches!(refused, Err(Error::StoreEvicts { .. })), "{refused:?}");
        node.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    }
}

/// Moves everything that a node has to another one, key by key and slowly.
fn move_slots(from: u16, to: u16) {
    let connect = |port| {
        let url = format!("redis://127.0.0.1:{port}/");
        redis::Client::open(url).unwrap().get_connection().unwrap()
    };
    let (mut source, mut target) = (connect(from), connect(to));
    let id = |node: &mut redis::Connection| -> String {
        redis::cmd("CLUSTER").arg("MYID").query(node).unwrap()
    };
    let (source_id, target_id) = (id(&mut source), id(&mut target));
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut source).unwrap();
    let slot = |key: &String| -> u16 {
        redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut connect(from)).unwrap()
    };
    let slots: std::collections::BTreeSet<u16> = keys.iter().map(slot).collect();
    assert!(!slots.is_empty());
    for slot in slots {
        let set_slot = |node: &mut redis::Connection, state: &str, id: &str| {
            let mut command = redis::cmd("CLUSTER");
            command.arg("SETSLOT").arg(slot).arg(state).arg(id).exec(node).unwrap();
        };
        set_slot(&mut target, "IMPORTING", &source_id);
        set_slot(&mut source, "MIGRATING", &target_id);
        let mut in_slot = redis::cmd("CLUSTER");
        let keys: Vec<String> =
            in_slot.arg("GETKEYSINSLOT").arg(slot).arg(100).query(&mut source).unwrap();
        for key in keys {
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(to).arg(key).arg(0).arg(5000).exec(&mut source).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        set_slot(&mut target, "NODE", &target_id);
        set_slot(&mut source, "NODE", &target_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_move_to_another_node_while_the_store_works() {
    let nodes = cluster();
    let options = RedisOptions { retries: 7, ..cluster_options(&nodes) };
    let store = Redis::<TestCell>::open_writer(&options, &writer("a")).await.unwrap();
    ready(&store, 1, 1).await;
    let (from, to) = (nodes[0].port, nodes[1].port);
    let mut moved = None;
    let mut position = 1;
    while position < 100
        || moved.as_ref().is_some_and(|m: &tokio::task::JoinHandle<()>| !m.is_finished())
    {
        if position == 20 {
            moved = Some(tokio::task::spawn_blocking(move || move_slots(from, to)));
        }
        let events: Vec<_> = (0..20u8).map(|key| event(&[key], 1, position, 1)).collect();
        live(&store, 1, (position, position + 1), &events).await.unwrap();
        let answer = ask(&store, 1, &[&[7], &[8], &[9]], ALL).await.unwrap();
        assert_eq!(answer, [Some(position); 3]);
        position += 1;
    }
    moved.unwrap().await.unwrap();
    let left: u64 = redis::cmd("DBSIZE").query(&mut nodes[0].client()).unwrap();
    assert_eq!(left, 0, "the first node has no shard any more");
    let coverage = store.coverage(1).await.unwrap();
    assert_eq!(coverage, [Coverage::Ready { position }; 8]);
}
