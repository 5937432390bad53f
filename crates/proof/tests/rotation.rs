//! Keys that hand over to keys: what every verifier accepts, and each way in which a chain of them can be wrong.

#![expect(clippy::unwrap_used, reason = "also in the helpers of tests")]

use proptest::prelude::*;
use skerry_proof::signer::from_secret;
use skerry_proof::{KeyHistory, KeyRing, Rotation, RotationError, SignatureAlgorithm, Signer};

type Key = Box<dyn Signer + Send + Sync>;

/// An Ed25519 key, then an SM2 key, and so on.
fn key(number: u8) -> Key {
    let scheme = SignatureAlgorithm::ALL[usize::from(number % 2)];
    from_secret(scheme, &[number + 1; 32]).unwrap()
}

/// A bank that has rotated `count` times; its keys were retired at 1,000,000, 2,000,000 and so on.
fn history(count: u8) -> KeyHistory {
    let mut history = KeyHistory::new(key(0).public_key());
    for number in 0..count {
        let rotation = next(&history, number, number + 1);
        history.push(rotation).unwrap();
    }
    history
}

fn next(history: &KeyHistory, old: u8, new: u8) -> Rotation {
    let retired_us = 1_000_000 * (u64::from(old) + 1);
    Rotation::sign(history, "test-bank", retired_us, &*key(old), &*key(new)).unwrap()
}

#[test]
fn all_keys_stay_known_with_their_ranges() {
    let history = history(3);
    assert_eq!(history.present(), key(3).public_key());
    assert_eq!(history.first(), key(0).public_key());
    let keys: Vec<_> = history.keys().collect();
    let expected = [(0, Some(1_000_000)), (1, Some(2_000_000)), (2, Some(3_000_000)), (3, None)];
    assert_eq!(keys, expected.map(|(number, retired)| (key(number).public_key(), retired)));
    for (number, retired) in expected {
        assert_eq!(KeyRing::public_key(&history, key(number).key_id()), Some(key(number).public_key()));
        assert_eq!(history.retired_us(key(number).key_id()), retired);
    }
    assert_eq!(KeyRing::public_key(&history, key(4).key_id()), None);
}

#[test]
fn a_rotation_that_does_not_follow_is_refused() {
    let whole = history(2);
    let refused = |change: &dyn Fn(&mut Rotation)| {
        let mut rotation = next(&whole, 2, 3);
        change(&mut rotation);
        whole.clone().push(rotation).unwrap_err()
    };
    assert_eq!(refused(&|it| it.serial = 2), RotationError::Serial { found: 2, expected: 3 });
    let (found, expected) = (key(1).key_id(), key(2).key_id());
    assert_eq!(refused(&|it| it.old = key(1).public_key()), RotationError::Old { found, expected });
    assert_eq!(refused(&|it| it.new = key(0).public_key()), RotationError::Used(key(0).key_id()));
    assert_eq!(refused(&|it| it.new = key(2).public_key()), RotationError::Used(key(2).key_id()));
    assert_eq!(refused(&|it| it.institution.push('s')), RotationError::Stranger);
    assert_eq!(refused(&|it| it.retired_us = 1), RotationError::Backwards);
    assert_eq!(refused(&|it| it.retired_us += 1), RotationError::Signature("old"));
    assert_eq!(refused(&|it| it.old_signature[5] ^= 1), RotationError::Signature("old"));
    assert_eq!(refused(&|it| it.new_signature[5] ^= 1), RotationError::Signature("new"));
    assert_eq!(refused(&|it| it.new = key(5).public_key()), RotationError::Signature("old"));
    assert!(whole.clone().push(next(&whole, 2, 3)).is_ok());
}

#[test]
fn every_flipped_bit_is_seen() {
    let whole = history(1);
    let good = next(&whole, 1, 2).encode();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let verdict = Rotation::decode(&bytes).and_then(|rotation| whole.clone().push(rotation));
        assert!(verdict.is_err(), "byte {at}");
        assert_eq!(Rotation::decode(&good[..at]), Err(RotationError::Short), "cut at {at}");
    }
    assert_eq!(Rotation::decode(&[good.as_slice(), &[0]].concat()), Err(RotationError::Trailing));
}

proptest! {
    /// Whatever decodes, encodes back; rubbish is an error and no panic.
    #[test]
    fn one_encoding_only(flips in proptest::collection::vec((any::<proptest::sample::Index>(), 0..8_u32), 0..4)) {
        let mut bytes = next(&history(0), 0, 1).encode();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Ok(rotation) = Rotation::decode(&bytes) {
            prop_assert_eq!(rotation.encode(), bytes);
        }
    }
}
