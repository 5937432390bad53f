//! What happened to an id before, answered from the index, the batch being filled and the durable journal.
//!
//! Batches in flight are in nobody's hands but the journal's. So a request that could ask for a record of one
//! waits until it is durable ([`lacks`]); retries and reversals within a millisecond of their original are the
//! only ones who notice. One that could ask for a record in the archive stands aside until that was read
//! ([`recalls`](super::recalls)).

use std::cell::Cell;
use std::collections::BTreeSet;

use skerry_book::channel::received_id;
use skerry_book::event::{Received, Sent};
use skerry_book::record;
use skerry_book::{Book, Event};
use skerry_journal::{JournalReader, Position, ReadError};
use skerry_ledger::{Earlier, Flags, Moved, MovedKind, Past, Transfer, TransferId};
use skerry_money::Date;

use super::Fault;
use super::recalls::Recalled;
use crate::batch::Builder;
use crate::ids::Ids;

/// The past as the writer knows it while it fills a batch.
pub(crate) struct Known<'a, R> {
    pub(crate) ids: &'a Ids,
    pub(crate) filling: &'a Builder,
    pub(crate) reader: &'a R,
    /// What was read from the archive for this request.
    pub(crate) recalled: &'a Recalled,
    /// Set when the past could not be read: then nothing decided since holds, and the branch must stop.
    pub(crate) fault: &'a Cell<Option<Box<Fault>>>,
}

impl<R: JournalReader> Past for Known<'_, R> {
    #[inline]
    fn find(&self, id: TransferId) -> Option<Earlier> {
        match self.ids.find(id) {
            Ok(None) => None,
            Ok(Some(position)) => Some(self.earlier(id, position)),
            Err(error) => Some(self.failed(Fault::Side(error))),
        }
    }
}

impl<R: JournalReader> Known<'_, R> {
    #[cold]
    fn earlier(&self, id: TransferId, position: u64) -> Earlier {
        self.look_up(id, position).unwrap_or_else(|fault| self.failed(fault))
    }

    fn look_up(&self, id: TransferId, position: u64) -> Result<Earlier, Fault> {
        let event = match self.event(position) {
            Err(Fault::Read(ReadError::Archived { .. })) => {
                // That it was used is all that could be said here, and enough to move nothing.
                debug_assert!(false, "position {position} was not recalled for {id:?}");
                return Ok(Earlier::Foreign);
            }
            event => event?,
        };
        match event {
            Event::Moved(moved) => Ok(Earlier::Moved { resolved: self.resolution(&moved, id)?, moved }),
            Event::Sent(Sent { moved, .. }) | Event::Received(Received { moved, .. }) => {
                Ok(Earlier::Moved { resolved: self.resolution(&moved, id)?, moved })
            }
            Event::Returned(_) => Ok(Earlier::Foreign),
            Event::Refused(refused) => Ok(Earlier::Refused {
                digest: refused.digest,
                code: refused.code,
                have: refused.have,
                need: u128::from(refused.need),
            }),
            _ => {
                debug_assert!(false, "{id:?} leads to position {position}, which is no transfer");
                Ok(Earlier::Foreign)
            }
        }
    }

    /// What resolved or reversed the movement that is known under `id`.
    fn resolution(&self, moved: &Moved, id: TransferId) -> Result<Option<MovedKind>, Fault> {
        if !matches!(moved.kind, MovedKind::Held | MovedKind::Posted | MovedKind::HoldPosted) {
            return Ok(None);
        }
        let Some(position) = self.ids.find_resolution(id).map_err(Fault::Side)? else {
            return Ok(None);
        };
        match self.event(position)? {
            Event::Moved(resolving) => Ok(Some(resolving.kind)),
            Event::Sent(resolving) => Ok(Some(resolving.moved.kind)),
            _ => Ok(None),
        }
    }

    pub(super) fn event(&self, position: u64) -> Result<Event, Fault> {
        let decoded = match self.filling.record(position) {
            Some((bytes, tail)) => {
                crate::coverage::Mark::PastInFilling.hit();
                record::decode(bytes, tail.unwrap_or_default(), self.filling.business_date())
            }
            None => {
                crate::coverage::Mark::PastInJournal.hit();
                let stored = match self.reader.read_record(Position(position)) {
                    Err(archived @ ReadError::Archived { .. }) => self.recalled.get(position).ok_or(archived),
                    stored => stored,
                };
                let stored = stored.map_err(Fault::Read)?;
                let date = Date(stored.header.business_date);
                record::decode(&stored.record, stored.tail.as_deref().unwrap_or_default(), date)
            }
        };
        decoded.map(|decoded| decoded.event).map_err(|source| Fault::Record { position, source })
    }

    /// An answer that moves no money, for a branch that will not act on it.
    fn failed(&self, fault: Fault) -> Earlier {
        self.fault.set(Some(Box::new(fault)));
        Earlier::Foreign
    }
}

