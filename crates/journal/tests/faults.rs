//! What an operator can meet, each with its own error that names the file and the place, and nothing told lost.

#![expect(clippy::unwrap_used, reason = "the setting for tests does not reach their helpers")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/folder.rs"]
mod folder;

use std::ops::ControlFlow;

use common::small;
use folder::{TestFolder, store};
use skerry_journal::contract::{BRANCH, append_all, sample_batch, settle};
use skerry_journal::{
    AppendErrorKind, AppendFault, AppendFaultKind, DamageKind, FaultStorage, Head, Journal, JournalReader,
    JournalStore, LocalJournal, LocalOptions, LocalReader, Mode, OpenError, Position, ReadError, SealedBatch,
    Storage, StorageErrorKind, StorageFile, export, verify,
};

const STEPPED: LocalOptions = small(Mode::Stepped);

/// A journal with some batches, left without closing: its last segment is open.
fn left_open(storage: &FaultStorage, counts: &[u32]) -> Vec<SealedBatch> {
    let mut journal = LocalJournal::open(storage, STEPPED).unwrap().journal;
    append_all(&mut journal, counts)
}

fn files(storage: &FaultStorage, ending: &str) -> Vec<String> {
    storage.list().unwrap().into_iter().filter(|name| name.ends_with(ending)).collect()
}

fn damage(storage: &FaultStorage) -> skerry_journal::Damage {
    match LocalJournal::open(storage, STEPPED) {
        Err(OpenError::Damaged(damage)) => damage,
        Err(other) => panic!("refused otherwise: {other}"),
        Ok(_) => panic!("a damaged journal opened"),
    }
}

fn one_fault(journal: &mut LocalJournal<FaultStorage>) -> AppendFault {
    let batch = sample_batch(BRANCH, journal.epoch(), &journal.taken(), 5, 9);
    journal.append(batch).unwrap();
    settle(journal).pop().unwrap().unwrap_err()
}

#[test]
fn a_full_disk_stops_the_journal_and_loses_nothing() {
    let storage = FaultStorage::new(1);
    let mut journal = LocalJournal::open(&storage, STEPPED).unwrap().journal;
    storage.set_capacity(Some(150_000));
    let fault = loop {
        let batch = sample_batch(BRANCH, journal.epoch(), &journal.taken(), 50, 9);
        journal.append(batch).unwrap();
        if let Some(Err(fault)) = settle(&mut journal).pop() {
            break fault;
        }
    };
    assert_eq!(fault.kind, AppendFaultKind::Full);
    assert!(fault.to_string().contains("the disk is full"), "{fault}");
    assert!(fault.source.unwrap().to_string().contains("seg-"), "names the file");
    let head = journal.head();
    assert_eq!(head.batch, fault.batch);
    let batch = sample_batch(BRANCH, journal.epoch(), &head, 1, 9);
    assert_eq!(journal.append(batch).unwrap_err().0, AppendErrorKind::Stopped);
    drop(journal);

    match LocalJournal::open(&storage, STEPPED) {
        Err(OpenError::Full { place, source }) => {
            assert!(place.starts_with("memory:") && source.to_string().contains("seg-"), "{source}");
        }
        // Closing in on the limit, the copy of the last segment may fit.
        Ok(opened) => assert_eq!(opened.recovery.head, head),
        Err(other) => panic!("refused otherwise: {other}"),
    }
    storage.set_capacity(None);
    let mut opened = LocalJournal::open(&storage, STEPPED).unwrap();
    assert_eq!(opened.recovery.head, head, "all that was told is there");
    append_all(&mut opened.journal, &[50]);
}

#[test]
fn a_read_only_disk_is_said_so_and_can_be_read() {
    let storage = FaultStorage::new(1);
    let batches = left_open(&storage, &[10, 10]);
    storage.set_read_only(true);
    let error = LocalJournal::open(&storage, STEPPED).unwrap_err();
    assert!(matches!(&error, OpenError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("memory:/ cannot be opened: the folder is read-only"), "{error}");
    let reader = LocalReader::open_existing(&storage, BRANCH).unwrap();
    assert_eq!(reader.read(Position(0), usize::MAX).unwrap(), batches);

    storage.set_read_only(false);
    let mut journal = LocalJournal::open(&storage, STEPPED).unwrap().journal;
    storage.set_read_only(true);
    let fault = one_fault(&mut journal);
    assert_eq!(fault.source.unwrap().kind, StorageErrorKind::ReadOnly);
}

#[test]
fn a_folder_of_the_machine_that_takes_no_files_is_read_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TestFolder::new();
    std::fs::set_permissions(&folder.path, std::fs::Permissions::from_mode(0o555)).unwrap();
    // For the superuser only the kernel's own folders are read-only.
    let superuser = std::fs::write(folder.path.join("probe"), b"").is_ok();
    let path = if superuser { "/sys".into() } else { folder.path.clone() };
    let storage = skerry_journal::RealStorage::existing(path).unwrap();
    let error = store(&storage, Mode::Threaded).open().unwrap_err();
    assert!(matches!(&error, OpenError::ReadOnly { .. }), "{error:?}");
}

