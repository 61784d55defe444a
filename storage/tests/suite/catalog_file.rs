//! The catalog's file holds the last stored document or says what is wrong.

use std::fs;

use asofdb_storage::{CatalogFile, Error};

#[test]
fn holds_the_last_document() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/catalog");
    let file = CatalogFile::open(&path).unwrap();
    assert_eq!(file.load().unwrap(), None);
    for document in [&b"one\ntwo"[..], b"", b"\0\xff"] {
        file.store(document).unwrap();
        assert_eq!(CatalogFile::open(&path).unwrap().load().unwrap().as_deref(), Some(document));
    }
}

#[test]
fn a_replacement_that_was_torn_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog");
    CatalogFile::open(&path).unwrap().store(b"old").unwrap();
    let aside = dir.path().join("catalog.tmp");
    fs::write(&aside, b"asofdb-catalog 1 1000 00").unwrap();
    let file = CatalogFile::open(&path).unwrap();
    assert_eq!(file.load().unwrap().unwrap(), b"old");
    assert!(!aside.exists());
}

#[test]
fn every_changed_or_missing_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog");
    let file = CatalogFile::open(&path).unwrap();
    file.store(b"a document").unwrap();
    let good = fs::read(&path).unwrap();
    for offset in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[offset] ^= 1 << bit;
            fs::write(&path, &bad).unwrap();
            match file.load() {
                Err(Error::Damaged { file, .. } | Error::UnknownVersion { file, .. }) => {
                    assert_eq!(file, path);
                }
                // The case of a hexadecimal digit of the checksum has no meaning.
                Ok(Some(document)) => {
                    assert!(good[offset].is_ascii_hexdigit(), "byte {offset}, bit {bit}");
                    assert_eq!(document, b"a document");
                }
                other => panic!("byte {offset}, bit {bit}: {other:?}"),
            }
        }
        fs::write(&path, &good[..offset]).unwrap();
        assert!(matches!(file.load(), Err(Error::Damaged { .. })), "cut at {offset}");
    }
    fs::write(&path, [&good[..], b"x"].concat()).unwrap();
    assert!(matches!(file.load(), Err(Error::Damaged { .. })), "a byte too many");
}

#[test]
fn a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog");
    fs::write(&path, b"asofdb-catalog 2 whatever follows\n{}").unwrap();
    let error = CatalogFile::open(&path).unwrap().load().unwrap_err();
    assert!(matches!(error, Error::UnknownVersion { found: 2, supported: 1, .. }), "{error}");
}
