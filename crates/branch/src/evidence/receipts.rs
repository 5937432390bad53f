//! Receipts and records, read off the writer's thread from what is durable.

use std::sync::Arc;

use skerry_book::actor::{ActorError, decode_table};
use skerry_book::record::{self, RecordError};
use skerry_book::{Actor, Event};
use skerry_journal::{JournalReader, Position, ReadError, SealedBatch, Storage, StorageError};
use skerry_money::Date;
use skerry_proof::checkpoint::Checkpoint;
use skerry_proof::leaves::record_salt;
use skerry_proof::receipt::ReceiptError;
use skerry_proof::{Receipt, leaf_hashes, mmr, path};

use super::nodes;
use crate::jobs::Workshop;

/// Why evidence cannot be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// No signed checkpoint covers the position yet; ask for one and try again.
    #[error("position {position} is not covered by a checkpoint yet: the last stands at {signed}")]
    NotYet {
        /// What was asked for.
        position: u64,
        /// What is covered.
        signed: u64,
    },
    /// The lease is no good any more, and the journal's store did not confirm in time that this still is the branch's owner.
    #[error("the branch's lease has run out, and its store does not say in time who owns it")]
    Unconfirmed,
    /// The branch is not open.
    #[error("the branch is not open")]
    Closed,
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record could not be read.
    #[error("could not read the record at position {position}")]
    Record {
        /// Where.
        position: u64,
        /// Why.
        source: RecordError,
    },
    /// An actor table could not be read.
    #[error("could not read the actors of a batch")]
    Actors(#[from] ActorError),
    /// The nodes that would prove it are damaged, or went with an archived beginning of the journal. They are made
    /// again at the next opening, as far as the journal reaches.
    #[error(
        "the nodes in {file} do not prove position {position}: open the branch again to have them rebuilt"
    )]
    Unproven {
        /// What was asked for.
        position: u64,
        /// Where the nodes lie.
        file: String,
    },
    /// The history's nodes could not be read.
    #[error("could not read the nodes of the history")]
    Nodes(#[from] StorageError),
}

/// A durable event with its actor.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its position.
    pub position: u64,
    /// The life of the branch that it belongs to: after a declared loss, positions are given a second time.
    pub incarnation: u32,
    /// Its batch's stamp, microseconds since 1970.
    pub time_us: u64,
    /// Its batch's business date.
    pub business_date: Date,
    /// By whom.
    pub actor: Actor,
    /// What happened.
    pub event: Event,
    /// The tail of a transfer's record: see [`skerry_book::record::TransferTailRef`]; empty if it has none.
    pub tail: Box<[u8]>,
}

/// Whoever reads what is durable; one per opening.
pub(crate) trait Evidence: Send + Sync {
    fn receipt(&self, position: u64) -> Result<Receipt, EvidenceError>;
    fn recorded(&self, from: u64, most: usize) -> Result<Vec<Recorded>, EvidenceError>;
    fn durable(&self) -> u64;
    fn start(&self) -> u64;
    fn position_on(&self, date: Date) -> Result<u64, EvidenceError>;
}

/// The journal's reader and what the followers made of it.
pub(crate) struct Desk<R, S: Storage> {
    pub(crate) reader: R,
    pub(crate) workshop: Arc<Workshop<S>>,
}

/// A page of records is read from batches of at most so many bytes.
const PAGE_BYTES: usize = 1 << 20;

impl<R: JournalReader, S: Storage> Evidence for Desk<R, S> {
    fn receipt(&self, position: u64) -> Result<Receipt, EvidenceError> {
        let signed = self.workshop.latest();
        let covered = signed.as_ref().map_or(0, |signed| signed.checkpoint.position);
        let not_yet = EvidenceError::NotYet { position, signed: covered };
        let Some(signed) = signed.filter(|_| position < covered) else { return Err(not_yet) };
        let batch = self.batch_of(position)?;
        let header = *batch.header();
        let view = batch.view();
        let parts = view.parts();
        let index = position - header.first_position;
        let mut leaves = Vec::new();
        leaf_hashes(header.evidence, &header.salt, parts.records, Some(&parts.tails), &mut leaves);
        let at = usize::try_from(index).expect("a batch fits memory");
        let record_path = path(header.evidence, &leaves, at).expect("the record is in its batch");
        let Some(history_path) = self.history_path(&signed.checkpoint, header.batch)? else {
            return Err(not_yet);
        };
        let index = u32::try_from(index).expect("a batch has fewer than 2^32 records");
        let (record, tail) = parts.record(index).expect("the record is in its batch");
        let receipt = Receipt {
            record: *record,
            tail: tail.unwrap_or_default().to_vec(),
            salt: record_salt(&header.salt, at),
            position,
            first_position: header.first_position,
            record_count: header.record_count,
            batch: header.batch,
            record_path,
            history_path,
            checkpoint: (*signed).clone(),
        };
        // Nodes have no checksums of their own; what they prove is the check.
        match receipt.verify(&[self.workshop.signer.public_key()]) {
            Err(ReceiptError::Root) => {
                nodes::condemn(&self.workshop.evidence)?;
                Err(EvidenceError::Unproven { position, file: self.workshop.evidence.place() })
            }
            _ => Ok(receipt),
        }
    }

