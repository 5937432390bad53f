//! A branch under a lease: an answer leaves while the lease is good, or once the journal's store has confirmed the owner since. An
//! owner that stood still past its lease answers nothing and writes nothing once another has the branch.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use skerry_branch::api::{Answer, Body, Read, Reply};
use skerry_branch::channels::message::{Header, Said};
use skerry_branch::evidence::receipts::EvidenceError;
use skerry_branch::history::HistoryError;
use skerry_branch::{BranchThread, Condition, Leash, Options, Parts};
use skerry_journal::{FaultStorage, Journal, JournalStore, MemoryStore, Mode, Opened, RealStorage};

/// A lease by a virtual clock.
#[derive(Debug, Default)]
struct Lease {
    now: AtomicU64,
    until: AtomicU64,
}

impl Lease {
    fn granted(now: u64, until: u64) -> Arc<Self> {
        Arc::new(Self { now: now.into(), until: until.into() })
    }

    fn at(&self, now: u64) {
        self.now.store(now, Ordering::SeqCst);
    }
}

impl Leash for Lease {
    fn holds(&self) -> bool {
        self.now.load(Ordering::SeqCst) < self.until.load(Ordering::SeqCst)
    }
}

type Bank = Stepped<FaultStorage, MemoryStore>;

fn under(lease: &Arc<Lease>, server: &MemoryStore) -> Bank {
    let leash: Arc<dyn Leash> = Arc::clone(lease) as _;
    let storage = FaultStorage::new(1);
    let options = Options { leash: Some(leash), ..options() };
    let Parts { storage: ground, options, signer, keys, ticks, .. } = parts(&storage, Mode::Stepped, options);
    let mut bank = Bank::over(server.clone(), &storage);
    bank.branch = skerry_branch::Branch::new(Parts {
        store: server.clone(),
        storage: ground,
        options,
        signer,
        keys,
        ticks,
    });
    bank.open().unwrap();
    bank
}

fn look() -> Body {
    Body::Read(Read::Account(account(1)))
}

fn posted(reply: &Reply) -> u128 {
    match reply {
        Reply::Answer(Answer::Account(view)) => view.account.credits_posted,
        other => panic!("{other:?}"),
    }
}

fn checks(bank: &mut Bank) -> u64 {
    // One turn more, so that what is wanted has been asked for.
    bank.branch.turn(bank.now);
    bank.branch.owner_checks()
}

#[test]
fn while_the_lease_is_good_an_answer_rests_on_it() {
    let lease = Lease::granted(0, 100);
    let mut bank = under(&lease, &MemoryStore::default());
    bank.found(1, 500);
    lease.at(99);
    let slot = bank.submit(operator(), look());
    bank.branch.turn(bank.now);
    assert_eq!(posted(&slot.take().unwrap()), 500);
    assert_eq!(checks(&mut bank), 0, "the store is not asked");
}

#[test]
fn beyond_it_one_check_stands_for_all_that_wait() {
    let lease = Lease::granted(0, 100);
    let mut bank = under(&lease, &MemoryStore::default());
    bank.found(1, 500);
    lease.at(100);
    let slots: Vec<_> = (0..50).map(|_| bank.submit(operator(), look())).collect();
    bank.branch.turn(bank.now);
    // Whoever comes while it is under way waits for the next one: it may have been answered before.
    let later = bank.submit(operator(), look());
    bank.branch.turn(bank.now);
    bank.branch.turn(bank.now);
    assert!(slots.iter().chain([&later]).all(|slot| slot.take().is_none()), "nothing leaves unproven");
    assert_eq!(checks(&mut bank), 1);
    assert!(bank.branch.step_journal());
    bank.branch.turn(bank.now);
    assert!(slots.iter().all(|slot| slot.take().is_some_and(|reply| posted(&reply) == 500)));
    assert!(later.take().is_none());
    bank.settle();
    assert_eq!(posted(&later.take().unwrap()), 500);
    assert_eq!(checks(&mut bank), 2);
}

#[test]
fn a_batch_that_was_sealed_after_it_proves_as_much() {
    let lease = Lease::granted(0, 100);
    let mut bank = under(&lease, &MemoryStore::default());
    bank.found(2, 500);
    lease.at(100);
    // The look comes after a batch that is on its way already: that one proves nothing about it.
    let one = transfer(account(1), account(2), 10, bank.now.wall_us);
    let paid = bank.submit(operator(), Body::Packed(pack(&[one])));
    bank.branch.turn(bank.now);
    let slot = bank.submit(operator(), look());
    bank.branch.turn(bank.now);
    assert!(bank.branch.step_journal(), "the batch");
    bank.branch.turn(bank.now);
    assert!(paid.take().is_some(), "what rests on an append needs no lease");
    assert!(slot.take().is_none(), "it was decided after that batch was sent");
    let asked = checks(&mut bank);
    assert_eq!(asked, 1);
    bank.settle();
    assert!(slot.take().is_some());

    // One that comes before the batch is proven by it.
    let slot = bank.submit(operator(), look());
    let two = transfer(account(1), account(2), 11, bank.now.wall_us);
    let paid = bank.submit(operator(), Body::Packed(pack(&[two])));
    bank.settle();
    assert!(slot.take().is_some() && paid.take().is_some());
    assert_eq!(checks(&mut bank), asked, "the store need not be asked");
}