/// The position of the record with `id`, for the answer to a retry.
pub(crate) fn position_of(ids: &Ids, id: TransferId) -> Result<Option<u64>, Fault> {
    ids.find(id).map_err(Fault::Side)
}

/// Ids whose places in the index are fetched together.
const WARM: usize = 64;

/// What the writer can look at while it decides.
pub(crate) struct Reach<'a> {
    /// The journal begins here; what is before lies in the archive.
    pub(crate) start: u64,
    /// Records from here on are in flight…
    pub(crate) durable: u64,
    /// …until here, where the batch being filled begins.
    pub(crate) filling: u64,
    /// What was read from the archive.
    pub(crate) recalled: &'a Recalled,
}

impl Reach<'_> {
    fn in_flight(&self, position: Option<u64>) -> bool {
        position.is_some_and(|position| (self.durable..self.filling).contains(&position))
    }

    fn is_archived(&self, position: Option<u64>) -> bool {
        position.is_some_and(|position| position < self.start && !self.recalled.has(position))
    }
}

/// What must come before transfers can be decided.
pub(crate) enum Lack {
    /// A record that is in flight must become durable.
    Durability,
    /// Records must be read from the archive; after that perhaps more.
    Archived(Vec<u64>),
}

/// The records that `id` leads to and that lie in the archive, unread.
pub(crate) fn out_of_reach(ids: &Ids, reach: &Reach<'_>, id: TransferId) -> Result<Vec<u64>, Fault> {
    let both = [ids.find(id), ids.find_resolution(id)];
    let mut archived = Vec::new();
    for position in both {
        let position = position.map_err(Fault::Side)?;
        archived.extend(position.filter(|_| reach.is_archived(position)));
    }
    Ok(archived)
}

/// What is lacking to decide `transfers`: records that they could ask for and that are out of `reach`.
///
/// It also brings the index's memory nearer, all misses of a request at once.
pub(crate) fn lacks(
    ids: &Ids,
    book: &Book,
    reach: &Reach<'_>,
    transfers: &[Transfer],
) -> Result<Option<Lack>, Fault> {
    let mut archived = Vec::new();
    let mut resolved = BTreeSet::new();
    for (index, transfer) in transfers.iter().enumerate() {
        if index % WARM == 0 {
            ids.warm(transfers.iter().skip(index).take(WARM).map(|transfer| transfer.id));
        }
        if let Some(position) = ids.find(transfer.id).map_err(Fault::Side)? {
            let resolution = ids.find_resolution(transfer.id).map_err(Fault::Side)?;
            for position in [Some(position), resolution] {
                if reach.in_flight(position) {
                    return Ok(Some(Lack::Durability));
                }
                archived.extend(position.filter(|_| reach.is_archived(position)));
            }
        }
        if transfer.related == TransferId::NONE {
            continue;
        }
        let related = match transfer.flags.has(Flags::REVERSAL) && book.crosses(transfer).is_some() {
            true => received_id(transfer.related, transfer.credit.branch()),
            false => transfer.related,
        };
        let original = ids.find(related).map_err(Fault::Side)?;
        let resolution = ids.find_resolution(related).map_err(Fault::Side)?;
        let in_flight = reach.in_flight(original) || reach.in_flight(resolution);
        if !in_flight && !reach.is_archived(original) && !reach.is_archived(resolution) {
            continue;
        }
        // An open hold answers for itself, once: whoever resolves it a second time asks for its record.
        let opens = transfer.flags.has(Flags::POST) || transfer.flags.has(Flags::VOID);
        let open = opens && book.ledger().hold(transfer.related).is_some();
        if open && resolved.insert(transfer.related) {
            continue;
        }
        if in_flight {
            return Ok(Some(Lack::Durability));
        }
        let both = [original, resolution].into_iter();
        archived.extend(both.filter(|position| reach.is_archived(*position)).flatten());
    }
    Ok(if archived.is_empty() { None } else { Some(Lack::Archived(archived)) })
}
