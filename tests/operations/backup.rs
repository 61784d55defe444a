//! A backup of a server at work, and a server on it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use asofdb_tests::moto::MotoServer;
use asofdb_tests::process::ServerProcess;
use tokio_postgres::Client;

use crate::{connect, number, serve};

const DECLARE: &str = "CREATE SOURCE events (id BIGINT, k BIGINT, ts TIMESTAMPTZ) EVENT TIME ts;
    CREATE ENTITY things (k BIGINT);
    CREATE FEATURES ON things AS SELECT count(*) OVER w AS n, sum(id) OVER w AS ids FROM events
      WINDOW w AS (RANGE UNBOUNDED PRECEDING)";

/// Inserts rows with ids from 1 on until it is told to stop; says how many were acknowledged.
async fn insert(client: Client, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicI64>) {
    while !stop.load(Ordering::SeqCst) {
        let first = acknowledged.load(Ordering::SeqCst) + 1;
        let rows: Vec<_> =
            (first..first + 10).map(|id| format!("({id}, {}, now())", id % 7)).collect();
        let insert = format!("INSERT INTO events VALUES {}", rows.join(", "));
        client.batch_execute(&insert).await.unwrap();
        acknowledged.fetch_add(10, Ordering::SeqCst);
    }
}

fn on(data: &Path, backups: &Path) -> std::process::Command {
    let mut command = serve();
    command.arg("--data").arg(data).arg("--import-dir").arg(backups);
    // Files come and go meanwhile.
    command.env("ASOFDB_CHECKPOINT_SIZE", "64KiB");
    command
}

async fn backup_while_rows_come(environment: Vec<(String, String)>) {
    let (data, backups) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = on(data.path(), backups.path());
    let server = ServerProcess::start(command.envs(environment)).unwrap();
    let client = connect(&server).await;
    client.batch_execute(DECLARE).await.unwrap();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let inserting =
        tokio::spawn(insert(connect(&server).await, Arc::clone(&stop), Arc::clone(&acknowledged)));
    let mut bounds = Vec::new();
    for name in ["one", "two", "three"] {
        while acknowledged.load(Ordering::SeqCst) < 100 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let before = acknowledged.load(Ordering::SeqCst);
        client.batch_execute(&format!("BACKUP TO '{name}'")).await.unwrap();
        bounds.push((name, before, acknowledged.load(Ordering::SeqCst) + 10));
    }
    stop.store(true, Ordering::SeqCst);
    inserting.await.unwrap();
    drop(server);

    for (name, least, most) in bounds {
        // As on another machine.
        let moved = tempfile::tempdir().unwrap();
        let place = moved.path().join("restored");
        std::fs::rename(backups.path().join(name), &place).unwrap();
        let server = ServerProcess::start(&mut on(&place, moved.path())).unwrap();
        let client = connect(&server).await;
        let rows = number(&client, "SELECT count(*) FROM events").await.unwrap();
        assert!((least..=most).contains(&rows), "{rows} rows, not from {least} to {most}");
        let ids = rows * (rows + 1) / 2;
        let all = "SELECT sum(id)::BIGINT FROM events";
        assert_eq!(number(&client, all).await, Ok(ids), "the first rows, each once");
        let counted = "SELECT sum(n)::BIGINT FROM things";
        assert_eq!(number(&client, counted).await, Ok(rows));
        assert!(client.query("VERIFY FEATURES ON things", &[]).await.unwrap().is_empty());
        // It is a database like any other.
        client.batch_execute("INSERT INTO events VALUES (0, 1, now())").await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
        assert_eq!(number(&client, "SELECT count(*) FROM events").await, Ok(rows + 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_has_all_that_was_acknowledged() {
    backup_while_rows_come(Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_history_on_s3_is_a_folder() {
    let moto = MotoServer::start().unwrap();
    backup_while_rows_come(moto.environment()).await;
}
