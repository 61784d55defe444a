//! Integers of variable length, seven bits a byte, low bits first. This file knows no events.
//!
//! What is taken may be damaged: taking gives `None` then, and never allocates.

/// Appends an unsigned integer: at most 10 bytes.
pub(crate) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer: short if it is near 0.
pub(crate) fn put_signed(value: i64, out: &mut Vec<u8>) {
    put(((value << 1) ^ (value >> 63)) as u64, out);
}

/// Appends a wide signed integer: at most 19 bytes, short if it is near 0.
pub(crate) fn put_wide(value: i128, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 127)) as u128;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Takes what `put` wrote off the front.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    u64::try_from(take_bits(bytes)?).ok()
}

/// Takes what `put_signed` wrote off the front.
pub(crate) fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let coded = take(bytes)?;
    Some((coded >> 1) as i64 ^ -((coded & 1) as i64))
}

/// Takes what `put_wide` wrote off the front.
pub(crate) fn take_wide(bytes: &mut &[u8]) -> Option<i128> {
    let coded = take_bits(bytes)?;
    Some((coded >> 1) as i128 ^ -((coded & 1) as i128))
}

/// Takes a count that is at most `most`.
pub(crate) fn take_count(bytes: &mut &[u8], most: usize) -> Option<usize> {
    usize::try_from(take(bytes)?).ok().filter(|count| *count <= most)
}

/// Takes `length` bytes off the front.
pub(crate) fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn take_bits(bytes: &mut &[u8]) -> Option<u128> {
    let mut value = 0_u128;
    for shift in (0..u128::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u128::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_taken(a in any::<u64>(), b in any::<i64>(), c in any::<i128>(), cut in 0..64_u32) {
            let (a, b, c) = (a >> cut, b >> cut, c >> (2 * cut));
            let mut out = Vec::new();
            put(a, &mut out);
            put_signed(b, &mut out);
            put_wide(c, &mut out);
            let mut bytes = out.as_slice();
            assert_eq!(take(&mut bytes), Some(a));
            assert_eq!(take_signed(&mut bytes), Some(b));
            assert_eq!(take_wide(&mut bytes), Some(c));
            assert!(bytes.is_empty());
            // No integer ends before its last byte.
            let mut bytes = &out[..out.len() - 1];
            assert_eq!((take(&mut bytes), take_signed(&mut bytes)), (Some(a), Some(b)));
            assert_eq!(take_wide(&mut bytes), None);
        }
    }

    #[test]
    fn ends_of_the_ranges() {
        for value in [i64::MIN, -1, 0, 1, i64::MAX] {
            let mut out = Vec::new();
            put_signed(value, &mut out);
            assert_eq!(take_signed(&mut out.as_slice()), Some(value));
        }
        for value in [i128::MIN, -1, 0, 1, i128::MAX] {
            let mut out = Vec::new();
            put_wide(value, &mut out);
            assert_eq!(take_wide(&mut out.as_slice()), Some(value));
        }
    }

    #[test]
    fn integers_that_are_too_wide_are_refused() {
        let mut out = Vec::new();
        put_wide(1 << 70, &mut out);
        assert_eq!(take(&mut out.as_slice()), None);
        assert_eq!(take_wide(&mut [0xff; 40].as_slice()), None);
    }
}
