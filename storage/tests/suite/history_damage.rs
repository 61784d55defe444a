//! Damage inside a file of the history: whoever reads it through the store is told, and is never
//! given other bytes. `ASOFDB_SEED=2` takes other rows and positions.

use std::fs;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use asofdb_storage::{DataFile, Error, FileRef, History, Owner};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::failing_store::FailingStore;
use crate::rows::{OWNER, Row, open, parquet, read_all, rows, rows_of};

/// Bytes of a block that has a checksum of its own.
const BLOCK: u64 = 128 << 10;

/// Where the database came from whose folder is in `tests/data/formats/1`.
const EARLIER_OWNER: Owner = Owner("3e3770f6948f36dec1b381c35d028143");

fn seeded() -> StdRng {
    let seed = std::env::var("ASOFDB_SEED").map_or(1, |text| text.parse().unwrap());
    eprintln!("ASOFDB_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Rows that do not compress: a file of them has some blocks.
fn scattered(rng: &mut StdRng) -> Vec<Row> {
    (1..=25_000).map(|position| (rng.random(), rng.random(), position)).collect()
}

/// A local history of one file, and what the file holds.
struct Filled {
    history: History,
    file: FileRef,
    path: PathBuf,
    bytes: Vec<u8>,
    _folder: tempfile::TempDir,
}

impl Filled {
    async fn new(rng: &mut StdRng) -> Filled {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open_local(folder.path(), OWNER).await.unwrap();
        let manifest = history.append(25_001, vec![rows(1, &[&scattered(rng)])]).await.unwrap();
        let file = manifest.files(1)[0].clone();
        let path = folder.path().join(&file.path);
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() as u64 > 3 * BLOCK, "{} bytes", bytes.len());
        Filled { history, file, path, bytes, _folder: folder }
    }

    /// What is left of the file becomes these bytes.
    fn damage(&self, bytes: &[u8]) {
        fs::write(&self.path, bytes).unwrap();
    }

    fn flip(&self, position: usize, bit: u8) {
        let mut bytes = self.bytes.clone();
        bytes[position] ^= 1 << bit;
        self.damage(&bytes);
    }

    async fn get(&self, options: GetOptions) -> object_store::Result<Bytes> {
        let location = self.history.location(&self.file);
        self.history.store().get_opts(&location, options).await?.bytes().await
    }

    async fn part(&self, range: Range<u64>) -> object_store::Result<Bytes> {
        self.get(GetOptions::default().with_range(Some(GetRange::Bounded(range)))).await
    }

    /// Reads the rows as queries do.
    async fn rows(&self) -> Result<Vec<Row>, String> {
        let location = self.history.location(&self.file);
        let reader = Reader { store: self.history.store(), location, length: self.file.bytes };
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(text)?;
        let batches = builder.build().map_err(text)?.try_collect::<Vec<_>>().await.map_err(text)?;
        Ok(batches.iter().flat_map(rows_of).collect())
    }

    /// Every way to read the file tells that it is damaged at `offset`, and names it.
    async fn is_noticed(&self, offset: u64, what: &str) {
        let damaged = format!("{} is damaged at byte {offset}: ", self.file.path);
        let checked = self.history.check(&self.file).await;
        assert!(
            matches!(&checked, Err(error @ Error::Damaged { .. }) if error.to_string().starts_with(&damaged)),
            "{what}: {checked:?}"
        );
        for read in [
            self.rows().await.map(|rows| rows.len()),
            self.get(GetOptions::default()).await.map(|bytes| bytes.len()).map_err(text),
        ] {
            assert!(matches!(&read, Err(text) if text.contains(&damaged)), "{what}: {read:?}");
        }
    }
}

/// Reads a file for Parquet as DataFusion does.
struct Reader {
    store: Arc<dyn ObjectStore>,
    location: Path,
    length: u64,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store.get_range(&self.location, range).map_err(ParquetError::from).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { Ok(self.store.get_ranges(&self.location, &ranges).await?) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let length = self.length;
        let metadata = ParquetMetaDataReader::new().load_and_finish(self, length);
        metadata.map_ok(Arc::new).boxed()
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_an_error_that_names_the_file() {
    let mut rng = seeded();
    let filled = Filled::new(&mut rng).await;
    let before = filled.rows().await.unwrap();
    assert_eq!(before.len(), 25_000);
    let last = filled.bytes.len() - 1;
    let mut positions = vec![0, BLOCK as usize - 1, BLOCK as usize, last - 8, last];
    // The footer and the indexes are small: half of the positions are near the end.
    positions.extend((0..150).map(|_| rng.random_range(0..=last)));
    positions.extend((0..150).map(|_| rng.random_range(last - 4000..=last)));
    for position in positions {
        let bit = rng.random_range(0..8);
        filled.flip(position, bit);
        let block = position as u64 / BLOCK * BLOCK;
        filled.is_noticed(block, &format!("bit {bit} of byte {position}")).await;
        let around = filled.part(position as u64..position as u64 + 1).await;
        assert!(text(around.unwrap_err()).contains(&filled.file.path));
        // What is whole is still read.
        let other = if block == 0 { BLOCK..BLOCK + 9 } else { 0..9 };
        let expected = &filled.bytes[other.start as usize..other.end as usize];
        assert_eq!(filled.part(other).await.unwrap(), expected);
    }
    filled.damage(&filled.bytes);
    filled.history.check(&filled.file).await.unwrap();
    assert!(filled.rows().await.unwrap() == before);
}

#[tokio::test]
async fn a_file_of_another_length_and_swapped_blocks_are_noticed() {
    let mut rng = seeded();
    let filled = Filled::new(&mut rng).await;
    let (bytes, length) = (&filled.bytes, filled.bytes.len());
    let longer = [bytes.as_slice(), &bytes[..1]].concat();
    for other in [&[], &bytes[..1], &bytes[..length / 2], &bytes[..length - 1], &longer] {
        filled.damage(other);
        let checked = filled.history.check(&filled.file).await;
        assert!(matches!(&checked, Err(Error::Damaged { .. })), "{}: {checked:?}", other.len());
        let whole = text(filled.get(GetOptions::default()).await.unwrap_err());
        assert!(
            whole.contains(&filled.file.path) && whole.contains("the manifest says"),
            "{whole}"
        );
        if other.len() < length {
            filled.rows().await.unwrap_err();
        }
        filled.part(length as u64 - 1..length as u64).await.unwrap_err();
    }
    let block = BLOCK as usize;
    let swapped = [&bytes[..block], &bytes[2 * block..3 * block], &bytes[block..2 * block]];
    filled.damage(&[&swapped.concat(), &bytes[3 * block..]].concat());
    filled.is_noticed(BLOCK, "two blocks in each other's place").await;
    fs::remove_file(&filled.path).unwrap();
    assert!(matches!(filled.history.check(&filled.file).await, Err(Error::Damaged { .. })));
}

#[tokio::test]
async fn every_range_is_that_of_the_file() {
    let mut rng = seeded();
    let filled = Filled::new(&mut rng).await;
    let (length, location) = (filled.file.bytes, filled.history.location(&filled.file));
    let expected = |range: &Range<u64>| {
        filled.bytes[range.start as usize..range.end.min(length) as usize].to_vec()
    };
    let edges: Vec<u64> = [0, BLOCK, 2 * BLOCK, 3 * BLOCK, length]
        .iter()
        .flat_map(|edge| [edge.saturating_sub(1), *edge, edge + 1])
        .collect();
    let store = filled.history.store();
    for _ in 0..40 {
        let mut ranges = Vec::new();
        while ranges.len() < 12 {
            let mut bound = || match rng.random_range(0..2) {
                0 => edges[rng.random_range(0..edges.len())],
                _ => rng.random_range(0..length),
            };
            let (a, b) = (bound(), bound());
            let range = a.min(b)..a.max(b);
            if range.start < range.end.min(length) {
                ranges.push(range);
            }
        }
        let parts = store.get_ranges(&location, &ranges).await.unwrap();
        assert_eq!(parts.len(), ranges.len());
        for (range, part) in ranges.iter().zip(parts) {
            assert!(part == expected(range), "{range:?} among {ranges:?}");
        }
        let range = &ranges[0];
        assert!(filled.part(range.clone()).await.unwrap() == expected(range), "{range:?}");
        for (asked, range) in [
            (GetRange::Offset(range.start), range.start..length),
            (GetRange::Suffix(range.end), length.saturating_sub(range.end)..length),
        ] {
            let found = filled.get(GetOptions::default().with_range(Some(asked.clone()))).await;
            assert!(found.unwrap() == expected(&range), "{asked:?}");
        }
    }
    assert_eq!(filled.get(GetOptions::default()).await.unwrap(), filled.bytes);
    filled.part(length..length + 1).await.unwrap_err();
    assert_eq!(store.head(&location).await.unwrap().size, length);
}

#[tokio::test]
async fn many_ranges_of_a_block_read_it_once() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let rows = rows(1, &[&scattered(&mut seeded())]);
    let manifest = history.append(25_001, vec![rows]).await.unwrap();
    let location = history.location(&manifest.files(1)[0]);
    let small: Vec<_> = (0..100).rev().map(|index| index * 1000..index * 1000 + 10).collect();
    let far = 2 * BLOCK + 7..2 * BLOCK + 8;
    let ranges = [small, vec![far]].concat();
    history.store().get_ranges(&location, &ranges).await.unwrap();
    assert_eq!(*store.ranges.lock().unwrap(), [0..BLOCK, 2 * BLOCK..3 * BLOCK]);
}

#[tokio::test]
async fn a_file_that_is_replaced_is_verified_as_long_as_it_is_read() {
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    let before = history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    history.drop_stream(1).await.unwrap();
    history.append(3, vec![rows(1, &[&[(2, 2, 2)]])]).await.unwrap();
    let location = history.location(&before.files(1)[0]);
    let bytes = store.inner.get(&location).await.unwrap().bytes().await.unwrap();
    let mut changed = bytes.to_vec();
    changed[10] ^= 1;
    store.inner.put(&location, PutPayload::from(changed)).await.unwrap();
    let read = history.store().get(&location).await.unwrap().bytes().await;
    assert!(text(read.unwrap_err()).contains(location.as_ref()));
}

#[tokio::test]
async fn a_backup_of_a_damaged_file_fails() {
    let mut rng = seeded();
    let filled = Filled::new(&mut rng).await;
    let backup = tempfile::tempdir().unwrap();
    let manifest = filled.history.manifest();
    let copy = async |name: &str| {
        filled.history.copy_to(&manifest, &backup.path().join(name), &mut |_: &DataFile| {}).await
    };
    copy("whole").await.unwrap();
    let restored = History::open_local(&backup.path().join("whole"), OWNER).await.unwrap();
    restored.check(&restored.manifest().files(1)[0]).await.unwrap();
    filled.flip(rng.random_range(0..filled.bytes.len()), 3);
    let failed = copy("damaged").await;
    let Err(Error::Damaged { file, .. }) = &failed else { panic!("{failed:?}") };
    assert_eq!(file, FsPath::new(&filled.file.path));
    assert!(!backup.path().join("damaged/manifest.json").exists(), "it is no history");
}

/// A copy of the history that an earlier version wrote.
fn earlier() -> tempfile::TempDir {
    let stored = FsPath::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/formats/1/history");
    let copy = tempfile::tempdir().unwrap();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        fs::create_dir_all(copy.path().join(&folder)).unwrap();
        for entry in fs::read_dir(stored.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                fs::copy(entry.path(), copy.path().join(path)).unwrap();
            }
        }
    }
    copy
}

