//! Open holds: money promised, not yet moved.
//!
//! A slab of 44-byte entries in copy-on-write pages, a table from id to slot, and a queue by expiry. The
//! table is keyed by a secret seed, so a client cannot choose ids that collide; its order is never seen.
//! All in, an open hold takes at most 64 bytes. Refuses to know what a hold does to accounts.

mod queue;

use alloc::vec::Vec;

use skerry_money::Date;

use crate::paged::PagedVec;
use crate::table::Table;
use crate::types::{AccountRef, TransferId};

/// An open hold, as read.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The pending transfer's id.
    pub id: TransferId,
    /// The account it will debit.
    pub debit: AccountRef,
    /// The account it will credit.
    pub credit: AccountRef,
    /// Minor units held; 0 only for a hold that closes an account.
    pub amount: u64,
    /// The client's classification.
    pub code: u16,
    /// When it expires, in seconds since 1970; 0 never.
    pub expires_s: u32,
    /// Whether it closes the debit account.
    pub closing_debit: bool,
    /// Whether it closes the credit account.
    pub closing_credit: bool,
    /// The day whose daily limit it used; `None` if it used none.
    pub counted_on: Option<Date>,
}

/// Where an account lies: an index with the top bit saying whether it is a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) u32);

impl Place {
    pub(crate) const HEAD: u32 = 1 << 31;
    /// Spare in a place; a stored hold says there that it closes the account.
    const CLOSING: u32 = 1 << 30;
    /// How many accounts of a kind have a place.
    pub(crate) const COUNT_MAX: u32 = 1 << 30;
}

const NONE: u32 = u32::MAX;

/// A hold as stored. A vacant slot has the zero id, and the next vacant slot in `queue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    id: [u32; 4],
    amount: [u32; 2],
    debit: u32,
    credit: u32,
    expires_s: u32,
    /// Its index in the expiry queue, [`NONE`] if it never expires.
    queue: u32,
    code: u16,
    /// Days since 1970 of `counted_on`; 0 is none.
    counted_on: u16,
}

/// Bytes of a stored hold in an image: the queue's index is not part of it.
pub(crate) const STORED_BYTES: usize = 40;

impl Stored {
    pub(crate) fn new(hold: &Hold, debit: Place, credit: Place) -> Self {
        let closing = |on: bool| if on { Place::CLOSING } else { 0 };
        Self {
            id: split_u128(hold.id.0),
            amount: split_u64(hold.amount),
            debit: debit.0 | closing(hold.closing_debit),
            credit: credit.0 | closing(hold.closing_credit),
            expires_s: hold.expires_s,
            queue: NONE,
            code: hold.code,
            counted_on: hold.counted_on.and_then(|day| u16::try_from(day.0).ok()).unwrap_or(0),
        }
    }

    const fn vacant(next: u32) -> Self {
        Self {
            id: [0; 4],
            amount: [0; 2],
            debit: 0,
            credit: 0,
            expires_s: 0,
            queue: next,
            code: 0,
            counted_on: 0,
        }
    }

    /// The hold, given what its places refer to.
    pub(crate) fn read(&self, refer: impl Fn(Place) -> AccountRef) -> Hold {
        Hold {
            id: self.id(),
            debit: refer(self.debit()),
            credit: refer(self.credit()),
            amount: join_u64(self.amount),
            code: self.code,
            expires_s: self.expires_s,
            closing_debit: self.debit & Place::CLOSING != 0,
            closing_credit: self.credit & Place::CLOSING != 0,
            counted_on: (self.counted_on != 0).then(|| Date(i32::from(self.counted_on))),
        }
    }

    /// The places of its two accounts.
    pub(crate) const fn places(&self) -> [Place; 2] {
        [self.debit(), self.credit()]
    }

    const fn debit(&self) -> Place {
        Place(self.debit & !Place::CLOSING)
    }

    const fn credit(&self) -> Place {
        Place(self.credit & !Place::CLOSING)
    }

    fn id(&self) -> TransferId {
        TransferId(join_u128(self.id))
    }

    pub(crate) const fn is_vacant(&self) -> bool {
        matches!(self.id, [0, 0, 0, 0])
    }

    /// Little-endian, in the order of the fields; for a vacant slot `expires_s` is the next vacant one.
    pub(crate) fn to_bytes(self) -> [u8; STORED_BYTES] {
        let [i0, i1, i2, i3] = self.id;
        let [a0, a1] = self.amount;
        let ninth = if self.is_vacant() { self.queue } else { self.expires_s };
        let last = u32::from(self.code) | u32::from(self.counted_on).wrapping_shl(16);
        let mut bytes = [0; STORED_BYTES];
        let words = [i0, i1, i2, i3, a0, a1, self.debit, self.credit, ninth, last];
        for (out, word) in bytes.chunks_exact_mut(4).zip(words) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; STORED_BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |index: usize| words.get(index).map_or(0, |word| u32::from_le_bytes(*word));
        let [code_low, code_high, day_low, day_high] = word(9).to_le_bytes();
        let mut stored = Self {
            id: [word(0), word(1), word(2), word(3)],
            amount: [word(4), word(5)],
            debit: word(6),
            credit: word(7),
            expires_s: word(8),
            queue: NONE,
            code: u16::from_le_bytes([code_low, code_high]),
            counted_on: u16::from_le_bytes([day_low, day_high]),
        };
        if stored.is_vacant() {
            (stored.queue, stored.expires_s) = (stored.expires_s, 0);
        }
        stored
    }
}

