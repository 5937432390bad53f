//! Sealed key files: they open with their passphrase, and with no byte changed.

#![expect(clippy::unwrap_used, reason = "also in the helpers of tests")]

use proptest::prelude::*;
use skerry_proof::SignatureAlgorithm;
use skerry_signers::key_file::{LENGTH_MAX, Secret, signer};
use skerry_signers::{Cost, KeyFile, KeyFileError, SealedKey};

/// The least that Argon2 takes: tests try many passphrases.
const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

fn sealed(algorithm: SignatureAlgorithm, cost: Cost) -> SealedKey {
    let mut next = 0_u8;
    let mut fill = |bytes: &mut [u8]| {
        next += 1;
        bytes.fill(next);
    };
    SealedKey::seal(algorithm, &Secret::new([6; 32]), b"correct horse", cost, &mut fill).unwrap()
}

#[test]
fn a_sealed_key_opens_with_its_passphrase_alone() {
    for algorithm in SignatureAlgorithm::ALL {
        let file = KeyFile::parse(&sealed(algorithm, CHEAP).encode()).unwrap();
        let (found, secret) = file.open(Some(b"correct horse")).unwrap();
        assert_eq!((found, *secret), (algorithm, [6; 32]));
        assert_eq!(file.public_key().unwrap(), signer(algorithm, &secret).unwrap().public_key());
        assert_eq!(file.open(Some(b"correct horse ")).unwrap_err(), KeyFileError::Locked);
        assert_eq!(file.open(None).unwrap_err(), KeyFileError::Passphrase);
        assert!(!format!("{file:?}").contains("[6, 6"));
    }
}

#[test]
fn the_cost_that_is_used_opens_too() {
    let key = sealed(SignatureAlgorithm::Ed25519, Cost::default());
    assert_eq!(*key.open(b"correct horse").unwrap(), [6; 32]);
}

#[test]
fn every_flipped_bit_is_seen() {
    for algorithm in SignatureAlgorithm::ALL {
        let good = sealed(algorithm, CHEAP).encode();
        assert!(good.len() <= LENGTH_MAX);
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            let opened = KeyFile::parse(&bytes).and_then(|file| file.open(Some(b"correct horse")));
            let error = opened.unwrap_err();
            // Magic, format, algorithms and cost are looked at before; from the salt on only the seal can tell.
            assert!(at < 26 || error == KeyFileError::Locked, "byte {at}: {error}");
            assert!(KeyFile::parse(&good[..at]).is_err(), "cut at {at}");
        }
        let longer = [good.as_slice(), &[0]].concat();
        assert_eq!(KeyFile::parse(&longer).unwrap_err(), KeyFileError::Trailing);
    }
}

#[test]
fn what_it_does_not_know_is_named() {
    let good = sealed(SignatureAlgorithm::Ed25519, CHEAP).encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        KeyFile::parse(&bytes).and_then(|file| file.open(Some(b"correct horse"))).unwrap_err()
    };
    assert_eq!(with(8, 2), KeyFileError::Format(2));
    assert_eq!(with(10, 9), KeyFileError::Algorithm(9));
    assert_eq!(with(11, 3), KeyFileError::Derivation(3));
    assert_eq!(with(12, 4), KeyFileError::Cipher(4));
    assert_eq!(with(13, 1), KeyFileError::Reserved);
    // A hostile file must not make the bank take 4 TiB.
    assert!(matches!(with(17, 0xff), KeyFileError::Cost(_)));
    assert!(matches!(with(21, 0xff), KeyFileError::Cost(_)));
    assert!(matches!(with(22, 0), KeyFileError::Cost(_)));
    assert_eq!(KeyFile::parse(b"").unwrap_err(), KeyFileError::Magic);
    assert_eq!(KeyFile::parse(&[b'z'; 64]).unwrap_err(), KeyFileError::Magic);
}

#[test]
fn plain_keys_are_text() {
    for algorithm in SignatureAlgorithm::ALL {
        let text = KeyFile::plain_text(algorithm, &Secret::new([6; 32]));
        let file = KeyFile::parse(format!("{}\n", *text).as_bytes()).unwrap();
        assert_eq!(file.open(None).unwrap().0, algorithm);
    }
    let no_key = KeyFile::parse(format!("sm2:{}", "0".repeat(64)).as_bytes()).unwrap();
    assert_eq!(no_key.public_key().unwrap_err(), KeyFileError::Secret);
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_the_same(bytes: Vec<u8>, flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3)) {
        let _refused = KeyFile::parse(&bytes);
        let mut bytes = sealed(SignatureAlgorithm::Sm2, CHEAP).encode();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(key) = SealedKey::decode(&bytes) {
            prop_assert_eq!(key.encode(), bytes);
        }
    }
}
