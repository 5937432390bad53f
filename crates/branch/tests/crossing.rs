//! Branches pay each other: over a bus that loses, doubles and reorders, with the power cut at any moment; and on
//! threads, as in one process.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::*;
use skerry_book::Command;
use skerry_book::channel::{check_pair, position, transit};
use skerry_book::command::{Freeze, Incarnate};
use skerry_book::event::StopReason;
use skerry_branch::api::{Answer, Body, PaymentState, PaymentView, Read, Reply};
use skerry_branch::channels::Outgoing;
use skerry_branch::channels::coverage::{self, Mark};
use skerry_branch::channels::exchange::Exchange;
use skerry_branch::history::Query;
use skerry_branch::{BranchHandle, BranchThread, Condition, Options};
use skerry_journal::{FaultPlan, FaultStorage, Mode, RealStorage, Storage};
use skerry_ledger::{AccountRef, Flags, Sides, Transfer, TransferId};

const BRANCHES: [u16; 3] = [1, 2, 3];
const ACCOUNTS: u64 = 3;
const EACH: u64 = 1_000_000;

fn of(branch: u16, serial: u64) -> AccountRef {
    AccountRef::customer(branch, serial)
}

fn till(branch: u16) -> AccountRef {
    AccountRef::head(branch, 1001, cny())
}

fn options_of(branch: u16) -> Options {
    Options { branch, snapshot_records: 60, checkpoint_us: 3_000_000, ..options() }
}

/// A founded branch with money on every account, that knows all others.
fn founded<S: Storage>(branch: u16, storage: &S) -> Stepped<S> {
    let mut bank = Stepped::with(storage, options_of(branch));
    bank.open().unwrap();
    bank.command(found());
    let key = bank.branch_keys().create(1).unwrap()[0];
    bank.command(open_customer(1, key.0));
    for _ in 0..ACCOUNTS {
        bank.command(open_account(1));
    }
    let now_us = bank.now.wall_us;
    let deposits: Vec<Transfer> =
        (1..=ACCOUNTS).map(|serial| transfer(till(branch), of(branch, serial), EACH, now_us)).collect();
    assert!(bank.packed(&deposits).iter().all(|outcome| outcome.code == 0));
    bank.branch.know(&BRANCHES);
    bank
}

fn payment<S: Storage>(bank: &mut Stepped<S>, id: TransferId) -> PaymentView {
    match bank.ask(operator(), Body::Read(Read::Payment(id))) {
        Reply::Answer(Answer::Payment(view)) => *view,
        other => panic!("{other:?}"),
    }
}

/// Carries everything until nobody has anything to say.
fn carry(banks: &mut [Stepped<FaultStorage>]) {
    loop {
        let mut messages: Vec<Outgoing> = Vec::new();
        for bank in banks.iter_mut() {
            bank.settle();
            messages.extend(std::iter::from_fn(|| bank.branch.take_message()));
        }
        if messages.is_empty() {
            return;
        }
        for message in messages {
            deliver(banks, message);
        }
    }
}

fn deliver(banks: &[Stepped<FaultStorage>], message: Outgoing) {
    if let Some(to) = banks.get(usize::from(message.to) - 1) {
        let _ = to.branch.deliver(message.bytes, to.now);
    }
}

fn pair() -> Vec<Stepped<FaultStorage>> {
    let mut banks: Vec<_> =
        [1, 2].map(|branch| founded(branch, &FaultStorage::new(u64::from(branch)))).into();
    carry(&mut banks);
    banks
}

fn check_all(banks: &[Stepped<FaultStorage>]) {
    for (index, bank) in banks.iter().enumerate() {
        let book = bank.branch.book().unwrap();
        assert_eq!(skerry_book::invariants::check(book), Ok(()));
        for other in &banks[index + 1..] {
            assert_eq!(check_pair(book, other.branch.book().unwrap()), Ok(()));
        }
    }
}

