//! A journal committed with the first release: every later one must open it, find the same batches, and (while the
//! format stays) write the same bytes.
//!
//! With `SKERRY_WRITE_FIXTURE=1` the test writes the fixture instead. That is for a new format, into a new folder; the old
//! folder stays as it is.

#![expect(clippy::unwrap_used, reason = "the setting for tests does not reach their helpers")]

mod common;
#[path = "common/folder.rs"]
mod folder;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::small;
use folder::{TestFolder, store};
use skerry_journal::contract::append_all;
use skerry_journal::{
    Journal, JournalReader, JournalStore, LocalJournal, LocalOptions, LocalReader, Mode, Position,
    RealStorage, verify,
};

/// Header hash of the last batch. It never changes: it rests on every byte of every batch.
const HEAD_HASH: &str = "7a42f92980e32b040b688a37511864d9ee9247e8ae85f47ef53e851a60eb0541";
const RECORDS: u64 = 174;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1")
}

/// One segment sealed by copying, some sealed in place, and an open one.
fn write_journal(path: &Path) {
    let storage = RealStorage::open(path).unwrap();
    let options = LocalOptions { segment_bytes: 24 << 10, reserve_bytes: 8 << 10, ..small(Mode::Stepped) };
    let open = || LocalJournal::open(&storage, options).unwrap().journal;
    append_all(&mut open(), &[1, 2, 12, 1]);
    let mut journal = open();
    append_all(&mut journal, &[31, 31, 31, 31, 31]);
    while journal.step() {}
    append_all(&mut journal, &[3]);
    while journal.step() {}
}

fn content(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let named = entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()));
    named.filter(|(name, _)| name != "LOCK").collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_first_format_still_opens() {
    if std::env::var_os("SKERRY_WRITE_FIXTURE").is_some() {
        write_journal(&fixture());
    }
    let names: Vec<_> = content(&fixture()).into_keys().collect();
    assert!(
        names.iter().any(|name| name.ends_with(".open")) && names.iter().any(|name| name.ends_with(".seal"))
    );

    // As it lies there, without changing it.
    let reader = LocalReader::open_existing(&RealStorage::existing(fixture()).unwrap(), 7).unwrap();
    let verified = verify(&reader, &mut |_| ()).unwrap();
    assert_eq!((hex(&verified.head.hash).as_str(), verified.records), (HEAD_HASH, RECORDS));
    let stored = reader.read_record(Position(13)).unwrap();
    assert_eq!(stored.tail.as_deref(), Some(b"tail 10".as_slice()));
    assert_eq!(stored.header.batch, 2);

    // As an owner opens it, in a copy.
    let folder = TestFolder::new();
    for (name, bytes) in content(&fixture()) {
        std::fs::write(folder.path.join(name), bytes).unwrap();
    }
    let mut opened = store(&folder.storage(), Mode::Threaded).open().unwrap();
    assert_eq!((opened.recovery.head, opened.recovery.epoch), (verified.head, 3));
    append_all(&mut opened.journal, &[5]);
    let again = verify(&opened.journal.reader(), &mut |_| ()).unwrap();
    assert_eq!(again.records, RECORDS + 5);
}

#[test]
fn this_release_writes_the_same_bytes() {
    let folder = TestFolder::new();
    write_journal(&folder.path);
    let (now, then) = (content(&folder.path), content(&fixture()));
    assert!(now.keys().eq(then.keys()), "{:?} {:?}", now.keys(), then.keys());
    for (name, bytes) in &now {
        assert!(*bytes == then[name], "{name} differs from what the first release wrote");
    }
}
