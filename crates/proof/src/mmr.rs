//! The history: a Merkle mountain range over the batches of a branch, one leaf each.
//!
//! A mountain range is a row of perfect trees, the peaks, whose sizes are the binary digits of the
//! leaf count; appending never changes a node once made. Bagging the peaks from the right gives the
//! very tree of RFC 9162, so its inclusion and consistency proofs apply as they stand.
//!
//! ```text
//! nodes are numbered as they are made:     6
//!                                      2       5       9
//! leaves 0 1 2 3 4 5 6 are nodes     0   1   3   4   7   8   10      peaks: 6, 9, 10
//! ```
//!
//! [`Mmr`] holds the peaks only, at most 64 hashes. Who wants to prove things keeps the nodes
//! that [`Mmr::append`] hands out, in order, and lets [`path`] and [`consistency`] fetch them.

use alloc::vec::Vec;

use crate::evidence::{self, Kind};
use crate::tree::{history_node, root_of_path};
use crate::{Hash, HashAlgorithm};

/// The peaks of a history: all it takes to append and to have a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mmr {
    algorithm: HashAlgorithm,
    count: u64,
    /// From the largest tree to the smallest: one for each bit of `count`.
    peaks: Vec<Hash>,
}

impl Mmr {
    /// A history of nothing.
    #[must_use]
    pub const fn new(algorithm: HashAlgorithm) -> Self {
        Self { algorithm, count: 0, peaks: Vec::new() }
    }

    /// A history of `count` leaves with these peaks, the largest first; `None` if there are not as
    /// many as `count` has bits set. That they are true, only a signed root can tell.
    #[must_use]
    pub fn from_peaks(algorithm: HashAlgorithm, count: u64, peaks: Vec<Hash>) -> Option<Self> {
        let fits = usize::try_from(count.count_ones()) == Ok(peaks.len());
        fits.then_some(Self { algorithm, count, peaks })
    }

    /// The function behind its hashes.
    #[must_use]
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// How many leaves.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The peaks, the largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf and hands out the nodes that this makes, in the order of their numbers: the
    /// leaf itself, then each tree that it completes.
    ///
    /// # Panics
    ///
    /// At 2⁶⁴ leaves.
    pub fn append(&mut self, leaf: Hash, mut keep: impl FnMut(Hash)) {
        keep(leaf);
        let mut node = leaf;
        for _ in 0..self.count.trailing_ones() {
            let left = self.peaks.pop().expect("a peak for each bit of the count");
            node = history_node(self.algorithm, &left, &node);
            keep(node);
        }
        self.peaks.push(node);
        self.count = self.count.checked_add(1).expect("fewer than 2^64 batches");
    }

    /// The root over all leaves; that of no leaves is the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let node = |right: Hash, left: Hash| history_node(self.algorithm, &left, &right);
        self.peaks.iter().rev().copied().reduce(node).unwrap_or_else(|| empty_root(self.algorithm))
    }
}

/// The root of a history without batches.
#[must_use]
pub fn empty_root(algorithm: HashAlgorithm) -> Hash {
    evidence::empty(algorithm, Kind::HistoryNode)
}

/// How many nodes a history of `count` leaves has handed out.
#[must_use]
pub const fn node_count(count: u64) -> u64 {
    count.wrapping_mul(2).wrapping_sub(ones(count))
}

#[expect(clippy::as_conversions, reason = "u64::from is not const, and 64 fits")]
const fn ones(count: u64) -> u64 {
    count.count_ones() as u64
}

/// The hashes that lead from leaf `index` to the root over the first `count` leaves, from the leaf
/// upwards. `node` fetches a node by its number.
///
/// `None` if there is no such leaf, or if `node` does not know a node.
pub fn path(
    algorithm: HashAlgorithm,
    count: u64,
    index: u64,
    mut node: impl FnMut(u64) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    if index >= count {
        return None;
    }
    let mut range = Range { begin: 0, count };
    let mut path = Vec::new();
    while let Some((left, right)) = range.split() {
        let (here, sibling) = if index < right.begin { (left, right) } else { (right, left) };
        path.push(sibling.root(algorithm, &mut node)?);
        range = here;
    }
    path.reverse();
    Some(path)
}

/// Whether `path` leads from `leaf` at `index` to the `root` of a history of `count` leaves.
#[must_use]
pub fn verify_path(
    algorithm: HashAlgorithm,
    leaf: &Hash,
    index: u64,
    count: u64,
    path: &[Hash],
    root: &Hash,
) -> bool {
    let node = |left: &Hash, right: &Hash| history_node(algorithm, left, right);
    root_of_path(node, leaf, index, count, path).as_ref() == Some(root)
}

