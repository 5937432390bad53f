//! Checking a journal whole, and copying it out so that somebody else can.

use std::ops::ControlFlow;

use skerry_proof::Hash;

use crate::error::{ArchiveError, ReadError};
use crate::local::LocalReader;
use crate::seam::{Head, JournalReader, Position};
use crate::storage::Storage;

/// What a whole reading found: all of it good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// The first position read.
    pub start: Position,
    /// Where the journal ends: position, batch and header hash.
    pub head: Head,
    /// Batches read.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Their bytes, padding not counted.
    pub bytes: u64,
}

/// Reads every batch that `reader` reaches, in the cold folder too if it reads through: root, extras, chain, positions. `each` gets the history leaf of every batch in order, for
/// whoever compares with the history root of a checkpoint.
///
/// # Errors
///
/// The first damage, with its place.
pub fn verify<R: JournalReader>(reader: &R, each: &mut dyn FnMut(Hash)) -> Result<Verified, ReadError> {
    let start = reader.origin()?.position;
    let mut verified = Verified { start, ..Verified::default() };
    verified.head = reader.scan(start, &mut |batch| {
        verified.batches += 1;
        verified.records += u64::from(batch.header.record_count);
        verified.bytes += batch.header.batch_length();
        each(batch.header.history_leaf());
        ControlFlow::Continue(())
    })?;
    Ok(verified)
}

/// Copies all durable batches of `reader` into sealed segments of the empty folder `target`, checking each on the
/// way. The copy is a journal that [`LocalReader::open_existing`] reads and that an owner may open.
///
/// # Errors
///
/// Damage in the source ends the export; the names of whole segments only are in `target`.
pub fn export<S: Storage, T: Storage>(reader: &LocalReader<S>, target: &T) -> Result<Head, ArchiveError> {
    reader.export(target)
}
