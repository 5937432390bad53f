//! Key files: 32 secret bytes, plain or sealed under a passphrase.
//!
//! A plain one is text: 64 hexadecimal digits (Ed25519), or `sm2:` and 64 of them. A sealed one is, little-endian:
//!
//! | at | field | at | field |
//! |---|---|---|---|
//! | 0 | magic `SKSEALK1` | 14 | memory of the derivation, KiB, u32 |
//! | 8 | format u16 = 1 | 18 | passes u32 |
//! | 10 | signature algorithm u8 | 22 | lanes u32 |
//! | 11 | derivation u8: 1, Argon2id v1.3 (RFC 9106) | 26 | salt 16 |
//! | 12 | cipher u8: 1, XChaCha20-Poly1305 | 42 | nonce 24 |
//! | 13 | zero u8 | 66 | public key, 32 or 64 |
//!
//! and then the sealed secret with its tag, 48. All that lies before it is authenticated, so that whoever changes a byte
//! of the file makes one that does not open. The public key is there for those who have no passphrase and need none.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use skerry_proof::signer::from_secret;
use skerry_proof::{PublicKey, SignatureAlgorithm, Signer};
use zeroize::Zeroizing;

/// The first bytes of a sealed key.
pub const MAGIC: [u8; 8] = *b"SKSEALK1";

/// The format this code writes, and the newest it reads.
pub const FORMAT: u16 = 1;

/// Longer files are no keys.
pub const LENGTH_MAX: usize = 256;

const ARGON2ID: u8 = 1;
const XCHACHA20_POLY1305: u8 = 1;
const HEADER: usize = 66;
const SEALED: usize = 48;

/// 32 secret bytes, overwritten when dropped.
pub type Secret = Zeroizing<[u8; 32]>;

/// What trying one passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes in it.
    pub lanes: u32,
}

/// The second recommendation of RFC 9106, section 4: 64 MiB, three passes, four lanes.
impl Default for Cost {
    fn default() -> Self {
        Self { memory_kib: 1 << 16, passes: 3, lanes: 4 }
    }
}

/// What a key file holds.
#[derive(Clone)]
pub enum KeyFile {
    /// The secret as it is.
    Plain(SignatureAlgorithm, Secret),
    /// The secret under a passphrase.
    Sealed(SealedKey),
}

/// A secret under a passphrase; public but for what is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    cost: Cost,
    salt: [u8; 16],
    nonce: [u8; 24],
    public: PublicKey,
    sealed: [u8; SEALED],
}

/// Why a key file gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Neither magic nor hexadecimal digits.
    #[error("it holds neither a sealed key nor 32 bytes in hex")]
    Magic,
    /// The bytes end too early.
    #[error("the sealed key is cut short")]
    Short,
    /// Bytes are left over.
    #[error("bytes after the end of the sealed key")]
    Trailing,
    /// A format that this code does not know.
    #[error("sealed key format {0} is not known")]
    Format(u16),
    /// A signature algorithm that this code does not know.
    #[error("signature algorithm {0} is not known")]
    Algorithm(u8),
    /// A derivation that this code does not know.
    #[error("key derivation {0} is not known")]
    Derivation(u8),
    /// A cipher that this code does not know.
    #[error("cipher {0} is not known")]
    Cipher(u8),
    /// A byte that must be zero is not.
    #[error("a reserved byte of the sealed key is not zero")]
    Reserved,
    /// A cost that no honest file states.
    #[error("the key derivation wants {} KiB, {} passes, {} lanes; it may want 8 KiB a lane to 1 GiB, 1 to 64 passes, 1 to 16 lanes", .0.memory_kib, .0.passes, .0.lanes)]
    Cost(Cost),
    /// It does not open.
    #[error("the passphrase is wrong, or the file was tampered with")]
    Locked,
    /// The secret is no key of its scheme, or not that of the public key beside it.
    #[error("the secret in it is not a key of its algorithm")]
    Secret,
    /// It is sealed, and there is no passphrase.
    #[error("it is sealed, and no passphrase file is configured (evidence.signer.passphrase_file)")]
    Passphrase,
}

