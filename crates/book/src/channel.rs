//! Channels between branches: what a branch keeps of its payments to and from another one.
//!
//! A payment that crosses is debited at the payer's branch first, into *transit*, and delivered afterwards under the
//! next number of its channel; the payee's branch answers each number with an outcome, and the payer's branch then
//! settles it against its *position* with that branch or returns it. Both heads have the peer as their sub-account.
//!
//! ```text
//! payer's branch                     payee's branch
//! Sent      Dr payer,   Cr transit ─► Received  Dr position, Cr payee   (or nothing: refused)
//! Settled   Dr transit, Cr position ◄─ outcome 0
//! Returned  Dr transit, Cr payer    ◄─ outcome: the number of a rejection
//! ```
//!
//! It knows numbers, sums and a running hash; not how messages travel, and not when to repeat them.
//!
//! # Invariants
//!
//! - **C1, no gaps**: numbers go up by one; those after *done* are open, and at most [`WINDOW`] of them.
//! - **C2, one outcome**: a number once received has its outcome, kept until the sender says that it is done with it.
//! - **C3, sums**: transit is what is open; position is what was settled less what was received.

mod image;
mod pair;
mod standing;

use alloc::collections::{BTreeMap, VecDeque};

use skerry_ledger::{AccountKind, AccountRef, Flags, Moved, TransferId};
use skerry_money::{Currency, Date};

pub use pair::{Unfit, check_pair};
pub use standing::Standing;

use crate::event::{
    ChannelOpened, ChannelResumed, ChannelResuming, ChannelStopped, Received, Returned, Sent, Settled,
};
use crate::hash::unkeyed;
use crate::wire::Filler;

/// The most payments of one channel that are open at a time.
pub const WINDOW: usize = 32_768;

/// The level of records from which on payments cross.
pub const CHANNEL_LEVEL: u16 = 2;

/// The level of records from which on a channel that stopped can go on, and a branch takes back what it has lost.
pub const RECOVERY_LEVEL: u16 = 4;

/// The head *transit*: sent and not yet settled. Sub-accounts are `TRANSIT · 10 000 + peer`.
const TRANSIT: u32 = 1105;
/// The head *position*: settled with the other branch. Sub-accounts are as above.
const POSITION: u32 = 1106;
const PEERS: u32 = 10_000;

/// What `branch` has sent to `peer` in `currency` and not yet settled.
#[must_use]
pub const fn transit(branch: u16, peer: u16, currency: Currency) -> AccountRef {
    AccountRef::head(branch, sub_account(TRANSIT, peer), currency)
}

/// What `branch` and `peer` owe each other in `currency`.
#[must_use]
pub const fn position(branch: u16, peer: u16, currency: Currency) -> AccountRef {
    AccountRef::head(branch, sub_account(POSITION, peer), currency)
}

#[expect(clippy::as_conversions, reason = "widening in const fn, where From cannot be called")]
const fn sub_account(head: u32, peer: u16) -> u32 {
    assert!(peer < 10_000, "a branch's number has four digits");
    head.wrapping_mul(PEERS).wrapping_add(peer as u32)
}

/// The names of a channel's head in English and in Chinese, and the peer; `None` for any other head.
#[must_use]
pub fn channel_head(code: u32) -> Option<(&'static str, &'static str, u16)> {
    let peer = u16::try_from(code.checked_rem(PEERS)?).ok()?;
    match code.checked_div(PEERS)? {
        TRANSIT => Some(("In transit to another branch", "行内在途款项", peer)),
        POSITION => Some(("Position with another branch", "行内往来", peer)),
        _ => None,
    }
}

/// Whether only channels post to this account.
#[must_use]
pub fn is_channel_head(account: AccountRef) -> bool {
    matches!(account.kind(), Some(AccountKind::Head(code, _)) if channel_head(code).is_some())
}

/// Under which id the payee's branch finds a payment of `peer` again: no client can choose one of version
/// 6, and an index that turns the highest bit of the version to name resolutions meets nobody else's. Two
/// payments can meet here only if somebody made them so; what is found must be compared.
#[must_use]
pub const fn received_id(id: TransferId, peer: u16) -> TransferId {
    #[expect(clippy::as_conversions, reason = "widening in const fn, where From cannot be called")]
    let peer = peer as u128;
    TransferId(((id.0 & !(0xf << 76)) | (6 << 76)) ^ peer)
}

