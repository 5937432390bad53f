//! The journal's records: 112 bytes each, little-endian, laid by hand; some have a tail.
//!
//! ```text
//!  0 u16 kind        16 u64 id, low       48 u64 time, µs      64 [16] reference   104 u16 actor
//!  2 u16 version        (u128 from 8)     56 u16 currency      80 u128 related     106 u16 rejection
//!  4 u32 flags       24 u64 debit         58 u16 code          96 u64 digest       108 u32 aux
//!  8 u128 id         32 u64 credit        60 i32 value date
//!                    40 u64 amount
//! ```
//!
//! Money uses the fields by their names, between branches as [`crossing`] says. Other events use them as
//! [`bookkeeping`] says, with what does not fit in the tail, and leave the rest zero. The business date is that of the batch, for an import that in `aux`.
//!
//! # Invariants
//!
//! - **R1, one reading**: every event has exactly one form; a record of any other form is an error.
//! - **R2, nothing skipped**: an unknown kind, version or flag is an error that stops opening.
//! - **R3, for ever**: what version 1 means never changes; a new meaning is a new version or kind.
//!
//! This module refuses to know where records lie and what they do.

pub mod bookkeeping;
pub mod crossing;
mod fields;
mod tail;

use alloc::vec::Vec;

use skerry_ledger::{AccountRef, Flags, Moved, MovedKind, Stamp, TransferId};
use skerry_money::{Currency, Date};

use crate::event::{Event, Received, Refused, Returned, Sent};
pub(crate) use fields::Fields;
pub use tail::{TransferTail, TransferTailRef};

/// Bytes of a record without its tail.
pub const RECORD_LENGTH: usize = 112;

/// A record without its tail.
pub type Record = [u8; RECORD_LENGTH];

/// The version of every kind that this release writes.
pub const VERSION: u16 = 1;

/// The flag of a record that has a tail.
pub(crate) const TAIL_FLAG: u32 = Flags::TAIL.0;

/// The kinds of records. Numbers are never reused.
pub mod kind {
    /// [`MovedKind::Posted`](skerry_ledger::MovedKind::Posted).
    pub const POSTED: u16 = 1;
    /// [`MovedKind::Held`](skerry_ledger::MovedKind::Held).
    pub const HELD: u16 = 2;
    /// [`MovedKind::HoldPosted`](skerry_ledger::MovedKind::HoldPosted).
    pub const HOLD_POSTED: u16 = 3;
    /// [`MovedKind::HoldVoided`](skerry_ledger::MovedKind::HoldVoided).
    pub const HOLD_VOIDED: u16 = 4;
    /// [`MovedKind::HoldExpired`](skerry_ledger::MovedKind::HoldExpired).
    pub const HOLD_EXPIRED: u16 = 5;
    /// [`Event::Refused`](crate::Event::Refused).
    pub const REFUSED: u16 = 6;
}

/// A record that cannot be read. Opening stops here: skipping it would fork the bank's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A kind or version of a later release.
    #[error("could not read a record of kind {kind}, version {version}: this release does not know it")]
    Unknown {
        /// Its kind.
        kind: u16,
        /// Its version.
        version: u16,
    },
    /// A field holds what this kind never writes.
    #[error("could not read a record of kind {kind}: its {field} is not what is written there")]
    Field {
        /// Its kind.
        kind: u16,
        /// Where.
        field: &'static str,
    },
    /// The tail is missing, cut short, too long, or there without being announced.
    #[error("could not read a record of kind {kind}: its tail does not fit")]
    Tail {
        /// Its kind.
        kind: u16,
    },
}

/// An event as read, with the index of its actor in the batch's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// What happened.
    pub event: Event,
    /// By whom.
    pub actor: u16,
}

/// Writes `event`. What does not fit is appended to `tail`; a record with such a part says so in its flags.
///
/// The tail of a transfer is not known here: the caller sets [`Flags::TAIL`] in the [`Moved`] and appends a
/// [`TransferTail`] itself.
pub fn encode(event: &Event, actor: u16, record: &mut Record, tail: &mut Vec<u8>) {
    match event {
        Event::Moved(moved) => encode_moved(moved, actor, record),
        Event::Refused(refused) => encode_refused(refused, actor, record),
        Event::Sent(_)
        | Event::Received(_)
        | Event::Settled(_)
        | Event::Returned(_)
        | Event::ChannelOpened(_)
        | Event::ChannelStopped(_)
        | Event::ChannelResuming(_)
        | Event::ChannelResumed(_) => {
            Fields { version: VERSION, actor, ..crossing::encode(event) }.write(record);
        }
        other => {
            let start = tail.len();
            let mut fields = bookkeeping::encode(other, tail);
            if tail.len() > start {
                fields.flags |= TAIL_FLAG;
            }
            Fields { version: VERSION, actor, ..fields }.write(record);
        }
    }
}

