//! Keys of customers: what makes personal data readable, and what erasure takes away.
//!
//! Personal data is journaled only as ciphertext under a key per customer. [`Keys`] is the seam; the
//! implementation here keeps each key, wrapped by a master key, in a slot of a file. Erasing overwrites the slot
//! with zeros, in both copies, and syncs: the ciphertext in journals and backups is then noise for ever.
//!
//! It knows no customer: a [`KeyRef`] is all the book has.
//!
//! # Invariants
//!
//! - A reference that was given out is durable, and is never given out again.
//! - An erased key stays erased; erasing twice is erasing once.
//! - A torn write in one copy harms no key: the other copy is written only after the first is durable.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use skerry_journal::storage::read_whole;
use skerry_journal::{Storage, StorageError, StorageErrorKind, StorageFile};
use zeroize::Zeroizing;

/// Names a key. Dense from 1; 0 names none.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef(pub u64);

/// Fills a buffer with secret random bytes.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// What went wrong with a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It was erased: what was sealed under it is gone.
    #[error("the key is erased")]
    Erased,
    /// There never was such a key, or both copies of its slot are damaged.
    #[error("there is no key {0}")]
    Unknown(u64),
    /// The master key is not the one that wrapped these keys.
    #[error("the master key does not fit the key file")]
    WrongMaster,
    /// The sealed bytes were not sealed under this key.
    #[error("could not unseal: the bytes do not belong to this key")]
    NotSealed,
    /// The key file has another format.
    #[error("the key file has an unknown format")]
    Format,
    /// They are kept in another process, which did not answer.
    #[error("could not reach the keys: {0}")]
    Away(String),
    /// The machine let us down.
    #[error("could not reach the key file")]
    Storage(#[from] StorageError),
}

/// Where customers' keys are kept.
///
/// Calls may come from any thread. After `erase` has returned `Ok` no later call, also after a crash, unseals
/// anything under that key.
pub trait Keys: Send + Sync {
    /// Makes `count` keys, durable when this returns.
    ///
    /// # Errors
    ///
    /// As the storage says; then none is given out.
    fn create(&self, count: usize) -> Result<Vec<KeyRef>, KeyError>;

