//! What the fault storage promises, and that each of its faults happens.

use super::*;

fn count(storage: &FaultStorage, kind: FaultKind) -> u64 {
    storage.counts().into_iter().find(|(other, _)| *other == kind).unwrap().1
}

fn content(storage: &FaultStorage, name: &str) -> Vec<u8> {
    crate::storage::read_whole(storage, name).unwrap()
}

#[test]
fn what_was_synced_survives_every_cut() {
    for seed in 0..200 {
        let storage = FaultStorage::new(seed);
        let file = storage.create("a").unwrap();
        file.write_at(0, &[7; 5000]).unwrap();
        file.sync_data().unwrap();
        storage.sync_dir().unwrap();
        file.write_at(5000, &[8; 5000]).unwrap();
        storage.power_cut();
        assert!(file.sync_data().is_err(), "a file from before the cut is dead");
        let found = content(&storage, "a");
        assert_eq!(found[..5000], [7; 5000], "seed {seed}");
        storage.power_cut();
        assert_eq!(content(&storage, "a"), found, "a second cut changes nothing, seed {seed}");
    }
}

#[test]
fn what_was_not_synced_may_be_lost_kept_or_torn() {
    let (mut kept, mut lost, mut torn, mut entries) = (0, 0, 0, 0);
    for seed in 0..200 {
        let storage = FaultStorage::new(seed);
        let file = storage.create("a").unwrap();
        storage.create("b").unwrap();
        file.reserve(4096).unwrap();
        file.sync_data().unwrap();
        file.write_at(0, &[7; 4096]).unwrap();
        storage.power_cut();
        entries += count(&storage, FaultKind::LostEntry);
        if storage.list().unwrap().contains(&"a".to_owned()) {
            let ones = content(&storage, "a").iter().filter(|byte| **byte == 7).count();
            match ones {
                4096 => kept += 1,
                0 => lost += 1,
                _ => torn += 1,
            }
        }
    }
    assert!(kept > 5 && lost > 5 && torn > 5 && entries > 50, "{kept} {lost} {torn} {entries}");
}

#[test]
fn after_a_failed_sync_a_later_one_brings_nothing_back() {
    let mut lost = 0;
    for seed in 0..50 {
        let storage = FaultStorage::new(seed);
        let file = storage.create("a").unwrap();
        storage.sync_dir().unwrap();
        file.reserve(8192).unwrap();
        file.sync_data().unwrap();
        file.write_at(0, &[7; 8192]).unwrap();
        storage.fail_next_sync(0);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(content(&storage, "a"), [7; 8192], "the cache still shows it");
        storage.power_cut();
        lost += u64::from(content(&storage, "a") != [7; 8192]);
    }
    assert!(lost > 40, "the platter has holes: {lost}");
}

#[test]
fn a_name_leads_to_the_file_that_was_given_it_or_to_none() {
    for seed in 0..200 {
        let disk = FaultStorage::new(seed);
        disk.create("draft").unwrap();
        disk.sync_dir().unwrap();
        disk.remove("draft").unwrap();
        let whole = disk.create("draft").unwrap();
        whole.write_at(0, b"whole").unwrap();
        whole.sync_data().unwrap();
        disk.rename("draft", "done").unwrap();
        disk.power_cut();
        // Where the renaming is kept and the making is not, the old draft must not come under the new name.
        if let Ok(done) = disk.open("done", false) {
            assert_eq!(done.length().unwrap(), 5, "seed {seed}");
        }
    }
}

#[test]
fn a_full_disk_and_a_read_only_one_refuse_by_name() {
    let storage = FaultStorage::new(1);
    let file = storage.create("a").unwrap();
    storage.set_capacity(Some(1000));
    assert_eq!(file.reserve(1001).unwrap_err().kind, StorageErrorKind::Full);
    file.write_at(0, &[1; 1000]).unwrap();
    assert_eq!(file.write_at(1000, &[1]).unwrap_err().kind, StorageErrorKind::Full);
    storage.set_read_only(true);
    assert_eq!(file.write_at(0, &[1]).unwrap_err().kind, StorageErrorKind::ReadOnly);
    assert_eq!(storage.create("b").unwrap_err().kind, StorageErrorKind::ReadOnly);
    assert!(count(&storage, FaultKind::DiskFull) == 2 && count(&storage, FaultKind::ReadOnly) == 2);
}

#[test]
fn same_seed_same_faults() {
    let run = |seed| {
        let storage = FaultStorage::new(seed);
        storage.set_plan(FaultPlan {
            failed_write_ppm: 100_000,
            short_write_ppm: 100_000,
            failed_sync_ppm: 100_000,
            slow_sync_ppm: 100_000,
            slow_sync_us_max: 1000,
            failed_read_ppm: 100_000,
        });
        let file = storage.create("a").unwrap();
        for step in 0..200_u64 {
            let _ = file.write_at(step * 100, &[1; 300]);
            let _ = file.sync_data();
            let _ = file.read_at(0, &mut [0; 10]);
        }
        storage.set_plan(FaultPlan::default());
        let _ = storage.sync_dir();
        storage.power_cut();
        (storage.counts(), content(&storage, "a"), storage.take_delay_us())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
    for kind in [FaultKind::FailedWrite, FaultKind::ShortWrite, FaultKind::FailedSync, FaultKind::SlowSync] {
        assert!(run(5).0.contains(&(kind, run(5).0.iter().find(|(k, _)| *k == kind).unwrap().1)));
        assert!(run(5).0.iter().find(|(k, _)| *k == kind).unwrap().1 > 0, "{kind:?} never happened");
    }
}

#[test]
fn a_lock_is_held_once_and_ends_with_its_owner() {
    let storage = FaultStorage::new(1);
    let held = storage.lock().unwrap();
    assert_eq!(storage.clone().lock().unwrap_err().kind, StorageErrorKind::Locked);
    assert!(storage.folder("other").unwrap().lock().is_ok());
    drop(held);
    let held = storage.lock().unwrap();
    storage.power_cut();
    let again = storage.lock().unwrap();
    drop(held);
    assert_eq!(storage.lock().unwrap_err().kind, StorageErrorKind::Locked, "an old owner frees no new lock");
    drop(again);
}
