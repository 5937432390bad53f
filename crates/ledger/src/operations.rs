//! What is done to accounts rather than with money: opening, limits, freezing, closing, going live.

use skerry_money::{Currency, Date};

use crate::account::{Account, Limit, UNLIMITED, bit};
use crate::holds::Place;
use crate::ledger::Ledger;
use crate::rejection::Rejection;
use crate::types::{AccountKind, AccountRef};

/// The place of a general-ledger head in the trial balance: dense, in order of opening, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadSlot(pub u16);

/// One side of an account, or both.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    /// Debits: what leaves a deposit.
    pub debit: bool,
    /// Credits: what enters a deposit.
    pub credit: bool,
}

/// What is asked of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountCommand {
    /// Open the head that the reference names, in its currency.
    OpenHead {
        /// A head of this branch.
        head: AccountRef,
        /// Its first day.
        opened: Date,
        /// Which limit it keeps; mostly none.
        limit: Limit,
    },
    /// Open a customer account under the next serial.
    Open {
        /// The customer's serial, as the book knows it.
        owner: u32,
        /// The product, as the book numbers it.
        product: u16,
        /// The head it posts to, in the account's currency.
        head: AccountRef,
        /// Its currency.
        currency: Currency,
        /// Its first day; for an imported account the old core's.
        opened: Date,
        /// Which limit it keeps.
        limit: Limit,
        /// The least balance in the limit's direction.
        floor: i64,
        /// The most that may be debited on a day; [`UNLIMITED`] for no limit.
        daily_limit: u64,
    },
    /// Change floor and daily limit; what was used today stays used.
    ChangeLimits {
        /// The account.
        account: AccountRef,
        /// The least balance in the limit's direction.
        floor: i64,
        /// The most that may be debited on a day; [`UNLIMITED`] for no limit.
        daily_limit: u64,
    },
    /// Stop debits, credits or both, for a reason.
    Freeze {
        /// The account.
        account: AccountRef,
        /// What stops.
        sides: Sides,
        /// Why, as the bank numbers its reasons; not 0.
        reason: u8,
    },
    /// Let debits, credits or both go on.
    Unfreeze {
        /// The account.
        account: AccountRef,
        /// What goes on.
        sides: Sides,
    },
    /// Close an account that has no balance and no holds.
    Close {
        /// The account.
        account: AccountRef,
    },
    /// Open a closed account again.
    Reopen {
        /// The account.
        account: AccountRef,
    },
    /// From `date` on the branch books its own days: imports go before it.
    GoLive {
        /// The first day of the branch's own.
        date: Date,
    },
}

/// A head was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadOpened {
    /// The head.
    pub head: AccountRef,
    /// Its slot: the next one.
    pub slot: HeadSlot,
    /// Its currency, which is also in the reference.
    pub currency: Currency,
    /// Its first day.
    pub opened: Date,
    /// Which limit it keeps.
    pub limit: Limit,
}

/// A customer account was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountOpened {
    /// The account; its serial is the next one.
    pub account: AccountRef,
    /// The customer's serial.
    pub owner: u32,
    /// The product.
    pub product: u16,
    /// The slot of the head it posts to.
    pub head: HeadSlot,
    /// Its currency.
    pub currency: Currency,
    /// Its first day.
    pub opened: Date,
    /// Which limit it keeps.
    pub limit: Limit,
    /// The least balance in the limit's direction.
    pub floor: i64,
    /// The most that may be debited on a day.
    pub daily_limit: u64,
}

/// What happened to accounts; `evolve_account` cannot fail on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the commands of the same name")]
pub enum AccountEvent {
    /// A head was opened.
    HeadOpened(HeadOpened),
    /// A customer account was opened.
    Opened(AccountOpened),
    /// Limits were changed.
    LimitsChanged { account: AccountRef, floor: i64, daily_limit: u64 },
    /// Sides were frozen.
    Frozen { account: AccountRef, sides: Sides, reason: u8 },
    /// Sides were unfrozen.
    Unfrozen { account: AccountRef, sides: Sides },
    /// The account was closed.
    Closed { account: AccountRef },
    /// The account was opened again.
    Reopened { account: AccountRef },
    /// The branch went live.
    WentLive { date: Date },
}

