//! The header of a batch and its place in the chain.
//!
//! A batch is what one append makes durable:
//!
//! ```text
//! header 256 │ records 112 · count │ actors table │ tails area
//! ```
//!
//! Everything in it hangs on the header: the record root and the extras hash cover the body, and
//! the header's own hash is in the next header. Its layout (little-endian):
//!
//! | at | field | at | field |
//! |---|---|---|---|
//! | 0 | magic `SKBATCH1` | 64 | records length u32 = 112 · count |
//! | 8 | format u16 | 68 | actors length u32 |
//! | 10 | hash algorithm u8, evidence hash u8 | 72 | tails length u32 |
//! | 12 | header length u32 = 256 | 76 | zero u32 |
//! | 16 | branch u16, zero u16 | 80 | hash of the header before |
//! | 20 | incarnation u32 | 112 | record root |
//! | 24 | epoch u64 | 144 | extras hash |
//! | 32 | batch number u64 | 176 | salt |
//! | 40 | first position u64 | 208 | zero to 256 |
//! | 48 | record count u32 | | |
//! | 52 | business date i32 | | |
//! | 56 | time u64 | | |
//!
//! The hash algorithm is that of header hash, extras hash and salts: 1, BLAKE3. The evidence hash is that of the
//! record root and of the history: 0 says BLAKE3 too, else it is the number of the algorithm. It is the same in all
//! batches of a branch.

use crate::bytes::Reader;
use crate::domain;
use crate::evidence::{self, Kind};
use crate::leaves;
use crate::tails::{TailError, Tails};
use crate::{Hash, HashAlgorithm, RECORD_LENGTH};
use alloc::vec::Vec;

/// Bytes of a header.
pub const HEADER_LENGTH: usize = 256;

/// The first bytes of every batch.
pub const MAGIC: [u8; 8] = *b"SKBATCH1";

/// The format this code writes, and the newest it reads.
pub const FORMAT: u16 = 1;

/// What the first batch of a branch carries as the hash of the header before it.
pub const NO_PREVIOUS: Hash = [0; 32];

/// The header of a batch. Lengths are those of the body's parts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Layout version, from 1.
    pub format: u16,
    /// The function that chains: header hash, extras hash, salts.
    pub algorithm: HashAlgorithm,
    /// The function behind the record root and the history; one for all the life of a branch.
    pub evidence: HashAlgorithm,
    /// The branch whose journal this is.
    pub branch: u16,
    /// Raised when a loss is declared.
    pub incarnation: u32,
    /// The writer's epoch.
    pub epoch: u64,
    /// Counts the batches of the branch, from 0. Also the index of its leaf in the history.
    pub batch: u64,
    /// Position in the branch of the first record, from 0.
    pub first_position: u64,
    /// How many records follow.
    pub record_count: u32,
    /// The open business day: days since 1970.
    pub business_date: i32,
    /// Booking time of the batch: microseconds since 1970.
    pub time_us: u64,
    /// Bytes of the actors table.
    pub actors_length: u32,
    /// Bytes of the tails area.
    pub tails_length: u32,
    /// Hash of the header before, [`NO_PREVIOUS`] for the first.
    pub previous: Hash,
    /// Root of the tree over the records ([`crate::root`] of [`crate::leaf_hashes`]).
    pub record_root: Hash,
    /// [`extras_hash`] of the actors table and the tails area.
    pub extras_hash: Hash,
    /// Fresh random bytes, from which each record's salt derives.
    pub salt: [u8; 32],
}

/// Why bytes are not a batch, or not a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the header, or than the header says.
    #[error("batch is cut short")]
    Short,
    /// More bytes than the header says.
    #[error("bytes after the end of the batch")]
    Trailing,
    /// The magic is not there: this is something else.
    #[error("no batch begins here")]
    Magic,
    /// A format that this code does not know.
    #[error("batch format {0} is not known")]
    Format(u16),
    /// A hash algorithm that this code cannot compute.
    #[error("hash algorithm {0} is not known")]
    Algorithm(u8),
    /// Lengths that contradict the format or each other.
    #[error("batch header states impossible lengths")]
    Lengths,
    /// Bytes that the format wants to be zero are not.
    #[error("reserved bytes of the batch header are not zero")]
    Reserved,
    /// The records are not those that the header's root was made of.
    #[error("records do not have the root that the header states")]
    RecordRoot,
    /// The actors table or the tails area are not those that the header's hash was made of.
    #[error("actors or tails do not have the hash that the header states")]
    ExtrasHash,
    /// The tails area is malformed.
    #[error("could not read the tails area")]
    Tails(#[source] TailError),
}

impl BatchHeader {
    /// Bytes of the records.
    #[must_use]
    pub fn records_length(&self) -> u64 {
        u64::from(self.record_count).saturating_mul(112)
    }

