//! Who signs, and who may be believed: keys, signatures and the seam to wherever keys are kept.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use ed25519_dalek::{Signature as Ed25519Signature, Signer as _, SigningKey, VerifyingKey};

use crate::sm2_signer::{self, Sm2Signer};
use crate::{SignatureAlgorithm, domain};

/// A signature; both schemes make 64 bytes.
pub type Signature = [u8; 64];

/// The name of a key: a hash of its algorithm and public part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyId(pub [u8; 16]);

/// The public part of a key, as its scheme defines it.
///
/// As text an Ed25519 key is its 64 hexadecimal digits, an SM2 key `sm2:` and 128 of them. Reading takes `ed25519:` in
/// front of the former too, and the tag 04 of an uncompressed point in the latter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicKey {
    /// RFC 8032, 5.1.5.
    Ed25519([u8; 32]),
    /// The point, x ‖ y.
    Sm2([u8; 64]),
}

/// Text that is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key is 64 hexadecimal digits (Ed25519), or sm2: and 128 of them")]
pub struct PublicKeyText;

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
        self.public_key().algorithm()
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
    assert_eq!(signer.algorithm(), key.algorithm(), "the algorithm is that of the key");
}

impl PublicKey {
    /// The scheme it belongs to.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        match self {
            Self::Ed25519(_) => SignatureAlgorithm::Ed25519,
            Self::Sm2(_) => SignatureAlgorithm::Sm2,
        }
    }

    /// Its bytes: 32 or 64.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(bytes) => bytes,
            Self::Sm2(bytes) => bytes,
        }
    }

    /// The name of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut hasher = blake3::Hasher::new_keyed(&domain::KEY_ID);
        hasher.update(&[self.algorithm().number()]).update(self.bytes());
        let mut id = KeyId::default();
        hasher.finalize_xof().fill(&mut id.0);
        id
    }

    /// Whether `signature` is this key's over `message`. False for weak keys and malleable signatures.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        match self {
            Self::Ed25519(bytes) => VerifyingKey::from_bytes(bytes)
                .and_then(|key| key.verify_strict(message, &Ed25519Signature::from_bytes(signature)))
                .is_ok(),
            Self::Sm2(point) => sm2_signer::verify(point, message, signature),
        }
    }
}

/// The keys that a verifier believes, old ones included: rotation retires a key from signing, not
/// from verifying.
pub trait KeyRing {
    /// The key with this name.
    fn public_key(&self, id: KeyId) -> Option<PublicKey>;

    /// When the key was retired, in microseconds since 1970: what it signs about a later time is not believed.
    fn retired_us(&self, _id: KeyId) -> Option<u64> {
        None
    }
}

/// The key of this scheme that 32 secret bytes stand for, kept in this process's memory; `None` if they stand for none,
/// which of random bytes SM2 says once in 2³².
#[must_use]
pub fn from_secret(
    algorithm: SignatureAlgorithm,
    secret: &[u8; 32],
) -> Option<Box<dyn Signer + Send + Sync>> {
    match algorithm {
        SignatureAlgorithm::Ed25519 => Some(Box::new(Ed25519Signer::from_seed(secret))),
        SignatureAlgorithm::Sm2 => Some(Box::new(Sm2Signer::from_secret(secret)?)),
    }
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
        PublicKey::Ed25519(self.key.verifying_key().to_bytes())
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

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Sm2(_) = self {
            formatter.write_str("sm2:")?;
        }
        self.bytes().iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyText;

    fn from_str(text: &str) -> Result<Self, PublicKeyText> {
        let key = match text.split_once(':') {
            None => parse_hex(text).map(Self::Ed25519),
            Some(("ed25519", digits)) => parse_hex(digits).map(Self::Ed25519),
            Some(("sm2", digits)) => {
                let tagged = digits.strip_prefix("04").filter(|point| point.len() == 128);
                parse_hex(tagged.unwrap_or(digits)).map(Self::Sm2)
            }
            Some(_) => None,
        };
        key.ok_or(PublicKeyText)
    }
}

/// `N` bytes out of twice as many hexadecimal digits.
fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !odd.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*high)?.checked_shl(4)? | digit(*low)?;
    }
    Some(bytes)
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

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        parse_hex(hex).unwrap()
    }

    /// RFC 8032, 7.1, tests 1 and 2.
    #[test]
    fn ed25519_is_that_of_the_standard() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                b"".as_slice(),
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
                 d25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                b"\x72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
                 387b2eaeb4302aeeb00d291612bb0c00",
            ),
        ] {
            let signer = Ed25519Signer::from_seed(&bytes(seed));
            assert_eq!(signer.public_key(), PublicKey::Ed25519(bytes(public)));
            assert_eq!(signer.sign(message).unwrap(), bytes(signature));
            assert!(signer.public_key().verify(message, &bytes(signature)));
        }
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
    fn public_keys_survive_as_text() {
        for algorithm in SignatureAlgorithm::ALL {
            let key = from_secret(algorithm, &[1; 32]).unwrap().public_key();
            assert_eq!((key.algorithm(), format!("{key}").parse()), (algorithm, Ok(key)));
        }
        let point = from_secret(SignatureAlgorithm::Sm2, &[1; 32]).unwrap().public_key();
        let digits = format!("{point}").split_off(4);
        assert_eq!(format!("sm2:04{digits}").parse(), Ok(point));
        for wrong in ["", "sm2:", "04", "rsa:00", &digits, &format!("{digits}0"), &format!("sm2:{digits}00")]
        {
            assert_eq!(wrong.parse::<PublicKey>(), Err(PublicKeyText), "{wrong}");
        }
    }
}
