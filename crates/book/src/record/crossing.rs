//! The records of payments between branches. Level 2 of the format and later.
//!
//! | kind | event | fields (as in a movement unless said) |
//! |---|---|---|
//! | 7 | held, to be sent | as 2; `credit` is an account of another branch |
//! | 8 | sent | `credit` the payee elsewhere; n: `aux` its low 32 bits, `rejection` the 16 above |
//! | 9 | received | `debit` the payer elsewhere; `digest` n, `aux` how far behind the sender is done, `rejection` the outcome |
//! | 10 | settled | `debit` the peer, `credit` the first n, `digest` the last, `amount` the sum, `currency` |
//! | 11 | returned | `debit` the payee elsewhere, `credit` to whom, `related` the payment, `digest` n, `rejection` why |
//! | 24 | channel opened | `code` peer, `aux` its incarnation |
//! | 25 | channel stopped | `code` peer, `aux` reason, `currency` sides, `digest` n, `reference` expected, `related` found |

use skerry_ledger::{AccountRef, Flags, Moved, MovedKind, Stamp, TransferId};
use skerry_money::{Currency, Date};

use super::{Fields, RecordError};
use crate::event::{ChannelOpened, ChannelStopped, Event, Received, Returned, Sent, Settled, StopReason};

/// See the table above.
#[expect(missing_docs, reason = "each is the event that it names")]
pub mod kind {
    pub const HELD_TO_SEND: u16 = 7;
    pub const SENT: u16 = 8;
    pub const RECEIVED: u16 = 9;
    pub const SETTLED: u16 = 10;
    pub const RETURNED: u16 = 11;
    pub const CHANNEL_OPENED: u16 = 24;
    pub const CHANNEL_STOPPED: u16 = 25;
}

/// Whether records of this kind are written by this file.
pub(super) const fn is_crossing(kind: u16) -> bool {
    matches!(kind, kind::SENT..=kind::RETURNED | kind::CHANNEL_OPENED | kind::CHANNEL_STOPPED)
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
            kind: kind::RETURNED,
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
        _ => unreachable!("not an event of a channel"),
    }
}

#[inline]
pub(super) fn sent(event: &Sent) -> Fields {
    #[expect(clippy::as_conversions, reason = "the two parts of 48 bits")]
    let (low, high) = (event.n as u32, (event.n >> 32) as u16);
    assert!(event.n >> 48 == 0, "a channel carries less than 2^48 payments");
    Fields {
        kind: kind::SENT,
        digest: event.moved.digest,
        related: event.moved.related.0,
        rejection: high,
        aux: low,
        ..moved(&event.moved)
    }
}

#[inline]
pub(super) fn received(event: &Received) -> Fields {
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
        kind::SENT => Event::Sent(read_sent(fields, business_date)?),
        kind::RECEIVED => Event::Received(read_received(fields, business_date)?),
        kind::SETTLED => Event::Settled(Settled {
            at,
            peer: u16::try_from(fields.debit).map_err(|_| wrong(fields, "debit"))?,
            currency: currency(fields)?,
            first: fields.credit,
            last: fields.digest,
            amount: fields.amount,
        }),
        kind::RETURNED => {
            let moved = read_moved(fields, MovedKind::Posted, business_date)?;
            let moved = Moved { digest: 0, ..moved };
            Event::Returned(Returned { moved, n: fields.digest, outcome: fields.rejection })
        }
        kind::CHANNEL_OPENED => {
            Event::ChannelOpened(ChannelOpened { at, peer: fields.code, incarnation: fields.aux })
        }
        _ => Event::ChannelStopped(read_stopped(fields, at)?),
    })
}

#[inline]
pub(super) fn read_sent(fields: &Fields, business_date: Date) -> Result<Sent, RecordError> {
    let posts = Flags(fields.flags).has(Flags::POST);
    let kind = if posts { MovedKind::HoldPosted } else { MovedKind::Posted };
    let n = u64::from(fields.aux) | (u64::from(fields.rejection) << 32);
    Ok(Sent { moved: read_moved(fields, kind, business_date)?, n })
}

#[inline]
pub(super) fn read_received(fields: &Fields, business_date: Date) -> Result<Received, RecordError> {
    let moved = Moved { digest: 0, ..read_moved(fields, MovedKind::Posted, business_date)? };
    Ok(Received { moved, n: fields.digest, back: fields.aux, outcome: fields.rejection })
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