impl KeyFile {
    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] for anything that is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyFileError> {
        if bytes.starts_with(&MAGIC) {
            return SealedKey::decode(bytes).map(Self::Sealed);
        }
        let text = bytes.trim_ascii();
        let (algorithm, digits) = match text.strip_prefix(b"sm2:") {
            Some(digits) => (SignatureAlgorithm::Sm2, digits),
            None => (SignatureAlgorithm::Ed25519, text),
        };
        let secret = crate::answer::parse_hex(digits).ok_or(KeyFileError::Magic)?;
        Ok(Self::Plain(algorithm, Zeroizing::new(secret)))
    }

    /// The text of a plain key.
    #[must_use]
    pub fn plain_text(algorithm: SignatureAlgorithm, secret: &Secret) -> Zeroizing<String> {
        let prefix = if algorithm == SignatureAlgorithm::Sm2 { "sm2:" } else { "" };
        Zeroizing::new(format!("{prefix}{}", crate::answer::hex(&**secret)))
    }

    /// The public key, for which no passphrase is needed.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Secret`].
    pub fn public_key(&self) -> Result<PublicKey, KeyFileError> {
        match self {
            Self::Plain(algorithm, secret) => Ok(signer(*algorithm, secret)?.public_key()),
            Self::Sealed(sealed) => Ok(sealed.public),
        }
    }

    /// The secret and its scheme.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Passphrase`], [`KeyFileError::Locked`], [`KeyFileError::Secret`].
    pub fn open(&self, passphrase: Option<&[u8]>) -> Result<(SignatureAlgorithm, Secret), KeyFileError> {
        match (self, passphrase) {
            (Self::Plain(algorithm, secret), _) => Ok((*algorithm, secret.clone())),
            (Self::Sealed(_), None) => Err(KeyFileError::Passphrase),
            (Self::Sealed(sealed), Some(passphrase)) => {
                Ok((sealed.public.algorithm(), sealed.open(passphrase)?))
            }
        }
    }
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(algorithm, _) => write!(formatter, "Plain({})", algorithm.name()),
            Self::Sealed(sealed) => sealed.fmt(formatter),
        }
    }
}

/// The signer of a secret.
///
/// # Errors
///
/// [`KeyFileError::Secret`] if it is no key of its scheme.
pub fn signer(
    algorithm: SignatureAlgorithm,
    secret: &Secret,
) -> Result<Box<dyn Signer + Send + Sync>, KeyFileError> {
    from_secret(algorithm, secret).ok_or(KeyFileError::Secret)
}

impl SealedKey {
    /// Seals a secret. `fill` gives random bytes.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Secret`] if it is no key of the scheme, [`KeyFileError::Cost`].
    pub fn seal(
        algorithm: SignatureAlgorithm,
        secret: &Secret,
        passphrase: &[u8],
        cost: Cost,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, KeyFileError> {
        let public = signer(algorithm, secret)?.public_key();
        let mut key = Self { cost, salt: [0; 16], nonce: [0; 24], public, sealed: [0; SEALED] };
        fill(&mut key.salt);
        fill(&mut key.nonce);
        let header = key.header();
        let payload = Payload { msg: secret.as_slice(), aad: &header };
        let sealed = key.cipher(passphrase)?.encrypt(XNonce::from_slice(&key.nonce), payload);
        let sealed = sealed.expect("32 bytes are far below the cipher's bound");
        key.sealed.copy_from_slice(&sealed);
        Ok(key)
    }

    /// The secret.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Locked`], [`KeyFileError::Secret`].
    pub fn open(&self, passphrase: &[u8]) -> Result<Secret, KeyFileError> {
        let header = self.header();
        let payload = Payload { msg: self.sealed.as_slice(), aad: &header };
        let opened = self.cipher(passphrase)?.decrypt(XNonce::from_slice(&self.nonce), payload);
        let opened = Zeroizing::new(opened.map_err(|_| KeyFileError::Locked)?);
        let mut secret = Secret::default();
        secret.copy_from_slice(&opened);
        let made = signer(self.public.algorithm(), &secret)?.public_key();
        if made == self.public { Ok(secret) } else { Err(KeyFileError::Secret) }
    }

    fn cipher(&self, passphrase: &[u8]) -> Result<XChaCha20Poly1305, KeyFileError> {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let fits = (1..=16).contains(&lanes)
            && (1..=64).contains(&passes)
            && (8 * lanes..=1 << 20).contains(&memory_kib);
        let params = Params::new(memory_kib, passes, lanes, Some(32)).ok().filter(|_| fits);
        let params = params.ok_or(KeyFileError::Cost(self.cost))?;
        let mut key = Secret::default();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, &self.salt, &mut *key)
            .map_err(|_| KeyFileError::Cost(self.cost))?;
        Ok(XChaCha20Poly1305::new((&*key).into()))
    }

