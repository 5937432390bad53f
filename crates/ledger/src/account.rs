//! One account: its totals, its limits, and what a posting does to them.
//!
//! Knows nothing of other accounts. Totals only grow, except the pending ones; so 2^64 transfers of
//! 2^64 − 1 fit in a `u128`, and nothing here can overflow.

use skerry_money::{Currency, Date};

use crate::holds::Hold;
use crate::types::{Flags, Moved, MovedKind};

/// No daily limit.
pub const UNLIMITED: u64 = u64::MAX;

/// Which total of an account may not exceed the other.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Limit {
    /// Neither: most general-ledger heads.
    #[default]
    None = 0,
    /// Debits may not exceed credits: deposits, and every account that holds a customer's money.
    Debits = 1,
    /// Credits may not exceed debits: loans, and every account that a customer owes.
    Credits = 2,
}

/// State bits of an account.
pub(crate) mod bit {
    /// Closed for good, until reopened.
    pub(crate) const CLOSED: u8 = 1;
    /// Closed by an open hold; voiding the hold undoes it.
    pub(crate) const CLOSING: u8 = 1 << 1;
    /// Has an entry of this bank, so takes no more imports.
    pub(crate) const NATIVE: u8 = 1 << 2;
    /// All of them.
    pub(crate) const ALL: u8 = CLOSED | CLOSING | NATIVE;
}

/// One account of the ledger; 128 bytes, on two cache lines that start together.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Account {
    /// Sum of all posted debits, minor units.
    pub debits_posted: u128,
    /// Sum of all posted credits, minor units.
    pub credits_posted: u128,
    /// Sum of the open holds that would debit it.
    pub debits_pending: u128,
    /// Sum of the open holds that would credit it.
    pub credits_pending: u128,
    /// The least balance in the limit's direction: negative is an overdraft, positive a minimum.
    pub floor: i64,
    /// The most that may be debited on one business day; [`UNLIMITED`] is no limit.
    pub daily_limit: u64,
    /// What was debited or held for debit on `daily_day`.
    pub daily_used: u64,
    /// The old core's time of the last import, microseconds since 1970.
    pub imported_until_us: u64,
    /// The customer's serial; 0 for a head.
    pub owner: u32,
    /// Open holds on either side.
    pub holds: u32,
    /// When it was opened.
    pub opened: Date,
    /// The business day of `daily_used`.
    pub daily_day: Date,
    /// The product, as the book numbers it.
    pub product: u16,
    /// The slot of the general-ledger head it posts to; a head's own slot.
    pub head: u16,
    /// Its only currency.
    pub currency: Currency,
    /// Which limit it keeps.
    pub limit: Limit,
    /// Why debits are frozen; 0 is not frozen.
    pub debit_freeze: u8,
    /// Why credits are frozen; 0 is not frozen.
    pub credit_freeze: u8,
    pub(crate) state: u8,
}

impl Account {
    /// Posted credits less posted debits, in minor units.
    ///
    /// Exact while neither total has passed the other by 2^127, which 2^63 transfers of the largest
    /// amount would take.
    #[must_use]
    #[inline]
    pub const fn balance(&self) -> i128 {
        self.credits_posted.wrapping_sub(self.debits_posted).cast_signed()
    }

    /// What may still be debited if debits are limited: balance less open debit holds less the floor.
    /// The floor counts only in the limit's own direction. Below zero when a limit was tightened after the money went.
    #[must_use]
    #[inline]
    pub fn debit_room(&self) -> i128 {
        let floor = if matches!(self.limit, Limit::Debits) { self.floor } else { 0 };
        let used = self.debits_posted.wrapping_add(self.debits_pending);
        #[cfg(feature = "sabotage")]
        let used = if crate::sabotage::holds_are_forgotten() { self.debits_posted } else { used };
        self.credits_posted.wrapping_sub(used).cast_signed().wrapping_sub(i128::from(floor))
    }

    /// What may still be credited if credits are limited; the mirror of [`debit_room`](Self::debit_room).
    #[must_use]
    #[inline]
    pub fn credit_room(&self) -> i128 {
        let floor = if matches!(self.limit, Limit::Credits) { self.floor } else { 0 };
        let used = self.credits_posted.wrapping_add(self.credits_pending);
        self.debits_posted.wrapping_sub(used).cast_signed().wrapping_sub(i128::from(floor))
    }

    /// What its owner may still move in the limited direction, in minor units; `None` if it has no limit.
    #[must_use]
    pub fn available(&self) -> Option<i128> {
        match self.limit {
            Limit::None => None,
            Limit::Debits => Some(self.debit_room()),
            Limit::Credits => Some(self.credit_room()),
        }
    }

    /// What is left of the daily limit on `day`.
    #[must_use]
    #[inline]
    pub fn daily_room(&self, day: Date) -> u64 {
        let used = if self.daily_day == day { self.daily_used } else { 0 };
        if self.daily_limit == UNLIMITED { UNLIMITED } else { self.daily_limit.saturating_sub(used) }
    }

    /// Whether it takes no postings: closed, or closing with an open hold.
    #[must_use]
    #[inline]
    pub const fn is_closed(&self) -> bool {
        self.state & (bit::CLOSED | bit::CLOSING) != 0
    }

