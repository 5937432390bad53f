//! The batch being filled: records laid straight into the bytes that go to disk.
//!
//! ```text
//! header 256 │ records 112 · n │ actors table │ tails area
//! ```
//!
//! The header's room is left free and filled at sealing, so nothing is copied between deciding and the
//! journal. It knows where things lie, not what a record means.

use skerry_book::actor::{self, Actor};
use skerry_journal::{Head, SealedBatch};
use skerry_money::Date;
use skerry_proof::batch::{BatchHeader, FORMAT, HEADER_LENGTH};
use skerry_proof::{Hash, HashAlgorithm, RECORD_LENGTH, Tails};

/// The most records of a batch.
pub(crate) const RECORDS_MAX: u32 = 8192;

/// Once the tails of a batch are this long it takes no more records: a batch stays around 1 MiB.
pub(crate) const TAILS_MAX: usize = 256 << 10;

/// What all headers of one writer share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    /// The branch.
    pub(crate) branch: u16,
    /// Its incarnation.
    pub(crate) incarnation: u32,
    /// The hash behind its record roots and history.
    pub(crate) evidence: HashAlgorithm,
    /// The epoch under which it appends.
    pub(crate) epoch: u64,
}

/// A batch being filled.
#[derive(Debug)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    actors: Vec<Actor>,
    tails: Vec<(u32, Vec<u8>)>,
    tails_length: usize,
    count: u32,
    first_position: u64,
    number: u64,
    time_us: u64,
    business_date: Date,
}

impl Builder {
    /// An empty batch that continues `head`, stamped with `time_us` and `business_date`.
    #[must_use]
    pub(crate) fn new(head: Head, time_us: u64, business_date: Date) -> Self {
        Self {
            bytes: Vec::new(),
            actors: Vec::new(),
            tails: Vec::new(),
            tails_length: 0,
            count: 0,
            first_position: head.position.0,
            number: head.batch,
            time_us,
            business_date,
        }
    }

    /// Whether it has no record yet.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch's number.
    #[must_use]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The business date that all its records carry.
    #[must_use]
    pub(crate) fn business_date(&self) -> Date {
        self.business_date
    }

    /// Its stamp, microseconds since 1970.
    #[must_use]
    pub(crate) fn time_us(&self) -> u64 {
        self.time_us
    }

    /// The position of its first record.
    #[must_use]
    pub(crate) fn first_position(&self) -> u64 {
        self.first_position
    }

    /// The position of the record that will be laid next.
    #[must_use]
    pub(crate) fn next_position(&self) -> u64 {
        self.first_position + u64::from(self.count)
    }

    /// How many more records it takes.
    #[must_use]
    pub(crate) fn room(&self) -> u32 {
        if self.tails_length >= TAILS_MAX { 0 } else { RECORDS_MAX.saturating_sub(self.count) }
    }

