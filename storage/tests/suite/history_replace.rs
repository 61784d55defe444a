//! Files that take the place of others: at once or not at all.

use std::sync::Arc;

use asofdb_storage::{Error, FileRef, History, Manifest};

use crate::failing_store::{FailingStore, Failure};
use crate::rows::{Row, by_value, data_files, open, read, read_all, rows, write_file};

/// A history with three files of stream 1 and one of stream 2.
async fn three_files(store: &Arc<FailingStore>) -> (History, Arc<Manifest>) {
    let history = open(store).await.unwrap();
    for position in 1..4 {
        let row = [(position as i64, 10, position)];
        history.append(position + 1, vec![rows(1, &[&row])]).await.unwrap();
    }
    let manifest = history.append(5, vec![rows(2, &[&[(4, 10, 4)]])]).await.unwrap();
    (history, manifest)
}

const MERGED: [Row; 2] = [(1, 10, 1), (2, 10, 2)];

#[tokio::test]
async fn a_replacement_shows_the_new_files_and_keeps_the_old_for_their_readers() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = three_files(&store).await;
    let merged = write_file(&history, 1, &MERGED).await;
    let new = history.replace(1, &old.files(1)[..2], vec![merged.clone()], None).await.unwrap();
    assert_eq!(new, history.manifest());
    assert_eq!((new.generation, new.covered), (old.generation + 1, old.covered));
    assert_eq!(new.files(1), [old.files(1)[2].clone(), new.files(1)[1].clone()]);
    assert_eq!((&*new.files(1)[1], &new.files(1)[1].layout), (&merged, &by_value(0, 1)));
    assert_eq!(new.files(2), old.files(2));
    assert_eq!(read_all(&history, 1).await, [vec![(3, 10, 3)], MERGED.to_vec()]);
    history.delete_retired().await.unwrap();
    for (file, row) in old.files(1).iter().zip(1..) {
        assert_eq!(read(&history, file).await, [(row as i64, 10, row)], "the old snapshot");
    }
    assert_eq!(open(&store).await.unwrap().manifest().streams, new.streams);
}

#[tokio::test]
async fn a_replacement_by_nothing_and_by_several() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = three_files(&store).await;
    let emptied = history.replace(1, old.files(1), vec![], None).await.unwrap();
    assert_eq!(emptied.files(1), []);
    let (one, two) =
        (write_file(&history, 1, &MERGED[..1]).await, write_file(&history, 1, &MERGED[1..]).await);
    history.replace(1, &[], vec![one, two], None).await.unwrap();
    assert_eq!(read_all(&history, 1).await, [&MERGED[..1], &MERGED[1..]]);
}

#[tokio::test]
async fn a_failing_swap_leaves_the_old_files() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = three_files(&store).await;
    let merged = write_file(&history, 1, &MERGED).await;
    store.fail(Some(("manifest.json", Failure::Refused)));
    let failed = history.replace(1, old.files(1), vec![merged.clone()], Some(9)).await;
    assert!(matches!(failed, Err(Error::Store { .. })), "{failed:?}");
    store.fail(None);
    assert_eq!(history.manifest(), old);
    assert_eq!(read_all(&history, 1).await.concat(), [(1, 10, 1), (2, 10, 2), (3, 10, 3)]);
    assert_eq!(open(&store).await.unwrap().manifest().streams, old.streams);
}

#[tokio::test]
async fn a_swap_whose_answer_is_lost_took_effect() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = three_files(&store).await;
    let merged = write_file(&history, 1, &MERGED).await;
    store.fail(Some(("manifest.json", Failure::AnswerLost)));
    let new = history.replace(1, &old.files(1)[..2], vec![merged], Some(9)).await.unwrap();
    store.fail(None);
    assert_eq!((new.files(1).len(), new.kept_from(1)), (2, Some(9)));
    history.append(6, vec![]).await.unwrap();
    assert_eq!(open(&store).await.unwrap().manifest().streams, new.streams);
}