/// A payment as both branches know it: all that the running hash covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// The payer's id.
    pub id: TransferId,
    /// The payer, in the sending branch.
    pub debit: AccountRef,
    /// The payee, in the receiving branch.
    pub credit: AccountRef,
    /// Minor units; not 0.
    pub amount: u64,
    /// The payer's currency.
    pub currency: Currency,
    /// The client's classification.
    pub code: u16,
    /// The value date.
    pub value_date: Date,
    /// [`Flags::REVERSAL`] and [`Flags::TAIL`] (for a long reference), no others.
    pub flags: Flags,
    /// As in the transfer.
    pub reference: [u8; 16],
    /// For a reversal the payment that it reverses.
    pub related: TransferId,
}

/// The flags of a transfer that travel.
pub(crate) const TRAVEL: Flags = Flags::REVERSAL.with(Flags::TAIL);

/// Bytes of a payment in a message and under the hash.
pub const PAYMENT_LENGTH: usize = 84;

impl Payment {
    /// What travels of a movement.
    #[must_use]
    pub const fn of(moved: &Moved) -> Self {
        // A tail travels for a reference that is too long for its record; a note is the payer's own.
        let long = moved.reference[0] == 0xff;
        let travel = if long { TRAVEL } else { Flags::REVERSAL };
        let flags = Flags(moved.flags.0 & travel.0);
        Self {
            id: moved.id,
            debit: moved.debit,
            credit: moved.credit,
            amount: moved.amount,
            currency: moved.currency,
            code: moved.code,
            value_date: moved.value_date,
            flags,
            reference: moved.reference,
            // What it posts of a hold is the payer's branch's own business.
            related: if flags.has(Flags::REVERSAL) { moved.related } else { TransferId::NONE },
        }
    }

    /// Its bytes, little-endian: id, debit, credit, amount, currency, code, value date, flags, reference, related.
    #[must_use]
    #[inline]
    pub fn encode(&self) -> [u8; PAYMENT_LENGTH] {
        let mut bytes = [0; PAYMENT_LENGTH];
        Filler::new(&mut bytes)
            .put(self.id.0.to_le_bytes())
            .put(self.debit.0.to_le_bytes())
            .put(self.credit.0.to_le_bytes())
            .put(self.amount.to_le_bytes())
            .put(self.currency.number().to_le_bytes())
            .put(self.code.to_le_bytes())
            .put(self.value_date.0.to_le_bytes())
            .put(self.flags.0.to_le_bytes())
            .put(self.reference)
            .put(self.related.0.to_le_bytes())
            .finish();
        bytes
    }

    /// Reads it; `None` for an unknown currency or a flag that does not travel.
    #[must_use]
    pub fn decode(bytes: &[u8; PAYMENT_LENGTH]) -> Option<Self> {
        let mut reader = crate::wire::Reader::new(bytes);
        let payment = Self {
            id: TransferId(reader.u128().ok()?),
            debit: AccountRef(reader.u64().ok()?),
            credit: AccountRef(reader.u64().ok()?),
            amount: reader.u64().ok()?,
            currency: Currency::from_number(reader.u16().ok()?)?,
            code: reader.u16().ok()?,
            value_date: Date(reader.i32().ok()?),
            flags: Flags(reader.u32().ok()?),
            reference: reader.array().ok()?,
            related: TransferId(reader.u128().ok()?),
        };
        let reverses = payment.flags.has(Flags::REVERSAL) == (payment.related != TransferId::NONE);
        (payment.flags.0 & !TRAVEL.0 == 0 && reverses).then_some(payment)
    }
}

/// The running hash of a channel once payment `n` has followed: SipHash-2-4-128 under a key that everybody knows. It
/// shows that both branches speak of the same payments; what is evidence is hashed in the journal.
#[must_use]
#[inline]
pub fn running_hash(before: u128, n: u64, payment: &Payment) -> u128 {
    let mut bytes = [0; 24 + PAYMENT_LENGTH];
    Filler::new(&mut bytes).put(before.to_le_bytes()).put(n.to_le_bytes()).put(payment.encode()).finish();
    unkeyed(&bytes)
}

/// A payment that was sent and has neither been settled nor returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// What was sent.
    pub payment: Payment,
    /// The position of its record.
    pub position: u64,
    /// The running hash to it.
    pub hash: u128,
}

/// How many, and how much.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Payments.
    pub count: u64,
    /// Minor units.
    pub amount: u128,
}

impl Sum {
    fn add(&mut self, count: u64, amount: u64) {
        self.count = self.count.saturating_add(count);
        self.amount = self.amount.saturating_add(u128::from(amount));
    }

