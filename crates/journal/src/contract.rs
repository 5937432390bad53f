//! The contract of the [`Journal`](crate::Journal) seam as one suite: every implementation must pass it.
//!
//! It is ordinary code, not a test module, so that implementations in other crates run the same suite.

use std::ops::ControlFlow;

use skerry_proof::algorithm::HashAlgorithm;
use skerry_proof::batch::{FORMAT, HEADER_LENGTH};
use skerry_proof::{BatchHeader, RECORD_LENGTH, Tails};

use crate::batch::SealedBatch;
use crate::error::{AppendErrorKind, AppendFault, AppendFaultKind, OpenError, ReadError};
use crate::seam::{Appended, Head, Journal, JournalReader, JournalStore, Opened, Position};

/// The branch that the suite's batches belong to.
pub const BRANCH: u16 = 7;

/// A batch of `count` records made from `content`, continuing `head`; every tenth record has a tail.
///
/// # Panics
///
/// If `count` is 0.
#[must_use]
pub fn sample_batch(branch: u16, epoch: u64, head: &Head, count: u32, content: u64) -> SealedBatch {
    assert!(count > 0, "a batch has records");
    let mut bytes = vec![0; HEADER_LENGTH];
    for index in 0..u64::from(count) {
        let mut record = [0; RECORD_LENGTH];
        for (number, lane) in record.chunks_exact_mut(8).enumerate() {
            let word =
                (content ^ (index << 20)).wrapping_add(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            lane.copy_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&record);
    }
    let actors = format!("actor of {content}");
    bytes.extend_from_slice(actors.as_bytes());
    let texts: Vec<_> =
        (0..count).step_by(10).skip(1).map(|index| (index, format!("tail {index}"))).collect();
    let tails: Vec<_> = texts.iter().map(|(index, text)| (*index, text.as_bytes())).collect();
    let before = bytes.len();
    Tails::encode(&tails, &mut bytes);
    let length = |bytes: usize| u32::try_from(bytes).expect("a sample batch is small");
    let header = BatchHeader {
        format: FORMAT,
        algorithm: HashAlgorithm::Blake3,
        evidence: HashAlgorithm::Blake3,
        branch,
        incarnation: 1,
        epoch,
        batch: head.batch,
        first_position: head.position.0,
        record_count: count,
        business_date: 20_000,
        time_us: 1_000_000 * head.batch,
        actors_length: length(actors.len()),
        tails_length: length(bytes.len() - before),
        previous: head.hash,
        record_root: [0; 32],
        extras_hash: [0; 32],
        salt: [content.to_le_bytes()[0]; 32],
    };
    SealedBatch::seal(header, bytes, &mut Vec::new()).expect("the lengths fit")
}

/// Lets the journal work until everything taken has been told, and returns what was told.
pub fn settle<J: Journal>(journal: &mut J) -> Vec<Result<Appended, AppendFault>> {
    let mut told = Vec::new();
    while journal.in_flight() > 0 {
        let stepped = journal.step();
        match journal.poll() {
            Some(news) => {
                let failed = news.is_err();
                told.push(news);
                if failed {
                    break;
                }
            }
            None if stepped => (),
            None => std::thread::yield_now(),
        }
    }
    told
}

/// Appends `counts` batches of so many records, waiting whenever the journal is busy. Returns the batches, all told.
///
/// # Panics
///
/// If one is refused or fails.
pub fn append_all<J: Journal>(journal: &mut J, counts: &[u32]) -> Vec<SealedBatch> {
    let mut batches = Vec::new();
    for count in counts {
        let head = journal.taken();
        let batch = sample_batch(BRANCH, journal.epoch(), &head, *count, head.batch);
        batches.push(batch.clone());
        let mut pending = Some(batch);
        while let Some(batch) = pending.take() {
            match journal.append(batch) {
                Ok(()) => (),
                Err((AppendErrorKind::Busy, batch)) => {
                    assert!(journal.in_flight() > 0, "busy with nothing in flight");
                    assert!(settle(journal).iter().all(Result::is_ok), "an append failed");
                    pending = Some(batch);
                }
                Err((kind, _)) => panic!("append refused: {kind}"),
            }
        }
    }
    assert!(settle(journal).iter().all(Result::is_ok), "an append failed");
    batches
}

/// Runs the whole suite. `fresh` makes an empty place for [`BRANCH`], with an empty place to archive to.
///
/// # Panics
///
/// If the implementation breaks the contract.
pub fn check_contract<S: JournalStore>(mut fresh: impl FnMut() -> S) {
    begins_empty(&fresh());
    tells_in_order_and_finds_again(&fresh());
    refuses_what_does_not_continue(&fresh());
    is_busy_within_bounds(&fresh());
    has_one_writer(&fresh());
    confirms_an_owner_while_it_is_one(&fresh());
    a_replaced_owner_adds_nothing(&fresh());
    reads_by_position(&fresh());
    readers_go_on_beside_the_writer(&fresh());
    is_looked_at_without_being_owned(&fresh());
    archives(&fresh());
    archives_in_steps(&fresh());
}

fn open<S: JournalStore>(store: &S) -> S::Journal {
    match store.open() {
        Ok(Opened { journal, .. }) => journal,
        Err(error) => panic!("could not open: {error}"),
    }
}

fn begins_empty<S: JournalStore>(store: &S) {
    let Opened { mut journal, recovery } = store.open().expect("an empty place opens");
    assert_eq!(recovery.head, Head::default());
    assert_eq!(recovery.start, Position(0));
    assert_eq!(journal.head(), Head::default());
    assert_eq!(journal.taken(), Head::default());
    assert_eq!(journal.epoch(), recovery.epoch);
    assert!(journal.poll().is_none());
    let reader = journal.reader();
    assert!(reader.read(Position(0), 1 << 20).expect("the end can be read").is_empty());
    assert!(matches!(reader.read_record(Position(0)), Err(ReadError::Beyond { position: 0, durable: 0 })));
    assert!(matches!(reader.read(Position(1), 1), Err(ReadError::Beyond { .. })));
    assert!(journal.close().is_empty());
}

fn tells_in_order_and_finds_again<S: JournalStore>(store: &S) {
    let mut journal = open(store);
    let epoch = journal.epoch();
    let mut head = Head::default();
    for count in [1, 3, 40] {
        let batch = sample_batch(BRANCH, epoch, &head, count, 5);
        head = Head::after(&batch);
        journal.append(batch).expect("there is room for three");
        assert_eq!(journal.taken(), head);
    }
    let told: Vec<_> =
        settle(&mut journal).into_iter().map(|news| news.expect("no fault was asked for")).collect();
    let ends: Vec<_> = told.iter().map(|told| told.head.position.0).collect();
    assert_eq!(ends, [1, 4, 44], "told in order");
    assert!(told.iter().all(|told| Head::after(&told.batch) == told.head), "each with its own batch");
    assert_eq!(journal.head(), head);
    assert_eq!(journal.stats().batches, 3);
    drop(journal);

    let Opened { journal, recovery } = store.open().expect("it opens again");
    assert_eq!(recovery.head, head, "what was told is there");
    assert!(recovery.epoch > epoch, "every opening raises the epoch");
    let batches = journal.reader().read(Position(0), usize::MAX).expect("all of it can be read");
    assert_eq!(batches, told.into_iter().map(|told| told.batch).collect::<Vec<_>>(), "byte for byte");
}

fn refuses_what_does_not_continue<S: JournalStore>(store: &S) {
    let mut journal = open(store);
    let epoch = journal.epoch();
    append_all(&mut journal, &[2, 2]);
    let head = journal.taken();
    let wrong_position = Head { position: Position(3), ..head };
    let wrong_number = Head { batch: 1, ..head };
    let wrong_hash = Head { hash: [9; 32], ..head };
    for wrong in [wrong_position, wrong_number, wrong_hash] {
        let batch = sample_batch(BRANCH, epoch, &wrong, 1, 0);
        let (kind, _) = journal.append(batch).expect_err("it does not continue");
        assert!(matches!(kind, AppendErrorKind::OutOfOrder(_)), "{kind}");
    }
    let (kind, _) =
        journal.append(sample_batch(BRANCH, epoch + 1, &head, 1, 0)).expect_err("a foreign epoch");
    assert!(matches!(kind, AppendErrorKind::OutOfOrder(_)), "{kind}");
    append_all(&mut journal, &[1]);
    assert_eq!(journal.head().position, Position(5), "and goes on as if nothing had been");
}

fn is_busy_within_bounds<S: JournalStore>(store: &S) {
    let mut journal = open(store);
    let mut head = Head::default();
    let mut taken = 0;
    let busy = loop {
        let batch = sample_batch(BRANCH, journal.epoch(), &head, 1, 0);
        let next = Head::after(&batch);
        match journal.append(batch) {
            Ok(()) => (head, taken) = (next, taken + 1),
            Err((kind, batch)) => break (kind, batch),
        }
        assert!(taken < 1000, "takes without bound");
    };
    assert_eq!(busy.0, AppendErrorKind::Busy);
    assert_eq!(journal.in_flight(), taken);
    assert!(settle(&mut journal).iter().all(Result::is_ok));
    journal.append(busy.1).expect("what came back can be tried again");
    assert!(settle(&mut journal).iter().all(Result::is_ok));
    assert_eq!(journal.head().batch, taken as u64 + 1);
}

fn has_one_writer<S: JournalStore>(store: &S) {
    let mut older = open(store);
    append_all(&mut older, &[1]);
    let head = older.taken();
    match store.open() {
        Err(OpenError::InUse { .. }) => append_all(&mut older, &[1]).clear(),
        Err(other) => panic!("the second opening failed otherwise: {other}"),
        Ok(Opened { mut journal, .. }) => {
            append_all(&mut journal, &[1]);
            let batch = sample_batch(BRANCH, older.epoch(), &head, 1, 0);
            let fenced = match older.append(batch) {
                Err((AppendErrorKind::Fenced, _)) => true,
                Err((other, _)) => panic!("refused otherwise: {other}"),
                Ok(()) => {
                    let mut told = settle(&mut older);
                    matches!(told.pop(), Some(Err(AppendFault { kind: AppendFaultKind::Fenced, .. })))
                }
            };
            assert!(fenced, "two owners can write");
            assert_eq!(journal.head().batch, 2);
        }
    }
}

/// Lets the journal work until a check is over; whether it came out well.
fn check<J: Journal>(journal: &mut J) -> Result<(), AppendFault> {
    let asked = journal.confirm();
    loop {
        journal.step();
        if journal.confirmed() >= asked {
            return Ok(());
        }
        match journal.poll() {
            Some(told) => drop(told?),
            None => std::thread::yield_now(),
        }
    }
}

/// A check says well while nobody else opened the journal, and never once somebody has.
fn confirms_an_owner_while_it_is_one<S: JournalStore>(store: &S) {
    let mut older = open(store);
    assert_eq!(older.confirmed(), 0);
    check(&mut older).expect("it is the owner");
    append_all(&mut older, &[1, 2]);
    check(&mut older).expect("it is the owner");
    assert_eq!(older.confirmed(), 2);
    // Beside what is in flight too.
    let batch = sample_batch(BRANCH, older.epoch(), &older.taken(), 3, 1);
    older.append(batch).expect("there is room");
    check(&mut older).expect("it is the owner");
    assert!(settle(&mut older).iter().all(Result::is_ok), "an append failed");
    // Where an older owner keeps newer ones out, it still is the one.
    let Ok(Opened { mut journal, .. }) = store.open() else {
        return check(&mut older).expect("it is the owner");
    };
    let refused = check(&mut older).expect_err("two owners may answer");
    assert_eq!(refused.kind, AppendFaultKind::Fenced);
    let batch = sample_batch(BRANCH, older.epoch(), &older.taken(), 1, 0);
    assert!(older.append(batch).is_err(), "after a fault nothing more is taken");
    check(&mut journal).expect("the newer one is the owner");
    append_all(&mut journal, &[1]);
}

/// What an older owner had on its way when it was replaced is found by the newer one, or never comes to be.
fn a_replaced_owner_adds_nothing<S: JournalStore>(store: &S) {
    let mut older = open(store);
    append_all(&mut older, &[2]);
    while older.in_flight() < 2 {
        let batch = sample_batch(BRANCH, older.epoch(), &older.taken(), 3, 1);
        if older.append(batch).is_err() {
            break;
        }
    }
    // Where an older owner keeps newer ones out, nothing of this can happen.
    let Ok(Opened { mut journal, recovery }) = store.open() else { return };
    let found = recovery.head;
    for told in settle(&mut older) {
        match told {
            Ok(appended) => assert!(appended.head.position <= found.position, "told, but not found"),
            Err(fault) => assert_eq!(fault.kind, AppendFaultKind::Fenced),
        }
    }
    assert_eq!(journal.head(), found);
    append_all(&mut journal, &[1]);
    let batches = journal.reader().read(Position(0), usize::MAX).expect("a good journal");
    assert_eq!(batches.len() as u64, found.batch + 1);
    assert_eq!(batches.last().map(|last| last.header().epoch), Some(journal.epoch()));
}

fn reads_by_position<S: JournalStore>(store: &S) {
    let mut journal = open(store);
    let mut batches = append_all(&mut journal, &[1, 30, 200, 1, 1]);
    drop(journal);
    let mut journal = open(store);
    batches.extend(append_all(&mut journal, &[25, 1]));
    let reader = journal.reader();
    for batch in &batches {
        let header = *batch.header();
        let parts = batch.view().parts();
        for index in 0..header.record_count {
            let position = Position(header.first_position + u64::from(index));
            let read = reader.read_record(position).expect("it is durable");
            let (record, tail) = parts.record(index).expect("it is in the batch");
            assert_eq!((&read.record, read.tail.as_deref()), (record, tail), "record {position}");
            assert_eq!((read.header, read.position), (header, position));
        }
        let from = Position(header.first_position + u64::from(header.record_count) - 1);
        assert_eq!(reader.read(from, 1).expect("at least one")[0], *batch);
        let rest = reader.read(from, usize::MAX).expect("all");
        assert!(batches.ends_with(&rest) && rest[0] == *batch);
        let mut scanned = Vec::new();
        let end = reader.scan(from, &mut |view| {
            scanned.push(view.bytes.to_vec());
            ControlFlow::Continue(())
        });
        assert_eq!(end.expect("a good journal"), journal.head());
        assert!(scanned.iter().map(Vec::as_slice).eq(rest.iter().map(SealedBatch::bytes)));
    }
    let first = reader.scan(Position(0), &mut |_| ControlFlow::Break(())).expect("it can be broken off");
    assert_eq!(first, Head::after(&batches[0]));
}

fn readers_go_on_beside_the_writer<S: JournalStore>(store: &S) {
    let mut journal = open(store);
    append_all(&mut journal, &[10]);
    let reader = journal.reader();
    std::thread::scope(|scope| {
        let beside = scope.spawn(move || {
            let mut seen = 0;
            while seen < 300 {
                let head = reader.head();
                let mut records = 0;
                let end = reader.scan(Position(0), &mut |batch| {
                    records += u64::from(batch.header.record_count);
                    ControlFlow::Continue(())
                });
                let end = end.expect("only good batches are durable");
                assert!(end.position >= head.position && end.position.0 == records && records >= seen);
                seen = records;
            }
        });
        append_all(&mut journal, &[10; 29]);
        beside.join().expect("the reader saw what it should");
    });
}

fn is_looked_at_without_being_owned<S: JournalStore>(store: &S) {
    let mut journal = open(store);
    let epoch = journal.epoch();
    let mut batches = append_all(&mut journal, &[100, 20]);
    let reader = store.look().expect("a journal that is open can be looked at");
    let seen = |batches: &[SealedBatch]| {
        let head = reader.look_again().expect("it is there");
        assert_eq!((head, reader.head()), (batches.last().map(Head::after).unwrap_or_default(), head));
        assert_eq!(reader.read(Position(0), usize::MAX).expect("it can be read"), batches);
        let (last, mut visited) = (Position(head.position.0 - 1), 0);
        let mut visit = |_: crate::BatchView<'_>| {
            visited += 1;
            ControlFlow::Continue(())
        };
        assert_eq!(reader.scan(last, &mut visit).expect("it can be scanned"), head);
        assert_eq!((visited, reader.read_record(last).expect("it is there").position), (1, last));
    };
    seen(&batches);
    batches.extend(append_all(&mut journal, &[1, 30]));
    seen(&batches);
    assert_eq!(journal.epoch(), epoch, "nobody took it over");
    drop(journal);
    let mut journal = open(store);
    batches.extend(append_all(&mut journal, &[7, 100]));
    seen(&batches);
    // What lies in the cold folder since is read from there.
    let near = journal.reader();
    let copied = near.copy_old(Position(120), usize::MAX).expect("there is room");
    let start = journal.release(copied).expect("it lets go");
    seen(&batches);
    assert_eq!(reader.start(), start);
    batches.extend(append_all(&mut journal, &[3]));
    seen(&batches);
}