    /// Whether an open hold closes it.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.state & bit::CLOSING != 0
    }

    /// Whether it has an entry made by this bank, after which it takes no imports.
    #[must_use]
    pub const fn has_native_entries(&self) -> bool {
        self.state & bit::NATIVE != 0
    }

    #[inline]
    pub(crate) fn debit(&mut self, change: &Change) {
        self.debits_posted = plus(self.debits_posted, change.posted);
        if change.spent != 0 {
            self.spend(change.spent, change.day);
        }
        if change.is_hold {
            self.debits_pending = minus(plus(self.debits_pending, change.held), change.released);
            self.turn_hold(change, change.closing_debit);
            if change.refund_day == Some(self.daily_day) {
                self.daily_used = self.daily_used.saturating_sub(change.refund);
            }
        }
        self.date(change);
    }

    #[inline]
    pub(crate) fn credit(&mut self, change: &Change) {
        self.credits_posted = plus(self.credits_posted, change.posted);
        if change.is_hold {
            self.credits_pending = minus(plus(self.credits_pending, change.held), change.released);
            self.turn_hold(change, change.closing_credit);
        }
        self.date(change);
    }

    #[inline]
    fn spend(&mut self, amount: u64, day: Date) {
        let used = if self.daily_day == day { self.daily_used } else { 0 };
        self.daily_day = day;
        // Only a head without a limit gets anywhere near 2^64 in a day.
        self.daily_used = used.saturating_add(amount);
    }

    fn turn_hold(&mut self, change: &Change, closing: bool) {
        let turned = match change.kind {
            MovedKind::Held => self.holds.checked_add(1),
            _ => self.holds.checked_sub(1),
        };
        self.holds = turned.expect("a hold is counted once on each of its accounts");
        if closing {
            match change.kind {
                MovedKind::Held => self.state |= bit::CLOSING,
                MovedKind::HoldPosted => self.state = (self.state & !bit::CLOSING) | bit::CLOSED,
                _ => self.state &= !bit::CLOSING,
            }
        }
    }

    #[inline]
    fn date(&mut self, change: &Change) {
        if change.imported_us == 0 {
            self.state |= bit::NATIVE;
        } else {
            self.imported_until_us = self.imported_until_us.max(change.imported_us);
        }
    }
}

/// What one event does to the two accounts it names: the one place where kinds become sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) posted: u64,
    kind: MovedKind,
    is_hold: bool,
    held: u64,
    released: u64,
    closing_debit: bool,
    closing_credit: bool,
    spent: u64,
    refund: u64,
    refund_day: Option<Date>,
    day: Date,
    imported_us: u64,
}

impl Change {
    /// The change made by `moved`; `hold` is the hold it resolves.
    ///
    /// # Panics
    ///
    /// If `moved` resolves a hold and none is given: the journal is corrupt.
    #[inline]
    pub(crate) fn of(moved: &Moved, hold: Option<&Hold>) -> Self {
        let plain = Self {
            posted: moved.amount,
            kind: moved.kind,
            is_hold: false,
            held: 0,
            released: 0,
            closing_debit: false,
            closing_credit: false,
            spent: if counts_daily(moved.flags) { moved.amount } else { 0 },
            refund: 0,
            refund_day: None,
            day: moved.business_date,
            imported_us: moved.imported_us,
        };
        match moved.kind {
            MovedKind::Posted => plain,
            MovedKind::Held => Self {
                posted: 0,
                is_hold: true,
                held: moved.amount,
                closing_debit: moved.flags.has(Flags::CLOSING_DEBIT),
                closing_credit: moved.flags.has(Flags::CLOSING_CREDIT),
                ..plain
            },
            MovedKind::HoldPosted => plain.resolving(hold, moved.amount),
            MovedKind::HoldVoided | MovedKind::HoldExpired => plain.resolving(hold, 0),
        }
    }

    fn resolving(self, hold: Option<&Hold>, posted: u64) -> Self {
        let hold = hold.expect("an event that resolves a hold finds it open");
        Self {
            posted,
            is_hold: true,
            released: hold.amount,
            closing_debit: hold.closing_debit,
            closing_credit: hold.closing_credit,
            // The day's limit was used up when the hold was made; only what came back is given back.
            spent: 0,
            refund: hold.amount.checked_sub(posted).expect("a post is within its hold"),
            refund_day: hold.counted_on,
            ..self
        }
    }
}

/// Whether a transfer uses up the daily limit: the old core's and the bank's own do not.
#[inline]
pub(crate) const fn counts_daily(flags: Flags) -> bool {
    !flags.overlaps(Flags::IMPORTED.with(Flags::BANK))
}

#[inline]
fn plus(total: u128, amount: u64) -> u128 {
    total.checked_add(u128::from(amount)).expect("2^64 transfers of 2^64 - 1 fit in a u128")
}

#[inline]
fn minus(total: u128, amount: u64) -> u128 {
    total.checked_sub(u128::from(amount)).expect("what is released was held")
}

#[cfg(test)]
mod tests {
    use super::{Account, Change};
    use crate::ledger::Accounts;
    use skerry_money::Currency;

    #[test]
    fn an_account_takes_at_most_152_bytes_with_its_share_of_the_page() {
        assert_eq!(size_of::<Account>(), 128);
        assert!(size_of::<Change>() <= 80);
        let mut accounts = Accounts::new();
        for _ in 0..100_000 {
            accounts.push(Account::new(Currency::from_number(156).unwrap()));
        }
        let each = accounts.heap_bytes() / accounts.len();
        assert!((128..=152).contains(&each), "an account takes {each} bytes");
    }
}
