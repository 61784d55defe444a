//! The online store in a Redis Cluster of three nodes.

use std::process::Command;
use std::time::Duration;

use asofdb_storage::Error;
use asofdb_storage::online::{Coverage, OnlineStore, Redis, RedisOptions};

use crate::conformance::test_cell::TestCell;
use crate::conformance::{self, ALL, ask, event, live, ready};
use crate::redis_faults::{options, writer};
use crate::redis_server::RedisServer;

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
}
