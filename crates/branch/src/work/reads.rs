//! Looks at the book as it is now, the batch being filled included; the answers wait like all others.

use std::cell::Cell;

use skerry_book::{Actor, Channel, Customer, Event, Role};
use skerry_journal::Journal;
use skerry_ledger::{Basis, TransferId};

use super::past::out_of_reach;
use super::{Fault, Work};
use crate::api::{
    AccountView, Answer, CUSTOMERS_MAX, ChannelView, CustomerLine, CustomerView, Denied, PaymentState,
    PaymentView, Read, Reply, Scope,
};

impl<J: Journal> Work<J> {
    pub(super) fn read(&self, actor: &Actor, scope: Scope, read: &Read) -> Reply {
        if actor.role == Role::Customer && !self.is_own(scope, read) {
            return Reply::Denied(Denied::Scope);
        }
        Reply::Answer(self.look(read).unwrap_or(Answer::NotFound))
    }

    /// Positions in the archive whose records must be read before `read` can be answered.
    pub(super) fn archived(&self, read: &Read) -> Result<Vec<u64>, Fault> {
        match read {
            Read::Payment(id) => out_of_reach(&self.ids, &self.reach(), *id),
            _ => Ok(Vec::new()),
        }
    }

    fn is_own(&self, scope: Scope, read: &Read) -> bool {
        let Some(customer) = scope.customer else { return false };
        match read {
            Read::Account(account) => self.book.owner(*account) == Some(customer),
            Read::Customer(serial) => *serial == customer,
            _ => false,
        }
    }

    fn look(&self, read: &Read) -> Option<Answer> {
        let position = self.filling.next_position();
        Some(match *read {
            Read::Account(reference) => {
                let account = *self.book.account(reference)?;
                Answer::Account(Box::new(AccountView { reference, account, position }))
            }
            Read::Customer(serial) => self.customer(serial)?,
            Read::Document { line, document } => {
                self.customer(self.book.customer_by_document(line, &document)?)?
            }
            Read::Customers { from } => self.customers(from),
            Read::TrialBalance { date, by_value } => {
                let date = date.or(self.book.day())?;
                let basis = if by_value { Basis::Value } else { Basis::Booked };
                Answer::TrialBalance { date, lines: self.book.trial_balance(date, basis) }
            }
            Read::Hold(id) => Answer::Hold(self.book.ledger().hold(id)?),
            Read::Payment(id) => Answer::Payment(Box::new(self.payment(id)?)),
            Read::Channels => Answer::Channels(self.book.channels().map(view).collect()),
            Read::Losses => Answer::Losses(self.book.losses().to_vec()),
            Read::Chart => Answer::Chart(Box::new(self.book.chart().clone())),
            Read::Proposals => {
                Answer::Proposals(self.book.proposals(self.filling.time_us()).copied().collect())
            }
            Read::Policy => Answer::Policy(self.book.policy()),
            Read::Status => Answer::Status(Box::new(self.book.status())),
        })
    }

    /// A payment that was sent; what was journaled about it and is not yet durable shows once it is.
    fn payment(&self, id: TransferId) -> Option<PaymentView> {
        let position = self.ids.find(id).ok()??;
        let Event::Sent(sent) = self.durable_event(position)? else { return None };
        let channel = self.book.channel(sent.moved.credit.branch())?;
        // One that was withdrawn may have been taken back since.
        let resolution = self.ids.find_resolution(id).ok()?.filter(|at| *at > position);
        let state = match resolution.map(|at| (at, self.durable_event(at))) {
            Some((position, Some(Event::Returned(returned)))) => PaymentState::Returned {
                outcome: returned.outcome,
                to: returned.moved.credit,
                time_us: returned.moved.time_us,
                position,
            },
            None if sent.n <= channel.outgoing.done => PaymentState::Settled,
            _ => PaymentState::Sent,
        };
        Some(PaymentView { moved: sent.moved, n: sent.n, position, state })
    }

    fn durable_event(&self, position: u64) -> Option<Event> {
        let durable = position < self.journal.head().position.0;
        if !durable && self.filling.record(position).is_none() {
            return None;
        }
        let fault = Cell::new(None);
        self.known(&fault).event(position).ok()
    }

    fn customers(&self, from: u32) -> Answer {
        let (from, end) = (from.max(1), from.max(1).saturating_add(CUSTOMERS_MAX));
        let known = (from..end).map_while(|serial| Some((serial, self.book.customer(serial)?)));
        let living = known.filter(|(_, customer)| !customer.erased);
        let line = |(serial, customer): (u32, &Customer)| CustomerLine {
            serial,
            line: customer.line,
            document: customer.document,
        };
        let next = self.book.customer(end).map(|_| end);
        Answer::Customers { list: living.map(line).collect(), next }
    }

    fn customer(&self, serial: u32) -> Option<Answer> {
        let customer = *self.book.customer(serial)?;
        let accounts = self.book.accounts(serial).map(|(reference, account)| (reference, *account)).collect();
        let position = self.filling.next_position();
        Some(Answer::Customer(Box::new(CustomerView { serial, customer, accounts, position })))
    }
}

fn view((peer, channel): (u16, &Channel)) -> (u16, ChannelView) {
    let (outgoing, incoming) = (&channel.outgoing, &channel.incoming);
    let view = ChannelView {
        incarnation: channel.incarnation,
        sent: outgoing.sent,
        done: outgoing.done,
        received: incoming.received,
        outgoing_stopped: outgoing.stopped,
        incoming_stopped: incoming.stopped,
        resuming: channel.resuming,
        totals: channel.sums().map(|(currency, totals)| (currency, *totals)).collect(),
    };
    (peer, view)
}
