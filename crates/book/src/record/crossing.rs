//! The records of payments between branches. Level 2 of the format and later.
//!
//! | kind | event | fields (as in a movement unless said) |
//! |---|---|---|
//! | 7 | held, to be sent | as 2; `credit` is an account of another branch |
//! | 8 | sent | `credit` the payee elsewhere; n: `aux` its low 32 bits, `rejection` the 16 above |
//! | 9 | received | `debit` the payer elsewhere; `digest` n, `aux` how far behind the sender is done, `rejection` the outcome |
//! | 10 | settled | `debit` the peer, `credit` the first n, `digest` the last, `amount` the sum, `currency` |
//! | 11 | returned | `debit` the payee elsewhere, `credit` to whom, `related` the payment, `digest` n, `rejection` why |
//! | 12 | sent, taken back | as 8; `debit` where it was booked, `digest` the payer. Level 4 |
//! | 13 | received, taken back | as 9, but n as in 8; `credit` where it was booked, `digest` the payee, or the outcome if it was refused. Level 4 |
//! | 14 | withdrawn | as 11; the number is free again. Level 4 |
//! | 24 | channel opened | `code` peer, `aux` its incarnation |
//! | 25 | channel stopped | `code` peer, `aux` reason, `currency` sides, `digest` n, `reference` expected, `related` found |
//! | 27 | channel to go on | `code` peer. Level 4 |
//! | 28 | channel goes on | `code` peer, `aux` its incarnation. Level 4 |

use skerry_ledger::{AccountRef, Flags, Moved, MovedKind, Stamp, TransferId};
use skerry_money::{Currency, Date};

use super::{Fields, RecordError};
use crate::event::{
    ChannelOpened, ChannelResumed, ChannelResuming, ChannelStopped, Event, Received, Returned, Sent, Settled,
    StopReason,
};

/// See the table above.
#[expect(missing_docs, reason = "each is the event that it names")]
pub mod kind {
    pub const HELD_TO_SEND: u16 = 7;
    pub const SENT: u16 = 8;
    pub const RECEIVED: u16 = 9;
    pub const SETTLED: u16 = 10;
    pub const RETURNED: u16 = 11;
    pub const SENT_AGAIN: u16 = 12;
    pub const RECEIVED_AGAIN: u16 = 13;
    pub const WITHDRAWN: u16 = 14;
    pub const CHANNEL_OPENED: u16 = 24;
    pub const CHANNEL_STOPPED: u16 = 25;
    pub const CHANNEL_RESUMING: u16 = 27;
    pub const CHANNEL_RESUMED: u16 = 28;
}

/// Whether records of this kind are written by this file.
pub(super) const fn is_crossing(kind: u16) -> bool {
    matches!(
        kind,
        kind::SENT
            ..=kind::WITHDRAWN
                | kind::CHANNEL_OPENED
                | kind::CHANNEL_STOPPED
                | kind::CHANNEL_RESUMING
                | kind::CHANNEL_RESUMED
    )
}

/// Whether records of this kind tell of one payment.
pub(super) const fn is_payment(kind: u16) -> bool {
    matches!(
        kind,
        kind::SENT
            | kind::RECEIVED
            | kind::RETURNED
            | kind::SENT_AGAIN
            | kind::RECEIVED_AGAIN
            | kind::WITHDRAWN
    )
}

