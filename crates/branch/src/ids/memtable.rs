//! The newest ids, in memory, in the order they came.
//!
//! Ids and positions lie in two plain lists; a table of 4-byte slots finds them by hash. A slot holds
//! twelve bits of the hash and the number of the entry, so a stranger is told by one cache line of a
//! small table, and the lists are touched only to append or on a find.

use crate::history::mix::Seed;

const INDEX_BITS: u32 = 20;
const INDEX: u32 = (1 << INDEX_BITS) - 1;

/// Ids of a range of positions.
pub(super) struct Memtable {
    /// Entry number + 1 in the low 20 bits, the low 12 bits of the hash above; 0 is empty.
    slots: Vec<u32>,
    shift: u32,
    ids: Vec<u128>,
    positions: Vec<u64>,
    /// The least and greatest id.
    range: (u128, u128),
}

impl Memtable {
    /// The most entries one can hold.
    pub(super) const ENTRIES_MAX: usize = INDEX as usize - 1;

    /// An empty one for at least `entries`.
    pub(super) fn new(entries: usize) -> Self {
        assert!(entries <= Self::ENTRIES_MAX, "a memtable numbers its entries with 20 bits");
        let slots = (entries * 3 / 2).next_power_of_two().max(16);
        Self {
            slots: vec![0; slots],
            shift: 64 - slots.trailing_zeros(),
            ids: Vec::with_capacity(entries),
            positions: Vec::with_capacity(entries),
            range: (u128::MAX, 0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// How many it can hold.
    fn entries_max(&self) -> usize {
        (self.slots.len() * 3 / 4).min(Self::ENTRIES_MAX)
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * 4 + self.ids.capacity() * 16 + self.positions.capacity() * 8
    }

    pub(super) fn range(&self) -> (u128, u128) {
        self.range
    }

    /// Whether `id` lies between the least and the greatest id.
    #[inline]
    pub(super) fn spans(&self, id: u128) -> bool {
        self.range.0 <= id && id <= self.range.1
    }

    /// Touches the line a later [`Memtable::find`] will need.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u32 {
        self.slots[(hash >> self.shift) as usize]
    }

    /// The place of `id`: `Ok` its slot and entry, `Err` the empty slot where it belongs.
    #[inline]
    fn probe(&self, hash: u64, id: u128) -> Result<(usize, usize), usize> {
        let mask = self.slots.len() - 1;
        let mut at = (hash >> self.shift) as usize;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return Err(at);
            }
            let entry = (slot & INDEX) as usize - 1;
            if slot >> INDEX_BITS == (hash as u32) & 0xfff && self.ids[entry] == id {
                return Ok((at, entry));
            }
            at = (at + 1) & mask;
        }
    }

    /// The position `id` was last given.
    #[inline]
    pub(super) fn find(&self, hash: u64, id: u128) -> Option<u64> {
        self.probe(hash, id).ok().map(|(_, entry)| self.positions[entry])
    }

    /// Adds `id`; its newest position counts.
    ///
    /// # Panics
    ///
    /// If it is full, or if positions run backwards.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, id: u128, position: u64) {
        assert!(self.ids.len() < self.entries_max(), "the writer must wait while the id index is full");
        assert!(self.positions.last().is_none_or(|last| *last <= position), "positions run backwards");
        let at = match self.probe(hash, id) {
            Ok((at, _)) | Err(at) => at,
        };
        self.slots[at] = (self.ids.len() as u32 + 1) | ((hash as u32) << INDEX_BITS);
        self.ids.push(id);
        self.positions.push(position);
        self.range = (self.range.0.min(id), self.range.1.max(id));
    }

    /// A new table with everything at or after `position`.
    pub(super) fn after(&self, seed: Seed, position: u64, entries: usize) -> Self {
        let kept = self.positions.partition_point(|at| *at < position);
        let mut rest = Self::new(entries);
        for (id, at) in self.ids[kept..].iter().zip(&self.positions[kept..]) {
            rest.insert(seed.hash(*id), *id, *at);
        }
        rest
    }

    /// Entries before `position`, in the order they came.
    pub(super) fn before(&self, position: u64) -> impl Iterator<Item = (u128, u64)> + '_ {
        let kept = self.positions.partition_point(|at| *at < position);
        self.ids[..kept].iter().copied().zip(self.positions[..kept].iter().copied())
    }
}
