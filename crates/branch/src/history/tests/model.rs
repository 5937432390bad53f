//! Records in memory, a history over them, and the naive answers.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use proptest::prelude::*;
use skerry_journal::FaultStorage;
use skerry_ledger::{AccountRef, Flags, TransferId};
use skerry_money::Date;

use super::super::records::{Raw, is_posted};
use super::super::*;
use crate::ids::{Ids, IdsConfig};

pub(super) const BRANCH: u16 = 7;
pub(super) const SECRET: [u8; 16] = [3; 16];
pub(super) const CNY: u16 = 156;

/// A journal in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) records: RwLock<Vec<[u8; RECORD_BYTES]>>,
    pub(crate) heads: RwLock<BTreeMap<u64, [u8; 32]>>,
}

impl Records for Memory {
    fn read(&self, positions: &[u64], found: &mut Vec<[u8; RECORD_BYTES]>) -> Result<(), SideError> {
        let records = self.records.read().unwrap();
        for position in positions {
            let record = records
                .get(*position as usize)
                .ok_or(SideError::Record { position: *position, source: "no such record".into() })?;
            found.push(*record);
        }
        Ok(())
    }

    fn head_before(&self, position: u64) -> Result<Option<[u8; 32]>, SideError> {
        Ok(self.heads.read().unwrap().get(&position).copied())
    }
}

/// What a generated record says.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) kind: u16,
    pub(super) debit: u8,
    pub(super) credit: u8,
    pub(super) amount: u64,
    pub(super) code: u16,
    pub(super) value_date: i32,
    pub(super) reference: u8,
    pub(super) imported: Option<(u64, i32)>,
    pub(super) related: Option<u8>,
}

/// A batch: its date goes up by the first number.
pub(super) type Batch = (i32, Vec<Said>);

pub(super) fn said() -> impl Strategy<Value = Said> {
    let related = prop::option::of(any::<u8>());
    let imported = prop::option::weighted(0.2, (0..50_u64, 0..4_i32));
    // The last is of no money.
    let kinds = (1..8_u16).prop_map(|kind| if kind == 7 { 48 } else { kind });
    let money = (kinds, 0..6_u8, 0..6_u8, 1..60_u64, 0..3_u16, 0..6_i32, 0..4_u8, imported, related);
    money.prop_map(|(kind, debit, credit, amount, code, value_date, reference, imported, related)| Said {
        kind,
        debit,
        credit: if credit == debit { (debit + 1) % 6 } else { credit },
        amount,
        code,
        value_date,
        reference,
        imported,
        related,
    })
}

pub(super) fn batches() -> impl Strategy<Value = Vec<Batch>> {
    prop::collection::vec((0..2_i32, prop::collection::vec(said(), 1..40)), 1..30)
}

/// Four customers and two heads.
pub(super) fn account(number: u8) -> AccountRef {
    match number {
        0..4 => AccountRef::customer(BRANCH, u64::from(number) + 1),
        _ => {
            AccountRef(u64::from(BRANCH) << 48 | 1 << 40 | (1000 + u64::from(number)) << 16 | u64::from(CNY))
        }
    }
}

pub(super) fn reference(number: u8) -> [u8; 16] {
    if number == 0 { [0; 16] } else { [number; 16] }
}

/// Ids are versions 7, spread by position.
pub(crate) fn id_at(position: u64) -> TransferId {
    TransferId(
        u128::from(position / 3) << 80 | 7 << 76 | u128::from(position.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    )
}

pub(super) fn encode(position: u64, said: &Said) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    let flags = if said.imported.is_some() { Flags::IMPORTED } else { Flags(0) };
    put(0, &said.kind.to_le_bytes());
    put(2, &1_u16.to_le_bytes());
    put(4, &flags.0.to_le_bytes());
    put(8, &id_at(position).0.to_le_bytes());
    put(24, &account(said.debit).0.to_le_bytes());
    put(32, &account(said.credit).0.to_le_bytes());
    put(40, &said.amount.to_le_bytes());
    put(48, &(1_000 + position / 5).to_le_bytes());
    put(56, &CNY.to_le_bytes());
    put(58, &said.code.to_le_bytes());
    put(60, &(20_000 + said.value_date).to_le_bytes());
    put(64, &reference(said.reference));
    match (said.imported, said.related) {
        (Some((time_us, date)), _) => {
            put(80, &u128::from(time_us).to_le_bytes());
            put(108, &(19_990 + date).to_le_bytes());
        }
        (None, Some(back)) if said.kind != 1 && position > u64::from(back) => {
            put(80, &id_at(position - 1 - u64::from(back)).0.to_le_bytes());
        }
        _ => (),
    }
    record
}

/// A journal, its naive truth, and what is derived from it.
pub(super) struct Bank {
    pub(super) memory: Arc<Memory>,
    /// Accounting date of the batch of each record.
    pub(super) dates: Vec<i32>,
    pub(super) fed: Vec<(u64, i32, u64)>,
}

impl Bank {
    pub(super) fn new(batches: &[Batch]) -> Self {
        let memory = Arc::new(Memory::default());
        let mut bank = Self { memory, dates: Vec::new(), fed: Vec::new() };
        let mut date = 20_000;
        for (days, said) in batches {
            date += days;
            bank.append(date, said);
        }
        bank
    }

