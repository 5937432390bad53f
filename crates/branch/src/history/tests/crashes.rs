//! Power cuts, flipped bits and a journal that says otherwise: answers stay right or the loss is seen.

use proptest::prelude::*;
use skerry_journal::{FaultStorage, Storage};

use super::super::*;
use super::model::*;

fn agrees(bank: &Bank, history: &mut History, ids: &mut crate::ids::Ids) -> Result<(), TestCaseError> {
    bank.feed(history, ids, u64::MAX, true);
    for number in 0..6 {
        let query = Query { kinds: Kinds::All, limit: 7, ..Query::of_account(account(number)) };
        let mut expected = bank.answers(&query);
        expected.reverse();
        prop_assert_eq!(all_pages(&history.handle(), &query), expected);
    }
    let records = bank.memory.records.read().unwrap().clone();
    for (position, record) in (0_u64..).zip(&records) {
        let known = records::Raw(record).index_id().map(|_| position);
        prop_assert_eq!(ids.find(id_at(position)).unwrap(), known);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn after_a_power_cut_at_any_moment_all_is_rebuilt(
        seed: u64,
        batches in batches(),
        operations in 0..60_u64,
    ) {
        let bank = Bank::new(&batches);
        let storage = FaultStorage::new(seed);
        let (mut history, mut ids) = bank.open(&storage);
        storage.lose_power_in(operations);
        let records = bank.memory.records.read().unwrap().concat();
        for (first, date, end) in &bank.fed {
            let bytes = &records[*first as usize * RECORD_BYTES..*end as usize * RECORD_BYTES];
            let batch = DurableBatch { first: *first, business_date: Date(*date), head: bank.head(*end), records: bytes };
            history.feed(batch);
            for (position, record) in (*first..).zip(bytes.as_chunks::<RECORD_BYTES>().0) {
                ids.insert_record(position, record);
            }
            ids.durable(*end, bank.head(*end));
            // Jobs fail when the power is gone; nobody may mind.
            if let Some(work) = history.take_work() {
                let _ = history.finish(work.run());
            }
            if let Some(work) = ids.take_work() {
                let _ = ids.finish(work.run());
            }
        }
        drop((history, ids));
        storage.power_cut();
        let (mut history, mut ids) = bank.open(&storage);
        prop_assert!(history.position() <= bank.dates.len() as u64);
        agrees(&bank, &mut history, &mut ids)?;
    }

    #[test]
    fn what_the_journal_does_not_confirm_is_thrown_away(batches in batches(), from in 0..30_usize) {
        let bank = Bank::new(&batches);
        let storage = FaultStorage::new(1);
        let (mut history, mut ids) = bank.open(&storage);
        bank.feed(&mut history, &mut ids, u64::MAX, true);
        drop((history, ids));
        // The journal lost its end and went on otherwise.
        let mut other = Bank::new(&batches[..from.min(batches.len())]);
        let kept = other.dates.len() as u64;
        let last = other.dates.last().copied().unwrap_or(20_000);
        for (days, said) in batches.iter().rev() {
            let said: Vec<_> = said.iter().rev().cloned().collect();
            other.append(last + days, &said);
        }
        for (end, head) in other.memory.heads.write().unwrap().iter_mut().filter(|(end, _)| **end > kept) {
            head[9] = *end as u8 | 1;
        }
        let (mut history, mut ids) = other.open(&storage);
        prop_assert!(history.position() <= kept && ids.position() <= kept);
        agrees(&other, &mut history, &mut ids)?;
    }

    #[test]
    fn a_flipped_bit_is_never_a_wrong_answer(batches in batches(), at: prop::sample::Index, bit in 0..8_u8) {
        let bank = Bank::new(&batches);
        let storage = FaultStorage::new(1);
        let (mut history, mut ids) = bank.open(&storage);
        bank.feed(&mut history, &mut ids, u64::MAX, true);
        let mut bytes = Vec::new();
        for name in storage.list().unwrap() {
            use skerry_journal::StorageFile;
            let length = storage.open(&name, false).unwrap().length().unwrap();
            bytes.extend((0..length).map(|offset| (name.clone(), offset)));
        }
        prop_assume!(!bytes.is_empty());
        let (name, offset) = &bytes[at.index(bytes.len())];
        storage.flip_bit(name, *offset, bit).unwrap();
        for number in 0..6 {
            let query = Query { kinds: Kinds::All, limit: 1_000, ..Query::of_account(account(number)) };
            match try_pages(&history.handle(), &query) {
                Ok(entries) => {
                    let mut expected = bank.answers(&query);
                    expected.reverse();
                    prop_assert!(entries == expected, "{:?}", query);
                }
                Err(HistoryError::Side(SideError::Damaged { file, .. })) => prop_assert_eq!(&file, name),
                Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }
        // Asked or not, it can be repaired while running …
        history.repair().unwrap();
        bank.feed(&mut history, &mut ids, u64::MAX, true);
        // … and opening sees to the rest.
        drop((history, ids));
        let (mut history, mut ids) = bank.open(&storage);
        let met = (0..bank.dates.len() as u64).find_map(|position| ids.find(id_at(position)).err());
        if met.is_some() {
            (history, ids) = bank.open(&storage);
        }
        agrees(&bank, &mut history, &mut ids)?;
    }
}