    /// Bytes of the body: records, actors and tails.
    #[must_use]
    pub fn body_length(&self) -> u64 {
        let extras = u64::from(self.actors_length).saturating_add(u64::from(self.tails_length));
        self.records_length().saturating_add(extras)
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub fn batch_length(&self) -> u64 {
        self.body_length().saturating_add(256)
    }

    /// The position after the last record: the first one of the next batch.
    #[must_use]
    pub fn end_position(&self) -> u64 {
        self.first_position.saturating_add(u64::from(self.record_count))
    }

    /// The 256 bytes.
    ///
    /// # Panics
    ///
    /// If the records would take 4 GiB or more; nobody assembles such a batch.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let records_length = u32::try_from(self.records_length()).expect("a batch is smaller than 4 GiB");
        let mut bytes = [0; HEADER_LENGTH];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            let end = field.len().saturating_add(at);
            bytes.get_mut(at..end).expect("the fields fill 208 bytes").copy_from_slice(field);
            at = end;
        };
        put(&MAGIC);
        put(&self.format.to_le_bytes());
        put(&[self.algorithm.number(), evidence_number(self.evidence)]);
        put(&256_u32.to_le_bytes());
        put(&self.branch.to_le_bytes());
        put(&[0; 2]);
        put(&self.incarnation.to_le_bytes());
        put(&self.epoch.to_le_bytes());
        put(&self.batch.to_le_bytes());
        put(&self.first_position.to_le_bytes());
        put(&self.record_count.to_le_bytes());
        put(&self.business_date.to_le_bytes());
        put(&self.time_us.to_le_bytes());
        put(&records_length.to_le_bytes());
        put(&self.actors_length.to_le_bytes());
        put(&self.tails_length.to_le_bytes());
        put(&[0; 4]);
        put(&self.previous);
        put(&self.record_root);
        put(&self.extras_hash);
        put(&self.salt);
        bytes
    }

    /// Reads a header from the beginning of `bytes`; what follows the 256 bytes is not looked at.
    ///
    /// # Errors
    ///
    /// [`BatchError`], also for bytes that say what this format never says: whatever decodes,
    /// encodes to the same bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let header: &[u8; HEADER_LENGTH] = bytes.first_chunk().ok_or(BatchError::Short)?;
        let mut reader = Reader::new(header);
        if reader.array() != Some(MAGIC) {
            return Err(BatchError::Magic);
        }
        let format = reader.u16().ok_or(BatchError::Short)?;
        if format != FORMAT {
            return Err(BatchError::Format(format));
        }
        Self::decode_fields(&mut reader, format).ok_or(BatchError::Short)?
    }

    /// What follows magic and format; the outer `None` cannot happen in 256 bytes.
    fn decode_fields(reader: &mut Reader<'_>, format: u16) -> Option<Result<Self, BatchError>> {
        let (algorithm_number, evidence_number) = (reader.u8()?, reader.u8()?);
        let header_length = reader.u32()?;
        let branch = reader.u16()?;
        let mut reserved_are_zero = reader.zeros(2)?;
        let Some(algorithm @ HashAlgorithm::Blake3) = HashAlgorithm::from_number(algorithm_number) else {
            return Some(Err(BatchError::Algorithm(algorithm_number)));
        };
        let evidence = match evidence_from_number(evidence_number) {
            Ok(evidence) => evidence,
            Err(error) => return Some(Err(error)),
        };
        let (incarnation, epoch, batch) = (reader.u32()?, reader.u64()?, reader.u64()?);
        let (first_position, record_count) = (reader.u64()?, reader.u32()?);
        let (business_date, time_us) = (reader.i32()?, reader.u64()?);
        let (records_length, actors_length, tails_length) = (reader.u32()?, reader.u32()?, reader.u32()?);
        reserved_are_zero &= reader.zeros(4)?;
        let (previous, record_root, extras_hash) = (reader.array()?, reader.array()?, reader.array()?);
        let salt = reader.array()?;
        reserved_are_zero &= reader.zeros(48)?;
        let header = Self {
            format,
            algorithm,
            evidence,
            branch,
            incarnation,
            epoch,
            batch,
            first_position,
            record_count,
            business_date,
            time_us,
            actors_length,
            tails_length,
            previous,
            record_root,
            extras_hash,
            salt,
        };
        if header_length != 256
            || u64::from(records_length) != header.records_length()
            || first_position.checked_add(u64::from(record_count)).is_none()
        {
            return Some(Err(BatchError::Lengths));
        }
        if !reserved_are_zero {
            return Some(Err(BatchError::Reserved));
        }
        Some(Ok(header))
    }

    /// The hash that the next header carries as `previous`.
    #[must_use]
    pub fn hash(&self) -> Hash {
        header_hash(&self.encode())
    }

    /// The leaf of this batch in the history: first position, record count and record root.
    #[must_use]
    pub fn history_leaf(&self) -> Hash {
        history_leaf(self.evidence, self.first_position, self.record_count, &self.record_root)
    }

    /// Takes the body apart.
    ///
    /// # Errors
    ///
    /// [`BatchError::Short`] or [`BatchError::Trailing`] if `body` is not exactly as long as the
    /// header says, [`BatchError::Tails`] if the tails area is malformed.
    pub fn split<'a>(&self, body: &'a [u8]) -> Result<Body<'a>, BatchError> {
        let length = |bytes: u64| usize::try_from(bytes).map_err(|_| BatchError::Short);
        let (records, rest) =
            body.split_at_checked(length(self.records_length())?).ok_or(BatchError::Short)?;
        let (actors, rest) =
            rest.split_at_checked(length(self.actors_length.into())?).ok_or(BatchError::Short)?;
        let (tails, rest) =
            rest.split_at_checked(length(self.tails_length.into())?).ok_or(BatchError::Short)?;
        if !rest.is_empty() {
            return Err(BatchError::Trailing);
        }
        let parsed = Tails::parse(tails, self.record_count).map_err(BatchError::Tails)?;
        Ok(Body { records, actors, tails_area: tails, tails: parsed })
    }

    /// Checks that `body` is what this header was made for. `scratch` is overwritten; keeping it
    /// between calls saves an allocation a batch.
    ///
    /// # Errors
    ///
    /// As [`split`](Self::split), [`BatchError::ExtrasHash`] and [`BatchError::RecordRoot`].
    pub fn verify_body(&self, body: &[u8], scratch: &mut Vec<Hash>) -> Result<(), BatchError> {
        let body = self.split(body)?;
        if extras_hash(body.actors, body.tails_area) != self.extras_hash {
            return Err(BatchError::ExtrasHash);
        }
        scratch.clear();
        leaves::leaf_hashes(self.evidence, &self.salt, body.records, Some(&body.tails), scratch);
        if crate::root(self.evidence, scratch) != self.record_root {
            return Err(BatchError::RecordRoot);
        }
        Ok(())
    }
}

