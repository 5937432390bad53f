//! What never changes about an account, kept beside the branches: its currency and whose it is.
//!
//! Statements and balances over time come from history and need no word of the branch's writer, except for these two
//! facts; here they are asked for once. It refuses to know balances, limits and status: those change.
//!
//! # Invariants
//!
//! - Only what a branch answered is kept, so it was durable; that an account is *not* there is never kept.
//! - At most [`ACCOUNTS_MAX`] accounts; a full shard drops one for each new one.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use skerry_ledger::AccountRef;
use skerry_money::Currency;

/// Accounts that are kept, at most; less than 40 bytes each.
pub(crate) const ACCOUNTS_MAX: usize = 1 << 20;

const SHARDS: usize = 64;

/// What never changes about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// Its currency.
    pub(crate) currency: Currency,
    /// Its customer's serial; 0 for a head.
    pub(crate) owner: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Known {
    shards: [RwLock<HashMap<u64, Fixed>>; SHARDS],
    shard_max: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self::bounded(ACCOUNTS_MAX / SHARDS)
    }
}

impl Known {
    fn bounded(shard_max: usize) -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()), shard_max }
    }

    fn shard(&self, account: AccountRef) -> &RwLock<HashMap<u64, Fixed>> {
        // Serials are dense and the currencies of heads few: a multiplication spreads both over its high bits.
        let spread = account.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        &self.shards[usize::try_from(spread).unwrap_or(0) % SHARDS]
    }

    /// What is known of `account`.
    pub(crate) fn get(&self, account: AccountRef) -> Option<Fixed> {
        self.shard(account).read().unwrap_or_else(PoisonError::into_inner).get(&account.0).copied()
    }

    /// Keeps what a branch said of `account`.
    pub(crate) fn keep(&self, account: AccountRef, fixed: Fixed) {
        let mut shard = self.shard(account).write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= self.shard_max && !shard.contains_key(&account.0) {
            let dropped = shard.keys().next().copied();
            dropped.and_then(|dropped| shard.remove(&dropped));
        }
        shard.insert(account.0, fixed);
    }

    /// Forgets a branch: it is opened again, perhaps from a copy with a shorter past.
    pub(crate) fn forget(&self, branch: u16) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|account, _| AccountRef(*account).branch() != branch);
        }
    }

    /// Accounts that are kept.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(owner: u32) -> Fixed {
        Fixed { currency: Currency::from_alpha("CNY").unwrap(), owner }
    }

    #[test]
    fn what_was_said_is_known_until_the_branch_is_forgotten() {
        let known = Known::default();
        let (one, other) = (AccountRef::customer(1, 7), AccountRef::customer(2, 7));
        assert_eq!(known.get(one), None);
        known.keep(one, fixed(3));
        known.keep(other, fixed(4));
        assert_eq!((known.get(one), known.get(other)), (Some(fixed(3)), Some(fixed(4))));
        known.forget(1);
        assert_eq!((known.get(one), known.get(other)), (None, Some(fixed(4))));
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_new() {
        let known = Known::bounded(2);
        for serial in 1..=10_000 {
            let account = AccountRef::customer(1, serial);
            known.keep(account, fixed(9));
            assert_eq!(known.get(account), Some(fixed(9)));
        }
        assert!((SHARDS..=2 * SHARDS).contains(&known.count()), "{}", known.count());
    }
}
