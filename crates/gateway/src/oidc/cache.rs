//! Tokens that were verified a moment ago: what they grant, so that the next request need not verify them again.
//!
//! # Invariants
//!
//! - Nothing is known here but what held in full under the keys that hold now: with other keys all of it is forgotten.
//! - Nothing outlives its token's `exp`, and a clock that goes back finds nothing.
//! - At most [`TOKENS_MAX`] tokens are known, by their hashes; no token's text is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Refusal;
use super::keys::Key;
use crate::tokens::Grant;

/// Tokens that are known at a time; the longest unused go first, by halves. A grant is seldom longer than 300 bytes and never than
/// 4 KiB, so this is 16 MiB at the very most.
pub(super) const TOKENS_MAX: usize = 4_096;

/// SHA-256 of a token's text.
pub(super) type TokenHash = [u8; 32];

#[derive(Debug, Clone)]
struct Known {
    grant: Arc<Grant>,
    verified_s: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Halves>);

#[derive(Debug, Default)]
struct Halves {
    /// The keys under which all of it was verified.
    keys: Arc<Vec<Key>>,
    newer: HashMap<TokenHash, Known>,
    older: HashMap<TokenHash, Known>,
}

impl Cache {
    /// What the token grants under `keys` at `now_s`; `None` if it must be verified.
    ///
    /// # Errors
    ///
    /// [`Refusal::Expired`]
    pub(super) fn find(
        &self,
        token: &TokenHash,
        keys: &Arc<Vec<Key>>,
        now_s: u64,
    ) -> Result<Option<Arc<Grant>>, Refusal> {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        halves.hold(keys);
        let Some(known) = halves.newer.get(token).or_else(|| halves.older.get(token)).cloned() else {
            return Ok(None);
        };
        if known.grant.expires_s.is_none_or(|expires_s| now_s >= expires_s) {
            halves.newer.remove(token);
            halves.older.remove(token);
            return Err(Refusal::Expired);
        }
        if now_s < known.verified_s {
            return Ok(None);
        }
        let grant = Arc::clone(&known.grant);
        if !halves.newer.contains_key(token) {
            halves.older.remove(token);
            halves.put(*token, known);
        }
        Ok(Some(grant))
    }

    /// Remembers what a token grants that was verified under `keys` at `now_s`.
    pub(super) fn keep(&self, token: TokenHash, keys: &Arc<Vec<Key>>, grant: &Arc<Grant>, now_s: u64) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Keys that came in between would not have been asked.
        if Arc::ptr_eq(&halves.keys, keys) {
            halves.put(token, Known { grant: Arc::clone(grant), verified_s: now_s });
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let halves = self.0.lock().unwrap();
        halves.newer.len() + halves.older.len()
    }
}

impl Halves {
    /// Forgets all that was verified under other keys. The set is held, so no other can lie at its address.
    fn hold(&mut self, keys: &Arc<Vec<Key>>) {
        if !Arc::ptr_eq(&self.keys, keys) {
            *self = Self { keys: Arc::clone(keys), ..Self::default() };
        }
    }

    fn put(&mut self, token: TokenHash, known: Known) {
        if self.newer.len() >= TOKENS_MAX / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(token, known);
    }
}
