//! A hash table that grows a little at a time.
//!
//! An ordinary table that is full moves all it holds in one insert: tens of milliseconds for a million entries, in which a
//! branch answers nobody. This one is many small tables, each of which moves only its own part.
//!
//! Like the tables it is made of, it holds numbers of entries that lie elsewhere, is given their hashes, and refuses to know
//! what they are. The hash must be keyed, or whoever chooses the entries chooses where they collide. No order is ever seen.

use alloc::vec::Vec;

use hashbrown::HashTable;

/// Parts of a table: the most that one insert moves is so many times less than all.
const PARTS: usize = 64;
/// Bits of the hash that no part needs: a table takes its places from the low bits and its tags from the high ones.
const PART_SHIFT: u32 = 40;

/// Numbers of entries, found by the entries' hashes.
#[derive(Debug, Clone)]
pub struct Table<T> {
    /// None before the first entry.
    parts: Vec<HashTable<T>>,
    len: usize,
}

/// Derived, it would ask for `T: Default`.
impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Table<T> {
    /// An empty one; it takes no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }

    /// How many it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The one with this hash that `same` knows.
    #[inline]
    pub fn find(&self, hash: u64, same: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts.get(part(hash))?.find(hash, same)
    }

    /// Takes out the one with this hash that `same` knows.
    pub fn remove(&mut self, hash: u64, same: impl FnMut(&T) -> bool) -> Option<T> {
        let found = self.parts.get_mut(part(hash))?.find_entry(hash, same).ok()?;
        self.len = self.len.checked_sub(1).expect("what is found was counted");
        Some(found.remove().0)
    }

    /// Adds one that is not there yet; `hash_of` tells the hash of each, for when they must move.
    pub fn insert(&mut self, hash: u64, one: T, hash_of: impl Fn(&T) -> u64) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        if let Some(table) = self.parts.get_mut(part(hash)) {
            table.insert_unique(hash, one, hash_of);
            self.len = self.len.checked_add(1).expect("a table is smaller than the address space");
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let parts = self.parts.capacity().saturating_mul(size_of::<HashTable<T>>());
        self.parts.iter().map(HashTable::allocation_size).fold(parts, usize::saturating_add)
    }
}

#[inline]
fn part(hash: u64) -> usize {
    let bits = hash.wrapping_shr(PART_SHIFT).to_le_bytes()[0];
    usize::from(bits).checked_rem(PARTS).expect("a table has parts")
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use core::cell::Cell;

    use proptest::prelude::*;

    use super::Table;

    fn hash_of(key: u64) -> u64 {
        let mixed = (key ^ key >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn no_insert_moves_more_than_a_small_part() {
        let mut table = Table::new();
        let moved = Cell::new(0_usize);
        for key in 0..200_000_u64 {
            moved.set(0);
            table.insert(hash_of(key), key, |key| {
                moved.set(moved.get() + 1);
                hash_of(*key)
            });
            let most = 32 + table.len() / 32;
            assert!(moved.get() <= most, "{} of {} moved at once", moved.get(), table.len());
        }
        assert!((0..200_000).all(|key| table.find(hash_of(key), |one| *one == key).is_some()));
    }

    proptest! {
        #[test]
        fn finds_what_a_set_finds(steps in prop::collection::vec((any::<bool>(), 0..300_u64), 0..600)) {
            let mut table = Table::new();
            let mut set = BTreeSet::new();
            for (adds, key) in steps {
                if adds && set.insert(key) {
                    table.insert(hash_of(key), key, |key| hash_of(*key));
                } else {
                    let gone = table.remove(hash_of(key), |one| *one == key);
                    prop_assert_eq!(gone, set.take(&key));
                }
                prop_assert_eq!((table.len(), table.is_empty()), (set.len(), set.is_empty()));
            }
            let found: Vec<u64> =
                (0..300).filter(|key| table.find(hash_of(*key), |one| one == key).is_some()).collect();
            prop_assert!(found.into_iter().eq(set));
        }
    }
}
