//! The leaves of a batch's tree: a salted hash of each record.
//!
//! `leaf = H(salt 16 ‖ record 112 ‖ tail)` as a record leaf ([`crate::evidence`]). The salt keeps a receipt from telling
//! anything of the record beside it: without one, whoever holds the sibling's hash could try
//! amounts until it fits. All salts of a batch are the output stream of one keyed hash of the
//! batch's salt, so they take 32 bytes a batch and none a record.

use alloc::vec::Vec;

use crate::evidence::{self, Kind};
use crate::tails::Tails;
use crate::wide::{GROUP, Wide};
use crate::{Hash, HashAlgorithm, RECORD_LENGTH, domain};

/// The salt of one record.
pub type RecordSalt = [u8; SALT_LENGTH];

const SALT_LENGTH: usize = 16;
/// Salt and record: two whole blocks of BLAKE3.
const LEAF_LENGTH: usize = SALT_LENGTH + RECORD_LENGTH;
/// Salts computed at once: the output stream comes in blocks of 64 bytes, side by side.
const SALTS_LENGTH: usize = GROUP * SALT_LENGTH;

/// Appends the leaf hash of each record to `out`.
///
/// `records` are the fixed parts, 112 bytes each; `tails` those that have one. A record's place in
/// `records` is its index in the batch. About 20 ns a record with BLAKE3 where vectors are 512 bits wide; the other
/// functions take one record after another (`examples/leaves.rs` measures all).
///
/// # Panics
///
/// If `records` is not a whole number of records.
pub fn leaf_hashes(
    algorithm: HashAlgorithm,
    salt: &[u8; 32],
    records: &[u8],
    tails: Option<&Tails<'_>>,
    out: &mut Vec<Hash>,
) {
    let (records, rest) = records.as_chunks::<RECORD_LENGTH>();
    assert!(rest.is_empty(), "records are 112 bytes each");
    let first = out.len();
    out.resize(first.saturating_add(records.len()), [0; 32]);
    let (_, leaves) = out.split_at_mut(first);

    match algorithm {
        HashAlgorithm::Blake3 => wide_leaves(salt, records, leaves),
        other => single_leaves(other, salt, records, leaves),
    }
    for (index, tail) in tails.iter().flat_map(|tails| tails.iter()) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if let (Some(record), Some(leaf)) = (records.get(index), leaves.get_mut(index)) {
            *leaf = leaf_hash(algorithm, &record_salt(salt, index), record, Some(tail));
        }
    }
}

/// Leaves without tails, many at once.
fn wide_leaves(salt: &[u8; 32], records: &[[u8; RECORD_LENGTH]], leaves: &mut [Hash]) {
    let wide = Wide::new(&domain::RECORD_LEAF);
    let mut stream = salts(salt);
    let mut salts = [0; SALTS_LENGTH];
    let mut buffer = [[0; LEAF_LENGTH]; GROUP];
    for (records, leaves) in records.chunks(GROUP).zip(leaves.chunks_mut(GROUP)) {
        stream.fill(&mut salts);
        for ((salt, record), input) in salts.as_chunks().0.iter().zip(records).zip(&mut buffer) {
            lay(salt, record, input);
        }
        let inputs = buffer.each_ref();
        let (inputs, _) = inputs.split_at(records.len());
        wide.hash(inputs, leaves);
    }
}

/// Leaves without tails, one after another.
fn single_leaves(
    algorithm: HashAlgorithm,
    salt: &[u8; 32],
    records: &[[u8; RECORD_LENGTH]],
    leaves: &mut [Hash],
) {
    let mut stream = salts(salt);
    let mut salt = [0; SALT_LENGTH];
    for (record, leaf) in records.iter().zip(leaves) {
        stream.fill(&mut salt);
        *leaf = leaf_hash(algorithm, &salt, record, None);
    }
}

/// The leaf hash of one record.
#[must_use]
pub fn leaf_hash(
    algorithm: HashAlgorithm,
    salt: &RecordSalt,
    record: &[u8; RECORD_LENGTH],
    tail: Option<&[u8]>,
) -> Hash {
    evidence::hash(algorithm, Kind::RecordLeaf, &[salt, record, tail.unwrap_or_default()])
}

/// The salt of the record at `index` in a batch with this `salt`.
#[must_use]
pub fn record_salt(salt: &[u8; 32], index: usize) -> RecordSalt {
    let mut stream = salts(salt);
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    stream.set_position(index.saturating_mul(16));
    let mut salt = [0; SALT_LENGTH];
    stream.fill(&mut salt);
    salt
}

fn salts(salt: &[u8; 32]) -> blake3::OutputReader {
    let mut hasher = blake3::Hasher::new_keyed(&domain::RECORD_SALT);
    hasher.update(salt);
    hasher.finalize_xof()
}

#[inline]
fn lay(salt: &RecordSalt, record: &[u8; RECORD_LENGTH], input: &mut [u8; LEAF_LENGTH]) {
    let (salt_part, record_part) = input.split_at_mut(SALT_LENGTH);
    salt_part.copy_from_slice(salt);
    record_part.copy_from_slice(record);
}
