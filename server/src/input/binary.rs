//! PostgreSQL's receive functions that are more than a big-endian number.

use super::{InputError, Result};

/// Takes `N` bytes off the front.
pub fn take<const N: usize>(bytes: &mut &[u8], type_name: &str) -> Result<[u8; N]> {
    let (head, tail) =
        bytes.split_first_chunk::<N>().ok_or_else(|| InputError::binary(type_name))?;
    *bytes = tail;
    Ok(*head)
}

/// All of `bytes` as one value of `N` bytes.
pub fn exact<const N: usize>(bytes: &[u8], type_name: &str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| InputError::binary(type_name))
}

/// Digits that a `numeric` may have on either side of its point, as PostgreSQL limits them.
const MAX_SCALE: u16 = 16_383;

/// `numeric_recv`: the number as text.
pub fn decode_numeric(bytes: &[u8]) -> Result<String> {
    let name = "numeric";
    let mut rest = bytes;
    let count = u16::from_be_bytes(take(&mut rest, name)?);
    let weight = i16::from_be_bytes(take(&mut rest, name)?);
    let sign = u16::from_be_bytes(take(&mut rest, name)?);
    let scale = u16::from_be_bytes(take(&mut rest, name)?);
    if rest.len() != usize::from(count) * 2 || scale > MAX_SCALE {
        return Err(InputError::binary(name));
    }
    match sign {
        0xC000 => return Ok("NaN".to_owned()),
        0xD000 => return Ok("Infinity".to_owned()),
        0xF000 => return Ok("-Infinity".to_owned()),
        0x0000 | 0x4000 => {}
        _ => return Err(InputError::binary(name)),
    }
    let mut groups = Vec::with_capacity(usize::from(count));
    for group in rest.chunks_exact(2) {
        let group = u16::from_be_bytes([group[0], group[1]]);
        if group > 9999 {
            return Err(InputError::binary(name));
        }
        groups.push(group);
    }
    Ok(numeric_text(&groups, i32::from(weight), sign == 0x4000, usize::from(scale)))
}

fn numeric_text(groups: &[u16], weight: i32, negative: bool, scale: usize) -> String {
    let group_at = |position: i32| {
        let index = usize::try_from(weight - position).ok();
        index.and_then(|i| groups.get(i)).copied().unwrap_or(0)
    };
    let mut text = String::new();
    if negative {
        text.push('-');
    }
    if weight < 0 {
        text.push('0');
    }
    for position in (0..=weight).rev() {
        text.push_str(&format!("{:04}", group_at(position)));
    }
    if scale > 0 {
        text.push('.');
        let start = text.len();
        for position in 1..=scale.div_ceil(4) {
            text.push_str(&format!("{:04}", group_at(-(position as i32))));
        }
        text.truncate(start + scale);
    }
    text
}

/// The elements of a one-dimensional array: the element type's oid and each element's bytes.
pub fn array_elements(bytes: &[u8]) -> Result<(u32, Vec<Option<&[u8]>>)> {
    let name = "array";
    let mut rest = bytes;
    let dimensions = i32::from_be_bytes(take(&mut rest, name)?);
    let flags = i32::from_be_bytes(take(&mut rest, name)?);
    let oid = u32::from_be_bytes(take(&mut rest, name)?);
    if !(0..=1).contains(&flags) {
        return Err(InputError::binary(name));
    }
    match dimensions {
        0 => return Ok((oid, Vec::new())),
        1 => {}
        _ => {
            let message = "arrays of more than one dimension are not supported in binary format";
            return Err(InputError::new("0A000", message));
        }
    }
    let count = i32::from_be_bytes(take(&mut rest, name)?);
    let _lower_bound: [u8; 4] = take(&mut rest, name)?;
    // Each element has four bytes of length at least.
    let count = usize::try_from(count).map_err(|_| InputError::binary(name))?;
    if count > rest.len() / 4 {
        return Err(InputError::binary(name));
    }
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let length = i32::from_be_bytes(take(&mut rest, name)?);
        if length == -1 {
            found.push(None);
            continue;
        }
        let length = usize::try_from(length).map_err(|_| InputError::binary(name))?;
        let (value, tail) =
            rest.split_at_checked(length).ok_or_else(|| InputError::binary(name))?;
        found.push(Some(value));
        rest = tail;
    }
    if rest.is_empty() { Ok((oid, found)) } else { Err(InputError::binary(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(count: i16, weight: i16, sign: u16, scale: u16, groups: &[u16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for half in [count as u16, weight as u16, sign, scale] {
            bytes.extend(half.to_be_bytes());
        }
        groups.iter().for_each(|g| bytes.extend(g.to_be_bytes()));
        bytes
    }

    #[test]
    fn numerics() {
        let text = |b: &[u8]| decode_numeric(b).unwrap();
        assert_eq!(text(&numeric(2, 0, 0, 2, &[12, 3400])), "0012.34");
        assert_eq!(text(&numeric(1, -2, 0x4000, 8, &[5])), "-0.00000005");
        assert_eq!(text(&numeric(1, 1, 0, 0, &[1])), "00010000");
        assert_eq!(text(&numeric(0, 0, 0, 0, &[])), "0000");
        assert_eq!(text(&numeric(0, 0, 0xC000, 0, &[])), "NaN");
        assert_eq!(decode_numeric(&numeric(2, 0, 0, 0, &[1])).unwrap_err().code, "22P03");
        assert_eq!(decode_numeric(&numeric(1, 0, 0, 0, &[10_000])).unwrap_err().code, "22P03");
        assert_eq!(decode_numeric(b"").unwrap_err().code, "22P03");
    }

    #[test]
    fn arrays_lie_about_their_length() {
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20];
        bytes.extend(i32::MAX.to_be_bytes());
        bytes.extend(1_i32.to_be_bytes());
        assert_eq!(array_elements(&bytes).unwrap_err().code, "22P03");
    }
}
