//! A branch without storage: the book, its journal as a list, and a naive past.

use std::collections::BTreeMap;

use skerry_book::actor::{Actor, Cause, Principal, Role};
use skerry_book::channel::received_id;
use skerry_book::command::OpenChannel;
use skerry_book::event::Terms;
use skerry_book::record::{self, RECORD_LENGTH, Record};
use skerry_book::{Book, Command, Context, Crossing, Decision, Event, Payment, Rejection, Seed, invariants};
use skerry_ledger::{AccountRef, Earlier, Flags, Moved, MovedKind, Past, Transfer, TransferId};
use skerry_money::{Currency, Date};

/// One stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) tail: Vec<u8>,
    pub(crate) business_date: Date,
}

/// What every id was used for, kept the slow way.
#[derive(Debug, Default, Clone)]
pub(crate) struct NaivePast(BTreeMap<TransferId, Earlier>);

impl Past for NaivePast {
    fn find(&self, id: TransferId) -> Option<Earlier> {
        self.0.get(&id).copied()
    }
}

impl NaivePast {
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Moved(moved) => self.note_moved(moved),
            Event::Sent(sent) => self.note_sent(&sent.moved),
            Event::Received(received) if received.outcome == 0 => {
                let moved = received.moved;
                let id = received_id(moved.id, moved.debit.branch());
                self.0.insert(id, Earlier::Moved { moved, resolved: None });
            }
            Event::Returned(returned) => drop(self.0.insert(returned.moved.id, Earlier::Foreign)),
            Event::Refused(refused) => {
                let (digest, code, have, need) =
                    (refused.digest, refused.code, refused.have, u128::from(refused.need));
                self.0.insert(refused.id, Earlier::Refused { digest, code, have, need });
            }
            _ => (),
        }
    }

    fn note_sent(&mut self, moved: &Moved) {
        let mut resolves = *moved;
        if moved.flags.has(Flags::REVERSAL) {
            resolves.related = received_id(moved.related, moved.credit.branch());
        }
        self.note_moved(&resolves);
        self.0.insert(moved.id, Earlier::Moved { moved: *moved, resolved: None });
    }

    fn note_moved(&mut self, moved: &Moved) {
        if moved.related != TransferId::NONE
            && let Some(Earlier::Moved { resolved, .. }) = self.0.get_mut(&moved.related)
        {
            *resolved = Some(moved.kind);
        }
        if moved.kind != MovedKind::HoldExpired {
            self.0.insert(moved.id, Earlier::Moved { moved: *moved, resolved: None });
        }
    }
}

pub(crate) struct World {
    pub(crate) book: Book,
    pub(crate) past: NaivePast,
    pub(crate) journal: Vec<Stored>,
    pub(crate) time_us: u64,
    pub(crate) actor: Actor,
    pub(crate) key: Option<u128>,
}

pub(crate) const SEED: [u8; 32] = [42; 32];

pub(crate) fn operator(name: &str) -> Actor {
    person(name, Role::Operator)
}

pub(crate) fn person(name: &str, role: Role) -> Actor {
    let principal = Principal::new(name).unwrap();
    Actor { principal, role, request: [0; 16], approver: None, cause: Cause::Request }
}

/// Microseconds since 1970 of a day and a minute of it, in UTC.
pub(crate) fn at(date: Date, minute: u64) -> u64 {
    (u64::try_from(date.0).unwrap() * 1_440 + minute) * 60_000_000
}

