//! What is archived stays known: its ids are used, and its derived files must be whole.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use common::{Stepped, account, options, transfer};
use skerry_journal::{FaultStorage, Storage};
use skerry_ledger::Transfer;

/// A bank whose first batches are archived, with a transfer among them.
fn archived(storage: &FaultStorage) -> (Stepped<FaultStorage>, Transfer) {
    let mut small = options();
    small.history.span_rows = 2_000;
    small.ids.memtable_ids = 2_000;
    let mut bank = Stepped::with(storage, small);
    bank.open().unwrap();
    bank.found(4, 1_000_000);
    let first = transfer(account(1), account(2), 7, bank.now.wall_us);
    assert_eq!(bank.packed(&[first])[0].code, 0);
    for round in 0..12 {
        let now = bank.now.wall_us;
        let batch: Vec<Transfer> =
            (0..1_000).map(|n| transfer(account(n % 4 + 1), account((n + 1) % 4 + 1), 1, now)).collect();
        bank.packed(&batch);
        if round == 6 || round == 8 {
            // Opening seals the open segment, and only sealed ones are archived.
            bank.branch.close(bank.now);
            bank.open().unwrap();
            bank.settle();
            bank.branch.mark(bank.now, true);
            bank.settle();
        }
    }
    let cold = storage.folder("cold").unwrap();
    assert!(bank.branch.archive(u64::MAX, &cold).unwrap() > 100);
    (bank, first)
}

#[test]
fn a_retry_of_an_archived_transfer_moves_nothing_and_stops_nothing() {
    let storage = FaultStorage::new(1);
    let (mut bank, first) = archived(&storage);
    for _ in 0..2 {
        let before = bank.image();
        let again = bank.packed(&[first]);
        assert_eq!(again[0].code, 1014, "its record cannot be read, but its id was used");
        assert_eq!(bank.image(), before);
        bank.branch.close(bank.now);
        bank.open().unwrap();
        bank.settle();
    }
}

#[test]
fn without_the_index_of_what_is_archived_it_does_not_open() {
    for (folder, what) in [("ids", "index of ids"), ("history", "history")] {
        let storage = FaultStorage::new(1);
        let (mut bank, _) = archived(&storage);
        bank.branch.close(bank.now);
        let files = storage.folder(folder).unwrap();
        let oldest = files.list().unwrap().remove(0);
        files.remove(&oldest).unwrap();
        let refusal = bank.open().unwrap_err();
        let text = format!("{:?}", std::error::Error::source(&refusal).map(ToString::to_string));
        assert!(text.contains(what) && text.contains("archived"), "{refusal}: {text}");
    }
}
