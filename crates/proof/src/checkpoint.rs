//! Checkpoints: what a branch signs about itself, at least every ten minutes and at day close.
//!
//! A checkpoint states how far the journal reached, the head of its chain, the root of its history
//! and its totals. Two checkpoints of one branch either extend one another, which
//! [`crate::mmr::consistency`] proves, or show that somebody rewrote the journal.
//!
//! Layout, little-endian: magic `SKCHECK1` · format u16 · hash algorithm u8 · signature algorithm u8
//! · key id 16 · institution (length u16, bytes) · branch u16 · incarnation u32 · epoch u64 ·
//! position u64 · batches u64 · head hash 32 · history root 32 · business date i32 · time u64 ·
//! totals (count u16, then currency u16, debits u128, credits u128 each) · channels (count u16, then
//! peer u16, currency u16 and sent, settled, returned, received, refused each as count u64, amount u128)
//! · has state digest u8, zero or 32 bytes of it. A signed one ends with 64 bytes of
//! signature over all before.

use alloc::string::String;
use alloc::vec::Vec;

use crate::bytes::{Reader, put_short};
use crate::mmr::Extent;
use crate::signer::{KeyId, KeyRing, SignError, Signature, Signer};
use crate::{Hash, HashAlgorithm, SignatureAlgorithm};

/// The first bytes of every checkpoint; no other signed message begins with them.
pub const MAGIC: [u8; 8] = *b"SKCHECK1";

/// The format of a checkpoint without channels.
pub const FORMAT: u16 = 1;

/// The format of one with channels, and the newest that this code reads.
pub const FORMAT_CHANNELS: u16 = 2;

/// The longest name of an institution, in bytes.
pub const INSTITUTION_LENGTH_MAX: usize = 64;

/// Bytes of a signature.
const SIGNATURE_LENGTH: usize = 64;
/// Bytes of one row of totals.
const TOTAL_LENGTH: usize = 34;
/// Bytes of one row of channels.
const CHANNEL_LENGTH: usize = 124;

/// What a branch states about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The function behind the history root: the branch's evidence hash. The head is BLAKE3 always.
    pub algorithm: HashAlgorithm,
    /// The institution's short name, at most [`INSTITUTION_LENGTH_MAX`] bytes.
    pub institution: String,
    /// The branch.
    pub branch: u16,
    /// Its incarnation.
    pub incarnation: u32,
    /// The writer's epoch.
    pub epoch: u64,
    /// How many records the journal has: the first position that is not covered.
    pub position: u64,
    /// How many batches it has, and leaves the history; the last one is number `batches − 1`.
    pub batches: u64,
    /// Hash of the header of the last batch, [`crate::batch::NO_PREVIOUS`] if there is none.
    pub head: Hash,
    /// Root of the history.
    pub history_root: Hash,
    /// The open business day: days since 1970.
    pub business_date: i32,
    /// Time of the last batch: microseconds since 1970.
    pub time_us: u64,
    /// Totals over all accounts, by rising currency number.
    pub totals: Vec<CurrencyTotal>,
    /// What went to and came from other branches, by rising peer and currency.
    pub channels: Vec<ChannelTotal>,
    /// Digest of the whole state at `position`, when this checkpoint closes a span.
    pub state_digest: Option<Hash>,
}

/// Posted totals over all accounts of a branch in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrencyTotal {
    /// ISO 4217 number.
    pub currency: u16,
    /// Minor units debited.
    pub debits: u128,
    /// Minor units credited; equal to `debits` in a sound book.
    pub credits: u128,
}

/// How many payments, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Payments {
    /// Payments.
    pub count: u64,
    /// Minor units.
    pub amount: u128,
}

/// What went to and came from one other branch in one currency, since its channel was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChannelTotal {
    /// The other branch.
    pub peer: u16,
    /// ISO 4217 number.
    pub currency: u16,
    /// To the other branch.
    pub sent: Payments,
    /// Of those, delivered.
    pub settled: Payments,
    /// Of those, refused there and given back.
    pub returned: Payments,
    /// From the other branch, accepted.
    pub received: Payments,
    /// From the other branch, refused.
    pub refused: Payments,
}

impl ChannelTotal {
    const fn sums(&self) -> [Payments; 5] {
        [self.sent, self.settled, self.returned, self.received, self.refused]
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (peer, currency) = (reader.u16()?, reader.u16()?);
        let mut sum = || Some(Payments { count: reader.u64()?, amount: reader.u128()? });
        let (sent, settled, returned) = (sum()?, sum()?, sum()?);
        Some(Self { peer, currency, sent, settled, returned, received: sum()?, refused: sum()? })
    }
}