#[test]
fn a_payment_is_sent_settled_and_seen_on_both_statements() {
    let mut banks = pair();
    let one = transfer(of(1, 1), of(2, 2), 250, banks[0].now.wall_us);
    let outcome = banks[0].packed(&[one])[0];
    assert_eq!(outcome.code, skerry_book::packed::SENT);
    assert_eq!(payment(&mut banks[0], one.id).state, PaymentState::Sent);
    carry(&mut banks);
    let seen = payment(&mut banks[0], one.id);
    assert_eq!((seen.state, seen.n, seen.position), (PaymentState::Settled, 1, outcome.position));
    assert_eq!(banks[1].balance(of(2, 2)), i128::from(EACH) + 250);
    assert_eq!(banks[0].packed(&[one])[0], outcome, "a retry is answered as the first time");
    for (index, account, counterparty) in [(0, of(1, 1), of(2, 2)), (1, of(2, 2), of(1, 1))] {
        let history = banks[index].branch.history().unwrap();
        let entries = |account| {
            let query = Query { account: Some(account), ..Query::default() };
            history.query(&query).unwrap().entries
        };
        let last = entries(account).into_iter().max_by_key(|entry| entry.position).unwrap();
        let sides = [last.moved.debit, last.moved.credit];
        assert!(sides.contains(&account) && sides.contains(&counterparty), "the statement shows both sides");
        let totals = last.totals.unwrap();
        let balance = banks[index].balance(account);
        assert_eq!(totals.credits as i128 - totals.debits as i128, balance, "with the balance after it");
        assert_eq!(entries(counterparty).len(), 1, "and it is found by the other side's account");
    }
    let now = banks[0].now;
    banks[0].branch.mark(now, false);
    banks[0].settle();
    let signed = banks[0].branch.workshop().unwrap().latest().unwrap();
    let told = signed.checkpoint.channels[0];
    assert_eq!((told.peer, told.sent.count, told.settled.amount, told.returned.count), (2, 1, 250, 0));
    check_all(&banks);
}

#[test]
fn a_refused_payment_comes_back_to_a_frozen_account_and_says_why() {
    let mut banks = pair();
    let far = transfer(of(1, 1), of(2, 99), 70, banks[0].now.wall_us);
    assert_eq!(banks[0].packed(&[far])[0].code, skerry_book::packed::SENT);
    let sides = Sides { debit: true, credit: true };
    banks[0].command(Command::Freeze(Freeze { account: of(1, 1), sides, reason: 9 }));
    carry(&mut banks);
    let seen = payment(&mut banks[0], far.id);
    let PaymentState::Returned { outcome, to, .. } = seen.state else { panic!("{seen:?}") };
    assert_eq!((outcome, to), (1081, of(1, 1)));
    assert_eq!(banks[0].balance(of(1, 1)), i128::from(EACH));
    check_all(&banks);
}

#[test]
fn a_reversal_is_a_payment_of_the_payees_branch() {
    let mut banks = pair();
    let one = transfer(of(1, 1), of(2, 2), 250, banks[0].now.wall_us);
    banks[0].packed(&[one]);
    carry(&mut banks);
    let back = Transfer {
        flags: Flags::REVERSAL,
        related: one.id,
        ..transfer(AccountRef::default(), of(1, 1), 0, banks[1].now.wall_us)
    };
    let again = Transfer { id: id_at(banks[1].now.wall_us), ..back };
    let outcomes = banks[1].packed(&[back]);
    assert_eq!(outcomes[0].code, skerry_book::packed::SENT);
    assert_eq!(banks[1].packed(&[again])[0].code, 1068, "once");
    carry(&mut banks);
    assert_eq!(banks[0].balance(of(1, 1)), i128::from(EACH));
    assert_eq!(banks[1].balance(of(2, 2)), i128::from(EACH));
    check_all(&banks);
}

