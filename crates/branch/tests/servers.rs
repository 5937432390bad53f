//! A branch whose journal is on a server: commits whose outcome nobody knows, owners that are replaced, standbys that are
//! promoted with everything and without the last of it. Random, from a seed; each acknowledged transfer is there once.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::collections::BTreeMap;

use common::*;
use skerry_branch::api::{Body, Reply};
use skerry_branch::{Condition, OpenFailure};
use skerry_journal::{AppendFaultKind, FaultStorage, JournalStore, MemoryStore, OpenError};
use skerry_ledger::{Transfer, TransferId};

const ACCOUNTS: u64 = 3;
const EACH: u64 = 1_000_000;

/// A branch, its server, and what its client was told.
struct World {
    random: Random,
    server: MemoryStore,
    branch: Stepped<FaultStorage, MemoryStore>,
    sent: Vec<(Transfer, Slot)>,
    accepted: BTreeMap<TransferId, Transfer>,
    unknown: BTreeMap<TransferId, Transfer>,
    /// What the run went through.
    found: u32,
    lost: u32,
    fenced: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let server = MemoryStore::default();
        let mut branch = Stepped::over(server.clone(), &FaultStorage::new(seed));
        branch.open().unwrap();
        branch.found(ACCOUNTS, EACH);
        Self {
            random: Random(seed),
            server,
            branch,
            sent: Vec::new(),
            accepted: BTreeMap::new(),
            unknown: BTreeMap::new(),
            found: 0,
            lost: 0,
            fenced: 0,
        }
    }

    fn pay(&mut self) {
        let payer = 1 + self.random.next(ACCOUNTS);
        let payee = 1 + (payer + self.random.next(ACCOUNTS - 1)) % ACCOUNTS;
        let paid = transfer(account(payer), account(payee), 1 + self.random.next(9), self.branch.now.wall_us);
        self.send(paid);
    }

    fn send(&mut self, transfer: Transfer) {
        let slot = self.branch.submit(operator(), Body::Packed(pack(&[transfer])));
        self.sent.push((transfer, slot));
    }

    fn listen(&mut self) {
        for (transfer, slot) in std::mem::take(&mut self.sent) {
            match slot.take() {
                None => self.sent.push((transfer, slot)),
                Some(Reply::Packed(packed)) => {
                    self.unknown.remove(&transfer.id);
                    assert_eq!(unpack(&packed.results)[0].code, 0, "there is money enough");
                    self.accepted.insert(transfer.id, transfer);
                }
                Some(Reply::Unknown | Reply::Busy(_)) => {
                    self.unknown.insert(transfer.id, transfer);
                }
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    /// One thing that the dice choose.
    fn step(&mut self) {
        self.branch.pass_us(1_000);
        match self.random.next(24) {
            0..8 => self.pay(),
            8..14 => drop(self.branch.branch.turn(self.branch.now)),
            14..20 => drop(self.branch.branch.step_journal()),
            20 => drop(self.branch.work_off(3)),
            21 => {
                let durable = self.random.next(2) == 0;
                if durable {
                    self.found += 1
                } else {
                    self.lost += 1
                }
                self.server.fail_next(AppendFaultKind::Uncertain, durable);
            }
            22 if self.random.next(3) == 0 => {
                // Another owner for a moment: a node that thought this one dead.
                drop(self.server.open().unwrap());
                self.fenced += 1;
            }
            _ => self.retry(),
        }
        if matches!(self.branch.branch.condition(), Condition::Sick(_)) {
            self.listen();
            self.branch.open().unwrap();
        }
        self.listen();
    }

    /// A client that was not told asks again with the same id.
    fn retry(&mut self) {
        for transfer in self.unknown.values().copied().collect::<Vec<_>>() {
            if self.sent.iter().all(|(sent, _)| sent.id != transfer.id) {
                self.send(transfer);
            }
        }
    }

    /// No more troubles: everything is told.
    fn rest(&mut self) {
        for _ in 0..8 {
            self.retry();
            self.branch.settle();
            self.listen();
            if matches!(self.branch.branch.condition(), Condition::Sick(_)) {
                self.branch.open().unwrap();
            }
        }
        assert!(self.sent.is_empty() && self.unknown.is_empty(), "everybody is told in the end");
    }

    /// Each accepted transfer once, and nothing else.
    fn check(&mut self) {
        for serial in 1..=ACCOUNTS {
            let mut expected = i128::from(EACH);
            for transfer in self.accepted.values() {
                expected -= if transfer.debit == account(serial) { i128::from(transfer.amount) } else { 0 };
                expected += if transfer.credit == account(serial) { i128::from(transfer.amount) } else { 0 };
            }
            assert_eq!(self.branch.balance(account(serial)), expected, "account {serial}");
        }
    }
}

#[test]
fn uncertain_commits_and_other_owners_lose_and_double_nothing() {
    let (mut found, mut lost, mut fenced) = (0, 0, 0);
    for seed in 1..=60 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.step();
        }
        world.rest();
        world.check();
        (found, lost, fenced) = (found + world.found, lost + world.lost, fenced + world.fenced);
    }
    assert!(found > 20 && lost > 20 && fenced > 10, "{found} {lost} {fenced}: the dice went everywhere");
}

#[test]
fn a_standby_promoted_without_the_last_batches_is_refused_until_the_loss_is_declared() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        for _ in 0..100 {
            world.step();
        }
        world.rest();
        // A few more, one batch each, of which the promoted standby has not heard.
        let kept = world.accepted.clone();
        let before = world.branch.branch.book().unwrap().position();
        for _ in 0..3 {
            world.pay();
            world.branch.settle();
            world.listen();
        }
        let after = world.branch.branch.book().unwrap().position();
        world.server.lose(3);
        match world.branch.open() {
            Err(OpenFailure::Journal(OpenError::Rewound { journal, position, disagrees: false, .. })) => {
                assert_eq!((journal, position), (before, after));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(world.branch.branch.patience(), None, "it does not open by itself");
        let now = world.branch.now;
        world.branch.branch.declare_loss(world.server.accepting_loss(), now, [99; 32]).unwrap();
        world.branch.settle();
        // Clients who were told ask again with the same ids: what is lost happens now, what is not has happened.
        let told = std::mem::take(&mut world.accepted);
        assert_eq!(told.len(), kept.len() + 3);
        for transfer in told.values() {
            world.send(*transfer);
            world.branch.settle();
            world.listen();
        }
        world.rest();
        world.check();
        world.branch.open().expect("it was declared once and for all");
    }
}
