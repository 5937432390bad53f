//! Idempotency keys of commands: what was answered, kept for at least a day.
//!
//! Bounded by time and by count, and in copy-on-write pages. Keys arrive hashed with their principal under the
//! secret seed, so the low bits of a key are its slot.

use hashbrown::HashTable;

use crate::command::Done;
use crate::event::KeyUsed;
use crate::paged::PagedQueue;

/// How long a key is kept at least: a day.
pub(crate) const KEY_LIFE_US: u64 = 24 * 3_600 * 1_000_000;

/// The most keys that are kept, about 80 MB. Beyond it a command with a key is refused until older ones go.
pub(crate) const KEYS_MAX: usize = 1 << 23;

/// What a key was used for.
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
    by_key: HashTable<u64>,
}

impl Keys {
    pub(crate) fn restored(queue: PagedQueue<Used>) -> Self {
        let mut keys = Self { queue: PagedQueue::starting_at(queue.first()), by_key: HashTable::new() };
        for used in queue.iter() {
            keys.push(*used);
        }
        keys
    }

    pub(crate) const fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether another key can be taken at `now_us`.
    pub(crate) fn has_room(&self, now_us: u64) -> bool {
        let oldest = self.queue.iter().next();
        self.len() < KEYS_MAX || oldest.is_some_and(|used| is_over(used, now_us))
    }

    pub(crate) fn find(&self, key: u128) -> Option<&Used> {
        let same = |number: &u64| self.queue.get(*number).is_some_and(|used| used.key == key);
        self.queue.get(*self.by_key.find(slot(key), same)?)
    }

    /// Takes a key, and lets go of pages whose keys are all older than a day.
    pub(crate) fn take(&mut self, event: &KeyUsed) {
        let KeyUsed { at, key, request, done } = *event;
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
        if let Ok(entry) = self.by_key.find_entry(slot(key), |number| *number < first) {
            entry.remove();
        }
    }

    fn push(&mut self, used: Used) {
        let number = self.queue.push(used);
        let queue = &self.queue;
        let hash = |number: &u64| slot(queue.get(*number).expect("the index names keys of the queue").key);
        self.by_key.insert_unique(slot(used.key), number, hash);
    }

    pub(crate) fn indexed(&self) -> usize {
        self.by_key.len()
    }
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
        keys.take(&KeyUsed { at, key, request: [1; 16], done: Done::Customer(7) });
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
        assert_eq!((keys.len(), keys.indexed()), (2, 2));
        let restored = Keys::restored(keys.queue.clone());
        assert!(restored.find(page).is_some() && restored.queue.first() == keys.queue.first());
    }
}