    /// Bytes of its records and tails so far.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        let records = u64::from(self.count) * 112;
        records + u64::try_from(self.tails_length).unwrap_or(u64::MAX)
    }

    /// Makes room for `records` at once, so that laying them never grows the buffer.
    pub(crate) fn reserve(&mut self, records: usize) {
        if self.bytes.is_empty() {
            self.bytes.reserve(HEADER_LENGTH + records.max(16) * RECORD_LENGTH);
            self.bytes.resize(HEADER_LENGTH, 0);
        } else {
            self.bytes.reserve(records * RECORD_LENGTH);
        }
    }

    /// The index of `actor` in the batch's table.
    ///
    /// # Panics
    ///
    /// If the table is full: it cannot be, having at most one entry per record.
    pub(crate) fn actor(&mut self, actor: &Actor) -> u16 {
        // A request's records come in a row, so its actor is almost always the last.
        let found = self.actors.iter().rposition(|known| known == actor);
        let index = found.unwrap_or_else(|| {
            self.actors.push(*actor);
            self.actors.len() - 1
        });
        u16::try_from(index).expect("a batch has at most 8,192 actors")
    }

    /// Lays a record; returns its position.
    #[inline]
    pub(crate) fn push(&mut self, record: &[u8; RECORD_LENGTH]) -> u64 {
        if self.bytes.is_empty() {
            self.reserve(16);
        }
        let position = self.next_position();
        self.bytes.extend_from_slice(record);
        self.count += 1;
        position
    }

    /// Lays a record with a tail; returns its position.
    pub(crate) fn push_with_tail(&mut self, record: &[u8; RECORD_LENGTH], tail: Vec<u8>) -> u64 {
        if !tail.is_empty() {
            self.tails_length += tail.len();
            self.tails.push((self.count, tail));
        }
        self.push(record)
    }

    /// The record at `position` and its tail, if this batch has it.
    #[must_use]
    pub(crate) fn record(&self, position: u64) -> Option<(&[u8; RECORD_LENGTH], Option<&[u8]>)> {
        let index = position.checked_sub(self.first_position)?;
        let records = self.bytes.get(HEADER_LENGTH..)?.as_chunks::<RECORD_LENGTH>().0;
        let record = records.get(usize::try_from(index).ok()?)?;
        let index = u32::try_from(index).ok()?;
        let tail = self.tails.binary_search_by_key(&index, |(at, _)| *at).ok();
        Some((record, tail.and_then(|at| self.tails.get(at)).map(|(_, tail)| tail.as_slice())))
    }

    /// Closes the batch: roots, hashes, header. `leaves` is scratch.
    #[must_use]
    pub(crate) fn seal(
        mut self,
        writer: &Writer,
        previous: Hash,
        salt: [u8; 32],
        leaves: &mut Vec<Hash>,
    ) -> SealedBatch {
        let records_end = self.bytes.len();
        actor::encode_table(&self.actors, &mut self.bytes);
        let actors_end = self.bytes.len();
        if !self.tails.is_empty() {
            let tails: Vec<(u32, &[u8])> =
                self.tails.iter().map(|(at, tail)| (*at, tail.as_slice())).collect();
            Tails::encode(&tails, &mut self.bytes);
        }
        let length = |bytes: usize| u32::try_from(bytes).expect("a batch is a few MiB at most");
        let header = BatchHeader {
            format: FORMAT,
            algorithm: HashAlgorithm::Blake3,
            evidence: writer.evidence,
            branch: writer.branch,
            incarnation: writer.incarnation,
            epoch: writer.epoch,
            batch: self.number,
            first_position: self.first_position,
            record_count: self.count,
            business_date: self.business_date.0,
            time_us: self.time_us,
            actors_length: length(actors_end - records_end),
            tails_length: length(self.bytes.len() - actors_end),
            previous,
            record_root: [0; 32],
            extras_hash: [0; 32],
            salt,
        };
        SealedBatch::seal(header, self.bytes, leaves).expect("the lengths in the header are those just laid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_book::actor::Cause;
    use skerry_journal::Position;

    #[test]
    fn a_sealed_batch_verifies_and_gives_its_records_back() {
        let head = Head { position: Position(100), batch: 3, hash: [1; 32] };
        let mut builder = Builder::new(head, 5, Date(20_000));
        let bank = builder.actor(&Actor::bank(Cause::Cutoff));
        assert_eq!(bank, builder.actor(&Actor::bank(Cause::Cutoff)));
        assert_eq!(builder.actor(&Actor::bank(Cause::Import)), 1);
        for index in 0..40_u8 {
            let tail = if index % 7 == 0 { vec![index; 9] } else { Vec::new() };
            assert_eq!(builder.push_with_tail(&[index; 112], tail), 100 + u64::from(index));
        }
        assert_eq!(builder.record(107), Some((&[7; 112], Some(&[7; 9][..]))));
        assert_eq!(builder.record(108), Some((&[8; 112], None)));
        assert_eq!(builder.record(140), None);
        assert_eq!(builder.record(99), None);

        let writer = Writer { branch: 4, incarnation: 1, evidence: HashAlgorithm::Sm3, epoch: 2 };
        let sealed = builder.seal(&writer, head.hash, [9; 32], &mut Vec::new());
        let header = *SealedBatch::from_bytes(sealed.bytes().to_vec(), &mut Vec::new()).unwrap().header();
        assert_eq!((header.batch, header.first_position, header.record_count), (3, 100, 40));
        assert_eq!(header.evidence, HashAlgorithm::Sm3);
    }
}
