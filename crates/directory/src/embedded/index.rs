//! Where in the file each confirmed alias lies: 8 bytes an alias in memory, and what a hash table adds.
//!
//! It holds 32 bits of each key; that it leads to the right record is for the caller to see in the record. Many small
//! tables grow one at a time, so that no insertion waits for millions of others.

use hashbrown::HashTable;

use crate::rows::Alias;

const SHARDS: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    at: u32,
}

/// See the module. Places are in units of 16 bytes.
#[derive(Debug, Clone)]
pub(super) struct Index {
    shards: Vec<HashTable<Slot>>,
    count: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: vec![HashTable::new(); SHARDS], count: 0 }
    }
}

impl Index {
    /// The places where this alias may lie.
    pub(super) fn candidates(&self, alias: &Alias) -> Vec<u32> {
        let (shard, hash) = place(alias);
        let found = self.shards[shard].iter_hash(spread(hash)).filter(|slot| slot.hash == hash);
        found.map(|slot| slot.at).collect()
    }

    /// The alias lies at `at`; it was nowhere before.
    pub(super) fn insert(&mut self, alias: &Alias, at: u32) {
        let (shard, hash) = place(alias);
        self.shards[shard].insert_unique(spread(hash), Slot { hash, at }, |slot| spread(slot.hash));
        self.count += 1;
    }

    /// The alias lies at `to` instead of `from`.
    pub(super) fn replace(&mut self, alias: &Alias, from: u32, to: u32) {
        let (shard, hash) = place(alias);
        if let Some(slot) = self.shards[shard].find_mut(spread(hash), |slot| slot.at == from) {
            slot.at = to;
        }
    }

    /// What lies at `at` leads nowhere any more.
    pub(super) fn remove(&mut self, alias: &Alias, at: u32) {
        let (shard, hash) = place(alias);
        if let Ok(found) = self.shards[shard].find_entry(spread(hash), |slot| slot.at == at) {
            found.remove();
            self.count -= 1;
        }
    }

    /// Aliases in it.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Memory held.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }
}

/// The table and the 32 bits kept in it. Keys are HMACs: any of their bits do.
fn place(alias: &Alias) -> (usize, u32) {
    let [shard, a, b, c, d, ..] = alias.key;
    let kind = u32::from(alias.line) << 8 | u32::from(alias.kind.number());
    (usize::from(shard) % SHARDS, u32::from_le_bytes([a, b, c, d]) ^ kind.wrapping_mul(0x9e37_79b9))
}

/// 64 bits of 32: the table takes its place from the low ones and a tag from the high ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::AliasKind;

    fn alias(number: u32, line: u8) -> Alias {
        Alias { line, kind: AliasKind::Document, key: *blake3::hash(&number.to_le_bytes()).as_bytes() }
    }

    #[test]
    fn what_is_in_is_found_and_moves_and_goes() {
        let mut index = Index::default();
        for number in 0..100_000 {
            index.insert(&alias(number, 0), number);
        }
        assert!((0..100_000).all(|number| index.candidates(&alias(number, 0)).contains(&number)));
        let strangers: usize = (0..100_000).map(|number| index.candidates(&alias(number, 1)).len()).sum();
        assert!(strangers < 10, "another line is another alias: {strangers}");
        index.replace(&alias(7, 0), 7, 700_000);
        assert_eq!(index.candidates(&alias(7, 0)), [700_000]);
        index.remove(&alias(8, 0), 8);
        assert_eq!((index.candidates(&alias(8, 0)), index.count()), (vec![], 99_999));
        assert!(index.bytes() / 99_999 <= 21, "{}", index.bytes() / 99_999);
    }
}
