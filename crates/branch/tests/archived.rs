//! What is archived stays known: retries are answered from it, and its derived files must be whole.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use common::{Slot, Stepped, account, operator, options, pack, request, transfer};
use skerry_book::packed::Outcome;
use skerry_branch::api::{Asked, Body, Busy, BusyReason, Reply};
use skerry_branch::history::{Order, Query};
use skerry_journal::{FaultStorage, Storage};
use skerry_ledger::{Flags, Transfer, TransferId};

/// A bank whose first batches are archived, with a transfer among them.
fn archived(storage: &FaultStorage) -> (Stepped<FaultStorage>, Transfer) {
    archived_after(storage, |bank| {
        let first = transfer(account(1), account(2), 7, bank.now.wall_us);
        assert_eq!(bank.packed(&[first])[0].code, 0);
        first
    })
}

/// A bank that did `first`, and then so much that this is archived.
fn archived_after<T>(
    storage: &FaultStorage,
    first: impl FnOnce(&mut Stepped<FaultStorage>) -> T,
) -> (Stepped<FaultStorage>, T) {
    let mut small = options();
    small.history.span_rows = 2_000;
    small.ids.memtable_ids = 2_000;
    let mut bank = Stepped::with(storage, small);
    bank.open().unwrap();
    bank.found(4, 1_000_000);
    let first = first(&mut bank);
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

/// A chain that was done, one that was refused for good, a hold, and what they came to.
struct Early {
    transfers: Vec<Transfer>,
    outcomes: Vec<Outcome>,
    hold: Transfer,
}

fn early(bank: &mut Stepped<FaultStorage>) -> Early {
    let now = bank.now.wall_us;
    let pay = |amount, flags| Transfer { flags, ..transfer(account(1), account(2), amount, now) };
    let hold = pay(50, Flags::PENDING);
    let transfers = vec![
        pay(7, Flags::LINKED),
        pay(8, Flags::default()),
        pay(10_000_000, Flags::default()),
        pay(9, Flags::LINKED),
        pay(10_000_000, Flags::default()),
        hold,
    ];
    let outcomes = bank.packed(&transfers);
    let codes: Vec<u16> = outcomes.iter().map(|outcome| outcome.code).collect();
    assert_eq!(codes, [0, 0, INSUFFICIENT, LINKED_FAILED, INSUFFICIENT, 0]);
    Early { transfers, outcomes, hold }
}

const LINKED_FAILED: u16 = 1001;
const ID_REUSED: u16 = 1014;
const INSUFFICIENT: u16 = 1111;
const ALREADY_POSTED: u16 = 1052;

/// What an outcome says but for where a refusal was journaled, which only the first answer tells.
fn answer(outcome: &Outcome) -> Outcome {
    let position = if outcome.code == 0 { outcome.position } else { 0 };
    Outcome { position, ..*outcome }
}

#[test]
fn a_retry_of_what_is_archived_gets_the_first_answer() {
    let storage = FaultStorage::new(1);
    let (mut bank, early) = archived_after(&storage, early);
    for _ in 0..2 {
        let before = bank.image();
        let again = bank.packed(&early.transfers);
        assert_eq!(
            again.iter().map(answer).collect::<Vec<_>>(),
            early.outcomes.iter().map(answer).collect::<Vec<_>>()
        );
        let asked = early.transfers.iter().map(|one| Asked { transfer: *one, ..Asked::default() }).collect();
        let Reply::Transfers(told) = bank.ask(operator(), Body::Transfers(asked)) else { panic!() };
        for (told, outcome) in told.iter().zip(&early.outcomes) {
            match told {
                Ok(done) => {
                    assert!(done.repeated && done.position == outcome.position && outcome.code == 0)
                }
                Err(refused) => assert_eq!(refused.code(), outcome.code),
            }
        }
        let other = Transfer { amount: 6, flags: Flags::default(), ..early.transfers[0] };
        assert_eq!(bank.packed(&[other])[0].code, ID_REUSED);
        assert_eq!(bank.image(), before, "nothing moves");
        bank.branch.close(bank.now);
        bank.open().unwrap();
        bank.settle();
    }
}

#[test]
fn what_is_archived_can_be_resolved_and_reversed_once() {
    let storage = FaultStorage::new(1);
    let (mut bank, early) = archived_after(&storage, early);
    let now = bank.now.wall_us;
    let about = |original: &Transfer, flags| Transfer {
        related: original.id,
        flags,
        ..transfer(Default::default(), Default::default(), 0, now)
    };
    let post = [about(&early.hold, Flags::POST), about(&early.hold, Flags::POST)];
    let codes: Vec<u16> = bank.packed(&post).iter().map(|outcome| outcome.code).collect();
    assert_eq!(codes, [0, ALREADY_POSTED], "an open hold needs no archive, a second look at it does");
    let reversal = about(&early.transfers[1], Flags::REVERSAL);
    let before = bank.balance(account(1));
    assert_eq!(bank.packed(&[reversal])[0].code, 0);
    assert_eq!(bank.balance(account(1)), before + 8);
    assert_eq!(bank.packed(&[reversal])[0].code, 0, "a retry");
    assert_eq!(bank.balance(account(1)), before + 8);
}

/// The reply to packed transfers, without running a job.
fn submitted(bank: &mut Stepped<FaultStorage>, transfers: &[Transfer]) -> Slot {
    let slot = bank.submit(operator(), Body::Packed(pack(transfers)));
    step(bank);
    slot
}

/// Turns and journal steps, but no jobs.
fn step(bank: &mut Stepped<FaultStorage>) {
    while bank.branch.turn(bank.now) | bank.branch.step_journal() {}
}

#[test]
fn nobody_waits_behind_a_slow_archive_and_without_one_nothing_is_done() {
    let storage = FaultStorage::new(1);
    let (mut bank, first) = archived(&storage);
    let now = bank.now.wall_us;
    let fresh = || transfer(account(1), account(2), 1, now);
    let cold = storage.folder("cold").unwrap();
    cold.take_away(true);
    let before = bank.balance(account(2));
    // A new one in the same request is not done either: the request is refused as a whole.
    let waiting: Vec<Slot> = (0..65).map(|_| submitted(&mut bank, &[fresh(), first])).collect();
    assert!(waiting.iter().all(|slot| slot.take().is_none()));
    let one_too_many = submitted(&mut bank, &[first]).take();
    assert!(
        matches!(one_too_many, Some(Reply::Busy(Busy { reason: BusyReason::Queue, .. }))),
        "{one_too_many:?}"
    );
    let other = submitted(&mut bank, &[fresh()]).take();
    assert!(matches!(other, Some(Reply::Packed(ref packed)) if packed.accepted == 1), "{other:?}");
    bank.settle();
    for slot in waiting {
        match slot.take() {
            Some(Reply::Archived(why)) => assert!(why.contains("cold folder"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bank.balance(account(2)), before + 1);
    cold.take_away(false);
    let slots: Vec<Slot> = (0..3).map(|_| submitted(&mut bank, &[fresh(), first])).collect();
    bank.settle();
    for slot in slots {
        assert!(matches!(slot.take(), Some(Reply::Packed(packed)) if packed.accepted == 2));
    }
    assert_eq!(bank.balance(account(2)), before + 4);
}

/// One that waits for its turn may be answered without the archive: the next one's turn comes all the same.
#[test]
fn whoever_expires_while_waiting_holds_nobody_up() {
    let storage = FaultStorage::new(1);
    let (mut bank, first) = archived(&storage);
    let before = submitted(&mut bank, &[first]);
    let (expired, deadline_us) = (Slot::default(), bank.now.wall_us + 1_000);
    let into = expired.clone();
    let mut hurried = request(operator(), Body::Packed(pack(&[first])), move |reply| into.put(reply));
    hurried.deadline_us = deadline_us;
    hurried.mac = options().gateway.authenticate(&hurried.actor, hurried.scope, deadline_us);
    bank.branch.submit(hurried, bank.now).unwrap();
    let after = submitted(&mut bank, &[first]);
    bank.pass_us(2_000);
    bank.settle();
    assert!(matches!(expired.take(), Some(Reply::Expired)));
    for slot in [before, after] {
        assert!(matches!(slot.take(), Some(Reply::Packed(packed)) if packed.accepted == 1));
    }
}

#[test]
fn a_branch_that_stops_while_the_archive_is_read_says_that_it_does_not_know() {
    let storage = FaultStorage::new(1);
    let (mut bank, first) = archived(&storage);
    let slots = [submitted(&mut bank, &[first]), submitted(&mut bank, &[first])];
    assert!(!bank.branch.is_idle(), "somebody waits");
    bank.branch.close(bank.now);
    assert!(slots.iter().all(|slot| matches!(slot.take(), Some(Reply::Unknown))));
    bank.open().unwrap();
    bank.settle();
    assert_eq!(bank.packed(&[first])[0].code, 0);
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
        assert_eq!(bank.packed(&[first])[0].code, 0, "{what}: the id is known again");
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
