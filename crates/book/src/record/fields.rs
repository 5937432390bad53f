//! The fields of a record, before they mean anything.

use super::{RECORD_LENGTH, Record};
use crate::wire::{Filler, Reader, Short};

/// Every field by its name in the layout; zero unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fields {
    pub(crate) kind: u16,
    pub(crate) version: u16,
    pub(crate) flags: u32,
    pub(crate) id: u128,
    pub(crate) debit: u64,
    pub(crate) credit: u64,
    pub(crate) amount: u64,
    pub(crate) time_us: u64,
    pub(crate) currency: u16,
    pub(crate) code: u16,
    pub(crate) value_date: i32,
    pub(crate) reference: [u8; 16],
    pub(crate) related: u128,
    pub(crate) digest: u64,
    pub(crate) actor: u16,
    pub(crate) rejection: u16,
    pub(crate) aux: u32,
}

impl Fields {
    #[inline]
    pub(crate) fn write(&self, record: &mut Record) {
        Filler::new(record)
            .put(self.kind.to_le_bytes())
            .put(self.version.to_le_bytes())
            .put(self.flags.to_le_bytes())
            .put(self.id.to_le_bytes())
            .put(self.debit.to_le_bytes())
            .put(self.credit.to_le_bytes())
            .put(self.amount.to_le_bytes())
            .put(self.time_us.to_le_bytes())
            .put(self.currency.to_le_bytes())
            .put(self.code.to_le_bytes())
            .put(self.value_date.to_le_bytes())
            .put(self.reference)
            .put(self.related.to_le_bytes())
            .put(self.digest.to_le_bytes())
            .put(self.actor.to_le_bytes())
            .put(self.rejection.to_le_bytes())
            .put(self.aux.to_le_bytes())
            .finish();
    }

    #[inline]
    pub(crate) fn read(record: &Record) -> Self {
        Self::take(record).unwrap_or_else(|Short| unreachable!("the layout is {RECORD_LENGTH} bytes"))
    }

    #[inline]
    fn take(record: &Record) -> Result<Self, Short> {
        let mut reader = Reader::new(record);
        Ok(Self {
            kind: reader.u16()?,
            version: reader.u16()?,
            flags: reader.u32()?,
            id: reader.u128()?,
            debit: reader.u64()?,
            credit: reader.u64()?,
            amount: reader.u64()?,
            time_us: reader.u64()?,
            currency: reader.u16()?,
            code: reader.u16()?,
            value_date: reader.i32()?,
            reference: reader.array()?,
            related: reader.u128()?,
            digest: reader.u64()?,
            actor: reader.u16()?,
            rejection: reader.u16()?,
            aux: reader.u32()?,
        })
    }
}
