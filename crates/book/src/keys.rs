//! Idempotency keys of commands: what was answered. A client's is kept for at least a day, an import's for ever.
//!
//! Clients' keys are bounded by time and by count, those of imports by count alone; both lie in copy-on-write pages, and
//! neither takes room from the other. Keys arrive hashed under the secret seed, so the low bits of a key are its slot.
//!
//! # Invariants
//!
//! - **Y1, one place**: a key is in the queue or among the permanent ones, never in both, and there once.
//! - **Y2, for ever**: a permanent key never leaves.

use skerry_ledger::Table;

use crate::command::Done;
use crate::event::KeyUsed;
use crate::paged::{Paged, PagedQueue};

/// How long a key is kept at least: a day.
pub(crate) const KEY_LIFE_US: u64 = 24 * 3_600 * 1_000_000;

/// The most keys of clients that are kept, at some 75 bytes each. Beyond it a command with a key is refused until older
/// ones go.
pub(crate) const KEYS_MAX: usize = 1 << 23;

/// The most keys of imports, at some 55 bytes each: one for every customer and account that is taken over. Beyond it the
/// branch is full.
pub(crate) const PERMANENT_MAX: usize = 1 << 24;

/// What a retry is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) request: [u8; 16],
    pub(crate) done: Done,
}

/// A key that is kept for ever, and what it was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permanent {
    pub(crate) key: u128,
    pub(crate) answer: Answer,
}

/// What a client's key was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) key: u128,
    pub(crate) request: [u8; 16],
    pub(crate) time_us: u64,
    pub(crate) done: Done,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    pub(crate) queue: PagedQueue<Used>,
    pub(crate) permanent: Paged<Permanent>,
    by_key: Table<u64>,
    permanent_by_key: Table<u32>,
}

impl Keys {
    pub(crate) fn restored(queue: &PagedQueue<Used>, permanent: &Paged<Permanent>) -> Self {
        let mut keys = Self { queue: PagedQueue::starting_at(queue.first()), ..Self::default() };
        queue.iter().for_each(|used| keys.push(*used));
        permanent.iter().for_each(|one| keys.keep(*one));
        keys
    }

    /// How many there are, of both sorts.
    pub(crate) const fn len(&self) -> usize {
        self.queue.len().saturating_add(self.permanent.len())
    }

    /// Whether another key of a client can be taken at `now_us`.
    pub(crate) fn has_room(&self, now_us: u64) -> bool {
        let oldest = self.queue.iter().next();
        self.queue.len() < KEYS_MAX || oldest.is_some_and(|used| is_over(used, now_us))
    }

    /// Whether another permanent key can be taken.
    pub(crate) const fn has_permanent_room(&self) -> bool {
        self.permanent.len() < PERMANENT_MAX
    }

    pub(crate) fn find(&self, key: u128) -> Option<Answer> {
        let permanent = self.find_permanent(key).map(|one| one.answer);
        permanent
            .or_else(|| self.find_used(key).map(|used| Answer { request: used.request, done: used.done }))
    }

    fn find_used(&self, key: u128) -> Option<&Used> {
        let same = |number: &u64| self.queue.get(*number).is_some_and(|used| used.key == key);
        self.queue.get(*self.by_key.find(slot(key), same)?)
    }

    fn find_permanent(&self, key: u128) -> Option<&Permanent> {
        let same = |index: &u32| self.permanent.get(place(*index)).is_some_and(|one| one.key == key);
        self.permanent.get(place(*self.permanent_by_key.find(slot(key), same)?))
    }

    /// Takes a key; a client's lets go of pages whose keys are all older than a day.
    pub(crate) fn take(&mut self, event: &KeyUsed) {
        let KeyUsed { at, key, request, done, permanent } = *event;
        if permanent {
            return self.keep(Permanent { key, answer: Answer { request, done } });
        }
        while let Some(page) = self.queue.pop_page(|last| is_over(last, at.time_us)) {
            for used in page.iter() {
                self.forget(used.key);
            }
        }
        self.push(Used { key, request, time_us: at.time_us, done });
    }

    /// The page is gone from the queue already, so its entries are those that the queue no longer has.
    fn forget(&mut self, key: u128) {
        let first = self.queue.first();
        self.by_key.remove(slot(key), |number| *number < first);
    }

