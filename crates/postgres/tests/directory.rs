//! The directory seam's contract on a real server that is killed; and what holds when it is killed under load.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::cable::Cable;
use common::{Group, until, until_some};
use skerry_directory::contract::{Rig, check_contract};
use skerry_directory::{
    Alias, AliasKind, Ask, BranchRow, Choice, CustomerRef, DirectoryHandle, DirectoryThread, Finding, Name,
    NodeRow, Now, Rebuild, Reserve, Room, StoreRow, Told, Where,
};
use skerry_postgres::{Durability, PostgresDirectory, Server, ServerOptions};

/// A server that every third restart kills; at the others only those who asked it end.
struct Killed {
    group: Group,
    options: ServerOptions,
    count: u32,
    endpoints: u32,
    restarts: u32,
    begun: Instant,
}

impl Killed {
    fn new() -> Self {
        let group = Group::single();
        let options = group.options(Durability::Single);
        Self { group, options, count: 0, endpoints: 0, restarts: 0, begun: Instant::now() }
    }
}

impl Rig for Killed {
    type Directory = PostgresDirectory;

    fn begin(&mut self) {
        self.count += 1;
        self.endpoints = 0;
        let name = format!("directory{}", self.count);
        self.group.primary().sql(&format!("create database {name}"));
        self.options.url = self.group.url(&name);
    }

    fn endpoint(&mut self) -> Option<PostgresDirectory> {
        self.endpoints += 1;
        let server = Server::new(self.options.clone()).expect("good options");
        (self.endpoints <= 3).then(|| PostgresDirectory::found(server, "a bank").expect("a thread"))
    }

    fn restart(&mut self) {
        if self.restarts.is_multiple_of(3) {
            self.group.primary_mut().kill();
            self.group.primary_mut().start();
        }
        self.restarts += 1;
        self.endpoints = 0;
    }

    fn now(&mut self) -> Now {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).expect("not so long");
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Now { wall_us: us(wall), monotonic_us: us(self.begun.elapsed()) }
    }

    fn idle(&mut self) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn one_server_that_is_killed() {
    check_contract(&mut Killed::new());
}

/// An endpoint of its own, on a thread of its own.
fn thread_of(options: ServerOptions, bank: &str) -> DirectoryThread {
    let server = Server::new(options).expect("good options");
    DirectoryThread::spawn(PostgresDirectory::found(server, bank).expect("a thread")).expect("a thread")
}

fn document(number: u32) -> Alias {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    Alias { line: 0, kind: AliasKind::Document, key }
}

fn set_up(directory: &DirectoryHandle) {
    let ask = |ask: Ask| until_answered(directory, &ask);
    let name = Name::new("local").expect("plain");
    let place = Where::new("here").expect("plain");
    ask(Ask::PutStore(StoreRow { name: name.clone(), kind: name.clone(), place }));
    for number in 1..=4 {
        ask(Ask::AddBranch(BranchRow::new(number, name.clone())));
    }
    let room = Some(Room { customers: 0, capacity: 1_000_000 });
    ask(Ask::Report((1..=4).map(|number| (number, room)).collect()));
    let Told::Rebuilding { number, .. } = ask(Ask::Rebuild(Rebuild::Begin)) else { panic!("it begins") };
    assert_eq!(ask(Ask::Rebuild(Rebuild::End { number })), Told::Done);
}

fn beat(name: &str) -> Ask {
    let (address, version) = (Where::new("here").expect("plain"), Where::new("1").expect("plain"));
    let name = Name::new(name).expect("plain");
    let node = NodeRow { name, address, capacity: 1, version, draining: false };
    Ask::Beat { node, follows: Vec::new() }
}

fn until_answered(directory: &DirectoryHandle, ask: &Ask) -> Told {
    until_some("the directory answers", || directory.ask_and_wait(ask.clone()).ok())
}

