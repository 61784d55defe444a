//! Which cells were found to have more nodes than their roots.
//!
//! A bit stands for many keys and is never taken back: a key that is remembered wrongly is asked
//! for by the script, which gives the same answer, only slower.

use std::sync::atomic::{AtomicU64, Ordering};

/// 8,388,608 bits are 1 MiB; with a million keys, one of eight others is remembered wrongly.
const BITS: u32 = 23;

/// A set of keys of any spaces, of fixed size.
pub(super) struct DeepKeys {
    words: Box<[AtomicU64]>,
}

impl Default for DeepKeys {
    fn default() -> Self {
        DeepKeys { words: (0..1 << (BITS - 6)).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl DeepKeys {
    /// Whether the key with this CRC32C was remembered, or another one like it.
    pub(super) fn may_have(&self, space: u32, sum: u32) -> bool {
        let (word, bit) = place(space, sum);
        self.words.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    pub(super) fn remember(&self, space: u32, sum: u32) {
        let (word, bit) = place(space, sum);
        if let Some(word) = self.words.get(word) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }
}

/// The number of the word, and the bit in it.
fn place(space: u32, sum: u32) -> (usize, u64) {
    // Multiplicative hashing (Knuth, The Art of Computer Programming, 6.4): the upper bits of the
    // product with 2^64 divided by the golden ratio.
    let both = (u64::from(space) << 32) | u64::from(sum);
    let index = both.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS);
    ((index >> 6) as usize, 1 << (index & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_found_and_little_else() {
        let deep = DeepKeys::default();
        let sum = |key: u32| crc32c::crc32c(&key.to_be_bytes());
        (0..10_000).for_each(|key| deep.remember(7, sum(key)));
        assert!((0..10_000).all(|key| deep.may_have(7, sum(key))));
        let wrong = (10_000..20_000).filter(|&key| deep.may_have(7, sum(key))).count();
        let elsewhere = (0..10_000).filter(|&key| deep.may_have(8, sum(key))).count();
        assert!(wrong < 50 && elsewhere < 50, "{wrong} of other keys, {elsewhere} of a space");
    }
}