#[tokio::test]
async fn an_unknown_swap_is_not_made_twice() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = three_files(&store).await;
    let merged = write_file(&history, 1, &MERGED).await;
    store.fail(Some(("manifest.json", Failure::Unreachable)));
    let swap = |added| history.replace(1, &old.files(1)[..2], added, None);
    let unknown = swap(vec![merged.clone()]).await;
    assert!(matches!(unknown, Err(Error::Store { .. })), "{unknown:?}");
    assert_eq!(history.manifest(), old);
    store.fail(None);
    let again = swap(vec![merged]).await;
    assert!(matches!(again, Err(Error::FilesGone { stream: 1 })), "{again:?}");
    assert_eq!(read_all(&history, 1).await, [vec![(3, 10, 3)], MERGED.to_vec()]);
}

#[tokio::test]
async fn files_that_are_gone_cannot_be_replaced() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = three_files(&store).await;
    let first: &[FileRef] = &old.files(1)[..1];
    let now = history.replace(1, first, vec![], Some(3)).await.unwrap();
    history.drop_stream(2).await.unwrap();
    let before = history.manifest();
    let twice = [now.files(1)[0].clone(), now.files(1)[0].clone()];
    let cases = [(1, old.files(1)), (2, old.files(2)), (2, &[]), (9, first), (1, &twice[..])];
    for (stream, removed) in cases {
        let added = write_file(&history, stream, &MERGED).await;
        let refused = history.replace(stream, removed, vec![added], Some(7)).await;
        let Err(Error::FilesGone { stream: named }) = refused else { panic!("{refused:?}") };
        assert_eq!(named, stream);
        assert_eq!(history.manifest(), before, "neither files nor kept_from changed");
    }
    assert_eq!(open(&store).await.unwrap().manifest().streams, before.streams);
}

#[tokio::test]
async fn what_was_to_replace_gone_files_does_not_stay() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = three_files(&store).await;
    history.drop_stream(1).await.unwrap();
    let added = write_file(&history, 1, &MERGED).await;
    let path = history.location(&added).to_string();
    history.replace(1, old.files(1), vec![added], None).await.unwrap_err();
    assert!(data_files(&*store.inner).await.contains(&path));
    history.delete_retired().await.unwrap();
    assert!(!data_files(&*store.inner).await.contains(&path));
}

#[tokio::test]
async fn the_time_of_expiry_only_rises() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = three_files(&store).await;
    assert_eq!(old.kept_from(1), None);
    for (asked, kept_from) in [
        (None, None),
        (Some(-5), Some(-5)),
        (Some(3), Some(3)),
        (Some(2), Some(3)),
        (None, Some(3)),
        (Some(4), Some(4)),
    ] {
        let manifest = history.replace(1, &[], vec![], asked).await.unwrap();
        assert_eq!(manifest.kept_from(1), kept_from, "after {asked:?}");
        assert_eq!((manifest.files(1), manifest.kept_from(2)), (old.files(1), None));
        assert_eq!(open(&store).await.unwrap().manifest().kept_from(1), kept_from);
    }
    history.append(6, vec![rows(1, &[&[(5, 5, 5)]])]).await.unwrap();
    assert_eq!(history.manifest().kept_from(1), Some(4), "an append leaves it");
    let dropped = history.drop_stream(1).await.unwrap();
    assert_eq!(dropped.kept_from(1), None);
}

#[tokio::test]
async fn appends_and_replacements_at_the_same_time_lose_nothing() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = three_files(&store).await;
    let merged = write_file(&history, 1, &MERGED).await;
    let (appended, swapped, dropped) = tokio::join!(
        history.append(6, vec![rows(1, &[&[(5, 10, 5)]])]),
        history.replace(1, &old.files(1)[..2], vec![merged], None),
        history.drop_stream(2),
    );
    let generation =
        [appended, swapped, dropped].into_iter().map(|r| r.unwrap().generation).max().unwrap();
    assert_eq!(generation, old.generation + 3);
    let mut found = read_all(&history, 1).await.concat();
    found.sort_unstable();
    assert_eq!(found, [(1, 10, 1), (2, 10, 2), (3, 10, 3), (5, 10, 5)]);
    assert_eq!(history.manifest().files(2), []);
}