/// Proof that the history of `new` leaves begins with that of `old` (RFC 9162, 2.1.4.1).
///
/// `None` if `old` is more than `new`, or if `node` does not know a node.
pub fn consistency(
    algorithm: HashAlgorithm,
    old: u64,
    new: u64,
    mut node: impl FnMut(u64) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return (old <= new).then_some(proof);
    }
    if old > new {
        return None;
    }
    let mut range = Range { begin: 0, count: new };
    // Down to the subtree that ends where the old history ends.
    while range.end() != old {
        let (left, right) = range.split()?;
        let (here, beside) = if old <= right.begin { (left, right) } else { (right, left) };
        proof.push(beside.root(algorithm, &mut node)?);
        range = here;
    }
    if range.begin != 0 {
        proof.push(range.root(algorithm, &mut node)?);
    }
    proof.reverse();
    Some(proof)
}

/// A history as a checkpoint states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How many leaves.
    pub count: u64,
    /// The root over them.
    pub root: Hash,
}

/// Whether `proof` shows that the history `new` begins with `old` (RFC 9162, 2.1.4.2). Every
/// history begins with the empty one.
#[must_use]
pub fn verify_consistency(algorithm: HashAlgorithm, old: Extent, new: Extent, proof: &[Hash]) -> bool {
    if old.count == 0 {
        return old.root == empty_root(algorithm) && proof.is_empty();
    }
    if old.count == new.count {
        return old.root == new.root && proof.is_empty();
    }
    old.count < new.count
        && roots_of_consistency(algorithm, old, new.count, proof) == Some((old.root, new.root))
}

/// The two roots that a proof leads to.
fn roots_of_consistency(
    algorithm: HashAlgorithm,
    old: Extent,
    new_count: u64,
    proof: &[Hash],
) -> Option<(Hash, Hash)> {
    let node = |left: &Hash, right: &Hash| history_node(algorithm, left, right);
    let mut place = old.count.checked_sub(1)?;
    let mut last = new_count.checked_sub(1)?;
    let complete = place.trailing_ones();
    place = place.checked_shr(complete).unwrap_or(0);
    last = last.checked_shr(complete).unwrap_or(0);

    let mut proof = proof.iter();
    // A perfect old tree is a node of the new one and not repeated in the proof.
    let first = if old.count.is_power_of_two() { &old.root } else { proof.next()? };
    let (mut old_root, mut new_root) = (*first, *first);
    for hash in proof {
        if last == 0 {
            return None;
        }
        if place & 1 == 1 || place == last {
            old_root = node(hash, &old_root);
            new_root = node(hash, &new_root);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            new_root = node(&new_root, hash);
        }
        place >>= 1;
        last >>= 1;
    }
    (last == 0).then_some((old_root, new_root))
}

/// The leaves from `begin`, `count` of them: a subtree, since ranges only come from splitting.
#[derive(Debug, Clone, Copy)]
struct Range {
    begin: u64,
    count: u64,
}

impl Range {
    const fn end(self) -> u64 {
        self.begin.saturating_add(self.count)
    }

    /// The two children: the left one is the largest perfect tree that leaves something over.
    fn split(self) -> Option<(Self, Self)> {
        let left = match self.count {
            0 | 1 => return None,
            count => 1_u64.checked_shl(count.checked_sub(1)?.ilog2())?,
        };
        let right = Self { begin: self.begin.checked_add(left)?, count: self.count.checked_sub(left)? };
        Some((Self { begin: self.begin, count: left }, right))
    }

    /// The hash over the range: a stored node if perfect, else bagged from those it consists of.
    fn root(self, algorithm: HashAlgorithm, node: &mut impl FnMut(u64) -> Option<Hash>) -> Option<Hash> {
        let mut range = self;
        let mut peaks = Vec::new();
        while !range.count.is_power_of_two() {
            let (left, right) = range.split()?;
            peaks.push(node(left.number()?)?);
            range = right;
        }
        let last = node(range.number()?)?;
        Some(peaks.iter().rev().fold(last, |right, left| history_node(algorithm, left, &right)))
    }

    /// The number of the node over a perfect range: it is made as the last leaf is appended, after
    /// that leaf and the trees below.
    fn number(self) -> Option<u64> {
        let leaf = self.end().checked_sub(1)?;
        node_count(leaf).checked_add(u64::from(self.count.ilog2()))
    }
}
