//! What every online store must do when it is told to forget.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use asofdb_storage::Error;
use asofdb_storage::online::{Lane, OnlineStore};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::test_cell::{Event, TestCell, Want, expected};
use super::{ALL, ask, event, live, ready, sum};

const NAMES: [&[u8]; 4] = [b"big", b"small", b"old", b"new"];

/// Events of four keys, of which one has many, with times around 0.
fn some_events(rng: &mut StdRng) -> Vec<(Vec<u8>, Event)> {
    let mut events = Vec::new();
    for position in 1..400 {
        let (name, times) = match position % 10 {
            0 if position < 50 => (NAMES[1], -50..50),
            1 if position < 50 => (NAMES[2], -50..0),
            2 if position < 50 => (NAMES[3], 30..50),
            _ => (NAMES[0], -50..50),
        };
        let (time, amount) = (rng.random_range(times), rng.random_range(1..99));
        events.push(event(name, time, position, amount));
    }
    events
}

fn of_key(events: &[(Vec<u8>, Event)], key: &[u8]) -> Vec<Event> {
    events.iter().filter(|(other, _)| other == key).map(|(_, event)| *event).collect()
}

/// Every key answers as the list, from times on that are kept; what is before is refused.
async fn check(store: &impl OnlineStore<TestCell>, events: &[(Vec<u8>, Event)], kept_from: i64) {
    for key in NAMES {
        for from in [kept_from, kept_from + 1, 35, 51] {
            for want in [Want::Between(from, i64::MAX), Want::Each(from, 40)] {
                let answer = ask(store, 1, &[key], want).await.unwrap();
                assert_eq!(answer, [Some(expected(&of_key(events, key), want))], "{want:?}");
            }
        }
        for want in [ALL, Want::Between(kept_from - 1, 40), Want::Last(50, 1)] {
            let refused = ask(store, 1, &[key], want).await;
            let before = match refused {
                Err(Error::StateForgotten { space: 1, before }) => before,
                other => panic!("{want:?} {other:?}"),
            };
            assert_eq!(before, kept_from, "{want:?}");
        }
    }
    let refused = ask(store, 1, &[b"nobody"], ALL).await;
    assert!(matches!(refused, Err(Error::StateForgotten { .. })), "{refused:?}");
    let mut keys = BTreeSet::new();
    store.keys(1, &mut |key| _ = keys.insert(key.to_vec())).await.unwrap();
    assert_eq!(keys, NAMES.map(<[u8]>::to_vec).into_iter().collect(), "all keys stay");
    assert_eq!(store.len(1).await.unwrap(), NAMES.len() as u64);
}

/// Whoever does not reach back so far notices nothing, whoever does is refused.
pub async fn what_is_kept_answers_as_before(store: &impl OnlineStore<TestCell>) {
    let unknown = store.forget_before(1, 0).await;
    assert!(matches!(unknown, Err(Error::UnknownSpace { space: 1 })), "{unknown:?}");
    ready(store, 1, 1).await;
    ready(store, 2, 1).await;
    let mut events = some_events(&mut StdRng::seed_from_u64(3));
    for (batch, part) in events.chunks(40).enumerate() {
        let from = batch as u64 * 40 + 1;
        live(store, 1, (from, from + part.len() as u64), part).await.unwrap();
    }
    live(store, 2, (1, 2), &[event(b"elsewhere", -50, 1, 7), event(b"elsewhere", 1, 1, 1)])
        .await
        .unwrap();

    assert_eq!(store.forget_before(1, -60).await.unwrap(), 0, "nothing is so old");
    assert_eq!(store.forget_before(1, 0).await.unwrap(), 3, "one key is new");
    check(store, &events, 0).await;
    assert_eq!(store.forget_before(1, 0).await.unwrap(), 0, "all is done");
    assert_eq!(store.forget_before(1, -10).await.unwrap(), 0);
    check(store, &events, 0).await;
    assert_eq!(sum(store, 2, b"elsewhere").await, Some(8), "another space");

    // Late events are taken, those that are too late without effect.
    let late: Vec<_> = (400..460).map(|p| event(NAMES[0], p as i64 % 40 - 30, p, 1)).collect();
    live(store, 1, (400, 460), &late).await.unwrap();
    events.extend(late);
    check(store, &events, 0).await;
    store.forget_before(1, 30).await.unwrap();
    check(store, &events, 30).await;
    store.forget_before(1, 60).await.unwrap();
    store.forget_before(1, 30).await.unwrap();
    for key in NAMES {
        let want = Want::Between(60, i64::MAX);
        assert_eq!(ask(store, 1, &[key], want).await.unwrap(), [Some(0)], "it is known");
    }
    live(store, 1, (460, 461), &[event(NAMES[0], 70, 460, 5)]).await.unwrap();
    assert_eq!(ask(store, 1, &[NAMES[0]], Want::Each(60, 99)).await.unwrap(), [Some(5)]);
}

