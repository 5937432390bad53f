//! The hot path: transfers decided, laid into the batch, evolved and indexed, one after another.
//!
//! Nothing is allocated and nothing is called back per transfer. What is rare (chains, refusals, retries,
//! texts) leaves the loop.

use std::cell::Cell;

use skerry_book::event::Sent;
use skerry_book::packed::{self, PackedError};
use skerry_book::record::{self, TransferTailRef};
use skerry_book::{Actor, Book, Event, Rejection, Role, Sender};
use skerry_journal::{Journal, JournalReader};
use skerry_ledger::{
    AccountRef, Flags, Moved, MovedKind, Rejection as LedgerRejection, Transfer, TransferId,
};

use super::past::{Known, Lack, Reach, lacks, position_of};
use super::serve::Served;
use super::{Fault, Work};
use crate::api::{Accepted, Asked, Denied, Malformed, Outcome, Packed, Reply, Scope};

/// The most transfers of one request: what fits a batch beside what the bank itself has to add.
pub(crate) const TRANSFERS_MAX: u32 = 8189;

/// Transfers whose accounts are fetched into the cache together.
const WARM: usize = 32;

/// Where the results of a request go, in order.
pub(super) trait Results {
    fn accepted(&mut self, position: u64, moved: &Moved);
    fn repeated(&mut self, position: u64, moved: &Moved);
    fn refused(&mut self, rejection: Rejection, position: Option<u64>);
}

/// Whether a movement's payee lives in another branch than its payer.
#[inline]
fn leaves(moved: &Moved) -> bool {
    moved.debit.branch() != moved.credit.branch() && moved.kind != MovedKind::Held
}

struct PackedResults {
    bytes: Vec<u8>,
    accepted: u32,
}

impl Results for PackedResults {
    #[inline]
    fn accepted(&mut self, position: u64, moved: &Moved) {
        let outcome = match leaves(moved) {
            true => packed::Outcome::sent(position),
            false => packed::Outcome::accepted(position),
        };
        self.bytes.extend_from_slice(&outcome.encode());
        self.accepted += 1;
    }

    fn repeated(&mut self, position: u64, moved: &Moved) {
        self.accepted(position, moved);
    }

    fn refused(&mut self, rejection: Rejection, position: Option<u64>) {
        self.bytes.extend_from_slice(&packed::Outcome::refused(rejection, position).encode());
    }
}

impl Results for Vec<Outcome> {
    fn accepted(&mut self, position: u64, moved: &Moved) {
        self.push(Ok(accepted(position, moved, false)));
    }

    fn repeated(&mut self, position: u64, moved: &Moved) {
        self.push(Ok(accepted(position, moved, true)));
    }

    fn refused(&mut self, rejection: Rejection, _: Option<u64>) {
        self.push(Err(rejection));
    }
}

fn accepted(position: u64, moved: &Moved, repeated: bool) -> Accepted {
    Accepted {
        position,
        kind: moved.kind,
        debit: moved.debit,
        credit: moved.credit,
        amount: moved.amount,
        currency: moved.currency,
        time_us: moved.time_us,
        business_date: moved.business_date,
        value_date: moved.value_date,
        repeated,
    }
}

/// The request whose transfers are being decided.
pub(super) struct Asking<'a> {
    pub(super) transfers: &'a [Transfer],
    /// Texts by index; empty for a packed request.
    texts: &'a [Asked],
    pub(super) sender: Sender,
    pub(super) actor: u16,
}

impl Asking<'_> {
    /// The tail of the transfer at `index`, empty if it has none.
    pub(super) fn tail(&self, index: usize) -> Vec<u8> {
        let mut tail = Vec::new();
        if let Some(asked) = self.texts.get(index) {
            TransferTailRef { reference: &asked.reference, note: &asked.note }.encode(&mut tail);
        }
        tail
    }
}

impl<J: Journal> Work<J> {
    /// Serves a packed request.
    pub(super) fn packed(&mut self, actor: &Actor, scope: Scope, bytes: &[u8]) -> Result<Served, Fault> {
        let mut transfers = std::mem::take(&mut self.scratch.transfers);
        transfers.clear();
        let served = match unpack(bytes, self.book.seed(), &mut transfers) {
            Err(malformed) => Ok(Served::Answer(Reply::Malformed(malformed))),
            Ok(()) => {
                let results = PackedResults { bytes: Vec::with_capacity(transfers.len() * 32), accepted: 0 };
                self.decide_all(actor, scope, &transfers, &[], false, results).map(|decided| match decided {
                    Decided::Done(results) => Served::Answer(Reply::Packed(Packed {
                        results: results.bytes.into(),
                        accepted: results.accepted,
                    })),
                    Decided::Denied(denied) => Served::Answer(Reply::Denied(denied)),
                    Decided::Lacks(Lack::Durability) => Served::MustWait,
                    Decided::Lacks(Lack::Archived(positions)) => Served::Recall(positions),
                })
            }
        };
        self.scratch.transfers = transfers;
        served
    }

