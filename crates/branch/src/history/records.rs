//! The few fixed offsets of the journal's record that history and the id index read, and where records come from.
//!
//! The record's format belongs to `skerry_book::record`. Decoding whole events would cost more than all
//! the rest of indexing; so this file knows the offsets of the money kinds, and a test holds it to the owner's.

use skerry_book::channel::received_id;
use skerry_book::record;
use skerry_book::record::crossing::kind::{
    HELD_TO_SEND, RECEIVED, RECEIVED_AGAIN, RETURNED, SENT, SENT_AGAIN, WITHDRAWN,
};
use skerry_ledger::{AccountRef, Flags, Moved, TransferId};
use skerry_money::Date;

use super::side::SideError;

/// Bytes of a record without its tail.
pub const RECORD_BYTES: usize = record::RECORD_LENGTH;

/// Where records are read from: the durable part of the journal.
///
/// An implementation must hand out exactly the bytes that are durable at a position, and may be called
/// from any thread.
pub trait Records: Send + Sync {
    /// Reads the records at `positions` (in any order) onto the end of `found`, in the order asked.
    ///
    /// # Errors
    ///
    /// [`SideError::Record`] or [`SideError::Archived`] naming the first position that could not be read.
    fn read(&self, positions: &[u64], found: &mut Vec<[u8; RECORD_BYTES]>) -> Result<(), SideError>;

    /// The header hash of the batch that ends right before `position`; `None` if no durable batch ends there.
    ///
    /// # Errors
    ///
    /// [`SideError::Record`] if the journal could not be read.
    fn head_before(&self, position: u64) -> Result<Option<[u8; 32]>, SideError>;
}

/// Whether a derived file that stands for everything before `end` is the journal's. What lies before `start`, in the
/// archive, can no longer contradict; a file that ends there was held against the journal before it was archived.
///
/// # Errors
///
/// As [`Records::head_before`].
pub(crate) fn agrees(records: &dyn Records, start: u64, end: u64, head: [u8; 32]) -> Result<bool, SideError> {
    Ok(end < start || records.head_before(end)? == Some(head))
}

/// A record's fixed bytes, read in place.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a>(pub(crate) &'a [u8; RECORD_BYTES]);

impl Raw<'_> {
    #[inline]
    fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    #[inline]
    fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    #[inline]
    fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    #[inline]
    fn u128(self, at: usize) -> u128 {
        u128::from_le_bytes(self.0[at..at + 16].try_into().expect("sixteen bytes"))
    }

    #[inline]
    pub(crate) fn kind(self) -> u16 {
        self.u16(0)
    }
    #[inline]
    pub(crate) fn flags(self) -> Flags {
        Flags(self.u32(4))
    }
    #[inline]
    pub(crate) fn id(self) -> TransferId {
        TransferId(self.u128(8))
    }
    #[inline]
    pub(crate) fn debit(self) -> AccountRef {
        AccountRef(self.u64(24))
    }
    #[inline]
    pub(crate) fn credit(self) -> AccountRef {
        AccountRef(self.u64(32))
    }
    #[inline]
    pub(crate) fn amount(self) -> u64 {
        self.u64(40)
    }
    #[inline]
    pub(crate) fn code(self) -> u16 {
        self.u16(58)
    }
    #[inline]
    pub(crate) fn value_date(self) -> i32 {
        self.u32(60) as i32
    }
    #[inline]
    pub(crate) fn reference(self) -> [u8; 16] {
        self.0[64..80].try_into().expect("sixteen bytes")
    }

    fn imported(self) -> bool {
        self.flags().has(Flags::IMPORTED)
    }

    /// The old core's time for an import, else the booking time.
    #[inline]
    pub(crate) fn own_time_us(self) -> u64 {
        if self.imported() { self.u64(80) } else { self.u64(48) }
    }

    /// The accounting date it posted to, in a batch of `batch_date`.
    #[inline]
    pub(crate) fn business_date(self, batch_date: i32) -> i32 {
        if self.imported() { self.u32(108) as i32 } else { batch_date }
    }

    /// What it resolves, reverses or gives back, as the id index knows it.
    #[inline]
    pub(crate) fn related(self) -> Option<TransferId> {
        let related = TransferId(self.u128(80));
        let came = matches!(self.kind(), RECEIVED | RECEIVED_AGAIN);
        if related == TransferId::NONE || !self.is_moved() || self.imported() || came {
            return None;
        }
        // A payment that came from another branch is reversed by one that goes back there.
        let back = matches!(self.kind(), SENT | SENT_AGAIN) && self.flags().has(Flags::REVERSAL);
        Some(if back { received_id(related, self.credit().branch()) } else { related })
    }

    /// Whether it moved, held or released money.
    #[inline]
    pub(crate) fn is_moved(self) -> bool {
        match self.kind() {
            record::kind::POSTED..=record::kind::HOLD_EXPIRED | HELD_TO_SEND | SENT | RETURNED => true,
            SENT_AGAIN | WITHDRAWN => true,
            RECEIVED => self.u16(106) == 0,
            // The payee it was accepted for, or why it was refused.
            RECEIVED_AGAIN => self.u64(96) > u64::from(u16::MAX),
            _ => false,
        }
    }

    /// Under which id the id index knows it: money moved, and refusals that stick. An expiry has none.
    #[inline]
    pub(crate) fn index_id(self) -> Option<TransferId> {
        let id = self.id();
        let known = id != TransferId::NONE && (self.is_moved() || self.kind() == record::kind::REFUSED);
        known.then(|| {
            if matches!(self.kind(), RECEIVED | RECEIVED_AGAIN) {
                received_id(id, self.debit().branch())
            } else {
                id
            }
        })
    }

    /// The whole of it, as the owner of the format reads it; `None` if it is not of a money kind.
    ///
    /// # Errors
    ///
    /// [`SideError::Record`] if it is no record that the book knows.
    pub(crate) fn moved(self, position: u64, batch_date: i32) -> Result<Option<Moved>, SideError> {
        let unread = |error| SideError::Record { position, source: Box::new(error) };
        record::decode_entry(self.0, Date(batch_date)).map_err(unread)
    }
}

