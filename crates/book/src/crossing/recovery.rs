//! What a branch takes back that it has lost: its peers tell it, payment by payment, what they have of it.
//!
//! It happened; so nothing of it is refused, and limits and freezes do not count. Where the account is not there any
//! more, or is closed, the money is booked to the head *returns unapplied*, where an operator finds it.
//!
//! Each call decides one step, and the same may be asked again and again until there is none.

use alloc::vec::Vec;

use skerry_ledger::{AccountRef, Stamp};
use skerry_money::Currency;

use super::{RETURNS_UNAPPLIED, booking};
use crate::book::Book;
use crate::channel::Payment;
use crate::event::{Event, Received, Returned, Sent};
use crate::rejection::Rejection;

impl Book {
    /// The events to be written before a payment in `currency` is taken back from `peer`, in two calls: a currency that was
    /// lost comes into use again, then the heads of the channel.
    #[must_use]
    pub fn heads_to_take_back(&self, peer: u16, currency: Currency, at: Stamp) -> Vec<Event> {
        if self.ledger.account(AccountRef::head(self.branch, RETURNS_UNAPPLIED, currency)).is_none() {
            return self.currency_events(currency, at).unwrap_or_default();
        }
        self.channel_heads(peer, currency, at)
    }

    /// The next step for a payment that this branch once sent under `n`, and of which `peer` says what it was and became.
    #[must_use]
    pub fn take_back_sent(
        &self,
        peer: u16,
        n: u64,
        payment: &Payment,
        outcome: u16,
        stamp: Stamp,
    ) -> Option<Event> {
        let outgoing = &self.channel(peer)?.outgoing;
        if n <= outgoing.done {
            return None;
        }
        match outgoing.open.back() {
            Some(last) if n <= outgoing.sent => {
                let known = self.channel(peer)?.open(n)?;
                if known.payment != *payment {
                    return Some(Event::Returned(self.withdraw(outgoing.sent, &last.payment, stamp)));
                }
                self.decide_outcomes(peer, n, &[outcome], stamp, 1).pop()
            }
            _ if outgoing.sent.checked_add(1) == Some(n) => {
                let debit = self.booked(payment.debit, payment.currency);
                let moved = booking(&Payment { debit, ..*payment }, stamp);
                Some(Event::Sent(Sent { moved, n, payer: Some(payment.debit) }))
            }
            _ => None,
        }
    }

    /// The same for a payment that it once received under `n`.
    #[must_use]
    pub fn take_back_received(
        &self,
        peer: u16,
        n: u64,
        payment: &Payment,
        outcome: u16,
        stamp: Stamp,
    ) -> Option<Event> {
        let incoming = &self.channel(peer)?.incoming;
        if incoming.received.checked_add(1) != Some(n) {
            return None;
        }
        let credit =
            if outcome == 0 { self.booked(payment.credit, payment.currency) } else { payment.credit };
        let moved = booking(&Payment { credit, ..*payment }, stamp);
        Some(Event::Received(Received { moved, n, back: 0, outcome, payee: Some(payment.credit) }))
    }

    /// The last payment sent gives its number free: the peer has another one under it, or one before it.
    fn withdraw(&self, n: u64, payment: &Payment, stamp: Stamp) -> Returned {
        let code = Rejection::PaymentWithdrawn.code();
        Returned { withdrawn: true, ..self.give_back(n, payment, code, stamp) }
    }

    /// The account if it can be booked to, else the head for what cannot.
    pub(super) fn booked(&self, account: AccountRef, currency: Currency) -> AccountRef {
        let takes = |found: &skerry_ledger::Account| !found.is_closed() && found.currency == currency;
        match self.ledger.account(account).filter(|found| takes(found)) {
            Some(_) if !crate::channel::is_channel_head(account) => account,
            _ => AccountRef::head(self.branch, RETURNS_UNAPPLIED, currency),
        }
    }
}
