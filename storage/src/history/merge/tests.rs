//! Decisions over files made by hand, and a life of a stream whose merges are carried out on counts
//! of rows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::manifest::FileLayout;
use super::*;

/// A file of `rows` rows in `bucket`, by the column `key` if it has one.
fn file(name: &str, rows: u64, key: &str, bucket: Option<Bucket>) -> DataFile {
    DataFile {
        path: name.to_owned(),
        rows,
        bytes: rows * 10,
        first_position: 1,
        last_position: rows,
        min_time: 0,
        max_time: 100,
        layout: FileLayout { sorted_by: by(key), bucket },
        sums: None,
    }
}

fn by(key: &str) -> Vec<String> {
    if key.is_empty() { Vec::new() } else { vec![key.to_owned()] }
}

fn bucket(index: u32, count: u32) -> Option<Bucket> {
    Some(Bucket { index, count })
}

fn refs(files: Vec<DataFile>) -> Vec<FileRef> {
    files.into_iter().map(FileRef::new).collect()
}

fn loose(rows: &[u64]) -> Vec<FileRef> {
    let files = rows.iter().enumerate();
    refs(files.map(|(index, &rows)| file(&index.to_string(), rows, "key", None)).collect())
}

/// The names of a merge's inputs and its number of buckets.
fn named(merge: Option<Merge>) -> Option<(Vec<String>, u32)> {
    let merge = merge?;
    let mut names: Vec<_> = merge.inputs.iter().map(|file| file.path.clone()).collect();
    names.sort();
    Some((names, merge.buckets))
}

fn some(names: &[&str], buckets: u32) -> Option<(Vec<String>, u32)> {
    Some((names.iter().map(|&name| name.to_owned()).collect(), buckets))
}

#[test]
fn loose_files_wait_until_there_are_enough() {
    assert_eq!(next(&[], &by("key"), None), None);
    assert_eq!(everything(&[], &by("key"), Some(5)), None);
    for count in 1..FAN_IN {
        assert_eq!(next(&loose(&vec![7; count]), &by("key"), None), None);
    }
    assert_eq!(
        named(next(&loose(&[1, 900, 20, 7, 3]), &by("key"), None)),
        some(&["0", "1", "2", "3", "4"], 1)
    );
    assert_eq!(named(everything(&loose(&[7]), &by("key"), None)), some(&["0"], 1));
}

#[test]
fn the_smallest_are_merged_as_far_as_bytes_allow() {
    let gib = (1 << 30) / 10;
    let large = loose(&[9 * gib, gib, gib, 2, 8 * gib, 7 * gib]);
    let (names, _) = named(next(&large, &by(""), None)).unwrap();
    assert_eq!(names, ["1", "2", "3", "5"], "four, though they have more than 4 GiB");
    let many = loose(&[gib / 2; 12]);
    assert_eq!(next(&many, &by(""), None).unwrap().inputs.len(), 8);
    assert_eq!(everything(&many, &by(""), None).unwrap().inputs.len(), 12);
}

#[test]
fn files_of_a_bucket_are_merged_by_size() {
    let key = by("key");
    let mut files = Vec::new();
    for (name, rows) in [("a", 16), ("b", 20), ("c", 63), ("large", 64), ("small", 15)] {
        files.push(file(name, rows, "key", bucket(1, 2)));
    }
    files.push(file("other bucket", 30, "key", bucket(0, 2)));
    files.push(file("other count", 30, "key", bucket(1, 1)));
    files.push(file("other key", 30, "yek", bucket(1, 2)));
    files.push(file("loose", 30, "key", None));
    assert_eq!(next(&refs(files.clone()), &key, None), None);
    files.push(file("d", 17, "key", bucket(1, 2)));
    assert_eq!(named(next(&refs(files), &key, None)), some(&["a", "b", "c", "d"], 2));
}

#[test]
fn two_files_of_a_bucket_are_one_too_many_for_everything() {
    let twins = ["one", "two"].map(|name| file(name, 9, "key", bucket(0, 1)));
    let twins = refs(twins.to_vec());
    assert_eq!(next(&twins, &by("key"), None), None);
    assert_eq!(named(everything(&twins, &by("key"), None)), some(&["one", "two"], 1));
}

