//! Who signs, and who may be believed: keys, signatures and the seam to wherever keys are kept.

use alloc::string::String;
use core::fmt;

use ed25519_dalek::{Signature as Ed25519Signature, Signer as _, SigningKey, VerifyingKey};

use crate::{SignatureAlgorithm, domain};

/// A signature; both named schemes make 64 bytes.
pub type Signature = [u8; 64];

/// The name of a key: a hash of its algorithm and public part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyId(pub [u8; 16]);

/// The public part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    /// The scheme it belongs to.
    pub algorithm: SignatureAlgorithm,
    /// Its bytes as the scheme defines them.
    pub bytes: [u8; 32],
}

/// The key could not be used. A fault of the machine or the key's keeper, never of what was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not sign with key {key}: {reason}")]
pub struct SignError {
    /// The key.
    pub key: KeyId,
    /// What its keeper said.
    pub reason: String,
}

/// Makes signatures. The key may lie in a file, in another process or in a device.
///
/// Every implementation must hold, and [`check_contract`] tests:
/// - what [`sign`](Self::sign) returns verifies under [`public_key`](Self::public_key);
/// - algorithm and key never change while the signer lives: rotation is a new signer.
///
/// It may be slow. It is called off the thread that owns the book.
pub trait Signer {
    /// The key that verifies what this one signs.
    fn public_key(&self) -> PublicKey;

    /// Signs `message`, of any length.
    ///
    /// # Errors
    ///
    /// [`SignError`] when the key cannot be used now; the caller may try again later.
    fn sign(&self, message: &[u8]) -> Result<Signature, SignError>;

    /// The name of the key.
    fn key_id(&self) -> KeyId {
        self.public_key().id()
    }

    /// The scheme.
    fn algorithm(&self) -> SignatureAlgorithm {
        self.public_key().algorithm
    }
}

/// The contract of [`Signer`], to be run on every implementation.
///
/// # Panics
///
/// If the contract is broken.
pub fn check_contract(signer: &dyn Signer) {
    let key = signer.public_key();
    for message in [b"".as_slice(), b"one", &[0x5a; 100_000]] {
        let signature = signer.sign(message).expect("a signer under test can sign");
        assert!(key.verify(message, &signature), "a signature verifies under the signer's key");
        assert!(!key.verify(b"another", &signature), "a signature is good for one message");
    }
    assert_eq!(signer.public_key(), key, "the key stays the same");
    assert_eq!(signer.key_id(), key.id(), "the name is that of the key");
    assert_eq!(signer.algorithm(), key.algorithm, "the algorithm is that of the key");
}

impl PublicKey {
    /// The name of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut hasher = blake3::Hasher::new_keyed(&domain::KEY_ID);
        hasher.update(&[self.algorithm.number()]).update(&self.bytes);
        let mut id = KeyId::default();
        hasher.finalize_xof().fill(&mut id.0);
        id
    }

    /// Whether `signature` is this key's over `message`. False for a scheme that is only reserved,
    /// and for weak keys and malleable signatures.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        match self.algorithm {
            SignatureAlgorithm::Ed25519 => VerifyingKey::from_bytes(&self.bytes)
                .and_then(|key| key.verify_strict(message, &Ed25519Signature::from_bytes(signature)))
                .is_ok(),
            SignatureAlgorithm::Sm2 => false,
        }
    }
}

/// The keys that a verifier believes, old ones included: rotation retires a key from signing, not
/// from verifying.
pub trait KeyRing {
    /// The key with this name.
    fn public_key(&self, id: KeyId) -> Option<PublicKey>;
}

impl KeyRing for [PublicKey] {
    fn public_key(&self, id: KeyId) -> Option<PublicKey> {
        self.iter().copied().find(|key| key.id() == id)
    }
}

impl<const N: usize> KeyRing for [PublicKey; N] {
    fn public_key(&self, id: KeyId) -> Option<PublicKey> {
        self.as_slice().public_key(id)
    }
}

/// An Ed25519 key in this process's memory, overwritten when dropped.
pub struct Ed25519Signer {
    key: SigningKey,
}

impl Ed25519Signer {
    /// The key that a seed of 32 random bytes stands for (RFC 8032, 5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }
}

impl Signer for Ed25519Signer {
    fn public_key(&self) -> PublicKey {
        PublicKey { algorithm: SignatureAlgorithm::Ed25519, bytes: self.key.verifying_key().to_bytes() }
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(self.key.sign(message).to_bytes())
    }
}

/// Shows the name of the key, never the key.
impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Ed25519Signer({})", self.key_id())
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn ed25519_keeps_the_contract() {
        check_contract(&Ed25519Signer::from_seed(&[7; 32]));
    }

    /// RFC 8032, 7.1, test 1: the public key of that seed.
    #[test]
    fn a_seed_has_the_key_of_the_standard() {
        let seed = 0x9d61b19deffd5a60ba844af492ec2cc4_u128.to_be_bytes();
        let rest = 0x4449c5697b326919703bac031cae7f60_u128.to_be_bytes();
        let mut whole = [0; 32];
        whole[..16].copy_from_slice(&seed);
        whole[16..].copy_from_slice(&rest);
        let key = Ed25519Signer::from_seed(&whole).public_key();
        assert_eq!(key.bytes[..4], [0xd7, 0x5a, 0x98, 0x01]);
    }

    #[test]
    fn rings_know_keys_by_name_and_print_no_secret() {
        let (one, two) = (Ed25519Signer::from_seed(&[1; 32]), Ed25519Signer::from_seed(&[2; 32]));
        let ring = [one.public_key()];
        assert_eq!(ring.public_key(one.key_id()), Some(one.public_key()));
        assert_eq!(ring.public_key(two.key_id()), None);
        assert_eq!(format!("{one:?}"), format!("Ed25519Signer({})", one.key_id()));
    }

    #[test]
    fn a_reserved_scheme_verifies_nothing() {
        let signer = Ed25519Signer::from_seed(&[1; 32]);
        let signature = signer.sign(b"message").unwrap();
        let key = PublicKey { algorithm: SignatureAlgorithm::Sm2, ..signer.public_key() };
        assert!(!key.verify(b"message", &signature));
    }
}
