//! What the cells in memory do, over cells that are numbers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Embedded;
use crate::error::Error;

fn add(store: &Embedded<u64>, space: u32, key: &[u8], amount: u64) -> Result<(), Error> {
    store.update(space, key, &mut || 0, &mut |cell| *cell += amount)
}

fn get(store: &Embedded<u64>, space: u32, key: &[u8]) -> Option<u64> {
    let mut found = None;
    let mut calls = 0;
    store
        .read(space, &[key], |_| {}, &mut |_, cell| {
            calls += 1;
            found = cell.copied();
        })
        .unwrap();
    assert_eq!(calls, 1, "a read shows its cell exactly once");
    found
}

#[test]
fn a_cell_is_created_once_and_then_changed() {
    let store = &Embedded::<u64>::new();
    assert!(store.create_space(1).unwrap());
    assert!(!store.create_space(1).unwrap());
    assert_eq!(get(store, 1, b"k"), None);
    let mut created = 0;
    for _ in 0..3 {
        let mut create = || {
            created += 1;
            100
        };
        store.update(1, b"k", &mut create, &mut |cell| *cell += 1).unwrap();
    }
    assert_eq!(created, 1);
    assert_eq!(get(store, 1, b"k"), Some(103));
    assert!(!store.create_space(1).unwrap(), "an existing space is left as it is");
    assert_eq!(get(store, 1, b"k"), Some(103));
    for key in [b"k", b"l"] {
        store.update_present(1, key, &mut |cell| *cell += 1).unwrap();
    }
    assert_eq!((get(store, 1, b"k"), get(store, 1, b"l")), (Some(104), None));
}

#[test]
fn spaces_and_keys_are_apart() {
    let store = &Embedded::<u64>::new();
    store.create_space(1).unwrap();
    store.create_space(2).unwrap();
    let keys: [&[u8]; 5] = [b"", b"\0", b"\0\0", b"a", b"ab"];
    for (index, key) in keys.iter().enumerate() {
        add(store, 1, key, index as u64 + 1).unwrap();
        add(store, 2, key, index as u64 + 10).unwrap();
    }
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(get(store, 1, key), Some(index as u64 + 1));
        assert_eq!(get(store, 2, key), Some(index as u64 + 10));
    }
    assert_eq!((store.len(1).unwrap(), store.len(2).unwrap(), store.len(3).unwrap()), (5, 5, 0));
}

#[test]
fn a_dropped_space_is_gone_and_stays_gone() {
    let store = &Embedded::<u64>::new();
    assert!(matches!(add(store, 7, b"k", 1), Err(Error::UnknownSpace { space: 7 })));
    store.create_space(7).unwrap();
    store.create_space(8).unwrap();
    add(store, 7, b"k", 1).unwrap();
    add(store, 8, b"k", 2).unwrap();
    assert!(store.drop_space(7).unwrap());
    assert!(!store.drop_space(7).unwrap());
    assert_eq!(get(store, 7, b"k"), None);
    assert!(matches!(add(store, 7, b"k", 1), Err(Error::UnknownSpace { space: 7 })));
    assert_eq!(get(store, 8, b"k"), Some(2));
    assert!(store.create_space(7).unwrap());
    assert_eq!(get(store, 7, b"k"), None, "a space created again is empty");
}

#[test]
fn keys_visits_each_once_and_may_call_back() {
    let store = &Embedded::<u64>::new();
    store.create_space(1).unwrap();
    store.create_space(2).unwrap();
    add(store, 2, b"elsewhere", 1).unwrap();
    let expected: BTreeSet<Vec<u8>> =
        (0..1000u32).map(|index| index.to_le_bytes().to_vec()).collect();
    for key in &expected {
        add(store, 1, key, 1).unwrap();
    }
    let mut seen = BTreeSet::new();
    store
        .keys(1, &mut |key| {
            assert!(seen.insert(key.to_vec()), "visited twice");
            add(store, 1, key, 1).unwrap();
        })
        .unwrap();
    assert_eq!(seen, expected);
    assert_eq!(get(store, 1, &7u32.to_le_bytes()), Some(2));
    assert_eq!(store.len(1).unwrap(), 1000);
}