#[test]
fn another_key_and_another_count_make_files_loose() {
    let in_place = |count: u32| {
        let of = |index: u32| file(&index.to_string(), 9, "key", bucket(index, count));
        refs((0..count).map(of).collect())
    };
    assert_eq!(next(&in_place(8), &by("key"), None), None);
    assert_eq!(everything(&in_place(8), &by("key"), None), None);
    assert_eq!(next(&in_place(8), &by("yek"), None).unwrap().buckets, 1, "a key starts anew");
    assert_eq!(next(&in_place(8), &by(""), None).unwrap().buckets, 1);
    assert_eq!(everything(&in_place(2), &by("yek"), None).unwrap().inputs.len(), 2);
    // A file of more buckets: the others follow.
    let mut grown = in_place(4);
    grown.extend(refs(vec![file("grown", 1, "key", bucket(0, 8))]));
    let merge = next(&grown, &by("key"), None).unwrap();
    assert_eq!((merge.inputs.len(), merge.buckets), (4, 8));
}

#[test]
fn buckets_double_with_the_rows_and_have_a_limit() {
    for (rows, buckets) in [
        (1, 1),
        (BUCKET_ROWS, 1),
        (BUCKET_ROWS + 1, 2),
        (3 * BUCKET_ROWS, 4),
        (64 * BUCKET_ROWS, 64),
        (1 << 50, 64),
    ] {
        let merge = everything(&loose(&[rows]), &by("key"), None).unwrap();
        assert_eq!(merge.buckets, buckets, "{rows} rows");
        let merge = everything(&loose(&[rows]), &by(""), None).unwrap();
        assert_eq!(merge.buckets, 1, "without a key");
    }
}

#[test]
fn expired_files_go_first_and_half_expired_ones_are_rewritten_last() {
    let times =
        [("gone", -9, 9), ("edge", -9, 10), ("old", 0, 18), ("young", 2, 18), ("new", 50, 60)];
    let timed = |times: &[(&str, i64, i64)]| {
        refs(
            times
                .iter()
                .map(|&(name, min_time, max_time)| DataFile {
                    min_time,
                    max_time,
                    ..file(name, 1 << (2 * (max_time % 7)), "", bucket(0, 1))
                })
                .collect(),
        )
    };
    let files = timed(&times);
    assert_eq!(next(&files, &[], None), None);
    assert_eq!(named(next(&files, &[], Some(10))), some(&["gone"], 0));
    assert_eq!(named(next(&files[1..], &[], Some(10))), some(&["edge"], 1));
    assert_eq!(named(next(&files[2..], &[], Some(10))), some(&["old"], 1));
    assert_eq!(next(&files[3..], &[], Some(10)), None, "less than half");
    assert_eq!(everything(&files[4..], &[], Some(50)), None);
    assert_eq!(everything(&files[4..], &[], Some(51)).unwrap().inputs, files[4..]);
    let unsettled = loose(&[9]);
    assert_eq!(next(&unsettled, &by("key"), Some(50)), None);
    assert_eq!(named(next(&unsettled, &by("key"), Some(51))), some(&["0"], 1));
    // The ends of time.
    let ends = timed(&[("all", i64::MIN, i64::MAX)]);
    assert_eq!(next(&ends, &[], Some(-1)), None);
    assert!(next(&ends, &[], Some(i64::MAX)).is_some());
    let one = timed(&[("last", i64::MAX, i64::MAX)]);
    assert_eq!(next(&one, &[], Some(i64::MAX)), None);
}

/// The hashes of keys that the model tells apart: the largest number of buckets.
const HASHES: u32 = BUCKETS_MAX;

/// Numbers of rows by (hash of their key, time).
type Rows = BTreeMap<(u32, i64), u64>;

/// A stream whose files hold only numbers of rows.
#[derive(Default)]
struct Model {
    files: Vec<FileRef>,
    rows: BTreeMap<String, Rows>,
    /// All that was ever appended.
    appended: Rows,
    kept_from: Option<i64>,
    /// Rows that merges wrote.
    rewritten: u64,
}