const CHILD: &str = "SKERRY_JOURNAL_TEST_CHILD";

#[test]
fn a_second_process_on_the_folder_is_refused() {
    if let Some(path) = std::env::var_os(CHILD) {
        let storage = skerry_journal::RealStorage::existing(path).unwrap();
        let error = store(&storage, Mode::Threaded).open().unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
        assert!(error.to_string().contains("is in use by another process"), "{error}");
        return;
    }
    let folder = TestFolder::new();
    let held = store(&folder.storage(), Mode::Threaded).open().unwrap();
    let child = || {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_second_process_on_the_folder_is_refused"]).env(CHILD, &folder.path);
        command.output().unwrap()
    };
    let refused = child();
    assert!(refused.status.success(), "{}", String::from_utf8_lossy(&refused.stdout));
    drop(held);
    assert!(!child().status.success(), "a folder that nobody holds opens, so the child's own test fails");
}

#[test]
fn every_flipped_bit_of_an_open_segment_is_found_at_opening_and_named() {
    // The batches before the last: behind each lies evidence that it was durable.
    let probe = FaultStorage::new(1);
    let batches = left_open(&probe, &[30, 3, 30, 1]);
    let name = files(&probe, ".open").pop().unwrap();
    let mut offset = 4096;
    for batch in &batches[..3] {
        let length = batch.bytes().len() as u64;
        for at in (0..length + 40).step_by(61).chain([8, 59, 100, length - 1, length + 39]) {
            let storage = FaultStorage::new(1);
            left_open(&storage, &[30, 3, 30, 1]);
            storage.flip_bit(&name, offset + at, at as u8).unwrap();
            let damage = damage(&storage);
            assert_eq!(
                (damage.offset, damage.position),
                (offset, batch.header().first_position),
                "byte {at}"
            );
            assert!(damage.file.ends_with(&name), "{damage}");
            assert!(matches!(damage.kind, DamageKind::NotATornTail(..)), "{damage}");
        }
        offset = (offset + length + 40).next_multiple_of(4096);
    }
}