/// Terms of a branch that keeps its books in yuan and in UTC.
pub(crate) fn terms(institution: u8, capacity: u32) -> Terms {
    Terms {
        institution: [institution; 16],
        currencies: vec![Currency::CNY],
        offset_minutes: 0,
        cutoff_minutes: 0,
        capacity,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::numbered(1)
    }

    pub(crate) fn numbered(branch: u16) -> Self {
        Self {
            book: Book::new(branch, Seed::new(SEED)),
            past: NaivePast::default(),
            journal: Vec::new(),
            time_us: at(Date::from_civil(2026, 1, 5).unwrap(), 600),
            actor: operator("till-1"),
            key: None,
        }
    }

    /// Journals and evolves, checking that what is stored reads back as what happened.
    pub(crate) fn happen(&mut self, event: &Event) {
        let business_date = self.book.stamp(self.time_us).business_date;
        let mut stored = Stored { record: [0; RECORD_LENGTH], tail: Vec::new(), business_date };
        record::encode(event, 7, &mut stored.record, &mut stored.tail);
        let decoded = record::decode(&stored.record, &stored.tail, business_date).unwrap();
        assert_eq!((&decoded.event, decoded.actor), (event, 7));
        self.journal.push(stored);
        self.past.note(event);
        self.book.evolve(event);
    }

    pub(crate) fn command(&mut self, command: &Command) -> Result<Decision, Rejection> {
        let context = Context { stamp: self.book.stamp(self.time_us), actor: self.actor, key: self.key };
        let decision = self.book.decide(command, &context)?;
        for event in &decision.events {
            self.happen(event);
        }
        Ok(decision)
    }

    pub(crate) fn transfer(&mut self, transfer: &Transfer) -> Result<Moved, Rejection> {
        let stamp = self.book.stamp(self.time_us);
        let sender = self.book.sender(&self.actor, stamp)?;
        let decided = match self.book.crosses(transfer) {
            Some(peer) => {
                self.open_heads(transfer.debit, peer);
                self.book.decide_crossing(transfer, peer, &sender, &self.past)
            }
            None => self.book.decide_transfer(transfer, &sender, &self.past).map(Crossing::Moved),
        };
        match decided {
            Ok(Crossing::Moved(moved)) => {
                self.happen(&Event::Moved(moved));
                Ok(moved)
            }
            Ok(Crossing::Sent(sent)) => {
                self.happen(&Event::Sent(sent));
                Ok(sent.moved)
            }
            Err(rejection) => {
                if rejection.is_journaled() && self.past.find(transfer.id).is_none() {
                    self.happen(&Event::Refused(Book::refused(transfer, rejection, stamp)));
                }
                Err(rejection)
            }
        }
    }

    /// One debit for many payees: all, or the index of the first that is refused and why.
    pub(crate) fn payout(&mut self, transfers: &[Transfer]) -> Result<(), (usize, Rejection)> {
        let stamp = self.book.stamp(self.time_us);
        let sender = self.book.sender(&self.actor, stamp).map_err(|rejection| (0, rejection))?;
        for transfer in transfers {
            if let Some(peer) = self.book.crosses(transfer) {
                self.open_heads(transfer.debit, peer);
            }
        }
        for crossing in self.book.decide_payout(transfers, &sender, &self.past)? {
            self.happen(&match crossing {
                Crossing::Moved(moved) => Event::Moved(moved),
                Crossing::Sent(sent) => Event::Sent(sent),
            });
        }
        Ok(())
    }

    fn open_heads(&mut self, account: AccountRef, peer: u16) {
        let Some(currency) = self.book.account(account).map(|account| account.currency) else { return };
        for event in self.book.channel_heads(peer, currency, self.book.stamp(self.time_us)) {
            self.happen(&event);
        }
    }

    /// As the bank itself.
    pub(crate) fn open_channel(&mut self, peer: u16, incarnation: u32) -> Result<Decision, Rejection> {
        let before = std::mem::replace(&mut self.actor, Actor::bank(Cause::Channel));
        let key = self.key.take();
        let decided = self.command(&Command::OpenChannel(OpenChannel { peer, incarnation }));
        (self.actor, self.key) = (before, key);
        decided
    }

    /// Takes a run of payments of `peer` that begins with number `first`: what is new and follows.
    pub(crate) fn arrive(&mut self, peer: u16, first: u64, payments: &[Payment], done: u64) {
        for (n, payment) in (first..).zip(payments) {
            if self.book.channel(peer).unwrap().incoming.received + 1 != n {
                continue;
            }
            self.open_heads(payment.credit, peer);
            let received = self.book.decide_received(payment, peer, done, self.book.stamp(self.time_us));
            self.happen(&Event::Received(received));
        }
    }

    /// Takes the outcomes of what was sent to `peer`, from number `first` on.
    pub(crate) fn learn(&mut self, peer: u16, first: u64, outcomes: &[u16]) {
        let stamp = self.book.stamp(self.time_us);
        for event in self.book.decide_outcomes(peer, first, outcomes, stamp, usize::MAX) {
            self.happen(&event);
        }
    }

    /// Takes back what this branch once sent to `peer` under `n`, step by step.
    pub(crate) fn take_back_sent(&mut self, peer: u16, n: u64, payment: &Payment, outcome: u16) {
        let stamp = self.book.stamp(self.time_us);
        while let Some(event) = self.book.take_back_sent(peer, n, payment, outcome, stamp) {
            if matches!(event, Event::Sent(_)) {
                self.open_heads_to_take_back(peer, payment);
            }
            self.happen(&event);
        }
    }

    /// The same of what it once received.
    pub(crate) fn take_back_received(&mut self, peer: u16, n: u64, payment: &Payment, outcome: u16) {
        let stamp = self.book.stamp(self.time_us);
        if let Some(event) = self.book.take_back_received(peer, n, payment, outcome, stamp) {
            if outcome == 0 {
                self.open_heads_to_take_back(peer, payment);
            }
            self.happen(&event);
        }
    }

    fn open_heads_to_take_back(&mut self, peer: u16, payment: &Payment) {
        loop {
            let heads = self.book.heads_to_take_back(peer, payment.currency, self.book.stamp(self.time_us));
            if heads.is_empty() {
                return;
            }
            heads.iter().for_each(|head| self.happen(head));
        }
    }

    /// A linked chain; what it leaves behind if it is refused is left out.
    pub(crate) fn chain(&mut self, transfers: &[Transfer]) {
        let mut linked = transfers.to_vec();
        let Some((_, earlier)) = linked.split_last_mut() else { return };
        for transfer in earlier {
            transfer.flags = transfer.flags.with(Flags::LINKED);
        }
        let stamp = self.book.stamp(self.time_us);
        let Ok(sender) = self.book.sender(&self.actor, stamp) else { return };
        let mut moved = Vec::new();
        if self.book.decide_chain(&linked, &sender, &self.past, &mut moved).is_ok() {
            moved.iter().for_each(|moved| self.happen(&Event::Moved(*moved)));
        } else {
            assert!(moved.is_empty(), "a refused chain leaves nothing");
        }
    }

    /// Ends holds whose time is up; returns how many.
    pub(crate) fn expire(&mut self) -> usize {
        let mut count = 0;
        while let Some(moved) = self.book.decide_expiry(self.book.stamp(self.time_us)) {
            self.happen(&Event::Moved(moved));
            count += 1;
        }
        count
    }

    pub(crate) fn check(&self) {
        assert_eq!(invariants::check(&self.book), Ok(()));
        assert_eq!(self.book.position(), u64::try_from(self.journal.len()).unwrap());
    }

    /// What was stored, read back.
    pub(crate) fn events(&self) -> impl Iterator<Item = Event> {
        self.journal
            .iter()
            .map(|stored| record::decode(&stored.record, &stored.tail, stored.business_date).unwrap().event)
    }

    pub(crate) fn moved(&self) -> Vec<Moved> {
        let moved = self.events().filter_map(|event| event.posting(self.book.branch()));
        moved.collect()
    }

    /// Another book, made from the stored bytes alone.
    pub(crate) fn replay(&self, seed: [u8; 32]) -> Book {
        let mut book = Book::new(self.book.branch(), Seed::new(seed));
        self.events().for_each(|event| book.evolve(&event));
        book
    }
}