/// A checkpoint with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// The scheme of the signature.
    pub signature_algorithm: SignatureAlgorithm,
    /// The key that signed.
    pub key_id: KeyId,
    /// The signature over [`Checkpoint::message`].
    pub signature: Signature,
}

/// Why a checkpoint cannot be read or believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The bytes end too early.
    #[error("checkpoint is cut short")]
    Short,
    /// Bytes are left over.
    #[error("bytes after the end of the checkpoint")]
    Trailing,
    /// The magic is not there: this is something else.
    #[error("this is not a checkpoint")]
    Magic,
    /// A format that this code does not know.
    #[error("checkpoint format {0} is not known")]
    Format(u16),
    /// A hash algorithm that this code does not know.
    #[error("hash algorithm {0} is not known")]
    Algorithm(u8),
    /// A signature algorithm that this code does not know.
    #[error("signature algorithm {0} is not known")]
    SignatureAlgorithm(u8),
    /// A name that is too long or not UTF-8, currencies out of order, a flag that is neither 0 nor 1.
    #[error("a field of the checkpoint is malformed")]
    Malformed,
    /// Signed by a key that the verifier does not know.
    #[error("signed by key {0}, which is not known")]
    UnknownKey(KeyId),
    /// The signature does not verify.
    #[error("the signature is not that of the key it names")]
    Signature,
    /// Stated for a time at which its key signed no more.
    #[error(
        "signed by key {key}, which was retired at {retired_us} microseconds since 1970, about a later time"
    )]
    Retired {
        /// The key.
        key: KeyId,
        /// When it was retired.
        retired_us: u64,
    },
}

impl Checkpoint {
    /// Signs it.
    ///
    /// # Errors
    ///
    /// What the signer says.
    ///
    /// # Panics
    ///
    /// As [`message`](Self::message).
    pub fn sign(self, signer: &dyn Signer) -> Result<SignedCheckpoint, SignError> {
        let (signature_algorithm, key_id) = (signer.algorithm(), signer.key_id());
        let signature = signer.sign(&self.message(signature_algorithm, key_id))?;
        Ok(SignedCheckpoint { checkpoint: self, signature_algorithm, key_id, signature })
    }

    /// The history as this checkpoint states it.
    #[must_use]
    pub const fn history(&self) -> Extent {
        Extent { count: self.batches, root: self.history_root }
    }

    /// The bytes that are signed.
    ///
    /// # Panics
    ///
    /// If the institution's name is longer than [`INSTITUTION_LENGTH_MAX`], or if totals are not by
    /// rising currency.
    #[must_use]
    pub fn message(&self, signature_algorithm: SignatureAlgorithm, key_id: KeyId) -> Vec<u8> {
        assert!(self.institution.len() <= INSTITUTION_LENGTH_MAX, "the institution has a short name");
        assert!(
            self.totals.is_sorted_by(|left, right| left.currency < right.currency),
            "totals are by rising currency"
        );
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&MAGIC);
        let format = if self.channels.is_empty() { FORMAT } else { FORMAT_CHANNELS };
        out.extend_from_slice(&format.to_le_bytes());
        out.push(self.algorithm.number());
        out.push(signature_algorithm.number());
        out.extend_from_slice(&key_id.0);
        put_short(&mut out, self.institution.as_bytes());
        out.extend_from_slice(&self.branch.to_le_bytes());
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.batches.to_le_bytes());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.history_root);
        out.extend_from_slice(&self.business_date.to_le_bytes());
        out.extend_from_slice(&self.time_us.to_le_bytes());
        let count = u16::try_from(self.totals.len()).expect("currencies are told apart by 16 bits");
        out.extend_from_slice(&count.to_le_bytes());
        for total in &self.totals {
            out.extend_from_slice(&total.currency.to_le_bytes());
            out.extend_from_slice(&total.debits.to_le_bytes());
            out.extend_from_slice(&total.credits.to_le_bytes());
        }
        self.put_channels(&mut out);
        out.push(u8::from(self.state_digest.is_some()));
        out.extend_from_slice(self.state_digest.as_ref().map_or(&[], Hash::as_slice));
        out
    }

    fn put_channels(&self, out: &mut Vec<u8>) {
        assert!(self.channels_rise(), "channels are by rising peer and currency");
        let count = u16::try_from(self.channels.len()).expect("channels are told apart by 16 bits");
        out.extend_from_slice(&count.to_le_bytes());
        for channel in &self.channels {
            out.extend_from_slice(&channel.peer.to_le_bytes());
            out.extend_from_slice(&channel.currency.to_le_bytes());
            for sum in channel.sums() {
                out.extend_from_slice(&sum.count.to_le_bytes());
                out.extend_from_slice(&sum.amount.to_le_bytes());
            }
        }
    }

    fn channels_rise(&self) -> bool {
        let place = |channel: &ChannelTotal| (channel.peer, channel.currency);
        self.channels.is_sorted_by(|left, right| place(left) < place(right))
    }
}