    fn push(&mut self, used: Used) {
        let number = self.queue.push(used);
        let queue = &self.queue;
        let hash = |number: &u64| slot(queue.get(*number).expect("the index names keys of the queue").key);
        self.by_key.insert(slot(used.key), number, hash);
    }

    fn keep(&mut self, one: Permanent) {
        let index = u32::try_from(self.permanent.len()).expect("permanent keys within their bound");
        self.permanent.push(one);
        let permanent = &self.permanent;
        let hash =
            |index: &u32| slot(permanent.get(place(*index)).expect("the index names keys that are kept").key);
        self.permanent_by_key.insert(slot(one.key), index, hash);
    }

    /// Y1: every key is found by itself, in its own place alone, and nothing else is indexed.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let used = |key| self.find_used(key).is_some();
        let kept = |key| self.find_permanent(key).is_some();
        let mut queue = self.queue.iter().map(|one| one.key);
        let mut permanent = self.permanent.iter().map(|one| one.key);
        if !queue.all(|key| used(key) && !kept(key)) || !permanent.all(|key| kept(key) && !used(key)) {
            return Err("a key is not found by itself, or in two places");
        }
        let indexed = (self.by_key.len(), self.permanent_by_key.len());
        let same = indexed == (self.queue.len(), self.permanent.len());
        if same { Ok(()) } else { Err("the index of keys names keys that are gone") }
    }
}

fn place(index: u32) -> usize {
    usize::try_from(index).expect("an index fits the address space")
}

const fn is_over(used: &Used, now_us: u64) -> bool {
    now_us.saturating_sub(used.time_us) > KEY_LIFE_US
}

#[expect(clippy::as_conversions, reason = "the low half of a keyed hash is as good a slot as any")]
const fn slot(key: u128) -> u64 {
    key as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paged::PAGE;
    use skerry_ledger::Stamp;
    use skerry_money::Date;

    fn use_key(keys: &mut Keys, key: u128, time_us: u64) {
        let at = Stamp { time_us, business_date: Date::EPOCH };
        keys.take(&KeyUsed { at, key, request: [1; 16], done: Done::Customer(7), permanent: false });
    }

    fn use_for_ever(keys: &mut Keys, key: u128) {
        let at = Stamp { time_us: 1_000, business_date: Date::EPOCH };
        let done = Done::Customer(u32::try_from(key).unwrap());
        keys.take(&KeyUsed { at, key, request: [2; 16], done, permanent: true });
    }

    #[test]
    fn a_key_is_kept_for_a_day_and_its_page_goes_whole() {
        let mut keys = Keys::default();
        let page = u128::try_from(PAGE).unwrap();
        (0..page).for_each(|key| use_key(&mut keys, key, 1_000));
        use_key(&mut keys, page, 1_000 + KEY_LIFE_US);
        assert!((0..=page).all(|key| keys.find(key).is_some()), "none is older than a day");
        use_key(&mut keys, page + 1, 1_001 + KEY_LIFE_US);
        assert!((0..page).all(|key| keys.find(key).is_none()));
        assert_eq!((keys.len(), keys.check()), (2, Ok(())));
        let restored = Keys::restored(&keys.queue, &keys.permanent);
        assert!(restored.find(page).is_some() && restored.queue.first() == keys.queue.first());
    }

    #[test]
    fn a_permanent_key_outlives_all_others_and_keeps_none_of_them() {
        let mut keys = Keys::default();
        let page = u128::try_from(PAGE).unwrap();
        (0..3 * page).for_each(|key| use_for_ever(&mut keys, 1_000 + key));
        (0..page).for_each(|key| use_key(&mut keys, key, 1_000));
        use_key(&mut keys, page, 1_001 + 7 * KEY_LIFE_US);
        assert_eq!((keys.queue.len(), keys.permanent.len(), keys.check()), (1, 3 * PAGE, Ok(())));
        let restored = Keys::restored(&keys.queue, &keys.permanent);
        for keys in [keys, restored] {
            for key in 1_000..1_000 + 3 * page {
                let done = Done::Customer(u32::try_from(key).unwrap());
                assert_eq!(keys.find(key), Some(Answer { request: [2; 16], done }));
            }
            assert!(keys.find(0).is_none() && keys.find(page).is_some());
        }
    }
}
