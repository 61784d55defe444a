//! A log with a torn end, or with damage before its end, under a server that starts.

use std::fs;

use asofdb_tests::checks::verify_features;
use asofdb_tests::clients::insert_rows;
use asofdb_tests::database::{Database, seeded};
use rand::Rng;

use crate::{PROGRAM, answer, only_file, start_fails};

/// The bytes before the log's first record.
const HEADER_BYTES: usize = 32;

/// Rows of a statement, and statements before the last one.
const ROWS: usize = 5;
const STATEMENTS: usize = 9;

/// A log of which the last statement's part is known.
struct Written {
    database: Database,
    log: Vec<u8>,
    /// Where the last statement begins.
    last: usize,
}

impl Written {
    async fn new() -> Written {
        let database = Database::new(PROGRAM, Vec::new()).await;
        let server = database.start();
        let client = server.connect().await;
        let file = only_file(&database.folder().join("log"), "log");
        for _ in 0..STATEMENTS {
            insert_rows(&client, &database.ledger, ROWS).await.expect("inserts");
        }
        let last = fs::metadata(&file).expect("a file").len() as usize;
        insert_rows(&client, &database.ledger, ROWS).await.expect("inserts");
        drop(server);
        let log = fs::read(&file).expect("a file");
        assert!(HEADER_BYTES < last && last < log.len());
        Written { database, log, last }
    }

    fn replace(&self, log: &[u8]) {
        let file = only_file(&self.database.folder().join("log"), "log");
        fs::write(file, log).expect("writes");
    }

    /// Starts the server on another log and looks for the rows of the first statements.
    async fn has(&self, log: &[u8], statements: usize) {
        self.replace(log);
        let server = self.database.start();
        let client = server.connect().await;
        let expected: Vec<String> = (0..statements * ROWS).map(|id| id.to_string()).collect();
        assert_eq!(answer(&client, "SELECT id FROM events ORDER BY id").await, expected);
        verify_features(&client).await;
        // What is written behind the cut is found by the next start.
        let insert = "INSERT INTO events VALUES (1000, 0, 0.5, now())";
        client.batch_execute(insert).await.expect("inserts");
        drop(server);
        let server = self.database.start();
        let client = server.connect().await;
        let found = answer(&client, "SELECT id FROM events ORDER BY id").await;
        assert_eq!(found.len(), expected.len() + 1);
        verify_features(&client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_of_the_log_is_cut() {
    let mut rng = seeded();
    let written = Written::new().await;
    let (log, last) = (&written.log, written.last);
    let garbage: Vec<u8> = (0..rng.random_range(1..5000)).map(|_| rng.random()).collect();
    written.has(&[log.as_slice(), &garbage].concat(), STATEMENTS + 1).await;
    written.has(&[log.as_slice(), &[0; 4096]].concat(), STATEMENTS + 1).await;
    for end in [log.len() - 1, rng.random_range(last + 1..log.len()), last + 1] {
        written.has(&log[..end], STATEMENTS).await;
    }
    written.has(&[&log[..log.len() - 9], &garbage].concat(), STATEMENTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_bit_before_the_end_of_the_log_is_refused() {
    let mut rng = seeded();
    let written = Written::new().await;
    for _ in 0..4 {
        let changed = rng.random_range(HEADER_BYTES..written.last);
        let mut log = written.log.clone();
        log[changed] ^= 1 << rng.random_range(0..8);
        written.replace(&log);
        let message = start_fails(&mut written.database.command());
        assert!(message.contains(".log is damaged at byte "), "{message}");
        let offset = message
            .split(" is damaged at byte ")
            .nth(1)
            .and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
        let offset = offset.expect("a number");
        // Where the record begins that holds the byte.
        let record = written.log.len() - written.last;
        assert!(offset <= changed && changed < offset + record + 64, "{changed}: {message}");
        let there = fs::read(only_file(&written.database.folder().join("log"), "log"));
        assert_eq!(there.expect("a file"), log, "it is left as it is");
    }
    written.has(&written.log, STATEMENTS + 1).await;
}
