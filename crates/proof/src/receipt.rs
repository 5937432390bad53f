//! Receipts: that one record is in the journal that a checkpoint signed.
//!
//! A receipt shows its own record and nothing else of the bank: the hashes beside its path are of
//! salted records. It needs no connection to be verified, only the keys one believes.
//!
//! Layout, little-endian: magic `SKRECPT1` · format u16 · hash algorithm u8, that of the checkpoint · zero u8 · record 112 ·
//! salt 16 · position u64 · first position of its batch u64 · record count u32 · batch u64 · tail
//! (length u32, bytes) · record path (count u8, 32 each) · history path (likewise) · signed
//! checkpoint to the end.

use alloc::vec::Vec;
use core::fmt;

use crate::bytes::Reader;
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::signer::KeyRing;
use crate::tree::{history_node, record_node, root_of_path};
use crate::{Hash, HashAlgorithm, RECORD_LENGTH, RecordSalt, batch, leaf_hash};

/// The first bytes of every receipt.
pub const MAGIC: [u8; 8] = *b"SKRECPT1";

/// The format this code writes, and the newest it reads.
pub const FORMAT: u16 = 1;

/// One record and its way to a signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The fixed part of the record.
    pub record: [u8; RECORD_LENGTH],
    /// Its tail; empty if it has none.
    pub tail: Vec<u8>,
    /// Its salt ([`crate::leaves::record_salt`]). Never the batch's: that would open them all.
    pub salt: RecordSalt,
    /// Its position in the branch.
    pub position: u64,
    /// The position of the first record of its batch.
    pub first_position: u64,
    /// How many records its batch has.
    pub record_count: u32,
    /// The number of its batch.
    pub batch: u64,
    /// From its leaf to the batch's record root ([`crate::path`]).
    pub record_path: Vec<Hash>,
    /// From the batch's leaf to the history root ([`crate::mmr::path`]) of the checkpoint.
    pub history_path: Vec<Hash>,
    /// A checkpoint that covers the record.
    pub checkpoint: SignedCheckpoint,
}

/// How far a verified receipt may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// The bank signed it. That the bank tells everybody the same, only an anchor would show.
    SignedNotAnchored,
}

/// Why a receipt cannot be read or believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The bytes end too early.
    #[error("receipt is cut short")]
    Short,
    /// The magic is not there: this is something else.
    #[error("this is not a receipt")]
    Magic,
    /// A format that this code does not know.
    #[error("receipt format {0} is not known")]
    Format(u16),
    /// A hash algorithm that this code does not know.
    #[error("hash algorithm {0} is not known")]
    Algorithm(u8),
    /// A byte that must be zero is not, or the checkpoint in it names another hash algorithm.
    #[error("a field of the receipt is malformed")]
    Malformed,
    /// The checkpoint in it cannot be read or believed.
    #[error("could not verify the checkpoint of the receipt")]
    Checkpoint(#[source] CheckpointError),
    /// The position is not in the batch, or the batch is not covered by the checkpoint.
    #[error("the checkpoint does not cover the record's position")]
    Position,
    /// The record does not lead to the signed root: it, its position or its path was changed.
    #[error("the record does not lead to the root that was signed")]
    Root,
}

