//! Trees and histories against the definitions of RFC 9162, written as plainly as they read there;
//! the wide hashing against the plain API.

use proptest::collection::vec;
use proptest::prelude::*;
use skerry_proof::leaves::record_salt;
use skerry_proof::mmr::{self, Extent};
use skerry_proof::tree::{empty_root, history_node, record_node, root_of_path};
use skerry_proof::{
    Hash, HashAlgorithm, Mmr, RECORD_LENGTH, Tails, leaf_hash, leaf_hashes, path, root, verify_path,
};

const BLAKE3: HashAlgorithm = HashAlgorithm::Blake3;

/// The tree hash of RFC 9162, 2.1.1: split at the largest power of two below the count.
fn naive_root(node: fn(&Hash, &Hash) -> Hash, leaves: &[Hash]) -> Option<Hash> {
    match leaves {
        [] => None,
        [leaf] => Some(*leaf),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Some(node(&naive_root(node, left)?, &naive_root(node, right)?))
        }
    }
}

/// `count` hashes that tell themselves apart.
fn hashes(count: usize) -> Vec<Hash> {
    (0..count).map(|index| *blake3::hash(&index.to_le_bytes()).as_bytes()).collect()
}

/// A history over `leaves`, with all its nodes.
fn history(leaves: &[Hash]) -> (Mmr, Vec<Hash>) {
    let (mut mmr, mut nodes) = (Mmr::new(BLAKE3), Vec::new());
    for leaf in leaves {
        mmr.append(*leaf, |node| nodes.push(node));
    }
    (mmr, nodes)
}

fn fetch(nodes: &[Hash]) -> impl Fn(u64) -> Option<Hash> {
    |number| nodes.get(usize::try_from(number).ok()?).copied()
}

fn extent(leaves: &[Hash]) -> Extent {
    let (mmr, _) = history(leaves);
    Extent { count: mmr.count(), root: mmr.root() }
}

#[test]
fn every_small_tree_is_that_of_the_standard() {
    for count in 1..=200 {
        let leaves = hashes(count);
        assert_eq!(
            Some(root(BLAKE3, &mut leaves.clone())),
            naive_root(|left, right| record_node(BLAKE3, left, right), &leaves),
            "{count} leaves"
        );
    }
    assert_eq!(root(BLAKE3, &mut Vec::new()), empty_root(BLAKE3));
}

#[test]
fn every_path_of_every_small_tree_holds_and_no_other() {
    for count in 1..=40 {
        let leaves = hashes(count);
        let root = root(BLAKE3, &mut leaves.clone());
        let total = u64::try_from(count).unwrap();
        for (place, leaf) in leaves.iter().enumerate() {
            let path = path(BLAKE3, &leaves, place).unwrap();
            let index = u64::try_from(place).unwrap();
            assert!(verify_path(BLAKE3, leaf, index, total, &path, &root));
            for other in (0..total).filter(|&other| other != index) {
                assert!(
                    !verify_path(BLAKE3, leaf, other, total, &path, &root),
                    "{index} as {other} of {count}"
                );
            }
            assert!(!verify_path(BLAKE3, leaf, total, total, &path, &root), "beyond the end");
            let mut longer = path.clone();
            longer.push([0; 32]);
            assert!(!verify_path(BLAKE3, leaf, index, total, &longer, &root), "a hash too many");
        }
        assert_eq!(path(BLAKE3, &leaves, count), None);
    }
}

#[test]
fn every_small_history_is_a_tree_and_proves_it() {
    for count in 1..=70_usize {
        let leaves = hashes(count);
        let (mmr, nodes) = history(&leaves);
        let total = mmr.count();
        assert_eq!(Some(mmr.root()), naive_root(|left, right| history_node(BLAKE3, left, right), &leaves));
        assert_eq!(u64::try_from(nodes.len()).unwrap(), mmr::node_count(total));
        assert_eq!(Mmr::from_peaks(BLAKE3, total, mmr.peaks().to_vec()), Some(mmr.clone()));
        for (index, leaf) in (0..).zip(&leaves) {
            let path = mmr::path(BLAKE3, total, index, fetch(&nodes)).unwrap();
            assert!(mmr::verify_path(BLAKE3, leaf, index, total, &path, &mmr.root()));
        }
        assert_eq!(mmr::path(BLAKE3, total, total, fetch(&nodes)), None);
    }
}

