//! What lookups cost: which commands they are, and how many.

use asofdb_storage::online::Redis;

use crate::conformance::test_cell::{TestCell, Want};
use crate::conformance::{ALL, ask, event, live, ready};
use crate::redis_faults::{open, open_reader};
use crate::redis_server::RedisServer;

type Store = Redis<TestCell>;

/// Events of the large cell: many leaves of four.
const MANY: u64 = 200;

/// Calls of `HMGET` and of scripts, without what scripts call themselves.
#[derive(Debug, PartialEq, Eq)]
struct Calls {
    roots: u64,
    scripts: u64,
}

/// Counts the calls that a read makes, and checks what it answers.
async fn calls(
    server: &RedisServer,
    store: &Store,
    keys: &[&[u8]],
    want: Want,
    expected: &[Option<u64>],
) -> Calls {
    server.command(&["CONFIG", "RESETSTAT"]);
    assert_eq!(ask(store, 1, keys, want).await.unwrap(), expected);
    let scripts = ["cmdstat_evalsha", "cmdstat_eval"].map(|name| count(server, name));
    let scripts = scripts.iter().sum();
    // A script reads each shard that it is asked about by one, and here it is asked about one.
    Calls { roots: count(server, "cmdstat_hmget") - scripts, scripts }
}

fn count(server: &RedisServer, name: &str) -> u64 {
    let text: String = redis::cmd("INFO").arg("all").query(&mut server.client()).unwrap();
    let start = format!("{name}:calls=");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |line| line.split_once(',').unwrap().0.parse().unwrap())
}

async fn filled(server: &RedisServer) -> Store {
    let store = open(server.url()).await;
    ready(&store, 1, 1).await;
    let mut events: Vec<_> = (1..=MANY).map(|p| event(b"large", p as i64, p, 1)).collect();
    events.extend((0..100u8).map(|key| event(&[key], 1, MANY, 2)));
    for (batch, events) in events.chunks(10).enumerate() {
        let from = batch as u64 + 1;
        live(&store, 1, (from, from + 1), events).await.unwrap();
    }
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_of_an_ordinary_key_is_one_command_without_a_script() {
    let server = RedisServer::start();
    let store = filled(&server).await;
    for _ in 0..2 {
        let one = Calls { roots: 1, scripts: 0 };
        assert_eq!(calls(&server, &store, &[&[7]], ALL, &[Some(2)]).await, one);
        assert_eq!(calls(&server, &store, &[b"never seen"], ALL, &[None]).await, one);
    }
    // Of a hundred keys one for each shard that has some.
    let keys: Vec<[u8; 1]> = (0..100u8).map(|key| [key]).collect();
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 1]>::as_slice).collect();
    let found = calls(&server, &store, &keys, ALL, &[Some(2); 100]).await;
    assert_eq!(found, Calls { roots: 8, scripts: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_of_a_large_key_is_one_script_once_it_is_known() {
    let server = RedisServer::start();
    drop(filled(&server).await);
    let store = open_reader(server.url()).await;
    let (middle, half) = (Want::UpTo(MANY as i64 / 2), [Some(MANY / 2)]);
    let found = calls(&server, &store, &[b"large"], middle, &half).await;
    assert_eq!(found, Calls { roots: 1, scripts: 1 }, "the root tells that there is more");
    for want in [middle, Want::Between(1, MANY as i64 / 2), Want::Last(MANY as i64 / 2, MANY)] {
        let found = calls(&server, &store, &[b"large"], want, &half).await;
        assert_eq!(found, Calls { roots: 0, scripts: 1 }, "{want:?}");
    }
    let both = [Some(MANY / 2), Some(2), None];
    let keys: [&[u8]; 3] = [b"large", &[7], b"never seen"];
    let found = calls(&server, &store, &keys, middle, &both).await;
    assert_eq!(found.scripts, 1);
    assert!(found.roots <= 2, "{found:?}");
}

/// Many lookups at the same time, of which some are dropped at any point: the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn lookups_that_are_dropped_hold_up_no_others() {
    let server = RedisServer::start();
    let store = std::sync::Arc::new(filled(&server).await);
    let lookups = (0..2000u32).map(|n| {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move {
            let key = [(n % 100) as u8];
            let keys: [&[u8]; 1] = [&key];
            let mut lookup = std::pin::pin!(ask(&*store, 1, &keys, ALL));
            for _ in 0..n % 5 {
                if let Some(answer) = futures::FutureExt::now_or_never(&mut lookup) {
                    return answer.unwrap();
                }
                tokio::task::yield_now().await;
            }
            if n % 5 > 0 && n % 3 == 0 { vec![Some(2)] } else { lookup.await.unwrap() }
        })
    });
    for lookup in lookups.collect::<Vec<_>>() {
        assert_eq!(lookup.await.unwrap(), [Some(2)]);
    }
}
