//! A batch in hand: its bytes, its header and its header's hash. The layout itself is `proof`'s.

use skerry_proof::batch::{BatchError, Body, HEADER_LENGTH};
use skerry_proof::{BatchHeader, Hash, RECORD_LENGTH};

use crate::error::DamageKind;
use crate::seam::{Head, Position};

/// No batch is longer; what claims to be is damage.
pub const BATCH_BYTES_MAX: u64 = 64 << 20;

/// A whole batch: header, records, actors, tails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBatch {
    header: BatchHeader,
    hash: Hash,
    bytes: Vec<u8>,
}

impl SealedBatch {
    /// Finishes a batch. `bytes` has room for the header in front ([`HEADER_LENGTH`] bytes of any content), then the
    /// body. The record root and the extras hash of `header` are computed here, and the header is written.
    /// `scratch` is overwritten; keeping it saves an allocation a batch.
    ///
    /// # Errors
    ///
    /// [`BatchError`] if the lengths in the header are not those of the body.
    pub fn seal(
        mut header: BatchHeader,
        mut bytes: Vec<u8>,
        scratch: &mut Vec<Hash>,
    ) -> Result<Self, BatchError> {
        let (front, body) = bytes.split_at_mut_checked(HEADER_LENGTH).ok_or(BatchError::Short)?;
        let parts = header.split(body)?;
        header.extras_hash = skerry_proof::batch::extras_hash(parts.actors, parts.tails_area);
        scratch.clear();
        skerry_proof::leaf_hashes(header.evidence, &header.salt, parts.records, Some(&parts.tails), scratch);
        header.record_root = skerry_proof::root(header.evidence, scratch);
        front.copy_from_slice(&header.encode());
        Ok(Self { header, hash: header.hash(), bytes })
    }

    /// Takes a batch as it was stored, checking root and extras against its own header.
    ///
    /// # Errors
    ///
    /// [`BatchError`] says what does not fit.
    pub fn from_bytes(bytes: Vec<u8>, scratch: &mut Vec<Hash>) -> Result<Self, BatchError> {
        let header = BatchHeader::decode(&bytes)?;
        header.verify_body(bytes.get(HEADER_LENGTH..).unwrap_or_default(), scratch)?;
        Ok(Self { header, hash: header.hash(), bytes })
    }

    /// For bytes that were verified a moment ago.
    pub(crate) fn verified(header: BatchHeader, hash: Hash, bytes: Vec<u8>) -> Self {
        Self { header, hash, bytes }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The header's hash: what the next batch continues.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// All bytes, header first.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be used again.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The batch, borrowed.
    #[must_use]
    pub fn view(&self) -> BatchView<'_> {
        BatchView { header: self.header, hash: self.hash, bytes: &self.bytes }
    }
}

/// A whole batch, borrowed; its body fits its header.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    /// The header.
    pub header: BatchHeader,
    /// The header's hash.
    pub hash: Hash,
    /// All bytes, header first.
    pub bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Everything behind the header.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LENGTH..).unwrap_or_default()
    }

    /// The fixed parts of the records, 112 bytes each.
    ///
    /// # Panics
    ///
    /// Never for a view that this crate gave out.
    #[must_use]
    pub fn parts(&self) -> Body<'a> {
        self.header.split(self.body()).expect("the body of a verified batch fits its header")
    }

    /// The place after this batch.
    #[must_use]
    pub fn head_after(&self) -> Head {
        head_after(&self.header, self.hash)
    }
}

/// One record, read by its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where it is.
    pub position: Position,
    /// Header of the batch it is in: time, business date, salt, root.
    pub header: BatchHeader,
    /// The fixed part.
    pub record: [u8; RECORD_LENGTH],
    /// The tail, if it has one.
    pub tail: Option<Vec<u8>>,
}

/// The place after the batch with `header`.
pub(crate) fn head_after(header: &BatchHeader, hash: Hash) -> Head {
    Head { position: Position(header.end_position()), batch: header.batch.saturating_add(1), hash }
}

/// Whether a batch with `header` continues `head`.
///
/// # Errors
///
/// In which way it does not.
pub fn continues(head: &Head, header: &BatchHeader) -> Result<(), &'static str> {
    if header.batch != head.batch {
        return Err("its number is not the next one");
    }
    if header.first_position != head.position.0 {
        return Err("its first position is not the next one");
    }
    if header.previous != head.hash {
        return Err("it names another hash of the header before it");
    }
    Ok(())
}

/// Reads the header of a stored batch and checks that it belongs to `branch`, is of sane size and continues `before`.
pub(crate) fn check_header(
    bytes: &[u8],
    branch: u16,
    before: Option<&Head>,
) -> Result<(BatchHeader, Hash), DamageKind> {
    let header = BatchHeader::decode(bytes).map_err(damage_of)?;
    if header.branch != branch {
        return Err(DamageKind::ForeignBranch(header.branch));
    }
    if header.batch_length() > BATCH_BYTES_MAX {
        return Err(DamageKind::Header("it claims to be longer than any batch".to_owned()));
    }
    if header.record_count == 0 {
        return Err(DamageKind::Header("it claims to have no records".to_owned()));
    }
    if let Some(before) = before {
        continues(before, &header).map_err(DamageKind::Chain)?;
    }
    Ok((header, header.hash()))
}

/// The name that a batch's own fault has when its bytes come from storage.
#[must_use]
pub fn damage_of(error: BatchError) -> DamageKind {
    match error {
        BatchError::Format(number) => DamageKind::UnknownFormat(number),
        BatchError::RecordRoot => DamageKind::Root,
        BatchError::ExtrasHash | BatchError::Tails(_) => DamageKind::Extras,
        BatchError::Short => DamageKind::CutOff,
        other => DamageKind::Header(other.to_string()),
    }
}
