//! Two and three books pay each other over a bus that loses, doubles and reorders; whatever it does, every payment ends
//! once, and a naive count of everybody's money agrees.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use skerry_book::channel::{PAYMENT_LENGTH, WINDOW, check_pair, position, transit};
use skerry_book::command::{Freeze, Incarnate, OpenAccount, OpenBranch, OpenCustomer, StopChannel};
use skerry_book::event::{StopReason, Terms};
use skerry_book::{Command, Payment, Rejection};
use skerry_ledger::{AccountRef, Flags, Sides, Transfer, TransferId, UNLIMITED};
use skerry_money::{Currency, Date};

use crate::world::{SEED, World, at, image, restore, same};

const FIRST: i32 = 20_458;
/// Accounts of each branch: 1 and 2 in CNY, 3 in USD.
const ACCOUNTS: u64 = 3;
const BEGIN: i128 = 1_000;

#[derive(Debug, Clone)]
enum Step {
    /// From and to as (branch, account), amount; account 4 does not exist.
    Pay((usize, u64), (usize, u64), u64, Option<u8>),
    /// A hold to be sent; later it is posted in part or voided.
    Hold((usize, u64), (usize, u64), u64),
    Resolve(usize, usize, bool, u64),
    /// Everything open from an offset on leaves for another branch.
    Emit(usize, usize, usize),
    /// All kept outcomes leave for another branch.
    Tell(usize, usize),
    /// A message arrives; whether it stays on the bus to arrive again.
    Arrive(usize, bool),
    Lose(usize),
    Freeze(usize, u64, bool),
    Reverse(usize, usize),
}

#[derive(Debug, Clone)]
enum Message {
    Payments { from: usize, to: usize, first: u64, payments: Vec<Payment>, done: u64 },
    Outcomes { from: usize, to: usize, first: u64, outcomes: Vec<u16> },
}

fn branch(index: usize) -> u16 {
    u16::try_from(index).unwrap() + 1
}

fn account((index, serial): (usize, u64)) -> AccountRef {
    AccountRef::customer(branch(index), serial)
}

fn id(number: usize) -> TransferId {
    let millis = u128::from(at(Date(FIRST), 600) / 1_000);
    TransferId((millis << 80) | (7 << 76) | (0b10 << 62) | u128::try_from(number).unwrap())
}

/// A branch with a customer and money on every account.
fn begin(index: usize) -> World {
    let mut world = World::numbered(branch(index));
    let terms = Terms {
        institution: [0; 16],
        currencies: vec![Currency::CNY, Currency::USD],
        offset_minutes: 0,
        cutoff_minutes: 0,
        capacity: 4,
    };
    world.command(&Command::OpenBranch(OpenBranch { terms, date: Date(FIRST) })).unwrap();
    let sealed = Box::from([1].as_slice());
    let wish = OpenCustomer { document: [1; 32], key_ref: 1, line: 0, opened: None, sealed };
    world.command(&Command::OpenCustomer(wish)).unwrap();
    for serial in 1..=ACCOUNTS {
        let currency = if serial == 3 { Currency::USD } else { Currency::CNY };
        let wish =
            OpenAccount { customer: 1, product: 1, currency, opened: None, floor: 0, daily_limit: UNLIMITED };
        world.command(&Command::OpenAccount(wish)).unwrap();
        let transfer = Transfer {
            id: id(10_000 + usize::try_from(serial).unwrap()),
            debit: AccountRef::head(branch(index), 1001, currency),
            credit: account((index, serial)),
            amount: u64::try_from(BEGIN).unwrap(),
            ..Transfer::default()
        };
        world.transfer(&transfer).unwrap();
    }
    world
}

/// Branches with channels between them, and everything on its way.
struct Bank {
    worlds: Vec<World>,
    bus: Vec<Message>,
    sent: usize,
    holds: Vec<(usize, TransferId)>,
    payments: Vec<(usize, Transfer)>,
}

