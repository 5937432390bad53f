//! A branch whose journal is on a real server and whose lease has run out: it goes on by asking the server who the owner is, once for many
//! reads; once another owner is there it answers nothing and writes nothing.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "../../branch/tests/common/mod.rs"]
mod branch;
mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use branch::{account, found, open_account, open_customer, operator, pack, parts, request, transfer};
use common::{Group, Store, open, until};
use skerry_book::Command;
use skerry_branch::api::{Answer, Body, Read, Reply};
use skerry_branch::{BranchHandle, BranchThread, Condition, Leash, Options, Parts};
use skerry_journal::{FaultStorage, Journal, Mode};
use skerry_postgres::{Durability, Pool, PostgresOptions, PostgresStore, Server};

#[derive(Debug)]
struct Switch(AtomicBool);

impl Leash for Switch {
    fn holds(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

fn store_of(group: &Group, durability: Durability) -> Store {
    let pool = Pool::new(Server::new(group.options(durability)).unwrap(), 4);
    let options = PostgresOptions::new(branch::options().branch, "bank of tests");
    PostgresStore::new(pool, options, Some(FaultStorage::new(1)), Some(FaultStorage::new(2)))
}

fn spawn(store: &Store) -> (BranchThread, Arc<Switch>) {
    let switch = Arc::new(Switch(true.into()));
    let leash: Arc<dyn Leash> = Arc::clone(&switch) as _;
    let options = Options { leash: Some(leash), ..branch::options() };
    let Parts { storage, options, signer, keys, ticks, .. } =
        parts(&FaultStorage::new(3), Mode::Stepped, options);
    let parts = Parts { store: store.clone(), storage, options, signer, keys, ticks };
    let branch = BranchThread::spawn(parts, Box::new(|bytes: &mut [u8; 32]| bytes.fill(7))).unwrap();
    assert_eq!(branch.handle().condition(), Condition::Open);
    (branch, switch)
}

fn submit(handle: &BranchHandle, body: Body) -> mpsc::Receiver<Reply> {
    let (send, receive) = mpsc::channel();
    let reply = move |reply| drop(send.send(reply));
    handle.submit(request(operator(), body, reply)).unwrap();
    receive
}

fn command(handle: &BranchHandle, command: Command) {
    let reply = submit(handle, Body::Command { command: Box::new(command), key: None });
    assert!(matches!(reply.recv_timeout(PATIENCE).unwrap(), Reply::Command(Ok(_))));
}

fn found_with_two(handle: &BranchHandle) {
    command(handle, found());
    for number in [1, 2] {
        command(handle, open_customer(number, number));
        command(handle, open_account(u32::try_from(number).unwrap()));
    }
}

fn look() -> Body {
    Body::Read(Read::Account(account(1)))
}

fn pay(handle: &BranchHandle) -> mpsc::Receiver<Reply> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let one = transfer(branch::cash(), account(1), 1, u64::try_from(now.as_micros()).unwrap());
    submit(handle, Body::Packed(pack(&[one])))
}

fn checks(handle: &BranchHandle) -> u64 {
    handle.figures().metrics.owner_checks
}

/// As when the directory is down: nobody renews the lease, and nobody else is granted it.
fn goes_on_without_a_lease(group: &Group, durability: Durability) {
    const READS: usize = 2_000;
    let store = store_of(group, durability);
    let (branch, switch) = spawn(&store);
    let handle = branch.handle();
    found_with_two(&handle);
    switch.0.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(matches!(pay(&handle).recv_timeout(PATIENCE).unwrap(), Reply::Packed(_)));
    }
    let began = Instant::now();
    let mut told = 0;
    while told < READS {
        let waiting: Vec<_> = (0..100).map(|_| submit(&handle, look())).collect();
        for reply in waiting {
            assert!(matches!(reply.recv_timeout(PATIENCE).unwrap(), Reply::Answer(Answer::Account(_))));
            told += 1;
        }
    }
    let many = began.elapsed();
    let began = Instant::now();
    for _ in 0..100 {
        assert!(matches!(submit(&handle, look()).recv_timeout(PATIENCE).unwrap(), Reply::Answer(_)));
    }
    let one = began.elapsed() / 100;
    handle.history_answered(PATIENCE).unwrap().unwrap();
    until("one after the other each asks", || checks(&handle) >= 100);
    let asked = checks(&handle);
    assert!(asked < READS as u64, "one check stands for many reads: {asked}");
    println!(
        "{durability:?}, without a lease: {READS} reads by hundreds in {many:?}, a single one {one:?}; {asked} checks in all"
    );
    branch.close();
}

#[test]
fn an_owner_goes_on_while_nobody_renews_its_lease() {
    goes_on_without_a_lease(&Group::single(), Durability::Single);
}

#[test]
fn with_standbys_a_check_is_a_commit_that_waits_for_one() {
    let mut group = Group::replicated();
    goes_on_without_a_lease(&group, Durability::Replicated);
    // A server that was replaced and does not know it still reads its own row. Without standbys it confirms nobody.
    let store = store_of(&group, Durability::Replicated);
    let mut journal = open(&store);
    let asked = journal.confirm();
    let began = Instant::now();
    while journal.confirmed() < asked {
        assert!(journal.poll().is_none() && began.elapsed() < PATIENCE);
    }
    for standby in [1, 2] {
        group.nodes[standby].kill();
    }
    let asked = journal.confirm();
    let fault = common::next(&mut journal).unwrap_err();
    assert!(journal.confirmed() < asked);
    assert!(common::chain(&fault).contains("did not confirm its owner"), "{}", common::chain(&fault));
}

#[test]
fn an_owner_that_slept_past_its_lease_writes_no_row_and_answers_no_read() {
    let group = Group::single();
    let store = store_of(&group, Durability::Single);
    let (branch, switch) = spawn(&store);
    let handle = branch.handle();
    found_with_two(&handle);
    assert!(matches!(submit(&handle, look()).recv_timeout(PATIENCE).unwrap(), Reply::Answer(_)));
    switch.0.store(false, Ordering::SeqCst);
    let newer =
        open(&store.with_memory_of_the_mark_only(Pool::new(
            Server::new(group.options(Durability::Single)).unwrap(),
            1,
        )));
    let rows = || group.primary().sql("select count(*), max(position) from skerry.journal");
    let before = rows();
    assert!(matches!(submit(&handle, look()).recv_timeout(PATIENCE).unwrap(), Reply::Unknown));
    let began = Instant::now();
    while !matches!(handle.condition(), Condition::Sick(why) if why.contains("open elsewhere")) {
        assert!(began.elapsed() < PATIENCE, "{:?}", handle.condition());
        std::thread::yield_now();
    }
    assert!(handle.history_answered(PATIENCE).is_ok_and(|history| history.is_none()), "it is closed");
    assert!(handle.recorded(0, 1).is_err());
    assert_eq!(rows(), before, "not one row");
    drop(newer);
    branch.close();
}
