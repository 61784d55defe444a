//! What every online store must do, as a suite over any store of [`TestCell`]s.
//!
//! It is compiled into the crate's own tests and into `tests/suite`, which has real servers.

#[path = "conformance/forgetting.rs"]
mod forgetting;
#[path = "conformance/test_cell.rs"]
pub mod test_cell;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use asofdb_storage::Error;
use asofdb_storage::online::{Coverage, Lane, Look, OnlineStore, replay};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use test_cell::{Event, Schema, TestCell, Want, expected};

/// Everything up to the end of time.
pub const ALL: Want = Want::UpTo(i64::MAX);

/// Runs the whole suite; `open` gives a new, empty store each time.
pub async fn run<S: OnlineStore<TestCell>>(open: impl AsyncFn() -> S) {
    a_new_space_is_lost_until_it_is_filled(&open().await).await;
    a_batch_counts_once(&open().await).await;
    a_gap_is_refused(&open().await).await;
    both_lanes_fill_a_space(&open().await).await;
    spaces_and_keys_are_apart(&open().await).await;
    a_dropped_space_is_gone(&open().await).await;
    keys_are_visited_once(&open().await).await;
    big_cells_answer_as_lists_do(&open().await).await;
    batches_are_seen_whole(&open().await).await;
    the_same_batch_at_once_counts_once(&open().await).await;
    forgetting::what_is_kept_answers_as_before(&open().await).await;
    forgetting::a_fill_brings_everything_back(&open().await).await;
    forgetting::a_fill_beside_forgetting_is_whole(&open().await).await;
    forgetting::forgetting_beside_batches_loses_nothing(&open().await).await;
}

/// Makes an empty space that can be read, with its live lane at `position`.
pub async fn ready<S: OnlineStore<TestCell>>(store: &S, space: u32, position: u64) {
    store.create_space(space, Arc::new(Schema::default())).await.unwrap();
    refill(store, space, position).await;
}

/// Fills all shards with nothing.
pub async fn refill<S: OnlineStore<TestCell>>(store: &S, space: u32, position: u64) {
    let shards = store.coverage(space).await.unwrap().len() as u32;
    store.begin_fill(space, &Vec::from_iter(0..shards), position).await.unwrap();
    store.finish_fill(space).await.unwrap();
}

/// An event of a key.
pub fn event(key: &[u8], time: i64, position: u64, amount: u64) -> (Vec<u8>, Event) {
    (key.to_vec(), Event { time, position, amount })
}

/// Applies a live batch.
pub async fn live<S: OnlineStore<TestCell>>(
    store: &S,
    space: u32,
    (from, to): (u64, u64),
    events: &[(Vec<u8>, Event)],
) -> Result<(), Error> {
    store.apply(space, Lane::Live { from, to }, events).await
}

/// The answers for keys; `None` where there is no cell.
pub async fn ask<S: OnlineStore<TestCell>>(
    store: &S,
    space: u32,
    keys: &[&[u8]],
    want: Want,
) -> Result<Vec<Option<u64>>, Error> {
    let mut answers: Vec<Option<u64>> = vec![None; keys.len()];
    let mut looks = vec![0; keys.len()];
    let look = &mut |index: usize, cell: Option<&TestCell>| {
        let Some(cell) = cell else { return Look::Done };
        let next = cell.look(want, looks[index]);
        looks[index] += 1;
        if next == Look::Done {
            answers[index] = Some(cell.answer(want).unwrap());
        }
        next
    };
    store.read(space, keys, &want, look).await?;
    Ok(answers)
}

/// The sum of all events of one key.
pub async fn sum<S: OnlineStore<TestCell>>(store: &S, space: u32, key: &[u8]) -> Option<u64> {
    ask(store, space, &[key], ALL).await.unwrap()[0]
}

