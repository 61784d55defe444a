//! The one law: for every feature, key and instant, a lookup and a training query give the same
//! bits, those of the oracle; before and after checkpoints, late events and restarts.
//!
//! `ASOFDB_SEED` sets the first case's seed (a case is reproduced by its own), and
//! `ASOFDB_COMPARISONS` how many values are compared at least.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "this is a test")]

#[path = "equivalence/case.rs"]
mod case;
#[path = "equivalence/check.rs"]
mod check;
#[path = "equivalence/generate.rs"]
mod generate;
#[path = "equivalence/judge.rs"]
mod judge;

use std::str::FromStr;
use std::time::Instant;

use asofdb_tests::redis::RedisServer;
use judge::Tally;

/// The seed of the first case unless one is given.
const SEED: u64 = 1;
/// Values compared unless a number is given: half a minute in a debug build.
const COMPARISONS: usize = 200_000;

#[tokio::test(flavor = "multi_thread")]
async fn lookups_and_training_queries_give_the_bits_of_the_oracle() {
    agree(None, setting("ASOFDB_COMPARISONS", COMPARISONS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_they_do_with_online_state_in_redis() {
    let redis = RedisServer::start().unwrap();
    agree(Some(&redis), setting("ASOFDB_COMPARISONS", COMPARISONS) / 4).await;
}

async fn agree(redis: Option<&RedisServer>, wanted: usize) {
    let seed = setting("ASOFDB_SEED", SEED);
    println!("ASOFDB_SEED={seed}, {wanted} comparisons, in Redis: {}", redis.is_some());
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut cases = 0;
    while tally.comparisons() < wanted {
        let case = generate::case(seed + cases);
        check::run(&case, redis, |_| (), &mut tally).await;
        cases += 1;
        if cases % 10 == 0 {
            let (seconds, done) = (started.elapsed().as_secs(), tally.comparisons());
            println!("{cases} cases, {done} comparisons, {} differ, {seconds} s", tally.differ);
        }
    }
    println!(
        "{} comparisons (feature, key, instant), {} online and {} in training, {} of them \
         NULL and {} overflows, {} differ; {cases} cases from seed {seed}, {:.1} s",
        tally.comparisons(),
        tally.online,
        tally.training,
        tally.nulls,
        tally.overflows,
        tally.differ,
        started.elapsed().as_secs_f64()
    );
    assert_eq!(tally.differ, 0, "differences are described above");
}

/// A suite that cannot fail proves nothing: here the oracle misses some events.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_one_side_misses_is_noticed() {
    let mut tally = Tally::default();
    let case = generate::case(SEED);
    check::run(&case, None, |history| history.truncate(history.len() / 2), &mut tally).await;
    assert!(tally.differ > 0, "{} comparisons, none differs", tally.comparisons());
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Err(_) => default,
        Ok(text) => match text.parse() {
            Ok(value) => value,
            Err(_) => panic!("{name}={text} is no whole number"),
        },
    }
}
