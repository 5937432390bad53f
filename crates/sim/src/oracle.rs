//! The witness of one branch: walks its journal as it becomes durable, and holds the branch against what it saw.
//!
//! What was durable once must be there after every opening, byte for byte (but for a restore from an old backup,
//! which [`Oracle::rewind`] is told of). Each batch goes through `proof`'s walk, each event to the naive
//! [`Model`] and to a book that is evolved from nothing; whatever the branch holds in memory is compared with both.

use std::ops::ControlFlow;

use skerry_book::record::{self, RECORD_LENGTH};
use skerry_book::{Book, BookImage, Event, Seed};
use skerry_journal::{BatchView, JournalReader};
use skerry_ledger::{Basis, Stamp};
use skerry_money::Date;
use skerry_proof::checkpoint::{ChannelTotal, Checkpoint, Payments};
use skerry_proof::{Hash, walk::Walk};

use crate::model::account::Account;
use crate::model::crossing::Sums;
use crate::model::{AllAsked, Broken, Model};

/// The journal after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    position: u64,
    head: Hash,
    history_root: Hash,
}

/// What was seen of one branch.
pub(crate) struct Oracle {
    seed: Seed,
    walk: Walk,
    /// By number of batches.
    places: Vec<Place>,
    pub(crate) records: Vec<[u8; RECORD_LENGTH]>,
    pub(crate) model: Model,
    /// Evolved from nothing, event by event.
    book: Book,
}

impl Oracle {
    pub(crate) fn new(number: u16, seed: Seed) -> Self {
        let walk = Walk::new();
        let start = Place { position: 0, head: walk.head(), history_root: walk.history().root() };
        Self {
            seed,
            walk,
            places: vec![start],
            records: Vec::new(),
            model: Model::new(number),
            book: Book::new(number, seed),
        }
    }

    /// Everything before this position was seen durable.
    pub(crate) fn position(&self) -> u64 {
        self.walk.position()
    }

    /// The header hash of the last batch seen.
    pub(crate) fn head(&self) -> Hash {
        self.walk.head()
    }

    pub(crate) fn batches(&self) -> u64 {
        self.walk.batches()
    }

    /// Whether a branch that was `behind`, having lost what others know, still is: no life after the `latest` is on record yet. Put back
    /// to where an earlier life began, it may take a number that it had before: then others show it once more.
    pub(crate) fn is_behind(&self, behind: bool, latest: &mut u32) -> bool {
        let life = self.model.incarnation;
        if behind && life <= *latest {
            return true;
        }
        *latest = life.max(*latest);
        false
    }

    /// Walks what has become durable since the last time.
    ///
    /// # Errors
    ///
    /// In words, what cannot be.
    pub(crate) fn advance<R: JournalReader>(&mut self, reader: &R, asked: &AllAsked) -> Result<(), Broken> {
        let from = reader_position(self.position());
        if reader.head().position <= from {
            return Ok(());
        }
        let mut broken = None;
        let scanned = reader.scan(from, &mut |batch| match self.batch(batch, asked) {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => {
                broken = Some(why);
                ControlFlow::Break(())
            }
        });
        match (broken, scanned) {
            (Some(why), _) => Err(why),
            // Injected read errors pass: the rest is walked next time.
            (None, Err(skerry_journal::ReadError::Storage(_))) | (None, Ok(_)) => Ok(()),
            (None, Err(error)) => Err(format!("the journal cannot be read: {error}")),
        }
    }

    fn batch(&mut self, batch: BatchView<'_>, asked: &AllAsked) -> Result<(), Broken> {
        self.walk.batch(batch.bytes).map_err(|error| error.fault.to_string())?;
        let head = self.walk.head();
        if head != batch.hash {
            return Err("the journal tells another header hash than its batch has".to_owned());
        }
        let history_root = self.walk.history().root();
        self.places.push(Place { position: self.walk.position(), head, history_root });
        let stamp = Stamp { time_us: batch.header.time_us, business_date: Date(batch.header.business_date) };
        let parts = batch.parts();
        for index in 0..batch.header.record_count {
            let (bytes, tail) = parts.record(index).ok_or("a batch lacks a record that it counts")?;
            let event = record::decode(bytes, tail.unwrap_or_default(), stamp.business_date)
                .map_err(|error| error.to_string())?
                .event;
            self.records.push(*bytes);
            self.model.take(stamp, &event, asked)?;
            match &event {
                Event::Moved(moved) => self.book.evolve_moved(moved),
                other => self.book.evolve(other),
            }
        }
        Ok(())
    }

