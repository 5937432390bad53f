//! Any one of two standbys confirms: one may go, without both nothing is told, and a promoted one has all that was told, or says
//! that it has not.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::time::{Duration, Instant};

use common::{Group, Store, chain, holds, load, next, offer, open, open_again, store};
use skerry_journal::{AppendFaultKind, Head, Journal, JournalStore, OpenError};
use skerry_postgres::Durability;

fn replicated() -> (Group, Store) {
    let group = Group::replicated();
    let store = store(group.options(Durability::Replicated));
    (group, store)
}

#[test]
fn one_standby_may_go_and_without_both_nothing_is_told() {
    let (mut group, store) = replicated();
    let mut journal = open(&store);
    assert!(offer(&mut journal, 5));
    next(&mut journal).unwrap();
    group.nodes[1].stop();
    assert!(offer(&mut journal, 5));
    let told = next(&mut journal).expect("the other one confirms").head;

    group.nodes[2].stop();
    let began = Instant::now();
    assert!(offer(&mut journal, 5));
    let taken = journal.taken();
    let fault = next(&mut journal).unwrap_err();
    assert_eq!(fault.kind, AppendFaultKind::Uncertain);
    assert!(chain(&fault).contains("is one connected?"), "{}", chain(&fault));
    let Err(away @ OpenError::Away { .. }) = store.open() else { panic!("nobody confirms the epoch") };
    assert!(chain(&away).contains("main"), "{}", chain(&away));
    assert!(began.elapsed() < Duration::from_secs(30), "it does not wait for ever");

    group.nodes[2].start();
    let opened = open_again(&store);
    holds(&opened, told, taken);
    let mut journal = opened.journal;
    assert!(offer(&mut journal, 5));
    next(&mut journal).expect("it goes on");
}

#[test]
fn a_warning_is_no_word_of_honour() {
    let (mut group, store) = replicated();
    let mut journal = open(&store);
    assert!(offer(&mut journal, 5));
    let told = next(&mut journal).unwrap().head;
    group.nodes[1].stop();
    group.nodes[2].stop();
    assert!(offer(&mut journal, 5));
    let taken = journal.taken();
    // An operator loses patience: the server then says that it has committed, and warns that nobody else has.
    let node = group.primary();
    node.until("select count(*) from pg_stat_activity where wait_event = 'SyncRep'", "1");
    node.sql("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'");
    let fault = next(&mut journal).unwrap_err();
    assert_eq!(fault.kind, AppendFaultKind::Uncertain);
    assert!(chain(&fault).contains("synchronous replication"), "{}", chain(&fault));
    group.nodes[1].start();
    let opened = open_again(&store);
    holds(&opened, told, taken);
}

#[test]
fn a_primary_killed_under_load_loses_nothing_that_was_told() {
    let (mut group, store) = replicated();
    let mut journal = open(&store);
    let (told, taken, fault) = load(&mut journal, |count| {
        if count == 40 {
            group.primary_mut().kill();
        }
    });
    assert_eq!(fault.kind, AppendFaultKind::Uncertain);
    let (best, other) = group.by_reach();
    group.nodes[best].promote();
    group.nodes[other].follow(group.nodes[best].port);
    // The old one comes back as if nothing had been, and is the first of the address. It lets us in, but nobody confirms it.
    group.primary_mut().start();
    let opened = open_again(&store);
    holds(&opened, told, taken);
    let mut journal = opened.journal;
    assert!(offer(&mut journal, 5));
    next(&mut journal).expect("the other one follows and confirms");
}

#[test]
fn a_standby_that_lacks_what_was_told_is_found_out() {
    let (mut group, store) = replicated();
    let mut journal = open(&store);
    let mut told = Head::default();
    for _ in 0..3 {
        assert!(offer(&mut journal, 10));
        told = next(&mut journal).unwrap().head;
    }
    let wait = "select pg_last_wal_replay_lsn() = pg_last_wal_receive_lsn() and exists (select 1 from skerry.journal where position = 20)";
    group.nodes[2].until(wait, "t");
    group.nodes[2].stop();
    for _ in 0..3 {
        assert!(offer(&mut journal, 10));
        told = next(&mut journal).expect("the first one confirms").head;
    }
    drop(journal);
    // All who have it are lost, and the one that stood still becomes the primary, alone, by an operator's order.
    group.primary_mut().kill();
    group.nodes[1].kill();
    group.nodes[2].start();
    group.nodes[2].promote();
    group.nodes[2].configure("synchronous_standby_names = ''\n");
    let single = || store_like(&group, &store);
    let Err(OpenError::Rewound { journal, position, disagrees, .. }) = single().open() else {
        panic!("30 records are lost")
    };
    assert_eq!((journal, position, disagrees), (30, told.position.0, false));
    let words = chain(&single().open().unwrap_err());
    assert!(words.contains("journal_rewound") && words.contains("declare-loss"), "{words}");

    let opened = single().accepting_loss().open().expect("the loss is declared");
    assert_eq!(opened.recovery.head.position.0, 30);
    let mut journal = opened.journal;
    assert!(offer(&mut journal, 10));
    next(&mut journal).unwrap();
    drop(journal);
    assert_eq!(single().open().expect("it was declared once and for all").recovery.head.position.0, 40);
}

/// The same journal with the same mark on this machine, as another process would open it.
fn store_like(group: &Group, store: &Store) -> Store {
    let server = skerry_postgres::Server::new(group.options(Durability::Single)).unwrap();
    store.with_memory_of_the_mark_only(skerry_postgres::Pool::new(server, 2))
}

#[test]
fn settings_that_lose_data_are_refused_at_the_door_and_later() {
    let (group, store) = replicated();
    let refused = |part: &str| {
        let error = store.open().expect_err("the settings are not safe");
        let words = chain(&error);
        assert!(words.contains(part) && words.contains("not safe for a journal"), "{words}");
    };
    let mut journal = open(&store);
    assert!(offer(&mut journal, 5));
    let told = next(&mut journal).unwrap().head;
    // Changed under an open connection: the very next append notices, and nothing is written.
    group.primary().configure("synchronous_standby_names = ''\n");
    group.primary().until("show synchronous_standby_names", "");
    assert!(offer(&mut journal, 5));
    let fault = next(&mut journal).unwrap_err();
    assert_eq!(fault.kind, AppendFaultKind::Uncertain);
    assert!(chain(&fault).contains("settings"), "{}", chain(&fault));
    assert_eq!(group.primary().sql("select count(*) from skerry.journal"), "1");
    refused("synchronous_standby_names is empty");
    group.primary().configure("synchronous_standby_names = 'ANY 1 (n1)'\n");
    group.primary().until("show synchronous_standby_names", "ANY 1 (n1)");
    refused("with any one of them gone");
    group.primary().configure("synchronous_standby_names = 'ANY 1 (n1, n2)'\nsynchronous_commit = local\n");
    group.primary().until("show synchronous_commit", "local");
    refused("synchronous_commit is local");
    group.primary().configure("synchronous_commit = on\n");
    group.primary().until("show synchronous_commit", "on");
    assert_eq!(open_again(&store).recovery.head, told);
}