impl Receipt {
    /// The bytes.
    ///
    /// # Panics
    ///
    /// If the tail has 4 GiB or a path more than 255 hashes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[self.algorithm().number(), 0]);
        out.extend_from_slice(&self.record);
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.first_position.to_le_bytes());
        out.extend_from_slice(&self.record_count.to_le_bytes());
        out.extend_from_slice(&self.batch.to_le_bytes());
        let tail_length = u32::try_from(self.tail.len()).expect("a tail is smaller than 4 GiB");
        out.extend_from_slice(&tail_length.to_le_bytes());
        out.extend_from_slice(&self.tail);
        for path in [&self.record_path, &self.history_path] {
            out.push(u8::try_from(path.len()).expect("a path is as long as a tree is high"));
            out.extend_from_slice(path.as_flattened());
        }
        out.extend_from_slice(&self.checkpoint.encode());
        out
    }

    /// Reads what [`encode`](Self::encode) wrote. This alone verifies nothing.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let mut reader = Reader::new(bytes);
        if reader.array().ok_or(ReceiptError::Short)? != MAGIC {
            return Err(ReceiptError::Magic);
        }
        let format = reader.u16().ok_or(ReceiptError::Short)?;
        if format != FORMAT {
            return Err(ReceiptError::Format(format));
        }
        let algorithm = reader.u8().ok_or(ReceiptError::Short)?;
        let algorithm = HashAlgorithm::from_number(algorithm).ok_or(ReceiptError::Algorithm(algorithm))?;
        if reader.u8().ok_or(ReceiptError::Short)? != 0 {
            return Err(ReceiptError::Malformed);
        }
        let receipt = Self::read_fields(&mut reader).ok_or(ReceiptError::Short)??;
        if receipt.algorithm() == algorithm { Ok(receipt) } else { Err(ReceiptError::Malformed) }
    }

    /// The function behind both of its paths.
    #[must_use]
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.checkpoint.checkpoint.algorithm
    }

    /// What follows the algorithm; the outer `None` means that the bytes ran out.
    fn read_fields(reader: &mut Reader<'_>) -> Option<Result<Self, ReceiptError>> {
        let (record, salt) = (reader.array()?, reader.array()?);
        let (position, first_position, record_count) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let batch = reader.u64()?;
        let tail_length = usize::try_from(reader.u32()?).ok()?;
        let tail = reader.slice(tail_length)?.to_vec();
        let (record_path, history_path) = (read_path(reader)?, read_path(reader)?);
        let checkpoint = match SignedCheckpoint::decode(reader.rest()) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Some(Err(ReceiptError::Checkpoint(error))),
        };
        Some(Ok(Self {
            record,
            tail,
            salt,
            position,
            first_position,
            record_count,
            batch,
            record_path,
            history_path,
            checkpoint,
        }))
    }

    /// Checks everything: the way from the record to the history root, and its signature.
    ///
    /// # Errors
    ///
    /// [`ReceiptError::Position`], [`ReceiptError::Root`], [`ReceiptError::Checkpoint`].
    pub fn verify(&self, keys: &(impl KeyRing + ?Sized)) -> Result<Standing, ReceiptError> {
        self.checkpoint.verify(keys).map_err(ReceiptError::Checkpoint)?;
        let signed = &self.checkpoint.checkpoint;
        let count = u64::from(self.record_count);
        let index = self.position.checked_sub(self.first_position).ok_or(ReceiptError::Position)?;
        if index >= count || self.batch >= signed.batches || self.position >= signed.position {
            return Err(ReceiptError::Position);
        }
        let algorithm = self.algorithm();
        let node = |left: &Hash, right: &Hash| record_node(algorithm, left, right);
        let leaf = leaf_hash(algorithm, &self.salt, &self.record, Some(&self.tail));
        let record_root = root_of_path(node, &leaf, index, count, &self.record_path);
        let record_root = record_root.ok_or(ReceiptError::Root)?;
        let leaf = batch::history_leaf(algorithm, self.first_position, self.record_count, &record_root);
        let node = |left: &Hash, right: &Hash| history_node(algorithm, left, right);
        let root = root_of_path(node, &leaf, self.batch, signed.batches, &self.history_path);
        if root == Some(signed.history_root) {
            Ok(Standing::SignedNotAnchored)
        } else {
            Err(ReceiptError::Root)
        }
    }
}

fn read_path(reader: &mut Reader<'_>) -> Option<Vec<Hash>> {
    let count = usize::from(reader.u8()?);
    let (hashes, _) = reader.slice(count.checked_mul(32)?)?.as_chunks();
    Some(hashes.to_vec())
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SignedNotAnchored => formatter.pad("signed, not anchored"),
        }
    }
}