#[test]
fn every_small_history_extends_its_beginnings_and_nothing_else() {
    for new_count in 0..=40_usize {
        let leaves = hashes(new_count);
        let (_, nodes) = history(&leaves);
        let new = extent(&leaves);
        for old_count in 0..=new_count {
            let old = extent(&leaves[..old_count]);
            let proof = mmr::consistency(BLAKE3, old.count, new.count, fetch(&nodes)).unwrap();
            assert!(mmr::verify_consistency(BLAKE3, old, new, &proof), "{old_count} in {new_count}");

            // A history that differs in its last old leaf is not the beginning of this one.
            if let Some(last) = old_count.checked_sub(1) {
                let mut other = leaves[..old_count].to_vec();
                other[last][0] ^= 1;
                assert!(!mmr::verify_consistency(BLAKE3, extent(&other), new, &proof));
            }
            // Nor does a proof hold for another count.
            if old_count > 0 && old_count < new_count {
                let wrong = Extent { count: old.count + 1, root: old.root };
                assert!(!mmr::verify_consistency(BLAKE3, wrong, new, &proof));
                assert!(!mmr::verify_consistency(BLAKE3, old, new, &proof[1..]));
            }
        }
        assert_eq!(mmr::consistency(BLAKE3, new.count + 1, new.count, fetch(&nodes)), None);
    }
}

#[test]
fn a_history_never_shrinks() {
    let (four, two) = (extent(&hashes(4)), extent(&hashes(2)));
    let (_, nodes) = history(&hashes(4));
    let proof = mmr::consistency(BLAKE3, 2, 4, fetch(&nodes)).unwrap();
    assert!(!mmr::verify_consistency(BLAKE3, four, two, &proof));
    let same_root = Extent { count: 2, root: four.root };
    assert!(!mmr::verify_consistency(BLAKE3, four, same_root, &[]), "fewer leaves under the same root");
}

#[test]
fn a_history_asks_only_for_nodes_that_exist() {
    let leaves = hashes(1000);
    let (mmr, nodes) = history(&leaves);
    let mut asked = 0;
    let path = mmr::path(BLAKE3, mmr.count(), 700, |number| {
        asked += 1;
        fetch(&nodes)(number)
    });
    assert!(path.is_some() && asked <= 20, "a path costs {asked} nodes");
    assert_eq!(mmr::path(BLAKE3, mmr.count(), 700, |_| None), None);
    assert_eq!(Mmr::from_peaks(BLAKE3, 7, vec![[0; 32]; 2]), None);
}

proptest! {
    /// The one thing that rests on an interface outside semver.
    #[test]
    fn wide_leaves_are_plain_leaves(
        salt in any::<[u8; 32]>(),
        records in vec(any::<[u8; RECORD_LENGTH]>(), 0..150),
        tailed in vec(any::<bool>(), 150),
    ) {
        let count = u32::try_from(records.len()).unwrap();
        let tails: Vec<(u32, &[u8])> =
            (0..count).zip(&tailed).filter(|(_, has)| **has).map(|(index, _)| (index, &salt[..])).collect();
        let mut area = Vec::new();
        Tails::encode(&tails, &mut area);
        let tails = Tails::parse(&area, count).unwrap();
        let before = [7; 32];
        let mut leaves = vec![before];
        leaf_hashes(BLAKE3, &salt, records.as_flattened(), Some(&tails), &mut leaves);
        prop_assert_eq!(leaves.remove(0), before);

        let plain: Vec<Hash> = (0..).zip(&records).map(|(index, record)| {
            let place = usize::try_from(index).unwrap();
            leaf_hash(BLAKE3, &record_salt(&salt, place), record, tails.get(index))
        }).collect();
        prop_assert_eq!(&leaves, &plain);
        let expected = naive_root(|left, right| record_node(BLAKE3, left, right), &plain).unwrap_or_else(|| empty_root(BLAKE3));
        prop_assert_eq!(root(BLAKE3, &mut leaves), expected);
    }

    #[test]
    fn large_trees_too(count in 1..3_000_usize, place in any::<proptest::sample::Index>()) {
        let leaves = hashes(count);
        let place = place.index(count);
        let (index, total) = (u64::try_from(place).unwrap(), u64::try_from(count).unwrap());
        let path = path(BLAKE3, &leaves, place).unwrap();
        let found = root_of_path(|left, right| record_node(BLAKE3, left, right), &leaves[place], index, total, &path);
        prop_assert_eq!(found, naive_root(|left, right| record_node(BLAKE3, left, right), &leaves));
        prop_assert_eq!(found, Some(root(BLAKE3, &mut leaves.clone())));
    }

    #[test]
    fn rubbish_proofs_prove_nothing(
        counts in (1..1_000_u64, 1..1_000_u64),
        proof in vec(any::<Hash>(), 0..12),
        roots in any::<(Hash, Hash)>(),
    ) {
        let old = Extent { count: counts.0, root: roots.0 };
        let new = Extent { count: counts.1, root: roots.1 };
        prop_assert!(!mmr::verify_consistency(BLAKE3, old, new, &proof));
        prop_assert!(!mmr::verify_path(BLAKE3, &roots.0, counts.0, counts.1, &proof, &roots.1));
    }
}
