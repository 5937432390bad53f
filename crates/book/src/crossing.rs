//! Payments that cross branches: what may be sent, what becomes of what arrives, and what the answers lead to.
//!
//! A crossing transfer is decided by the ledger's own rules with *transit* in the payee's place; so limits, freezes and
//! holds mean the same as at home. What stays within a branch (chains, balancing, closing, imports, heads of the other
//! side) is refused with `crosses_branches`.

mod channels;
mod payout;
mod recovery;

use alloc::vec::Vec;

use skerry_ledger::{
    AccountRef, Earlier, Flags, Moved, MovedKind, Past, Rejection as LedgerRejection, Stamp, Transfer,
    TransferId,
};
use skerry_money::Currency;

use crate::book::Book;
use crate::channel::{
    CHANNEL_LEVEL, Channel, Payment, WINDOW, is_channel_head, position, received_id, transit,
};
use crate::event::{Event, HeadOpened, Received, Returned, Sent, Settled};
use crate::policy::Matter;
use crate::rejection::Rejection;
use crate::transfers::{Sender, admit_matter, admit_reversal, is_head};

/// What a crossing transfer comes to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// The payer is debited and the payment goes out.
    Sent(Sent),
    /// A hold that is sent when it is posted, or the end of one.
    Moved(Moved),
}

/// What stays within a branch.
const STAYS: Flags = Flags::LINKED
    .with(Flags::BALANCING_DEBIT)
    .with(Flags::BALANCING_CREDIT)
    .with(Flags::CLOSING_DEBIT)
    .with(Flags::CLOSING_CREDIT)
    .with(Flags::IMPORTED)
    .with(Flags::BANK);

/// Where what cannot go back to its payer waits for an operator.
const RETURNS_UNAPPLIED: u32 = 2902;

impl Book {
    /// The channel to and from `peer`.
    #[must_use]
    pub fn channel(&self, peer: u16) -> Option<&Channel> {
        self.channels.peers.get(&peer)
    }

    /// All channels, by peer.
    pub fn channels(&self) -> impl Iterator<Item = (u16, &Channel)> {
        self.channels.peers.iter().map(|(peer, channel)| (*peer, channel))
    }

    /// To which branch `transfer` leads, if it leads out of this one: such a transfer is for
    /// [`decide_crossing`](Self::decide_crossing).
    #[must_use]
    #[inline]
    pub fn crosses(&self, transfer: &Transfer) -> Option<u16> {
        if self.is_elsewhere(transfer.credit) {
            return Some(transfer.credit.branch());
        }
        if transfer.flags.has(Flags::POST) && !self.channels.held.is_empty() {
            return self.payee_of(transfer.related).map(AccountRef::branch);
        }
        None
    }

    /// The payee of a hold that will be sent when it is posted.
    #[must_use]
    pub fn payee_of(&self, hold: TransferId) -> Option<AccountRef> {
        self.channels.held.get(&hold).copied()
    }

    /// The events to be written before a payment in `currency` can be sent to or received from `peer`: none, but for the
    /// first.
    #[must_use]
    pub fn channel_heads(&self, peer: u16, currency: Currency, at: Stamp) -> Vec<Event> {
        let wanted = [transit(self.branch, peer, currency), position(self.branch, peer, currency)];
        if self.channel(peer).is_none() || self.ledger.account(wanted[1]).is_some() {
            return Vec::new();
        }
        let slots = self.ledger.heads().count();
        let event = |(slot, account): (usize, AccountRef)| {
            Some(Event::HeadOpened(HeadOpened { at, account, slot: u16::try_from(slot).ok()? }))
        };
        (slots..).zip(wanted).map(event).collect::<Option<_>>().unwrap_or_default()
    }

    /// Decides a transfer to `peer` that [`crosses`](Self::crosses), once its [heads](Self::channel_heads) are open.
    /// Reads only.
    ///
    /// # Errors
    ///
    /// As [`decide_transfer`](Self::decide_transfer), and what keeps it from crossing.
    pub fn decide_crossing<P: Past + ?Sized>(
        &self,
        transfer: &Transfer,
        peer: u16,
        sender: &Sender,
        past: &P,
    ) -> Result<Crossing, Rejection> {
        if let Err(rejection) = self.admit_crossing(transfer, peer, sender) {
            return Err(self.answer_or(rejection, transfer, sender, past));
        }
        if transfer.flags.has(Flags::REVERSAL) {
            return self.decide_return_payment(transfer, peer, sender, past);
        }
        let resolves = transfer.flags.overlaps(Flags::POST.with(Flags::VOID));
        let payee = if resolves { self.payee_of(transfer.related) } else { Some(transfer.credit) };
        let local = Transfer { credit: self.stand_in(transfer, payee, peer), ..*transfer };
        let moved = self.ledger.decide(&local, sender.stamp(), past)?;
        let payee = payee.unwrap_or(moved.credit);
        Ok(match moved.kind {
            MovedKind::Held => Crossing::Moved(Moved { credit: payee, ..moved }),
            MovedKind::Posted | MovedKind::HoldPosted => {
                Crossing::Sent(sent(Moved { credit: payee, ..moved }, self.next_number(peer)))
            }
            _ => Crossing::Moved(moved),
        })
    }