async fn a_new_space_is_lost_until_it_is_filled(store: &impl OnlineStore<TestCell>) {
    assert!(matches!(store.coverage(1).await, Err(Error::UnknownSpace { space: 1 })));
    let nothing = live(store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await;
    assert!(matches!(nothing, Err(Error::UnknownSpace { space: 1 })));
    store.create_space(1, Arc::new(Schema::default())).await.unwrap();
    let shards = store.coverage(1).await.unwrap();
    assert!(shards.iter().all(|shard| *shard == Coverage::Lost), "{shards:?}");
    let lost = |error: Error| matches!(error, Error::StateLost { space: 1, .. });
    assert!(lost(ask(store, 1, &[b"k"], ALL).await.unwrap_err()));
    assert!(lost(store.len(1).await.unwrap_err()));
    assert!(lost(store.keys(1, &mut |_| {}).await.unwrap_err()));
    assert!(lost(live(store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap_err()));

    store.begin_fill(1, &Vec::from_iter(0..shards.len() as u32), 5).await.unwrap();
    let filling = Coverage::Filling { position: 5 };
    assert!(store.coverage(1).await.unwrap().iter().all(|shard| *shard == filling));
    assert!(matches!(ask(store, 1, &[b"k"], ALL).await, Err(Error::StateNotReady { .. })));
    store.finish_fill(1).await.unwrap();
    let filled = Coverage::Ready { position: 5 };
    assert!(store.coverage(1).await.unwrap().iter().all(|shard| *shard == filled));
    assert_eq!(sum(store, 1, b"k").await, None);
    assert_eq!(store.len(1).await.unwrap(), 0);
    store.create_space(1, Arc::new(Schema::default())).await.unwrap();
    assert_eq!(store.len(1).await.unwrap(), 0, "an existing space is left as it is");
}

async fn a_batch_counts_once(store: &impl OnlineStore<TestCell>) {
    ready(store, 1, 1).await;
    let first = [event(b"a", 10, 1, 1), event(b"b", 10, 2, 2), event(b"a", 5, 3, 4)];
    let second = [event(b"a", 10, 4, 8)];
    live(store, 1, (1, 4), &first).await.unwrap();
    live(store, 1, (1, 4), &first).await.unwrap();
    live(store, 1, (4, 5), &second).await.unwrap();
    live(store, 1, (1, 4), &first).await.unwrap();
    live(store, 1, (4, 5), &second).await.unwrap();
    live(store, 1, (5, 5), &[]).await.unwrap();
    live(store, 1, (5, 9), &[]).await.unwrap();
    for _ in 0..64 {
        live(store, 1, (3, 7), &[]).await.unwrap();
    }
    let answers = ask(store, 1, &[b"a", b"b", b"c", b"a"], ALL).await.unwrap();
    assert_eq!(answers, [Some(13), Some(2), None, Some(13)]);
    let covered = |shard: &Coverage| matches!(shard, Coverage::Ready { position: 9 });
    let coverage = store.coverage(1).await.unwrap();
    assert!(coverage.iter().all(covered), "{coverage:?}");
    assert_eq!(replay(&coverage, 12).first(), Some(&(9..12)));
    assert_eq!(replay(&coverage, 9), []);
}

async fn a_gap_is_refused(store: &impl OnlineStore<TestCell>) {
    ready(store, 1, 10).await;
    let gap = live(store, 1, (11, 12), &[event(b"a", 1, 11, 1)]).await;
    assert!(matches!(gap, Err(Error::StateGap { position: 10, from: 11, to: 12, .. })), "{gap:?}");
    live(store, 1, (10, 12), &[event(b"a", 1, 10, 1)]).await.unwrap();
    let torn = live(store, 1, (11, 13), &[event(b"a", 1, 11, 2), event(b"a", 1, 12, 4)]).await;
    assert!(matches!(torn, Err(Error::StateGap { .. })), "{torn:?}");
    assert_eq!(sum(store, 1, b"a").await, Some(1));
    let empty = live(store, 1, (12, 13), &[event(b"", 1, 12, 1)]).await;
    assert!(matches!(empty, Err(Error::InvalidKey { .. })), "{empty:?}");
    assert!(matches!(ask(store, 1, &[b""], ALL).await, Err(Error::InvalidKey { .. })));
    live(store, 1, (12, 13), &[event(b"a", 1, 12, 4)]).await.unwrap();
    assert_eq!(sum(store, 1, b"a").await, Some(5));
}

async fn both_lanes_fill_a_space(store: &impl OnlineStore<TestCell>) {
    ready(store, 1, 1).await;
    live(store, 1, (1, 2), &[event(b"a", 1, 1, 1000)]).await.unwrap();
    let shards = store.coverage(1).await.unwrap().len() as u32;
    store.begin_fill(1, &Vec::from_iter(0..shards), 100).await.unwrap();
    let fill = async |sequence, events: &[(Vec<u8>, Event)]| {
        store.apply(1, Lane::Fill { sequence }, events).await
    };
    let gap = fill(1, &[event(b"a", 1, 1, 1)]).await;
    assert!(matches!(gap, Err(Error::FillGap { sequence: 1, next: 0, .. })), "{gap:?}");
    let first = [event(b"a", 1, 1, 1), event(b"b", 2, 2, 2)];
    fill(0, &first).await.unwrap();
    live(store, 1, (100, 101), &[event(b"a", 3, 100, 4)]).await.unwrap();
    fill(0, &first).await.unwrap();
    fill(1, &[]).await.unwrap();
    fill(2, &[event(b"c", 3, 3, 8)]).await.unwrap();
    fill(1, &[]).await.unwrap();
    live(store, 1, (101, 102), &[event(b"b", 3, 101, 16)]).await.unwrap();
    assert!(matches!(ask(store, 1, &[b"a"], ALL).await, Err(Error::StateNotReady { .. })));
    store.finish_fill(1).await.unwrap();
    let answers = ask(store, 1, &[b"a", b"b", b"c"], ALL).await.unwrap();
    assert_eq!(answers, [Some(5), Some(18), Some(8)], "what was there before is gone");
    store.finish_fill(1).await.unwrap();
    live(store, 1, (102, 103), &[event(b"b", 3, 102, 32)]).await.unwrap();
    assert_eq!(sum(store, 1, b"b").await, Some(50));
}

async fn spaces_and_keys_are_apart(store: &impl OnlineStore<TestCell>) {
    let long = vec![b'x'; 70_000];
    let mut longer = long.clone();
    longer.push(0);
    let keys: Vec<&[u8]> = vec![
        b"\0",
        b"\0\0",
        b"a",
        b"a\0",
        b"\0a",
        b"a:b",
        b"a:",
        b":",
        b"{a}",
        b"}{",
        b"\r\n",
        b"\xff\xfe",
        b"\0\0\0\x01a\0\0\0\x01",
        &long,
        &longer,
    ];
    for space in [1, 11, u32::MAX] {
        ready(store, space, 1).await;
        let events: Vec<_> = (0..40)
            .flat_map(|round| {
                let amount = |index: usize| index as u64 + 1 + u64::from(space) % 10;
                keys.iter().enumerate().map(move |(index, key)| event(key, round, 1, amount(index)))
            })
            .collect();
        for (batch, events) in events.chunks(100).enumerate() {
            let from = batch as u64 + 1;
            live(store, space, (from, from + 1), events).await.unwrap();
        }
    }
    for space in [1, 11, u32::MAX] {
        let answers = ask(store, space, &keys, ALL).await.unwrap();
        let amount = |index: u64| Some(40 * (index + 1 + u64::from(space) % 10));
        assert_eq!(answers, Vec::from_iter((0..keys.len() as u64).map(amount)), "{space}");
        assert_eq!(store.len(space).await.unwrap(), keys.len() as u64);
    }
}

async fn a_dropped_space_is_gone(store: &impl OnlineStore<TestCell>) {
    ready(store, 7, 1).await;
    ready(store, 8, 1).await;
    live(store, 7, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
    live(store, 8, (1, 2), &[event(b"k", 1, 1, 2)]).await.unwrap();
    store.drop_space(7).await.unwrap();
    store.drop_space(7).await.unwrap();
    let late = live(store, 7, (2, 3), &[event(b"k", 1, 2, 1)]).await;
    assert!(matches!(late, Err(Error::UnknownSpace { space: 7 })), "{late:?}");
    assert!(matches!(ask(store, 7, &[b"k"], ALL).await, Err(Error::UnknownSpace { .. })));
    assert!(matches!(store.len(7).await, Err(Error::UnknownSpace { .. })));
    assert_eq!(sum(store, 8, b"k").await, Some(2));
    store.create_space(7, Arc::new(Schema::default())).await.unwrap();
    let coverage = store.coverage(7).await.unwrap();
    assert!(coverage.iter().all(|shard| *shard == Coverage::Lost), "{coverage:?}");
    ready(store, 7, 5).await;
    assert_eq!(sum(store, 7, b"k").await, None, "a space created again is empty");
}

async fn keys_are_visited_once(store: &impl OnlineStore<TestCell>) {
    ready(store, 1, 1).await;
    ready(store, 2, 1).await;
    live(store, 2, (1, 2), &[event(b"elsewhere", 1, 1, 1)]).await.unwrap();
    let keys: BTreeSet<Vec<u8>> = (0..3000u32).map(|n| n.to_le_bytes().to_vec()).collect();
    let events: Vec<_> = keys.iter().map(|key| event(key, 1, 1, 1)).collect();
    live(store, 1, (1, 2), &events).await.unwrap();
    let mut seen = BTreeSet::new();
    let visit = &mut |key: &[u8]| assert!(seen.insert(key.to_vec()), "visited twice");
    store.keys(1, visit).await.unwrap();
    assert_eq!(seen, keys);
    assert_eq!(store.len(1).await.unwrap(), 3000);
}

/// Random questions about cells that were folded many times, out of order and with equal times.
async fn big_cells_answer_as_lists_do(store: &impl OnlineStore<TestCell>) {
    let mut rng = StdRng::seed_from_u64(7);
    ready(store, 1, 1).await;
    let mut events = Vec::new();
    let mut position = 1;
    for round in 0..60 {
        let count = if round % 10 == 9 { 200 } else { rng.random_range(1..30) };
        let batch: Vec<_> = (position..position + count)
            .map(|position| {
                event(b"big", rng.random_range(-50..50), position, rng.random_range(1..99))
            })
            .collect();
        live(store, 1, (position, position + count), &batch).await.unwrap();
        position += count;
        events.extend(batch.into_iter().map(|(_, event)| event));
        for _ in 0..8 {
            let want = question(&mut rng);
            let answer = ask(store, 1, &[b"big"], want).await.unwrap()[0];
            assert_eq!(answer, Some(expected(&events, want)), "{want:?} of {}", events.len());
            let of_tree = Want::NthOfTree(rng.random_range(-55..55), rng.random_range(1..200));
            ask(store, 1, &[b"big"], of_tree).await.unwrap();
        }
    }
    for want in
        [Want::UpTo(i64::MIN), ALL, Want::Last(i64::MAX, 5000), Want::Each(i64::MIN, i64::MAX)]
    {
        let answer = ask(store, 1, &[b"big"], want).await.unwrap()[0];
        assert_eq!(answer, Some(expected(&events, want)), "{want:?}");
    }
}

/// A random question.
pub fn question(rng: &mut StdRng) -> Want {
    let (a, b) = (rng.random_range(-55..55), rng.random_range(-55..55));
    match rng.random_range(0..6) {
        0 => Want::UpTo(a),
        1 => Want::Between(a.min(b), a.max(b)),
        2 => Want::Last(a, rng.random_range(1..40)),
        3 => Want::LastInSteps(a, rng.random_range(1..40)),
        4 => Want::Nth(a, rng.random_range(1..300)),
        _ => Want::Each(a.min(b), a.max(b)),
    }
}

/// Every batch adds three events to a key. Readers see a multiple of three, and never fewer than
/// before, while cells are folded.
async fn batches_are_seen_whole(store: &impl OnlineStore<TestCell>) {
    ready(store, 1, 1).await;
    let stop = AtomicBool::new(false);
    let write = async {
        for batch in 0..150u64 {
            let from = 1 + 3 * batch;
            let time = (batch * 7919 % 100) as i64;
            let key: &[u8] = if batch % 2 == 0 { b"even" } else { b"odd" };
            let events: Vec<_> = (from..from + 3).map(|p| event(key, time, p, 1)).collect();
            live(store, 1, (from, from + 3), &events).await.unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    };
    let read = async || {
        let mut before = [0, 0];
        while !stop.load(Ordering::SeqCst) {
            for want in [ALL, Want::Last(i64::MAX, 10_000), Want::Each(i64::MIN, i64::MAX)] {
                let answers = ask(store, 1, &[b"even", b"odd"], want).await.unwrap();
                for (answer, before) in answers.iter().zip(&mut before) {
                    let now = answer.unwrap_or(0);
                    assert!(now % 3 == 0 && now >= *before, "{now} after {before}");
                    *before = now;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    futures::join!(write, read(), read());
    assert_eq!(ask(store, 1, &[b"even", b"odd"], ALL).await.unwrap(), [Some(225), Some(225)]);
}

async fn the_same_batch_at_once_counts_once(store: &impl OnlineStore<TestCell>) {
    ready(store, 1, 1).await;
    for batch in 0..20u64 {
        let (from, to) = (1 + batch, 2 + batch);
        let events = [event(b"a", 1, from, 1), event(b"b", 1, from, 1)];
        let once = || live(store, 1, (from, to), &events);
        let (a, b, c) = futures::join!(once(), once(), once());
        a.and(b).and(c).unwrap();
    }
    assert_eq!(ask(store, 1, &[b"a", b"b"], ALL).await.unwrap(), [Some(20), Some(20)]);
}