    fn take(&mut self, amount: u64) {
        self.count = self.count.saturating_sub(1);
        self.amount = self.amount.saturating_sub(u128::from(amount));
    }
}

/// What went over a channel in one currency, in both directions, since it was opened.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// To the peer.
    pub sent: Sum,
    /// Of those, delivered to their payees.
    pub settled: Sum,
    /// Of those, refused there and given back.
    pub returned: Sum,
    /// From the peer, accepted.
    pub received: Sum,
    /// From the peer, refused.
    pub refused: Sum,
}

/// To the peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outgoing {
    /// The last number.
    pub sent: u64,
    /// The running hash to it.
    pub hash: u128,
    /// Up to here each was settled or returned.
    pub done: u64,
    /// The running hash to there.
    pub done_hash: u128,
    /// The numbers after *done*, in order.
    pub open: VecDeque<Open>,
    /// Why it has stopped.
    pub stopped: Option<ChannelStopped>,
}

/// From the peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Incoming {
    /// The last number.
    pub received: u64,
    /// The running hash to it.
    pub hash: u128,
    /// Up to here the peer is done, and outcomes are forgotten.
    pub forgotten: u64,
    /// The outcomes after that, in order: 0 accepted, else the number of the rejection.
    pub outcomes: VecDeque<u16>,
    /// Why it has stopped.
    pub stopped: Option<ChannelStopped>,
}

/// What a branch keeps of its payments to and from one other branch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Channel {
    /// The peer's incarnation that it was opened with, or went on with.
    pub incarnation: u32,
    /// To the peer.
    pub outgoing: Outgoing,
    /// From the peer.
    pub incoming: Incoming,
    /// It stopped and is to go on, once both branches know the same.
    pub resuming: bool,
    /// Sums by currency number.
    pub totals: BTreeMap<u16, Totals>,
}

/// All channels of a branch, by peer, and the holds that will be sent when they are posted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Channels {
    pub(crate) peers: BTreeMap<u16, Channel>,
    /// The payees of holds whose credit waits in transit.
    pub(crate) held: BTreeMap<TransferId, AccountRef>,
}

impl Channel {
    fn totals(&mut self, currency: Currency) -> &mut Totals {
        self.totals.entry(currency.number()).or_default()
    }

    /// The outcome of the payment received under `n`, if it is still kept.
    #[must_use]
    pub fn outcome(&self, n: u64) -> Option<u16> {
        let at = n.checked_sub(self.incoming.forgotten)?.checked_sub(1)?;
        self.incoming.outcomes.get(usize::try_from(at).ok()?).copied()
    }

    /// The open payment `n`.
    #[must_use]
    pub fn open(&self, n: u64) -> Option<&Open> {
        let at = n.checked_sub(self.outgoing.done)?.checked_sub(1)?;
        self.outgoing.open.get(usize::try_from(at).ok()?)
    }

    /// The running hash to the number before `n`, if `n` is open or the next.
    #[must_use]
    pub fn hash_before(&self, n: u64) -> Option<u128> {
        self.outgoing.known_hash(n.checked_sub(1)?)
    }

    /// Whether either direction has stopped.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.outgoing.stopped.is_some() || self.incoming.stopped.is_some()
    }

    /// Sums by currency, in order of their numbers.
    pub fn sums(&self) -> impl Iterator<Item = (u16, &Totals)> {
        self.totals.iter().map(|(currency, totals)| (*currency, totals))
    }
}

impl Outgoing {
    /// The running hash to `n`, if it is kept: from *done* on.
    #[must_use]
    pub fn known_hash(&self, n: u64) -> Option<u128> {
        match n.checked_sub(self.done)? {
            0 => Some(self.done_hash),
            at => self.open.get(usize::try_from(at.checked_sub(1)?).ok()?).map(|open| open.hash),
        }
    }
}

