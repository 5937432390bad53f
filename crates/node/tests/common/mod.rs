//! A real branch that processes take from each other, and clients that follow the rules for retries.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "each test file uses its part"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use skerry_book::command::OpenBranch;
use skerry_book::event::Terms;
use skerry_book::{Actor, Cause, Command, Seed};
use skerry_branch::api::{Answer, Asked, Body, GatewayKey, Principal, Read, Reply, Request, Role, Scope};
use skerry_branch::keys::{Keys, SlotKeys};
use skerry_branch::{BranchThread, Options, Parts};
use skerry_bus::{Connect, Limits, Name};
use skerry_journal::{LocalOptions, LocalStore, RealStorage, Storage as _};
use skerry_ledger::{AccountRef, Transfer, TransferId};
use skerry_money::{Currency, Date};
use skerry_node::remote::{Holder, RemoteSeats};
use skerry_node::{Hosted, Seat};
use skerry_proof::Ed25519Signer;

pub(crate) const BRANCH: u16 = 7;

pub(crate) fn key() -> GatewayKey {
    GatewayKey::new([8; 32])
}

pub(crate) fn limits() -> Limits {
    Limits { message_bytes: 8_000_000, ..Limits::default() }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn bus<C: Connect>(connector: &C, text: &str) -> C::Bus {
    connector.connect(name(text), limits()).unwrap()
}

static COUNT: AtomicU64 = AtomicU64::new(1);

/// A folder of this test alone, gone with it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("skerry-node-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens the branch in `folder`, which no other thread has open; founds it if it is new.
pub(crate) fn open(folder: &Path) -> BranchThread {
    let storage = RealStorage::open(folder.join("branch")).unwrap();
    let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(3));
    let keys: Arc<dyn Keys> =
        Arc::new(SlotKeys::open(&storage.folder("keys").unwrap(), [5; 32], entropy).unwrap());
    let begun = Instant::now();
    let options = LocalOptions { segment_bytes: 4 << 20, ..LocalOptions::new(BRANCH) };
    let parts = Parts {
        store: LocalStore { storage: storage.folder("journal").unwrap(), options, cold: None },
        storage: storage.folder("derived").unwrap(),
        options: Options::new(BRANCH, "test bank", Seed::new([9; 32]), key()),
        signer: Arc::new(Ed25519Signer::from_seed(&[4; 32])),
        keys,
        ticks: Box::new(move || u64::try_from(begun.elapsed().as_nanos()).unwrap()),
    };
    let thread = BranchThread::spawn_local(parts, Box::new(|bytes| bytes.fill(1))).unwrap();
    if thread.handle().position() == 0 {
        found(&thread);
    }
    thread
}

fn found(thread: &BranchThread) {
    let terms = Terms {
        institution: [1; 16],
        currencies: vec![Currency::CNY],
        offset_minutes: 0,
        cutoff_minutes: 0,
        capacity: 1_000,
    };
    let date = Date::business_day(now_us(), 0, 0);
    let command = Box::new(Command::OpenBranch(OpenBranch { terms, date }));
    let (send, receive) = channel();
    let wish = request(Actor::bank(Cause::Founding), Body::Command { command, key: None }, move |reply| {
        drop(send.send(reply));
    });
    thread.handle().submit(wish).unwrap();
    assert!(matches!(receive.recv().unwrap(), Reply::Command(Ok(_))));
}

pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

pub(crate) fn request(actor: Actor, body: Body, reply: impl FnOnce(Reply) + Send + 'static) -> Request {
    request_within(actor, body, 3_000_000, reply)
}

fn request_within(
    actor: Actor,
    body: Body,
    within_us: u64,
    reply: impl FnOnce(Reply) + Send + 'static,
) -> Request {
    let deadline_us = now_us() + within_us;
    let mac = key().authenticate(&actor, Scope::default(), deadline_us);
    Request { actor, scope: Scope::default(), deadline_us, mac, body, reply: Box::new(reply) }
}

pub(crate) fn operator() -> Actor {
    let principal = Principal::new("operator").unwrap();
    Actor { principal, role: Role::Operator, request: [1; 16], approver: None, cause: Cause::Request }
}

pub(crate) fn head(code: u32) -> AccountRef {
    AccountRef::head(BRANCH, code, Currency::CNY)
}

