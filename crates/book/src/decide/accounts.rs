//! Accounts: what the ledger decides about them, with the customer and the product in front.

use skerry_ledger::{AccountCommand, AccountRef, Limit, Stamp};

use super::customers::opened;
use super::{Decided, plain};
use crate::book::Book;
use crate::command::{ChangeLimits, Command, Context, Done, OpenAccount};
use crate::event::{
    AccountClosed, AccountOpened, AccountReopened, Event, Frozen, HeadOpened, LimitsChanged, Unfrozen,
};
use crate::rejection::Rejection;

impl Book {
    pub(super) fn decide_open_account(&self, wish: &OpenAccount, context: &Context) -> Decided {
        let at = context.stamp;
        if (wish.floor < 0 || wish.opened.is_some()) && !context.actor.role.may_operate() {
            return Err(Rejection::OperatorsOnly);
        }
        let customer = self.living(wish.customer)?;
        let product = self.life.chart.product(wish.product).ok_or(Rejection::ProductNotFound)?;
        let opened = opened(wish.opened, at)?;
        if opened < customer.opened {
            return Err(Rejection::OpenedBeforeCustomer);
        }
        let full = Rejection::Ledger(skerry_ledger::Rejection::BranchFull);
        let serial = u32::try_from(self.ledger.customer_count()).ok().and_then(|count| count.checked_add(1));
        let account = AccountRef::customer(self.branch, u64::from(serial.ok_or(full)?));
        let head = AccountRef::head(self.branch, product.head, wish.currency);
        let mut events = self.currency_events(wish.currency, at)?;
        let slot =
            self.slot_of(head, &events).ok_or(Rejection::Ledger(skerry_ledger::Rejection::HeadNotFound))?;
        let limit = if self.life.chart.is_debit_product(product) { Limit::Credits } else { Limit::Debits };
        let OpenAccount { customer, product, currency, floor, daily_limit, .. } = *wish;
        events.push(Event::AccountOpened(AccountOpened {
            at,
            account,
            customer,
            product,
            currency,
            opened,
            floor,
            daily_limit,
            slot,
            limit,
        }));
        Ok((events, Done::Account(account)))
    }

    /// The slot of a head that is open, or that `events` are about to open.
    fn slot_of(&self, head: AccountRef, events: &[Event]) -> Option<u16> {
        let opening = events.iter().find_map(|event| match event {
            Event::HeadOpened(HeadOpened { account, slot, .. }) if *account == head => Some(*slot),
            _ => None,
        });
        opening.or_else(|| self.ledger.account(head).map(|account| account.head))
    }

    pub(super) fn decide_limits(&self, wish: &ChangeLimits, at: Stamp) -> Decided {
        let account = wish.account;
        self.check_here(account)?;
        let now = self.ledger.account(account).ok_or(skerry_ledger::Rejection::AccountNotFound)?;
        let floor = wish.floor.unwrap_or(now.floor);
        let daily_limit = wish.daily_limit.unwrap_or(now.daily_limit);
        self.ledger.decide_account(&AccountCommand::ChangeLimits { account, floor, daily_limit })?;
        plain(Event::LimitsChanged(LimitsChanged { at, account, floor, daily_limit }))
    }

    /// Freezing, thawing and closing: the ledger's to decide.
    pub(super) fn decide_state(&self, command: &Command, at: Stamp) -> Decided {
        let (asked, event) = match *command {
            Command::Freeze(wish) => (
                AccountCommand::Freeze { account: wish.account, sides: wish.sides, reason: wish.reason },
                Event::Frozen(Frozen { at, account: wish.account, sides: wish.sides, reason: wish.reason }),
            ),
            Command::Unfreeze(wish) => (
                AccountCommand::Unfreeze { account: wish.account, sides: wish.sides },
                Event::Unfrozen(Unfrozen { at, account: wish.account, sides: wish.sides }),
            ),
            Command::CloseAccount(account) => {
                (AccountCommand::Close { account }, Event::AccountClosed(AccountClosed { at, account }))
            }
            _ => unreachable!("only states of accounts are decided here"),
        };
        if let Event::Frozen(Frozen { account, .. })
        | Event::Unfrozen(Unfrozen { account, .. })
        | Event::AccountClosed(AccountClosed { account, .. }) = event
        {
            self.check_here(account)?;
        }
        self.ledger.decide_account(&asked)?;
        if let Command::CloseAccount(account) = command {
            self.check_no_payments(*account)?;
        }
        plain(event)
    }

    pub(super) fn decide_reopen(&self, account: AccountRef, at: Stamp) -> Decided {
        self.check_here(account)?;
        self.ledger.decide_account(&AccountCommand::Reopen { account })?;
        if let Some(owner) = self.owner(account) {
            self.living(owner)?;
        }
        plain(Event::AccountReopened(AccountReopened { at, account }))
    }
}
