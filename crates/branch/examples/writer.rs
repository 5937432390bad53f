//! How fast one branch writes: packed batches through the handle, each synced before its reply.
//!
//! `cargo run --release -p skerry-branch --example writer -- FOLDER [TRANSFERS] [ACCOUNTS]` prints transfers a second,
//! the writer's own time per transfer, and batch latency. It is the branch alone: no HTTP, no client.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use skerry_book::command::{OpenAccount, OpenBranch, OpenCustomer};
use skerry_book::event::Terms;
use skerry_book::{Command, Seed, packed};
use skerry_branch::api::{Actor, Body, Cause, GatewayKey, Principal, Reply, Request, Role, Scope};
use skerry_branch::keys::SlotKeys;
use skerry_branch::meters::Kind;
use skerry_branch::{BranchHandle, BranchThread, Options, Parts};
use skerry_journal::{LocalOptions, LocalStore, RealStorage, Storage};
use skerry_ledger::{AccountRef, Transfer, TransferId, UNLIMITED};
use skerry_money::{Currency, Date};
use skerry_proof::Ed25519Signer;

const BRANCH: u16 = 1;
const BATCH: u64 = 8189;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder");
    let transfers: u64 = arguments.next().map_or(2_000_000, |text| text.parse().expect("a number"));
    let accounts: u64 = arguments.next().map_or(10_000, |text| text.parse().expect("a number"));
    let thread = spawn(&folder);
    let handle = thread.handle();
    println!("opened: {:?}", handle.condition());
    if handle.position() == 0 {
        found(&handle, accounts);
    }
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let batches: Vec<bytes::Bytes> =
        (0..transfers.div_ceil(BATCH)).map(|_| batch(accounts, BATCH, &mut next)).collect();
    println!("{} batches made", batches.len());
    let (send, receive) = mpsc::channel();
    let count = batches.len();
    let begun = Instant::now();
    let mut latencies = Vec::with_capacity(count);
    let mut waiting = batches.into_iter();
    let mut accepted = 0;
    let mut sent = 0;
    for bytes in waiting.by_ref().take(4) {
        submit(&handle, bytes, &send);
        sent += 1;
    }
    for _ in 0..count {
        let (taken, reply): (Instant, Reply) = receive.recv().expect("a reply");
        latencies.push(taken.elapsed());
        match reply {
            Reply::Packed(packed) => accepted += u64::from(packed.accepted),
            other => panic!("{other:?}"),
        }
        if let Some(bytes) = waiting.next() {
            submit(&handle, bytes, &send);
            sent += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let figures = handle.figures();
    let meter = figures.meters.kind(Kind::Packed);
    println!(
        "{sent} batches, {accepted} accepted in {seconds:.2} s: {:.0} a second",
        accepted as f64 / seconds
    );
    println!("writer deciding: {} ns a transfer", meter.cpu_ns / meter.records.max(1));
    println!(
        "latency p50 {:?} p99 {:?} max {:?}",
        latencies[count / 2],
        latencies[count * 99 / 100],
        latencies[count - 1]
    );
    println!("journal {:?}", figures.journal);
    println!("ids {:?}\nhistory {:?}", figures.ids, figures.history);
    print_threads(accepted);
    let begun = Instant::now();
    thread.close();
    println!("closed in {:?}", begun.elapsed());
    let begun = Instant::now();
    let thread = spawn(&folder);
    println!("opened again in {:?}: position {}", begun.elapsed(), thread.handle().position());
}

/// Processor time by thread, where the system tells (Linux).
fn print_threads(transfers: u64) {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return };
    for task in tasks.flatten() {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let nanos: u64 = stat.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        println!("{:>20} {:>6} ns a transfer", name.trim(), nanos / transfers.max(1));
    }
}

fn spawn(folder: &str) -> BranchThread {
    let storage = RealStorage::open(folder).expect("a folder");
    let options = Options::new(BRANCH, "bench", Seed::new([9; 32]), GatewayKey::new([8; 32]));
    let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
    let keys = SlotKeys::open(&storage.folder("keys").expect("a folder"), [5; 32], entropy).expect("keys");
    let begun = Instant::now();
    let parts = Parts {
        store: LocalStore {
            storage: storage.folder("journal").expect("a folder"),
            options: LocalOptions::new(BRANCH),
            cold: None,
        },
        storage,
        options,
        signer: Arc::new(Ed25519Signer::from_seed(&[4; 32])),
        keys: Arc::new(keys),
        ticks: Box::new(move || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)),
    };
    BranchThread::spawn(parts, Box::new(|bytes| bytes.fill(1))).expect("a thread")
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("before 586,912")
}

