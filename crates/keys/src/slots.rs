//! Keys in two local files: a slot each, in both. Erasing overwrites the slot with zeros, in both copies, and syncs: the
//! ciphertext in journals and backups is then noise for ever.
//!
//! A torn write in one copy harms no key: the other copy is written only after the first is durable. The files have one owner at a
//! time; the data folder's lock sees to that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use skerry_journal::storage::read_whole;
use skerry_journal::{Storage, StorageError, StorageErrorKind, StorageFile};

use crate::wrapping::{Entropy, Master, Secret, WRAPPED};
use crate::{KeyError, KeyRef, Keys};

/// The names of the two copies.
pub const FILES: [&str; 2] = ["keys-1.skk", "keys-2.skk"];
const SLOT: usize = 128;
const SLOT_U64: u64 = 128;
const MAGIC: &[u8; 8] = b"SKKEYS01";
const LIVE: u8 = 1;
const ERASED: u8 = 2;

type Slot = [u8; SLOT];

/// Slots in two files of a storage.
pub struct SlotKeys<S: Storage> {
    inner: Mutex<Inner<S>>,
}

struct Inner<S: Storage> {
    copies: [S::File; 2],
    master: Master,
    entropy: Entropy,
    next: u64,
}

impl<S: Storage> SlotKeys<S> {
    /// Opens the key files in `storage`, or makes them.
    ///
    /// # Errors
    ///
    /// [`KeyError::WrongMaster`] if they were made under another master key; as the storage says.
    pub fn open(storage: &S, master: [u8; 32], entropy: Entropy) -> Result<Self, KeyError> {
        let copies = [open_or_create(storage, FILES[0])?, open_or_create(storage, FILES[1])?];
        let mut inner: Inner<S> = Inner { copies, master: Master::new(master), entropy, next: 1 };
        inner.check_header()?;
        storage.sync_dir()?;
        let longest = inner.copies[0].length()?.max(inner.copies[1].length()?);
        inner.next = longest.div_ceil(SLOT_U64).max(1);
        Ok(Self { inner: Mutex::new(inner) })
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

/// Lays wrapped keys of another place down as key files: for a copy. No master key is needed.
#[derive(Debug)]
pub struct SlotCopy<F> {
    copies: [F; 2],
}

impl<F: StorageFile> SlotCopy<F> {
    /// New files in `storage`; `header` is the wrapped key that the other place is known by.
    ///
    /// # Errors
    ///
    /// As the storage says, also if there are key files already.
    pub fn begin<S: Storage<File = F>>(storage: &S, header: &[u8; WRAPPED]) -> Result<Self, KeyError> {
        let copies = [storage.create(FILES[0])?, storage.create(FILES[1])?];
        for copy in &copies {
            copy.write_at(0, &header_slot(header))?;
        }
        storage.sync_dir()?;
        Ok(Self { copies })
    }

    /// The key `key`; `None` if it is erased.
    ///
    /// # Errors
    ///
    /// As the storage says.
    pub fn put(&self, key: KeyRef, wrapped: Option<&[u8; WRAPPED]>) -> Result<(), KeyError> {
        let slot = wrapped.map_or(erased_slot(), |wrapped| live_slot(key, wrapped));
        for copy in &self.copies {
            copy.write_at(key.0 * SLOT_U64, &slot)?;
        }
        Ok(())
    }

    /// Makes all of it durable.
    ///
    /// # Errors
    ///
    /// As the storage says.
    pub fn finish(self) -> Result<(), KeyError> {
        self.copies.iter().try_for_each(StorageFile::sync_data)?;
        Ok(())
    }
}

fn live_slot(key: KeyRef, wrapped: &[u8; WRAPPED]) -> Slot {
    let mut slot = [0; SLOT];
    slot[0] = LIVE;
    slot[8..16].copy_from_slice(&key.0.to_le_bytes());
    slot[16..16 + WRAPPED].copy_from_slice(wrapped);
    slot
}

const fn erased_slot() -> Slot {
    let mut slot = [0; SLOT];
    slot[0] = ERASED;
    slot
}

/// The header is slot 0: a key like the others, whose wrapping tells whether the master key fits.
fn header_slot(wrapped: &[u8; WRAPPED]) -> Slot {
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(MAGIC);
    slot[16..16 + WRAPPED].copy_from_slice(wrapped);
    slot
}

fn open_or_create<S: Storage>(storage: &S, name: &str) -> Result<S::File, StorageError> {
    match storage.open(name, true) {
        Err(error) if error.kind == StorageErrorKind::NotFound => storage.create(name),
        other => other,
    }
}

impl<S: Storage> Inner<S> {
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
                self.master.unwrap(KeyRef(0), &slot[16..]).ok_or(KeyError::WrongMaster)?;
                fits = true;
            }
        }
        let unused = self.copies[0].length()?.max(self.copies[1].length()?) <= SLOT_U64;
        if !fits && !unused {
            return Err(KeyError::Format);
        }
        let wrapped = self.master.wrap(KeyRef(0), &Secret::of_header(), &mut self.entropy);
        for (copy, fresh) in self.copies.iter().zip(fresh) {
            if fresh {
                copy.write_at(0, &header_slot(&wrapped))?;
                copy.sync_data()?;
            }
        }
        Ok(())
    }

    fn write(&mut self, first: KeyRef, slots: &[u8]) -> Result<(), KeyError> {
        for copy in &self.copies {
            copy.write_at(first.0 * SLOT_U64, slots)?;
            copy.sync_data()?;
        }
        Ok(())
    }

    /// The key in its slot. Erased in one copy is erased: an erasure that was cut short in between counts.
    fn read(&self, key: KeyRef) -> Result<Secret, KeyError> {
        if key.0 == 0 || key.0 >= self.next {
            return Err(KeyError::Unknown(key.0));
        }
        let mut found = None;
        for copy in &self.copies {
            let mut slot = [0; SLOT];
            copy.read_at(key.0 * SLOT_U64, &mut slot)?;
            match slot[0] {
                ERASED => return Err(KeyError::Erased),
                LIVE => found = found.or_else(|| self.master.unwrap(key, &slot[16..])),
                _ => {}
            }
        }
        found.ok_or(KeyError::Unknown(key.0))
    }

    fn is_erased(&self, key: KeyRef) -> Result<bool, KeyError> {
        match self.read(key) {
            Err(KeyError::Erased) => Ok(true),
            Err(error @ KeyError::Storage(_)) => Err(error),
            _ => Ok(false),
        }
    }
}