    /// Walks the whole journal again after an opening: all that was seen must be there unchanged, before anything new.
    ///
    /// # Errors
    ///
    /// In words, what is missing or different.
    pub(crate) fn recheck<R: JournalReader>(&mut self, reader: &R, asked: &AllAsked) -> Result<(), Broken> {
        let end = reader.head();
        if end.position.0 < self.position() {
            let lost = self.position() - end.position.0;
            return Err(format!(
                "{lost} records that were durable are gone: the journal ends at {}",
                end.position
            ));
        }
        self.compare(reader)?;
        self.advance(reader, asked)
    }

    /// Holds everything that `reader` has, as far as it was seen, against what was seen.
    ///
    /// # Errors
    ///
    /// In words, what is different.
    pub(crate) fn compare<R: JournalReader>(&self, reader: &R) -> Result<(), Broken> {
        let (mut broken, known) = (None, self.position());
        let scanned = reader.scan(reader.start(), &mut |batch| {
            let place =
                usize::try_from(batch.header.batch).ok().and_then(|number| self.places.get(number + 1));
            // The scan has checked root, extras and chain; the hash says that it is the same batch.
            if place.is_some_and(|place| place.head != batch.hash) {
                broken =
                    Some(format!("batch {} is another than the one that was durable", batch.header.batch));
            }
            let more = broken.is_none() && batch.header.end_position() < known;
            if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match (broken, scanned) {
            (Some(why), _) => Err(why),
            (None, Err(skerry_journal::ReadError::Storage(_))) | (None, Ok(_)) => Ok(()),
            (None, Err(error)) => Err(format!("the journal cannot be read: {error}")),
        }
    }

    /// Begins anew with a journal that was put back to an earlier state: what is left must be the beginning of
    /// what was seen.
    ///
    /// # Errors
    ///
    /// In words, what is different.
    pub(crate) fn rewind<R: JournalReader>(&mut self, reader: &R, asked: &AllAsked) -> Result<(), Broken> {
        let mut fresh = Self::new(self.model.number, self.seed);
        fresh.advance(reader, asked)?;
        let shared = fresh.places.len().min(self.places.len());
        if fresh.places[..shared] != self.places[..shared] {
            return Err("a restored journal is not the beginning of the one it was copied from".to_owned());
        }
        *self = fresh;
        Ok(())
    }

    /// Holds an opened branch's book against the model and the book evolved from nothing.
    ///
    /// # Errors
    ///
    /// In words, what differs.
    pub(crate) fn check_book(&self, book: &Book) -> Result<(), Broken> {
        if book.position() != self.position() {
            let (has, is) = (book.position(), self.position());
            return Err(format!("the book stands at {has}, its journal at {is}"));
        }
        skerry_book::invariants::check(book).map_err(str::to_owned)?;
        self.check_accounts(book)?;
        self.check_trial(book)?;
        if bytes(&book.freeze()) != bytes(&self.book.freeze()) {
            return Err("the book is not the one that its journal's events make".to_owned());
        }
        Ok(())
    }

    fn check_accounts(&self, book: &Book) -> Result<(), Broken> {
        let ledger = book.ledger();
        let count = ledger.customers().chain(ledger.heads()).count();
        if count != self.model.accounts.len() {
            return Err(format!("{count} accounts, should be {}", self.model.accounts.len()));
        }
        for account in self.model.accounts.values() {
            let found = book.account(account.reference).ok_or("an account is missing")?;
            same_account(account, found).map_err(|what| {
                format!(
                    "account {:016x}: {what} differs: {found:?}, should be {account:?}",
                    account.reference.0
                )
            })?;
        }
        let open = self.model.accounts.values().map(|account| u64::from(account.holds)).sum::<u64>() / 2;
        if ledger.hold_count() as u64 != open {
            return Err(format!("{} open holds, should be {open}", ledger.hold_count()));
        }
        Ok(())
    }

    fn check_trial(&self, book: &Book) -> Result<(), Broken> {
        let Some(day) = self.model.day else { return Ok(()) };
        for (date, basis) in [(day, Basis::Booked), (day, Basis::Value), (Date(day.0 - 1), Basis::Booked)] {
            let should = self.model.trial(date, basis);
            let mut sum = 0;
            for row in book.ledger().trial_balance(date, basis) {
                sum += row.closing();
                let expected = should.get(&row.head).copied().unwrap_or(0);
                if row.closing() != expected {
                    let head = row.head.0;
                    return Err(format!("trial balance of {date:?} by {basis:?}: head {head:016x} differs"));
                }
            }
            // One currency or several: each sums to zero, so all do; each alone is an invariant of the book.
            if sum != 0 {
                return Err(format!("trial balance of {date:?} by {basis:?} is off by {sum}"));
            }
        }
        Ok(())
    }

    fn check_channel_totals(&self, checkpoint: &Checkpoint) -> Result<(), Broken> {
        let of = |total: &ChannelTotal| {
            let sums = Sums {
                sent: payments(total.sent),
                settled: payments(total.settled),
                returned: payments(total.returned),
                received: payments(total.received),
                refused: payments(total.refused),
            };
            ((total.peer, total.currency), sums)
        };
        let stated = checkpoint.channels.iter().map(of).collect();
        let should = self.model.channel_sums(checkpoint.position);
        if should == stated {
            Ok(())
        } else {
            Err(format!("the checkpoint's channels are {stated:?}, should be {should:?}"))
        }
    }

    /// Holds a checkpoint, whose signature is the caller's, against what was seen.
    ///
    /// # Errors
    ///
    /// In words, what differs.
    pub(crate) fn check_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Broken> {
        let index = usize::try_from(checkpoint.batches).unwrap_or(usize::MAX);
        let Some(place) = self.places.get(index) else {
            return Err(format!(
                "a checkpoint stands for {} batches, {} are known",
                checkpoint.batches,
                self.batches()
            ));
        };
        let stated = Place {
            position: checkpoint.position,
            head: checkpoint.head,
            history_root: checkpoint.history_root,
        };
        if *place != stated {
            return Err(format!("the checkpoint at {} is not what was there", checkpoint.position));
        }
        let posted = self.model.posted(checkpoint.position);
        let totals = checkpoint.totals.iter().map(|total| (total.currency, total.debits)).collect();
        let even = checkpoint.totals.iter().all(|total| total.debits == total.credits);
        self.check_channel_totals(checkpoint)?;
        if posted != totals || !even {
            return Err(format!("the checkpoint's totals are {totals:?}, should be {posted:?}"));
        }
        Ok(())
    }
}

fn payments(sum: Payments) -> (u64, u128) {
    (sum.count, sum.amount)
}

/// Where an account of the branch differs from the model's.
fn same_account(model: &Account, found: &skerry_ledger::Account) -> Result<(), &'static str> {
    let pairs = [
        ("posted", model.posted == [found.debits_posted, found.credits_posted]),
        ("held", model.held == [found.debits_pending, found.credits_pending]),
        ("count of holds", model.holds == found.holds),
        (
            "limit",
            (model.limit, model.floor, model.daily_limit) == (found.limit, found.floor, found.daily_limit),
        ),
        ("freeze", model.frozen == [found.debit_freeze, found.credit_freeze]),
        ("state", model.is_closed() == found.is_closed() && model.native == found.has_native_entries()),
        ("owner", (model.owner, model.currency) == (found.owner, found.currency)),
    ];
    pairs.into_iter().find(|(_, same)| !same).map_or(Ok(()), |(what, _)| Err(what))
}

fn bytes(image: &BookImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write(&mut |piece| bytes.extend_from_slice(piece));
    bytes
}

fn reader_position(position: u64) -> skerry_journal::Position {
    skerry_journal::Position(position)
}
