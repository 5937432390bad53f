//! A follower has what its owner has, and takes over with what is left to read: over journals in memory and in files. Followers whose
//! journal lost what they had are thrown away.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "common/mod.rs"]
mod branch;
#[path = "common/lives.rs"]
mod lives;

use branch::*;
use lives::{Bank, Seen, found_with, keys, live, on, pay, settle, word};
use skerry_book::Command;
use skerry_branch::api::Body;
use skerry_branch::keys::{KeyError, KeyRef};
use skerry_branch::{Condition, Followed, Now, OpenFailure};
use skerry_journal::{FaultStorage, LocalStore, MemoryStore, Mode, Storage};

const NOON: Now = Now { wall_us: NOON_US, monotonic_us: 1_000_000 };

#[test]
fn a_follower_takes_over_at_any_moment_with_what_a_fresh_replay_has() {
    let mut seen = Seen::default();
    for seed in 0..60 {
        live(seed, &MemoryStore::default(), true, &mut seen);
    }
    assert!(seen.level > 10 && seen.behind > 10 && seen.in_flight > 10 && seen.fenced > 10, "{seen:?}");
}

#[test]
fn the_same_over_local_files_whose_owner_died() {
    let mut seen = Seen::default();
    for seed in 0..40 {
        let storage = FaultStorage::new(seed);
        let options = skerry_journal::LocalOptions {
            segment_bytes: 16 << 10,
            reserve_bytes: 4 << 10,
            ..local_options(Mode::Stepped)
        };
        let store = LocalStore { storage: storage.folder("journal").unwrap(), options, cold: None };
        live(seed, &store, false, &mut seen);
    }
    assert!(seen.level > 5 && seen.behind > 10, "{seen:?}");
}

/// An owner with some payments, and a follower that has read them all.
fn pair(store: &MemoryStore) -> (Bank<MemoryStore>, Bank<MemoryStore>) {
    let keys = keys(1);
    let mut owner = on(store.clone(), &FaultStorage::new(1), &keys, NOON);
    owner.open().unwrap();
    found_with(&mut owner, 2, 500);
    let mut follower = on(store.clone(), &FaultStorage::new(2), &keys, NOON);
    follower.branch.follow().unwrap();
    while follower.branch.keep_up().unwrap() {}
    (owner, follower)
}

fn pay_some(bank: &mut Bank<MemoryStore>, count: usize) {
    for _ in 0..count {
        let slot = pay(bank, transfer(account(1), account(2), 1, NOON_US));
        settle(bank);
        assert_eq!(lives::accepted(&slot), Some(true));
    }
}

#[test]
fn it_says_how_far_it_is() {
    let store = MemoryStore::default();
    let (mut owner, mut follower) = pair(&store);
    let position = owner.branch.reader_head().position.0;
    assert_eq!(follower.branch.followed(), Some(Followed { position, head: position }));
    assert_eq!(follower.branch.condition(), &Condition::Closed);
    pay_some(&mut owner, 3);
    assert!(follower.branch.keep_up().unwrap());
    let followed = follower.branch.followed().unwrap();
    assert_eq!((followed.position, followed.behind()), (position + 3, 0));
    assert!(!follower.branch.keep_up().unwrap(), "nothing more is there");
    assert_eq!(owner.branch.condition(), &Condition::Open, "nobody took it over");
    follower.branch.close(NOON);
    assert_eq!(follower.branch.followed(), None);
}

#[test]
fn a_follower_whose_store_lost_what_it_has_is_thrown_away() {
    // The journal is shorter; as long with other content; longer with other content.
    for more in [0, 1, 4] {
        let store = MemoryStore::default();
        let (mut owner, mut follower) = pair(&store);
        pay_some(&mut owner, 1);
        assert!(follower.branch.keep_up().unwrap());
        store.lose(1);
        let mut other = on(store.accepting_loss(), &FaultStorage::new(3), &keys(1), NOON);
        if more > 0 {
            other.open().unwrap();
            pay_some(&mut other, more);
        }
        let failure = follower.branch.keep_up().unwrap_err();
        assert!(matches!(failure, OpenFailure::Differs { .. }), "{failure}");
        assert_eq!(follower.branch.condition(), &Condition::Sick(failure.to_string()));
        assert_eq!(follower.branch.followed(), None);
        if more > 0 {
            // It can be opened, and follow, anew.
            follower.branch.follow().unwrap();
            while follower.branch.keep_up().unwrap() {}
            let theirs = word(&mut other, 2);
            follower.open().unwrap();
            assert_eq!(word(&mut follower, 2), theirs);
        }
    }
}