impl<S: Storage> Keys for SlotKeys<S> {
    fn create(&self, count: usize) -> Result<Vec<KeyRef>, KeyError> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let first = KeyRef(inner.next);
        let mut slots = Vec::with_capacity(count * SLOT);
        let mut made = Vec::with_capacity(count);
        for key in (first.0..).map(KeyRef).take(count) {
            let secret = Secret::draw(&mut inner.entropy);
            let wrapped = inner.master.wrap(key, &secret, &mut inner.entropy);
            slots.extend_from_slice(&live_slot(key, &wrapped));
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
        Ok(secret.seal(key, plain, &mut inner.entropy))
    }

    fn unseal(&self, key: KeyRef, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let secret = self.lock().read(key)?;
        secret.unseal(key, sealed)
    }

    fn erase(&self, key: KeyRef) -> Result<(), KeyError> {
        let mut inner = self.lock();
        if key.0 == 0 {
            return Ok(());
        }
        inner.next = inner.next.max(key.0 + 1);
        inner.write(key, &erased_slot())
    }

    fn erased(&self) -> Result<Vec<KeyRef>, KeyError> {
        let inner = self.lock();
        let mut erased = Vec::new();
        for key in (1..inner.next).map(KeyRef) {
            if inner.is_erased(key)? {
                erased.push(key);
            }
        }
        Ok(erased)
    }

    fn not_erased(&self, keys: &[KeyRef]) -> Result<Vec<KeyRef>, KeyError> {
        let inner = self.lock();
        let mut left = Vec::new();
        for key in keys {
            if !inner.is_erased(*key)? {
                left.push(*key);
            }
        }
        Ok(left)
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
