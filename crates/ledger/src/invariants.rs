//! What must always hold, recomputed from nothing: written once, used by properties, simulator and debug
//! builds. Takes time in the number of accounts, holds and days.

use alloc::collections::BTreeMap;

use skerry_money::{Currency, Date};
use thiserror::Error;

use crate::account::bit;
use crate::ledger::Ledger;
use crate::types::{AccountRef, TransferId};

/// The invariant that does not hold, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Broken {
    /// Debits and credits over all accounts of a currency differ.
    #[error("accounts in {currency:?} do not balance")]
    Balanced {
        /// The currency.
        currency: Currency,
    },
    /// Pending totals or the count of holds of an account are not those of its holds.
    #[error("account {account:?} does not agree with its open holds")]
    Held {
        /// The account.
        account: AccountRef,
    },
    /// Debits and credits of all heads differ in a pair of days.
    #[error("the trial balance booked {booked:?} with value {value:?} is not zero")]
    TrialDay {
        /// Booking date.
        booked: Date,
        /// Value date.
        value: Date,
    },
    /// A head's movement is not that of the accounts which post to it.
    #[error("head {head:?} does not agree with its accounts")]
    TrialHead {
        /// The head.
        head: AccountRef,
    },
    /// An account is closing without a hold that closes it, or the reverse.
    #[error("account {account:?} does not agree with the hold that closes it")]
    Closing {
        /// The account.
        account: AccountRef,
    },
    /// A hold is not found by its own id.
    #[error("hold {id:?} is not found")]
    Found {
        /// The hold.
        id: TransferId,
    },
    /// The expiry queue is out of order, or lacks a hold.
    #[error("the expiry queue is broken")]
    Queue,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    debits: u128,
    credits: u128,
}

impl Sums {
    fn add(&mut self, debits: u128, credits: u128) {
        self.debits = self.debits.wrapping_add(debits);
        self.credits = self.credits.wrapping_add(credits);
    }

    const fn is_balanced(self) -> bool {
        self.debits == self.credits
    }
}

#[derive(Default)]
struct Open {
    sums: Sums,
    count: u32,
    closing: bool,
}

/// Checks every invariant of `ledger`.
///
/// # Errors
///
/// The first that does not hold.
pub fn check(ledger: &Ledger) -> Result<(), Broken> {
    balanced(ledger)?;
    held(ledger)?;
    trial_days(ledger)?;
    trial_heads(ledger)?;
    found(ledger)
}

fn balanced(ledger: &Ledger) -> Result<(), Broken> {
    let mut sums: BTreeMap<u16, (Sums, Sums)> = BTreeMap::new();
    for (_, account) in ledger.customers().chain(ledger.heads()) {
        let (posted, pending) = sums.entry(account.currency.number()).or_default();
        posted.add(account.debits_posted, account.credits_posted);
        pending.add(account.debits_pending, account.credits_pending);
    }
    for (number, (posted, pending)) in sums {
        if !posted.is_balanced() || !pending.is_balanced() {
            let currency = Currency::from_number(number).expect("an account's currency is known");
            return Err(Broken::Balanced { currency });
        }
    }
    Ok(())
}

fn held(ledger: &Ledger) -> Result<(), Broken> {
    let mut open: BTreeMap<AccountRef, Open> = BTreeMap::new();
    for hold in ledger.holds() {
        let amount = u128::from(hold.amount);
        let sides =
            [(hold.debit, amount, 0, hold.closing_debit), (hold.credit, 0, amount, hold.closing_credit)];
        for (account, debits, credits, closing) in sides {
            let entry = open.entry(account).or_default();
            entry.sums.add(debits, credits);
            entry.count = entry.count.saturating_add(1);
            entry.closing |= closing;
        }
    }
    for (account, state) in ledger.customers().chain(ledger.heads()) {
        let open = open.remove(&account).unwrap_or_default();
        let pending = Sums { debits: state.debits_pending, credits: state.credits_pending };
        if open.sums != pending || open.count != state.holds {
            return Err(Broken::Held { account });
        }
        if open.closing != state.is_closing() || (open.closing && state.state & bit::CLOSED != 0) {
            return Err(Broken::Closing { account });
        }
    }
    match open.into_keys().next() {
        Some(account) => Err(Broken::Held { account }),
        None => Ok(()),
    }
}

fn trial_days(ledger: &Ledger) -> Result<(), Broken> {
    for ((booked, value), movements) in ledger.trial.iter() {
        let mut sums: BTreeMap<u16, Sums> = BTreeMap::new();
        for movement in movements {
            let head =
                ledger.heads.get(usize::from(movement.slot)).ok_or(Broken::TrialDay { booked, value })?;
            sums.entry(head.currency.number()).or_default().add(movement.debits, movement.credits);
        }
        if !sums.into_values().all(Sums::is_balanced) {
            return Err(Broken::TrialDay { booked, value });
        }
    }
    Ok(())
}

fn trial_heads(ledger: &Ledger) -> Result<(), Broken> {
    let mut moved: BTreeMap<u16, Sums> = BTreeMap::new();
    for (_, movements) in ledger.trial.iter() {
        for movement in movements {
            moved.entry(movement.slot).or_default().add(movement.debits, movement.credits);
        }
    }
    let mut posted: BTreeMap<u16, Sums> = BTreeMap::new();
    for (_, account) in ledger.customers().chain(ledger.heads()) {
        posted.entry(account.head).or_default().add(account.debits_posted, account.credits_posted);
    }
    for (head, account) in ledger.heads() {
        let of = |sums: &BTreeMap<u16, Sums>| sums.get(&account.head).copied().unwrap_or_default();
        if of(&moved) != of(&posted) {
            return Err(Broken::TrialHead { head });
        }
    }
    Ok(())
}

fn found(ledger: &Ledger) -> Result<(), Broken> {
    for hold in ledger.holds() {
        if ledger.hold(hold.id) != Some(hold) {
            return Err(Broken::Found { id: hold.id });
        }
    }
    if ledger.holds.queue_is_sound() && ledger.holds().count() == ledger.hold_count() {
        Ok(())
    } else {
        Err(Broken::Queue)
    }
}
