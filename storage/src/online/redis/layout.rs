//! How state looks in Redis: the names of keys, and every value byte by byte. All integers are
//! big-endian; times are biased by 2^63, so that bytes and times have the same order.
//!
//! | key | type | field | value |
//! |---|---|---|---|
//! | `<prefix>:{database}` | hash | see `writer.rs` | who writes, and the generation |
//! | `<prefix>:{database}:spaces` | set | | ids of the spaces that may exist |
//! | `<prefix>:{<space>.<shard>}:c` | hash | empty | the shard's witness ([`Witness`]) |
//! | | | encoded entity key | the cell's root ([`Root`]) |
//! | `<prefix>:{<space>.<shard>}:n` | hash | u32 length of key, key, u32 node | a node ([`node_value`]) |
//!
//! The Lua files beside this one read and write the same bytes.

use bytes::Bytes;

use crate::online::cell::{CellError, Entry, Node, Place};

/// The version of all of this; another one is refused.
pub(super) const FORMAT: u8 = 2;
/// The bytes of a witness.
pub(super) const WITNESS_BYTES: usize = 50;
/// The bytes of an entry: last time, last position, rows, child.
const ENTRY_BYTES: usize = 28;
/// The bytes of a root before its tree, and with the fold counter that a tree begins with.
const ROOT_HEADER: usize = 5;
const FOLDS_BYTES: usize = 4;

/// What tells one life of the state from another.
pub(super) type Generation = [u8; 16];

/// The names of a database's keys.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    shards: u32,
}

impl Names {
    pub(super) fn new(prefix: &str, shards: u32) -> Names {
        Names { prefix: prefix.to_owned(), shards }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn shards(&self) -> u32 {
        self.shards
    }

    /// The shard of an entity key: CRC32C modulo the number of shards. Part of the format.
    pub(super) fn shard_of(&self, key: &[u8]) -> u32 {
        self.shard_of_sum(crc32c::crc32c(key))
    }

    /// The shard of an entity key with this CRC32C.
    pub(super) fn shard_of_sum(&self, sum: u32) -> u32 {
        sum % self.shards
    }

    pub(super) fn database(&self) -> Vec<u8> {
        format!("{}:{{database}}", self.prefix).into_bytes()
    }

    pub(super) fn spaces(&self) -> Vec<u8> {
        format!("{}:{{database}}:spaces", self.prefix).into_bytes()
    }

    pub(super) fn cells(&self, space: u32, shard: u32) -> Vec<u8> {
        format!("{}:{{{space}.{shard}}}:c", self.prefix).into_bytes()
    }

    pub(super) fn nodes(&self, space: u32, shard: u32) -> Vec<u8> {
        format!("{}:{{{space}.{shard}}}:n", self.prefix).into_bytes()
    }
}

/// What a shard says of itself, stored beside its cells and changed in the same step.
///
/// | bytes | field |
/// |---|---|
/// | 0 | [`FORMAT`] |
/// | 1..17 | generation |
/// | 17..25 | epoch of the writer |
/// | 25 | 0 filling, 1 ready |
/// | 26..34 | position |
/// | 34..42 | u32 which fill, u32 number of its next batch |
/// | 42..50 | the time before which events may be forgotten |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Witness {
    pub(super) generation: Generation,
    pub(super) epoch: u64,
    pub(super) ready: bool,
    pub(super) position: u64,
    pub(super) fill: u64,
    /// `i64::MIN` if nothing is forgotten.
    pub(super) kept_from: i64,
}

impl Witness {
    /// `None` if this is no witness of this format.
    pub(super) fn decode(bytes: &[u8]) -> Option<Witness> {
        if bytes.len() != WITNESS_BYTES || bytes[0] != FORMAT || bytes[25] > 1 {
            return None;
        }
        Some(Witness {
            generation: bytes[1..17].try_into().ok()?,
            epoch: read_u64(bytes, 17)?,
            ready: bytes[25] == 1,
            position: read_u64(bytes, 26)?,
            fill: read_u64(bytes, 34)?,
            kept_from: unbiased(read_u64(bytes, 42)?),
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(WITNESS_BYTES);
        out.push(FORMAT);
        out.extend_from_slice(&self.generation);
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.push(u8::from(self.ready));
        out.extend_from_slice(&self.position.to_be_bytes());
        out.extend_from_slice(&self.fill.to_be_bytes());
        out.extend_from_slice(&biased(self.kept_from));
        out
    }
}

/// A cell's root value: one byte [`FORMAT`], u32 length of the tree, tree, tail.
///
/// The tree is empty until the first fold; then it is a u32 that counts the folds, and node 0. The
/// tail is the changes since the last fold, as they came.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) folds: u32,
    /// Node 0 as [`node_value`]; empty if there is no tree.
    pub(super) tree: Bytes,
    pub(super) tail: Bytes,
}

impl Root {
    pub(super) fn decode(value: &Bytes) -> Result<Root, CellError> {
        let damaged = || CellError::new("the root of the cell is damaged");
        if value.first() != Some(&FORMAT) {
            return Err(CellError::new("the root of the cell has another format"));
        }
        let length = read_u32(value, 1).ok_or_else(damaged)? as usize;
        let end = ROOT_HEADER.checked_add(length).ok_or_else(damaged)?;
        if end > value.len() {
            return Err(damaged());
        }
        let tail = value.slice(end..);
        if length == 0 {
            return Ok(Root { folds: 0, tree: Bytes::new(), tail });
        }
        let folds = read_u32(value, ROOT_HEADER).ok_or_else(damaged)?;
        if length < FOLDS_BYTES {
            return Err(damaged());
        }
        Ok(Root { folds, tree: value.slice(ROOT_HEADER + FOLDS_BYTES..end), tail })
    }