const fn split_u64(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

fn join_u64([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high).wrapping_shl(32)
}

fn split_u128(value: u128) -> [u32; 4] {
    let bytes = value.to_le_bytes();
    let mut split = [0; 4];
    for (out, word) in split.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *out = u32::from_le_bytes(*word);
    }
    split
}

fn join_u128([a, b, c, d]: [u32; 4]) -> u128 {
    u128::from(join_u64([a, b])) | u128::from(join_u64([c, d])).wrapping_shl(64)
}

/// Pages of the slab: small, because the slab is part of a snapshot.
pub(crate) type Slab = PagedVec<Stored, 64>;

/// All open holds of a ledger.
#[derive(Debug)]
pub(crate) struct Holds {
    slab: Slab,
    /// The first vacant slot, [`NONE`] if there is none.
    vacant: u32,
    table: Table<u32>,
    /// A binary heap of slots by (expiry, id). That order is total, so what expires next does not depend
    /// on the heap's layout, which an image does not keep.
    queue: PagedVec<u32, 512>,
    seed: [u64; 2],
}

impl Holds {
    pub(crate) const fn new(seed: [u64; 2]) -> Self {
        Self { slab: Slab::new(), vacant: NONE, table: Table::new(), queue: PagedVec::new(), seed }
    }

    /// Rebuilds table and queue from a slab; `None` if two holds share an id or the list of vacant slots
    /// is broken.
    pub(crate) fn from_slab(slab: Slab, vacant: u32, seed: [u64; 2]) -> Option<Self> {
        let mut holds = Self { slab, vacant, ..Self::new(seed) };
        let mut open = Vec::new();
        for (slot, stored) in holds.slab.iter().enumerate() {
            if !stored.is_vacant() {
                open.push((u32::try_from(slot).ok()?, stored.id(), stored.expires_s));
            }
        }
        for &(slot, id, expires_s) in &open {
            if holds.slot(id).is_some() {
                return None;
            }
            holds.index(id, slot);
            if expires_s != 0 {
                holds.enqueue(slot);
            }
        }
        (holds.count_vacant()? == holds.slab.len().checked_sub(open.len())?).then_some(holds)
    }

    fn count_vacant(&self) -> Option<usize> {
        let mut count = 0_usize;
        let mut next = self.vacant;
        while next != NONE {
            let stored = self.stored(next)?;
            if !stored.is_vacant() || count >= self.slab.len() {
                return None;
            }
            count = count.checked_add(1)?;
            next = stored.queue;
        }
        Some(count)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) const fn slab(&self) -> &Slab {
        &self.slab
    }

    pub(crate) const fn vacant(&self) -> u32 {
        self.vacant
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.slab.iter().filter(|stored| !stored.is_vacant())
    }

    pub(crate) fn get(&self, id: TransferId) -> Option<&Stored> {
        self.stored(self.slot(id)?)
    }

    /// # Panics
    ///
    /// If more than 2^32 − 1 holds are open.
    pub(crate) fn insert(&mut self, stored: Stored) {
        let slot = if self.vacant == NONE {
            let slot = u32::try_from(self.slab.len()).ok().filter(|slot| *slot != NONE);
            self.slab.push(stored);
            slot.expect("fewer than 2^32 holds are open")
        } else {
            let slot = self.vacant;
            let entry = self.stored_mut(slot);
            let next = entry.queue;
            *entry = stored;
            self.vacant = next;
            slot
        };
        self.index(stored.id(), slot);
        if stored.expires_s != 0 {
            self.enqueue(slot);
        }
    }

    /// Takes the hold out; `None` if none is open under `id`.
    pub(crate) fn remove(&mut self, id: TransferId) -> Option<Stored> {
        let hash = self.hash(id);
        let slab = &self.slab;
        let slot = self.table.remove(hash, |slot| stored_id(slab, *slot) == id)?;
        let vacant = self.vacant;
        let stored = *self.stored(slot)?;
        if stored.queue != NONE {
            self.dequeue(stored.queue);
        }
        *self.stored_mut(slot) = Stored::vacant(vacant);
        self.vacant = slot;
        Some(stored)
    }

    /// The hold that expires next, if any expires.
    pub(crate) fn first_to_expire(&self) -> Option<&Stored> {
        self.stored(*self.queue.get(0)?)
    }

    fn slot(&self, id: TransferId) -> Option<u32> {
        self.table.find(self.hash(id), |slot| stored_id(&self.slab, *slot) == id).copied()
    }