impl SignedCheckpoint {
    /// The bytes: message and signature.
    ///
    /// # Panics
    ///
    /// As [`Checkpoint::message`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.checkpoint.message(self.signature_algorithm, self.key_id);
        out.extend_from_slice(&self.signature);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote. This alone verifies nothing.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut reader = Reader::new(bytes);
        let signed = Self::read(&mut reader)?;
        if reader.is_empty() { Ok(signed) } else { Err(CheckpointError::Trailing) }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CheckpointError> {
        use CheckpointError::{Algorithm, Format, Magic, Short};
        if reader.array().ok_or(Short)? != MAGIC {
            return Err(Magic);
        }
        let format = reader.u16().ok_or(Short)?;
        if format != FORMAT && format != FORMAT_CHANNELS {
            return Err(Format(format));
        }
        let (hash_number, signature_number) = reader.u8().zip(reader.u8()).ok_or(Short)?;
        let algorithm = HashAlgorithm::from_number(hash_number).ok_or(Algorithm(hash_number))?;
        let signature_algorithm = SignatureAlgorithm::from_number(signature_number)
            .ok_or(CheckpointError::SignatureAlgorithm(signature_number))?;
        let key_id = KeyId(reader.array().ok_or(Short)?);
        let checkpoint = read_fields(reader, algorithm).ok_or(Short)??;
        if (format == FORMAT_CHANNELS) == checkpoint.channels.is_empty() {
            return Err(CheckpointError::Malformed);
        }
        let signature = reader.array::<SIGNATURE_LENGTH>().ok_or(Short)?;
        Ok(Self { checkpoint, signature_algorithm, key_id, signature })
    }

    /// Checks the signature with the keys that the caller believes.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::UnknownKey`], [`CheckpointError::Signature`], [`CheckpointError::Retired`].
    ///
    /// # Panics
    ///
    /// As [`Checkpoint::message`]; never for what [`decode`](Self::decode) returned.
    pub fn verify(&self, keys: &(impl KeyRing + ?Sized)) -> Result<(), CheckpointError> {
        let key = keys.public_key(self.key_id).ok_or(CheckpointError::UnknownKey(self.key_id))?;
        let message = self.checkpoint.message(self.signature_algorithm, self.key_id);
        if key.algorithm() != self.signature_algorithm || !key.verify(&message, &self.signature) {
            return Err(CheckpointError::Signature);
        }
        match keys.retired_us(self.key_id) {
            Some(retired_us) if self.checkpoint.time_us > retired_us => {
                Err(CheckpointError::Retired { key: self.key_id, retired_us })
            }
            _ => Ok(()),
        }
    }
}

/// What follows the key id; the outer `None` means that the bytes ran out.
fn read_fields(
    reader: &mut Reader<'_>,
    algorithm: HashAlgorithm,
) -> Option<Result<Checkpoint, CheckpointError>> {
    let name_length = usize::from(reader.u16()?);
    let name = core::str::from_utf8(reader.slice(name_length)?);
    let mut checkpoint = Checkpoint {
        algorithm,
        institution: String::from(name.unwrap_or_default()),
        branch: reader.u16()?,
        incarnation: reader.u32()?,
        epoch: reader.u64()?,
        position: reader.u64()?,
        batches: reader.u64()?,
        head: reader.array()?,
        history_root: reader.array()?,
        business_date: reader.i32()?,
        time_us: reader.u64()?,
        totals: Vec::new(),
        channels: Vec::new(),
        state_digest: None,
    };
    let count = usize::from(reader.u16()?);
    let mut totals = Reader::new(reader.slice(count.checked_mul(TOTAL_LENGTH)?)?);
    for _ in 0..count {
        let (currency, debits, credits) = (totals.u16()?, totals.u128()?, totals.u128()?);
        checkpoint.totals.push(CurrencyTotal { currency, debits, credits });
    }
    let count = usize::from(reader.u16()?);
    let mut channels = Reader::new(reader.slice(count.checked_mul(CHANNEL_LENGTH)?)?);
    for _ in 0..count {
        checkpoint.channels.push(ChannelTotal::read(&mut channels)?);
    }
    let has_digest = reader.u8()?;
    if has_digest == 1 {
        checkpoint.state_digest = Some(reader.array()?);
    }
    let sound = name.is_ok()
        && name_length <= INSTITUTION_LENGTH_MAX
        && checkpoint.totals.is_sorted_by(|left, right| left.currency < right.currency)
        && checkpoint.channels_rise()
        && has_digest <= 1;
    Some(if sound { Ok(checkpoint) } else { Err(CheckpointError::Malformed) })
}
