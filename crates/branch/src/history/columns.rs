//! Transfers of the unsealed part of the journal, in memory, in columns.
//!
//! A chunk is filled row by row, then never changed. While it is filled a question scans the one column it is about:
//! sixteen thousand account references take a few microseconds. When it is full it gets [`Signposts`]; nothing is
//! sorted until a span is sealed.

use std::sync::OnceLock;

use skerry_ledger::AccountRef;

use super::asked::{Query, Side};
use super::mix::Seed;
use super::records::{RECORD_BYTES, Raw, is_posted};
use super::signpost::Signposts;

/// Rows of a full chunk.
pub(crate) const CHUNK_ROWS: usize = if cfg!(test) { 16 } else { 1 << 14 };

/// What a row says besides its accounts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    pub(crate) amount: u64,
    /// The old core's time for an import, else the booking time, in microseconds.
    pub(crate) time_us: u64,
    /// From the first position of the span it will be in.
    pub(crate) offset: u32,
    pub(crate) booked: i32,
    pub(crate) value: i32,
    pub(crate) code: u16,
    pub(crate) posted: bool,
}

/// The least and greatest of what a group of rows can be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone {
    pub(crate) time_us: (u64, u64),
    pub(crate) booked: (i32, i32),
    pub(crate) value: (i32, i32),
}

impl Zone {
    /// The zone of no rows.
    pub(crate) const EMPTY: Self =
        Self { time_us: (u64::MAX, 0), booked: (i32::MAX, i32::MIN), value: (i32::MAX, i32::MIN) };

    pub(crate) fn add(&mut self, row: &Row) {
        self.time_us = (self.time_us.0.min(row.time_us), self.time_us.1.max(row.time_us));
        self.booked = (self.booked.0.min(row.booked), self.booked.1.max(row.booked));
        self.value = (self.value.0.min(row.value), self.value.1.max(row.value));
    }

    /// Bytes of an encoded zone.
    pub(crate) const ENCODED: usize = 32;

    pub(crate) fn encode(&self) -> [u8; Self::ENCODED] {
        let mut bytes = [0; Self::ENCODED];
        bytes[..8].copy_from_slice(&self.time_us.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.time_us.1.to_le_bytes());
        let dates = [self.booked.0, self.booked.1, self.value.0, self.value.1];
        for (into, date) in bytes[16..].chunks_exact_mut(4).zip(dates) {
            into.copy_from_slice(&date.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let i32_at = |at: usize| Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            time_us: (u64_at(0)?, u64_at(8)?),
            booked: (i32_at(16)?, i32_at(20)?),
            value: (i32_at(24)?, i32_at(28)?),
        })
    }

    /// Whether a row in here could answer `query`.
    pub(crate) fn meets(&self, query: &Query) -> bool {
        let date = skerry_money::Date;
        self.time_us.0 <= self.time_us.1
            && query.time_us.meets(self.time_us.0, self.time_us.1)
            && query.business_date.meets(date(self.booked.0), date(self.booked.1))
            && query.value_date.meets(date(self.value.0), date(self.value.1))
    }
}

/// What leads a question to its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    Account(AccountRef),
    Code(u16),
    Reference([u8; 16]),
    All,
}

/// A chunk of rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    pub(crate) debits: Vec<u64>,
    pub(crate) credits: Vec<u64>,
    pub(crate) rows: Vec<Row>,
    /// Hash of the reference, 0 for none.
    pub(crate) references: Vec<u64>,
    /// Set once, when no more rows come.
    signposts: OnceLock<Signposts>,
}

/// Hash of a reference; 0 is the reference that is none.
pub(crate) fn reference_hash(seed: Seed, reference: &[u8; 16]) -> u64 {
    match u128::from_le_bytes(*reference) {
        0 => 0,
        value => seed.hash(value) | 1,
    }
}