    /// Serves transfers with texts.
    pub(super) fn transfers(
        &mut self,
        actor: &Actor,
        scope: Scope,
        asked: &[Asked],
    ) -> Result<Served, Fault> {
        self.with_texts(actor, scope, asked, false)
    }

    /// Serves one debit for many payees.
    pub(super) fn payout(&mut self, actor: &Actor, scope: Scope, asked: &[Asked]) -> Result<Served, Fault> {
        let payer = asked.first().map(|first| first.transfer.debit);
        match asked.iter().position(|asked| Some(asked.transfer.debit) != payer) {
            Some(index) => {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                Ok(Served::Answer(Reply::Malformed(Malformed::Transfer { index, field: "debit" })))
            }
            None => self.with_texts(actor, scope, asked, true),
        }
    }

    fn with_texts(
        &mut self,
        actor: &Actor,
        scope: Scope,
        asked: &[Asked],
        together: bool,
    ) -> Result<Served, Fault> {
        if asked.len() > TRANSFERS_MAX as usize {
            return Ok(Served::Answer(Reply::Malformed(Malformed::TooMany { max: TRANSFERS_MAX })));
        }
        let mut transfers = std::mem::take(&mut self.scratch.transfers);
        transfers.clear();
        transfers.extend(asked.iter().map(|asked| prepare(asked, &self.book)));
        let unbounded = asked.iter().position(|asked| !is_bounded(asked));
        let served = match unbounded {
            Some(index) => {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                Ok(Served::Answer(Reply::Malformed(Malformed::Transfer { index, field: "reference" })))
            }
            None => {
                let results = Vec::with_capacity(asked.len());
                self.decide_all(actor, scope, &transfers, asked, together, results).map(|decided| {
                    match decided {
                        Decided::Done(results) => Served::Answer(Reply::Transfers(results)),
                        Decided::Denied(denied) => Served::Answer(Reply::Denied(denied)),
                        Decided::Lacks(Lack::Durability) => Served::MustWait,
                        Decided::Lacks(Lack::Archived(positions)) => Served::Recall(positions),
                    }
                })
            }
        };
        self.scratch.transfers = transfers;
        served
    }

    fn decide_all<R: Results>(
        &mut self,
        actor: &Actor,
        scope: Scope,
        transfers: &[Transfer],
        texts: &[Asked],
        together: bool,
        mut results: R,
    ) -> Result<Decided<R>, Fault> {
        if let Some(lack) = lacks(&self.ids, &self.book, &self.reach(), transfers)? {
            return Ok(Decided::Lacks(lack));
        }
        if let Err(denied) = self.check_scope(actor, scope, transfers)? {
            return Ok(Decided::Denied(denied));
        }
        match self.book.sender(actor, self.stamp()) {
            Err(rejection) => {
                for _ in transfers {
                    self.metrics.refusals += 1;
                    results.refused(rejection, None);
                }
            }
            Ok(sender) => {
                self.filling.reserve(transfers.len());
                let actor = self.filling.actor(actor);
                let asking = Asking { transfers, texts, sender, actor };
                if together {
                    self.run_payout(&asking, &mut results)?;
                } else {
                    self.run(&asking, &mut results)?;
                }
            }
        }
        Ok(Decided::Done(results))
    }

    /// The loop over all transfers of a request.
    fn run<R: Results>(&mut self, asking: &Asking<'_>, results: &mut R) -> Result<(), Fault> {
        let mut index = 0;
        let mut warmed = 0;
        while let Some(transfer) = asking.transfers.get(index) {
            if index >= warmed {
                let ahead = &asking.transfers[index..asking.transfers.len().min(index + WARM)];
                std::hint::black_box(self.book.ledger().warm(ahead));
                warmed = index + ahead.len();
            }
            if transfer.flags.has(Flags::LINKED) {
                index = self.run_chain(asking, index, results)?;
                continue;
            }
            if let Some(peer) = self.book.crosses(transfer)
                && self.talk.is_connected()
            {
                self.run_crossing(index, peer, asking, results)?;
                index += 1;
                continue;
            }
            match self.decide_one(transfer, &asking.sender)? {
                Ok(moved) if asking.texts.is_empty() => {
                    let position = self.write_plain(&moved, asking.actor);
                    results.accepted(position, &moved);
                }
                Ok(moved) => {
                    let (position, moved) = self.write_with_tail(moved, asking.actor, asking.tail(index));
                    results.accepted(position, &moved);
                }
                Err(rejection) => self.refuse(transfer, rejection, asking, results)?,
            }
            index += 1;
        }
        Ok(())
    }