/// The fields of `event`, all but version and actor.
///
/// # Panics
///
/// If it is not of a channel.
pub(super) fn encode(event: &Event) -> Fields {
    match event {
        Event::Sent(event) => sent(event),
        Event::Received(event) => received(event),
        Event::Settled(event) => Fields {
            kind: kind::SETTLED,
            debit: u64::from(event.peer),
            credit: event.first,
            digest: event.last,
            amount: event.amount,
            currency: event.currency.number(),
            time_us: event.at.time_us,
            ..Fields::default()
        },
        Event::Returned(event) => Fields {
            kind: if event.withdrawn { kind::WITHDRAWN } else { kind::RETURNED },
            digest: event.n,
            rejection: event.outcome,
            related: event.moved.related.0,
            ..moved(&event.moved)
        },
        Event::ChannelOpened(event) => Fields {
            kind: kind::CHANNEL_OPENED,
            code: event.peer,
            aux: event.incarnation,
            time_us: event.at.time_us,
            ..Fields::default()
        },
        Event::ChannelStopped(event) => Fields {
            kind: kind::CHANNEL_STOPPED,
            code: event.peer,
            aux: u32::from(event.reason.number()),
            currency: u16::from(event.sides()),
            digest: event.n,
            reference: event.expected.to_le_bytes(),
            related: event.found,
            time_us: event.at.time_us,
            ..Fields::default()
        },
        Event::ChannelResuming(event) => Fields {
            kind: kind::CHANNEL_RESUMING,
            code: event.peer,
            time_us: event.at.time_us,
            ..Fields::default()
        },
        Event::ChannelResumed(event) => Fields {
            kind: kind::CHANNEL_RESUMED,
            code: event.peer,
            aux: event.incarnation,
            time_us: event.at.time_us,
            ..Fields::default()
        },
        _ => unreachable!("not an event of a channel"),
    }
}

#[inline]
pub(super) fn sent(event: &Sent) -> Fields {
    let (low, high) = parts(event.n);
    let (kind, digest) = match event.payer {
        None => (kind::SENT, event.moved.digest),
        Some(payer) => (kind::SENT_AGAIN, payer.0),
    };
    Fields { kind, digest, related: event.moved.related.0, rejection: high, aux: low, ..moved(&event.moved) }
}

/// A number's lower 32 bits and the 16 above.
#[inline]
#[expect(clippy::as_conversions, reason = "the two parts of 48 bits")]
fn parts(n: u64) -> (u32, u16) {
    assert!(n >> 48 == 0, "a channel carries less than 2^48 payments");
    (n as u32, (n >> 32) as u16)
}

#[inline]
pub(super) fn received(event: &Received) -> Fields {
    if let Some(payee) = event.payee {
        let (low, high) = parts(event.n);
        let digest = if event.outcome == 0 { payee.0 } else { u64::from(event.outcome) };
        let (kind, related) = (kind::RECEIVED_AGAIN, event.moved.related.0);
        return Fields { kind, digest, related, rejection: high, aux: low, ..moved(&event.moved) };
    }
    Fields {
        kind: kind::RECEIVED,
        digest: event.n,
        related: event.moved.related.0,
        rejection: event.outcome,
        aux: event.back,
        ..moved(&event.moved)
    }
}

/// What all movements have alike.
#[inline]
fn moved(moved: &Moved) -> Fields {
    Fields {
        flags: moved.flags.0,
        id: moved.id.0,
        debit: moved.debit.0,
        credit: moved.credit.0,
        amount: moved.amount,
        time_us: moved.time_us,
        currency: moved.currency.number(),
        code: moved.code,
        value_date: moved.value_date.0,
        reference: moved.reference,
        ..Fields::default()
    }
}

/// Reads what [`encode`] wrote. Bookkeeping's unused fields are the caller's to check.
pub(super) fn decode(fields: &Fields, business_date: Date) -> Result<Event, RecordError> {
    let at = Stamp { time_us: fields.time_us, business_date };
    Ok(match fields.kind {
        kind::SENT | kind::SENT_AGAIN => Event::Sent(read_sent(fields, business_date)?),
        kind::RECEIVED => Event::Received(read_received(fields, business_date)?),
        kind::RECEIVED_AGAIN => Event::Received(read_received_again(fields, business_date)?),
        kind::SETTLED => Event::Settled(Settled {
            at,
            peer: u16::try_from(fields.debit).map_err(|_| wrong(fields, "debit"))?,
            currency: currency(fields)?,
            first: fields.credit,
            last: fields.digest,
            amount: fields.amount,
        }),
        kind::RETURNED | kind::WITHDRAWN => {
            let moved = read_moved(fields, MovedKind::Posted, business_date)?;
            let moved = Moved { digest: 0, ..moved };
            let withdrawn = fields.kind == kind::WITHDRAWN;
            Event::Returned(Returned { moved, n: fields.digest, outcome: fields.rejection, withdrawn })
        }
        kind::CHANNEL_OPENED => {
            Event::ChannelOpened(ChannelOpened { at, peer: fields.code, incarnation: fields.aux })
        }
        kind::CHANNEL_RESUMING => Event::ChannelResuming(ChannelResuming { at, peer: fields.code }),
        kind::CHANNEL_RESUMED => {
            Event::ChannelResumed(ChannelResumed { at, peer: fields.code, incarnation: fields.aux })
        }
        _ => Event::ChannelStopped(read_stopped(fields, at)?),
    })
}

