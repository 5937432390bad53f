//! From one signing key to the next: what lets a verifier who knows one key of a bank know them all.
//!
//! A rotation is one statement signed by both keys: the old one names its heir, the new one its predecessor and the time
//! until which that one is to be believed. A chain of them from the bank's first key is its [`KeyHistory`]; each receipt
//! and checkpoint verifies under the key that signed it, however often the bank has rotated since.
//!
//! What it cannot do: whoever *stole* a key can sign a chain of their own from it. Believe the newest key that the bank
//! publishes; a chain that does not contain it is refused.
//!
//! Layout, little-endian: magic `SKROTAT1` · format u16 · serial u32, from 1 · institution (length u16, bytes) · retired u64,
//! microseconds since 1970 · old key (signature algorithm u8, its bytes) · new key (likewise) · signature of the old key
//! 64 · signature of the new key 64. Both sign all that lies before the signatures.

use alloc::string::String;
use alloc::vec::Vec;

use crate::SignatureAlgorithm;
use crate::bytes::{Reader, put_short};
use crate::checkpoint::INSTITUTION_LENGTH_MAX;
use crate::signer::{KeyId, KeyRing, PublicKey, SignError, Signature, Signer};

/// The first bytes of every rotation; no other signed message begins with them.
pub const MAGIC: [u8; 8] = *b"SKROTAT1";

/// The format this code writes, and the newest it reads.
pub const FORMAT: u16 = 1;

/// The old key hands over to the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Counts the rotations of the bank, from 1.
    pub serial: u32,
    /// The institution's short name, at most [`INSTITUTION_LENGTH_MAX`] bytes.
    pub institution: String,
    /// The old key is believed about what happened until then: microseconds since 1970.
    pub retired_us: u64,
    /// The key that signed so far.
    pub old: PublicKey,
    /// The key that signs from now on.
    pub new: PublicKey,
    /// By the old key, over [`Rotation::message`].
    pub old_signature: Signature,
    /// By the new key, over the same: it is there, and in the bank's hands.
    pub new_signature: Signature,
}

/// Why a rotation cannot be read or believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// The bytes end too early.
    #[error("rotation is cut short")]
    Short,
    /// Bytes are left over.
    #[error("bytes after the end of the rotation")]
    Trailing,
    /// The magic is not there: this is something else.
    #[error("this is not a key rotation")]
    Magic,
    /// A format that this code does not know.
    #[error("rotation format {0} is not known")]
    Format(u16),
    /// A signature algorithm that this code does not know.
    #[error("signature algorithm {0} is not known")]
    Algorithm(u8),
    /// A name that is too long or not UTF-8.
    #[error("the institution's name in the rotation is malformed")]
    Institution,
    /// It is not the next one.
    #[error("this is rotation {found}, but {expected} is to come")]
    Serial {
        /// What it says.
        found: u32,
        /// What would follow.
        expected: u32,
    },
    /// It hands over from a key that is not the bank's present one.
    #[error("it hands over from key {found}, but key {expected} signs")]
    Old {
        /// What it says.
        found: KeyId,
        /// The present key.
        expected: KeyId,
    },
    /// Its new key has signed for the bank before.
    #[error("it hands over to key {0}, which has been used before")]
    Used(KeyId),
    /// It is of another institution than the rotations before it.
    #[error("it is of another institution than the rotation before it")]
    Stranger,
    /// It retires its key before the one before it was retired.
    #[error("its time lies before that of the rotation before it")]
    Backwards,
    /// One of its signatures does not verify.
    #[error("the signature of its {0} key does not verify")]
    Signature(&'static str),
}

impl Rotation {
    /// Lets both keys sign that `old` hands over to `new`, as the rotation after those in `history`.
    ///
    /// # Errors
    ///
    /// What the signers say.
    ///
    /// # Panics
    ///
    /// If the institution's name is longer than [`INSTITUTION_LENGTH_MAX`].
    pub fn sign(
        history: &KeyHistory,
        institution: &str,
        retired_us: u64,
        old: &dyn Signer,
        new: &dyn Signer,
    ) -> Result<Self, SignError> {
        let mut rotation = Self {
            serial: history.next_serial(),
            institution: String::from(institution),
            retired_us,
            old: old.public_key(),
            new: new.public_key(),
            old_signature: [0; 64],
            new_signature: [0; 64],
        };
        let message = rotation.message();
        rotation.old_signature = old.sign(&message)?;
        rotation.new_signature = new.sign(&message)?;
        Ok(rotation)
    }