/// A process that is stopped, or cut off, has the lock of all decisions if it happens in the middle of one.
#[test]
fn who_stands_still_in_the_middle_of_a_decision_keeps_nobody_from_theirs() {
    let group = Group::single();
    let options = group.options(Durability::Single);
    let cable = Cable::to(group.primary().port);
    let port = |port: u16| format!(":{port}/");
    let through = options.url.replace(&port(group.primary().port), &port(cable.port));
    assert_ne!(through, options.url);
    // It does not give up by itself as long as others try: a process that is stopped does nothing.
    let patience = Duration::from_secs(90);
    let sleeper = thread_of(ServerOptions { url: through, patience, ..options.clone() }, "a bank");
    let other = thread_of(options, "a bank");
    set_up(&other.handle());
    assert_eq!(until_answered(&sleeper.handle(), &beat("sleeper")), Told::Done);
    cable.lose_requests_after("for update");
    sleeper.handle().ask(beat("sleeper"), Box::new(drop)).expect("asked");
    until("it takes the lock", || cable.is_losing_requests());
    assert_eq!(until_answered(&other.handle(), &beat("other")), Told::Done);
    // And when it wakes it goes on.
    cable.mend();
    assert_eq!(until_answered(&sleeper.handle(), &beat("sleeper")), Told::Done);
}

#[test]
fn killed_under_load_it_sends_nobody_to_two_branches() {
    let mut group = Group::single();
    let options = group.options(Durability::Single);
    let (one, other) = (thread_of(options.clone(), "a bank"), thread_of(options, "a bank"));
    set_up(&one.handle());
    let load = &Load::default();
    let told: Vec<BTreeMap<u32, u16>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6_u32)
            .map(|client| {
                let handle = if client % 2 == 0 { one.handle() } else { other.handle() };
                scope.spawn(move || reserve_all(&handle, client, load))
            })
            .collect();
        for _ in 0..3 {
            load.goes_on();
            group.primary_mut().kill();
            group.primary_mut().start();
        }
        load.goes_on();
        load.stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("no client panics")).collect()
    });
    let mut branches: BTreeMap<u32, u16> = BTreeMap::new();
    for (number, branch) in told.iter().flatten() {
        let known = *branches.entry(*number).or_insert(*branch);
        assert_eq!(known, *branch, "document {number} was sent to two branches");
    }
    assert!(branches.len() > 20, "{}", branches.len());
    for (number, branch) in branches {
        let found = one.handle().ask_and_wait(Ask::Find(document(number))).expect("it answers again");
        assert_eq!(found, Told::Found(Finding::Reserved { branch }), "document {number}");
    }
}

/// What clients have been told, and whether they are to end.
#[derive(Default)]
struct Load {
    told: AtomicU32,
    stop: AtomicBool,
}

impl Load {
    /// Waits until a hundred more have been told.
    fn goes_on(&self) {
        let before = self.told.load(Ordering::Relaxed);
        until("a hundred more are told", || self.told.load(Ordering::Relaxed) >= before + 100);
    }
}

/// Where each document was sent; all clients come with the same documents, each with a branch of its own in mind.
fn reserve_all(handle: &DirectoryHandle, client: u32, load: &Load) -> BTreeMap<u32, u16> {
    let mut told = BTreeMap::new();
    for number in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        let branch = u16::try_from(1 + client % 4).expect("few");
        let wish =
            Reserve { aliases: vec![document(number)], choice: Choice::In(branch), within_us: 60_000_000 };
        // What is unknown is asked again.
        let answer = until_answered(handle, &Ask::Reserve(wish));
        let Told::Reserved { branch, .. } = answer else { panic!("{answer:?}") };
        told.insert(number, branch);
        load.told.fetch_add(1, Ordering::Relaxed);
    }
    told
}