fn archives<S: JournalStore>(store: &S) {
    let mut journal = open(store);
    let mut batches = append_all(&mut journal, &[100; 5]);
    drop(journal);
    let mut journal = open(store);
    batches.extend(append_all(&mut journal, &[100; 5]));
    let head = journal.head();
    let (near, far) = (journal.reader(), journal.far_reader());
    let copied = near.copy_old(Position(500), usize::MAX).expect("there is room");
    assert_eq!(near.start(), Position(0), "copying takes nothing away");
    assert!(near.read_record(Position(0)).is_ok());
    let start = journal.release(copied).expect("it lets go");
    assert_eq!(start, copied.end().position);
    assert!(start > Position(0) && start <= Position(500), "archived up to {start}");
    for reader in [&near, &far] {
        assert_eq!(reader.start(), start);
        assert!(reader.read_record(start).is_ok());
    }
    assert!(matches!(near.read_record(Position(0)), Err(ReadError::Archived { first }) if first == start.0));
    assert!(matches!(near.read(Position(0), 1), Err(ReadError::Archived { .. })));
    assert!(near.scan(Position(0), &mut |_| ControlFlow::Continue(())).is_err());
    reads_through(&far, &batches);
    append_all(&mut journal, &[1]);
    drop(journal);
    let Opened { recovery, .. } = store.open().expect("it opens without what is archived");
    assert_eq!((recovery.start, recovery.head.batch), (start, head.batch + 1));
}

