//! How fast aliases are found and reserved when there are many: `cargo run --release --example alias_speed -- 10000000`.
//!
//! Takes so many customers in as a rebuild would, in a folder under the one that `SKERRY_BENCH_DIR` names, then looks up known
//! and unknown documents from a thread of their own, places newcomers from many at once, and opens the files again.

use std::sync::mpsc::channel;
use std::time::Instant;

use skerry_directory::{
    Alias, AliasKind, Ask, BranchRow, Choice, CustomerRef, Directory, DirectoryHandle, DirectoryThread,
    Embedded, EmbeddedOptions, Finding, Name, Now, Rebuild, Reserve, Room, StoreRow, Told, Where,
};
use skerry_journal::RealStorage;

const BRANCHES: u64 = 4;

fn document(number: u64) -> Alias {
    Alias { line: 0, kind: AliasKind::Document, key: *blake3::hash(&number.to_le_bytes()).as_bytes() }
}

fn customer(number: u64) -> CustomerRef {
    let branch = u16::try_from(1 + number % BRANCHES).expect("few branches");
    CustomerRef { branch, serial: u32::try_from(1 + number / BRANCHES).expect("a serial") }
}

fn ask(handle: &DirectoryHandle, ask: Ask) -> Told {
    handle.ask_and_wait(ask).expect("the directory answers")
}

fn main() {
    let count: u64 =
        std::env::args().nth(1).map_or(1_000_000, |text| text.parse().expect("a number of customers"));
    let base = std::env::var_os("SKERRY_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = base.join(format!("skerry-alias-speed-{}", std::process::id()));
    let storage = RealStorage::open(&folder).expect("a folder");
    let thread = open(&storage);
    fill(&thread.handle(), count);
    look_up(&thread.handle(), count);
    place(&thread.handle(), count);
    drop(thread);
    let begun = Instant::now();
    let mut embedded = Embedded::open(&storage, EmbeddedOptions::default()).expect("it opens");
    let stats = embedded.stats();
    println!(
        "opened again in {:.2} s: {} aliases, {:.1} bytes of memory each, {:.1} bytes of file each",
        begun.elapsed().as_secs_f64(),
        stats.aliases,
        stats.index_bytes as f64 / stats.aliases as f64,
        stats.table_bytes as f64 / stats.aliases as f64,
    );
    alone(&mut embedded, count);
    drop(embedded);
    std::fs::remove_dir_all(folder).expect("it is ours");
}

fn open(storage: &RealStorage) -> DirectoryThread {
    let embedded = Embedded::open(storage, EmbeddedOptions::default()).expect("it opens");
    let thread = DirectoryThread::spawn(embedded).expect("a thread");
    let handle = thread.handle();
    let name = Name::new("local").expect("plain");
    let place = Where::new("here").expect("plain");
    ask(&handle, Ask::PutStore(StoreRow { name: name.clone(), kind: name.clone(), place }));
    let numbers = 1..=u16::try_from(BRANCHES).expect("few");
    for number in numbers.clone() {
        ask(&handle, Ask::AddBranch(BranchRow::new(number, name.clone())));
    }
    let room = Some(Room { customers: 0, capacity: u32::MAX });
    ask(&handle, Ask::Report(numbers.map(|number| (number, room)).collect()));
    thread
}

fn fill(handle: &DirectoryHandle, count: u64) {
    let begun = Instant::now();
    let Told::Rebuilding { number, .. } = ask(handle, Ask::Rebuild(Rebuild::Begin)) else {
        panic!("it begins")
    };
    let mut next = 0;
    while next < count {
        let end = count.min(next + 4_096);
        let list = (next..end).map(|number| (document(number), customer(number))).collect();
        ask(handle, Ask::Rebuild(Rebuild::Record { number, list }));
        next = end;
    }
    ask(handle, Ask::Rebuild(Rebuild::End { number }));
    let seconds = begun.elapsed().as_secs_f64();
    println!("took in {count} customers in {seconds:.1} s: {:.0} a second", count as f64 / seconds);
}

fn percentiles(what: &str, mut nanos: Vec<u64>) {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    println!(
        "{what}: p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, max {:.1} µs",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// Every second one is known.
fn wanted(at: u64, count: u64) -> u64 {
    let spread = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count;
    if at.is_multiple_of(2) { spread } else { count + spread }
}

fn look_up(handle: &DirectoryHandle, count: u64) {
    let mut nanos = Vec::new();
    for at in 0..100_000 {
        let number = wanted(at, count);
        let begun = Instant::now();
        let told = ask(handle, Ask::Find(document(number)));
        nanos.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let known = if number < count { Finding::Customer(customer(number)) } else { Finding::Nobody };
        assert_eq!(told, Told::Found(known));
    }
    percentiles("look-up over the thread, one at a time", nanos);
}

/// The same without the two changes of threads.
fn alone(embedded: &mut Embedded<RealStorage>, count: u64) {
    let mut nanos = Vec::new();
    let now = Now { wall_us: 1_767_585_600_000_000, monotonic_us: 1_000_000 };
    for at in 0..100_000 {
        let ask = Ask::Find(document(wanted(at, count)));
        let begun = Instant::now();
        embedded.submit(ask).expect("it is not busy");
        let answered = embedded.poll(now).expect("at once");
        nanos.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        assert!(answered.outcome.is_ok());
    }
    percentiles("look-up in place", nanos);
}

/// Newcomers, 128 under way at once: each document comes twice at the same time and must be placed once.
fn place(handle: &DirectoryHandle, count: u64) {
    const NEWCOMERS: u64 = 20_000;
    let begun = Instant::now();
    let (mut placed, mut joined) = (0, 0);
    let (send, receive) = channel();
    let mut open = 0_u64;
    let mut take = |open: &mut u64| {
        let told: Told = receive.recv().expect("an answer");
        match told {
            Told::Reserved { joined: false, .. } => placed += 1,
            Told::Reserved { .. } => joined += 1,
            other => panic!("{other:?}"),
        }
        *open -= 1;
    };
    for at in 0..2 * NEWCOMERS {
        let aliases = vec![document(2 * count + at / 2)];
        let wish = Reserve { aliases, choice: Choice::Any, within_us: 60_000_000 };
        let send = send.clone();
        let answer = Box::new(move |told: Result<Told, _>| drop(send.send(told.expect("it answers"))));
        handle.ask(Ask::Reserve(wish), answer).expect("there is room");
        open += 1;
        if open == 128 {
            take(&mut open);
        }
    }
    while open > 0 {
        take(&mut open);
    }
    assert_eq!((placed, joined), (NEWCOMERS, NEWCOMERS), "each was placed once");
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "placed {NEWCOMERS} newcomers, each asked for twice, in {seconds:.2} s: {:.0} a second",
        NEWCOMERS as f64 / seconds
    );
}
