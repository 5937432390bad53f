//! Evidence roots: SHA-256 trees for those who can compute nothing else, such as a contract.
//!
//! Exactly the tree of RFC 9162, section 2.1: a leaf is `SHA-256(0 ‖ bytes)`, a node is
//! `SHA-256(1 ‖ left ‖ right)`. The bytes of a leaf should carry a salt where they could be guessed.

use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use crate::Hash;
use crate::tree::{path_by, root_of_path};

/// The leaf of some bytes.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

/// The parent of two nodes.
#[must_use]
pub fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root over `leaves`; that of none is `SHA-256("")`.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        halve(&mut level);
    }
    level.first().copied().unwrap_or_else(|| Sha256::digest(b"").into())
}

/// The hashes that lead from the leaf at `index` to the root, from the leaf upwards; `None` if
/// there is no such leaf.
#[must_use]
pub fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    path_by(leaves, index, halve)
}

/// Whether `path` leads from the leaf at `index` of `count` to `root`.
#[must_use]
pub fn verify_path(leaf: &Hash, index: u64, count: u64, path: &[Hash], root: &Hash) -> bool {
    root_of_path(node, leaf, index, count, path).as_ref() == Some(root)
}

fn halve(level: &mut Vec<Hash>) {
    let (pairs, odd) = level.as_chunks();
    let mut above: Vec<Hash> = pairs.iter().map(|[left, right]| node(left, right)).collect();
    above.extend(odd);
    *level = above;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(hex: &str) -> Hash {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        core::array::from_fn(|at| byte(at * 2))
    }

    /// The example tree that implementations of Certificate Transparency share.
    #[test]
    fn known_roots() {
        let inputs: [&[u8]; 8] =
            [b"", b"\0", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"];
        let leaves: Vec<Hash> = inputs.into_iter().map(leaf).collect();
        let known = [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (count, expected) in known {
            assert_eq!(root(&leaves[..count]), hash(expected), "{count} leaves");
        }
    }

    #[test]
    fn paths_lead_to_the_root() {
        let leaves: Vec<Hash> = (0..13_u8).map(|number| leaf(&[number])).collect();
        let root = root(&leaves);
        for (index, leaf) in (0..).zip(&leaves) {
            let path = path(&leaves, usize::try_from(index).unwrap()).unwrap();
            assert!(verify_path(leaf, index, 13, &path, &root));
            assert!(!verify_path(leaf, index, 14, &path, &root) || index < 12);
        }
        assert_eq!(path(&leaves, 13), None);
    }
}
