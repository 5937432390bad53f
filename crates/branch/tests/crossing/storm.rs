//! Payments over a bus that loses, doubles and reorders, with the power cut at any moment: every one ends once.

use std::collections::BTreeMap;

use skerry_book::channel::{position, transit};
use skerry_branch::Condition;
use skerry_branch::api::{Body, PaymentState, Reply};
use skerry_branch::channels::Outgoing;
use skerry_branch::channels::coverage::{self, Mark};
use skerry_journal::{FaultPlan, FaultStorage};
use skerry_ledger::{Transfer, TransferId};

use super::common::*;
use super::{ACCOUNTS, BRANCHES, EACH, carry, check_all, deliver, founded, of, options_of, payment};

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
        // Of losses: see `losses`.
        let calm = [
            Mark::MessageRefused,
            Mark::PaymentsCutShort,
            Mark::IncarnationDiffered,
            Mark::ChannelStopped,
            Mark::ChannelResumed,
            Mark::LossFound,
            Mark::Retelling,
            Mark::RetoldCutShort,
            Mark::SentAgain,
            Mark::ReceivedAgain,
            Mark::Unapplied,
            Mark::PaymentWithdrawn,
        ];
        assert_eq!(hits == 0, calm.contains(&mark), "{mark:?}: {hits}");
    }
}