#[test]
fn a_callback_cannot_call_the_store() {
    let store = &Embedded::<u64>::new();
    store.create_space(1).unwrap();
    let refused = |result: Result<(), Error>| matches!(result, Err(Error::Reentrant));
    let mut inner = Vec::new();
    store
        .update(1, b"k", &mut || 0, &mut |_| {
            inner.push(refused(add(store, 1, b"k", 1)));
            inner.push(refused(store.drop_space(1).map(drop)));
        })
        .unwrap();
    let touched = AtomicBool::new(false);
    let touch = |_: &u64| touched.store(refused(store.len(1).map(drop)), Ordering::Relaxed);
    let mut look = |_: usize, _: Option<&u64>| inner.push(refused(store.len(1).map(drop)));
    store.read(1, &[b"k"], touch, &mut look).unwrap();
    assert_eq!(inner, [true, true, true]);
    assert!(touched.into_inner());
    assert_eq!(get(store, 1, b"k"), Some(0), "the store works after a refusal");
}

#[test]
fn concurrent_updates_are_all_counted() {
    let store = &Embedded::<u64>::new();
    store.create_space(1).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in 0..2000u32 {
                    add(store, 1, &(index % 10).to_le_bytes(), 1).unwrap();
                }
            });
        }
    });
    let total: u64 = (0..10u32).filter_map(|key| get(store, 1, &key.to_le_bytes())).sum();
    assert_eq!(total, 8000);
}

/// While one thread creates and drops a space, another writes many keys. Once a write was refused
/// within a life of the space, no later write of the same life may succeed.
#[test]
fn a_drop_is_atomic() {
    let store = &Embedded::<u64>::new();
    let stop = AtomicBool::new(false);
    let mut violations = 0;
    // Odd while the space may exist and nobody is creating it.
    let life = AtomicU64::new(0);
    // The drop falls into a pass of the writer that starts and ends within one life.
    let passes = AtomicU64::new(0);
    let await_passes = |count| {
        let seen = passes.load(Ordering::SeqCst);
        while passes.load(Ordering::SeqCst) < seen + count {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..60 {
                store.create_space(5).unwrap();
                life.fetch_add(1, Ordering::SeqCst);
                await_passes(1);
                store.drop_space(5).unwrap();
                await_passes(2);
                life.fetch_add(1, Ordering::SeqCst);
            }
            stop.store(true, Ordering::SeqCst);
        });
        while !stop.load(Ordering::SeqCst) {
            let before = life.load(Ordering::SeqCst);
            let written: Vec<bool> =
                (0..256u32).map(|key| add(store, 5, &key.to_le_bytes(), 1).is_ok()).collect();
            let one_life = before % 2 == 1 && life.load(Ordering::SeqCst) == before;
            let torn = one_life && !written.is_sorted_by(|a, b| a >= b);
            passes.fetch_add(1, Ordering::SeqCst);
            if torn {
                // Let the other thread end before this one fails.
                violations += 1;
            }
        }
    });
    assert_eq!(violations, 0, "a write succeeded after a refusal in the same life");
    assert_eq!(store.len(5).unwrap(), 0);
}

/// More keys than are found at once, of all locks, some twice and some that do not exist, while
/// they are changed and while all locks are taken.
#[test]
fn many_keys_are_shown_in_their_order() {
    let store = &Embedded::<u64>::new();
    store.create_space(1).unwrap();
    let names: Vec<[u8; 8]> = (0..500_u64).map(u64::to_be_bytes).collect();
    names.iter().step_by(2).for_each(|name| add(store, 1, name, 1).unwrap());
    let mut keys: Vec<&[u8]> = names.iter().map(|name| name.as_slice()).collect();
    keys.extend(names.iter().rev().map(|name| name.as_slice()));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..300 {
                // Those that exist: the first, the third and so on.
                let existing = names.iter().step_by(2).rev();
                existing.for_each(|name| add(store, 1, name, 1).unwrap());
                store.create_space(3).unwrap();
                store.drop_space(3).unwrap();
            }
        });
        let mut reads = 0;
        while reads < 10 || !writer.is_finished() {
            reads += 1;
            let (mut shown, touched) = (0, AtomicU64::new(0));
            let mut look = |index: usize, cell: Option<&u64>| {
                assert_eq!(index, shown);
                assert_eq!(cell.is_some(), keys[index][7].is_multiple_of(2), "{index}");
                shown += 1;
            };
            let touch = |cell: &u64| {
                assert!(*cell > 0);
                touched.fetch_add(1, Ordering::Relaxed);
            };
            store.read(1, &keys, touch, &mut look).unwrap();
            assert_eq!((shown, touched.into_inner()), (1000, 500));
        }
    });
    let mut absent = 0;
    store.read(9, &keys, |_| {}, &mut |_, cell| absent += usize::from(cell.is_none())).unwrap();
    assert_eq!(absent, keys.len());
}
