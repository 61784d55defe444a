//! Rows leave the log by themselves: when they are many, and when they have waited.

use std::time::Duration;

use asofdb_server::ServeConfig;
use asofdb_tests::TestServer;
use asofdb_tests::database::files_below;

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_take_much_memory_become_a_file() {
    become_a_file(|config| config.checkpoint_bytes = 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_waited_become_a_file() {
    become_a_file(|config| config.checkpoint_interval = Duration::from_millis(100)).await;
}

/// Nobody says CHECKPOINT. If no file comes the test ends by its time limit.
async fn become_a_file(configure: impl FnOnce(&mut ServeConfig)) {
    let mut server = TestServer::start(configure).await;
    let client = server.connect().await;
    let source = "CREATE SOURCE s (k BIGINT, ts TIMESTAMPTZ) EVENT TIME ts";
    client.batch_execute(source).await.expect("a source");
    let insert = "INSERT INTO s VALUES (1, '2025-03-01 12:00:00Z'), (2, '2025-03-01 12:00:01Z')";
    client.batch_execute(insert).await.expect("two rows");
    let data = server.data_dir().join("history/data");
    let files = || files_below(&data, "parquet").expect("the history's folder").len();
    let found = async {
        while files() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("a file");
    drop(client);
    server.restart().await;
    let client = server.connect().await;
    let count = client.query_one("SELECT count(*) FROM s", &[]).await.expect("a count");
    assert_eq!(count.get::<_, i64>(0), 2);
    server.stop().await;
}