    pub(super) fn append(&mut self, date: i32, said: &[Said]) {
        let mut records = self.memory.records.write().unwrap();
        let first = records.len() as u64;
        for (position, said) in (first..).zip(said) {
            records.push(encode(position, said));
            self.dates.push(date);
        }
        let end = records.len() as u64;
        let mut head = [0; 32];
        head[..8].copy_from_slice(&end.to_le_bytes());
        head[8] = 1;
        self.memory.heads.write().unwrap().insert(end, head);
        self.fed.push((first, date, end));
    }

    pub(super) fn head(&self, end: u64) -> [u8; 32] {
        self.memory.heads.read().unwrap()[&end]
    }

    /// Feeds what is missing up to `end`; every other job is left waiting.
    pub(super) fn feed(&self, history: &mut History, ids: &mut Ids, end: u64, work: bool) {
        let records = self.memory.records.read().unwrap().concat();
        for (first, date, batch_end) in self.fed.iter().filter(|(_, _, batch_end)| *batch_end <= end) {
            let bytes = &records[*first as usize * RECORD_BYTES..*batch_end as usize * RECORD_BYTES];
            if *first >= ids.position() && *first >= ids.reader().position() {
                for (position, record) in (*first..).zip(bytes.as_chunks::<RECORD_BYTES>().0) {
                    ids.insert_record(position, record);
                }
                ids.durable(*batch_end, self.head(*batch_end));
            }
            if *batch_end > history.position() {
                let head = self.head(*batch_end);
                history.feed(DurableBatch {
                    first: *first,
                    business_date: Date(*date),
                    head,
                    records: bytes,
                });
            }
            if work {
                do_work(history, ids);
            }
        }
    }

    pub(super) fn open(&self, storage: &FaultStorage) -> (History, Ids) {
        let records: Arc<dyn Records> = Arc::clone(&self.memory) as _;
        let folder = SideFolder::new(storage.clone());
        let config =
            IdsConfig { memtable_ids: 24, in_flight_max: 500, merge_fan: 3, ..IdsConfig::new(SECRET) };
        let ids = Ids::open(folder.clone(), Arc::clone(&records), config, 0).unwrap();
        let config = HistoryConfig { span_rows: 60, ..HistoryConfig::new(BRANCH, SECRET) };
        let history = History::open(folder, records, ids.reader(), config, 0).unwrap();
        (history, ids)
    }

    /// Everything that answers, oldest first, by looking at every record.
    pub(super) fn answers(&self, query: &Query) -> Vec<Entry> {
        let records = self.memory.records.read().unwrap();
        let mut totals = Totals::default();
        let mut entries = Vec::new();
        for (position, record) in records.iter().enumerate() {
            let raw = Raw(record);
            let Some(moved) = raw.moved(position as u64, self.dates[position]).unwrap() else { continue };
            let side = query.account.and_then(|account| match account {
                _ if account == moved.debit => Some(Side::Debit),
                _ if account == moved.credit => Some(Side::Credit),
                _ => None,
            });
            if let Some(side) = side.filter(|_| is_posted(raw.kind())) {
                totals = totals.plus(Totals::of(side, moved.amount));
            }
            let of_kind = match query.kinds {
                Kinds::Posted => is_posted(raw.kind()),
                Kinds::Holds => raw.kind() != 1,
                Kinds::All => true,
            };
            let own_time = if moved.flags.has(Flags::IMPORTED) { moved.imported_us } else { moved.time_us };
            let answers = of_kind
                && (query.account.is_none()
                    || (side.is_some() && (query.side.is_none() || query.side == side)))
                && query.code.is_none_or(|code| code == moved.code)
                && query.reference.is_none_or(|wanted| wanted == moved.reference && wanted != [0; 16])
                && query.amount.has(moved.amount)
                && query.time_us.has(own_time)
                && query.business_date.has(moved.business_date)
                && query.value_date.has(moved.value_date);
            if answers {
                let totals = query.account.map(|_| totals);
                entries.push(Entry { position: position as u64, moved, side, totals });
            }
        }
        entries
    }
}

pub(super) fn do_work(history: &mut History, ids: &mut Ids) {
    while let Some(work) = history.take_work() {
        history.finish(work.run()).unwrap();
    }
    while let Some(work) = ids.take_work() {
        ids.finish(work.run()).unwrap();
    }
}

/// All pages of a query, one after another.
pub(super) fn all_pages(handle: &HistoryHandle, query: &Query) -> Vec<Entry> {
    try_pages(handle, query).unwrap()
}

/// The same, or the first error met.
pub(super) fn try_pages(handle: &HistoryHandle, query: &Query) -> Result<Vec<Entry>, HistoryError> {
    let mut entries = Vec::new();
    let mut query = *query;
    loop {
        let page = handle.query(&query)?;
        assert!(page.entries.len() <= query.limit.max(1));
        entries.extend(page.entries);
        match page.next {
            None => return Ok(entries),
            next => query.cursor = next,
        }
    }
}