/// A reader that reads through sees what was there before anything was archived.
fn reads_through<R: JournalReader>(far: &R, batches: &[SealedBatch]) {
    assert_eq!(far.origin().expect("the archive is there"), Head::default());
    for from in [0, 99, 100, 499, 500, 999] {
        let rest = far.read(Position(from), usize::MAX).expect("all of it");
        assert!(batches.ends_with(&rest) && rest[0].header().first_position <= from, "from {from}");
        assert!(rest[0].header().end_position() > from);
        let read = far.read_record(Position(from)).expect("it is durable");
        assert_eq!(read.header, *rest[0].header());
        let mut scanned = Vec::new();
        let end = far.scan(Position(from), &mut |view| {
            scanned.push(view.bytes.to_vec());
            ControlFlow::Continue(())
        });
        assert_eq!(end.expect("a good journal"), far.head());
        assert!(scanned.iter().map(Vec::as_slice).eq(rest.iter().map(SealedBatch::bytes)), "from {from}");
    }
    assert_eq!(far.read(Position(0), 1).expect("at least one"), batches[..1]);
}

/// Twice is once more, and a copy that was never followed by letting go does no harm.
fn archives_in_steps<S: JournalStore>(store: &S) {
    let mut batches = Vec::new();
    for _ in 0..3 {
        let mut journal = open(store);
        batches.extend(append_all(&mut journal, &[100; 3]));
    }
    let mut journal = open(store);
    batches.extend(append_all(&mut journal, &[100]));
    let far = journal.far_reader();
    let unused = far.copy_old(Position(300), usize::MAX).expect("there is room");
    let again = far.copy_old(Position(300), usize::MAX).expect("it is there already");
    assert_eq!(unused, again);
    let first = journal.release(again).expect("it lets go");
    assert_eq!(
        journal.release(again).expect("nothing is left to let go"),
        first,
        "a second time changes nothing"
    );
    assert_eq!(far.copy_old(Position(0), usize::MAX).expect("nothing is old").end().position, first);
    let more = far.copy_old(Position(900), usize::MAX).expect("there is room");
    drop(journal);
    let mut journal = open(store);
    let second = journal.release(more).expect("copied under an earlier owner, it is there all the same");
    assert!(second > first && second <= Position(900), "archived up to {first}, then {second}");
    reads_through(&journal.far_reader(), &batches);
    assert!(
        far.copy_old(Position(u64::MAX), usize::MAX)
            .is_ok_and(|copied| copied.end().position <= journal.head().position)
    );
}