/// A fresh transfer of one fen between two heads.
pub(crate) fn transfer() -> Transfer {
    let unique = u128::from(COUNT.fetch_add(1, Ordering::Relaxed));
    let id = TransferId((u128::from(now_us() / 1_000) << 80) | (7 << 76) | (2 << 62) | unique);
    let (debit, credit) = (head(1001), head(2001));
    Transfer { id, debit, credit, amount: 1, currency: Some(Currency::CNY), code: 1, ..Transfer::default() }
}

/// What came of sending a body once; none if the branch was busy and nothing was taken.
pub(crate) fn ask(seat: &dyn Seat, body: Body) -> Option<Reply> {
    ask_within(seat, body, 3_000_000)
}

pub(crate) fn ask_within(seat: &dyn Seat, body: Body, within_us: u64) -> Option<Reply> {
    let (send, receive) = channel();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let wish = request_within(operator(), body, within_us, move |reply| {
        assert_eq!(counted.fetch_add(1, Ordering::SeqCst), 0, "one reply a request");
        drop(send.send(reply));
    });
    seat.submit(wish).ok()?;
    Some(receive.recv_timeout(Duration::from_secs(60)).expect("every request that was taken is answered"))
}

/// Sends `transfer` until it is booked, as a client that follows the rules does: busy and unknown are tried again with the
/// same id. Returns how many tries were answered unknown.
pub(crate) fn pay(seat: &dyn Seat, transfer: Transfer) -> u64 {
    let end = Instant::now() + Duration::from_secs(120);
    let mut unknown = 0;
    loop {
        assert!(Instant::now() < end, "the branch answers again: {:?}", seat.health());
        let asked = vec![Asked { transfer, ..Asked::default() }];
        match ask(seat, Body::Transfers(asked)) {
            Some(Reply::Transfers(outcomes)) => {
                outcomes[0].expect("a plain transfer between heads is taken");
                return unknown;
            }
            Some(Reply::Unknown) => unknown += 1,
            None | Some(Reply::Busy(_) | Reply::Expired) => std::thread::sleep(Duration::from_millis(5)),
            Some(other) => panic!("neither done nor to be tried again: {other:?}"),
        }
    }
}

/// What was debited from the head, which is how many transfers were booked.
pub(crate) fn booked(seat: &dyn Seat) -> u128 {
    loop {
        match ask(seat, Body::Read(Read::Account(head(1001)))) {
            Some(Reply::Answer(Answer::Account(view))) => return view.account.debits_posted,
            None | Some(Reply::Busy(_) | Reply::Unknown | Reply::Expired) => {
                std::thread::sleep(Duration::from_millis(5))
            }
            Some(other) => panic!("the head is there: {other:?}"),
        }
    }
}

pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Clients who pay until they are told to stop, and count what was booked.
pub(crate) struct Payers {
    stop: Arc<AtomicBool>,
    running: Vec<std::thread::JoinHandle<u128>>,
}

impl Payers {
    pub(crate) fn begin(seats: &RemoteSeats, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let running = (0..count).map(|_| {
            let (seat, stop) = (seats.seat(BRANCH), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut paid = 0;
                while !stop.load(Ordering::SeqCst) {
                    pay(&seat, transfer());
                    paid += 1;
                }
                paid
            })
        });
        Self { running: running.collect(), stop }
    }

    pub(crate) fn end(self) -> u128 {
        self.stop.store(true, Ordering::SeqCst);
        self.running.into_iter().map(|payer| payer.join().unwrap()).sum()
    }
}

/// Moves the branch from one of two holders to the other and back, `rounds` times, while payments go on. The branch where it
/// is then: with the first holder if they are even.
pub(crate) fn moved(
    folder: &Path,
    mut branch: BranchThread,
    holders: &[Holder; 2],
    seat: &dyn Seat,
    rounds: usize,
) -> BranchThread {
    for round in 1..=rounds {
        let before = seat.durable();
        wait_until("payments go on", || seat.durable() > before + 50);
        let (epoch, former) = (seat.epoch(), &holders[(round + 1) % 2]);
        former.remove(BRANCH);
        branch.hand_over(former.flush());
        branch = open(folder);
        holders[round % 2].add(Arc::new(Hosted::new(branch.handle())));
        wait_until("the next holder is heard of", || seat.epoch() > epoch);
    }
    branch
}
