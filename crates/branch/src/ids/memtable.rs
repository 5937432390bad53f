//! The newest ids, in memory, in the order they came.
//!
//! Entries lie in a plain list; a table of 4-byte slots finds them by hash. A slot holds twelve bits of
//! the hash and the number of the entry, so a stranger is told by one cache line of a small table, and
//! the list is touched only to append or on a find.
//!
//! One writer inserts, any thread finds, and nobody waits: an entry is stored before its slot is released,
//! and never changed afterwards.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::history::mix::Seed;

const INDEX_BITS: u32 = 20;
const INDEX: u32 = (1 << INDEX_BITS) - 1;

#[derive(Default)]
struct Entry {
    low: AtomicU64,
    high: AtomicU64,
    position: AtomicU64,
}

impl Entry {
    #[inline]
    fn id(&self) -> u128 {
        u128::from(self.high.load(Ordering::Relaxed)) << 64 | u128::from(self.low.load(Ordering::Relaxed))
    }

    #[inline]
    fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }
}

/// Ids of a range of positions.
pub(super) struct Memtable {
    /// Entry number + 1 in the low 20 bits, the low 12 bits of the hash above; 0 is empty.
    slots: Vec<AtomicU32>,
    shift: u32,
    entries: Vec<Entry>,
    count: AtomicUsize,
}

impl Memtable {
    /// The most entries one can hold.
    pub(super) const ENTRIES_MAX: usize = INDEX as usize - 1;

    /// An empty one for `entries`. Touches all its memory, so that the writer meets no page faults.
    pub(super) fn new(entries: usize) -> Self {
        assert!(entries <= Self::ENTRIES_MAX, "a memtable numbers its entries with 20 bits");
        let slots = (entries * 3 / 2).next_power_of_two().max(16);
        Self {
            slots: std::iter::repeat_with(AtomicU32::default).take(slots).collect(),
            shift: 64 - slots.trailing_zeros(),
            entries: std::iter::repeat_with(Entry::default).take(entries).collect(),
            count: AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<AtomicU32>() + self.entries.len() * size_of::<Entry>()
    }

    /// Touches the line a later [`Memtable::find`] will need.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u32 {
        self.slots[(hash >> self.shift) as usize].load(Ordering::Relaxed)
    }

    /// The slot of `id` and its entry, or the empty slot where it belongs.
    #[inline]
    fn probe(&self, hash: u64, id: u128) -> (usize, Option<&Entry>) {
        let mask = self.slots.len() - 1;
        let mut at = (hash >> self.shift) as usize;
        loop {
            let slot = self.slots[at].load(Ordering::Acquire);
            if slot == 0 {
                return (at, None);
            }
            if slot >> INDEX_BITS == (hash as u32) & 0xfff {
                let entry = &self.entries[(slot & INDEX) as usize - 1];
                if entry.id() == id {
                    return (at, Some(entry));
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// The position `id` was last given.
    #[inline]
    pub(super) fn find(&self, hash: u64, id: u128) -> Option<u64> {
        self.probe(hash, id).1.map(Entry::position)
    }

    /// Adds `id`; its newest position counts. Only the writer may call this.
    ///
    /// # Panics
    ///
    /// If it is full, or if positions run backwards.
    #[inline]
    pub(super) fn insert(&self, hash: u64, id: u128, position: u64) {
        let count = self.count.load(Ordering::Relaxed);
        assert!(count < self.entries.len(), "the writer must wait while the id index is full");
        let last = count.checked_sub(1).map_or(0, |last| self.entries[last].position());
        assert!(last <= position, "positions run backwards");
        let (at, _) = self.probe(hash, id);
        let entry = &self.entries[count];
        entry.low.store(id as u64, Ordering::Relaxed);
        entry.high.store((id >> 64) as u64, Ordering::Relaxed);
        entry.position.store(position, Ordering::Relaxed);
        self.slots[at].store((count as u32 + 1) | ((hash as u32) << INDEX_BITS), Ordering::Release);
        self.count.store(count + 1, Ordering::Release);
    }

    fn held(&self) -> &[Entry] {
        &self.entries[..self.len()]
    }

    /// Forgets everything, and keeps the memory: to touch fresh memory costs far more.
    pub(super) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot.get_mut() = 0);
        *self.count.get_mut() = 0;
    }

    /// Adds everything at or after `position` to `rest`.
    pub(super) fn copy_after(&self, seed: Seed, position: u64, rest: &Self) {
        let kept = self.held().partition_point(|entry| entry.position() < position);
        for entry in &self.held()[kept..] {
            rest.insert(seed.hash(entry.id()), entry.id(), entry.position());
        }
    }

    /// Ids and positions before `position`, in the order they came.
    pub(super) fn before(&self, position: u64) -> impl Iterator<Item = (u128, u64)> + '_ {
        let held = self.held().iter().map(|entry| (entry.id(), entry.position()));
        held.take_while(move |(_, at)| *at < position)
    }
}