    /// Transit in the payee's place; for a hold that is resolved what the hold itself credits, if the payee is its own.
    fn stand_in(&self, transfer: &Transfer, payee: Option<AccountRef>, peer: u16) -> AccountRef {
        if transfer.flags.overlaps(Flags::POST.with(Flags::VOID)) {
            let named = transfer.credit != AccountRef::default() && payee != Some(transfer.credit);
            return if named { transfer.credit } else { AccountRef::default() };
        }
        let payer = self.ledger.account(transfer.debit);
        let currency = payer.map_or(Currency::CNY, |payer| payer.currency);
        transit(self.branch, peer, currency)
    }

    fn next_number(&self, peer: u16) -> u64 {
        self.channel(peer).map_or(0, |channel| channel.outgoing.sent).saturating_add(1)
    }

    fn admit_crossing(&self, transfer: &Transfer, peer: u16, sender: &Sender) -> Result<(), Rejection> {
        let flags = transfer.flags;
        let foreign_head = self.is_elsewhere(transfer.credit) && is_head(transfer.credit);
        if self.is_elsewhere(transfer.debit)
            || flags.overlaps(STAYS)
            || foreign_head
            || self.life.format < CHANNEL_LEVEL
        {
            return Err(Rejection::CrossesBranches);
        }
        let resolves = flags.overlaps(Flags::POST.with(Flags::VOID));
        if !resolves && is_head(transfer.debit) {
            if is_channel_head(transfer.debit) {
                return Err(Rejection::HeadReserved);
            }
            admit_matter(sender, Matter::Heads)?;
        }
        if flags.has(Flags::REVERSAL) {
            admit_reversal(sender)?;
        }
        let channel = self.channel(peer).ok_or(Rejection::PeerUnknown { peer })?;
        if flags.has(Flags::VOID) {
            return Ok(());
        }
        let outgoing = &channel.outgoing;
        if outgoing.stopped.is_some() {
            return Err(Rejection::ChannelStopped { peer });
        }
        if outgoing.open.len() >= WINDOW && !flags.has(Flags::PENDING) {
            return Err(Rejection::ChannelBusy { open: u32::try_from(WINDOW).unwrap_or(u32::MAX) });
        }
        Ok(())
    }

    /// The reversal of a payment that came from `peer`: a payment of its own, of the whole amount, by which the payee's
    /// account is debited like by any other; so its limits and freezes decide.
    fn decide_return_payment<P: Past + ?Sized>(
        &self,
        transfer: &Transfer,
        peer: u16,
        sender: &Sender,
        past: &P,
    ) -> Result<Crossing, Rejection> {
        self.ledger.check_new(transfer, sender.stamp(), past)?;
        let original = match past.find(received_id(transfer.related, peer)) {
            Some(Earlier::Moved { moved, resolved })
                if moved.id == transfer.related && moved.debit.branch() == peer =>
            {
                if resolved.is_some() {
                    return Err(LedgerRejection::OriginalAlreadyReversed.into());
                }
                moved
            }
            _ => return Err(LedgerRejection::OriginalNotFound.into()),
        };
        check_return_payment(transfer, &original)?;
        let local = Transfer {
            debit: original.credit,
            credit: transit(self.branch, peer, original.currency),
            amount: original.amount,
            code: if transfer.code == 0 { original.code } else { transfer.code },
            flags: Flags::default(),
            related: TransferId::NONE,
            ..*transfer
        };
        let moved = self.ledger.decide_posting(&local, sender.stamp())?;
        let moved =
            Moved { credit: original.debit, flags: transfer.flags, related: transfer.related, ..moved };
        Ok(Crossing::Sent(sent(moved, self.next_number(peer))))
    }

