//! What is deleted, when, and what never is.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use asofdb_storage::{Error, FileRef, History, Manifest};

use crate::failing_store::{FailingStore, Failure};
use crate::rows::{OWNER, data_files, open, read, rows, write_file};

/// A history with two files of stream 1 and one of stream 2.
async fn filled(store: &Arc<FailingStore>) -> (History, Arc<Manifest>) {
    let history = open(store).await.unwrap();
    history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let second = vec![rows(1, &[&[(2, 2, 2)]]), rows(2, &[&[(3, 3, 3)]])];
    let manifest = history.append(4, second).await.unwrap();
    (history, manifest)
}

/// The paths of the stored files that are among `files`.
async fn left(store: &FailingStore, history: &History, files: &[FileRef]) -> usize {
    let stored = data_files(&*store.inner).await;
    files.iter().filter(|file| stored.contains(&history.location(file).to_string())).count()
}

/// The paths only: nobody is kept from deleting the files.
fn paths(manifest: &Manifest, history: &History) -> Vec<String> {
    let files = manifest.streams.values().flat_map(|stream| &stream.files);
    files.map(|file| history.location(file).to_string()).collect()
}

fn sorted(mut paths: Vec<String>) -> Vec<String> {
    paths.sort();
    paths
}

#[tokio::test]
async fn only_files_that_nobody_holds_are_deleted() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = filled(&store).await;
    let held = old.files(1)[0].clone();
    let merged = write_file(&history, 1, &[(1, 1, 1), (2, 2, 2)]).await;
    history.replace(1, old.files(1), vec![merged], None).await.unwrap();
    assert_eq!(history.delete_retired().await.unwrap(), 0, "a snapshot holds them");
    assert_eq!(left(&store, &history, old.files(1)).await, 2);
    let paths = paths(&old, &history);
    drop(old);
    assert_eq!(history.delete_retired().await.unwrap(), 1, "one is held by itself");
    assert_eq!(read(&history, &held).await, [(1, 1, 1)]);
    assert!(!data_files(&*store.inner).await.contains(&paths[1]));
    let clone = held.clone();
    drop(held);
    assert_eq!(history.clone().delete_retired().await.unwrap(), 0, "a clone holds it, too");
    drop(clone);
    assert_eq!(history.delete_retired().await.unwrap(), 1);
    assert_eq!(history.delete_retired().await.unwrap(), 0);
    let present = history.manifest();
    assert_eq!(data_files(&*store.inner).await.len(), 2);
    assert_eq!(left(&store, &history, present.files(1)).await, 1);
    assert_eq!(left(&store, &history, present.files(2)).await, 1);
}

#[tokio::test]
async fn a_file_of_the_present_snapshot_is_never_deleted() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = filled(&store).await;
    drop(old);
    for covered in 5..8 {
        history.append(covered, vec![]).await.unwrap();
        assert_eq!(history.delete_retired().await.unwrap(), 0);
    }
    assert_eq!(data_files(&*store.inner).await.len(), 3);
}

#[tokio::test]
async fn who_holds_a_file_holds_it_after_the_manifest_was_read_again() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = filled(&store).await;
    let held = old.files(1)[0].clone();
    drop(old);
    // An append whose outcome is unknown, so that the manifest is read again.
    store.fail(Some(("manifest.json", Failure::Unreachable)));
    history.append(5, vec![]).await.unwrap_err();
    store.fail(None);
    assert_eq!(history.refresh().await.unwrap().covered, 5);
    let present = history.manifest();
    history.replace(1, present.files(1), vec![], None).await.unwrap();
    drop(present);
    assert_eq!(history.delete_retired().await.unwrap(), 1, "the other one");
    assert_eq!(read(&history, &held).await, [(1, 1, 1)]);
    drop(held);
    assert_eq!(history.delete_retired().await.unwrap(), 1);

    // A replacement whose outcome is unknown: what it removed waits for its readers.
    let held = history.manifest().files(2)[0].clone();
    store.fail(Some(("manifest.json", Failure::Unreachable)));
    history.drop_stream(2).await.unwrap_err();
    assert_eq!(history.delete_retired().await.unwrap(), 0, "it may be part of the history");
    store.fail(None);
    assert_eq!(history.refresh().await.unwrap().files(2), []);
    assert_eq!(history.delete_retired().await.unwrap(), 0);
    assert_eq!(read(&history, &held).await, [(3, 3, 3)]);
    drop(held);
    assert_eq!(history.delete_retired().await.unwrap(), 1);
    assert_eq!(data_files(&*store.inner).await, [""; 0]);
}

