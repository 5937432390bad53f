//! A branch in a test: founded, with customers and accounts, stepped by hand or on threads.
#![expect(dead_code, reason = "each test file uses its part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use skerry_book::command::{OpenAccount, OpenBranch, OpenCustomer};
use skerry_book::event::Terms;
use skerry_book::{Command, Done, Seed, packed};
use skerry_branch::api::{
    Actor, Answer, Body, Cause, GatewayKey, Principal, Read, Reply, Request, Role, Scope,
};
use skerry_branch::jobs::JobDone;
use skerry_branch::keys::{Keys, SlotKeys};
use skerry_branch::{Branch, Now, Options, Parts};
use skerry_journal::{JournalStore, LocalOptions, LocalStore, Mode, Storage};
use skerry_ledger::{Account, AccountRef, Transfer, TransferId, UNLIMITED};
use skerry_money::{Currency, Date};
use skerry_proof::Ed25519Signer;

pub(crate) const BRANCH: u16 = 7;
/// 2026-01-05T12:00:00Z.
pub(crate) const NOON_US: u64 = 1_767_614_400_000_000;
pub(crate) const DAY_US: u64 = 86_400_000_000;

/// A small generator: the same seed, the same run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

pub(crate) fn cny() -> Currency {
    Currency::from_alpha("CNY").unwrap()
}

pub(crate) fn cash() -> AccountRef {
    AccountRef::head(BRANCH, 1001, cny())
}

pub(crate) fn account(serial: u64) -> AccountRef {
    AccountRef::customer(BRANCH, serial)
}

pub(crate) fn options() -> Options {
    Options::new(BRANCH, "test bank", Seed::new([9; 32]), GatewayKey::new([8; 32]))
}

pub(crate) fn operator() -> Actor {
    actor("operator", Role::Operator)
}

pub(crate) fn actor(name: &str, role: Role) -> Actor {
    let principal = Principal::new(name).unwrap();
    Actor { principal, role, request: [1; 16], approver: None, cause: Cause::Request }
}

static IDS: AtomicU64 = AtomicU64::new(1);

/// A fresh UUIDv7 of the time `now_us`.
pub(crate) fn id_at(now_us: u64) -> TransferId {
    let millis = u128::from(now_us / 1000);
    let unique = u128::from(IDS.fetch_add(1, Ordering::Relaxed));
    TransferId((millis << 80) | (7 << 76) | (2 << 62) | unique)
}

pub(crate) fn transfer(debit: AccountRef, credit: AccountRef, amount: u64, now_us: u64) -> Transfer {
    Transfer { id: id_at(now_us), debit, credit, amount, ..Transfer::default() }
}

pub(crate) fn pack(transfers: &[Transfer]) -> bytes::Bytes {
    let mut out = Vec::with_capacity(transfers.len() * packed::TRANSFER_LENGTH);
    for transfer in transfers {
        let mut bytes = [0; packed::TRANSFER_LENGTH];
        packed::encode(transfer, &mut bytes);
        out.extend_from_slice(&bytes);
    }
    out.into()
}

pub(crate) fn unpack(results: &[u8]) -> Vec<packed::Outcome> {
    results.as_chunks::<32>().0.iter().map(|bytes| packed::Outcome::decode(bytes).unwrap()).collect()
}

pub(crate) fn request(actor: Actor, body: Body, reply: impl FnOnce(Reply) + Send + 'static) -> Request {
    let scope = Scope::default();
    let mac = options().gateway.authenticate(&actor, scope, 0);
    Request { actor, scope, deadline_us: 0, mac, body, reply: Box::new(reply) }
}

pub(crate) fn terms() -> Terms {
    Terms {
        institution: [1; 16],
        currencies: vec![cny()],
        offset_minutes: 0,
        cutoff_minutes: 0,
        capacity: 1_000_000,
    }
}

pub(crate) fn found() -> Command {
    Command::OpenBranch(OpenBranch { terms: terms(), date: Date::parse("2026-01-05").unwrap() })
}

pub(crate) fn open_customer(number: u64, key_ref: u64) -> Command {
    let mut document = [0; 32];
    document[..8].copy_from_slice(&number.to_le_bytes());
    Command::OpenCustomer(OpenCustomer {
        document,
        key_ref,
        line: 0,
        opened: None,
        sealed: Box::from(*b"sealed"),
    })
}

pub(crate) fn open_account(customer: u32) -> Command {
    Command::OpenAccount(OpenAccount {
        customer,
        product: 1,
        currency: cny(),
        opened: None,
        floor: 0,
        daily_limit: UNLIMITED,
    })
}

pub(crate) fn entropy(seed: u8) -> skerry_branch::keys::Entropy {
    skerry_branch::keys::contract::numbers(u64::from(seed) + 77)
}

pub(crate) fn local_options(mode: Mode) -> LocalOptions {
    LocalOptions { mode, segment_bytes: 4 << 20, reserve_bytes: 1 << 20, ..LocalOptions::new(BRANCH) }
}

pub(crate) fn parts<S: Storage>(storage: &S, mode: Mode, options: Options) -> Parts<LocalStore<S>, S> {
    let local = LocalOptions { branch: options.branch, ..local_options(mode) };
    let keys = SlotKeys::open(&storage.folder("keys").unwrap(), [5; 32], entropy(3)).unwrap();
    Parts {
        store: LocalStore {
            storage: storage.folder("journal").unwrap(),
            options: local,
            cold: Some(storage.folder("cold").unwrap()),
        },
        storage: storage.clone(),
        options,
        signer: Arc::new(Ed25519Signer::from_seed(&[4; 32])),
        keys: Arc::new(keys),
        ticks: Box::new(|| 0),
    }
}

