//! The events of one webhook that were read and are not over: several on their way at once, and each customer's and
//! account's in order.
//!
//! # Invariants
//!
//! - **W1, order**: what shares a key with an earlier event is not sent before that is delivered.
//! - **W2, nothing passed over**: the cursor never goes past an event that is not delivered.

use std::collections::{HashSet, VecDeque};

use crate::events::Told;
use crate::events::cursor::Cursor;

/// See the module.
#[derive(Debug)]
pub(crate) struct Window {
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
    cursor: Cursor,
}

#[derive(Debug)]
struct Entry {
    told: Told,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Flying,
    Delivered,
}

impl Window {
    /// One for somebody to whom everything before `cursor` was delivered.
    pub(crate) fn new(cursor: Cursor) -> Self {
        Self { entries: VecDeque::new(), first: 0, cursor }
    }

    /// Up to where everything is delivered.
    pub(crate) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Events that are not over.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The oldest event that is not over.
    pub(crate) fn oldest(&self) -> Option<&Told> {
        self.entries.front().map(|entry| &entry.told)
    }

    /// The number of the oldest.
    pub(crate) fn first(&self) -> Option<u64> {
        (!self.entries.is_empty()).then_some(self.first)
    }

    /// Adds what comes next in its branch.
    pub(crate) fn push(&mut self, told: Told) {
        self.entries.push_back(Entry { told, state: State::Waiting });
    }

    /// Everything up to `cursor` was looked at; what of it was to be told was pushed.
    pub(crate) fn looked_at(&mut self, cursor: &Cursor) {
        if self.entries.is_empty() {
            self.cursor = cursor.clone();
        }
    }

    /// The next that may be sent, which is then on its way.
    pub(crate) fn take(&mut self) -> Option<(u64, &Told)> {
        let mut before = HashSet::<u64>::new();
        let mut found = None;
        for (nth, entry) in self.entries.iter().enumerate() {
            let keys = &entry.told.keys;
            if entry.state == State::Waiting && !keys.iter().any(|key| before.contains(key)) {
                found = Some(nth);
                break;
            }
            if entry.state != State::Delivered {
                before.extend(keys);
            }
        }
        self.send(found?)
    }

    /// That very one, if it waits.
    pub(crate) fn take_this(&mut self, number: u64) -> Option<(u64, &Told)> {
        let nth = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get(nth).filter(|entry| entry.state == State::Waiting)?;
        self.send(nth)
    }

    fn send(&mut self, nth: usize) -> Option<(u64, &Told)> {
        let number = self.first + u64::try_from(nth).ok()?;
        let entry = self.entries.get_mut(nth)?;
        entry.state = State::Flying;
        Some((number, &entry.told))
    }

    /// It was delivered.
    pub(crate) fn delivered(&mut self, number: u64) {
        self.set(number, State::Delivered);
        while let Some(entry) = self.entries.front().filter(|entry| entry.state == State::Delivered) {
            self.cursor.put(entry.told.branch, entry.told.place);
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// It was not, and waits again.
    pub(crate) fn failed(&mut self, number: u64) {
        self.set(number, State::Waiting);
    }

    fn set(&mut self, number: u64, state: State) {
        let nth = number.checked_sub(self.first).and_then(|nth| usize::try_from(nth).ok());
        if let Some(entry) = nth.and_then(|nth| self.entries.get_mut(nth)) {
            entry.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::cursor::Place;
    use proptest::prelude::*;

    fn told(branch: u16, position: u64, keys: &[u64]) -> Told {
        let event = crate::events::test_event(format!("{branch}-{position}"), 0);
        let place = Place { next: position + 1, incarnation: 1 };
        Told { event, branch, place, keys: keys.to_vec() }
    }

    #[test]
    fn what_shares_a_key_waits_for_what_was_before() {
        let mut window = Window::new(Cursor::default());
        for (position, keys) in [(0, &[1, 2][..]), (1, &[2, 3]), (2, &[4]), (3, &[3]), (4, &[])] {
            window.push(told(1, position, keys));
        }
        let mut taken = Vec::new();
        while let Some((number, _)) = window.take() {
            taken.push(number);
        }
        assert_eq!(taken, [0, 2, 4], "3 waits for 1, which waits for 0");
        window.delivered(2);
        assert_eq!(window.cursor().place(1).next, 0, "0 is not delivered");
        window.failed(0);
        assert_eq!(window.take().unwrap().0, 0);
        window.delivered(0);
        assert_eq!(window.cursor().place(1).next, 1);
        assert_eq!(window.take().unwrap().0, 1);
        assert!(window.take_this(3).is_some(), "a probe takes what it is told to");
    }

    proptest! {
        /// Deliveries end in any order, some fail: each key sees its events in order, none is passed over.
        #[test]
        fn whatever_fails_order_and_cursor_hold(
            keys in proptest::collection::vec(proptest::collection::vec(0_u64..4, 0..3), 1..30),
            dice in proptest::collection::vec((any::<u8>(), any::<bool>()), 0..300),
        ) {
            let mut window = Window::new(Cursor::default());
            for (position, keys) in (0_u64..).zip(&keys) {
                window.push(told(1, position, keys));
            }
            let (mut flying, mut seen) = (Vec::new(), Vec::<u64>::new());
            let always = (0..10_000).map(|nth| (u8::try_from(nth % 251).unwrap_or(0), true));
            for (which, succeeds) in dice.into_iter().chain(always) {
                while flying.len() < 4 {
                    let Some((number, _)) = window.take() else { break };
                    flying.push(number);
                }
                if flying.is_empty() {
                    break;
                }
                let number = flying.remove(usize::from(which) % flying.len());
                if succeeds {
                    seen.push(number);
                    window.delivered(number);
                } else {
                    window.failed(number);
                }
                let next = window.cursor().place(1).next;
                prop_assert!((0..next).all(|number| seen.contains(&number)), "the cursor passed one over");
            }
            prop_assert_eq!(seen.len(), keys.len(), "each once");
            for key in 0..4 {
                let has = |number: &&u64| keys[usize::try_from(**number).unwrap()].contains(&key);
                let of_key: Vec<u64> = seen.iter().filter(has).copied().collect();
                prop_assert!(of_key.is_sorted(), "key {} out of order: {:?}", key, of_key);
            }
        }
    }
}