    pub(super) fn reach(&self) -> Reach<'_> {
        Reach {
            start: self.reader.start().0,
            durable: self.journal.head().position.0,
            filling: self.filling.first_position(),
            recalled: &self.recalls.read,
        }
    }

    #[inline]
    pub(super) fn known<'a>(&'a self, fault: &'a Cell<Option<Box<Fault>>>) -> Known<'a, J::Reader> {
        let (ids, filling, reader) = (&self.ids, &self.filling, &self.reader);
        Known { ids, filling, reader, recalled: &self.recalls.read, fault }
    }

    #[inline]
    fn decide_one(&self, transfer: &Transfer, sender: &Sender) -> Result<Result<Moved, Rejection>, Fault> {
        let fault = Cell::new(None);
        let past = self.known(&fault);
        let decided = self.book.decide_transfer(transfer, sender, &past);
        fault.into_inner().map_or(Ok(decided), |fault| Err(*fault))
    }

    /// Answers transfers that are done together or not at all, of which `culprit` was refused with `rejection`.
    pub(super) fn refuse_all<R: Results>(
        &mut self,
        members: &[Transfer],
        culprit: usize,
        rejection: Rejection,
        asking: &Asking<'_>,
        results: &mut R,
    ) -> Result<(), Fault> {
        let applied = matches!(rejection, Rejection::Ledger(LedgerRejection::AlreadyApplied));
        if !applied {
            crate::coverage::Mark::ChainRefused.hit();
        }
        for (at, transfer) in members.iter().enumerate() {
            let own = match applied || at == culprit {
                true => rejection,
                false => LedgerRejection::LinkedTransferFailed.into(),
            };
            self.refuse(transfer, own, asking, results)?;
        }
        Ok(())
    }

    /// A chain is all transfers up to the first that is not linked to a next one. Returns the index after it.
    #[cold]
    fn run_chain<R: Results>(
        &mut self,
        asking: &Asking<'_>,
        first: usize,
        results: &mut R,
    ) -> Result<usize, Fault> {
        let rest = &asking.transfers[first..];
        let length = rest
            .iter()
            .position(|transfer| !transfer.flags.has(Flags::LINKED))
            .map_or(rest.len(), |last| last + 1);
        let members = &rest[..length];
        let mut moved = std::mem::take(&mut self.scratch.moved);
        moved.clear();
        let fault = Cell::new(None);
        let past = self.known(&fault);
        let decided = self.book.decide_chain(members, &asking.sender, &past, &mut moved);
        if let Some(fault) = fault.into_inner() {
            return Err(*fault);
        }
        match decided {
            Ok(()) => {
                for (at, moved) in moved.iter().enumerate() {
                    let (position, moved) =
                        self.write_with_tail(*moved, asking.actor, asking.tail(first + at));
                    results.accepted(position, &moved);
                }
            }
            Err((culprit, rejection)) => {
                self.refuse_all(members, culprit, rejection, asking, results)?;
            }
        }
        self.scratch.moved = moved;
        Ok(first + length)
    }

    /// Answers a transfer that is not done: a retry with its first answer, a refusal, journaled if it sticks.
    #[cold]
    pub(super) fn refuse<R: Results>(
        &mut self,
        transfer: &Transfer,
        rejection: Rejection,
        asking: &Asking<'_>,
        results: &mut R,
    ) -> Result<(), Fault> {
        if matches!(rejection, Rejection::Ledger(LedgerRejection::AlreadyApplied))
            && let Some((position, moved)) = self.applied(transfer.id)?
        {
            crate::coverage::Mark::Repeated.hit();
            results.repeated(position, &moved);
            return Ok(());
        }
        self.metrics.refusals += 1;
        let journaled =
            rejection.is_journaled() && self.ids.find(transfer.id).map_err(Fault::Side)?.is_none();
        let position = journaled.then(|| {
            crate::coverage::Mark::RefusalJournaled.hit();
            let refused = Book::refused(transfer, rejection, asking.sender.stamp());
            self.write_event(&Event::Refused(refused), asking.actor)
        });
        results.refused(rejection, position);
        Ok(())
    }

    /// The transfer that was done under `id`, and where it is recorded.
    fn applied(&self, id: TransferId) -> Result<Option<(u64, Moved)>, Fault> {
        let Some(position) = position_of(&self.ids, id)? else { return Ok(None) };
        let fault = Cell::new(None);
        let past = self.known(&fault);
        match past.event(position) {
            Ok(Event::Moved(moved) | Event::Sent(Sent { moved, .. })) => Ok(Some((position, moved))),
            Ok(_) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Journals, evolves and indexes a movement without texts.
    #[inline]
    pub(super) fn write_plain(&mut self, moved: &Moved, actor: u16) -> u64 {
        let mut bytes = [0; record::RECORD_LENGTH];
        record::encode_moved(moved, actor, &mut bytes);
        let position = self.filling.push(&bytes);
        self.after_write(moved, position);
        position
    }

    /// The same, with a tail.
    pub(super) fn write_moved(&mut self, moved: &Moved, actor: u16, tail: Vec<u8>) -> u64 {
        let mut bytes = [0; record::RECORD_LENGTH];
        record::encode_moved(moved, actor, &mut bytes);
        let position = self.filling.push_with_tail(&bytes, tail);
        self.after_write(moved, position);
        position
    }

    pub(super) fn write_with_tail(&mut self, mut moved: Moved, actor: u16, tail: Vec<u8>) -> (u64, Moved) {
        if !tail.is_empty() {
            moved.flags = moved.flags.with(Flags::TAIL);
        }
        (self.write_moved(&moved, actor, tail), moved)
    }

    #[inline]
    fn after_write(&mut self, moved: &Moved, position: u64) {
        self.book.evolve_moved(moved);
        self.marks.moved(moved);
        if moved.id != TransferId::NONE {
            self.ids.insert(moved.id, position);
        }
        if moved.related != TransferId::NONE {
            self.ids.insert_resolution(moved.related, position);
        }
    }

    /// Whose account is debited, only the book knows.
    fn check_scope(
        &self,
        actor: &Actor,
        scope: Scope,
        transfers: &[Transfer],
    ) -> Result<Result<(), Denied>, Fault> {
        let Some(customer) = scope.customer else {
            return Ok(if actor.role == Role::Customer { Err(Denied::Scope) } else { Ok(()) });
        };
        for transfer in transfers {
            if self.book.owner(self.debited(transfer)?) != Some(customer) {
                return Ok(Err(Denied::Scope));
            }
        }
        Ok(Ok(()))
    }

    /// The account that a transfer debits: a post or a void need not name it.
    fn debited(&self, transfer: &Transfer) -> Result<AccountRef, Fault> {
        if !transfer.flags.overlaps(Flags::POST.with(Flags::VOID)) {
            return Ok(transfer.debit);
        }
        if let Some(hold) = self.book.ledger().hold(transfer.related) {
            return Ok(hold.debit);
        }
        // Resolved since, perhaps by this very request: its retry is its sender's as much as the first attempt.
        Ok(self.applied(transfer.related)?.map_or(transfer.debit, |(_, moved)| moved.debit))
    }
}

enum Decided<R> {
    Done(R),
    Denied(Denied),
    Lacks(Lack),
}

fn unpack(bytes: &[u8], seed: &skerry_book::Seed, out: &mut Vec<Transfer>) -> Result<(), Malformed> {
    let records = packed::records(bytes).map_err(|_| Malformed::Length)?;
    if records.len() > TRANSFERS_MAX as usize {
        return Err(Malformed::TooMany { max: TRANSFERS_MAX });
    }
    for (index, bytes) in records.iter().enumerate() {
        match packed::decode(index, bytes, seed) {
            Ok(transfer) => out.push(transfer),
            Err(PackedError::Field { index, field, .. }) => {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                return Err(Malformed::Transfer { index, field: field.name() });
            }
            Err(PackedError::Length { .. }) => return Err(Malformed::Length),
        }
    }
    Ok(())
}

/// The transfer with what its texts leave in the fixed part. A note is ciphertext, another at every attempt: what counts
/// towards the digest is its tag.
fn prepare(asked: &Asked, book: &Book) -> Transfer {
    let mut transfer = asked.transfer;
    if !asked.reference.is_empty() {
        transfer.reference = book.reference_hash(&asked.reference);
    }
    transfer.digest = packed::digest(&transfer, asked.reference.as_bytes(), &asked.note_tag, book.seed());
    transfer
}

fn is_bounded(asked: &Asked) -> bool {
    TransferTailRef { reference: &asked.reference, note: &asked.note }.is_bounded()
}