/// A fill begins with everything; nothing is forgotten of it until it is ready.
pub async fn a_fill_brings_everything_back(store: &impl OnlineStore<TestCell>) {
    ready(store, 1, 1).await;
    let events = [event(b"k", -5, 1, 1), event(b"k", 5, 2, 2), event(b"k", 9, 3, 4)];
    live(store, 1, (1, 4), &events).await.unwrap();
    assert_eq!(store.forget_before(1, 0).await.unwrap(), 1);
    let shards = store.coverage(1).await.unwrap().len() as u32;
    store.begin_fill(1, &Vec::from_iter(0..shards), 4).await.unwrap();
    store.apply(1, Lane::Fill { sequence: 0 }, &events).await.unwrap();
    assert_eq!(store.forget_before(1, 6).await.unwrap(), 0);
    store.finish_fill(1).await.unwrap();
    assert_eq!(sum(store, 1, b"k").await, Some(7));
    assert_eq!(store.forget_before(1, 6).await.unwrap(), 1);
    let refused = ask(store, 1, &[b"k"], Want::Between(5, 9)).await;
    assert!(matches!(refused, Err(Error::StateForgotten { before: 6, .. })), "{refused:?}");
    assert_eq!(ask(store, 1, &[b"k"], Want::Between(6, 9)).await.unwrap(), [Some(4)]);
}

/// A fill that begins while cells forget keeps all of its events.
pub async fn a_fill_beside_forgetting_is_whole(store: &impl OnlineStore<TestCell>) {
    let keys: Vec<[u8; 2]> = (0..300u16).map(u16::to_be_bytes).collect();
    let of_key = |key: &[u8; 2]| [event(key, 1, 1, 1), event(key, 9, 1, 2)];
    let events: Vec<_> = keys.iter().flat_map(of_key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 2]>::as_slice).collect();
    ready(store, 1, 1).await;
    live(store, 1, (1, 2), &events).await.unwrap();
    let shards = store.coverage(1).await.unwrap().len() as u32;
    let mut whole = 0;
    for _ in 0..5 {
        let fill = async {
            store.begin_fill(1, &Vec::from_iter(0..shards), 2).await.unwrap();
            store.apply(1, Lane::Fill { sequence: 0 }, &events).await.unwrap();
            store.finish_fill(1).await.unwrap();
        };
        futures::join!(async { store.forget_before(1, 5).await.unwrap() }, fill);
        for key in &keys {
            match ask(store, 1, &[key], ALL).await {
                Ok(answer) => {
                    assert_eq!(answer, [Some(3)]);
                    whole += 1;
                }
                Err(Error::StateForgotten { before: 5, .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let kept = ask(store, 1, &keys, Want::Between(5, 10)).await.unwrap();
        assert_eq!(kept, [Some(2); 300]);
    }
    assert!(whole > 0, "no fill was after the shards were told to forget");
}

/// Time goes on, events come, some of them late, and what is 20 old is forgotten all the while.
pub async fn forgetting_beside_batches_loses_nothing(store: &impl OnlineStore<TestCell>) {
    const AGE: i64 = 20;
    let mut rng = StdRng::seed_from_u64(11);
    ready(store, 1, 1).await;
    let (now, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    let write = async {
        let mut events = Vec::new();
        for batch in 0..150 {
            now.store(batch, Ordering::SeqCst);
            let from = events.len() as u64 + 1;
            let to = from + rng.random_range(1..12);
            for position in from..to {
                let key = NAMES[rng.random_range(0..8_usize).saturating_sub(4)];
                let time = batch - rng.random_range(0..AGE * 2) * rng.random_range(0..2);
                events.push(event(key, time, position, rng.random_range(1..99)));
            }
            live(store, 1, (from, to), &events[from as usize - 1..]).await.unwrap();
            let from = batch - AGE - 3 + rng.random_range(0..AGE);
            for want in [Want::Between(from, batch), Want::Each(from, batch + 1)] {
                match ask(store, 1, &NAMES, want).await {
                    Ok(answers) => {
                        for (key, answer) in NAMES.iter().zip(answers) {
                            let right = expected(&of_key(&events, key), want);
                            assert_eq!(answer.unwrap_or(0), right, "{want:?}");
                        }
                    }
                    Err(Error::StateForgotten { before, .. }) => {
                        assert!(from < before && before <= batch - AGE, "{want:?} {before}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            tokio::task::yield_now().await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let forget = async {
        let mut changed = 0;
        while !stop.load(Ordering::SeqCst) {
            let time = now.load(Ordering::SeqCst) - AGE;
            changed += store.forget_before(1, time).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(changed > 10, "{changed}");
    };
    futures::join!(write, forget);
}