#[tokio::test]
async fn a_manifest_without_checksums_is_read_and_its_files_too() {
    let folder = earlier();
    let text = || fs::read_to_string(folder.path().join("manifest.json")).unwrap();
    assert!(text().contains("\"format\": 2") && !text().contains("\"sums\""));
    let history = History::open_local(folder.path(), EARLIER_OWNER).await.unwrap();
    let old = history.manifest();
    assert_eq!(old.all_files().count(), 4);
    for file in old.all_files() {
        assert_eq!(file.sums, None);
        history.check(file).await.unwrap();
        let count = parquet(&history, file).await.metadata().file_metadata().num_rows();
        assert_eq!(count as u64, file.rows);
    }
    let next = history.append(62, vec![rows(9, &[&[(1, 1, 61)]])]).await.unwrap();
    assert!(next.files(9)[0].sums.is_some());
    assert!(text().contains("\"format\": 3"), "{}", text());
    drop(history);
    let history = History::open_local(folder.path(), EARLIER_OWNER).await.unwrap();
    assert_eq!(history.manifest(), next);
    assert_eq!(history.manifest().files(1), old.files(1), "they are as they were");
    assert_eq!(read_all(&history, 9).await, [[(1, 1, 61)]]);
}

#[tokio::test]
async fn the_manifest_has_the_checksum_of_each_block() {
    let filled = Filled::new(&mut seeded()).await;
    let sums: String = filled
        .bytes
        .chunks(BLOCK as usize)
        .map(|block| format!("{:08x}", crc32c::crc32c(block)))
        .collect();
    let manifest = filled.path.ancestors().nth(3).unwrap().join("manifest.json");
    let text = fs::read_to_string(manifest).unwrap();
    assert!(text.contains(&format!("\"sums\": \"{sums}\"")), "{sums} in {text}");
    // Changed, they are damage of the manifest.
    let location = Path::from("some/prefix/manifest.json");
    let store = Arc::new(FailingStore::default());
    let history = open(&store).await.unwrap();
    history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let good = store.inner.get(&location).await.unwrap().bytes().await.unwrap();
    let good = String::from_utf8(good.to_vec()).unwrap();
    let digits = good.split("\"sums\": \"").nth(1).unwrap().split('"').next().unwrap();
    for other in ["", "00000000", "0000", "what is this", &format!("{digits}{digits}")] {
        let changed = good.replace(&format!("\"{digits}\""), &format!("\"{other}\""));
        assert_ne!(changed, good);
        store.inner.put(&location, PutPayload::from(changed)).await.unwrap();
        let opened = open(&store).await;
        assert!(matches!(opened, Err(Error::Damaged { .. })), "{other}: {opened:?}");
    }
}