#[test]
fn another_incarnation_stops_both_directions_and_no_other_channel() {
    let mut banks: Vec<_> =
        BRANCHES.map(|branch| founded(branch, &FaultStorage::new(u64::from(branch)))).into();
    carry(&mut banks);
    banks[0].command(Command::Incarnate(Incarnate { incarnation: 2, lost_from: 1, lost_to: 2 }));
    let now_us = banks[0].now.wall_us;
    banks[0].packed(&[transfer(of(1, 1), of(2, 1), 5, now_us)]);
    banks[2].packed(&[transfer(of(3, 1), of(2, 1), 6, now_us)]);
    carry(&mut banks);
    let stopped = banks[1].branch.book().unwrap().channel(1).unwrap();
    let stop = stopped.incoming.stopped.unwrap();
    assert_eq!((stop.reason, stop.expected, stop.found), (StopReason::IncarnationDiffers, 1, 2));
    assert!(stopped.outgoing.stopped.is_some());
    assert_eq!(banks[1].balance(of(2, 1)), i128::from(EACH) + 6);
    let refused = banks[1].packed(&[transfer(of(2, 1), of(1, 1), 5, now_us)]);
    assert_eq!(refused[0].code, 4013);
}

#[test]
fn a_message_that_nobody_sealed_moves_nothing() {
    let mut banks = pair();
    let one = transfer(of(1, 1), of(2, 2), 250, banks[0].now.wall_us);
    banks[0].packed(&[one]);
    banks[0].settle();
    let message = banks[0].branch.take_message().unwrap();
    let mut bytes = message.bytes.to_vec();
    let at = bytes.len() - 60;
    bytes[at] ^= 1;
    let before = banks[1].image();
    banks[1].branch.deliver(bytes.into(), banks[1].now).unwrap();
    banks[1].settle();
    assert_eq!(banks[1].image(), before);
    deliver(&banks, message);
    carry(&mut banks);
    assert_eq!(payment(&mut banks[0], one.id).state, PaymentState::Settled);
}

