//! What happened, done to the state. Nothing here refuses: an event that does not fit the state means a corrupt
//! journal or a wrong caller, and to go on would be to fork the bank's history.

use alloc::sync::Arc;

use skerry_ledger::{
    self as ledger, AccountEvent, AccountKind, AccountRef, Flags, HeadSlot, Limit, Moved, MovedKind, Stamp,
};
use skerry_money::Date;

use crate::book::Book;
use crate::channel::transit;
use crate::customers::Customer;
use crate::event::{
    AccountOpened, BranchOpened, ChartAdopted, CustomerChanged, CustomerErased, CustomerOpened, DayOpened,
    Event, HeadOpened, Proposed, Received, Returned, Sent,
};
use crate::policy::Proposal;

impl Book {
    /// Does what `event` says; it takes up one position.
    ///
    /// # Panics
    ///
    /// If it does not follow from the events before it.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Moved(moved) => return self.evolve_moved(moved),
            Event::Sent(_)
            | Event::Received(_)
            | Event::Settled(_)
            | Event::Returned(_)
            | Event::ChannelOpened(_)
            | Event::ChannelStopped(_)
            | Event::ChannelResuming(_)
            | Event::ChannelResumed(_) => return self.evolve_crossing(event),
            Event::CustomerOpened(event) => self.evolve_customer(event),
            Event::CustomerChanged(event) => self.evolve_changed(event),
            Event::CustomerErased(event) => self.evolve_erased(*event),
            Event::AccountOpened(event) => self.evolve_account(event),
            Event::LimitsChanged(_)
            | Event::Frozen(_)
            | Event::Unfrozen(_)
            | Event::AccountClosed(_)
            | Event::AccountReopened(_) => self.evolve_state(event),
            Event::KeyUsed(event) => self.keys.take(event),
            Event::Proposed(_) | Event::Approved(_) | Event::ProposalEnded(_) => self.evolve_proposal(event),
            other => self.evolve_branch(other),
        }
        self.advance(time_of(event));
    }

    /// Does what `moved` says: the hot path, also of replay.
    ///
    /// # Panics
    ///
    /// As [`evolve`](Self::evolve).
    #[inline]
    pub fn evolve_moved(&mut self, moved: &Moved) {
        match moved.kind {
            MovedKind::Posted => (),
            MovedKind::Held if moved.credit.branch() != self.branch => {
                self.channels.held.insert(moved.id, moved.credit);
                let credit = transit(self.branch, moved.credit.branch(), moved.currency);
                return self.evolve_posting(&Moved { credit, ..*moved });
            }
            _ if self.channels.held.is_empty() => (),
            _ => drop(self.channels.held.remove(&moved.related)),
        }
        self.evolve_posting(moved);
    }

    /// A movement between accounts of this branch.
    #[inline]
    pub(crate) fn evolve_posting(&mut self, moved: &Moved) {
        self.ledger.evolve(moved);
        if moved.kind == MovedKind::HoldPosted {
            self.note_closing(moved.debit, moved.business_date);
            self.note_closing(moved.credit, moved.business_date);
        }
        if self.life.first_native.is_none() && !moved.flags.has(Flags::IMPORTED) {
            self.life.first_native = Some(moved.business_date);
        }
        self.life.moved = self.life.moved.saturating_add(1);
        self.advance(moved.time_us);
    }

    #[inline]
    pub(crate) fn advance(&mut self, time_us: u64) {
        self.life.time_us = self.life.time_us.max(time_us);
        self.life.position = self.life.position.checked_add(1).expect("no journal reaches 2^64 records");
    }

    fn evolve_branch(&mut self, event: &Event) {
        let life = &mut self.life;
        match event {
            Event::BranchOpened(event) => self.evolve_opened(event),
            Event::Incarnated(event) => {
                life.incarnation = event.incarnation;
                life.losses.push(*event);
            }
            Event::FormatRaised(event) => life.format = event.level,
            Event::ChartAdopted(ChartAdopted { chart, .. }) => life.chart = Arc::new((**chart).clone()),
            Event::HeadOpened(event) => self.evolve_head(event),
            Event::DayOpened(event) => self.evolve_day(*event),
            Event::WentLive(event) => {
                self.ledger.evolve_account(&AccountEvent::WentLive { date: event.date })
            }
            Event::PolicyChanged(event) => life.policy = event.policy,
            // Who ordered it is what is to be known; the journal knows its own start.
            Event::ArchiveOrdered(_) => {}
            Event::Refused(_) => life.refused = life.refused.saturating_add(1),
            other => unreachable!("{other:?} is evolved elsewhere"),
        }
    }

    fn evolve_opened(&mut self, event: &BranchOpened) {
        assert_eq!(event.branch, self.branch, "the journal is that of another branch");
        assert!(self.life.position == 0, "a branch opens once, before all else");
        self.life.terms = Some(event.terms.clone());
        self.life.incarnation = 1;
    }

    fn evolve_head(&mut self, event: &HeadOpened) {
        let Some(AccountKind::Head(_, currency)) = event.account.kind() else {
            panic!("a head opens under the reference of a head");
        };
        if !self.life.currencies.contains(&currency) {
            self.life.currencies.push(currency);
        }
        self.ledger.evolve_account(&AccountEvent::HeadOpened(ledger::HeadOpened {
            head: event.account,
            slot: HeadSlot(event.slot),
            currency,
            opened: event.at.business_date,
            limit: Limit::None,
        }));
    }

    fn evolve_day(&mut self, event: DayOpened) {
        assert!(self.life.day.is_none_or(|open| open < event.date), "days only go forward");
        self.life.day = Some(event.date);
        self.life.first_day.get_or_insert(event.date);
        self.life.days = self.life.days.saturating_add(1);
    }

    fn evolve_customer(&mut self, event: &CustomerOpened) {
        let customer = Customer {
            document: event.document,
            key_ref: event.key_ref,
            sealed_at: self.life.position,
            opened: event.opened,
            ended: event.opened,
            line: event.line,
            erased: false,
            first_account: 0,
            last_account: 0,
        };
        self.customers.push(&self.seed, event.customer, customer);
    }

    fn evolve_changed(&mut self, event: &CustomerChanged) {
        if let Some(document) = event.document {
            self.customers.set_document(&self.seed, event.customer, document);
        }
        self.customers.get_mut(event.customer).sealed_at = self.life.position;
    }

    fn evolve_erased(&mut self, event: CustomerErased) {
        self.customers.erase(&self.seed, event.customer);
        self.life.erased = self.life.erased.saturating_add(1);
    }

    fn evolve_account(&mut self, event: &AccountOpened) {
        let serial = event.account.customer_serial().and_then(|serial| u32::try_from(serial).ok());
        let serial = serial.expect("a customer's account opens under a serial of 32 bits");
        self.ledger.evolve_account(&AccountEvent::Opened(ledger::AccountOpened {
            account: event.account,
            owner: event.customer,
            product: event.product,
            head: HeadSlot(event.slot),
            currency: event.currency,
            opened: event.opened,
            limit: event.limit,
            floor: event.floor,
            daily_limit: event.daily_limit,
        }));
        self.customers.push_account(event.customer, serial);
    }

    fn evolve_state(&mut self, event: &Event) {
        let event = match *event {
            Event::LimitsChanged(event) => AccountEvent::LimitsChanged {
                account: event.account,
                floor: event.floor,
                daily_limit: event.daily_limit,
            },
            Event::Frozen(event) => {
                AccountEvent::Frozen { account: event.account, sides: event.sides, reason: event.reason }
            }
            Event::Unfrozen(event) => AccountEvent::Unfrozen { account: event.account, sides: event.sides },
            Event::AccountClosed(event) => {
                self.note_ended(event.account, event.at.business_date);
                AccountEvent::Closed { account: event.account }
            }
            Event::AccountReopened(event) => AccountEvent::Reopened { account: event.account },
            _ => unreachable!("only states of accounts are evolved here"),
        };
        self.ledger.evolve_account(&event);
    }

    /// After a hold was posted: it may have closed the account.
    fn note_closing(&mut self, account: AccountRef, date: Date) {
        let closed =
            self.ledger.account(account).is_some_and(|account| account.is_closed() && !account.is_closing());
        if closed {
            self.note_ended(account, date);
        }
    }

    fn note_ended(&mut self, account: AccountRef, date: Date) {
        if let Some(owner) = self.owner(account) {
            let customer = self.customers.get_mut(owner);
            customer.ended = customer.ended.max(date);
        }
    }

    fn evolve_proposal(&mut self, event: &Event) {
        let proposals = &mut self.life.proposals;
        match event {
            Event::Proposed(Proposed { at, request, matter, proposer }) => proposals.add(Proposal {
                request: *request,
                matter: *matter,
                proposer: *proposer,
                approver: None,
                time_us: at.time_us,
            }),
            Event::Approved(event) => proposals.approve(&event.request, event.approver),
            Event::ProposalEnded(event) => proposals.end(&event.request),
            _ => unreachable!("only proposals are evolved here"),
        }
    }
}