    fn recorded(&self, from: u64, most: usize) -> Result<Vec<Recorded>, EvidenceError> {
        let mut found = Vec::new();
        let mut next = from;
        while found.len() < most && next < self.reader.head().position.0 {
            for batch in self.reader.read(Position(next), PAGE_BYTES)? {
                read_batch(&batch, next, most, &mut found)?;
                next = batch.header().end_position();
            }
        }
        Ok(found)
    }

    fn durable(&self) -> u64 {
        self.reader.head().position.0
    }

    fn start(&self) -> u64 {
        self.reader.start().0
    }

    fn position_on(&self, date: Date) -> Result<u64, EvidenceError> {
        // Business dates of batches never run backwards.
        let (mut before, mut from) = (self.start(), self.durable());
        while before < from {
            let middle = before + (from - before) / 2;
            if self.reader.read_record(Position(middle))?.header.business_date < date.0 {
                before = middle + 1;
            } else {
                from = middle;
            }
        }
        Ok(from)
    }
}

impl<R: JournalReader, S: Storage> Desk<R, S> {
    fn batch_of(&self, position: u64) -> Result<SealedBatch, EvidenceError> {
        let mut batches = self.reader.read(Position(position), 1)?;
        if batches.is_empty() {
            return Err(ReadError::Beyond { position, durable: self.reader.head().position.0 }.into());
        }
        Ok(batches.swap_remove(0))
    }

    /// `None` while the nodes have not come as far as the checkpoint.
    fn history_path(&self, stated: &Checkpoint, index: u64) -> Result<Option<Vec<[u8; 32]>>, EvidenceError> {
        let file = self.workshop.evidence.open(nodes::FILE, false)?;
        let count = stated.batches;
        if self.workshop.glance().leaves < count {
            return Ok(None);
        }
        let mut failed = None;
        let path = mmr::path(stated.algorithm, count, index, |number| match nodes::read(&file, number) {
            Ok(node) => node,
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        failed.map_or(Ok(path), |error| Err(error.into()))
    }
}

fn read_batch(
    batch: &SealedBatch,
    from: u64,
    most: usize,
    found: &mut Vec<Recorded>,
) -> Result<(), EvidenceError> {
    let view = batch.view();
    let parts = view.parts();
    let actors = decode_table(parts.actors)?;
    let business_date = Date(view.header.business_date);
    let first = view.header.first_position;
    let incarnation = incarnation_of(batch, business_date);
    for index in 0..view.header.record_count {
        let position = first + u64::from(index);
        if position < from || found.len() >= most {
            continue;
        }
        let (bytes, tail) = parts.record(index).expect("a batch has the records it counts");
        let tail = tail.unwrap_or_default();
        let unread = |source| EvidenceError::Record { position, source };
        let decoded = record::decode(bytes, tail, business_date).map_err(unread)?;
        let actor = actors.get(usize::from(decoded.actor)).copied();
        found.push(Recorded {
            position,
            incarnation,
            time_us: view.header.time_us,
            business_date,
            actor: actor.ok_or(ActorError { entry: usize::from(decoded.actor) })?,
            tail: if matches!(decoded.event, Event::Moved(_) | Event::Sent(_) | Event::Received(_)) {
                tail.into()
            } else {
                Box::default()
            },
            event: decoded.event,
        });
    }
    Ok(())
}

/// The life that the records of `batch` belong to. The batch that begins a new one is headed by the one before, and the
/// record that says so is its first.
fn incarnation_of(batch: &SealedBatch, business_date: Date) -> u32 {
    let view = batch.view();
    let first = view.parts().record(0);
    let first =
        first.and_then(|(bytes, tail)| record::decode(bytes, tail.unwrap_or_default(), business_date).ok());
    match first.map(|decoded| decoded.event) {
        Some(Event::Incarnated(event)) => event.incarnation,
        _ => view.header.incarnation,
    }
}
