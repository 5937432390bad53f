//! What is due when: deadlines that mostly do not come to pass.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::seam::Moment;

/// Numbers by the moment they are due; what was settled before is left in and skipped, within twice what lives.
#[derive(Debug, Default)]
pub struct Due {
    heap: BinaryHeap<Reverse<(Moment, u64)>>,
}

impl Due {
    /// Remembers `number`. `living` is how many numbers live, `lives` whether one does.
    pub fn push(&mut self, due: Moment, number: u64, living: usize, lives: impl Fn(u64) -> bool) {
        if self.heap.len() > 2 * living + 64 {
            self.heap.retain(|Reverse((_, number))| lives(*number));
        }
        self.heap.push(Reverse((due, number)));
    }

    /// The next number that is due at `now`, be it alive or not.
    pub fn pop(&mut self, now: Moment) -> Option<u64> {
        let Reverse((due, _)) = self.heap.peek()?;
        if *due > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, number))| number)
    }

    /// When the first of the living is due; the dead in front of it are dropped.
    pub fn next(&mut self, lives: impl Fn(u64) -> bool) -> Option<Moment> {
        while let Some(Reverse((due, number))) = self.heap.peek() {
            if lives(*number) {
                return Some(*due);
            }
            self.heap.pop();
        }
        None
    }

    /// When the first is due, be it alive or not: never later than the first of the living.
    #[must_use]
    pub fn soonest(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_bounded() {
        let mut due = Due::default();
        for number in 0..10_000_u64 {
            due.push(Moment(20_000 - number), number, 1, |number| number % 5000 == 0);
        }
        assert!(due.heap.len() <= 67, "{}", due.heap.len());
        assert_eq!(due.pop(Moment(5000)), None);
        assert_eq!(due.next(|number| number % 5000 == 0), Some(Moment(15_000)));
        assert_eq!(due.soonest(), Some(Moment(15_000)));
        assert_eq!(due.pop(Moment(15_000)), Some(5000));
    }
}
