//! The hash functions behind what a receipt shows: record trees and the history.
//!
//! A branch has one of them for life. With BLAKE3 each kind of hash has its own key ([`domain`]). SHA-256 and SM3 have no
//! keys, so there the kind is a first byte: `H(kind ‖ parts)`. Kinds 0 and 1 are leaf and node of RFC 9162, section 2.1, so
//! that a record tree is the very tree of Certificate Transparency, and whoever verifies a receipt of such a branch, a
//! contract or a court, needs no function but that one and the signature's.

use alloc::vec::Vec;

use sha2::Sha256;
use sha2::digest::Digest;
use sm3::Sm3;

use crate::{Hash, HashAlgorithm, domain};

/// What is hashed. Its number is the first byte where the function has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A record: salt, fixed part, tail.
    RecordLeaf,
    /// Two nodes of a batch's tree.
    RecordNode,
    /// A batch: first position u64, record count u32, record root.
    HistoryLeaf,
    /// Two nodes of the history.
    HistoryNode,
}

impl Kind {
    /// The first byte for SHA-256 and SM3.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::RecordLeaf => 0,
            Self::RecordNode => 1,
            Self::HistoryLeaf => 2,
            Self::HistoryNode => 3,
        }
    }

    /// The key for BLAKE3.
    #[must_use]
    pub const fn key(self) -> &'static domain::Key {
        match self {
            Self::RecordLeaf => &domain::RECORD_LEAF,
            Self::RecordNode => &domain::RECORD_NODE,
            Self::HistoryLeaf => &domain::HISTORY_LEAF,
            Self::HistoryNode => &domain::HISTORY_NODE,
        }
    }
}

/// The hash of `parts`, one after another, as a thing of this `kind`.
#[must_use]
pub fn hash(algorithm: HashAlgorithm, kind: Kind, parts: &[&[u8]]) -> Hash {
    match algorithm {
        HashAlgorithm::Blake3 => {
            let mut hasher = blake3::Hasher::new_keyed(kind.key());
            for part in parts {
                hasher.update(part);
            }
            *hasher.finalize().as_bytes()
        }
        HashAlgorithm::Sha256 => tagged::<Sha256>(kind, parts).into(),
        HashAlgorithm::Sm3 => tagged::<Sm3>(kind, parts).into(),
    }
}

/// The root of a tree without leaves.
#[must_use]
pub(crate) fn empty(algorithm: HashAlgorithm, node: Kind) -> Hash {
    match algorithm {
        HashAlgorithm::Blake3 => *blake3::keyed_hash(node.key(), b"").as_bytes(),
        // As RFC 9162 has it: the hash of nothing at all.
        HashAlgorithm::Sha256 => Sha256::digest(b"").into(),
        HashAlgorithm::Sm3 => Sm3::digest(b"").into(),
    }
}

/// Replaces a level of a tree by the one above it, one node after another.
pub(crate) fn halve(algorithm: HashAlgorithm, node: Kind, level: &mut Vec<Hash>) {
    let (pairs, odd) = level.as_chunks();
    let mut above: Vec<Hash> =
        pairs.iter().map(|[left, right]| hash(algorithm, node, &[left, right])).collect();
    above.extend(odd);
    *level = above;
}

fn tagged<D: Digest>(kind: Kind, parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut hasher = D::new();
    hasher.update([kind.number()]);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{path, root, verify_path};

    const SHA: HashAlgorithm = HashAlgorithm::Sha256;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        core::array::from_fn(|at| byte(at * 2))
    }

    /// The example tree that implementations of Certificate Transparency share.
    #[test]
    fn known_roots() {
        let inputs: [&[u8]; 8] =
            [b"", b"\0", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"];
        let leaves: Vec<Hash> =
            inputs.into_iter().map(|input| hash(SHA, Kind::RecordLeaf, &[input])).collect();
        let known = [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (count, expected) in known {
            assert_eq!(root(SHA, &mut leaves[..count].to_vec()), bytes(expected), "{count} leaves");
        }
    }

    #[test]
    fn paths_lead_to_the_root() {
        for algorithm in HashAlgorithm::ALL {
            let leaves: Vec<Hash> =
                (0..13_u8).map(|number| hash(algorithm, Kind::RecordLeaf, &[&[number]])).collect();
            let root = root(algorithm, &mut leaves.clone());
            for (index, leaf) in (0..).zip(&leaves) {
                let path = path(algorithm, &leaves, usize::try_from(index).unwrap()).unwrap();
                assert!(verify_path(algorithm, leaf, index, 13, &path, &root));
                assert!(!verify_path(algorithm, leaf, index, 14, &path, &root) || index < 12);
                for other in HashAlgorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                    assert!(!verify_path(other, leaf, index, 13, &path, &root), "{algorithm:?} as {other:?}");
                }
            }
            assert_eq!(path(algorithm, &leaves, 13), None);
        }
    }

    /// GB/T 32905-2016, annex A, examples 1 and 2.
    #[test]
    fn sm3_is_that_of_the_standard() {
        let first: Hash = Sm3::digest(b"abc").into();
        assert_eq!(first, bytes("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"));
        let second: Hash = Sm3::digest(b"abcd".repeat(16)).into();
        assert_eq!(second, bytes("debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"));
    }

    /// No bytes are valid as two kinds, whatever the function.
    #[test]
    fn kinds_are_told_apart() {
        let kinds = [Kind::RecordLeaf, Kind::RecordNode, Kind::HistoryLeaf, Kind::HistoryNode];
        for algorithm in HashAlgorithm::ALL {
            let mut hashes: Vec<Hash> =
                kinds.into_iter().map(|kind| hash(algorithm, kind, &[&[5; 64]])).collect();
            hashes.push(empty(algorithm, Kind::RecordNode));
            hashes.sort_unstable();
            hashes.dedup();
            assert_eq!(hashes.len(), 5, "{algorithm:?}");
        }
    }
}