    /// Whether a root value has a tree of more than its node 0, so that what a reader wants may be
    /// in other nodes. Of a damaged value it says anything.
    pub(super) fn has_children(value: &[u8]) -> bool {
        let count = ROOT_HEADER + FOLDS_BYTES + 1;
        let entries = value.get(count..count + 2);
        read_u32(value, 1) > Some(0) && entries.is_some_and(|entries| entries != [0, 0])
    }

    /// Node 0; `None` if there is no tree.
    pub(super) fn node(&self) -> Result<Option<Node>, CellError> {
        if self.tree.is_empty() { Ok(None) } else { decode_node(0, &self.tree).map(Some) }
    }
}

/// Appends the header and the tree of a root; the tail is to follow.
pub(super) fn root_head(folds: u32, tree: &[u8]) -> Result<Vec<u8>, CellError> {
    let length = u32::try_from(FOLDS_BYTES + tree.len())
        .map_err(|_| CellError::new("the root of a tree has more than 4 GiB"))?;
    let mut out = Vec::with_capacity(ROOT_HEADER + FOLDS_BYTES + tree.len());
    out.push(FORMAT);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&folds.to_be_bytes());
    out.extend_from_slice(tree);
    Ok(out)
}

/// A node as a value: one byte [`FORMAT`], u16 number of entries, entries, body.
pub(super) fn node_value(node: &Node) -> Result<Vec<u8>, CellError> {
    let entries = u16::try_from(node.entries.len())
        .map_err(|_| CellError::new("a node has more than 65,535 entries"))?;
    let mut out = Vec::with_capacity(3 + ENTRY_BYTES * node.entries.len() + node.body.len());
    out.push(FORMAT);
    out.extend_from_slice(&entries.to_be_bytes());
    for entry in &node.entries {
        out.extend_from_slice(&biased(entry.last.0));
        out.extend_from_slice(&entry.last.1.to_be_bytes());
        out.extend_from_slice(&entry.rows.to_be_bytes());
        out.extend_from_slice(&entry.child.to_be_bytes());
    }
    out.extend_from_slice(&node.body);
    Ok(out)
}

/// Reads what [`node_value`] wrote.
pub(super) fn decode_node(id: u32, value: &Bytes) -> Result<Node, CellError> {
    let damaged = || CellError::new(format!("node {id} of the cell is damaged"));
    if value.len() < 3 || value[0] != FORMAT {
        return Err(damaged());
    }
    let count = usize::from(u16::from_be_bytes([value[1], value[2]]));
    let end = 3 + ENTRY_BYTES * count;
    if value.len() < end {
        return Err(damaged());
    }
    let entry = |index: usize| {
        let at = 3 + ENTRY_BYTES * index;
        Some(Entry {
            last: (unbiased(read_u64(value, at)?), read_u64(value, at + 8)?),
            rows: read_u64(value, at + 16)?,
            child: read_u32(value, at + 24)?,
        })
    };
    let entries = (0..count).map(entry).collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
    Ok(Node { id, entries, body: value.slice(end..) })
}

/// The field of a node: injective, for the key's length comes first.
pub(super) fn node_field(key: &[u8], node: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + key.len());
    out.extend_from_slice(&(key.len() as u32).to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&node.to_be_bytes());
    out
}

