//! Keys of the customers of a branch that is open in another process.
//!
//! What is sealed or unsealed there travels in the clear within the bus, which off the loopback is encrypted by its own
//! means.

use std::sync::Arc;

use bytes::Bytes;
use skerry_branch::keys::{KeyError, KeyRef, Keys};

use super::seats::{Lost, Shared};
use super::wire::{Ask, Told};

/// How long a key is waited for.
const PATIENCE_US: u64 = 10_000_000;

pub(crate) struct RemoteKeys {
    pub(crate) shared: Arc<Shared>,
    pub(crate) branch: u16,
}

impl RemoteKeys {
    fn ask(&self, ask: Ask) -> Result<Told, KeyError> {
        match self.shared.ask_and_wait(self.branch, ask, PATIENCE_US) {
            Ok(Told::Keyless(fault)) => Err(fault.into()),
            Ok(told) => Ok(told),
            Err(lost) => Err(away(&lost)),
        }
    }

    fn list(&self, ask: Ask) -> Result<Vec<KeyRef>, KeyError> {
        match self.ask(ask)? {
            Told::Keys(keys) => Ok(keys),
            _ => strange(),
        }
    }
}

fn away(lost: &Lost) -> KeyError {
    KeyError::Away(lost.to_string())
}

fn strange<T>() -> Result<T, KeyError> {
    Err(KeyError::Away("the process that has them answered something else".to_owned()))
}

impl Keys for RemoteKeys {
    fn create(&self, count: usize) -> Result<Vec<KeyRef>, KeyError> {
        let mut made = Vec::new();
        // One question makes no more than so many: the other side bounds it too.
        while made.len() < count {
            let left = u64::try_from(count - made.len()).unwrap_or(u64::MAX);
            match self.ask(Ask::CreateKeys(left))? {
                Told::Keys(keys) if !keys.is_empty() => made.extend(keys),
                _ => return strange(),
            }
        }
        made.truncate(count);
        Ok(made)
    }

    fn seal(&self, key: KeyRef, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self.ask(Ask::SealUnder { key, plain: Bytes::copy_from_slice(plain) })? {
            Told::Bytes(sealed) => Ok(sealed.into()),
            _ => strange(),
        }
    }

    fn unseal(&self, key: KeyRef, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self.ask(Ask::Unseal { key, sealed: Bytes::copy_from_slice(sealed) })? {
            Told::Bytes(plain) => Ok(plain.into()),
            _ => strange(),
        }
    }

    fn erase(&self, key: KeyRef) -> Result<(), KeyError> {
        match self.ask(Ask::EraseKey(key))? {
            Told::Done(_) => Ok(()),
            _ => strange(),
        }
    }

    fn erased(&self) -> Result<Vec<KeyRef>, KeyError> {
        self.list(Ask::ErasedKeys)
    }

    fn not_erased(&self, keys: &[KeyRef]) -> Result<Vec<KeyRef>, KeyError> {
        self.list(Ask::NotErased(keys.to_vec()))
    }
}
