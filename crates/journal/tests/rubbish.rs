//! Whatever one byte or one cut does to a journal's files: it is found, or it did not matter. Never a panic, never another
//! content, never less in silence.

mod common;

use std::ops::ControlFlow;

use common::small;
use proptest::prelude::*;
use skerry_journal::contract::{BRANCH, append_all};
use skerry_journal::{
    FaultStorage, Journal, JournalReader, LocalJournal, LocalReader, Mode, OpenError, Position, ReadError,
    SealedBatch, Storage, StorageFile,
};

/// Segments of both layouts and an open one, closed: the mark covers all.
fn journal() -> (FaultStorage, Vec<SealedBatch>) {
    let storage = FaultStorage::new(1);
    let open = || LocalJournal::open(&storage, small(Mode::Stepped)).expect("it is whole").journal;
    let mut batches = append_all(&mut open(), &[1, 20, 3]);
    let mut journal = open();
    batches.extend(append_all(&mut journal, &[140, 140, 140, 140, 2]));
    journal.close();
    (storage, batches)
}

/// Reads everything; `None` if damage was reported.
fn all(storage: &FaultStorage, as_owner: bool) -> Option<Vec<Vec<u8>>> {
    let mut seen = Vec::new();
    let mut visit = |batch: skerry_journal::BatchView<'_>| {
        seen.push(batch.bytes.to_vec());
        ControlFlow::Continue(())
    };
    let scanned = if as_owner {
        LocalJournal::open(storage, small(Mode::Stepped)).map(|opened| opened.journal.reader())
    } else {
        LocalReader::open_existing(storage, BRANCH)
    };
    match scanned.map(|reader| reader.scan(Position(0), &mut visit)) {
        Ok(Ok(_)) => Some(seen),
        Err(OpenError::Damaged(_)) | Ok(Err(ReadError::Damaged(_))) => None,
        Err(other) => panic!("refused otherwise: {other}"),
        Ok(Err(other)) => panic!("not read otherwise: {other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn one_change_is_found_or_did_not_matter(
        file in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in prop::bool::weighted(0.2),
        as_owner in any::<bool>(),
    ) {
        let (storage, batches) = journal();
        let names = storage.list().expect("the folder is there");
        let name = file.get(&names);
        let handle = storage.open(name, true).expect("the file is there");
        let length = handle.length().expect("it has one");
        let place = place.index(usize::try_from(length).expect("small")) as u64;
        if cut {
            handle.release_beyond(place).expect("it can be cut");
        } else {
            handle.write_at(place, &[value]).expect("it can be written");
        }
        if let Some(seen) = all(&storage, as_owner) {
            prop_assert!(seen.iter().map(Vec::as_slice).eq(batches.iter().map(SealedBatch::bytes)), "{name} {place}");
        }
    }

    #[test]
    fn files_of_rubbish_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..9000), sealed in any::<bool>()) {
        let storage = FaultStorage::new(1);
        let name = format!("seg-{:020}.{}", 0, if sealed { "seal" } else { "open" });
        storage.create(&name).and_then(|file| file.write_at(0, &bytes)).expect("there is room");
        // An open file without a header is what a power cut leaves; a sealed one is damage.
        prop_assert_eq!(all(&storage, false).is_none(), sealed);
    }
}