impl Bank {
    fn new(count: usize) -> Self {
        let mut worlds: Vec<World> = (0..count).map(begin).collect();
        for (from, world) in worlds.iter_mut().enumerate() {
            for to in (0..count).filter(|to| *to != from) {
                world.open_channel(branch(to), 1).unwrap();
            }
        }
        Self { worlds, bus: Vec::new(), sent: 0, holds: Vec::new(), payments: Vec::new() }
    }

    fn transfer(&mut self, at: usize, transfer: Transfer) -> Result<(), Rejection> {
        let digest = skerry_book::packed::digest(&transfer, &[], &[0; 16], self.worlds[at].book.seed());
        let transfer = Transfer { digest, ..transfer };
        self.worlds[at].transfer(&transfer)?;
        self.payments.push((at, transfer));
        Ok(())
    }

    fn take(&mut self, step: &Step) {
        let count = self.worlds.len();
        match *step {
            Step::Pay(from, to, amount, again) => {
                let (from, to) = ((from.0 % count, from.1), (to.0 % count, to.1));
                let number = again.map_or(self.sent, usize::from);
                self.sent += 1;
                let (debit, credit) = (account(from), account(to));
                let transfer = Transfer { id: id(number), debit, credit, amount, ..Transfer::default() };
                let _ = self.transfer(from.0, transfer);
            }
            Step::Hold(from, to, amount) => {
                let (from, to) = ((from.0 % count, from.1), (to.0 % count, to.1));
                let hold = id(self.sent);
                self.sent += 1;
                let transfer = Transfer {
                    id: hold,
                    debit: account(from),
                    credit: account(to),
                    amount,
                    flags: Flags::PENDING,
                    ..Transfer::default()
                };
                if self.transfer(from.0, transfer).is_ok() {
                    self.holds.push((from.0, hold));
                }
            }
            Step::Resolve(at, index, post, amount) => self.resolve(at, index, post, amount),
            Step::Emit(from, to, skip) => self.emit(from % count, to % count, skip),
            Step::Tell(from, to) => self.tell(from % count, to % count),
            Step::Arrive(index, again) if !self.bus.is_empty() => {
                let index = index % self.bus.len();
                let message = if again { self.bus[index].clone() } else { self.bus.remove(index) };
                self.arrive(message);
            }
            Step::Lose(index) if !self.bus.is_empty() => {
                let index = index % self.bus.len();
                self.bus.remove(index);
            }
            Step::Arrive(..) | Step::Lose(..) => {}
            Step::Freeze(at, serial, on) => {
                let (at, sides) = (at % count, Sides { debit: false, credit: true });
                let account = account((at, serial));
                let command = if on {
                    Command::Freeze(Freeze { account, sides, reason: 1 })
                } else {
                    Command::Unfreeze(skerry_book::command::Unfreeze { account, sides })
                };
                drop(self.worlds[at].command(&command));
            }
            Step::Reverse(index, wrong) => self.reverse(index, wrong),
        }
    }

    fn resolve(&mut self, at: usize, index: usize, post: bool, amount: u64) {
        let Some(index) = index.checked_rem(self.holds.len()) else { return };
        let (home, related) = self.holds[index];
        let at = if at == 0 { home } else { at % self.worlds.len() };
        let flags = if post { Flags::POST } else { Flags::VOID };
        let transfer = Transfer {
            id: id(self.sent),
            related,
            amount: if post { amount } else { 0 },
            flags,
            ..Transfer::default()
        };
        self.sent += 1;
        let _ = self.transfer(at, transfer);
    }

    /// A payment is reversed where its payee lives.
    fn reverse(&mut self, index: usize, wrong: usize) {
        let Some(index) = index.checked_rem(self.payments.len()) else { return };
        let (from, original) = self.payments[index];
        let to = usize::from(original.credit.branch()).saturating_sub(1);
        if to >= self.worlds.len() || to == from || original.flags != Flags::default() {
            return;
        }
        let transfer = Transfer {
            id: id(self.sent),
            credit: if wrong == 0 { account((from, 2)) } else { original.debit },
            related: original.id,
            flags: Flags::REVERSAL,
            ..Transfer::default()
        };
        self.sent += 1;
        let _ = self.transfer(to, transfer);
    }