impl Model {
    fn add(&mut self, rows: Rows, layout: FileLayout) {
        let path = format!("{:06}", self.rows.len());
        let (Some(min_time), Some(max_time)) =
            (rows.keys().map(|key| key.1).min(), rows.keys().map(|key| key.1).max())
        else {
            return;
        };
        let total: u64 = rows.values().sum();
        let file = DataFile { min_time, max_time, layout, ..file(&path, total, "", None) };
        self.files.push(FileRef::new(file));
        self.rows.insert(path, rows);
    }

    fn checkpoint(&mut self, rows: Rows) {
        for (&key, count) in &rows {
            *self.appended.entry(key).or_default() += count;
        }
        self.add(rows, FileLayout::default());
    }

    fn alive(&self, time: i64) -> bool {
        self.kept_from.is_none_or(|kept_from| time >= kept_from)
    }

    /// Carries out `merge` as a history would.
    fn apply(&mut self, merge: &Merge, key: &str) {
        let mut outputs = vec![Rows::new(); merge.buckets as usize];
        for input in &merge.inputs {
            let before = self.files.len();
            self.files.retain(|file| file != input);
            assert_eq!(self.files.len(), before - 1, "an input that is a file, once");
            for (&(hash, time), &rows) in &self.rows[&input.path] {
                if self.alive(time) {
                    assert_ne!(merge.buckets, 0, "rows are thrown away that have not expired");
                    let output = &mut outputs[(hash % merge.buckets) as usize];
                    *output.entry((hash, time)).or_default() += rows;
                    self.rewritten += rows;
                }
            }
        }
        for (index, rows) in (0..).zip(outputs) {
            let bucket = bucket(index, merge.buckets);
            self.add(rows, FileLayout { sorted_by: by(key), bucket });
        }
    }

    /// Applies what is to be done next until that is nothing; returns how often.
    fn settle(&mut self, key: &str) -> usize {
        for steps in 0..2_000 {
            let Some(merge) = next(&self.files, &by(key), self.kept_from) else { return steps };
            self.apply(&merge, key);
        }
        panic!("no end of merging: {:?}", self.files);
    }

    fn assert_whole(&self) {
        let mut found = Rows::new();
        for file in &self.files {
            for (&key, rows) in &self.rows[&file.path] {
                *found.entry(key).or_default() += rows;
            }
        }
        found.retain(|key, _| self.alive(key.1));
        let mut expected = self.appended.clone();
        expected.retain(|key, _| self.alive(key.1));
        assert_eq!(found, expected);
    }

    fn buckets(&self, key: &str) -> u64 {
        bucket_count(&self.files, &by(key)).into()
    }

    /// At most `FAN_IN - 1` files that are loose, and as many of each size in each bucket.
    fn assert_few(&self, key: &str) {
        let rows: u64 = self.files.iter().map(|file| file.rows).sum();
        let sizes = u64::from(rows.max(1).ilog(FAN_IN as u64)) + 1;
        let most = (FAN_IN as u64 - 1) * (1 + self.buckets(key) * sizes);
        assert!(self.files.len() as u64 <= most, "{} files, {most} allowed", self.files.len());
    }
}

/// `share` rows for each of some hashes, at times around `time`.
fn checkpoint_rows(time: i64, share: u64, hashes: &[u32]) -> Rows {
    let mut rows = Rows::new();
    for (index, &hash) in (0..).zip(hashes) {
        *rows.entry((hash, time - index % 3)).or_default() += share;
    }
    rows
}

fn checkpoints(most: usize) -> impl Strategy<Value = Vec<(u64, Vec<u32>)>> {
    let share = prop_oneof![1..10_u64, 1..1_000_u64, 1..200_000_u64, 1..3_000_000_u64];
    let hashes = proptest::collection::vec(0..HASHES, 1..12);
    proptest::collection::vec((share, hashes), 1..most)
}

/// No more rewrites of a row than: one to its bucket, one for each larger size, and one at least
/// after each doubling of the buckets, which halves its file.
fn rewrites_most(rows: u64, buckets: u64) -> u64 {
    2 + u64::from(rows.max(1).ilog(FAN_IN as u64)) + 2 * u64::from(buckets.ilog2())
}