    /// What becomes of the next payment from `peer`, which is done with all up to `done`. Every payment has an outcome.
    /// Its [heads](Self::channel_heads) must be open if its payee has an account in its currency here.
    #[must_use]
    pub fn decide_received(&self, payment: &Payment, peer: u16, done: u64, stamp: Stamp) -> Received {
        let received = self.channel(peer).map_or(0, |channel| channel.incoming.received);
        let n = received.saturating_add(1);
        let outcome = self.judge(payment, peer, stamp).map_or_else(LedgerRejection::code, |_| 0);
        let moved = booking(payment, stamp);
        let back = u32::try_from(n.saturating_sub(done.min(received))).unwrap_or(u32::MAX);
        Received { moved, n, back, outcome, payee: None }
    }

    fn judge(&self, payment: &Payment, peer: u16, stamp: Stamp) -> Result<Moved, LedgerRejection> {
        let payee = Some(payment.credit).filter(|payee| payee.is_customer());
        let account = payee.and_then(|payee| self.ledger.account(payee));
        let account = account.ok_or(LedgerRejection::CreditNotFound)?;
        if account.currency != payment.currency {
            return Err(LedgerRejection::CurrenciesDiffer);
        }
        let local = Transfer {
            id: payment.id,
            debit: position(self.branch, peer, payment.currency),
            credit: payment.credit,
            amount: payment.amount,
            currency: Some(payment.currency),
            code: payment.code,
            value_date: Some(payment.value_date),
            ..Transfer::default()
        };
        self.ledger.decide_posting(&local, stamp)
    }

    /// What the outcomes of the numbers from `first` on lead to, in order and at most `most` events: those that are done
    /// already are passed over, and a gap ends it.
    #[must_use]
    pub fn decide_outcomes(
        &self,
        peer: u16,
        first: u64,
        outcomes: &[u16],
        stamp: Stamp,
        most: usize,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(channel) = self.channel(peer) else { return events };
        let begin = channel.outgoing.done.saturating_add(1);
        let Some(skip) = begin.checked_sub(first).and_then(|skip| usize::try_from(skip).ok()) else {
            return events;
        };
        for (n, outcome) in (begin..).zip(outcomes.iter().skip(skip)) {
            let Some(open) = channel.open(n) else { break };
            if *outcome == 0 && extend_run(events.last_mut(), n, &open.payment) {
                continue;
            }
            if events.len() >= most {
                break;
            }
            events.push(match outcome {
                0 => Event::Settled(Settled {
                    at: stamp,
                    peer,
                    currency: open.payment.currency,
                    first: n,
                    last: n,
                    amount: open.payment.amount,
                }),
                code => Event::Returned(self.give_back(n, &open.payment, *code, stamp)),
            });
        }
        events
    }

    /// Back to the payer whatever its limits and freezes; where there is none to go back to, to a head that is looked at.
    fn give_back(&self, n: u64, payment: &Payment, outcome: u16, stamp: Stamp) -> Returned {
        let moved = Moved {
            kind: MovedKind::Posted,
            id: self.return_id(payment.id),
            debit: payment.credit,
            credit: self.booked(payment.debit, payment.currency),
            amount: payment.amount,
            currency: payment.currency,
            code: payment.code,
            flags: Flags::BANK,
            reference: payment.reference,
            related: payment.id,
            expires_s: 0,
            time_us: stamp.time_us,
            business_date: stamp.business_date,
            value_date: stamp.business_date,
            imported_us: 0,
            digest: 0,
        };
        Returned { moved, n, outcome, withdrawn: false }
    }

    /// The id under which the payment `id` of this branch is given back, if it is.
    #[must_use]
    pub fn return_id(&self, id: TransferId) -> TransferId {
        let mut cause = [0; 22];
        crate::wire::Filler::new(&mut cause).put(*b"return").put(id.0.to_le_bytes()).finish();
        self.derive_id(&cause)
    }

    pub(crate) fn evolve_crossing(&mut self, event: &Event) {
        match event {
            Event::Sent(event) => self.evolve_sent(event),
            Event::Received(event) => self.evolve_received(event),
            Event::Settled(event) => {
                self.channels.settled(event);
                self.evolve_posting(&settling(self.branch, event));
            }
            Event::Returned(event) => {
                self.channels.returned(event);
                let Moved { debit, currency, .. } = event.moved;
                let debit = transit(self.branch, debit.branch(), currency);
                self.evolve_posting(&Moved { debit, ..event.moved });
            }
            Event::ChannelOpened(event) => {
                self.channels.opened(event);
                self.advance(event.at.time_us);
            }
            Event::ChannelStopped(event) => {
                self.channels.stopped(event);
                self.advance(event.at.time_us);
            }
            Event::ChannelResuming(event) => {
                self.channels.resuming(event);
                self.advance(event.at.time_us);
            }
            Event::ChannelResumed(event) => {
                self.channels.resumed(event);
                self.advance(event.at.time_us);
            }
            other => unreachable!("{other:?} does not cross"),
        }
    }