    /// The bytes that both keys sign.
    ///
    /// # Panics
    ///
    /// If the institution's name is longer than [`INSTITUTION_LENGTH_MAX`].
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        assert!(self.institution.len() <= INSTITUTION_LENGTH_MAX, "the institution has a short name");
        let mut out = Vec::with_capacity(384);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.serial.to_le_bytes());
        put_short(&mut out, self.institution.as_bytes());
        out.extend_from_slice(&self.retired_us.to_le_bytes());
        for key in [&self.old, &self.new] {
            out.push(key.algorithm().number());
            out.extend_from_slice(key.bytes());
        }
        out
    }

    /// The bytes: message and both signatures.
    ///
    /// # Panics
    ///
    /// As [`message`](Self::message).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.message();
        out.extend_from_slice(&self.old_signature);
        out.extend_from_slice(&self.new_signature);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote. This alone verifies nothing.
    ///
    /// # Errors
    ///
    /// [`RotationError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, RotationError> {
        use RotationError::{Format, Institution, Magic, Short, Trailing};
        let mut reader = Reader::new(bytes);
        if reader.array().ok_or(Short)? != MAGIC {
            return Err(Magic);
        }
        let format = reader.u16().ok_or(Short)?;
        if format != FORMAT {
            return Err(Format(format));
        }
        let serial = reader.u32().ok_or(Short)?;
        let length = usize::from(reader.u16().ok_or(Short)?);
        let name = core::str::from_utf8(reader.slice(length).ok_or(Short)?).map_err(|_| Institution)?;
        if length > INSTITUTION_LENGTH_MAX {
            return Err(Institution);
        }
        let retired_us = reader.u64().ok_or(Short)?;
        let (old, new) = (read_key(&mut reader)?, read_key(&mut reader)?);
        let (old_signature, new_signature) = reader.array().zip(reader.array()).ok_or(Short)?;
        let institution = String::from(name);
        let rotation = Self { serial, institution, retired_us, old, new, old_signature, new_signature };
        if reader.is_empty() { Ok(rotation) } else { Err(Trailing) }
    }

    fn verify(&self) -> Result<(), RotationError> {
        let message = self.message();
        if !self.old.verify(&message, &self.old_signature) {
            return Err(RotationError::Signature("old"));
        }
        if !self.new.verify(&message, &self.new_signature) {
            return Err(RotationError::Signature("new"));
        }
        Ok(())
    }
}

fn read_key(reader: &mut Reader<'_>) -> Result<PublicKey, RotationError> {
    let number = reader.u8().ok_or(RotationError::Short)?;
    let algorithm = SignatureAlgorithm::from_number(number).ok_or(RotationError::Algorithm(number))?;
    let key = match algorithm {
        SignatureAlgorithm::Ed25519 => reader.array().map(PublicKey::Ed25519),
        SignatureAlgorithm::Sm2 => reader.array().map(PublicKey::Sm2),
    };
    key.ok_or(RotationError::Short)
}

/// A bank's signing keys, from its first to its present one; every rotation in it has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHistory {
    first: PublicKey,
    rotations: Vec<Rotation>,
}

impl KeyHistory {
    /// A bank that has never rotated.
    #[must_use]
    pub const fn new(first: PublicKey) -> Self {
        Self { first, rotations: Vec::new() }
    }

    /// Takes the next rotation, if it follows and both of its signatures verify.
    ///
    /// # Errors
    ///
    /// [`RotationError`]; the history then stays as it was.
    pub fn push(&mut self, rotation: Rotation) -> Result<(), RotationError> {
        let (expected, present) = (self.next_serial(), self.present());
        if rotation.serial != expected {
            return Err(RotationError::Serial { found: rotation.serial, expected });
        }
        if rotation.old != present {
            return Err(RotationError::Old { found: rotation.old.id(), expected: present.id() });
        }
        if self.contains(&rotation.new) {
            return Err(RotationError::Used(rotation.new.id()));
        }
        if let Some(last) = self.rotations.last() {
            if rotation.institution != last.institution {
                return Err(RotationError::Stranger);
            }
            if rotation.retired_us < last.retired_us {
                return Err(RotationError::Backwards);
            }
        }
        rotation.verify()?;
        self.rotations.push(rotation);
        Ok(())
    }

    /// The key that signs now.
    #[must_use]
    pub fn present(&self) -> PublicKey {
        self.rotations.last().map_or(self.first, |rotation| rotation.new)
    }

    /// The bank's first key.
    #[must_use]
    pub const fn first(&self) -> PublicKey {
        self.first
    }

    /// The rotations, oldest first.
    #[must_use]
    pub fn rotations(&self) -> &[Rotation] {
        &self.rotations
    }

    /// All keys, oldest first, each with the time at which it was retired.
    pub fn keys(&self) -> impl Iterator<Item = (PublicKey, Option<u64>)> {
        let retired = self.rotations.iter().map(|rotation| (rotation.old, Some(rotation.retired_us)));
        retired.chain([(self.present(), None)])
    }

    /// Whether the key is one of the bank's, of whatever time.
    #[must_use]
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys().any(|(known, _)| known == *key)
    }

    fn next_serial(&self) -> u32 {
        u32::try_from(self.rotations.len()).unwrap_or(u32::MAX).saturating_add(1)
    }
}

impl KeyRing for KeyHistory {
    fn public_key(&self, id: KeyId) -> Option<PublicKey> {
        self.keys().map(|(key, _)| key).find(|key| key.id() == id)
    }

    fn retired_us(&self, id: KeyId) -> Option<u64> {
        self.keys().find(|(key, _)| key.id() == id)?.1
    }
}
