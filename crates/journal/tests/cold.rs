//! What was archived stays readable through the journal, survives a cut anywhere on the way, and says so when it is away.

#![expect(clippy::unwrap_used, reason = "the setting for tests does not reach their helpers")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/folder.rs"]
mod folder;

use common::small;
use folder::{TestFolder, store};
use skerry_journal::contract::{BRANCH, append_all};
use skerry_journal::{
    ArchiveError, FaultStorage, Journal, JournalReader, JournalStore, LocalJournal, LocalOptions,
    LocalReader, LocalStore, Mode, OpenError, Position, ReadError, RealStorage, SealedBatch, Storage,
    StorageErrorKind, verify,
};

const OPTIONS: LocalOptions = small(Mode::Stepped);

fn open<S: Storage>(hot: &S, cold: &S) -> LocalJournal<S> {
    let store = LocalStore { cold: Some(cold.clone()), ..store(hot, Mode::Stepped) };
    match store.open() {
        Ok(opened) => opened.journal,
        Err(error) => panic!("could not open: {error}"),
    }
}

/// A journal of three sealed segments and an open one, and what is in it.
fn filled<S: Storage>(hot: &S, cold: &S) -> (LocalJournal<S>, Vec<SealedBatch>) {
    let mut batches = Vec::new();
    for _ in 0..3 {
        batches.extend(append_all(&mut open(hot, cold), &[100; 3]));
    }
    let mut journal = open(hot, cold);
    batches.extend(append_all(&mut journal, &[7]));
    (journal, batches)
}

fn archive<S: Storage>(journal: &mut LocalJournal<S>, before: u64) -> Result<Position, ArchiveError> {
    let copied = journal.reader().copy_old(Position(before), usize::MAX)?;
    journal.release(copied)
}

#[test]
fn the_power_may_go_at_any_operation_of_an_archiving() {
    let mut finished = false;
    for operations in 0..400 {
        let disk = FaultStorage::new(operations + 1);
        let (hot, cold) = (disk.folder("hot").unwrap(), disk.folder("cold").unwrap());
        let (mut journal, batches) = filled(&hot, &cold);
        disk.lose_power_in(operations);
        finished = archive(&mut journal, 600).is_ok_and(|start| start.0 > 0) && !disk.is_dark();
        drop(journal);
        disk.power_cut();

        let mut journal = open(&hot, &cold);
        assert_eq!(
            journal.far_reader().read(Position(0), usize::MAX).unwrap(),
            batches,
            "cut after {operations}"
        );
        let start = archive(&mut journal, 600).unwrap();
        assert!(start.0 > 0, "it goes on where it was cut off");
        assert_eq!(
            journal.far_reader().read(Position(0), usize::MAX).unwrap(),
            batches,
            "cut after {operations}"
        );
        assert_eq!(
            verify(&LocalReader::open_existing(&cold, BRANCH).unwrap(), &mut |_| ()).unwrap().head.position,
            start
        );
        if finished {
            break;
        }
    }
    assert!(finished, "no archiving came to its end");
}

/// An archive on the machine's own files: `folder/hot` and `folder/cold/0007`, where only `folder/cold` is there at first.
fn on_files(folder: &TestFolder) -> (RealStorage, RealStorage) {
    let hot = folder.storage().folder("hot").unwrap();
    std::fs::create_dir(folder.path.join("cold")).unwrap();
    (hot, RealStorage::at(folder.path.join("cold/0007")))
}

fn is_away(error: &ReadError, folder: &TestFolder, segment: &str) -> bool {
    let text = error.to_string();
    let place = folder.path.join("cold/0007").display().to_string();
    matches!(error, ReadError::ColdAway { .. }) && text.contains(&place) && text.contains(segment)
}