    fn index(&mut self, id: TransferId, slot: u32) {
        let hash = self.hash(id);
        let (slab, seed) = (&self.slab, self.seed);
        self.table.insert(hash, slot, |slot| hash_id(seed, stored_id(slab, *slot)));
    }

    fn hash(&self, id: TransferId) -> u64 {
        hash_id(self.seed, id)
    }

    fn stored(&self, slot: u32) -> Option<&Stored> {
        self.slab.get(usize::try_from(slot).ok()?)
    }

    fn stored_mut(&mut self, slot: u32) -> &mut Stored {
        let index = usize::try_from(slot).expect("a slot is an index");
        self.slab.get_mut(index).expect("a slot in use lies in the slab")
    }
}

fn stored_id(slab: &Slab, slot: u32) -> TransferId {
    let stored = usize::try_from(slot).ok().and_then(|slot| slab.get(slot));
    stored.map_or(TransferId::NONE, Stored::id)
}

/// Two folded multiplications keyed by the seed, which no client knows.
fn hash_id([first, second]: [u64; 2], id: TransferId) -> u64 {
    let [a, b, c, d] = split_u128(id.0);
    let low = join_u64([a, b]) ^ first;
    let high = join_u64([c, d]) ^ second;
    fold(fold(low, high | 1) ^ first, second | 1)
}

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one).wrapping_mul(u128::from(other));
    let [a, b, c, d] = split_u128(product);
    join_u64([a, b]) ^ join_u64([c, d])
}

#[cfg(test)]
mod tests {
    use super::{AccountRef, Hold, Holds, Place, Stored, TransferId};
    use skerry_money::Date;

    fn hold(number: u32, expires_s: u32) -> Stored {
        let account = AccountRef::customer(1, 1);
        let hold = Hold {
            id: TransferId(u128::from(number) + 1),
            debit: account,
            credit: account,
            amount: u64::from(number),
            code: 7,
            expires_s,
            closing_debit: true,
            closing_credit: false,
            counted_on: Some(Date(20_000)),
        };
        Stored::new(&hold, Place(5), Place(Place::HEAD | 6))
    }

    #[test]
    fn an_open_hold_takes_at_most_64_bytes() {
        let mut holds = Holds::new([1, 2]);
        let mut most = 0;
        for number in 0..1_000_000 {
            holds.insert(hold(number, number + 1));
            let count = holds.len();
            // Below that the first table and page weigh more than what they hold.
            if count >= 4_000 {
                let bytes = holds.slab.heap_bytes() + holds.queue.heap_bytes() + holds.table.heap_bytes();
                most = most.max(bytes.div_ceil(count));
            }
        }
        assert!(most <= 64, "an open hold takes up to {most} bytes");
        assert!(most > 50, "the measure has lost something: only {most} bytes");
    }

    #[test]
    fn resolved_holds_leave_no_room_behind() {
        let mut holds = Holds::new([1, 2]);
        for round in 0..50 {
            for number in 0..100 {
                holds.insert(hold(round * 100 + number, 1 + number % 7));
            }
            assert!(holds.queue_is_sound());
            for number in (0..100).rev() {
                let id = TransferId(u128::from(round * 100 + number) + 1);
                assert_eq!(holds.remove(id).unwrap().id(), id);
                assert_eq!(holds.remove(id), None);
            }
            assert!(holds.queue_is_sound());
        }
        assert_eq!(holds.slab.len(), 100);
        assert_eq!(holds.queue.len(), 0);
    }

    #[test]
    fn holds_expire_in_order_whatever_was_resolved_before() {
        let mut holds = Holds::new([1, 2]);
        let mut state = 7_u32;
        let mut random = move |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for number in 0..3_000 {
            holds.insert(hold(number, random(500)));
            if random(3) == 0 {
                holds.remove(TransferId(u128::from(random(number + 1)) + 1));
            }
            assert!(number % 50 != 0 || holds.queue_is_sound());
        }
        assert!(holds.queue_is_sound());
        let mut last = (0, TransferId::NONE);
        while let Some(stored) = holds.first_to_expire() {
            let next = (stored.expires_s, stored.id());
            assert!(last < next);
            last = next;
            holds.remove(next.1);
        }
        assert!(holds.iter().all(|stored| stored.expires_s == 0));
    }

    #[test]
    fn a_stored_hold_reads_as_it_was_written() {
        let stored = hold(1_000_000, 9);
        assert_eq!(Stored::from_bytes(&stored.to_bytes()), stored);
        let read = stored.read(|place| AccountRef(u64::from(place.0)));
        assert_eq!((read.debit, read.credit), (AccountRef(5), AccountRef(u64::from(Place::HEAD | 6))));
        assert!(read.closing_debit && !read.closing_credit);
        assert_eq!((read.amount, read.code, read.expires_s), (1_000_000, 7, 9));
        assert_eq!(read.counted_on, Some(Date(20_000)));
    }
}