/// A branch stepped by hand.
pub(crate) struct Stepped<S: Storage, J: JournalStore = LocalStore<S>> {
    pub(crate) branch: Branch<J, S>,
    pub(crate) storage: S,
    pub(crate) now: Now,
    pub(crate) openings: u8,
}

impl<S: Storage> Stepped<S> {
    pub(crate) fn new(storage: &S) -> Self {
        Self::with(storage, options())
    }

    pub(crate) fn with(storage: &S, options: Options) -> Self {
        let branch = Branch::new(parts(storage, Mode::Stepped, options));
        let now = Now { wall_us: NOON_US, monotonic_us: 1_000_000 };
        Self { branch, storage: storage.clone(), now, openings: 0 }
    }

    /// Opens it; founds it if it is new.
    pub(crate) fn opened(storage: &S) -> Self {
        let mut stepped = Self::new(storage);
        stepped.open().unwrap();
        stepped
    }
}

impl<S: Storage, J: JournalStore> Stepped<S, J> {
    /// A branch whose journal is not in local files.
    pub(crate) fn over(store: J, storage: &S) -> Self {
        let Parts { storage: ground, options, signer, keys, ticks, .. } =
            parts(storage, Mode::Stepped, options());
        let branch = Branch::new(Parts { store, storage: ground, options, signer, keys, ticks });
        let now = Now { wall_us: NOON_US, monotonic_us: 1_000_000 };
        Self { branch, storage: storage.clone(), now, openings: 0 }
    }

    pub(crate) fn open(&mut self) -> Result<skerry_branch::Found, skerry_branch::OpenFailure> {
        self.openings += 1;
        self.branch.open(self.now, [self.openings; 32])
    }

    pub(crate) fn pass_us(&mut self, us: u64) {
        self.now.wall_us += us;
        self.now.monotonic_us += us;
    }

    /// Turns, journal steps and jobs until nothing happens.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut done = self.branch.turn(self.now);
            done |= self.branch.step_journal();
            done |= self.work_off(usize::MAX);
            if !done {
                return;
            }
        }
    }

    /// Runs at most `most` jobs; returns whether there was one.
    pub(crate) fn work_off(&mut self, most: usize) -> bool {
        let mut any = false;
        for _ in 0..most {
            let Some(job) = self.branch.take_job() else { break };
            let done: JobDone = self.branch.workshop().expect("an open branch has a workshop").run(job);
            self.branch.finish(done, self.now);
            any = true;
        }
        any
    }

    /// Submits; the reply comes into the slot.
    pub(crate) fn submit(&mut self, actor: Actor, body: Body) -> Slot {
        let slot = Slot::default();
        let into = slot.clone();
        let request = request(actor, body, move |reply| into.put(reply));
        if let Err(refused) = self.branch.submit(request, self.now) {
            slot.put(Reply::Busy(refused.0));
        }
        slot
    }

    pub(crate) fn ask(&mut self, actor: Actor, body: Body) -> Reply {
        let slot = self.submit(actor, body);
        self.settle();
        slot.take().expect("a settled branch has answered")
    }

    /// Archives and waits for it.
    pub(crate) fn archive(&mut self, before: u64) -> Result<u64, String> {
        let (answer, told) = std::sync::mpsc::channel();
        self.branch.archive(before, Box::new(move |result| answer.send(result).unwrap()));
        self.settle();
        told.try_recv().unwrap()
    }

    pub(crate) fn command(&mut self, command: Command) -> Done {
        match self.ask(operator(), Body::Command { command: Box::new(command), key: None }) {
            Reply::Command(Ok(commanded)) => commanded.done,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn packed(&mut self, transfers: &[Transfer]) -> Vec<packed::Outcome> {
        match self.ask(operator(), Body::Packed(pack(transfers))) {
            Reply::Packed(packed) => unpack(&packed.results),
            other => panic!("{other:?}"),
        }
    }

    /// Founds the branch with `customers`, one account each, and `each` on every account.
    pub(crate) fn found(&mut self, customers: u64, each: u64) {
        self.command(found());
        for number in 1..=customers {
            let key = self.branch_keys().create(1).unwrap()[0];
            self.command(open_customer(number, key.0));
            self.command(open_account(u32::try_from(number).unwrap()));
        }
        if each > 0 {
            let now_us = self.now.wall_us;
            let deposits: Vec<_> =
                (1..=customers).map(|serial| transfer(cash(), account(serial), each, now_us)).collect();
            assert!(self.packed(&deposits).iter().all(|outcome| outcome.code == 0));
        }
    }

    pub(crate) fn branch_keys(&self) -> Arc<dyn Keys> {
        self.branch.keys()
    }

    pub(crate) fn account(&mut self, reference: AccountRef) -> Account {
        match self.ask(operator(), Body::Read(Read::Account(reference))) {
            Reply::Answer(Answer::Account(view)) => view.account,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn balance(&mut self, reference: AccountRef) -> i128 {
        self.account(reference).balance()
    }

    /// The book's image: two books with the same bytes are the same.
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.branch.book().unwrap().freeze().write(&mut |piece: &[u8]| bytes.extend_from_slice(piece));
        bytes
    }
}

/// Where a reply arrives.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Reply>>>);

impl Slot {
    pub(crate) fn put(&self, reply: Reply) {
        let earlier = self.0.lock().unwrap().replace(reply);
        assert!(earlier.is_none(), "a request is answered once");
    }

    pub(crate) fn take(&self) -> Option<Reply> {
        self.0.lock().unwrap().take()
    }
}