    /// Seals `plain` under `key`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Erased`], [`KeyError::Unknown`], or as the storage says.
    fn seal(&self, key: KeyRef, plain: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Unseals what [`seal`](Self::seal) made.
    ///
    /// # Errors
    ///
    /// As for sealing, and [`KeyError::NotSealed`].
    fn unseal(&self, key: KeyRef, sealed: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Erases `key` for ever.
    ///
    /// # Errors
    ///
    /// As the storage says; the caller must try again.
    fn erase(&self, key: KeyRef) -> Result<(), KeyError>;
}

/// The names of the two copies.
pub const FILES: [&str; 2] = ["keys-1.skk", "keys-2.skk"];
const SLOT: usize = 128;
const SLOT_U64: u64 = 128;
const MAGIC: &[u8; 8] = b"SKKEYS01";
const NONCE: usize = 24;
const TAG: usize = 16;
const KEY: usize = 32;
const LIVE: u8 = 1;
const ERASED: u8 = 2;
const SEALED_V1: u8 = 1;

/// Slots in two files of a storage.
pub struct SlotKeys<S: Storage> {
    inner: Mutex<Inner<S>>,
}

struct Inner<S: Storage> {
    copies: [S::File; 2],
    master: Zeroizing<[u8; KEY]>,
    entropy: Entropy,
    next: u64,
}

impl<S: Storage> SlotKeys<S> {
    /// Opens the key files in `storage`, or makes them.
    ///
    /// # Errors
    ///
    /// [`KeyError::WrongMaster`] if they were made under another master key; as the storage says.
    pub fn open(storage: &S, master: [u8; KEY], entropy: Entropy) -> Result<Self, KeyError> {
        let first = open_or_create(storage, FILES[0])?;
        let second = open_or_create(storage, FILES[1])?;
        let mut inner: Inner<S> =
            Inner { copies: [first, second], master: Zeroizing::new(master), entropy, next: 1 };
        inner.check_header()?;
        storage.sync_dir()?;
        let longest = inner.copies[0].length()?.max(inner.copies[1].length()?);
        inner.next = longest.div_ceil(SLOT_U64).max(1);
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// All erased keys: what a restored copy must not bring back.
    ///
    /// # Errors
    ///
    /// As the storage says.
    pub fn erased(&self) -> Result<Vec<KeyRef>, KeyError> {
        let inner = self.lock();
        let mut erased = Vec::new();
        for number in 1..inner.next {
            if matches!(inner.read(KeyRef(number)), Err(KeyError::Erased)) {
                erased.push(KeyRef(number));
            }
        }
        Ok(erased)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // A panic in between leaves files that are valid at every step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys that are erased in the key files in `storage`, which are only read: what a restored copy must not bring back.
/// Erased in one copy is erased, and no master key is needed to see it.
///
/// # Errors
///
/// As the storage says; [`StorageErrorKind::NotFound`] if neither file is there.
pub fn erased_in<S: Storage>(storage: &S) -> Result<Vec<KeyRef>, KeyError> {
    let mut erased = std::collections::BTreeSet::new();
    let mut missing = 0;
    for name in FILES {
        let bytes = match read_whole(storage, name) {
            Err(error) if error.kind == StorageErrorKind::NotFound && missing == 0 => {
                missing += 1;
                continue;
            }
            other => other?,
        };
        // Slot 0 is the header.
        let slots = (0_u64..).zip(bytes.chunks(SLOT)).skip(1);
        erased.extend(
            slots.filter(|(_, slot)| slot.first() == Some(&ERASED)).map(|(number, _)| KeyRef(number)),
        );
    }
    Ok(erased.into_iter().collect())
}

fn open_or_create<S: Storage>(storage: &S, name: &str) -> Result<S::File, StorageError> {
    match storage.open(name, true) {
        Err(error) if error.kind == StorageErrorKind::NotFound => storage.create(name),
        other => other,
    }
}

impl<S: Storage> Inner<S> {
    /// The header is slot 0: a key like the others, whose wrapping tells whether the master key fits.
    fn check_header(&mut self) -> Result<(), KeyError> {
        let mut fresh = [false; 2];
        let mut fits = false;
        for (copy, fresh) in self.copies.iter().zip(&mut fresh) {
            let mut slot = [0; SLOT];
            copy.read_at(0, &mut slot)?;
            if slot == [0; SLOT] {
                *fresh = true;
            } else if slot[..8] != *MAGIC {
                return Err(KeyError::Format);
            } else {
                unwrap_key(&self.master, KeyRef(0), &slot[16..]).ok_or(KeyError::WrongMaster)?;
                fits = true;
            }
        }
        let unused = self.copies[0].length()?.max(self.copies[1].length()?) <= SLOT_U64;
        if !fits && !unused {
            return Err(KeyError::Format);
        }
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(MAGIC);
        let wrapped = self.wrap(KeyRef(0), &[0; KEY]);
        slot[16..16 + wrapped.len()].copy_from_slice(&wrapped);
        for (copy, fresh) in self.copies.iter().zip(fresh) {
            if fresh {
                copy.write_at(0, &slot)?;
                copy.sync_data()?;
            }
        }
        Ok(())
    }

    fn wrap(&mut self, key: KeyRef, secret: &[u8; KEY]) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        (self.entropy)(&mut nonce);
        let cipher = XChaCha20Poly1305::new((&*self.master).into());
        encrypt(&cipher, &nonce, key, secret)
    }

    fn write(&mut self, first: KeyRef, slots: &[u8]) -> Result<(), KeyError> {
        for copy in &self.copies {
            copy.write_at(first.0 * SLOT_U64, slots)?;
            copy.sync_data()?;
        }
        Ok(())
    }

    /// The key in its slot. Erased in one copy is erased: an erasure that was cut short in between counts.
    fn read(&self, key: KeyRef) -> Result<Zeroizing<[u8; KEY]>, KeyError> {
        if key.0 == 0 || key.0 >= self.next {
            return Err(KeyError::Unknown(key.0));
        }
        let mut found = None;
        for copy in &self.copies {
            let mut slot = [0; SLOT];
            copy.read_at(key.0 * SLOT_U64, &mut slot)?;
            match slot[0] {
                ERASED => return Err(KeyError::Erased),
                LIVE => found = found.or_else(|| unwrap_key(&self.master, key, &slot[16..])),
                _ => {}
            }
        }
        found.ok_or(KeyError::Unknown(key.0))
    }
}

fn encrypt(cipher: &XChaCha20Poly1305, nonce: &[u8; NONCE], key: KeyRef, plain: &[u8]) -> Vec<u8> {
    let aad = key.0.to_le_bytes();
    let payload = Payload { msg: plain, aad: &aad };
    let sealed = cipher.encrypt(XNonce::from_slice(nonce), payload);
    let mut out = nonce.to_vec();
    out.extend(sealed.expect("a message shorter than 256 GiB can be encrypted"));
    out
}

fn decrypt(cipher: &XChaCha20Poly1305, key: KeyRef, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_at_checked(NONCE)?;
    let aad = key.0.to_le_bytes();
    cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: &aad }).ok()
}

fn unwrap_key(master: &[u8; KEY], key: KeyRef, wrapped: &[u8]) -> Option<Zeroizing<[u8; KEY]>> {
    let cipher = XChaCha20Poly1305::new(master.into());
    let plain = Zeroizing::new(decrypt(&cipher, key, wrapped.get(..NONCE + KEY + TAG)?)?);
    let mut secret = Zeroizing::new([0; KEY]);
    secret.copy_from_slice(plain.get(..KEY)?);
    Some(secret)
}

impl<S: Storage> Keys for SlotKeys<S> {
    fn create(&self, count: usize) -> Result<Vec<KeyRef>, KeyError> {
        let mut inner = self.lock();
        let first = KeyRef(inner.next);
        let mut slots = Vec::with_capacity(count * SLOT);
        let mut made = Vec::with_capacity(count);
        for key in (first.0..).map(KeyRef).take(count) {
            let mut secret = Zeroizing::new([0; KEY]);
            (inner.entropy)(&mut *secret);
            let wrapped = inner.wrap(key, &secret);
            let mut slot = [0; SLOT];
            slot[0] = LIVE;
            slot[8..16].copy_from_slice(&key.0.to_le_bytes());
            slot[16..16 + wrapped.len()].copy_from_slice(&wrapped);
            slots.extend_from_slice(&slot);
            made.push(key);
        }
        // Numbers of a failed write are burnt: part of them may have reached the file.
        inner.next = made.last().map_or(inner.next, |last| last.0 + 1);
        inner.write(first, &slots)?;
        Ok(made)
    }

    fn seal(&self, key: KeyRef, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut inner = self.lock();
        let secret = inner.read(key)?;
        let mut nonce = [0; NONCE];
        (inner.entropy)(&mut nonce);
        let cipher = XChaCha20Poly1305::new((&*secret).into());
        let mut out = vec![SEALED_V1];
        out.extend(encrypt(&cipher, &nonce, key, plain));
        Ok(out)
    }

    fn unseal(&self, key: KeyRef, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let secret = self.lock().read(key)?;
        let cipher = XChaCha20Poly1305::new((&*secret).into());
        let Some((&SEALED_V1, body)) = sealed.split_first() else { return Err(KeyError::NotSealed) };
        decrypt(&cipher, key, body).ok_or(KeyError::NotSealed)
    }

    fn erase(&self, key: KeyRef) -> Result<(), KeyError> {
        let mut inner = self.lock();
        if key.0 == 0 {
            return Ok(());
        }
        // A key this file never had (a restore from before it was made) is marked too: it must not come back.
        inner.next = inner.next.max(key.0 + 1);
        let mut slot = [0; SLOT];
        slot[0] = ERASED;
        inner.write(key, &slot)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
