//! The few fixed offsets of the journal's record that history and the id index read, and where records come from.
//!
//! The record's format belongs to `skerry_book::record`. Decoding whole events would cost more than all
//! the rest of indexing; so this file knows the offsets of the money kinds, and a test holds it to the owner's.

use skerry_ledger::{AccountRef, Flags, Moved, MovedKind, TransferId};
use skerry_money::{Currency, Date};

use super::side::SideError;

/// Bytes of a record without its tail.
pub const RECORD_BYTES: usize = 112;

/// Where records are read from: the durable part of the journal.
///
/// An implementation must hand out exactly the bytes that are durable at a position, and may be called
/// from any thread.
pub trait Records: Send + Sync {
    /// Reads the records at `positions` (in any order) onto the end of `found`, in the order asked.
    ///
    /// # Errors
    ///
    /// [`SideError::Record`] naming the first position that could not be read.
    fn read(&self, positions: &[u64], found: &mut Vec<[u8; RECORD_BYTES]>) -> Result<(), SideError>;

    /// The header hash of the batch that ends right before `position`; `None` if no durable batch ends there.
    ///
    /// # Errors
    ///
    /// [`SideError::Record`] if the journal could not be read.
    fn head_before(&self, position: u64) -> Result<Option<[u8; 32]>, SideError>;
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

    /// What it resolves or reverses.
    #[inline]
    pub(crate) fn related(self) -> Option<TransferId> {
        let related = self.u128(80);
        (related != 0 && self.is_moved() && !self.imported()).then_some(TransferId(related))
    }

    /// Whether it moved, held or released money: kinds 1 to 5.
    #[inline]
    pub(crate) fn is_moved(self) -> bool {
        (1..=5).contains(&self.kind())
    }

    /// Whether its id belongs in the id index: money moved, and refusals that stick.
    #[inline]
    pub(crate) fn has_id(self) -> bool {
        (1..=6).contains(&self.kind())
    }

    /// The whole of it; `None` if it is not of a money kind or names no currency.
    pub(crate) fn moved(self, batch_date: i32) -> Option<Moved> {
        let kind = match self.kind() {
            1 => MovedKind::Posted,
            2 => MovedKind::Held,
            3 => MovedKind::HoldPosted,
            4 => MovedKind::HoldVoided,
            5 => MovedKind::HoldExpired,
            _ => return None,
        };
        let imported = self.imported();
        Some(Moved {
            kind,
            id: self.id(),
            debit: self.debit(),
            credit: self.credit(),
            amount: self.amount(),
            currency: Currency::from_number(self.u16(56))?,
            code: self.code(),
            flags: self.flags(),
            reference: self.reference(),
            related: if imported { TransferId::NONE } else { TransferId(self.u128(80)) },
            expires_s: if kind == MovedKind::Held { self.u32(108) } else { 0 },
            time_us: self.u64(48),
            business_date: Date(self.business_date(batch_date)),
            value_date: Date(self.value_date()),
            imported_us: if imported { self.u64(80) } else { 0 },
            digest: self.u64(96),
        })
    }
}

/// Whether a money kind moves posted balances.
#[inline]
pub(crate) const fn is_posted(kind: u16) -> bool {
    kind == 1 || kind == 3
}