/// A small generator: the same seed, the same run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Branches on machines that fail, a bus that does too, and clients who remember what they were told.
struct Storm {
    random: Random,
    banks: Vec<Stepped<FaultStorage>>,
    bus: Vec<Outgoing>,
    asked: Vec<(usize, Transfer, Slot)>,
    /// What was acknowledged as sent, by the branch that did.
    sent: BTreeMap<TransferId, (usize, Transfer)>,
    unknown: Vec<(usize, Transfer)>,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let banks =
            BRANCHES.map(|branch| founded(branch, &FaultStorage::new(seed * 10 + u64::from(branch)))).into();
        Self {
            random: Random(seed),
            banks,
            bus: Vec::new(),
            asked: Vec::new(),
            sent: BTreeMap::new(),
            unknown: Vec::new(),
        }
    }

    fn listen(&mut self) {
        for (at, transfer, slot) in std::mem::take(&mut self.asked) {
            match slot.take() {
                None => self.asked.push((at, transfer, slot)),
                Some(Reply::Packed(packed)) => {
                    let outcome = unpack(&packed.results)[0];
                    if outcome.code == skerry_book::packed::SENT {
                        self.sent.insert(transfer.id, (at, transfer));
                    }
                    assert!(
                        outcome.code <= 1 || !self.sent.contains_key(&transfer.id),
                        "what was sent is refused at its retry"
                    );
                }
                Some(_) => self.unknown.push((at, transfer)),
            }
        }
    }

    fn pay(&mut self) {
        let at = usize::try_from(self.random.next(3)).unwrap();
        let to = BRANCHES[usize::try_from(self.random.next(3)).unwrap()];
        // Serial 4 is nobody's: those come back.
        let (from, payee) = (1 + self.random.next(ACCOUNTS), 1 + self.random.next(ACCOUNTS + 1));
        let amount = 1 + self.random.next(50);
        let again = if self.random.next(4) == 0 { self.unknown.pop() } else { None };
        let now_us = self.banks[at].now.wall_us;
        let (at, one) =
            again.unwrap_or_else(|| (at, transfer(of(BRANCHES[at], from), of(to, payee), amount, now_us)));
        let slot = self.banks[at].submit(operator(), Body::Packed(pack(&[one])));
        self.asked.push((at, one, slot));
    }

    fn step(&mut self) {
        let at = usize::try_from(self.random.next(3)).unwrap();
        let pick = self.random.next(14);
        let waiting = self.bus.len() as u64;
        let bank = &mut self.banks[at];
        match pick {
            0..=2 => self.pay(),
            3 | 4 => drop(bank.branch.turn(bank.now)),
            5 => drop(bank.branch.step_journal()),
            6 => drop(bank.work_off(1)),
            7 => bank.pass_us(self.random.next(400_000)),
            8 | 9 => self.bus.extend(bank.branch.take_message()),
            _ if waiting == 0 => {}
            10 | 11 => {
                let index = usize::try_from(self.random.next(waiting)).unwrap();
                let message = self.bus.swap_remove(index);
                deliver(&self.banks, message);
            }
            12 => {
                let index = usize::try_from(self.random.next(waiting)).unwrap();
                deliver(&self.banks, self.bus[index].clone());
            }
            _ => drop(self.bus.swap_remove(usize::try_from(self.random.next(waiting)).unwrap())),
        }
        self.listen();
        for at in 0..self.banks.len() {
            if self.banks[at].storage.is_dark() || *self.banks[at].branch.condition() != Condition::Open {
                self.restart(at);
            }
        }
    }

    /// After a power cut it opens from what the disk has kept.
    fn restart(&mut self, at: usize) {
        let (number, storage, now, openings) = {
            let bank = &mut self.banks[at];
            bank.storage.set_plan(FaultPlan::default());
            bank.branch.close(bank.now);
            bank.storage.power_cut();
            (BRANCHES[at], bank.storage.clone(), bank.now, bank.openings)
        };
        self.listen();
        let mut bank = Stepped { now, openings, ..Stepped::with(&storage, options_of(number)) };
        bank.pass_us(1_000_000);
        bank.open().unwrap();
        bank.branch.know(&BRANCHES);
        self.banks[at] = bank;
    }

    /// The weather clears: everything ends.
    fn clear(&mut self) {
        for bank in &mut self.banks {
            bank.storage.set_plan(FaultPlan::default());
            bank.storage.lose_power_in(u64::MAX);
        }
        self.bus.clear();
        for _ in 0..4 {
            carry(&mut self.banks);
            self.banks.iter_mut().for_each(|bank| bank.pass_us(2_000_000));
        }
        carry(&mut self.banks);
        self.listen();
        assert!(self.asked.is_empty(), "a request was never answered");
    }

    fn at_rest(&mut self) {
        check_all(&self.banks);
        for (from, bank) in BRANCHES.iter().zip(&self.banks) {
            for (to, other) in BRANCHES.iter().zip(&self.banks).filter(|(to, _)| *to != from) {
                let balance = |bank: &Stepped<FaultStorage>, head| {
                    bank.branch.book().unwrap().account(head).map_or(0, |head| head.balance())
                };
                assert_eq!(balance(bank, transit(*from, *to, cny())), 0, "transit at rest");
                let one = balance(bank, position(*from, *to, cny()));
                assert_eq!(one, -balance(other, position(*to, *from, cny())), "positions mirror each other");
                let channel = bank.branch.book().unwrap().channel(*to);
                assert!(channel.is_none_or(|channel| channel.outgoing.stopped.is_none()), "nothing stopped");
            }
        }
        for (id, (at, one)) in std::mem::take(&mut self.sent) {
            let seen = payment(&mut self.banks[at], id);
            let exists = one.credit.customer_serial().unwrap() <= ACCOUNTS;
            match seen.state {
                PaymentState::Settled => assert!(exists, "{seen:?}"),
                PaymentState::Returned { outcome, to, .. } => {
                    assert_eq!((exists, outcome, to), (false, 1081, one.debit));
                }
                PaymentState::Sent => {
                    let book = self.banks[at].branch.book().unwrap();
                    panic!("still on its way: {seen:?} {:?}", book.channel(one.credit.branch()))
                }
            }
        }
        let customers = |bank: &Stepped<FaultStorage>| -> i128 {
            bank.branch.book().unwrap().ledger().customers().map(|(_, account)| account.balance()).sum()
        };
        let all: i128 = self.banks.iter().map(customers).sum();
        assert_eq!(all, i128::from(EACH * ACCOUNTS) * 3, "no cent was made or lost");
    }
}

