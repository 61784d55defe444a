//! Which files of a stream should become fewer and better ones. It decides; it reads no file.
//!
//! 1. A file whose rows have all expired goes.
//! 2. Files that are not in buckets of the layout wanted are *loose*: what checkpoints wrote, and
//!    what was laid out for another key or another number of buckets. [`FAN_IN`] of them are
//!    merged into one file for each bucket.
//! 3. Files of one bucket are merged when there are [`FAN_IN`] of about the same size, so that a
//!    row is rewritten a logarithmic number of times.
//! 4. A file of which the older half of its time has expired is rewritten without it.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::{Bucket, DataFile, FileRef};

/// How many files there are when they are merged.
pub const FAN_IN: usize = 4;
/// Rows that a bucket has at most before the number of buckets doubles.
const BUCKET_ROWS: u64 = 4 << 20;
/// The largest number of buckets: each is a file under way while files are merged.
const BUCKETS_MAX: u32 = 64;
/// Bytes of files that are merged at once, unless one alone has more.
const MERGE_BYTES: u64 = 4 << 30;

/// Files to put others in the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// What goes.
    pub inputs: Vec<FileRef>,
    /// The number of buckets that its rows go to; 0 if they have all expired.
    pub buckets: u32,
}

/// What to do next with `files`, the files of one stream; `None` if nothing. `sorted_by` are the
/// columns that they should be sorted by, `kept_from` the time before which rows have expired.
pub fn next(files: &[FileRef], sorted_by: &[String], kept_from: Option<i64>) -> Option<Merge> {
    let (expired, alive): (Vec<_>, Vec<_>) =
        files.iter().partition(|file| kept_from.is_some_and(|time| file.max_time < time));
    if !expired.is_empty() {
        return Some(Merge { inputs: expired.into_iter().cloned().collect(), buckets: 0 });
    }
    let buckets = bucket_count(files, sorted_by);
    let (in_place, loose): (Vec<_>, Vec<_>) =
        alive.into_iter().partition(|file| is_in_place(file, sorted_by, buckets));
    if loose.len() >= FAN_IN {
        return Some(Merge { inputs: smallest(loose), buckets });
    }
    let mut tiers: BTreeMap<(Option<Bucket>, u32), Vec<&FileRef>> = BTreeMap::new();
    for file in &in_place {
        let tier = file.rows.max(1).ilog(FAN_IN as u64);
        tiers.entry((file.layout.bucket, tier)).or_default().push(file);
    }
    if let Some(tier) = tiers.into_values().find(|tier| tier.len() >= FAN_IN) {
        return Some(Merge { inputs: smallest(tier), buckets });
    }
    let half_gone = |file: &&FileRef| {
        let middle = file.min_time / 2 + file.max_time / 2;
        kept_from.is_some_and(|time| file.min_time < time && middle < time)
    };
    let file = in_place.into_iter().chain(loose).find(half_gone)?;
    Some(Merge { inputs: vec![file.clone()], buckets })
}

/// All that is not laid out as it should be, or not one file a bucket, at once; `None` if nothing.
pub fn everything(
    files: &[FileRef],
    sorted_by: &[String],
    kept_from: Option<i64>,
) -> Option<Merge> {
    let buckets = bucket_count(files, sorted_by);
    let mut seen = BTreeSet::new();
    let settled = files.iter().all(|file| {
        let expired = kept_from.is_some_and(|time| file.min_time < time);
        is_in_place(file, sorted_by, buckets) && !expired && seen.insert(file.layout.bucket)
    });
    (!settled).then(|| Merge { inputs: files.to_vec(), buckets })
}

fn is_in_place(file: &DataFile, sorted_by: &[String], buckets: u32) -> bool {
    let bucket = file.layout.bucket;
    file.layout.sorted_by == sorted_by && bucket.is_some_and(|bucket| bucket.count == buckets)
}

/// The number of buckets that a stream of `files` should have: never fewer than it has already.
fn bucket_count(files: &[FileRef], sorted_by: &[String]) -> u32 {
    if sorted_by.is_empty() {
        return 1;
    }
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let wanted = rows.div_ceil(BUCKET_ROWS).next_power_of_two().min(BUCKETS_MAX.into()) as u32;
    let same_key = files.iter().filter(|file| file.layout.sorted_by == sorted_by);
    let present = same_key.filter_map(|file| file.layout.bucket).map(|bucket| bucket.count).max();
    wanted.max(present.unwrap_or(1)).max(1)
}

/// The smallest files first, as many as may be merged at once, at least [`FAN_IN`].
fn smallest(mut files: Vec<&FileRef>) -> Vec<FileRef> {
    files.sort_by_key(|file| file.bytes);
    let mut bytes = 0;
    let within = files.iter().enumerate().take_while(|(index, file)| {
        bytes += file.bytes;
        *index < FAN_IN || bytes <= MERGE_BYTES
    });
    within.map(|(_, file)| FileRef::clone(file)).collect()
}

#[cfg(test)]
mod tests;