#[test]
fn a_dropped_database_is_made_again_from_the_branches() {
    let group = Group::single();
    let thread = thread_of(group.options(Durability::Single), "a bank");
    let handle = thread.handle();
    let ask = |ask| handle.ask_and_wait(ask).expect("it answers");
    set_up(&handle);
    let customer =
        |number: u32| CustomerRef { branch: u16::try_from(1 + number % 4).expect("few"), serial: 1 + number };
    let all: Vec<_> = (0..3_000).map(|number| (document(number), customer(number))).collect();
    for (alias, customer) in &all[..50] {
        let wish = Reserve { aliases: vec![*alias], choice: Choice::In(customer.branch), within_us: 1_000 };
        assert!(matches!(ask(Ask::Reserve(wish)), Told::Reserved { .. }));
        assert_eq!(ask(Ask::Confirm { aliases: vec![*alias], customer: *customer }), Told::Done);
    }
    let Told::Map(before) = ask(Ask::Map { since: 0 }) else { panic!("a map") };
    group.primary().sql("drop schema skerry cascade");
    // The first ask finds the tables gone, the next makes them.
    let _unknown = handle.ask_and_wait(Ask::Map { since: 0 });
    let Told::Map(empty) = ask(Ask::Map { since: 0 }) else { panic!("a map") };
    assert!(empty.rebuilding && empty.branches.is_empty() && empty.version > before.version, "{empty:?}");
    set_up(&handle);
    let Told::Rebuilding { number, scan_after_us } = ask(Ask::Rebuild(Rebuild::Begin)) else {
        panic!("it begins")
    };
    assert!(scan_after_us > 60_000_000, "claims may have been lost with it: {scan_after_us}");
    let told = ask(Ask::Rebuild(Rebuild::Record { number, list: all.clone() }));
    assert_eq!(told, Told::Recorded { elsewhere: vec![] });
    assert_eq!(ask(Ask::Rebuild(Rebuild::End { number })), Told::Done);
    for (alias, customer) in all.iter().step_by(37) {
        assert_eq!(ask(Ask::Find(*alias)), Told::Found(Finding::Customer(*customer)));
    }
}

#[test]
fn the_tables_of_another_bank_are_left_alone() {
    let group = Group::single();
    let open = |bank| thread_of(group.options(Durability::Single), bank);
    let (one, other) = (open("one"), open("other"));
    set_up(&one.handle());
    let refused = other.handle().ask_and_wait(Ask::Map { since: 0 }).expect_err("not its own");
    let text = format!("{refused:?}");
    assert!(text.contains("holds the directory of bank") && text.contains("other"), "{text}");
}

/// Whoever opens a customer among millions reads the rows that it is about, not all of them.
#[test]
fn a_newcomer_does_not_read_the_whole_table() {
    let group = Group::single();
    let thread = thread_of(group.options(Durability::Single), "a bank");
    let handle = thread.handle();
    let ask = |ask| handle.ask_and_wait(ask).expect("it answers");
    set_up(&handle);
    let Told::Rebuilding { number, .. } = ask(Ask::Rebuild(Rebuild::Begin)) else { panic!("it begins") };
    for part in 0..10 {
        let list = (0..3_000).map(|one| {
            let serial = 1 + part * 3_000 + one;
            (document(serial), CustomerRef { branch: 1, serial })
        });
        let told = ask(Ask::Rebuild(Rebuild::Record { number, list: list.collect() }));
        assert_eq!(told, Told::Recorded { elsewhere: vec![] });
    }
    assert_eq!(ask(Ask::Rebuild(Rebuild::End { number })), Told::Done);
    let reads = || {
        let primary = group.primary();
        // A connection tells its figures when it has been idle for a moment, or ends; this one is told to.
        primary.sql("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and usename is not null");
        primary.sql("select seq_scan from pg_stat_user_tables where relname = 'directory_alias'")
    };
    let before = reads();
    for number in 100_000..100_020 {
        let alias = document(number);
        let wish = |within_us| Reserve { aliases: vec![alias], choice: Choice::In(2), within_us };
        until_answered(&handle, &Ask::Reserve(wish(1)));
        assert_eq!(ask(Ask::Find(alias)), Told::Found(Finding::Reserved { branch: 2 }));
        let Told::Unsettled { claim, .. } =
            until_answered(&handle, &Ask::Reserve(Reserve { choice: Choice::In(3), ..wish(1) }))
        else {
            panic!("it ran out")
        };
        assert_eq!(until_answered(&handle, &Ask::Release { alias, claim }), Told::Done);
        assert_eq!(ask(Ask::Find(alias)), Told::Found(Finding::Nobody));
    }
    assert_eq!(reads(), before, "times that the table was read from end to end");
}