/// Places as `lookup.lua` reads them: a byte for the kind, then u64s.
pub(super) fn places_value(places: &[Place]) -> Vec<u8> {
    let mut out = Vec::new();
    for place in places {
        let (kind, fields) = match *place {
            Place::At { time, after } => (b'A', vec![biased(time), u64::from(after).to_be_bytes()]),
            Place::Order { time, position } => (b'O', vec![biased(time), position.to_be_bytes()]),
            Place::Back { instant, from, to } => {
                (b'B', vec![biased(instant), from.to_be_bytes(), to.to_be_bytes()])
            }
            Place::Range { from, to } => (b'R', vec![biased(from), biased(to)]),
        };
        out.push(kind);
        fields.iter().for_each(|field| out.extend_from_slice(field));
    }
    out
}

pub(super) fn biased(time: i64) -> [u8; 8] {
    ((time as u64) ^ (1 << 63)).to_be_bytes()
}

fn unbiased(bits: u64) -> i64 {
    (bits ^ (1 << 63)) as i64
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_reads_back_and_other_bytes_do_not() {
        let witness = Witness {
            generation: *b"0123456789abcdef",
            epoch: u64::MAX,
            ready: true,
            position: 1 << 40,
            fill: 7,
            kept_from: -9,
        };
        let bytes = witness.encode();
        assert_eq!(Witness::decode(&bytes), Some(witness));
        assert_eq!(Witness::decode(&bytes[1..]), None);
        let mut other = bytes.clone();
        other[0] = FORMAT + 1;
        assert_eq!(Witness::decode(&other), None);
    }

    #[test]
    fn a_node_and_a_root_read_back() {
        let entries = vec![
            Entry { last: (i64::MIN, 1), rows: 1, child: 1 },
            Entry { last: (i64::MAX, u64::MAX), rows: u64::MAX, child: u32::MAX },
        ];
        let node = Node { id: 0, entries, body: Bytes::from_static(b"body") };
        let tree = node_value(&node).unwrap();
        let mut value = root_head(3, &tree).unwrap();
        value.extend_from_slice(b"tail");
        let root = Root::decode(&Bytes::from(value.clone())).unwrap();
        assert_eq!((root.folds, &root.tail[..]), (3, &b"tail"[..]));
        assert_eq!(root.node().unwrap(), Some(node));
        assert!(Root::has_children(&value));
        let leaf = Node { id: 0, entries: Vec::new(), body: Bytes::from_static(b"body") };
        let leaf = root_head(3, &node_value(&leaf).unwrap()).unwrap();
        assert!(!Root::has_children(&leaf) && !Root::has_children(b"\x02\0\0\0\0a long tail"));
        for cut in 0..9 {
            assert!(Root::decode(&Bytes::copy_from_slice(&value[..cut])).is_err(), "{cut}");
        }
    }

    #[test]
    fn fields_of_nodes_are_apart() {
        assert_ne!(node_field(b"a\0\0\0\x01", 1), node_field(b"a", 1));
        let names = Names::new("p", 64);
        assert_eq!(names.cells(7, 3), b"p:{7.3}:c");
        assert_eq!(names.shard_of(b"123456789"), 0xe306_9283 % 64, "CRC32C's check value");
    }

    /// What version 2 writes, byte by byte. A change of it is a new version.
    #[test]
    fn the_format_is_what_it_was() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (generation, kept_from) = ([0xab; 16], -1);
        let witness =
            Witness { generation, epoch: 2, ready: true, position: 3, fill: 4, kept_from };
        let kept_from = "7fffffffffffffff";
        let expected = format!("02{}{:016x}01{:016x}{:016x}{kept_from}", "ab".repeat(16), 2, 3, 4);
        assert_eq!(hex(&witness.encode()), expected);
        let entries = vec![Entry { last: (-1, 5), rows: 6, child: 7 }];
        let node = Node { id: 0, entries, body: Bytes::from_static(b"\xee") };
        let tree = node_value(&node).unwrap();
        let expected = format!("0200017fffffffffffffff{:016x}{:016x}{:08x}ee", 5, 6, 7);
        assert_eq!(hex(&tree), expected);
        assert_eq!(hex(&root_head(8, b"\xcc").unwrap()), "020000000500000008cc");
        assert_eq!(hex(&node_field(b"\xdd", 9)), "00000001dd00000009");
        let places = [
            Place::At { time: 0, after: true },
            Place::Order { time: 1, position: 2 },
            Place::Back { instant: -1, from: 3, to: 4 },
            Place::Range { from: 5, to: 6 },
        ];
        let expected = format!(
            "41{:016x}{:016x}4f{:016x}{:016x}42{:016x}{:016x}{:016x}52{:016x}{:016x}",
            1u64 << 63,
            1,
            (1u64 << 63) + 1,
            2,
            (1u64 << 63) - 1,
            3,
            4,
            (1u64 << 63) + 5,
            (1u64 << 63) + 6
        );
        assert_eq!(hex(&places_value(&places)), expected);
    }
}