/// A process that stood still past its lease: another has the branch and has paid money away.
#[test]
fn an_owner_that_slept_answers_not_one_read_and_writes_not_one_byte() {
    let (lease, server) = (Lease::granted(0, 100), MemoryStore::default());
    let mut slept = under(&lease, &server);
    slept.found(2, 500);
    // Asked before it fell asleep, and decided; the clock is looked at when the answer is about to leave.
    let before = slept.submit(operator(), look());
    lease.at(5_000);
    let Opened { journal: newer, .. } = server.open().unwrap();
    let head = newer.head();
    let after = slept.submit(operator(), look());
    let one = transfer(account(1), account(2), 10, slept.now.wall_us);
    let paid = slept.submit(operator(), Body::Packed(pack(&[one])));
    slept.settle();
    for slot in [before, after, paid] {
        assert!(matches!(slot.take(), Some(Reply::Unknown)), "nobody is answered from what it remembers");
    }
    assert_eq!(newer.head(), head, "not one batch of its came in between");
    let Condition::Sick(why) = slept.branch.condition() else { panic!("{:?}", slept.branch.condition()) };
    assert!(why.contains("open elsewhere"), "{why}");
    assert_eq!(slept.branch.patience(), None, "it does not take the branch back by itself");
    lease.until.store(9_000, Ordering::SeqCst);
    assert_eq!(slept.branch.patience(), None, "nor for a lease: whoever was granted it orders the opening");
}

#[test]
fn a_read_alone_finds_the_other_owner_too() {
    let (lease, server) = (Lease::granted(0, 100), MemoryStore::default());
    let mut slept = under(&lease, &server);
    slept.found(1, 500);
    lease.at(100);
    drop(server.open().unwrap());
    let slot = slept.submit(operator(), look());
    slept.settle();
    assert!(matches!(slot.take(), Some(Reply::Unknown)));
    assert!(matches!(slept.branch.condition(), Condition::Sick(why) if why.contains("open elsewhere")));
}

/// A branch that is beyond its lease and hears of a life that its journal does not know.
fn told_of_another_life(lease: &Arc<Lease>, server: &MemoryStore) -> Bank {
    let mut slept = under(lease, server);
    slept.found(1, 500);
    slept.branch.know(&[2, BRANCH]);
    slept.settle();
    lease.at(100);
    let word = Header { from: 2, to: BRANCH, incarnation: 1, to_incarnation: 2 };
    slept.branch.deliver(word.seal(&Said::Hello, &options().gateway), slept.now).unwrap();
    slept
}

#[test]
fn what_its_successor_did_is_no_loss_of_an_owner_that_slept() {
    let (lease, server) = (Lease::granted(0, 100), MemoryStore::default());
    let mut slept = told_of_another_life(&lease, &server);
    drop(server.open().unwrap());
    slept.settle();
    let condition = slept.branch.condition();
    assert!(matches!(condition, Condition::Sick(why) if why.contains("open elsewhere")), "{condition:?}");
}

#[test]
fn a_loss_that_is_shown_beyond_the_lease_is_one_once_the_store_confirms_the_owner() {
    let (lease, server) = (Lease::granted(0, 100), MemoryStore::default());
    let mut slept = told_of_another_life(&lease, &server);
    slept.settle();
    let condition = slept.branch.condition();
    assert!(matches!(condition, Condition::Sick(why) if why.starts_with("journal_rewound")), "{condition:?}");
}

/// A switch for the branch on threads.
#[derive(Debug, Default)]
struct Switch(AtomicBool);

impl Leash for Switch {
    fn holds(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

fn spawn(name: &str, options: Options) -> (BranchThread, Arc<Switch>) {
    let path = std::env::temp_dir().join(format!("skerry-leases-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let switch = Arc::new(Switch(true.into()));
    let leash: Arc<dyn Leash> = Arc::clone(&switch) as _;
    let options = Options { leash: Some(leash), ..options };
    let parts = parts(&RealStorage::open(path).unwrap(), Mode::Threaded, options);
    (BranchThread::spawn(parts, Box::new(|bytes| bytes.fill(7))).unwrap(), switch)
}

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn those_who_read_beside_the_writer_have_the_owner_confirmed() {
    let (branch, switch) = spawn("beside", options());
    let handle = branch.handle();
    assert_eq!(handle.condition(), Condition::Open);
    switch.0.store(false, Ordering::SeqCst);
    handle.history_answered(PATIENCE).unwrap().unwrap();
    assert!(handle.recorded(0, 1).unwrap().is_empty());
    let began = Instant::now();
    while handle.figures().metrics.owner_checks < 2 {
        assert!(began.elapsed() < PATIENCE, "each asks");
        std::thread::sleep(Duration::from_millis(10)); // between two looks, not to win a race
    }
    branch.close();
}

#[test]
fn those_who_read_beside_a_writer_that_does_not_get_to_it_hear_nothing() {
    let limits = skerry_branch::queue::Limits { requests: 0, ..options().limits };
    let (branch, switch) = spawn("full", Options { limits, ..options() });
    let handle = branch.handle();
    handle.history_answered(PATIENCE).unwrap().unwrap();
    assert!(handle.recorded(0, 1).is_ok(), "under the lease nobody is asked");
    switch.0.store(false, Ordering::SeqCst);
    assert!(matches!(handle.history_answered(PATIENCE), Err(HistoryError::Unconfirmed)));
    assert!(matches!(handle.recorded(0, 1), Err(EvidenceError::Unconfirmed)));
    assert!(matches!(handle.receipt(0), Err(EvidenceError::Unconfirmed)));
    assert!(matches!(handle.position_on(skerry_money::Date(0)), Err(EvidenceError::Unconfirmed)));
    branch.close();
}