#[tokio::test]
async fn a_failed_deletion_is_tried_again() {
    let store = Arc::new(FailingStore::default());
    let (history, old) = filled(&store).await;
    let stuck = old.files(1)[0].path.clone();
    let paths = paths(&old, &history);
    drop(old);
    history.drop_stream(1).await.unwrap();
    store.keep(Some(&stuck));
    for _ in 0..2 {
        let failed = history.delete_retired().await;
        let Err(Error::Store { path, .. }) = failed else { panic!("{failed:?}") };
        assert_eq!(path, paths[0]);
        assert_eq!(data_files(&*store.inner).await, [&*paths[0], &*paths[2]], "not the other");
    }
    store.keep(None);
    assert_eq!(history.delete_retired().await.unwrap(), 1);
    assert_eq!(data_files(&*store.inner).await, [&*paths[2]]);
}

#[tokio::test]
async fn files_of_a_dropped_stream_go() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open_local(dir.path(), OWNER).await.unwrap();
    let both = vec![rows(1, &[&[(1, 1, 1)]]), rows(2, &[&[(2, 2, 2)]])];
    let old = history.append(3, both).await.unwrap();
    history.drop_stream(1).await.unwrap();
    let (gone, stays) = (dir.path().join(&old.files(1)[0].path), &old.files(2)[0].path);
    assert_eq!(history.delete_retired().await.unwrap(), 0);
    assert!(gone.exists());
    let stays = dir.path().join(stays);
    drop(old);
    assert_eq!(history.delete_retired().await.unwrap(), 1);
    assert!(!gone.exists() && stays.exists());
    drop(history);
    assert_eq!(History::open_local(dir.path(), OWNER).await.unwrap().manifest().files(2).len(), 1);
}

fn put(root: &Path, name: &str) -> std::path::PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"garbage").unwrap();
    path
}

#[tokio::test]
async fn what_a_crash_left_is_deleted_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open_local(dir.path(), OWNER).await.unwrap();
    let manifest = history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let unnamed = dir.path().join(write_file(&history, 1, &[(2, 2, 2)]).await.path);
    drop(history);
    let mut garbage = vec![unnamed];
    for name in [
        "data/stream1/0000000002-0000000000000000.parquet.tmp",
        "data/stream1/0000000002-0000000000000000.parquet",
        "data/dropped/0000000001-0000000000000000.parquet",
        "data/deep/deeper/0000000001-0000000000000000.parquet.tmp",
        "data/0000000001-0000000000000000.parquet",
    ] {
        garbage.push(put(dir.path(), name));
    }
    let mut others = vec![dir.path().join(&manifest.files(1)[0].path)];
    let foreign =
        ["notes.txt", "other/data/file.parquet", "data/lake/part-0.parquet", "data/x.tmp"];
    others.extend(foreign.map(|name| put(dir.path(), name)));
    let history = History::open_local(dir.path(), OWNER).await.unwrap();
    assert_eq!(history.manifest(), manifest);
    for path in garbage {
        assert!(!path.exists(), "{}", path.display());
    }
    for path in others {
        assert!(path.exists(), "{}", path.display());
    }
}