impl Ledger {
    /// Decides what `command` would do. Reads only.
    ///
    /// # Errors
    ///
    /// A rejection with a number from 2001, in the order of [`crate::precedence`].
    pub fn decide_account(&self, command: &AccountCommand) -> Result<AccountEvent, Rejection> {
        match *command {
            AccountCommand::OpenHead { head, opened, limit } => self.decide_head(head, opened, limit),
            AccountCommand::Open { .. } => self.decide_open(command),
            AccountCommand::ChangeLimits { account, floor, daily_limit } => {
                self.open_account(account)?;
                Ok(AccountEvent::LimitsChanged { account, floor, daily_limit })
            }
            AccountCommand::Freeze { account, sides, reason } => self.decide_freeze(account, sides, reason),
            AccountCommand::Unfreeze { account, sides } => self.decide_unfreeze(account, sides),
            AccountCommand::Close { account } => self.decide_close(account),
            AccountCommand::Reopen { account } => self.decide_reopen(account),
            AccountCommand::GoLive { date } => self.decide_live(date),
        }
    }

    fn known(&self, account: AccountRef) -> Result<&Account, Rejection> {
        self.account(account).ok_or(Rejection::AccountNotFound)
    }

    fn open_account(&self, account: AccountRef) -> Result<&Account, Rejection> {
        let state = self.known(account)?;
        if state.state & bit::CLOSED != 0 {
            return Err(Rejection::AccountClosed);
        }
        if state.is_closing() { Err(Rejection::AccountClosing) } else { Ok(state) }
    }

    fn decide_head(&self, head: AccountRef, opened: Date, limit: Limit) -> Result<AccountEvent, Rejection> {
        let currency = match head.kind() {
            Some(AccountKind::Head(_, currency)) if head.branch() == self.branch => currency,
            _ => return Err(Rejection::HeadMalformed),
        };
        if self.account(head).is_some() {
            return Err(Rejection::HeadExists);
        }
        let slot = u16::try_from(self.heads.len()).map_err(|_| Rejection::BranchFull)?;
        Ok(AccountEvent::HeadOpened(HeadOpened { head, slot: HeadSlot(slot), currency, opened, limit }))
    }

    fn decide_open(&self, command: &AccountCommand) -> Result<AccountEvent, Rejection> {
        let AccountCommand::Open { owner, product, head, currency, opened, limit, floor, daily_limit } =
            *command
        else {
            return Err(Rejection::AccountNotFound);
        };
        let post_to = self.account(head).filter(|_| !head.is_customer()).ok_or(Rejection::HeadNotFound)?;
        if post_to.currency != currency {
            return Err(Rejection::HeadCurrencyDiffers);
        }
        let full = u32::try_from(self.customers.len()).is_ok_and(|count| count < Place::COUNT_MAX);
        let serial = u64::try_from(self.customers.len().saturating_add(1)).ok().filter(|_| full);
        let account = AccountRef::customer(self.branch, serial.ok_or(Rejection::BranchFull)?);
        let head = HeadSlot(post_to.head);
        Ok(AccountEvent::Opened(AccountOpened {
            account,
            owner,
            product,
            head,
            currency,
            opened,
            limit,
            floor,
            daily_limit,
        }))
    }

    fn decide_freeze(
        &self,
        account: AccountRef,
        sides: Sides,
        reason: u8,
    ) -> Result<AccountEvent, Rejection> {
        // A closed account can be frozen: the order may come after it was closed.
        let state = self.known(account)?;
        if !sides.debit && !sides.credit {
            return Err(Rejection::FreezeSideMissing);
        }
        if reason == 0 {
            return Err(Rejection::FreezeReasonMissing);
        }
        // An order must not be overwritten by the next: the first is lifted before another takes its place.
        if sides.debit && state.debit_freeze != 0 {
            return Err(Rejection::AlreadyFrozen { reason: state.debit_freeze });
        }
        if sides.credit && state.credit_freeze != 0 {
            return Err(Rejection::AlreadyFrozen { reason: state.credit_freeze });
        }
        Ok(AccountEvent::Frozen { account, sides, reason })
    }

    fn decide_unfreeze(&self, account: AccountRef, sides: Sides) -> Result<AccountEvent, Rejection> {
        let state = self.known(account)?;
        if !sides.debit && !sides.credit {
            return Err(Rejection::FreezeSideMissing);
        }
        let frozen = (!sides.debit || state.debit_freeze != 0) && (!sides.credit || state.credit_freeze != 0);
        if frozen { Ok(AccountEvent::Unfrozen { account, sides }) } else { Err(Rejection::NotFrozen) }
    }

