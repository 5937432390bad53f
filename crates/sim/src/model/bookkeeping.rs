//! Customers, accounts, days: the events that move no money.

use skerry_book::Event;
use skerry_book::event::{AccountOpened, CustomerOpened};
use skerry_ledger::{AccountKind, AccountRef, Limit, Sides, Stamp};

use super::account::Account;
use super::{Broken, Customer, Model};

const DAY_US: u64 = 24 * 3_600 * 1_000_000;

impl Model {
    pub(super) fn take_bookkeeping(&mut self, stamp: Stamp, event: &Event) -> Result<(), Broken> {
        match event {
            Event::BranchOpened(_) => expect(self.position == 0, "a branch opens once, before all else")?,
            Event::Incarnated(event) => {
                expect(event.incarnation == self.incarnation.max(1) + 1, "lives are numbered upwards")?;
                expect(event.lost_from == self.position, "what is lost begins where the journal ended")?;
                self.incarnation = event.incarnation;
            }
            Event::HeadOpened(event) => self.take_head(stamp, event.account)?,
            Event::DayOpened(event) => {
                expect(self.day.is_none_or(|open| open < event.date), "days only go forward")?;
                self.day = Some(event.date);
                self.counts.days += 1;
            }
            Event::WentLive(event) => {
                expect(self.live.is_none(), "a branch goes live once")?;
                self.live = Some(event.date);
            }
            Event::CustomerOpened(event) => self.take_customer(event)?,
            Event::CustomerChanged(event) => {
                let customer = self.customer_mut(event.customer)?;
                customer.sealed.clone_from(&event.sealed);
                if let Some(document) = event.document {
                    customer.document = document;
                }
            }
            Event::CustomerErased(event) => {
                let open = |account: &Account| account.owner == event.customer && !account.closed;
                expect(!self.accounts.values().any(open), "who is erased has no open account")?;
                self.customer_mut(event.customer)?.erased = true;
            }
            Event::AccountOpened(event) => self.take_account(event)?,
            Event::KeyUsed(event) => {
                let before = self.keys.insert(event.key, (event.done, stamp.time_us));
                let long_ago = |(_, used_us): (_, u64)| stamp.time_us - used_us >= DAY_US;
                expect(before.is_none_or(long_ago), "a key answers one request for a day")?;
            }
            Event::LimitsChanged(_)
            | Event::Frozen(_)
            | Event::Unfrozen(_)
            | Event::AccountClosed(_)
            | Event::AccountReopened(_) => self.take_state(event)?,
            _ => {}
        }
        Ok(())
    }

    /// The living customer with this serial.
    fn customer_mut(&mut self, serial: u32) -> Result<&mut Customer, Broken> {
        let index = usize::try_from(serial).unwrap_or(0).wrapping_sub(1);
        let customer = self.customers.get_mut(index).filter(|customer| !customer.erased);
        customer.ok_or_else(|| format!("names customer {serial}, who is not there"))
    }

    fn take_head(&mut self, stamp: Stamp, reference: AccountRef) -> Result<(), Broken> {
        let Some(AccountKind::Head(_, currency)) = reference.kind() else {
            return Err("opens a head under another kind of reference".to_owned());
        };
        let account = Account::new(reference, currency, stamp.business_date);
        expect(self.accounts.insert(reference, account).is_none(), "a head opens once")?;
        self.slots.push(reference);
        Ok(())
    }

    fn take_customer(&mut self, event: &CustomerOpened) -> Result<(), Broken> {
        let next = u32::try_from(self.customers.len() + 1).unwrap_or(0);
        expect(event.customer == next, "customers are numbered without gaps")?;
        let known = |customer: &Customer| !customer.erased && customer.document == event.document;
        expect(!self.customers.iter().any(known), "a document belongs to one customer")?;
        self.customers.push(Customer {
            key_ref: event.key_ref,
            document: event.document,
            sealed: event.sealed.clone(),
            erased: false,
        });
        Ok(())
    }

    fn take_account(&mut self, event: &AccountOpened) -> Result<(), Broken> {
        let count = self.accounts.values().filter(|account| account.is_customer()).count();
        let next = AccountRef::customer(self.number, count as u64 + 1);
        expect(event.account == next, "accounts are numbered without gaps")?;
        self.customer_mut(event.customer)?;
        let head = self.slots.get(usize::from(event.slot)).copied().ok_or("posts to no head")?;
        expect(event.limit != Limit::None, "a customer's account is limited")?;
        let account = Account {
            limit: event.limit,
            floor: event.floor,
            daily_limit: event.daily_limit,
            owner: event.customer,
            head,
            ..Account::new(event.account, event.currency, event.opened)
        };
        self.accounts.insert(event.account, account);
        Ok(())
    }

    fn take_state(&mut self, event: &Event) -> Result<(), Broken> {
        let reference = match event {
            Event::LimitsChanged(event) => event.account,
            Event::Frozen(event) => event.account,
            Event::Unfrozen(event) => event.account,
            Event::AccountClosed(event) => event.account,
            Event::AccountReopened(event) => event.account,
            _ => AccountRef::default(),
        };
        let payments = self.payments_open(reference);
        let account = self.accounts.get_mut(&reference).ok_or("names an account that is not there")?;
        match event {
            Event::LimitsChanged(event) => {
                expect(!account.is_closed(), "limits of a closed account stay")?;
                (account.floor, account.daily_limit) = (event.floor, event.daily_limit);
            }
            Event::Frozen(event) => {
                expect(event.reason != 0, "a freeze has a reason")?;
                set_freeze(account, event.sides, event.reason, true)?;
            }
            Event::Unfrozen(event) => set_freeze(account, event.sides, 0, false)?,
            Event::AccountClosed(_) => {
                expect(!account.is_closed(), "an account closes once")?;
                expect(account.balance() == 0 && account.holds == 0, "an account closes empty")?;
                expect(account.frozen == [0; 2], "a frozen account does not close")?;
                expect(payments == 0, "an account closes when its payments have ended")?;
                account.closed = true;
            }
            _ => {
                expect(account.closed, "only a closed account reopens")?;
                account.closed = false;
            }
        }
        Ok(())
    }
}

fn set_freeze(account: &mut Account, sides: Sides, reason: u8, free: bool) -> Result<(), Broken> {
    for (frozen, named) in account.frozen.iter_mut().zip([sides.debit, sides.credit]) {
        if named {
            expect((*frozen == 0) == free, "a side is frozen and thawed in turn")?;
            *frozen = reason;
        }
    }
    Ok(())
}

fn expect(holds: bool, rule: &str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(format!("breaks the rule: {rule}")) }
}
