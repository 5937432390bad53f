//! The keys that lie ready for newcomers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use skerry_branch::keys::{KeyError, KeyRef, Keys};

/// Keys made at once: each making syncs two files.
const KEYS_TOGETHER: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    ready: Mutex<BTreeMap<u16, Vec<KeyRef>>>,
}

impl Newcomers {
    /// A key that nobody has. Those left over at a restart are never used.
    ///
    /// # Errors
    ///
    /// As [`Keys::create`].
    pub(crate) fn key(&self, branch: u16, keys: &dyn Keys) -> Result<KeyRef, KeyError> {
        // Held while keys are made: whoever waits finds them ready.
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = ready.entry(branch).or_default();
        if ready.is_empty() {
            *ready = keys.create(KEYS_TOGETHER)?;
        }
        ready.pop().ok_or(KeyError::Unknown(0))
    }
}
