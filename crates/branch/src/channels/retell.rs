//! What a branch tells another one that has lost a part of its journal: where it stands, and page by page every payment
//! between them that its own journal has and the other's has not.
//!
//! ```text
//! ask (5): from u64 · done u64 · received u64 · wants u8
//! standing (6): heard u32 · sent u64, hash u128 · done u64, hash u128 · received u64, hash u128 · forgotten u64
//! retold (7): from u64 · next u64 · end u8 · count u32 · facts, each its kind u8 and
//!   sent (1): n u64 · payment 84 · tail          settled (2): first u64 · last u64
//!   returned (3): n u64 · outcome u16            received (4): n u64 · outcome u16 · payment 84 · tail
//! tail, of payments that have one: length u32, bytes
//! ```
//!
//! The asker names its place in the teller's journal, so that the teller remembers nothing of it.

use std::ops::ControlFlow;

use skerry_book::channel::{PAYMENT_LENGTH, Standing};
use skerry_book::record;
use skerry_book::record::crossing::kind;
use skerry_book::{Event, Payment};
use skerry_journal::{BatchView, JournalReader, Position, ReadError};
use skerry_ledger::Flags;
use skerry_money::Date;

use super::message::{Cursor, TAIL_MAX, put_count};
use crate::history::RECORD_BYTES;

/// Facts of one page, at most.
const FACTS_MAX: usize = 1_024;
/// Bytes of tails after which a page ends.
const TAILS_MAX: usize = 128 << 10;
/// Bytes of records that are read for one page, at most.
const READ_MAX: usize = 16 << 20;

/// What a branch asks that has stopped and is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The place in the teller's journal from which it has not been told.
    pub from: u64,
    /// What it sent is settled or returned up to here.
    pub done: u64,
    /// It has received all up to here.
    pub received: u64,
    /// Whether it wants to be told payments, not only where the other stands.
    pub wants: bool,
}

/// Where the speaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stands {
    /// The incarnation of the other that it has heard, and that it will not go back behind.
    pub heard: u32,
    /// Where.
    pub standing: Standing,
}

/// A page of what the speaker's journal has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retold {
    /// The place it begins at.
    pub from: u64,
    /// The place of the next page.
    pub next: u64,
    /// Whether that is the end of what is durable.
    pub end: bool,
    /// In order of the journal.
    pub facts: Vec<Fact>,
}

/// One thing that the speaker's journal says of the payments between both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// It sent this.
    Sent {
        /// The number.
        n: u64,
        /// What.
        payment: Payment,
        /// The travelling part of its tail.
        tail: Box<[u8]>,
    },
    /// It was told that these were accepted.
    Settled {
        /// The first number.
        first: u64,
        /// The last.
        last: u64,
    },
    /// It was told that this was refused.
    Returned {
        /// The number.
        n: u64,
        /// Why.
        outcome: u16,
    },
    /// It received this.
    Received {
        /// The number.
        n: u64,
        /// What became of it.
        outcome: u16,
        /// What.
        payment: Payment,
        /// Its tail.
        tail: Box<[u8]>,
    },
}

impl Ask {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for number in [self.from, self.done, self.received] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(u8::from(self.wants));
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let (from, done, received) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        Some(Self { from, done, received, wants: cursor.flag()? })
    }
}

impl Stands {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let Standing { sent, sent_hash, done, done_hash, received, received_hash, forgotten } = self.standing;
        out.extend_from_slice(&self.heard.to_le_bytes());
        for (number, hash) in [(sent, sent_hash), (done, done_hash), (received, received_hash)] {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&hash.to_le_bytes());
        }
        out.extend_from_slice(&forgotten.to_le_bytes());
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let heard = u32::from_le_bytes(cursor.take()?);
        let (sent, sent_hash) = (cursor.u64()?, cursor.u128()?);
        let (done, done_hash) = (cursor.u64()?, cursor.u128()?);
        let (received, received_hash) = (cursor.u64()?, cursor.u128()?);
        let forgotten = cursor.u64()?;
        let standing = Standing { sent, sent_hash, done, done_hash, received, received_hash, forgotten };
        Some(Self { heard, standing })
    }
}

impl Retold {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        out.push(u8::from(self.end));
        put_count(self.facts.len(), out);
        for fact in &self.facts {
            fact.put(out);
        }
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let (from, next, end) = (cursor.u64()?, cursor.u64()?, cursor.flag()?);
        let count = cursor.count(FACTS_MAX)?;
        let facts = (0..count).map(|_| Fact::read(cursor)).collect::<Option<_>>()?;
        (from <= next).then_some(Self { from, next, end, facts })
    }
}

impl Fact {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sent { n, payment, tail } => {
                out.push(1);
                out.extend_from_slice(&n.to_le_bytes());
                put_payment(payment, tail, out);
            }
            Self::Settled { first, last } => {
                out.push(2);
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.to_le_bytes());
            }
            Self::Returned { n, outcome } => {
                out.push(3);
                out.extend_from_slice(&n.to_le_bytes());
                out.extend_from_slice(&outcome.to_le_bytes());
            }
            Self::Received { n, outcome, payment, tail } => {
                out.push(4);
                out.extend_from_slice(&n.to_le_bytes());
                out.extend_from_slice(&outcome.to_le_bytes());
                put_payment(payment, tail, out);
            }
        }
    }

    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let [kind] = cursor.take()?;
        let n = cursor.u64().filter(|n| (1..1 << 48).contains(n))?;
        match kind {
            1 => {
                let (payment, tail) = read_payment(cursor)?;
                Some(Self::Sent { n, payment, tail })
            }
            2 => {
                let last = cursor.u64().filter(|last| (n..1 << 48).contains(last))?;
                Some(Self::Settled { first: n, last })
            }
            3 => {
                let outcome = u16::from_le_bytes(cursor.take()?);
                (outcome != 0).then_some(Self::Returned { n, outcome })
            }
            4 => {
                let outcome = u16::from_le_bytes(cursor.take()?);
                let (payment, tail) = read_payment(cursor)?;
                Some(Self::Received { n, outcome, payment, tail })
            }
            _ => None,
        }
    }
}

