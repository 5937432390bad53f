//! The id index against a plain map: small memtables, many merges, ids in and out of order.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use skerry_journal::FaultStorage;

use super::*;
use crate::history::tests::{Memory, id_at};

const SECRET: [u8; 16] = [5; 16];

/// A journal of plain records whose ids are `ids`, in one batch for every ten.
fn journal(ids: &[TransferId]) -> Arc<Memory> {
    let memory = Memory::default();
    for (position, id) in (1_u64..).zip(ids) {
        let mut record = [0; RECORD_BYTES];
        record[0] = 1;
        record[2] = 1;
        record[8..24].copy_from_slice(&id.0.to_le_bytes());
        memory.records.write().unwrap().push(record);
        memory.heads.write().unwrap().insert(position, [position as u8; 32]);
    }
    Arc::new(memory)
}

fn open(memory: &Arc<Memory>, storage: &FaultStorage, filter_ids_max: u64) -> Ids {
    let records: Arc<dyn Records> = Arc::clone(memory) as _;
    let bounds = IdsConfig {
        memtable_ids: 16,
        in_flight_max: 64,
        merge_fan: 3,
        shared_ids: 150,
        filter_ids_max,
        ..IdsConfig::new(SECRET)
    };
    Ids::open(SideFolder::new(storage.clone()), records, bounds, 0).unwrap()
}

fn work(ids: &mut Ids) {
    while let Some(work) = ids.take_work() {
        ids.finish(work.run()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn it_finds_what_a_map_finds(
        spread in prop::collection::vec(0..5_000_u64, 1..400),
        in_flight in 0..40_usize,
        filter_ids_max in prop::sample::select(vec![0, 50, 1_000_000]),
        working in prop::collection::vec(any::<bool>(), 600),
    ) {
        let unique: std::collections::BTreeSet<u64> = spread.iter().copied().collect();
        let mut order: Vec<u64> = unique.into_iter().collect();
        order.sort_by_key(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let list: Vec<TransferId> = order.into_iter().map(id_at).collect();
        let memory = journal(&list);
        let storage = FaultStorage::new(1);
        let mut ids = open(&memory, &storage, filter_ids_max);
        let reader = ids.reader();
        let mut model = HashMap::new();
        for (position, id) in (0_u64..).zip(&list) {
            ids.warm([*id].into_iter());
            prop_assert_eq!(ids.find(*id).unwrap(), None);
            ids.insert(*id, position);
            model.insert(*id, position);
            let durable = (position + 1).saturating_sub(in_flight as u64);
            if durable > 0 {
                ids.durable(durable, [durable as u8; 32]);
            }
            if working[position as usize] {
                work(&mut ids);
            }
            if ids.must_wait() {
                work(&mut ids);
            }
        }
        for (id, position) in &model {
            prop_assert_eq!(ids.find(*id).unwrap(), Some(*position));
            let durable = *position < reader.position();
            prop_assert_eq!(reader.find(*id).unwrap(), durable.then_some(*position));
        }
        work(&mut ids);
        prop_assert!(ids.stats().runs <= 8, "{:?}", ids.stats());
        let position = ids.position();
        drop(ids);
        let ids = open(&memory, &storage, filter_ids_max);
        prop_assert_eq!(ids.position(), position);
        for (id, position) in model {
            let known = position < ids.position();
            prop_assert_eq!(ids.find(id).unwrap(), known.then_some(position));
        }
    }
}

#[test]
fn a_resolution_is_found_beside_the_id() {
    let memory = journal(&[]);
    let mut ids = open(&memory, &FaultStorage::new(1), 0);
    ids.insert(id_at(1), 10);
    ids.insert_resolution(id_at(1), 20);
    assert_eq!(ids.find(id_at(1)).unwrap(), Some(10));
    assert_eq!(ids.find_resolution(id_at(1)).unwrap(), Some(20));
    assert_eq!(ids.find_resolution(id_at(2)).unwrap(), None);
}

#[test]
fn a_failed_job_is_handed_out_again() {
    let list: Vec<TransferId> = (0..40).map(id_at).collect();
    let memory = journal(&list);
    let storage = FaultStorage::new(1);
    let mut ids = open(&memory, &storage, 100);
    (0_u64..).zip(&list).for_each(|(position, id)| ids.insert(*id, position));
    ids.durable(40, [40; 32]);
    storage.fail_next_sync(0);
    let failed = ids.take_work().unwrap();
    assert!(ids.take_work().is_none(), "one job at a time");
    assert!(ids.finish(failed.run()).is_err());
    work(&mut ids);
    assert_eq!(ids.position(), 40);
    assert_eq!(ids.find(list[7]).unwrap(), Some(7));
}