impl Channels {
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.held.is_empty()
    }

    fn peer(&mut self, peer: u16) -> &mut Channel {
        self.peers.get_mut(&peer).expect("an event of a channel follows its opening")
    }

    /// How many open payments `account` has.
    pub(crate) fn open_of(&self, account: AccountRef) -> u64 {
        let open = self.peers.values().flat_map(|channel| &channel.outgoing.open);
        open.filter(|open| open.payment.debit == account).fold(0, |count, _| count.saturating_add(1))
    }

    pub(crate) fn opened(&mut self, event: &ChannelOpened) {
        self.peers.entry(event.peer).or_default().incarnation = event.incarnation;
    }

    pub(crate) fn stopped(&mut self, event: &ChannelStopped) {
        let channel = self.peer(event.peer);
        if event.outgoing {
            channel.outgoing.stopped = Some(*event);
        }
        if event.incoming {
            channel.incoming.stopped = Some(*event);
        }
    }

    #[inline]
    pub(crate) fn sent(&mut self, event: &Sent, position: u64) {
        let payment = event.payment();
        let channel = self.peer(payment.credit.branch());
        let outgoing = &mut channel.outgoing;
        assert_eq!(Some(event.n), outgoing.sent.checked_add(1), "numbers are sent without gaps");
        outgoing.sent = event.n;
        outgoing.hash = running_hash(outgoing.hash, event.n, &payment);
        outgoing.open.push_back(Open { payment, position, hash: outgoing.hash });
        channel.totals(payment.currency).sent.add(1, payment.amount);
    }

    #[inline]
    pub(crate) fn received(&mut self, event: &Received) {
        let payment = event.payment();
        let channel = self.peer(payment.debit.branch());
        let incoming = &mut channel.incoming;
        assert_eq!(Some(event.n), incoming.received.checked_add(1), "numbers are received without gaps");
        incoming.received = event.n;
        incoming.hash = running_hash(incoming.hash, event.n, &payment);
        incoming.outcomes.push_back(event.outcome);
        let done = event.n.saturating_sub(u64::from(event.back));
        while incoming.forgotten < done && incoming.outcomes.pop_front().is_some() {
            incoming.forgotten = incoming.forgotten.saturating_add(1);
        }
        let totals = channel.totals(payment.currency);
        let sum = if event.outcome == 0 { &mut totals.received } else { &mut totals.refused };
        sum.add(1, payment.amount);
    }

    pub(crate) fn settled(&mut self, event: &Settled) {
        let channel = self.peer(event.peer);
        let outgoing = &mut channel.outgoing;
        assert_eq!(Some(event.first), outgoing.done.checked_add(1), "payments settle in order");
        let mut sum: u64 = 0;
        while outgoing.done < event.last {
            let open = outgoing.open.pop_front().expect("what settles is open");
            assert_eq!(open.payment.currency, event.currency, "a run settles in one currency");
            sum = sum.checked_add(open.payment.amount).expect("a run's sum fits its record");
            outgoing.done = outgoing.done.saturating_add(1);
            outgoing.done_hash = open.hash;
        }
        assert_eq!(sum, event.amount, "a run settles what was sent");
        let count = event.last.saturating_sub(event.first).saturating_add(1);
        channel.totals(event.currency).settled.add(count, event.amount);
    }

    pub(crate) fn returned(&mut self, event: &Returned) {
        if event.withdrawn {
            return self.withdrawn(event);
        }
        let channel = self.peer(event.moved.debit.branch());
        let outgoing = &mut channel.outgoing;
        assert_eq!(Some(event.n), outgoing.done.checked_add(1), "payments return in order");
        let open = outgoing.open.pop_front().expect("what returns is open");
        assert_eq!(open.payment.id, event.moved.related, "a return names what was sent");
        assert_eq!(open.payment.amount, event.moved.amount, "a return gives back what was sent");
        (outgoing.done, outgoing.done_hash) = (event.n, open.hash);
        channel.totals(event.moved.currency).returned.add(1, event.moved.amount);
    }

    /// The last number is free again.
    fn withdrawn(&mut self, event: &Returned) {
        let channel = self.peer(event.moved.debit.branch());
        let outgoing = &mut channel.outgoing;
        assert_eq!(event.n, outgoing.sent, "the last payment is withdrawn first");
        let open = outgoing.open.pop_back().expect("what is withdrawn is open");
        assert_eq!(open.payment.id, event.moved.related, "a withdrawal names what was sent");
        assert_eq!(open.payment.amount, event.moved.amount, "a withdrawal gives back what was sent");
        outgoing.sent = event.n.saturating_sub(1);
        outgoing.hash = outgoing.open.back().map_or(outgoing.done_hash, |open| open.hash);
        channel.totals(event.moved.currency).sent.take(event.moved.amount);
    }

    pub(crate) fn resuming(&mut self, event: &ChannelResuming) {
        self.peer(event.peer).resuming = true;
    }

    pub(crate) fn resumed(&mut self, event: &ChannelResumed) {
        let channel = self.peer(event.peer);
        channel.incarnation = event.incarnation;
        channel.resuming = false;
        (channel.outgoing.stopped, channel.incoming.stopped) = (None, None);
    }
}