/// A year of checkpoints of about one size: what is written grows with the logarithm of what is
/// there, not with the number of checkpoints.
#[test]
fn a_row_is_rewritten_a_logarithmic_number_of_times() {
    for (share, key, buckets, most_files) in
        [(1, "key", 1, 24), (1_000, "", 1, 30), (9_000, "key", 64, 900)]
    {
        let mut model = Model::default();
        let hashes: Vec<u32> = (0..HASHES).step_by(if buckets == 1 { 64 } else { 1 }).collect();
        for time in 0..1_500 {
            model.checkpoint(checkpoint_rows(time / 300, share + time as u64 % 7, &hashes));
            model.settle(key);
            model.assert_few(key);
        }
        model.assert_whole();
        let rows: u64 = model.appended.values().sum();
        assert_eq!(model.buckets(key), buckets);
        let (files, times) = (model.files.len(), model.rewritten as f64 / rows as f64);
        let most = rewrites_most(rows, buckets);
        assert!(times <= most as f64, "{times} rewrites of {rows} rows, {most} allowed");
        assert!(files <= most_files, "{files} files");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn merging_ends_and_keeps_every_row_in_few_files(checkpoints in checkpoints(150)) {
        let mut model = Model::default();
        for (time, (share, hashes)) in (0..).zip(&checkpoints) {
            model.checkpoint(checkpoint_rows(time, *share, hashes));
            model.settle("key");
            model.assert_few("key");
        }
        model.assert_whole();
        let rows: u64 = model.appended.values().sum();
        let most = rewrites_most(rows, model.buckets("key"));
        prop_assert!(
            model.rewritten <= most * rows,
            "{} rows were written for {rows}, {most} times as many are allowed", model.rewritten
        );
    }

    #[test]
    fn everything_is_all_there_is_to_do(
        checkpoints in checkpoints(30),
        settled in any::<bool>(),
        kept_from in proptest::option::of(-3..40_i64),
        (before, after) in (0..3_usize, 0..3_usize),
    ) {
        let keys = ["", "key", "yek"];
        let (before, after) = (keys[before], keys[after]);
        let mut model = Model::default();
        for (time, (share, hashes)) in (0..).zip(&checkpoints) {
            model.checkpoint(checkpoint_rows(time, *share, hashes));
            if settled {
                model.settle(before);
            }
        }
        model.kept_from = kept_from;
        if let Some(merge) = everything(&model.files, &by(after), kept_from) {
            prop_assert_eq!(&merge.inputs, &model.files);
            model.apply(&merge, after);
        }
        model.assert_whole();
        prop_assert!(model.files.len() as u64 <= model.buckets(after));
        prop_assert_eq!(everything(&model.files, &by(after), kept_from), None);
        prop_assert_eq!(next(&model.files, &by(after), kept_from), None);
    }

    #[test]
    fn keys_change_and_rows_expire_while_files_are_merged(
        checkpoints in checkpoints(60),
        changes in proptest::collection::vec((0..60_usize, 0..3_usize), 0..4),
        keep in 1..40_i64,
    ) {
        let mut key = "key";
        let mut model = Model::default();
        for (time, (share, hashes)) in (0..).zip(&checkpoints) {
            model.checkpoint(checkpoint_rows(time, *share, hashes));
            model.kept_from = model.kept_from.max(Some(time - keep));
            for change in changes.iter().filter(|change| change.0 as i64 == time) {
                key = ["", "key", "yek"][change.1];
            }
            model.settle(key);
            model.assert_few(key);
            let expired = |file: &&FileRef| !model.alive(file.max_time);
            prop_assert_eq!(model.files.iter().find(expired), None);
        }
        model.assert_whole();
        let (buckets, sorted_by) = (bucket_count(&model.files, &by(key)), by(key));
        let loose = model.files.iter().filter(|file| !is_in_place(file, &sorted_by, buckets));
        prop_assert!(loose.count() < FAN_IN, "the layout has converged");
        // All rows expire.
        model.kept_from = Some(1_000);
        prop_assert!(model.settle(key) <= 1);
        prop_assert!(model.files.is_empty());
    }
}
