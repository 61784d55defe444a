//! Online state in a Redis that is reached over a proxy.

use std::time::{Duration, Instant};

use asofdb_tests::database::{Database, OFTEN, end, insert, settings};
use asofdb_tests::proxy::{Direction, Proxy};
use asofdb_tests::redis::RedisServer;
use rand::Rng;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::{PROGRAM, all_acknowledged, code, outcome, whole};

/// Longer than the server waits for an answer of Redis.
const HANG: Duration = Duration::from_secs(6);

/// How long servers that follow each other may take to be in step.
const PATIENCE: Duration = Duration::from_secs(30);

fn start() -> RedisServer {
    let arguments = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
    RedisServer::with(&arguments).expect("redis-server runs")
}

/// A database whose server reaches `redis` over a proxy.
async fn over_a_proxy(redis: &RedisServer) -> (Database, Proxy) {
    let way = Proxy::to(redis.port()).expect("a port");
    let url = format!("redis://127.0.0.1:{}", way.port());
    (Database::new(PROGRAM, vec![("ASOFDB_ONLINE".to_owned(), url)]).await, way)
}

fn offset(redis: &RedisServer) -> u64 {
    let field = match redis.info("replication", "role").expect("answers").as_str() {
        "slave" => "slave_repl_offset",
        _ => "master_repl_offset",
    };
    redis.info("replication", field).expect("answers").parse().unwrap()
}

/// Makes the one follow the other, over `link`, and waits until it has all that the other has.
async fn follow(replica: &RedisServer, link: &Proxy, primary: &RedisServer) {
    replica.command(&format!("REPLICAOF 127.0.0.1 {}", link.port())).expect("it follows");
    let begun = Instant::now();
    let in_step = || {
        let linked = replica.info("replication", "master_link_status").expect("answers") == "up";
        linked && offset(replica) >= offset(primary)
    };
    while !in_step() {
        assert!(begun.elapsed() < PATIENCE, "the replica does not come into step");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_that_lags_is_completed_and_so_is_the_old_primary() {
    let (primary, replica) = (start(), start());
    let (database, way) = over_a_proxy(&primary).await;
    let link = Proxy::to(primary.port()).expect("a port");
    let server = database.start();
    let client = server.connect().await;
    insert(&client, 0..40).await;
    follow(&replica, &link, &primary).await;
    link.hold();
    insert(&client, 40..80).await;
    assert!(offset(&replica) < offset(&primary), "the replica lags");
    replica.command("REPLICAOF NO ONE").expect("it is promoted");
    way.lead_to(replica.port());
    // A read is the first to see it.
    assert_eq!(whole(&client).await, 80);
    insert(&client, 80..120).await;
    assert_eq!(whole(&client).await, 120);

    // The old primary has none of the rows since. A write is the first to see it.
    way.lead_to(primary.port());
    insert(&client, 120..130).await;
    assert_eq!(whole(&client).await, 130);
    // The keys that no row has come to are complete, too.
    way.lead_to(replica.port());
    insert(&client, 131..132).await;
    assert_eq!(whole(&client).await, 131);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_for_a_primary_that_became_a_replica_wait_for_the_new_one() {
    let (primary, replica) = (start(), start());
    let (database, way) = over_a_proxy(&primary).await;
    let link = Proxy::to(primary.port()).expect("a port");
    let server = database.start();
    let client = server.connect().await;
    insert(&client, 0..10).await;
    follow(&replica, &link, &primary).await;
    replica.command("REPLICAOF NO ONE").expect("it is promoted");
    link.lead_to(replica.port());
    follow(&primary, &link, &replica).await;
    let waiting = tokio::spawn(async move {
        insert(&client, 10..20).await;
        client
    });
    sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "a replica takes no rows");
    way.lead_to(replica.port());
    let client = waiting.await.unwrap();
    assert_eq!(whole(&client).await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_at_any_byte_lose_and_double_nothing() {
    let (runs, mut rng) = settings("ASOFDB_NETWORK_RUNS", 2);
    let redis = start();
    let (database, way) = over_a_proxy(&redis).await;
    let server = database.start_with([OFTEN]);
    for _ in 0..runs {
        let work = database.work(&server, &mut rng).await;
        for _ in 0..30 {
            let direction = if rng.random() { Direction::There } else { Direction::Back };
            way.cut_within(direction, &mut rng);
            sleep(Duration::from_millis(rng.random_range(1..120))).await;
        }
        database.stop_work();
        end(work).await;
        all_acknowledged(&database.ledger);
        database.check(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_cannot_be_reached_reads_fail_and_rows_wait() {
    let redis = start();
    let (database, way) = over_a_proxy(&redis).await;
    let server = database.start();
    let (client, reader) = (server.connect().await, server.connect().await);
    insert(&client, 0..30).await;
    way.close();
    let waiting = insert_later(client);
    for sql in ["SELECT n FROM things WHERE k = 1", "VERIFY FEATURES ON things"] {
        assert_eq!(outcome(&reader, sql).await, "57P03", "{sql}");
    }
    // The rows are durable, and it is no lookup that asks for them.
    assert_eq!(outcome(&reader, "SELECT count(*) FROM events").await, "OK");
    assert!(!waiting.is_finished(), "a later read would not see the rows");
    way.open();
    waiting.await.unwrap();
    assert_eq!(whole(&reader).await, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_wait_are_not_refused_because_a_feature_is_dropped() {
    let redis = start();
    let (database, _way) = over_a_proxy(&redis).await;
    let server = database.start();
    let (client, other) = (server.connect().await, server.connect().await);
    // Several, for rows go to the tracks in any order.
    for n in 0..6 {
        let create = format!(
            "CREATE FEATURE extra_{n} ON things AS
             SELECT count(v) OVER (RANGE UNBOUNDED PRECEDING) FROM events WHERE id >= {n}"
        );
        assert_eq!(outcome(&other, &create).await, "OK");
    }
    insert(&client, 0..30).await;
    redis.command("CONFIG SET min-replicas-to-write 1").expect("it takes no writes");
    let waiting = insert_later(client);
    sleep(Duration::from_millis(500)).await;
    for n in 0..6 {
        let drop = format!("DROP FEATURE extra_{n} ON things");
        assert_eq!(outcome(&other, &drop).await, "OK");
    }
    sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "features that are there have not got the rows");
    redis.command("CONFIG SET min-replicas-to-write 0").expect("it takes writes");
    waiting.await.unwrap();
    assert_eq!(whole(&other).await, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_and_does_everything_later_does_nothing_twice() {
    let redis = start();
    let (database, way) = over_a_proxy(&redis).await;
    let server = database.start();
    let (client, reader) = (server.connect().await, server.connect().await);
    insert(&client, 0..30).await;
    way.hold();
    let waiting = insert_later(client);
    let cancel = reader.cancel_token();
    let read = tokio::spawn(async move {
        let result = reader.simple_query("SELECT n FROM things WHERE k = 1").await;
        (reader, result)
    });
    sleep(HANG).await;
    assert!(!waiting.is_finished() && !read.is_finished(), "nobody has an answer");
    cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    let (reader, result) = read.await.unwrap();
    assert_eq!(code(result), "57014", "a read that waits for Redis can be cancelled");
    // What was asked first comes to Redis now, and what was asked again.
    way.release();
    waiting.await.unwrap();
    assert_eq!(whole(&reader).await, 60);
}

/// Inserts thirty more rows, as soon as they are taken.
fn insert_later(client: Client) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { insert(&client, 30..60).await })
}