#[test]
fn a_folder_that_is_taken_away_is_missed_at_once_and_welcome_back() {
    let folder = TestFolder::new();
    let (hot, cold) = on_files(&folder);
    let (mut journal, batches) = filled(&hot, &cold);
    let start = archive(&mut journal, 600).unwrap();
    assert!(start.0 >= 300 && journal.reader().start() == start);
    let far = journal.far_reader();
    assert_eq!(far.read(Position(0), usize::MAX).unwrap(), batches);

    let (shelf, aside) = (folder.path.join("cold"), folder.path.join("aside"));
    std::fs::rename(&shelf, &aside).unwrap();
    let errors = [
        far.read_record(Position(5)).unwrap_err(),
        far.read(Position(5), 1).unwrap_err(),
        far.scan(Position(5), &mut |_| std::ops::ControlFlow::Continue(())).unwrap_err(),
    ];
    for error in errors {
        assert!(is_away(&error, &folder, "seg-00000000000000000000.seal"), "{error}");
    }
    assert!(far.origin().is_err_and(|error| is_away(&error, &folder, "segment")));
    assert!(far.read_record(start).is_ok(), "only what lies there is out of reach");
    assert!(archive(&mut journal, u64::MAX).is_err(), "nothing new is archived into the void");
    drop(journal);
    let journal = open(&hot, &cold);
    assert_eq!(journal.reader().start(), start, "it opens without");
    let error = journal.far_reader().read_record(Position(5)).unwrap_err();
    assert!(is_away(&error, &folder, "position 5"), "not seen since opening: {error}");

    std::fs::rename(&aside, &shelf).unwrap();
    assert_eq!(far.read(Position(0), usize::MAX).unwrap(), batches);
    assert_eq!(journal.far_reader().read(Position(0), usize::MAX).unwrap(), batches);
}

#[test]
fn an_empty_folder_in_its_place_takes_nothing() {
    let folder = TestFolder::new();
    let (hot, cold) = on_files(&folder);
    let (mut journal, _) = filled(&hot, &cold);
    let start = archive(&mut journal, 300).unwrap();
    std::fs::rename(folder.path.join("cold"), folder.path.join("aside")).unwrap();
    std::fs::create_dir(folder.path.join("cold")).unwrap();
    let error = archive(&mut journal, u64::MAX).unwrap_err();
    assert!(matches!(&error, ArchiveError::Read(error) if is_away(error, &folder, "segment")), "{error}");
    assert_eq!(journal.reader().start(), start);
    assert_eq!(cold.list().map(|files| files.len()).unwrap_or(0), 0);
}

#[test]
fn without_a_folder_nothing_is_archived_and_another_journals_segment_is_not_overwritten() {
    let (hot, other, cold) = (FaultStorage::new(1), FaultStorage::new(2), FaultStorage::new(3));
    let (mut journal, _) = filled(&hot, &cold);
    archive(&mut journal, 300).unwrap();
    let files = cold.list().unwrap();

    let mut theirs = open(&other, &cold);
    append_all(&mut theirs, &[50; 2]);
    drop(theirs);
    let mut theirs = open(&other, &cold);
    let error = archive(&mut theirs, u64::MAX).unwrap_err();
    assert!(matches!(&error, ArchiveError::Clash { file } if file.ends_with(&files[0])), "{error}");
    assert_eq!(theirs.reader().start(), Position(0));
    drop(theirs);
    let alone = LocalJournal::open(&other, OPTIONS).unwrap().journal;
    assert!(matches!(alone.reader().copy_old(Position(u64::MAX), usize::MAX), Err(ArchiveError::NoCold)));
}

#[test]
fn a_bad_bit_in_the_archive_is_damage_with_its_place() {
    let (hot, cold) = (FaultStorage::new(1), FaultStorage::new(2));
    let (mut journal, _) = filled(&hot, &cold);
    archive(&mut journal, 600).unwrap();
    let name = cold.list().unwrap().remove(0);
    cold.flip_bit(&name, 4096 + 700, 1).unwrap();
    let error = journal.far_reader().read(Position(0), usize::MAX).unwrap_err();
    assert!(matches!(&error, ReadError::Damaged(damage) if damage.file.ends_with(&name)), "{error}");
    drop(journal);
    assert!(
        !matches!(LocalJournal::open(&hot, OPTIONS), Err(OpenError::Damaged(_))),
        "the journal itself is whole"
    );
    assert_eq!(hot.open("nothing", false).unwrap_err().kind, StorageErrorKind::NotFound);
}
