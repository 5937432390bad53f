//! Replies that wait until everything they could have seen is durable.
//!
//! # Invariants
//!
//! - A reply leaves only when as many batches are durable as there were, filled or filling, when it was made.
//! - Under a lease that is no good any more, it leaves only when the store has confirmed the owner since: by a batch that was sealed
//!   after it was made, or by a check that was asked for after it was made.
//! - Every reply leaves exactly once: with its answer, or as *unknown* when the journal failed before.

use std::collections::VecDeque;

use crate::api::{Principal, Reply, ReplyTo};

/// A reply that is ready but for durability.
pub(crate) struct Held {
    /// How many batches must be durable.
    pub(crate) needs: u64,
    /// So many durable batches confirm that nobody else had the branch when it was made.
    pub(crate) proof: u64,
    /// So does the check of this number.
    pub(crate) check: u64,
    /// Whose request it answers.
    pub(crate) principal: Principal,
    /// When the request was taken: monotonic microseconds.
    pub(crate) taken_us: u64,
    /// The answer.
    pub(crate) value: Reply,
    /// Where it goes.
    pub(crate) reply: ReplyTo,
}

/// What is known of the owner at a moment after all held replies were made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    /// The lease is good, or there is none.
    pub(crate) is_held: bool,
    /// The last check that came out well.
    pub(crate) confirmed: u64,
}

impl Owner {
    const fn may_tell(&self, held: &Held, durable: u64) -> bool {
        self.is_held || durable >= held.proof || self.confirmed >= held.check
    }
}

/// Held replies, in the order in which they become free.
#[derive(Default)]
pub(crate) struct HeldReplies {
    waiting: VecDeque<Held>,
}

impl HeldReplies {
    /// Holds a reply.
    ///
    /// # Panics
    ///
    /// If it needs less than one held before: batches become durable in order, so needs only grow.
    pub(crate) fn push(&mut self, held: Held) {
        assert!(
            self.waiting.back().is_none_or(|last| last.needs <= held.needs),
            "replies are held in batch order"
        );
        self.waiting.push_back(held);
    }

    /// The next reply that `durable` batches set free, if `owner` says that this is the branch's owner.
    pub(crate) fn pop_free(&mut self, durable: u64, owner: &Owner) -> Option<Held> {
        let first = self.waiting.front()?;
        let free = first.needs <= durable && owner.may_tell(first, durable);
        if free { self.waiting.pop_front() } else { None }
    }

    /// The first reply that waits for nothing but a word about the owner, if that is so.
    pub(crate) fn unproven(&self, durable: u64, owner: &Owner) -> Option<&Held> {
        self.waiting.front().filter(|first| first.needs <= durable && !owner.may_tell(first, durable))
    }

    /// Any reply at all: the journal has failed, and so the answer is no longer true.
    pub(crate) fn pop_any(&mut self) -> Option<Held> {
        self.waiting.pop_front()
    }

    /// How many are held.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none is held.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(needs: u64) -> Held {
        let principal = Principal::new("p").unwrap();
        let value = Reply::Expired;
        Held { needs, proof: needs + 1, check: 1, principal, taken_us: 0, value, reply: Box::new(|_| {}) }
    }

    const HELD: Owner = Owner { is_held: true, confirmed: 0 };

    #[test]
    fn without_a_lease_a_later_batch_or_a_later_check_sets_a_reply_free() {
        let mut replies = HeldReplies::default();
        let lost = Owner { is_held: false, confirmed: 0 };
        for needs in [4, 4] {
            replies.push(held(needs));
        }
        assert!(replies.pop_free(4, &lost).is_none());
        assert!(replies.unproven(4, &lost).is_some() && replies.unproven(3, &lost).is_none());
        assert!(replies.pop_free(5, &lost).is_some(), "a batch that was sealed after it was made");
        assert!(replies.pop_free(4, &Owner { confirmed: 1, ..lost }).is_some());
        assert!(replies.unproven(4, &lost).is_none());
    }

    #[test]
    fn replies_leave_in_order_and_not_before_their_batch() {
        let mut replies = HeldReplies::default();
        for needs in [0, 1, 1, 3] {
            replies.push(held(needs));
        }
        let mut free = |durable| std::iter::from_fn(|| replies.pop_free(durable, &HELD)).count();
        assert_eq!(free(0), 1);
        assert_eq!(free(2), 2);
        assert_eq!(free(2), 0);
        assert_eq!(free(3), 1);
    }
}
