//! Where newcomers go, and the keys that lie ready for them.
//!
//! A branch's counts are a moment old. What was placed since they last changed is added, so that a thousand
//! customers who come at once are spread and not heaped.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use skerry_branch::keys::{KeyError, KeyRef, Keys};

/// Keys made at once: each making syncs two files.
const KEYS_TOGETHER: usize = 32;

#[derive(Debug, Default, Clone, Copy)]
struct Placed {
    customers: u64,
    since: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    placed: Mutex<BTreeMap<u16, Placed>>,
    ready: Mutex<BTreeMap<u16, Vec<KeyRef>>>,
}

impl Newcomers {
    /// The branch with the most room among `(branch, customers, capacity)`, the lowest number of equals; `None` if none
    /// has any.
    pub(crate) fn place(&self, rooms: impl Iterator<Item = (u16, u64, u64)>) -> Option<u16> {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut best: Option<(u64, u16)> = None;
        for (branch, customers, capacity) in rooms {
            let known = placed.entry(branch).or_default();
            if known.customers != customers {
                *known = Placed { customers, since: 0 };
            }
            let room = capacity.saturating_sub(customers.saturating_add(known.since));
            if room > best.map_or(0, |(most, _)| most) {
                best = Some((room, branch));
            }
        }
        let (_, branch) = best?;
        placed.entry(branch).or_default().since += 1;
        Some(branch)
    }

    /// A key that nobody has. Those left over at a restart are never used.
    ///
    /// # Errors
    ///
    /// As [`Keys::create`].
    pub(crate) fn key(&self, branch: u16, keys: &dyn Keys) -> Result<KeyRef, KeyError> {
        // Held while keys are made: whoever waits finds them ready.
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = ready.entry(branch).or_default();
        if ready.is_empty() {
            *ready = keys.create(KEYS_TOGETHER)?;
        }
        ready.pop().ok_or(KeyError::Unknown(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_are_spread_before_the_counts_are_renewed() {
        let newcomers = Newcomers::default();
        let rooms = || [(1, 10, 100), (2, 12, 100), (3, 10, 100), (4, 100, 100)].into_iter();
        let mut count = BTreeMap::new();
        for _ in 0..10 {
            *count.entry(newcomers.place(rooms()).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(count, BTreeMap::from([(1, 4), (2, 2), (3, 4)]));
        let renewed = [(1, 14, 100), (2, 14, 100), (3, 13, 100)].into_iter();
        assert_eq!(newcomers.place(renewed), Some(3));
        assert_eq!(newcomers.place([(4, 100, 100)].into_iter()), None);
    }
}
