//! A ledger with the simplest index of ids that keeps the contract of `Past`, and a clock to turn by hand.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its own part")]

use std::collections::BTreeMap;

use skerry_ledger::{
    AccountCommand, AccountEvent, AccountRef, Earlier, Flags, Ledger, Moved, MovedKind, Past, Rejection,
    Stamp, Transfer, TransferId, invariants,
};
use skerry_money::{Currency, Date};

pub(crate) const BRANCH: u16 = 1;
pub(crate) const SEED: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// What happened, as the branch's journal would have it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Moved(Moved),
    Account(AccountEvent),
}

/// Every id ever used, in a map.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(BTreeMap<TransferId, Earlier>);

impl Past for Memory {
    fn find(&self, id: TransferId) -> Option<Earlier> {
        self.0.get(&id).copied()
    }
}

impl Memory {
    pub(crate) fn remember(&mut self, moved: &Moved) {
        if moved.id != TransferId::NONE {
            self.0.insert(moved.id, Earlier::Moved { moved: *moved, resolved: None });
        }
        if let Some(Earlier::Moved { resolved, .. }) = self.0.get_mut(&moved.related) {
            *resolved = Some(moved.kind);
        }
    }

    pub(crate) fn refuse(&mut self, transfer: &Transfer, rejection: Rejection) {
        let (code, have, need) = rejection.parts();
        let refused = Earlier::Refused { digest: transfer.digest, code, have, need };
        // A repeated refusal must not take the place of what the id did.
        self.0.entry(transfer.id).or_insert(refused);
    }

    pub(crate) fn set(&mut self, id: TransferId, earlier: Earlier) {
        self.0.insert(id, earlier);
    }
}

/// One branch's ledger, its ids, its clock and its journal.
#[derive(Debug)]
pub(crate) struct Bank {
    pub(crate) ledger: Ledger,
    pub(crate) past: Memory,
    pub(crate) stamp: Stamp,
    pub(crate) journal: Vec<Event>,
}

impl Bank {
    pub(crate) fn new(day: Date) -> Self {
        let time_us = u64::try_from(day.0).expect("days after 1970") * 86_400_000_000 + 9 * 3_600_000_000;
        Self {
            ledger: Ledger::new(BRANCH, SEED),
            past: Memory::default(),
            stamp: Stamp { time_us, business_date: day },
            journal: Vec::new(),
        }
    }

    /// One transfer on its own, as a branch treats it.
    pub(crate) fn submit(&mut self, transfer: &Transfer) -> Result<Moved, Rejection> {
        let decided = self.ledger.decide(transfer, self.stamp, &self.past);
        match decided {
            Ok(moved) => self.book(moved),
            Err(rejection) if rejection.may_succeed_later() => self.past.refuse(transfer, rejection),
            Err(_) => (),
        }
        decided
    }

    /// A linked chain, as a branch treats it.
    pub(crate) fn submit_chain(&mut self, transfers: &[Transfer]) -> Result<Vec<Moved>, (usize, Rejection)> {
        let mut out = Vec::new();
        let decided = self.ledger.decide_chain(transfers, self.stamp, &self.past, &mut out);
        if let Err((index, rejection)) = decided {
            assert!(out.is_empty(), "a refused chain leaves no events");
            if rejection.may_succeed_later() {
                self.past.refuse(&transfers[index], rejection);
            }
            return Err((index, rejection));
        }
        for moved in &out {
            self.book(*moved);
        }
        Ok(out)
    }

    /// Ends every hold whose time has run out.
    pub(crate) fn expire(&mut self) -> Vec<Moved> {
        let mut ended = Vec::new();
        while let Some(moved) = self.ledger.decide_expiry(self.stamp) {
            self.book(moved);
            ended.push(moved);
        }
        ended
    }

    pub(crate) fn run(&mut self, command: AccountCommand) -> Result<AccountEvent, Rejection> {
        let event = self.ledger.decide_account(&command)?;
        self.ledger.evolve_account(&event);
        self.journal.push(Event::Account(event));
        Ok(event)
    }

    fn book(&mut self, moved: Moved) {
        self.ledger.evolve(&moved);
        self.past.remember(&moved);
        self.journal.push(Event::Moved(moved));
    }

    pub(crate) fn check(&self) {
        invariants::check(&self.ledger).expect("the invariants hold");
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.stamp.time_us += seconds * 1_000_000;
    }
}

/// A ledger that evolved `journal` and decided nothing.
pub(crate) fn replay(journal: &[Event]) -> Ledger {
    let mut ledger = Ledger::new(BRANCH, [3, 4]);
    for event in journal {
        match event {
            Event::Moved(moved) => ledger.evolve(moved),
            Event::Account(event) => ledger.evolve_account(event),
        }
    }
    ledger
}

pub(crate) fn bytes(ledger: &Ledger) -> Vec<u8> {
    let mut bytes = Vec::new();
    ledger.freeze().write(&mut |piece| bytes.extend_from_slice(piece));
    bytes
}

pub(crate) fn read(mut bytes: &[u8]) -> Ledger {
    let ledger = Ledger::read(&mut |out: &mut [u8]| std::io::Read::read_exact(&mut bytes, out), SEED);
    let ledger = ledger.expect("an image that was just written");
    assert!(bytes.is_empty(), "an image is read to its end");
    ledger
}

/// An id of version 7 made at `time_us`.
pub(crate) fn id_at(time_us: u64, number: u64) -> TransferId {
    TransferId((u128::from(time_us / 1000) << 80) | (7 << 76) | (2 << 62) | u128::from(number))
}

/// An id of version 8.
pub(crate) fn derived_id(number: u64) -> TransferId {
    TransferId((8 << 76) | (2 << 62) | u128::from(number))
}

/// Stands in for the keyed digest of a request: any change of content changes it.
pub(crate) fn sealed(mut transfer: Transfer) -> Transfer {
    transfer.digest = 0;
    let digest = format!("{transfer:?}").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Transfer { digest, ..transfer }
}

pub(crate) fn currency(alpha: &str) -> Currency {
    Currency::from_alpha(alpha).expect("a currency of ISO 4217")
}

pub(crate) fn customer(serial: u64) -> AccountRef {
    AccountRef::customer(BRANCH, serial)
}

pub(crate) fn is_resolution(flags: Flags) -> bool {
    flags.overlaps(Flags::POST.with(Flags::VOID))
}

pub(crate) fn ends_hold(kind: MovedKind) -> bool {
    !matches!(kind, MovedKind::Posted | MovedKind::Held)
}