    fn emit(&mut self, from: usize, to: usize, skip: usize) {
        let Some(channel) = self.worlds[from].book.channel(branch(to)) else { return };
        let outgoing = &channel.outgoing;
        let payments: Vec<Payment> = outgoing.open.iter().skip(skip).map(|open| open.payment).collect();
        let first = outgoing.done + 1 + u64::try_from(skip).unwrap();
        if !payments.is_empty() {
            self.bus.push(Message::Payments { from, to, first, payments, done: outgoing.done });
        }
    }

    fn tell(&mut self, from: usize, to: usize) {
        let Some(channel) = self.worlds[from].book.channel(branch(to)) else { return };
        let first = channel.incoming.forgotten + 1;
        let outcomes = channel.incoming.outcomes.iter().copied().collect();
        self.bus.push(Message::Outcomes { from, to, first, outcomes });
    }

    fn arrive(&mut self, message: Message) {
        match message {
            Message::Payments { from, to, first, payments, done } => {
                self.worlds[to].arrive(branch(from), first, &payments, done);
            }
            Message::Outcomes { from, to, first, outcomes } => {
                self.worlds[to].learn(branch(from), first, &outcomes);
            }
        }
    }

    /// The bus is good again: everything ends.
    fn settle(&mut self) {
        self.bus.clear();
        for _ in 0..2 {
            for from in 0..self.worlds.len() {
                for to in (0..self.worlds.len()).filter(|to| *to != from) {
                    self.emit(from, to, 0);
                    std::mem::take(&mut self.bus).into_iter().for_each(|message| self.arrive(message));
                    self.tell(to, from);
                    std::mem::take(&mut self.bus).into_iter().for_each(|message| self.arrive(message));
                }
            }
        }
    }

    fn check(&self) {
        for (index, world) in self.worlds.iter().enumerate() {
            world.check();
            for other in &self.worlds[index + 1..] {
                assert_eq!(check_pair(&world.book, &other.book), Ok(()));
            }
        }
    }

    /// All the money of customers and on its way, by currency.
    fn money(&self) -> BTreeMap<u16, i128> {
        let mut money = BTreeMap::new();
        for world in &self.worlds {
            let customers = world.book.ledger().customers();
            let heads =
                world.book.ledger().heads().filter(|(head, _)| skerry_book::channel::is_channel_head(*head));
            for (_, account) in customers.chain(heads) {
                *money.entry(account.currency.number()).or_default() += account.balance();
            }
        }
        money
    }