/// The batches that lie back to back in `bytes`, without padding: a sealed segment, an export.
///
/// Each item is one whole batch. After an error there are no more.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// Begins at the first byte, where a header must be.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self) -> Result<&'a [u8], BatchError> {
        let length = BatchHeader::decode(self.rest)?.batch_length();
        let length = usize::try_from(length).map_err(|_| BatchError::Short)?;
        let (batch, rest) = self.rest.split_at_checked(length).ok_or(BatchError::Short)?;
        self.rest = rest;
        Ok(batch)
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<&'a [u8], BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            self.rest = &[];
        }
        Some(taken)
    }
}

/// The parts of a batch's body.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// The fixed parts of the records, 112 bytes each.
    pub records: &'a [u8],
    /// The actors table.
    pub actors: &'a [u8],
    /// The tails area as it lies there.
    pub tails_area: &'a [u8],
    /// The same, to look things up in.
    pub tails: Tails<'a>,
}

impl<'a> Body<'a> {
    /// The fixed part and the tail of the record at `index` in this batch.
    #[must_use]
    pub fn record(&self, index: u32) -> Option<(&'a [u8; RECORD_LENGTH], Option<&'a [u8]>)> {
        let (records, _) = self.records.as_chunks::<RECORD_LENGTH>();
        let record = records.get(usize::try_from(index).ok()?)?;
        Some((record, self.tails.get(index)))
    }
}

/// The hash of an encoded header.
#[must_use]
pub fn header_hash(header: &[u8; HEADER_LENGTH]) -> Hash {
    *blake3::keyed_hash(&domain::BATCH_HEADER, header).as_bytes()
}

/// The hash over the actors table followed by the tails area; their lengths are in the header.
#[must_use]
pub fn extras_hash(actors: &[u8], tails: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new_keyed(&domain::BATCH_EXTRAS);
    hasher.update(actors).update(tails);
    *hasher.finalize().as_bytes()
}

/// The leaf that a batch has in the history.
#[must_use]
pub fn history_leaf(
    evidence: HashAlgorithm,
    first_position: u64,
    record_count: u32,
    record_root: &Hash,
) -> Hash {
    let (first, count) = (first_position.to_le_bytes(), record_count.to_le_bytes());
    evidence::hash(evidence, Kind::HistoryLeaf, &[&first, &count, record_root])
}

/// What byte 11 says: BLAKE3 is zero, as it was before there was a choice.
const fn evidence_number(evidence: HashAlgorithm) -> u8 {
    match evidence {
        HashAlgorithm::Blake3 => 0,
        other => other.number(),
    }
}

fn evidence_from_number(number: u8) -> Result<HashAlgorithm, BatchError> {
    match (number, HashAlgorithm::from_number(number)) {
        (0, _) => Ok(HashAlgorithm::Blake3),
        (_, Some(HashAlgorithm::Blake3)) => Err(BatchError::Reserved), // one encoding only
        (_, Some(evidence)) => Ok(evidence),
        (_, None) => Err(BatchError::Algorithm(number)),
    }
}
