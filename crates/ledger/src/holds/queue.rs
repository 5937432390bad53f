//! The expiry queue: a binary heap of slots in which each hold knows its place, so that one resolved
//! early leaves at once and the queue is never longer than the open holds.

use super::{Holds, NONE, stored_id};
use crate::types::TransferId;

impl Holds {
    /// Adds the hold in `slot` to the queue.
    pub(super) fn enqueue(&mut self, slot: u32) {
        let index = u32::try_from(self.queue.len()).expect("the queue is no longer than the slab");
        self.queue.push(slot);
        self.stored_mut(slot).queue = index;
        self.rise(index);
    }

    /// Takes out the hold at `index` of the queue.
    pub(super) fn dequeue(&mut self, index: u32) {
        let Some(last) = self.queue.pop() else { return };
        let len = self.queue_len();
        if index < len {
            self.put(index, last);
            let risen = self.rise(index);
            self.sink(risen);
        }
    }

    /// Whether parents come before children and every hold knows its place.
    pub(crate) fn queue_is_sound(&self) -> bool {
        (0..self.queue_len()).all(|index| {
            let slot = self.queued(index);
            let knows =
                self.stored(slot).is_some_and(|stored| stored.queue == index && stored.expires_s != 0);
            knows && (index == 0 || self.order(self.queued(parent(index))) < self.order(slot))
        }) && self.iter().filter(|stored| stored.expires_s != 0).count() == self.queue.len()
    }

    fn rise(&mut self, mut index: u32) -> u32 {
        while index > 0 {
            let (above, slot) = (parent(index), self.queued(index));
            let other = self.queued(above);
            if self.order(other) <= self.order(slot) {
                break;
            }
            self.put(above, slot);
            self.put(index, other);
            index = above;
        }
        index
    }

    fn sink(&mut self, mut index: u32) {
        loop {
            let left = index.saturating_mul(2).saturating_add(1);
            let first = [left, left.saturating_add(1)]
                .into_iter()
                .filter(|child| *child < self.queue_len())
                .min_by_key(|child| self.order(self.queued(*child)));
            let slot = self.queued(index);
            match first {
                Some(child) if self.order(self.queued(child)) < self.order(slot) => {
                    let other = self.queued(child);
                    self.put(index, other);
                    self.put(child, slot);
                    index = child;
                }
                _ => return,
            }
        }
    }

    fn put(&mut self, index: u32, slot: u32) {
        let entry = usize::try_from(index).ok().and_then(|index| self.queue.get_mut(index));
        *entry.expect("an index of the queue lies in it") = slot;
        self.stored_mut(slot).queue = index;
    }

    fn queued(&self, index: u32) -> u32 {
        usize::try_from(index).ok().and_then(|index| self.queue.get(index)).copied().unwrap_or(NONE)
    }

    fn queue_len(&self) -> u32 {
        u32::try_from(self.queue.len()).expect("the queue is no longer than the slab")
    }

    fn order(&self, slot: u32) -> (u32, TransferId) {
        let expires_s = self.stored(slot).map_or(NONE, |stored| stored.expires_s);
        (expires_s, stored_id(&self.slab, slot))
    }
}

const fn parent(index: u32) -> u32 {
    index.saturating_sub(1).wrapping_shr(1)
}