/// The booking time of `event`, microseconds since 1970.
fn time_of(event: &Event) -> u64 {
    event.stamp().time_us
}

impl Event {
    /// When it happened and on which business day; for a day's opening, the day that it closed.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        match self {
            Self::Moved(moved) => Stamp { time_us: moved.time_us, business_date: moved.business_date },
            Self::Sent(Sent { moved, .. })
            | Self::Received(Received { moved, .. })
            | Self::Returned(Returned { moved, .. }) => {
                Stamp { time_us: moved.time_us, business_date: moved.business_date }
            }
            Self::Settled(event) => event.at,
            Self::ChannelOpened(event) => event.at,
            Self::ChannelStopped(event) => event.at,
            Self::ChannelResuming(event) => event.at,
            Self::ChannelResumed(event) => event.at,
            Self::Refused(event) => event.at,
            Self::BranchOpened(event) => event.at,
            Self::Incarnated(event) => event.at,
            Self::FormatRaised(event) => event.at,
            Self::ChartAdopted(event) => event.at,
            Self::HeadOpened(event) => event.at,
            Self::DayOpened(event) => event.at,
            Self::WentLive(event) => event.at,
            Self::PolicyChanged(event) => event.at,
            Self::ArchiveOrdered(event) => event.at,
            Self::CustomerOpened(event) => event.at,
            Self::CustomerChanged(event) => event.at,
            Self::CustomerErased(event) => event.at,
            Self::AccountOpened(event) => event.at,
            Self::LimitsChanged(event) => event.at,
            Self::Frozen(event) => event.at,
            Self::Unfrozen(event) => event.at,
            Self::AccountClosed(event) => event.at,
            Self::AccountReopened(event) => event.at,
            Self::KeyUsed(event) => event.at,
            Self::Proposed(event) => event.at,
            Self::Approved(event) => event.at,
            Self::ProposalEnded(event) => event.at,
        }
    }
}