    fn header(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + 64 + SEALED);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[self.public.algorithm().number(), ARGON2ID, XCHACHA20_POLY1305, 0]);
        for number in [self.cost.memory_kib, self.cost.passes, self.cost.lanes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(self.public.bytes());
        out
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.header();
        out.extend_from_slice(&self.sealed);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; opens nothing, so that a changed byte is found only by
    /// [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyFileError> {
        use KeyFileError::{Cipher, Derivation, Format, Magic, Reserved, Short, Trailing};
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Short)?;
        let (magic, fields) = header.split_first_chunk::<8>().ok_or(Short)?;
        if *magic != MAGIC {
            return Err(Magic);
        }
        let [low, high, algorithm, derivation, cipher, zero, fields @ ..] = fields else { return Err(Short) };
        match (u16::from_le_bytes([*low, *high]), *derivation, *cipher, *zero) {
            (FORMAT, ARGON2ID, XCHACHA20_POLY1305, 0) => {}
            (FORMAT, ARGON2ID, XCHACHA20_POLY1305, _) => return Err(Reserved),
            (FORMAT, ARGON2ID, other, _) => return Err(Cipher(other)),
            (FORMAT, other, ..) => return Err(Derivation(other)),
            (other, ..) => return Err(Format(other)),
        }
        let (numbers, fields) = fields.split_first_chunk::<12>().ok_or(Short)?;
        let mut numbers = numbers.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number));
        let mut number = || numbers.next().ok_or(Short);
        let cost = Cost { memory_kib: number()?, passes: number()?, lanes: number()? };
        let (salt, nonce) = fields.split_first_chunk::<16>().ok_or(Short)?;
        let nonce = *nonce.first_chunk::<24>().ok_or(Short)?;
        let (public, sealed) = split_public(*algorithm, rest)?;
        let (sealed, after) = sealed.split_first_chunk::<SEALED>().ok_or(Short)?;
        if !after.is_empty() {
            return Err(Trailing);
        }
        Ok(Self { cost, salt: *salt, nonce, public, sealed: *sealed })
    }
}

fn split_public(algorithm: u8, rest: &[u8]) -> Result<(PublicKey, &[u8]), KeyFileError> {
    let split = match SignatureAlgorithm::from_number(algorithm) {
        Some(SignatureAlgorithm::Ed25519) => {
            rest.split_first_chunk::<32>().map(|(key, rest)| (PublicKey::Ed25519(*key), rest))
        }
        Some(SignatureAlgorithm::Sm2) => {
            rest.split_first_chunk::<64>().map(|(key, rest)| (PublicKey::Sm2(*key), rest))
        }
        _ => return Err(KeyFileError::Algorithm(algorithm)),
    };
    split.ok_or(KeyFileError::Short)
}