/// Whether a money kind moves posted balances.
#[inline]
pub(crate) const fn is_posted(kind: u16) -> bool {
    matches!(
        kind,
        record::kind::POSTED
            | record::kind::HOLD_POSTED
            | SENT
            | RECEIVED
            | RETURNED
            | SENT_AGAIN
            | RECEIVED_AGAIN
            | WITHDRAWN
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skerry_ledger::MovedKind;
    use skerry_money::Currency;

    use super::*;

    const KINDS: [MovedKind; 5] = [
        MovedKind::Posted,
        MovedKind::Held,
        MovedKind::HoldPosted,
        MovedKind::HoldVoided,
        MovedKind::HoldExpired,
    ];

    proptest! {
        #[test]
        fn the_offsets_are_those_of_the_book(
            ids in any::<(u128, u128, u64)>(),
            accounts in any::<(u64, u64, u64)>(),
            dates in any::<(i32, i32, i32)>(),
            imported in any::<bool>(),
            kind in 0..5_usize,
            (code, time_us, reference) in any::<(u16, u64, [u8; 16])>(),
        ) {
            let moved = Moved {
                kind: KINDS[kind],
                id: TransferId(ids.0),
                debit: AccountRef(accounts.0),
                credit: AccountRef(accounts.1),
                amount: accounts.2,
                currency: Currency::from_alpha("CNY").unwrap(),
                code,
                flags: if imported { Flags::IMPORTED } else { Flags(0) },
                reference,
                related: if imported { TransferId::NONE } else { TransferId(ids.1) },
                expires_s: 0,
                time_us,
                business_date: Date(if imported { dates.0 } else { dates.1 }),
                value_date: Date(dates.2),
                imported_us: if imported { ids.2 } else { 0 },
                digest: 0,
            };
            let mut bytes = [0; RECORD_BYTES];
            record::encode_moved(&moved, 0, &mut bytes);
            let raw = Raw(&bytes);
            prop_assert_eq!(raw.moved(0, dates.1).unwrap(), Some(moved));
            prop_assert!(raw.is_moved() && raw.index_id().is_some() == (ids.0 != 0));
            prop_assert_eq!((raw.id(), raw.debit(), raw.credit(), raw.amount()), (moved.id, moved.debit, moved.credit, moved.amount));
            prop_assert_eq!((raw.code(), raw.reference(), raw.flags()), (code, reference, moved.flags));
            prop_assert_eq!(raw.own_time_us(), if imported { ids.2 } else { time_us });
            prop_assert_eq!((Date(raw.business_date(dates.1)), Date(raw.value_date())), (moved.business_date, moved.value_date));
            let related = Some(moved.related).filter(|related| *related != TransferId::NONE);
            prop_assert_eq!(raw.related(), related);
        }
    }
}