#[inline]
pub(super) fn read_sent(fields: &Fields, business_date: Date) -> Result<Sent, RecordError> {
    let posts = Flags(fields.flags).has(Flags::POST);
    let kind = if posts { MovedKind::HoldPosted } else { MovedKind::Posted };
    let moved = read_moved(fields, kind, business_date)?;
    if fields.kind == kind::SENT {
        return Ok(Sent { moved, n: whole(fields), payer: None });
    }
    let payer = AccountRef(fields.digest);
    if payer.branch() != moved.debit.branch() || kind == MovedKind::HoldPosted {
        return Err(wrong(fields, "payer"));
    }
    Ok(Sent { moved: Moved { digest: 0, ..moved }, n: whole(fields), payer: Some(payer) })
}

/// The number in the two parts.
fn whole(fields: &Fields) -> u64 {
    u64::from(fields.aux) | (u64::from(fields.rejection) << 32)
}

fn read_received_again(fields: &Fields, business_date: Date) -> Result<Received, RecordError> {
    let moved = Moved { digest: 0, ..read_moved(fields, MovedKind::Posted, business_date)? };
    let (payee, outcome) = match u16::try_from(fields.digest) {
        Ok(0) => return Err(wrong(fields, "outcome")),
        Ok(outcome) => (moved.credit, outcome),
        Err(_) => (AccountRef(fields.digest), 0),
    };
    if payee.branch() != moved.credit.branch() {
        return Err(wrong(fields, "payee"));
    }
    Ok(Received { moved, n: whole(fields), back: 0, outcome, payee: Some(payee) })
}

#[inline]
pub(super) fn read_received(fields: &Fields, business_date: Date) -> Result<Received, RecordError> {
    let moved = Moved { digest: 0, ..read_moved(fields, MovedKind::Posted, business_date)? };
    let (n, back, outcome) = (fields.digest, fields.aux, fields.rejection);
    Ok(Received { moved, n, back, outcome, payee: None })
}

fn read_stopped(fields: &Fields, at: Stamp) -> Result<ChannelStopped, RecordError> {
    let reason = u8::try_from(fields.aux).ok().and_then(StopReason::from_number);
    if !(1..=3).contains(&fields.currency) {
        return Err(wrong(fields, "sides"));
    }
    Ok(ChannelStopped {
        at,
        peer: fields.code,
        reason: reason.ok_or_else(|| wrong(fields, "reason"))?,
        outgoing: fields.currency & 1 != 0,
        incoming: fields.currency & 2 != 0,
        n: fields.digest,
        expected: u128::from_le_bytes(fields.reference),
        found: fields.related,
    })
}

#[inline]
fn read_moved(fields: &Fields, kind: MovedKind, business_date: Date) -> Result<Moved, RecordError> {
    let (debit, credit) = (AccountRef(fields.debit), AccountRef(fields.credit));
    if debit.branch() == credit.branch() {
        return Err(wrong(fields, "credit"));
    }
    if Flags(fields.flags).has(Flags::IMPORTED) {
        return Err(wrong(fields, "flags"));
    }
    Ok(Moved {
        kind,
        id: TransferId(fields.id),
        debit,
        credit,
        amount: fields.amount,
        currency: currency(fields)?,
        code: fields.code,
        flags: Flags(fields.flags),
        reference: fields.reference,
        related: TransferId(fields.related),
        expires_s: 0,
        time_us: fields.time_us,
        business_date,
        value_date: Date(fields.value_date),
        imported_us: 0,
        digest: fields.digest,
    })
}

fn currency(fields: &Fields) -> Result<Currency, RecordError> {
    Currency::from_number(fields.currency).ok_or_else(|| wrong(fields, "currency"))
}

const fn wrong(fields: &Fields, field: &'static str) -> RecordError {
    RecordError::Field { kind: fields.kind, field }
}