impl Columns {
    pub(crate) fn with_room() -> Self {
        Self {
            debits: Vec::with_capacity(CHUNK_ROWS),
            credits: Vec::with_capacity(CHUNK_ROWS),
            rows: Vec::with_capacity(CHUNK_ROWS),
            references: Vec::with_capacity(CHUNK_ROWS),
            signposts: OnceLock::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Memory held, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.capacity() * (size_of::<Row>() + 24) + self.signposts.get().map_or(0, Signposts::bytes)
    }

    /// Adds a record of a money kind.
    #[inline]
    pub(crate) fn push(&mut self, seed: Seed, offset: u32, batch_date: i32, record: &[u8; RECORD_BYTES]) {
        let raw = Raw(record);
        self.debits.push(raw.debit().0);
        self.credits.push(raw.credit().0);
        self.references.push(reference_hash(seed, &raw.reference()));
        self.rows.push(Row {
            amount: raw.amount(),
            time_us: raw.own_time_us(),
            offset,
            booked: raw.business_date(batch_date),
            value: raw.value_date(),
            code: raw.code(),
            posted: is_posted(raw.kind()),
        });
    }

    /// Adds those rows of `others`.
    pub(crate) fn extend(&mut self, others: &Self, rows: std::ops::Range<usize>) {
        self.debits.extend_from_slice(&others.debits[rows.clone()]);
        self.credits.extend_from_slice(&others.credits[rows.clone()]);
        self.references.extend_from_slice(&others.references[rows.clone()]);
        self.rows.extend_from_slice(&others.rows[rows]);
    }

    /// Forgets all rows and keeps their room.
    pub(crate) fn clear(&mut self) {
        self.debits.clear();
        self.credits.clear();
        self.references.clear();
        self.rows.clear();
    }

    /// The side `account` is on in a row, if any.
    pub(crate) fn side(&self, row: usize, account: AccountRef) -> Option<Side> {
        if self.debits[row] == account.0 {
            Some(Side::Debit)
        } else {
            (self.credits[row] == account.0).then_some(Side::Credit)
        }
    }

    /// Puts up its signposts: no more rows come.
    pub(crate) fn finish(&self) {
        self.signposts.get_or_init(|| Signposts::of(self));
    }

    /// The rows that `lead` leads to (for a reference, candidates), in order.
    pub(crate) fn hits(&self, seed: Seed, lead: Lead) -> Vec<u32> {
        let rows = 0..self.len() as u32;
        match (lead, self.signposts.get()) {
            (Lead::Account(account), None) => {
                rows.filter(|row| self.side(*row as usize, account).is_some()).collect()
            }
            (Lead::Account(account), Some(signposts)) => {
                let rows = signposts.account(account.0);
                let mut hits: Vec<u32> =
                    rows.filter(|row| self.side(*row as usize, account).is_some()).collect();
                // Both of a row's accounts may be filed in one bucket.
                hits.dedup();
                hits
            }
            (Lead::Code(code), _) => rows.filter(|row| self.rows[*row as usize].code == code).collect(),
            (Lead::Reference(reference), signposts) => {
                let wanted = reference_hash(seed, &reference);
                let found = |row: &u32| wanted != 0 && self.references[*row as usize] == wanted;
                match signposts {
                    None => rows.filter(found).collect(),
                    Some(signposts) => signposts.reference(wanted).filter(found).collect(),
                }
            }
            (Lead::All, _) => rows.collect(),
        }
    }

    /// Only those rows of a chunk that is still being filled.
    pub(crate) fn only(&self, hits: &[u32]) -> Self {
        let pick = |column: &[u64]| hits.iter().map(|row| column[*row as usize]).collect();
        Self {
            debits: pick(&self.debits),
            credits: pick(&self.credits),
            rows: hits.iter().map(|row| self.rows[*row as usize]).collect(),
            references: pick(&self.references),
            signposts: OnceLock::new(),
        }
    }
}