#[test]
fn a_loss_that_only_the_promotion_meets_is_not_taken_along() {
    for more in [1, 4] {
        let store = MemoryStore::default();
        let (mut owner, mut follower) = pair(&store);
        pay_some(&mut owner, 2);
        assert!(follower.branch.keep_up().unwrap());
        store.lose(2);
        let mut other = on(store.accepting_loss(), &FaultStorage::new(3), &keys(1), NOON);
        other.open().unwrap();
        pay_some(&mut other, more);
        let theirs = word(&mut other, 2);
        let found = follower.open().unwrap();
        assert_eq!(found.replayed, found.head.position.0, "it began anew");
        assert_eq!(word(&mut follower, 2), theirs);
    }
}

#[test]
fn a_follower_erases_no_key_before_it_is_the_owner() {
    let store = MemoryStore::default();
    let (mut owner, mut follower) = pair(&store);
    let keys = owner.branch_keys();
    let key = KeyRef(2);
    let sealed = keys.seal(key, b"a name").unwrap();
    let slot = pay(&mut owner, transfer(account(2), account(1), 500, NOON_US));
    settle(&mut owner);
    assert_eq!(lives::accepted(&slot), Some(true));
    owner.command(Command::CloseAccount(account(2)));
    let erase = Body::Command { command: Box::new(Command::EraseCustomer(2)), key: None };
    drop(owner.submit(operator(), erase));
    // Durable, but no job runs any more.
    while owner.branch.turn(NOON) | owner.branch.step_journal() {}
    assert!(follower.branch.keep_up().unwrap());
    assert!(follower.branch.followed_book().unwrap().customer(2).unwrap().erased);
    assert!(keys.unseal(key, &sealed).is_ok(), "the owner's store may lose it yet");
    follower.open().unwrap();
    assert!(matches!(keys.unseal(key, &sealed), Err(KeyError::Erased)));
}

/// What a folder remembers of a life that the journal does not have.
fn evidence(machine: &FaultStorage) -> Vec<String> {
    let files = |folder: &str| machine.folder(folder).unwrap().list().unwrap();
    let mut all = [files("snapshots"), files("checkpoints")].concat();
    all.retain(|file| !file.ends_with(".lost"));
    all.sort_unstable();
    all
}

#[test]
fn what_was_declared_lost_elsewhere_is_put_aside_by_a_follower_and_nothing_before() {
    let (store, keys, machine) = (MemoryStore::default(), keys(1), FaultStorage::new(1));
    let mut owner = on(store.clone(), &machine, &keys, NOON);
    owner.open().unwrap();
    found_with(&mut owner, 2, 500);
    let kept = owner.branch.reader_head().position.0;
    pay_some(&mut owner, 3);
    owner.branch.mark(NOON, true);
    pay_some(&mut owner, 1);
    owner.branch.close(NOON);
    let remembered = evidence(&machine);
    assert!(remembered.iter().any(|file| file.starts_with("snapshot-")), "{remembered:?}");
    assert!(remembered.iter().any(|file| file.starts_with("checkpoint-")), "{remembered:?}");

    // The store loses what they stand for, and another machine, which remembers nothing, goes on without saying so.
    store.lose(4);
    let mut other = on(store.accepting_loss(), &FaultStorage::new(3), &keys, NOON);
    other.open().unwrap();
    assert_eq!(other.branch.reader_head().position.0, kept);
    let mut follower = on(store.clone(), &machine, &keys, NOON);
    let failure =
        std::iter::repeat_with(|| follower.branch.follow().and_then(|()| follower.branch.keep_up()))
            .find_map(Result::err);
    assert!(matches!(failure, Some(OpenFailure::Rewound { .. })), "{failure:?}");
    assert_eq!(evidence(&machine), remembered, "it may be all that tells of the loss");

    // Now the loss is declared there: it is in the journal.
    other.branch.declare_loss(store.accepting_loss(), NOON, [99; 32]).unwrap();
    settle(&mut other);
    pay_some(&mut other, 2);
    follower.branch.follow().unwrap();
    while follower.branch.keep_up().unwrap() {}
    assert_ne!(evidence(&machine), remembered);
    let theirs = word(&mut other, 2);
    follower.open().unwrap();
    assert_eq!(word(&mut follower, 2), theirs);
}