fn found(handle: &BranchHandle, accounts: u64) {
    let cny = Currency::from_alpha("CNY").expect("a currency");
    let terms = Terms {
        institution: [1; 16],
        currencies: vec![cny],
        offset_minutes: 0,
        cutoff_minutes: 0,
        capacity: 10_000_000,
    };
    command(handle, Command::OpenBranch(OpenBranch { terms, date: Date::at(now_us(), 0) }));
    let customer =
        OpenCustomer { document: [1; 32], key_ref: 0, line: 0, opened: None, sealed: Box::from(*b"x") };
    command(handle, Command::OpenCustomer(customer));
    let (send, receive) = mpsc::channel();
    for at in 0..accounts {
        let account = OpenAccount {
            customer: 1,
            product: 1,
            currency: cny,
            opened: None,
            floor: -1_000_000_000_000,
            daily_limit: UNLIMITED,
        };
        let send = send.clone();
        let body = Body::Command { command: Box::new(Command::OpenAccount(account)), key: None };
        handle
            .submit(request(body, Box::new(move |reply| send.send(reply).expect("somebody waits"))))
            .expect("room");
        if at % 1000 == 999 || at + 1 == accounts {
            for _ in 0..at % 1000 + 1 {
                assert!(matches!(receive.recv().expect("a reply"), Reply::Command(Ok(_))));
            }
        }
    }
}

fn command(handle: &BranchHandle, command: Command) {
    let (send, receive) = mpsc::channel();
    let body = Body::Command { command: Box::new(command), key: None };
    handle
        .submit(request(body, Box::new(move |reply| send.send(reply).expect("somebody waits"))))
        .expect("room");
    let reply = receive.recv().expect("a reply");
    assert!(matches!(reply, Reply::Command(Ok(_))), "{reply:?}");
}

fn request(body: Body, reply: Box<dyn FnOnce(Reply) + Send>) -> Request {
    let principal = Principal::new("bench").expect("a name");
    let actor =
        Actor { principal, role: Role::Operator, request: [1; 16], approver: None, cause: Cause::Request };
    let mac = GatewayKey::new([8; 32]).authenticate(&actor, Scope::default(), 0);
    Request { actor, scope: Scope::default(), deadline_us: 0, mac, body, reply }
}

fn submit(handle: &BranchHandle, bytes: bytes::Bytes, send: &mpsc::Sender<(Instant, Reply)>) {
    let (send, taken) = (send.clone(), Instant::now());
    let reply = Box::new(move |reply| drop(send.send((taken, reply))));
    handle.submit(request(Body::Packed(bytes), reply)).expect("room");
}

fn batch(accounts: u64, count: u64, next: &mut impl FnMut() -> u64) -> bytes::Bytes {
    let millis = u128::from(now_us() / 1000);
    let mut out = Vec::with_capacity(usize::try_from(count).expect("small") * packed::TRANSFER_LENGTH);
    for _ in 0..count {
        let random = (u128::from(next()) << 64 | u128::from(next())) & ((1 << 74) - 1);
        let id = (millis << 80) | (7 << 76) | (2 << 62) | (random & ((1 << 62) - 1)) | ((random >> 62) << 64);
        let debit = next() % accounts;
        let credit = (debit + 1 + next() % (accounts - 1)) % accounts;
        let transfer = Transfer {
            id: TransferId(id),
            debit: AccountRef::customer(BRANCH, debit + 1),
            credit: AccountRef::customer(BRANCH, credit + 1),
            amount: 1 + next() % 100,
            code: 1,
            ..Transfer::default()
        };
        let mut bytes = [0; packed::TRANSFER_LENGTH];
        packed::encode(&transfer, &mut bytes);
        out.extend_from_slice(&bytes);
    }
    out.into()
}