#[test]
fn a_flipped_bit_in_the_last_batch_is_damage_once_the_mark_covers_it() {
    for (closed, name) in [(true, "covered"), (false, "torn")] {
        let storage = FaultStorage::new(1);
        let mut journal = LocalJournal::open(&storage, STEPPED).unwrap().journal;
        append_all(&mut journal, &[3, 3]);
        if closed {
            journal.close();
        } else {
            drop(journal);
        }
        storage.flip_bit(&files(&storage, ".open")[0], 8192 + 300, 1).unwrap();
        match LocalJournal::open(&storage, STEPPED) {
            Err(OpenError::Damaged(damage)) => {
                assert!(closed, "{name}");
                assert_eq!((damage.offset, damage.position, damage.kind), (8192, 3, DamageKind::Root));
            }
            Ok(opened) => {
                assert!(!closed, "{name}: what the mark covers was lost in silence");
                assert_eq!(opened.recovery.head.position, Position(3));
                let (file, offset) = opened.recovery.torn.unwrap();
                assert!(file.ends_with(".open") && offset == 8192);
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_is_found_by_reading_it() {
    for at in (0..3000).step_by(97) {
        let storage = FaultStorage::new(1);
        let batches = left_open(&storage, &[10, 10, 10]);
        drop(LocalJournal::open(&storage, STEPPED).unwrap());
        let name = files(&storage, ".seal").pop().unwrap();
        storage.flip_bit(&name, at, 3).unwrap();
        if at < 256 {
            let damage = damage(&storage);
            assert_eq!((damage.offset, damage.kind), (0, DamageKind::SegmentHeader));
            continue;
        }
        let reader = LocalReader::open_existing(&storage, BRANCH).unwrap();
        let mut seen = 0;
        let error = reader.scan(Position(0), &mut |batch| {
            assert_eq!(batch.bytes, batches[seen].bytes(), "only good batches are shown");
            seen += 1;
            ControlFlow::Continue(())
        });
        let Err(ReadError::Damaged(damage)) = error else { panic!("byte {at} was not missed") };
        let starts: Vec<u64> = (0..3)
            .map(|index| 256 + batches[..index].iter().map(|b| b.bytes().len() as u64).sum::<u64>())
            .collect();
        let hit = starts.iter().rposition(|start| *start <= at).unwrap();
        assert_eq!((damage.offset, seen), (starts[hit], hit), "{damage}");
        assert!(damage.file.ends_with(&name));
        assert!(matches!(verify(&reader, &mut |_| ()), Err(ReadError::Damaged(again)) if again == damage));
        let careful = LocalOptions { verify_sealed: true, ..STEPPED };
        assert!(
            matches!(LocalJournal::open(&storage, careful), Err(OpenError::Damaged(again)) if again == damage)
        );
    }
}

#[test]
fn a_flipped_bit_in_a_footer_is_found_at_opening() {
    let storage = FaultStorage::new(1);
    left_open(&storage, &[10]);
    drop(LocalJournal::open(&storage, STEPPED).unwrap());
    let name = files(&storage, ".seal").pop().unwrap();
    let length = storage.open(&name, false).unwrap().length().unwrap();
    for from_end in [1, 9, 17, 60, 100] {
        storage.flip_bit(&name, length - from_end, 0).unwrap();
        assert_eq!(damage(&storage).kind, DamageKind::Footer);
        storage.flip_bit(&name, length - from_end, 0).unwrap();
    }
    drop(LocalJournal::open(&storage, STEPPED).unwrap());
}

#[test]
fn a_journal_that_lost_its_end_or_its_middle_does_not_open() {
    let make = || {
        let storage = FaultStorage::new(1);
        let mut journal = LocalJournal::open(&storage, STEPPED).unwrap().journal;
        append_all(&mut journal, &[100; 20]);
        journal.close();
        storage
    };
    let storage = make();
    let names = files(&storage, "");
    let segments: Vec<_> = names.iter().filter(|name| name.starts_with("seg-")).collect();
    assert!(segments.len() > 3);
    storage.remove(segments.last().unwrap()).unwrap();
    let lost = damage(&storage);
    let DamageKind::Truncated { have, durable } = lost.kind else { panic!("{lost}") };
    assert!(have < 2000 && durable == 2000 && lost.position == have, "{lost}");
    assert!(lost.file.contains("seg-"), "{lost}");

    let storage = make();
    storage.remove(segments[1]).unwrap();
    assert!(
        matches!(damage(&storage).kind, DamageKind::MissingSegment(position) if position == 400 || position == 500)
    );
    let storage = make();
    storage.remove(segments[0]).unwrap();
    assert_eq!(damage(&storage).kind, DamageKind::MissingSegment(0));

    let storage = make();
    storage.open(segments.last().unwrap(), true).unwrap().release_beyond(10_000).unwrap();
    assert!(matches!(damage(&storage).kind, DamageKind::CutOff | DamageKind::Truncated { .. }));
}

#[test]
fn a_declared_loss_opens_what_is_left_and_puts_the_rest_aside() {
    let storage = FaultStorage::new(1);
    let batches = left_open(&storage, &[30, 30, 30]);
    let name = files(&storage, ".open").pop().unwrap();
    storage.flip_bit(&name, 12_288 - 4096 + 300, 1).unwrap();
    let found = damage(&storage);
    assert!(matches!(found.kind, DamageKind::NotATornTail(..)), "{found}");
    let accepting = LocalOptions { accept_loss: true, ..STEPPED };
    let mut opened = LocalJournal::open(&storage, accepting).unwrap();
    assert_eq!(opened.recovery.head, Head::after(&batches[0]));
    let [aside] = opened.recovery.put_aside.as_slice() else { panic!("the rest must be kept") };
    assert!(storage.list().unwrap().contains(aside));
    append_all(&mut opened.journal, &[5]);
    opened.journal.close();
    let opened = LocalJournal::open(&storage, STEPPED).unwrap();
    assert_eq!(opened.recovery.head.position, Position(35));
}

#[test]
fn a_declared_loss_of_a_whole_last_segment_puts_it_aside() {
    let storage = FaultStorage::new(1);
    left_open(&storage, &[5, 5, 5]);
    let name = files(&storage, ".open").pop().unwrap();
    storage.flip_bit(&name, 4096 + 300, 1).unwrap();
    assert!(damage(&storage).file.ends_with(&name));
    let lossy = LocalOptions { accept_loss: true, ..STEPPED };
    let opened = LocalJournal::open(&storage, lossy).unwrap();
    assert_eq!(opened.recovery.head, Head::default());
    assert_eq!(opened.recovery.put_aside.len(), 1, "{:?}", opened.recovery.put_aside);
    assert_eq!(files(&storage, &name).len(), 1, "put aside, not removed");
    drop(opened);
    assert_eq!(LocalJournal::open(&storage, STEPPED).unwrap().recovery.head, Head::default());
}

#[test]
fn a_mark_that_was_made_but_never_written_is_no_damage() {
    let storage = FaultStorage::new(1);
    let told = left_open(&storage, &[5, 5]);
    storage.remove("MARK").unwrap();
    // As after a restore whose first opening failed before it had written anything.
    storage.create("MARK").unwrap().reserve(8192).unwrap();
    let opened = LocalJournal::open(&storage, STEPPED).unwrap();
    assert_eq!(opened.recovery.head.batch, told.len() as u64);
}

#[test]
fn one_slot_of_the_mark_may_break_but_not_both() {
    let storage = FaultStorage::new(1);
    left_open(&storage, &[1; 20]);
    let epoch = LocalJournal::open(&storage, STEPPED).unwrap().journal.epoch();
    storage.flip_bit("MARK", 20, 0).unwrap();
    let recovery = LocalJournal::open(&storage, STEPPED).unwrap().recovery;
    assert!(recovery.epoch > epoch, "the epoch never falls");
    storage.flip_bit("MARK", 20, 0).unwrap();
    storage.flip_bit("MARK", 21, 0).unwrap();
    storage.flip_bit("MARK", 4096 + 20, 0).unwrap();
    assert_eq!(damage(&storage).kind, DamageKind::Mark);
    storage.remove("MARK").unwrap();
    let recovery = LocalJournal::open(&storage, STEPPED).unwrap().recovery;
    assert!(recovery.mark_missing && recovery.head.position == Position(20));
}

/// Records of a batch with hardly any padding behind it, so that sealing in place is what pays.
fn dense() -> u32 {
    let padding = |count: &u32| {
        let length = sample_batch(BRANCH, 1, &Head::default(), *count, 0).bytes().len();
        (length + 40).next_multiple_of(4096) - length
    };
    (90..145).min_by_key(padding).unwrap()
}

#[test]
fn after_a_failed_sync_nothing_rests_on_the_segment() {
    let mut told_later = 0;
    for seed in 0..60 {
        let storage = FaultStorage::new(seed);
        let mut journal = LocalJournal::open(&storage, STEPPED).unwrap().journal;
        append_all(&mut journal, &[dense(); 2]);
        storage.fail_next_sync(0);
        let batch = sample_batch(BRANCH, journal.epoch(), &journal.taken(), dense(), 9);
        journal.append(batch).unwrap();
        let fault = settle(&mut journal).pop().unwrap().unwrap_err();
        assert_eq!((fault.kind, fault.batch), (AppendFaultKind::Uncertain, 2));
        drop(journal);
        // The cache shows the third batch whole, so opening tells it; then it must be there for good.
        let Head { batch, .. } = LocalJournal::open(&storage, STEPPED).unwrap().recovery.head;
        assert_eq!(batch, 3);
        storage.power_cut();
        let opened = LocalJournal::open(&storage, STEPPED).unwrap();
        assert_eq!(opened.recovery.head.batch, 3, "seed {seed}");
        let verified = verify(&opened.journal.reader(), &mut |_| ()).unwrap();
        told_later += verified.batches;
    }
    assert_eq!(told_later, 180);
}

#[test]
fn sealing_removes_padding_only_where_it_is_worth_it() {
    let size = |counts: &[u32]| {
        let storage = FaultStorage::new(1);
        let mut journal = LocalJournal::open(&storage, STEPPED).unwrap().journal;
        let batches = append_all(&mut journal, counts);
        while journal.step() {}
        let bytes: u64 = batches.iter().map(|batch| batch.bytes().len() as u64).sum();
        assert!(journal.stats().seals > 1 && journal.stats().seal_failures == 0);
        assert_eq!(files(&storage, ".open").len(), 1);
        journal.close();
        drop(LocalJournal::open(&storage, STEPPED).unwrap());
        let sealed = files(&storage, ".seal");
        let length = |name: &String| storage.open(name, false).unwrap().length().unwrap();
        (sealed.iter().map(length).sum::<u64>() as f64 / bytes as f64, sealed)
    };
    let (singles, _) = size(&[1; 200]);
    assert!(singles < 1.1, "single records take {singles:.2} times their bytes");
    let (full, _) = size(&[dense(); 60]);
    assert!(full < 1.25, "full batches take {full:.2} times their bytes");
}

#[test]
fn an_export_and_an_archive_verify_without_the_journal() {
    let storage = FaultStorage::new(1);
    let (copy, cold) = (FaultStorage::new(2), FaultStorage::new(3));
    let open = || LocalJournal::open_with(&storage, Some(cold.clone()), STEPPED).unwrap();
    let mut journal = open().journal;
    append_all(&mut journal, &[100; 20]);
    while journal.step() {}
    let head = export(&journal.reader(), &copy).unwrap();
    assert_eq!(head, journal.head());
    let reader = LocalReader::open_existing(&copy, BRANCH).unwrap();
    let mut leaves = 0;
    let verified = verify(&reader, &mut |_| leaves += 1).unwrap();
    assert_eq!((verified.head, verified.records, verified.batches, leaves), (head, 2000, 20, 20));
    assert!(matches!(LocalReader::open_existing(&copy, BRANCH + 1), Err(OpenError::Damaged(_))));

    let copied = journal.reader().copy_old(Position(1000), usize::MAX).unwrap();
    let start = journal.release(copied).unwrap();
    assert!(start.0 > 500 && start.0 <= 1000);
    let reader = LocalReader::open_existing(&cold, BRANCH).unwrap();
    assert_eq!(verify(&reader, &mut |_| ()).unwrap().head.position, start);
    let far = verify(&journal.far_reader(), &mut |_| ()).unwrap();
    assert_eq!((far.head, far.records), (head, 2000), "journal and archive are one");
    let whole = FaultStorage::new(4);
    assert_eq!(export(&journal.far_reader(), &whole).unwrap(), head);
    let exported = LocalReader::open_existing(&whole, BRANCH).unwrap();
    assert_eq!(verify(&exported, &mut |_| ()).unwrap().records, 2000);
    storage.power_cut();
    let opened = open();
    assert_eq!((opened.recovery.start, opened.recovery.head), (start, head));
    assert_eq!(verify(&opened.journal.reader(), &mut |_| ()).unwrap().start, start);
}

#[test]
fn a_wake_comes_with_every_outcome() {
    let folder = TestFolder::new();
    let mut journal = store(&folder.storage(), Mode::Threaded).open().unwrap().journal;
    let (sender, woken) = std::sync::mpsc::channel();
    journal.on_progress(Box::new(move || sender.send(()).unwrap()));
    for _ in 0..5 {
        let batch = sample_batch(BRANCH, journal.epoch(), &journal.taken(), 5, 9);
        journal.append(batch).unwrap();
        woken.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        assert!(journal.poll().unwrap().is_ok());
    }
    assert_eq!(journal.stats().syncs, 5);
}

#[test]
fn a_scan_that_is_broken_off_ends_however_much_lies_ahead() {
    let storage = FaultStorage::new(1);
    let options = LocalOptions { mode: Mode::Threaded, ..LocalOptions::new(BRANCH) };
    let mut journal = LocalJournal::open(&storage, options).unwrap().journal;
    append_all(&mut journal, &[5000; 20]);
    let reader = journal.reader();
    let mut left = 3;
    let end = reader.scan(Position(5000), &mut |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(end.unwrap().position, Position(20_000));
    let name = files(&storage, ".open").pop().unwrap();
    storage.flip_bit(&name, 4096 + 300, 1).unwrap();
    let seen = reader.scan(Position(0), &mut |_| panic!("a bad batch was shown"));
    assert!(matches!(seen, Err(ReadError::Damaged(damage)) if damage.kind == DamageKind::Root));
}