/// Reads a record of a batch with `business_date`, and checks its tail (empty if it has none).
///
/// # Errors
///
/// [`RecordError`], for anything that [`encode`] does not write.
pub fn decode(record: &Record, tail: &[u8], business_date: Date) -> Result<Decoded, RecordError> {
    let fields = Fields::read(record);
    let decoded = |event| Decoded { event, actor: fields.actor };
    if fields.version != VERSION {
        return Err(RecordError::Unknown { kind: fields.kind, version: fields.version });
    }
    if (fields.flags & TAIL_FLAG != 0) == tail.is_empty() {
        return Err(RecordError::Tail { kind: fields.kind });
    }
    if let Some(kind) = moved_kind(fields.kind) {
        if !tail.is_empty() {
            TransferTailRef::decode(tail).ok_or(RecordError::Tail { kind: fields.kind })?;
        }
        return moved(kind, &fields, business_date).map(|moved| decoded(Event::Moved(moved)));
    }
    if fields.kind == kind::REFUSED {
        return refused(&fields, tail, business_date).map(|refused| decoded(Event::Refused(refused)));
    }
    if crossing::is_crossing(fields.kind) {
        let event = crossing::decode(&fields, business_date)?;
        let travels = matches!(event, Event::Sent(_) | Event::Received(_));
        let fits = tail.is_empty() || (travels && TransferTailRef::decode(tail).is_some());
        if !fits {
            return Err(RecordError::Tail { kind: fields.kind });
        }
        check_canonical(&event, &fields, record, &[])?;
        return Ok(decoded(event));
    }
    let event = bookkeeping::decode(&fields, tail, business_date)?;
    check_canonical(&event, &fields, record, tail)?;
    Ok(decoded(event))
}

/// Rewrites what was read: a bit in a field that its kind leaves zero must not pass unseen.
fn check_canonical(event: &Event, fields: &Fields, record: &Record, tail: &[u8]) -> Result<(), RecordError> {
    let (mut again, mut again_tail) = ([0; RECORD_LENGTH], Vec::new());
    encode(event, fields.actor, &mut again, &mut again_tail);
    if again != *record {
        return Err(RecordError::Field { kind: fields.kind, field: "unused part" });
    }
    if again_tail == tail { Ok(()) } else { Err(RecordError::Tail { kind: fields.kind }) }
}

/// Writes a movement of money: the hot path of every transfer. Allocates nothing.
#[inline]
pub fn encode_moved(moved: &Moved, actor: u16, record: &mut Record) {
    let imported = moved.flags.has(Flags::IMPORTED);
    let kind = match moved.kind {
        MovedKind::Posted => kind::POSTED,
        MovedKind::Held if moved.debit.branch() != moved.credit.branch() => crossing::kind::HELD_TO_SEND,
        MovedKind::Held => kind::HELD,
        MovedKind::HoldPosted => kind::HOLD_POSTED,
        MovedKind::HoldVoided => kind::HOLD_VOIDED,
        MovedKind::HoldExpired => kind::HOLD_EXPIRED,
    };
    Fields {
        kind,
        version: VERSION,
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
        related: if imported { u128::from(moved.imported_us) } else { moved.related.0 },
        digest: moved.digest,
        actor,
        rejection: 0,
        aux: if imported { moved.business_date.0.cast_unsigned() } else { moved.expires_s },
    }
    .write(record);
}

#[inline]
const fn moved_kind(kind: u16) -> Option<MovedKind> {
    match kind {
        kind::POSTED => Some(MovedKind::Posted),
        kind::HELD => Some(MovedKind::Held),
        kind::HOLD_POSTED => Some(MovedKind::HoldPosted),
        kind::HOLD_VOIDED => Some(MovedKind::HoldVoided),
        kind::HOLD_EXPIRED => Some(MovedKind::HoldExpired),
        crossing::kind::HELD_TO_SEND => Some(MovedKind::Held),
        _ => None,
    }
}

/// Writes a payment that leaves: a part of the hot path. Allocates nothing.
#[inline]
pub fn encode_sent(sent: &Sent, actor: u16, record: &mut Record) {
    Fields { version: VERSION, actor, ..crossing::sent(sent) }.write(record);
}

/// Writes a payment that arrives: a part of the hot path. Allocates nothing.
#[inline]
pub fn encode_received(received: &Received, actor: u16, record: &mut Record) {
    Fields { version: VERSION, actor, ..crossing::received(received) }.write(record);
}

