//! The key encoding is injective and decodes to what was encoded.

use asofdb_storage::{Error, KeyPart, decode_key, encode_key};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Int(i64),
    Text(String),
    Bool(bool),
    Bytes(Vec<u8>),
}

impl Owned {
    fn part(&self) -> KeyPart<'_> {
        match self {
            Owned::Int(value) => KeyPart::Int(*value),
            Owned::Text(text) => KeyPart::Text(text),
            Owned::Bool(value) => KeyPart::Bool(*value),
            Owned::Bytes(bytes) => KeyPart::Bytes(bytes),
        }
    }
}

/// Keys from few, confusable values: short strings that look like tags, lengths and terminators.
fn keys() -> impl Strategy<Value = Vec<Owned>> {
    let byte = prop_oneof![Just(0u8), Just(1), Just(2), Just(3), Just(4), Just(b'a'), Just(0x80)];
    let part = prop_oneof![
        prop_oneof![Just(0i64), Just(1), Just(-1), Just(i64::MIN), any::<i64>()]
            .prop_map(Owned::Int),
        "[\u{0}-\u{4}a]{0,4}".prop_map(Owned::Text),
        any::<bool>().prop_map(Owned::Bool),
        proptest::collection::vec(byte, 0..200).prop_map(Owned::Bytes),
    ];
    proptest::collection::vec(part, 0..4)
}

fn parts(key: &[Owned]) -> Vec<KeyPart<'_>> {
    key.iter().map(Owned::part).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn round_trips(key in keys()) {
        let encoded = encode_key(&parts(&key));
        prop_assert_eq!(decode_key(&encoded).unwrap(), parts(&key));
    }

    #[test]
    fn different_keys_have_different_bytes(left in keys(), right in keys()) {
        let (left_bytes, right_bytes) = (encode_key(&parts(&left)), encode_key(&parts(&right)));
        prop_assert_eq!(left == right, left_bytes == right_bytes);
    }

    /// Whatever decodes was encoded from it: no second encoding of a key is accepted.
    #[test]
    fn only_encodings_decode(bytes in proptest::collection::vec(0u8..6, 0..24)) {
        if let Ok(parts) = decode_key(&bytes) {
            prop_assert_eq!(encode_key(&parts), bytes);
        }
    }

    #[test]
    fn integers_keep_their_order(left: i64, right: i64) {
        let (a, b) = (encode_key(&[KeyPart::Int(left)]), encode_key(&[KeyPart::Int(right)]));
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
    }
}

#[test]
fn parts_do_not_run_into_each_other() {
    let text = |parts: &[&'static str]| {
        encode_key(&parts.iter().map(|part| KeyPart::Text(part)).collect::<Vec<_>>())
    };
    assert_ne!(text(&["ab", "c"]), text(&["a", "bc"]));
    assert_ne!(text(&["", "a"]), text(&["a", ""]));
    assert_ne!(encode_key(&[KeyPart::Text("1")]), encode_key(&[KeyPart::Bytes(b"1")]));
    assert_ne!(encode_key(&[KeyPart::Bool(true)]), encode_key(&[KeyPart::Int(1)]));
}

#[test]
fn what_was_never_encoded_is_refused() {
    let long_form_of_zero = [2, 0x80, 0];
    let cases: [&[u8]; 7] = [
        &[9],
        &[1, 0],
        &[2, 5, b'a'],
        &[3, 2],
        &long_form_of_zero,
        &[2, 1, 0xff],
        &[4, 0xff, 0xff],
    ];
    for case in cases {
        assert!(matches!(decode_key(case), Err(Error::InvalidKey { .. })), "{case:?}");
    }
}