#[tokio::test]
async fn garbage_that_cannot_be_deleted_is_reported_at_open() {
    let store = Arc::new(FailingStore::default());
    let (history, manifest) = filled(&store).await;
    let unnamed = write_file(&history, 1, &[(2, 2, 2)]).await;
    store.keep(Some(&unnamed.path));
    let failed = open(&store).await;
    assert!(matches!(failed, Err(Error::Store { .. })), "{failed:?}");
    store.keep(None);
    open(&store).await.unwrap();
    assert_eq!(data_files(&*store.inner).await, sorted(paths(&manifest, &history)));
}

#[tokio::test]
async fn files_of_a_failed_swap_go_once_no_swap_can_name_them() {
    let store = Arc::new(FailingStore::default());
    let (history, manifest) = filled(&store).await;
    let named = sorted(paths(&manifest, &history));
    store.fail(Some(("manifest.json", Failure::Refused)));
    history.append(5, vec![rows(1, &[&[(4, 4, 4)]])]).await.unwrap_err();
    let merged = write_file(&history, 1, &[(1, 1, 1), (2, 2, 2)]).await;
    history.replace(1, manifest.files(1), vec![merged], None).await.unwrap_err();
    store.fail(None);
    assert_eq!(history.delete_retired().await.unwrap(), 0, "the store may yet get to it");
    history.append(5, vec![]).await.unwrap();
    assert_eq!(history.delete_retired().await.unwrap(), 2);
    assert_eq!(data_files(&*store.inner).await, named);
}

#[tokio::test]
async fn files_of_a_swap_that_took_effect_stay_for_their_readers() {
    let store = Arc::new(FailingStore::default());
    let (history, _) = filled(&store).await;
    store.fail(Some(("manifest.json", Failure::Unreachable)));
    history.append(5, vec![rows(3, &[&[(4, 4, 4)]])]).await.unwrap_err();
    store.fail(None);
    let held = history.refresh().await.unwrap().files(3)[0].clone();
    history.append(6, vec![]).await.unwrap();
    assert_eq!(history.delete_retired().await.unwrap(), 0);
    history.drop_stream(3).await.unwrap();
    assert_eq!(history.delete_retired().await.unwrap(), 0);
    assert_eq!(read(&history, &held).await, [(4, 4, 4)]);
    drop(held);
    assert_eq!(history.delete_retired().await.unwrap(), 1);
}

#[tokio::test]
async fn garbage_is_not_deleted_under_a_process_that_is_about_to_name_it() {
    let store = Arc::new(FailingStore::default());
    let (first, manifest) = filled(&store).await;
    let merged = write_file(&first, 1, &[(1, 1, 1), (2, 2, 2)]).await;
    let second = open(&store).await.unwrap();
    assert_eq!(data_files(&*store.inner).await.len(), 3, "to the second it was garbage");
    let lost = first.replace(1, manifest.files(1), vec![merged], None).await;
    assert!(matches!(lost, Err(Error::ManifestConflict { .. })), "{lost:?}");
    assert_eq!(second.manifest().streams, manifest.streams);
    assert_eq!(open(&store).await.unwrap().manifest().streams, manifest.streams);
}

#[tokio::test]
async fn a_history_at_a_file_url_is_a_local_one() {
    let dir = tempfile::tempdir().unwrap();
    let url = url::Url::from_file_path(dir.path().join("with space")).unwrap();
    let history = History::open_url(&url, vec![], OWNER).await.unwrap();
    history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let again = History::open_url(&url, vec![], OWNER).await;
    assert!(matches!(again, Err(Error::Locked { .. })), "{again:?}");
    drop(history);
    let history = History::open_local(&dir.path().join("with space"), OWNER).await.unwrap();
    assert_eq!(history.manifest().covered, 2);
    let odd = url::Url::parse("gopher://host/path").unwrap();
    let odd = History::open_url(&odd, vec![], OWNER).await;
    assert!(matches!(odd, Err(Error::Store { .. })), "{odd:?}");
}
