//! Binary hash trees: roots, paths and their verification.
//!
//! The shape is that of RFC 9162, section 2.1: nodes pair from the left, an odd one at the end of a
//! level is promoted as it is. Hashes differ: a node is the keyed BLAKE3 of its children, and the
//! key tells a record tree from a history tree from a leaf.
//!
//! A root alone does not say how many leaves it has. Whoever keeps one keeps the count beside it:
//! the history leaf of a batch does, and so does a checkpoint.

use alloc::vec::Vec;

use crate::wide::{GROUP, Wide};
use crate::{Hash, domain};

/// How two children become their parent.
pub type Node = fn(&Hash, &Hash) -> Hash;

/// The parent of two nodes of a batch's tree.
#[must_use]
pub fn record_node(left: &Hash, right: &Hash) -> Hash {
    keyed_node(&domain::RECORD_NODE, left, right)
}

/// The parent of two nodes of the history.
#[must_use]
pub fn history_node(left: &Hash, right: &Hash) -> Hash {
    keyed_node(&domain::HISTORY_NODE, left, right)
}

fn keyed_node(key: &domain::Key, left: &Hash, right: &Hash) -> Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(left).update(right);
    *hasher.finalize().as_bytes()
}

/// The root over record leaves, computed in place: `leaves` holds one hash afterwards, the root.
///
/// No leaves at all have a root too: the keyed hash of nothing.
#[must_use]
pub fn root(leaves: &mut Vec<Hash>) -> Hash {
    let wide = Wide::new(&domain::RECORD_NODE);
    while leaves.len() > 1 {
        halve(&wide, leaves);
    }
    *leaves.first().unwrap_or(&empty_root())
}

/// The root of a batch without records.
#[must_use]
pub fn empty_root() -> Hash {
    *blake3::keyed_hash(&domain::RECORD_NODE, b"").as_bytes()
}

/// The hashes that lead from the record leaf at `index` to the root, from the leaf upwards; `None`
/// if there is no such leaf.
#[must_use]
pub fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    let wide = Wide::new(&domain::RECORD_NODE);
    path_by(leaves, index, |level| halve(&wide, level))
}

/// As [`path`], with the caller's way to make a level of the tree into the one above.
pub(crate) fn path_by(
    leaves: &[Hash],
    mut index: usize,
    mut halve: impl FnMut(&mut Vec<Hash>),
) -> Option<Vec<Hash>> {
    leaves.get(index)?;
    let mut level = leaves.to_vec();
    let mut path = Vec::new();
    while level.len() > 1 {
        path.extend(level.get(index ^ 1)); // the odd one at the end has no sibling
        halve(&mut level);
        index >>= 1;
    }
    Some(path)
}

/// Whether `path` leads from the record leaf at `index` of `count` to `root`.
#[must_use]
pub fn verify_path(leaf: &Hash, index: u64, count: u64, path: &[Hash], root: &Hash) -> bool {
    root_of_path(record_node, leaf, index, count, path).as_ref() == Some(root)
}

/// The root that `path` leads to from the leaf at `index` of `count` (RFC 9162, 2.1.3.2); `None` if
/// no such leaf has a path of this length.
#[must_use]
pub fn root_of_path(node: Node, leaf: &Hash, index: u64, count: u64, path: &[Hash]) -> Option<Hash> {
    let mut last = count.checked_sub(1)?;
    let mut place = index;
    if place > last {
        return None;
    }
    let mut hash = *leaf;
    let mut path = path.iter();
    while last > 0 {
        let is_right = place & 1 == 1;
        if is_right || place < last {
            let sibling = path.next()?;
            hash = if is_right { node(sibling, &hash) } else { node(&hash, sibling) };
        }
        place >>= 1;
        last >>= 1;
    }
    path.next().is_none().then_some(hash)
}

/// Replaces a level of the tree by the one above it.
fn halve(wide: &Wide, level: &mut Vec<Hash>) {
    let mut above = [[0; 32]; GROUP];
    let mut written: usize = 0;
    let mut read: usize = 0;
    loop {
        let rest = level.get(read..).unwrap_or_default();
        let (pairs, _) = rest.as_flattened().as_chunks::<64>();
        let count = pairs.len().min(GROUP);
        if count == 0 {
            break;
        }
        let mut inputs = [&[0; 64]; GROUP];
        for (input, pair) in inputs.iter_mut().zip(pairs) {
            *input = pair;
        }
        wide.hash(inputs.split_at(count).0, &mut above);
        for (to, from) in level.iter_mut().skip(written).zip(above.split_at(count).0) {
            *to = *from;
        }
        written = written.saturating_add(count);
        read = read.saturating_add(count).saturating_add(count);
    }
    if let Some(&odd) = level.get(read)
        && let Some(place) = level.get_mut(written)
    {
        *place = odd;
        written = written.saturating_add(1);
    }
    level.truncate(written);
}