#[test]
fn whatever_fails_every_payment_ends_once() {
    drop(coverage::take());
    let mut payments = 0;
    for seed in 1..=24 {
        let mut storm = Storm::new(seed);
        for _ in 0..6 {
            for bank in &mut storm.banks {
                bank.storage.lose_power_in(20 + storm.random.next(400));
            }
            for _ in 0..250 {
                storm.step();
            }
        }
        storm.clear();
        payments += storm.sent.len();
        storm.at_rest();
    }
    assert!(payments > 1_000, "only {payments} payments crossed");
    for (mark, hits) in coverage::take() {
        let calm =
            [Mark::MessageRefused, Mark::PaymentsCutShort, Mark::IncarnationDiffered, Mark::ChannelStopped];
        assert_eq!(hits == 0, calm.contains(&mark), "{mark:?}: {hits}");
    }
}

fn ask(handle: &BranchHandle, body: Body) -> Reply {
    let (send, receive) = mpsc::channel();
    handle.submit(request(operator(), body, move |reply| send.send(reply).unwrap())).unwrap();
    receive.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

#[test]
fn branches_of_one_process_pay_each_other_on_their_threads() {
    let folder = std::env::temp_dir().join(format!("skerry-crossing-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let exchange = Exchange::default();
    let threads: Vec<BranchThread> = [1_u16, 2]
        .map(|number| {
            let storage = RealStorage::open(folder.join(number.to_string())).unwrap();
            let options = Options { snapshot_records: 1 << 40, ..options_of(number) };
            let parts = parts(&storage, Mode::Threaded, options);
            let thread = BranchThread::spawn(parts, Box::new(|bytes| bytes.fill(3))).unwrap();
            let handle = thread.handle();
            for command in [found(), open_customer(1, handle.keys().create(1).unwrap()[0].0), open_account(1)] {
                let body = Body::Command { command: Box::new(command), key: None };
                assert!(matches!(ask(&handle, body), Reply::Command(Ok(_))));
            }
            let deposit = transfer(till(number), of(number, 1), EACH, now_us());
            assert!(matches!(ask(&handle, Body::Packed(pack(&[deposit]))), Reply::Packed(packed) if packed.accepted == 1));
            exchange.add(&handle);
            thread
        })
        .into();
    let handles: Vec<BranchHandle> = threads.iter().map(BranchThread::handle).collect();
    let mut last = TransferId::NONE;
    for (from, to) in [(0, 2), (1, 1)] {
        let payments: Vec<Transfer> =
            (0..2_000).map(|_| transfer(of(from + 1, 1), of(to, 1), 1, now_us())).collect();
        // Until both are connected and know each other the payee's branch is unknown; the same ids are sent again.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let Reply::Packed(packed) = ask(&handles[usize::from(from)], Body::Packed(pack(&payments)))
            else {
                panic!("a packed answer")
            };
            if packed.accepted == 2_000 {
                break;
            }
            let early = [0, 1, 4001, 4011];
            assert!(unpack(&packed.results).iter().all(|outcome| early.contains(&outcome.code)));
            assert!(Instant::now() < deadline, "the branches never met");
            std::thread::yield_now();
        }
        last = payments[1_999].id;
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let Reply::Answer(Answer::Payment(view)) = ask(&handles[1], Body::Read(Read::Payment(last))) else {
            panic!("a payment")
        };
        if view.state == PaymentState::Settled {
            break;
        }
        assert!(Instant::now() < deadline, "it never settled: {view:?}");
        std::thread::yield_now();
    }
    for handle in &handles {
        let Reply::Answer(Answer::Channels(channels)) = ask(handle, Body::Read(Read::Channels)) else {
            panic!("channels")
        };
        let totals = channels[0].1.totals[0].1;
        assert_eq!((totals.sent.count, totals.received.amount), (2_000, 2_000));
    }
    threads.into_iter().for_each(BranchThread::close);
    let _ = std::fs::remove_dir_all(&folder);
}