fn put_payment(payment: &Payment, tail: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&payment.encode());
    if payment.flags.has(Flags::TAIL) {
        put_count(tail.len(), out);
        out.extend_from_slice(tail);
    }
}

fn read_payment(cursor: &mut Cursor<'_>) -> Option<(Payment, Box<[u8]>)> {
    let payment = Payment::decode(&cursor.take::<PAYMENT_LENGTH>()?)?;
    let length = if payment.flags.has(Flags::TAIL) { cursor.count(TAIL_MAX)? } else { 0 };
    Some((payment, cursor.slice(length)?.into()))
}

/// Reads the next page of what `reader`'s journal has of payments to and from `peer` and the asker has not.
///
/// # Errors
///
/// [`ReadError`]; the archive must be there.
pub(crate) fn page<R: JournalReader>(reader: &R, peer: u16, ask: Ask) -> Result<Retold, ReadError> {
    let end = reader.head().position.0;
    let mut page = Page {
        peer,
        ask,
        retold: Retold { from: ask.from, next: ask.from, ..Retold::default() },
        bytes: 0,
        read: 0,
        failed: None,
    };
    if ask.from < end {
        reader.scan(Position(ask.from), &mut |batch| page.take(&batch))?;
    }
    match page.failed {
        Some(error) => Err(error),
        None => Ok(Retold { end: page.retold.next >= end, ..page.retold }),
    }
}

struct Page {
    peer: u16,
    ask: Ask,
    retold: Retold,
    /// Of tails.
    bytes: usize,
    /// Of records.
    read: usize,
    failed: Option<ReadError>,
}

impl Page {
    fn take(&mut self, batch: &BatchView<'_>) -> ControlFlow<()> {
        let parts = batch.parts();
        let date = Date(batch.header.business_date);
        let records = parts.records.as_chunks::<RECORD_BYTES>().0;
        for (index, (position, bytes)) in (0_u32..).zip((batch.header.first_position..).zip(records)) {
            if position < self.ask.from {
                continue;
            }
            if self.retold.facts.len() >= FACTS_MAX || self.bytes > TAILS_MAX {
                return ControlFlow::Break(());
            }
            let told = matches!(
                u16::from_le_bytes([bytes[0], bytes[1]]),
                kind::SENT..=kind::RETURNED | kind::SENT_AGAIN | kind::RECEIVED_AGAIN
            );
            if told {
                let tail = parts.tails.get(index).unwrap_or_default();
                match record::decode(bytes, tail, date) {
                    Ok(decoded) => self.tell(&decoded.event, tail),
                    Err(error) => tracing::error!(position, "a record cannot be retold: {error}"),
                }
            }
            self.retold.next = position + 1;
        }
        self.read += parts.records.len();
        if self.read > READ_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn tell(&mut self, event: &Event, tail: &[u8]) {
        let Ask { done, received, .. } = self.ask;
        let fact = match event {
            Event::Sent(sent) if sent.moved.credit.branch() == self.peer && sent.n > received => {
                let payment = sent.payment();
                let tail = if payment.flags.has(Flags::TAIL) { super::travelling(tail) } else { Vec::new() };
                Fact::Sent { n: sent.n, payment, tail: tail.into() }
            }
            Event::Settled(run) if run.peer == self.peer && run.last > received => {
                Fact::Settled { first: run.first, last: run.last }
            }
            Event::Returned(back) if back.moved.debit.branch() == self.peer && back.n > received => {
                Fact::Returned { n: back.n, outcome: back.outcome }
            }
            Event::Received(came) if came.moved.debit.branch() == self.peer && came.n > done => {
                let payment = came.payment();
                let tail = if payment.flags.has(Flags::TAIL) { tail } else { &[] };
                Fact::Received { n: came.n, outcome: came.outcome, payment, tail: tail.into() }
            }
            _ => return,
        };
        if let Fact::Sent { tail, .. } | Fact::Received { tail, .. } = &fact {
            self.bytes += tail.len();
        }
        self.retold.facts.push(fact);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn asks() -> Ask {
        Ask { from: 7, done: 3, received: 4, wants: true }
    }

    pub(crate) fn stands() -> Stands {
        let standing = Standing {
            sent: 9,
            sent_hash: 1,
            done: 8,
            done_hash: 2,
            received: 7,
            received_hash: 3,
            forgotten: 6,
        };
        Stands { heard: 2, standing }
    }

    pub(crate) fn retold(tailed: &Payment, plain: &Payment) -> Retold {
        let facts = vec![
            Fact::Sent { n: 5, payment: *tailed, tail: Box::from([1, 2].as_slice()) },
            Fact::Settled { first: 5, last: 6 },
            Fact::Returned { n: 7, outcome: 1081 },
            Fact::Received { n: 4, outcome: 0, payment: *plain, tail: Box::default() },
        ];
        Retold { from: 10, next: 20, end: true, facts }
    }
}