    fn at_rest(&self) {
        for (from, world) in self.worlds.iter().enumerate() {
            for to in (0..self.worlds.len()).filter(|to| *to != from) {
                for currency in [Currency::CNY, Currency::USD] {
                    let balance =
                        |world: &World, head| world.book.account(head).map_or(0, |head| head.balance());
                    assert_eq!(balance(world, transit(branch(from), branch(to), currency)), 0);
                    let one = balance(world, position(branch(from), branch(to), currency));
                    let other = balance(&self.worlds[to], position(branch(to), branch(from), currency));
                    assert_eq!(one, -other, "positions mirror each other");
                }
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..3_usize, 1..5_u64);
    prop_oneof![
        8 => (place(), place(), 0..400_u64, proptest::option::weighted(0.2, 0..20_u8))
            .prop_map(|(from, to, amount, again)| Step::Pay(from, to, amount, again)),
        2 => (place(), place(), 1..300_u64).prop_map(|(from, to, amount)| Step::Hold(from, to, amount)),
        2 => (0..4_usize, any::<usize>(), any::<bool>(), 0..300_u64)
            .prop_map(|(at, index, post, amount)| Step::Resolve(at, index, post, amount)),
        5 => (0..3_usize, 0..3_usize, 0..3_usize).prop_map(|(from, to, skip)| Step::Emit(from, to, skip)),
        4 => (0..3_usize, 0..3_usize).prop_map(|(from, to)| Step::Tell(from, to)),
        10 => (any::<usize>(), any::<bool>()).prop_map(|(index, again)| Step::Arrive(index, again)),
        2 => any::<usize>().prop_map(Step::Lose),
        2 => (0..3_usize, 1..4_u64, any::<bool>()).prop_map(|(at, serial, on)| Step::Freeze(at, serial, on)),
        2 => (any::<usize>(), 0..4_usize).prop_map(|(index, wrong)| Step::Reverse(index, wrong)),
    ]
}

/// What every customer account must have once all is at rest, added up from what the journals say of each payment.
fn naive(bank: &Bank) -> BTreeMap<AccountRef, i128> {
    let mut balances = BTreeMap::new();
    for (index, _) in bank.worlds.iter().enumerate() {
        for serial in 1..=ACCOUNTS {
            balances.insert(account((index, serial)), BEGIN);
        }
    }
    let mut move_all = |debit: AccountRef, credit: AccountRef, amount: u64| {
        for (side, sign) in [(debit, -1), (credit, 1)] {
            *balances.entry(side).or_default() += sign * i128::from(amount);
        }
    };
    for world in &bank.worlds {
        for event in world.events() {
            match event {
                // Money from the till was there before; within a branch it moves at once.
                skerry_book::Event::Moved(moved)
                    if moved.debit.is_customer() && moved.kind == skerry_ledger::MovedKind::Posted =>
                {
                    move_all(moved.debit, moved.credit, moved.amount);
                }
                skerry_book::Event::Moved(moved) if moved.kind == skerry_ledger::MovedKind::HoldPosted => {
                    move_all(moved.debit, moved.credit, moved.amount);
                }
                // The receiver alone says whether a payment moved from payer to payee.
                skerry_book::Event::Received(received) if received.outcome == 0 => {
                    move_all(received.moved.debit, received.moved.credit, received.moved.amount);
                }
                _ => {}
            }
        }
    }
    balances
}

proptest! {
    #[test]
    fn whatever_the_bus_does_every_payment_ends_once(
        count in 2..4_usize, steps in vec(step(), 1..150), cut in 0..150_usize,
    ) {
        let mut bank = Bank::new(count);
        let money = bank.money();
        for (index, step) in steps.iter().enumerate() {
            if index == cut {
                // A branch starts again from its image, in the middle of everything.
                let bytes = image(&bank.worlds[0].book);
                bank.worlds[0].book = restore(&bytes, SEED).unwrap();
            }
            bank.take(step);
            bank.check();
            prop_assert_eq!(bank.money(), money.clone());
        }
        bank.settle();
        bank.check();
        bank.at_rest();
        for world in &bank.worlds {
            for (_, channel) in world.book.channels() {
                prop_assert!(channel.outgoing.open.is_empty());
                prop_assert_eq!(channel.outgoing.sent, channel.outgoing.done);
            }
            prop_assert!(same(&world.book, &world.replay(SEED)), "a replay");
            prop_assert!(same(&world.book, &world.replay([9; 32])), "a replay under another seed");
        }
        for (account, balance) in naive(&bank) {
            let home = usize::from(account.branch()) - 1;
            if account.is_customer() {
                prop_assert_eq!(bank.worlds[home].book.account(account).unwrap().balance(), balance);
            }
        }
    }

    #[test]
    fn payments_read_back_as_written(bytes in vec(any::<u8>(), PAYMENT_LENGTH)) {
        let mut bytes: [u8; PAYMENT_LENGTH] = bytes.try_into().unwrap();
        bytes[40..42].copy_from_slice(&156_u16.to_le_bytes());
        bytes[48..52].copy_from_slice(&[0; 4]);
        bytes[68..].copy_from_slice(&[0; 16]);
        let payment = Payment::decode(&bytes).unwrap();
        prop_assert_eq!(payment.encode(), bytes);
    }
}

fn pay(bank: &mut Bank, number: usize, amount: u64) -> Result<(), Rejection> {
    let (debit, credit) = (account((0, 1)), account((1, 1)));
    bank.transfer(0, Transfer { id: id(number), debit, credit, amount, ..Transfer::default() })
}

#[test]
fn a_full_channel_is_busy_before_anything_is_debited() {
    let mut bank = Bank::new(2);
    let cash = AccountRef::head(1, 1001, Currency::CNY);
    let more =
        Transfer { id: id(1), debit: cash, credit: account((0, 1)), amount: 1 << 20, ..Transfer::default() };
    bank.transfer(0, more).unwrap();
    for number in 0..WINDOW {
        pay(&mut bank, 100_000 + number, 1).unwrap();
    }
    let before = *bank.worlds[0].book.account(account((0, 1))).unwrap();
    let full = u32::try_from(WINDOW).unwrap();
    assert_eq!(pay(&mut bank, 5, 1), Err(Rejection::ChannelBusy { open: full }));
    assert_eq!(*bank.worlds[0].book.account(account((0, 1))).unwrap(), before);
    bank.check();
    // One record settles the whole run, and then there is room again under the same id.
    let records = bank.worlds[0].journal.len();
    bank.settle();
    assert_eq!(bank.worlds[0].journal.len(), records + 1);
    pay(&mut bank, 5, 1).unwrap();
}

#[test]
fn a_sum_beyond_64_bits_settles_in_two_runs() {
    let mut bank = Bank::new(2);
    let cash = AccountRef::head(1, 1001, Currency::CNY);
    for number in 0..3 {
        let credit = account((1, 1));
        let transfer = Transfer {
            id: id(50 + number),
            debit: cash,
            credit,
            amount: u64::MAX / 2,
            ..Transfer::default()
        };
        bank.transfer(0, transfer).unwrap();
    }
    let records = bank.worlds[0].journal.len();
    bank.settle();
    bank.check();
    assert_eq!(bank.worlds[0].journal.len(), records + 2);
    bank.at_rest();
}

#[test]
fn a_hash_that_does_not_continue_is_seen_by_both() {
    let mut bank = Bank::new(2);
    pay(&mut bank, 1, 10).unwrap();
    bank.emit(0, 1, 0);
    let Some(Message::Payments { payments, .. }) = bank.bus.first_mut() else { panic!("a message") };
    payments[0].amount = 11;
    let message = bank.bus.remove(0);
    bank.arrive(message);
    assert!(check_pair(&bank.worlds[0].book, &bank.worlds[1].book).is_err());
}

#[test]
fn a_stopped_channel_sends_nothing_and_the_other_direction_goes_on() {
    let mut bank = Bank::new(2);
    let stop = StopChannel {
        peer: 2,
        reason: StopReason::NumberUnknown,
        outgoing: true,
        incoming: false,
        n: 1,
        expected: 0,
        found: 9,
    };
    let stop = Command::StopChannel(stop);
    assert_eq!(bank.worlds[0].command(&stop).unwrap_err(), Rejection::RoleNotAllowed);
    bank.worlds[0].actor = skerry_book::Actor::bank(skerry_book::Cause::Channel);
    assert_eq!(bank.worlds[0].command(&stop).unwrap().events.len(), 1);
    assert_eq!(bank.worlds[0].command(&stop).unwrap().events.len(), 0, "it stops once");
    bank.worlds[0].actor = crate::world::operator("till-1");
    assert_eq!(pay(&mut bank, 1, 10), Err(Rejection::ChannelStopped { peer: 2 }));
    let (debit, credit) = (account((1, 1)), account((0, 1)));
    bank.transfer(1, Transfer { id: id(2), debit, credit, amount: 4, ..Transfer::default() }).unwrap();
    bank.settle();
    bank.check();
    bank.at_rest();
    assert!(same(&bank.worlds[0].book, &restore(&image(&bank.worlds[0].book), SEED).unwrap()));
}

#[test]
fn a_channel_opens_once_for_an_incarnation() {
    let mut bank = Bank::new(2);
    let world = &mut bank.worlds[0];
    assert_eq!(world.open_channel(2, 1).unwrap().events.len(), 0);
    assert_eq!(world.open_channel(2, 2).unwrap_err(), Rejection::IncarnationNotNext { incarnation: 1 });
    assert_eq!(world.open_channel(1, 1).unwrap_err(), Rejection::PeerUnknown { peer: 1 });
    assert_eq!(world.open_channel(10_000, 1).unwrap_err(), Rejection::PeerUnknown { peer: 10_000 });
    world.command(&Command::Incarnate(Incarnate { incarnation: 2, lost_from: 5, lost_to: 6 })).unwrap();
    world.check();
}