    fn decide_close(&self, account: AccountRef) -> Result<AccountEvent, Rejection> {
        let state = self.open_account(account)?;
        if state.balance() != 0 {
            return Err(Rejection::AccountHasBalance { have: state.balance() });
        }
        if state.holds != 0 {
            return Err(Rejection::AccountHasHolds { have: state.holds });
        }
        match state.debit_freeze.max(state.credit_freeze) {
            0 => Ok(AccountEvent::Closed { account }),
            reason => Err(Rejection::AccountFrozen { reason }),
        }
    }

    fn decide_reopen(&self, account: AccountRef) -> Result<AccountEvent, Rejection> {
        let state = self.known(account)?;
        if state.state & bit::CLOSED != 0 {
            return Ok(AccountEvent::Reopened { account });
        }
        Err(if state.is_closing() { Rejection::AccountClosing } else { Rejection::AccountNotClosed })
    }

    fn decide_live(&self, date: Date) -> Result<AccountEvent, Rejection> {
        if self.live.is_some() {
            return Err(Rejection::AlreadyLive);
        }
        if self.imported_through.is_some_and(|last| last >= date) {
            return Err(Rejection::LiveBeforeImports);
        }
        Ok(AccountEvent::WentLive { date })
    }

    /// Does what `event` says.
    ///
    /// # Panics
    ///
    /// If it names an account that does not exist, or opens one out of order: the journal is corrupt.
    pub fn evolve_account(&mut self, event: &AccountEvent) {
        match *event {
            AccountEvent::HeadOpened(event) => self.evolve_head(&event),
            AccountEvent::Opened(event) => self.evolve_opened(&event),
            AccountEvent::LimitsChanged { account, floor, daily_limit } => {
                let state = self.existing(account);
                (state.floor, state.daily_limit) = (floor, daily_limit);
            }
            AccountEvent::Frozen { account, sides, reason } => self.set_freeze(account, sides, reason),
            AccountEvent::Unfrozen { account, sides } => self.set_freeze(account, sides, 0),
            AccountEvent::Closed { account } => self.existing(account).state |= bit::CLOSED,
            AccountEvent::Reopened { account } => self.existing(account).state &= !bit::CLOSED,
            AccountEvent::WentLive { date } => self.live = Some(date),
        }
    }

    fn existing(&mut self, account: AccountRef) -> &mut Account {
        let place = self.place(account).expect("an event names an account of this branch");
        self.account_mut(place)
    }

    fn set_freeze(&mut self, account: AccountRef, sides: Sides, reason: u8) {
        let state = self.existing(account);
        if sides.debit {
            state.debit_freeze = reason;
        }
        if sides.credit {
            state.credit_freeze = reason;
        }
    }

    fn evolve_head(&mut self, event: &HeadOpened) {
        assert_eq!(usize::from(event.slot.0), self.heads.len(), "a head opens in the next slot");
        let at = self.head_index.binary_search_by_key(&event.head, |(head, _)| *head);
        let at = at.expect_err("a head opens once");
        self.head_index.insert(at, (event.head, event.slot.0));
        self.head_refs.push(event.head);
        self.heads.push(Account {
            opened: event.opened,
            head: event.slot.0,
            limit: event.limit,
            ..Account::new(event.currency)
        });
    }

    fn evolve_opened(&mut self, event: &AccountOpened) {
        let next = u64::try_from(self.customers.len()).ok().and_then(|count| count.checked_add(1));
        assert_eq!(event.account.customer_serial(), next, "an account opens under the next serial");
        assert_eq!(event.account.branch(), self.branch, "an account opens in its branch of issue");
        self.customers.push(Account {
            floor: event.floor,
            daily_limit: event.daily_limit,
            owner: event.owner,
            opened: event.opened,
            product: event.product,
            head: event.head.0,
            limit: event.limit,
            ..Account::new(event.currency)
        });
    }
}

impl Account {
    /// An account with nothing on it and no limits.
    pub(crate) const fn new(currency: Currency) -> Self {
        Self {
            debits_posted: 0,
            credits_posted: 0,
            debits_pending: 0,
            credits_pending: 0,
            floor: 0,
            daily_limit: UNLIMITED,
            daily_used: 0,
            imported_until_us: 0,
            owner: 0,
            holds: 0,
            opened: Date(0),
            daily_day: Date(0),
            product: 0,
            head: 0,
            currency,
            limit: Limit::None,
            debit_freeze: 0,
            credit_freeze: 0,
            state: 0,
        }
    }
}