pub(crate) fn image(book: &Book) -> Vec<u8> {
    let mut bytes = Vec::new();
    book.freeze().write(&mut |piece| bytes.extend_from_slice(piece));
    bytes
}

/// Reads an image back, and whether bytes were left over.
pub(crate) fn restore(bytes: &[u8], seed: [u8; 32]) -> Option<Book> {
    let mut rest = bytes;
    let mut fill = |buffer: &mut [u8]| -> Result<(), ()> {
        let (head, tail) = rest.split_at_checked(buffer.len()).ok_or(())?;
        buffer.copy_from_slice(head);
        rest = tail;
        Ok(())
    };
    let book = Book::read(&mut fill, Seed::new(seed)).ok()?;
    rest.is_empty().then_some(book)
}

/// Whether two books are the same to whoever reads them, image and all.
pub(crate) fn same(left: &Book, right: &Book) -> bool {
    let customers = 1..=left.customer_count();
    image(left) == image(right)
        && left.status() == right.status()
        && (left.terms(), left.policy(), left.losses()) == (right.terms(), right.policy(), right.losses())
        && (left.chart(), left.proposals(0).collect::<Vec<_>>())
            == (right.chart(), right.proposals(0).collect())
        && customers.clone().all(|serial| left.customer(serial) == right.customer(serial))
        && customers.clone().all(|serial| left.accounts(serial).eq(right.accounts(serial)))
}
