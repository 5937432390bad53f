//! How a key is wrapped by the master key, and how bytes are sealed under a key: the same for every place that keys lie in.
//!
//! ```text
//! wrapped key   24 bytes nonce · 32 bytes encrypted · 16 bytes tag       XChaCha20-Poly1305 under the master key
//! sealed bytes  1 · nonce · encrypted · tag                              the same under the customer's key
//! ```
//!
//! The key's number is authenticated with both: a wrapped key in another's place is none.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::{KeyError, KeyRef};

const NONCE: usize = 24;
const TAG: usize = 16;
const KEY: usize = 32;
const SEALED_V1: u8 = 1;

/// Bytes of a wrapped key.
pub const WRAPPED: usize = NONCE + KEY + TAG;

/// Fills a buffer with secret random bytes.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// A customer's key, unwrapped; zeroed when it goes.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; KEY]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl Secret {
    /// A new key.
    #[must_use]
    pub fn draw(entropy: &mut Entropy) -> Self {
        let mut secret = Zeroizing::new([0; KEY]);
        entropy(&mut *secret);
        Self(secret)
    }

    /// The key of no customer, that a place is known by: whoever can unwrap it has the right master key.
    #[must_use]
    pub fn of_header() -> Self {
        Self(Zeroizing::new([0; KEY]))
    }

    /// Seals `plain` under this key, which `key` names.
    #[must_use]
    pub fn seal(&self, key: KeyRef, plain: &[u8], entropy: &mut Entropy) -> Vec<u8> {
        let mut out = vec![SEALED_V1];
        out.extend(encrypt(&self.0, key, plain, entropy));
        out
    }

    /// Unseals what [`seal`](Self::seal) made.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotSealed`].
    pub fn unseal(&self, key: KeyRef, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let Some((&SEALED_V1, body)) = sealed.split_first() else { return Err(KeyError::NotSealed) };
        decrypt(&self.0, key, body).ok_or(KeyError::NotSealed)
    }
}

/// The bank's master key: it wraps all others and is kept elsewhere.
#[derive(Clone)]
pub struct Master(Zeroizing<[u8; KEY]>);

impl std::fmt::Debug for Master {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Master(..)")
    }
}

impl Master {
    /// From its 32 secret bytes.
    #[must_use]
    pub fn new(bytes: [u8; KEY]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Wraps `secret`, which `key` names.
    ///
    /// # Panics
    ///
    /// Never: what is encrypted has one length.
    #[must_use]
    pub fn wrap(&self, key: KeyRef, secret: &Secret, entropy: &mut Entropy) -> [u8; WRAPPED] {
        let wrapped = encrypt(&self.0, key, &*secret.0, entropy);
        wrapped.try_into().expect("nonce, key and tag have one length")
    }

    /// The key that was wrapped as `key` under this master key, if that is what it is.
    #[must_use]
    pub fn unwrap(&self, key: KeyRef, wrapped: &[u8]) -> Option<Secret> {
        let plain = Zeroizing::new(decrypt(&self.0, key, wrapped.get(..WRAPPED)?)?);
        let mut secret = Zeroizing::new([0; KEY]);
        secret.copy_from_slice(plain.get(..KEY)?);
        Some(Secret(secret))
    }
}

fn encrypt(under: &[u8; KEY], key: KeyRef, plain: &[u8], entropy: &mut Entropy) -> Vec<u8> {
    let mut nonce = [0; NONCE];
    entropy(&mut nonce);
    let aad = key.0.to_le_bytes();
    let payload = Payload { msg: plain, aad: &aad };
    let cipher = XChaCha20Poly1305::new(under.into());
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload);
    let mut out = nonce.to_vec();
    out.extend(sealed.expect("a message shorter than 256 GiB can be encrypted"));
    out
}

fn decrypt(under: &[u8; KEY], key: KeyRef, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_at_checked(NONCE)?;
    let aad = key.0.to_le_bytes();
    let cipher = XChaCha20Poly1305::new(under.into());
    cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: &aad }).ok()
}