/// Reads a movement of money; `None` if the record is of another kind. For replay and history, which meet little
/// else. The tail is not looked at.
///
/// # Errors
///
/// As [`decode`].
#[inline]
pub fn decode_moved(record: &Record, business_date: Date) -> Result<Option<Moved>, RecordError> {
    let fields = Fields::read(record);
    let Some(kind) = moved_kind(fields.kind) else { return Ok(None) };
    if fields.version != VERSION {
        return Err(RecordError::Unknown { kind: fields.kind, version: fields.version });
    }
    moved(kind, &fields, business_date).map(Some)
}

/// Reads a movement of money, or a payment of a channel that moved money: sent, received and accepted, or returned. For
/// history; such a movement names an account of another branch.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_entry(record: &Record, business_date: Date) -> Result<Option<Moved>, RecordError> {
    let fields = Fields::read(record);
    if !crossing::is_payment(fields.kind) {
        return decode_moved(record, business_date);
    }
    if fields.version != VERSION {
        return Err(RecordError::Unknown { kind: fields.kind, version: fields.version });
    }
    Ok(match crossing::decode(&fields, business_date)? {
        Event::Sent(Sent { moved, .. })
        | Event::Received(Received { moved, outcome: 0, .. })
        | Event::Returned(Returned { moved, .. }) => Some(moved),
        _ => None,
    })
}

#[inline]
fn moved(kind: MovedKind, fields: &Fields, business_date: Date) -> Result<Moved, RecordError> {
    let wrong = |field| RecordError::Field { kind: fields.kind, field };
    let currency = Currency::from_number(fields.currency).ok_or_else(|| wrong("currency"))?;
    let flags = Flags(fields.flags);
    let (business_date, imported_us, related, expires_s) = if flags.has(Flags::IMPORTED) {
        let time_us = u64::try_from(fields.related).map_err(|_| wrong("imported time"))?;
        (Date(fields.aux.cast_signed()), time_us, TransferId::NONE, 0)
    } else {
        (business_date, 0, TransferId(fields.related), fields.aux)
    };
    if fields.rejection != 0 {
        return Err(wrong("rejection"));
    }
    let leaves = (fields.debit ^ fields.credit) >> 48 != 0;
    if kind == MovedKind::Held && leaves != (fields.kind == crossing::kind::HELD_TO_SEND) {
        return Err(wrong("credit"));
    }
    if expires_s != 0 && !matches!(kind, MovedKind::Held | MovedKind::HoldExpired) {
        return Err(wrong("aux"));
    }
    Ok(Moved {
        kind,
        id: TransferId(fields.id),
        debit: AccountRef(fields.debit),
        credit: AccountRef(fields.credit),
        amount: fields.amount,
        currency,
        code: fields.code,
        flags,
        reference: fields.reference,
        related,
        expires_s,
        time_us: fields.time_us,
        business_date,
        value_date: Date(fields.value_date),
        imported_us,
        digest: fields.digest,
    })
}

fn encode_refused(refused: &Refused, actor: u16, record: &mut Record) {
    Fields {
        kind: kind::REFUSED,
        version: VERSION,
        flags: refused.flags & !TAIL_FLAG,
        id: refused.id.0,
        debit: refused.debit.0,
        credit: refused.credit.0,
        amount: refused.need,
        time_us: refused.at.time_us,
        code: refused.transfer_code,
        reference: refused.reference,
        related: refused.have.cast_unsigned(),
        digest: refused.digest,
        actor,
        rejection: refused.code,
        ..Fields::default()
    }
    .write(record);
}

fn refused(fields: &Fields, tail: &[u8], business_date: Date) -> Result<Refused, RecordError> {
    let wrong = |field| RecordError::Field { kind: fields.kind, field };
    if !tail.is_empty() {
        return Err(RecordError::Tail { kind: fields.kind });
    }
    if fields.currency != 0 || fields.value_date != 0 || fields.aux != 0 {
        return Err(wrong("unused part"));
    }
    if fields.rejection == 0 {
        return Err(wrong("rejection"));
    }
    Ok(Refused {
        at: Stamp { time_us: fields.time_us, business_date },
        id: TransferId(fields.id),
        debit: AccountRef(fields.debit),
        credit: AccountRef(fields.credit),
        code: fields.rejection,
        have: fields.related.cast_signed(),
        need: fields.amount,
        transfer_code: fields.code,
        flags: fields.flags,
        reference: fields.reference,
        digest: fields.digest,
    })
}