    /// Does what `event` says: a part of the hot path.
    ///
    /// # Panics
    ///
    /// As [`evolve`](Self::evolve).
    #[inline]
    pub fn evolve_sent(&mut self, event: &Sent) {
        self.channels.sent(event, self.life.position);
        let moved = event.moved;
        if moved.kind == MovedKind::HoldPosted {
            self.channels.held.remove(&moved.related);
        }
        let credit = transit(self.branch, moved.credit.branch(), moved.currency);
        self.evolve_posting(&Moved { credit, ..moved });
    }

    /// As [`evolve_sent`](Self::evolve_sent).
    #[inline]
    pub fn evolve_received(&mut self, event: &Received) {
        self.channels.received(event);
        if event.outcome != 0 {
            return self.advance(event.moved.time_us);
        }
        let moved = event.moved;
        let debit = position(self.branch, moved.debit.branch(), moved.currency);
        self.evolve_posting(&Moved { debit, ..moved });
    }
}

/// A payment that leaves.
const fn sent(moved: Moved, n: u64) -> Sent {
    Sent { moved, n, payer: None }
}

/// The posting of a run.
fn settling(branch: u16, event: &Settled) -> Moved {
    Moved {
        kind: MovedKind::Posted,
        id: TransferId::NONE,
        debit: transit(branch, event.peer, event.currency),
        credit: position(branch, event.peer, event.currency),
        amount: event.amount,
        currency: event.currency,
        code: 0,
        flags: Flags::BANK,
        reference: [0; 16],
        related: TransferId::NONE,
        expires_s: 0,
        time_us: event.at.time_us,
        business_date: event.at.business_date,
        value_date: event.at.business_date,
        imported_us: 0,
        digest: 0,
    }
}

impl Event {
    /// The posting that an event of a channel makes in `branch`, with transit or position in the place of what lies in
    /// the other branch; `None` if it moves nothing. Money that does not cross is as it is.
    #[must_use]
    pub fn posting(&self, branch: u16) -> Option<Moved> {
        match self {
            Self::Moved(moved) => Some(*moved),
            Self::Sent(Sent { moved, .. }) => {
                Some(Moved { credit: transit(branch, moved.credit.branch(), moved.currency), ..*moved })
            }
            Self::Received(Received { moved, outcome: 0, .. }) => {
                Some(Moved { debit: position(branch, moved.debit.branch(), moved.currency), ..*moved })
            }
            Self::Returned(Returned { moved, .. }) => {
                Some(Moved { debit: transit(branch, moved.debit.branch(), moved.currency), ..*moved })
            }
            Self::Settled(event) => Some(settling(branch, event)),
            _ => None,
        }
    }
}

/// Adds `n` to the run that `last` is, if it is one in the same currency and its sum still fits.
fn extend_run(last: Option<&mut Event>, n: u64, payment: &Payment) -> bool {
    let Some(Event::Settled(run)) = last else { return false };
    let Some(sum) = run.amount.checked_add(payment.amount) else { return false };
    if run.currency != payment.currency || run.last.checked_add(1) != Some(n) {
        return false;
    }
    (run.last, run.amount) = (n, sum);
    true
}

fn check_return_payment(transfer: &Transfer, original: &Moved) -> Result<(), LedgerRejection> {
    if original.flags.has(Flags::REVERSAL) {
        return Err(LedgerRejection::OriginalIsReversal);
    }
    if transfer.debit != AccountRef::default() && transfer.debit != original.credit {
        return Err(LedgerRejection::OriginalCreditDiffers);
    }
    if transfer.credit != original.debit {
        return Err(LedgerRejection::OriginalDebitDiffers);
    }
    if transfer.currency.is_some_and(|currency| currency != original.currency) {
        return Err(LedgerRejection::OriginalCurrencyDiffers);
    }
    let (have, need) = (original.amount, transfer.amount);
    if need != 0 && need != have {
        return Err(LedgerRejection::OriginalAmountDiffers { have, need });
    }
    Ok(())
}

/// A payment as it is booked today.
const fn booking(payment: &Payment, stamp: Stamp) -> Moved {
    Moved {
        kind: MovedKind::Posted,
        id: payment.id,
        debit: payment.debit,
        credit: payment.credit,
        amount: payment.amount,
        currency: payment.currency,
        code: payment.code,
        flags: payment.flags,
        reference: payment.reference,
        related: payment.related,
        expires_s: 0,
        time_us: stamp.time_us,
        business_date: stamp.business_date,
        value_date: payment.value_date,
        imported_us: 0,
        digest: 0,
    }
}
