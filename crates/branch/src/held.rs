//! Replies that wait until everything they could have seen is durable.
//!
//! # Invariants
//!
//! - A reply leaves only when as many batches are durable as there were, filled or filling, when it was made.
//! - Every reply leaves exactly once: with its answer, or as *unknown* when the journal failed before.

use std::collections::VecDeque;

use crate::api::{Principal, Reply, ReplyTo};

/// A reply that is ready but for durability.
pub(crate) struct Held {
    /// How many batches must be durable.
    pub(crate) needs: u64,
    /// Whose request it answers.
    pub(crate) principal: Principal,
    /// When the request was taken: monotonic microseconds.
    pub(crate) taken_us: u64,
    /// The answer.
    pub(crate) value: Reply,
    /// Where it goes.
    pub(crate) reply: ReplyTo,
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

    /// The next reply that `durable` batches set free.
    pub(crate) fn pop_free(&mut self, durable: u64) -> Option<Held> {
        if self.waiting.front()?.needs <= durable { self.waiting.pop_front() } else { None }
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
        Held { needs, principal, taken_us: 0, value: Reply::Expired, reply: Box::new(|_| {}) }
    }

    #[test]
    fn replies_leave_in_order_and_not_before_their_batch() {
        let mut replies = HeldReplies::default();
        for needs in [0, 1, 1, 3] {
            replies.push(held(needs));
        }
        let mut free = |durable| std::iter::from_fn(|| replies.pop_free(durable)).count();
        assert_eq!(free(0), 1);
        assert_eq!(free(2), 2);
        assert_eq!(free(2), 0);
        assert_eq!(free(3), 1);
    }
}
