//! A follower of a branch whose journal is on a real server: it has what its owner has, takes over at any moment, and on threads within
//! the time that the rest takes; the owner of before writes nothing and answers nothing from then on.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "../../branch/tests/common/mod.rs"]
mod branch;
mod common;
#[path = "../../branch/tests/common/lives.rs"]
mod lives;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use branch::{
    account, cash, found, open_account, open_customer, operator, pack, parts, request, transfer, unpack,
};
use common::{Group, Store, until};
use lives::{Seen, live};
use skerry_book::Command;
use skerry_branch::api::{Answer, Body, Read, Reply};
use skerry_branch::{BranchHandle, BranchThread, Condition, Parts};
use skerry_journal::{FaultStorage, Mode};
use skerry_postgres::Durability;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_follower_takes_over_at_any_moment_with_what_a_fresh_replay_has() {
    let group = Group::single();
    let mut seen = Seen::default();
    for seed in 0..4 {
        // Small spans: the tail is read across their borders.
        live(seed, &group.fresh(Durability::Single), true, &mut seen);
    }
    assert!(seen.fenced > 10 && seen.behind > 0, "{seen:?}");
}

#[test]
fn the_same_behind_synchronous_standbys() {
    let group = Group::replicated();
    let mut seen = Seen::default();
    live(9, &group.fresh(Durability::Replicated), true, &mut seen);
    assert_eq!(seen.fenced, 4);
}

fn parts_of(store: &Store, machine: u64) -> Parts<Store, FaultStorage> {
    let Parts { storage, options, signer, keys, ticks, .. } =
        parts(&FaultStorage::new(machine), Mode::Stepped, branch::options());
    Parts { store: store.clone(), storage, options, signer, keys, ticks }
}

fn submit(handle: &BranchHandle, body: Body) -> Option<mpsc::Receiver<Reply>> {
    let (send, receive) = mpsc::channel();
    let reply = move |reply| drop(send.send(reply));
    handle.submit(request(operator(), body, reply)).ok()?;
    Some(receive)
}

fn command(handle: &BranchHandle, command: Command) {
    let reply = submit(handle, Body::Command { command: Box::new(command), key: None }).unwrap();
    assert!(matches!(reply.recv_timeout(PATIENCE).unwrap(), Reply::Command(Ok(_))));
}

/// Pays one; whether it was acknowledged.
fn pay(handle: &BranchHandle) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let one = transfer(cash(), account(1), 1, u64::try_from(now.as_micros()).unwrap());
    let reply =
        submit(handle, Body::Packed(pack(&[one]))).and_then(|reply| reply.recv_timeout(PATIENCE).ok());
    matches!(reply, Some(Reply::Packed(packed)) if unpack(&packed.results)[0].code == 0)
}

fn balance(handle: &BranchHandle) -> i128 {
    let reply = submit(handle, Body::Read(Read::Account(account(1)))).unwrap();
    match reply.recv_timeout(PATIENCE).unwrap() {
        Reply::Answer(Answer::Account(view)) => view.account.balance(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn on_threads_under_load_it_is_there_at_once() {
    let group = Group::single();
    let store = group.fresh(Durability::Single);
    // It may be there before the journal is.
    let follower =
        BranchThread::follow(parts_of(&store, 4), Box::new(|bytes: &mut [u8; 32]| bytes.fill(8))).unwrap();
    let theirs = follower.handle();
    assert_eq!((theirs.condition(), theirs.position()), (Condition::Closed, 0));
    let owner =
        BranchThread::spawn(parts_of(&store, 3), Box::new(|bytes: &mut [u8; 32]| bytes.fill(7))).unwrap();
    let handle = owner.handle();
    command(&handle, found());
    command(&handle, open_customer(1, 1));
    command(&handle, open_account(1));
    let (stop, paid) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (handle, stop, paid) = (handle.clone(), Arc::clone(&stop), Arc::clone(&paid));
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    paid.fetch_add(u64::from(pay(&handle)), Ordering::SeqCst);
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    until("payments go on", || paid.load(Ordering::SeqCst) > 200);
    until("it has caught up", || theirs.following().is_some_and(|following| following.has_caught_up));
    until("it keeps up", || theirs.following().unwrap().followed.position > 200);
    assert!(!pay(&theirs), "it serves nobody");

    let began = Instant::now();
    let found = theirs.reopen().unwrap();
    println!(
        "took over {} records, {} of them read now, in {:?}",
        found.head.position,
        found.replayed,
        began.elapsed()
    );
    assert_eq!((theirs.condition(), theirs.following()), (Condition::Open, None));
    assert!(found.replayed < found.head.position.0);
    until("the owner of before has found out", || {
        let _refused = pay(&handle);
        matches!(handle.condition(), Condition::Sick(why) if why.contains("open elsewhere"))
    });
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    // What was not acknowledged may have been done; what was acknowledged is there.
    let before = balance(&theirs);
    assert!(before >= i128::from(paid.load(Ordering::SeqCst)), "{before} after {paid:?}");
    assert!(pay(&theirs));
    assert_eq!(balance(&theirs), before + 1);
    until("its history is there", || {
        theirs.history_answered(PATIENCE).unwrap().is_some_and(|(history, at)| history.position() >= at)
    });

    // And back: the other way round it is handed over, and nobody waits for a snapshot.
    owner.close();
    let again =
        BranchThread::follow(parts_of(&store, 5), Box::new(|bytes: &mut [u8; 32]| bytes.fill(9))).unwrap();
    let back = again.handle();
    until("it has caught up", || back.following().is_some_and(|following| following.has_caught_up));
    theirs.mark(true);
    let (gone, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| follower.hand_over(move || gone.send(()).unwrap()));
        told.recv_timeout(PATIENCE).unwrap();
        back.reopen().unwrap();
        assert_eq!(balance(&back), before + 1);
    });
    again.close();
}
