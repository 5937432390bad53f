//! Binary hash trees: roots, paths and their verification.
//!
//! The shape is that of RFC 9162, section 2.1: nodes pair from the left, an odd one at the end of a
//! level is promoted as it is. Which function hashes them is the branch's ([`crate::evidence`]).
//!
//! A root alone does not say how many leaves it has. Whoever keeps one keeps the count beside it:
//! the history leaf of a batch does, and so does a checkpoint.

use alloc::vec::Vec;

use crate::evidence::{self, Kind};
use crate::wide::{GROUP, Wide};
use crate::{Hash, HashAlgorithm, domain};

/// The parent of two nodes of a batch's tree.
#[must_use]
pub fn record_node(algorithm: HashAlgorithm, left: &Hash, right: &Hash) -> Hash {
    evidence::hash(algorithm, Kind::RecordNode, &[left, right])
}

/// The parent of two nodes of the history.
#[must_use]
pub fn history_node(algorithm: HashAlgorithm, left: &Hash, right: &Hash) -> Hash {
    evidence::hash(algorithm, Kind::HistoryNode, &[left, right])
}

/// The root over record leaves, computed in place: `leaves` holds one hash afterwards, the root.
///
/// No leaves at all have a root too: the hash of nothing.
#[must_use]
pub fn root(algorithm: HashAlgorithm, leaves: &mut Vec<Hash>) -> Hash {
    let levels = Levels::new(algorithm);
    while leaves.len() > 1 {
        levels.halve(leaves);
    }
    leaves.first().copied().unwrap_or_else(|| empty_root(algorithm))
}

/// The root of a batch without records.
#[must_use]
pub fn empty_root(algorithm: HashAlgorithm) -> Hash {
    evidence::empty(algorithm, Kind::RecordNode)
}

/// The hashes that lead from the record leaf at `index` to the root, from the leaf upwards; `None`
/// if there is no such leaf.
#[must_use]
pub fn path(algorithm: HashAlgorithm, leaves: &[Hash], mut index: usize) -> Option<Vec<Hash>> {
    let levels = Levels::new(algorithm);
    leaves.get(index)?;
    let mut level = leaves.to_vec();
    let mut path = Vec::new();
    while level.len() > 1 {
        path.extend(level.get(index ^ 1)); // the odd one at the end has no sibling
        levels.halve(&mut level);
        index >>= 1;
    }
    Some(path)
}

/// Whether `path` leads from the record leaf at `index` of `count` to `root`.
#[must_use]
pub fn verify_path(
    algorithm: HashAlgorithm,
    leaf: &Hash,
    index: u64,
    count: u64,
    path: &[Hash],
    root: &Hash,
) -> bool {
    let node = |left: &Hash, right: &Hash| record_node(algorithm, left, right);
    root_of_path(node, leaf, index, count, path).as_ref() == Some(root)
}

/// The root that `path` leads to from the leaf at `index` of `count` (RFC 9162, 2.1.3.2); `None` if
/// no such leaf has a path of this length. `node` makes two children into their parent.
#[must_use]
pub fn root_of_path(
    node: impl Fn(&Hash, &Hash) -> Hash,
    leaf: &Hash,
    index: u64,
    count: u64,
    path: &[Hash],
) -> Option<Hash> {
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

/// How the levels of a record tree are made: many nodes at once where the function allows it.
enum Levels {
    Wide(Wide),
    Single(HashAlgorithm),
}

impl Levels {
    fn new(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Blake3 => Self::Wide(Wide::new(&domain::RECORD_NODE)),
            other => Self::Single(other),
        }
    }

    /// Replaces a level of the tree by the one above it.
    fn halve(&self, level: &mut Vec<Hash>) {
        match self {
            Self::Wide(wide) => halve_wide(wide, level),
            Self::Single(algorithm) => evidence::halve(*algorithm, Kind::RecordNode, level),
        }
    }
}

fn halve_wide(wide: &Wide, level: &mut Vec<Hash>) {
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
