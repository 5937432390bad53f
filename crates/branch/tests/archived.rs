//! What is archived stays known: its ids are used, and its derived files must be whole.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use common::{Stepped, account, options, transfer};
use skerry_branch::history::{Order, Query};
use skerry_journal::{FaultStorage, Storage};
use skerry_ledger::{Transfer, TransferId};

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
    assert!(bank.archive(u64::MAX).unwrap() > 100);
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
fn without_what_was_derived_from_the_archive_it_is_made_again_or_the_branch_does_not_open() {
    for (folder, what) in [("ids", "index of ids"), ("history", "history")] {
        let storage = FaultStorage::new(1);
        let (mut bank, first) = archived(&storage);
        bank.branch.close(bank.now);
        let files = storage.folder(folder).unwrap();
        let oldest = files.list().unwrap().remove(0);
        files.remove(&oldest).unwrap();
        let cold = storage.folder("cold").unwrap();
        cold.take_away(true);
        let refusal = bank.open().unwrap_err();
        let text = format!("{:?}", std::error::Error::source(&refusal).map(ToString::to_string));
        assert!(text.contains(what) && text.contains("archived"), "{refusal}: {text}");
        cold.take_away(false);
        bank.open().unwrap();
        bank.settle();
        assert_eq!(bank.packed(&[first])[0].code, 1014, "{what}: the id is known again");
        check_statement(&bank, first.id);
    }
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The whole statement of account 1 and the transfer with `id`, which is archived, are what they were.
fn check_statement(bank: &Stepped<FaultStorage>, id: TransferId) {
    let history = bank.branch.history().unwrap();
    let found = history.transfer(id).unwrap().expect("it was done");
    assert_eq!((found.entry.moved.id, found.entry.moved.amount), (id, 7));
    let query = Query { order: Order::OldestFirst, limit: 1, ..Query::of_account(account(1)) };
    let page = history.query(&query).unwrap();
    assert_eq!(page.entries[0].moved.amount, 1_000_000, "the first entry is the first money");
}

#[test]
fn what_is_archived_is_read_through_and_missed_when_it_is_away() {
    let storage = FaultStorage::new(1);
    let (mut bank, first) = archived(&storage);
    let position = bank.branch.history().unwrap().transfer(first.id).unwrap().unwrap().entry.position;
    bank.branch.mark(bank.now, false);
    bank.settle();
    let cold = storage.folder("cold").unwrap();
    for _ in 0..2 {
        check_statement(&bank, first.id);
        let receipt = bank.branch.receipt(position).unwrap();
        assert_eq!(receipt.position, position);

        cold.take_away(true);
        let history = bank.branch.history().unwrap();
        let missed = [
            words(&history.transfer(first.id).unwrap_err()),
            words(&bank.branch.receipt(position).unwrap_err()),
        ];
        for missed in missed {
            assert!(missed.contains("cold folder") && missed.contains("seg-0000"), "{missed}");
        }
        let newest = Query { limit: 1, ..Query::of_account(account(1)) };
        assert_eq!(history.query(&newest).unwrap().entries.len(), 1, "newer pages go on");
        let now = bank.now.wall_us;
        assert_eq!(bank.packed(&[transfer(account(1), account(2), 1, now)])[0].code, 0, "and so do payments");
        bank.branch.close(bank.now);
        bank.open().unwrap();
        bank.settle();
        cold.take_away(false);
    }
}

#[test]
fn a_branch_that_stops_in_the_middle_says_so_and_goes_on_later() {
    let storage = FaultStorage::new(1);
    let (mut bank, first) = archived(&storage);
    let (answer, told) = std::sync::mpsc::channel();
    let also = answer.clone();
    bank.branch.archive(u64::MAX, Box::new(move |result| answer.send(result).unwrap()));
    bank.branch.archive(u64::MAX, Box::new(move |result| also.send(result).unwrap()));
    assert!(told.try_recv().unwrap().unwrap_err().contains("under way"));
    bank.branch.close(bank.now);
    assert!(told.try_recv().unwrap().unwrap_err().contains("stopped"));
    bank.open().unwrap();
    bank.settle();
    bank.archive(u64::MAX).unwrap();
    check_statement(&bank, first.id);
}
