//! Keys of customers: what makes personal data readable, and what erasure takes away.
//!
//! Personal data is journaled only as ciphertext under a key per customer. [`Keys`] is the seam; [`SlotKeys`] keeps each key
//! in two local files, `skerry-postgres` in a table beside the journals. Both keep it wrapped by the bank's master key, in the same
//! bytes ([`Master`]). One suite, [`contract`], runs on both.
//!
//! It knows no customer: a [`KeyRef`] is all the book has.
//!
//! # What an implementation promises
//!
//! - **K1, kept**: a reference that was given out is durable, and is never given out again.
//! - **K2, gone**: an erased key stays erased, whoever opens the place; erasing twice is erasing once. The place itself holds
//!   its wrapped bytes no more.
//! - **K3, one master**: keys that another master key wrapped are refused before anything is done with them.
//! - **K4, no guessing**: a creation of which the outcome is not known gives no reference out, and burns its numbers.

pub mod contract;
mod slots;
mod wrapping;

use skerry_journal::StorageError;

pub use slots::{FILES, SlotCopy, SlotKeys, erased_in};
pub use wrapping::{Entropy, Master, Secret, WRAPPED};

/// Names a key. Dense from 1; 0 names none.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef(pub u64);

/// What went wrong with a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It was erased: what was sealed under it is gone.
    #[error("the key is erased")]
    Erased,
    /// There never was such a key, or what is kept of it is damaged.
    #[error("there is no key {0}")]
    Unknown(u64),
    /// The master key is not the one that wrapped these keys.
    #[error("the master key does not fit the customers' keys")]
    WrongMaster,
    /// The sealed bytes were not sealed under this key.
    #[error("could not unseal: the bytes do not belong to this key")]
    NotSealed,
    /// The place of the keys has another format.
    #[error("the customers' keys have an unknown format")]
    Format,
    /// They are kept elsewhere, by a store or another process, which cannot be reached or did not answer in time.
    #[error("could not reach the customers' keys: {0}")]
    Away(String),
    /// The machine that keeps them let us down.
    #[error("could not read or write the customers' keys")]
    Storage(#[from] StorageError),
}

impl KeyError {
    /// Whether the same may do later: what keeps the keys failed, and not the key that was asked for.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Storage(_))
    }
}

/// Where the keys of one branch's customers are kept.
///
/// Calls may come from any thread. After `erase` has returned `Ok` no later call, also after a crash, unseals
/// anything under that key.
pub trait Keys: Send + Sync {
    /// Makes `count` keys, durable when this returns.
    ///
    /// # Errors
    ///
    /// As the place says; then none is given out.
    fn create(&self, count: usize) -> Result<Vec<KeyRef>, KeyError>;

    /// Seals `plain` under `key`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Erased`], [`KeyError::Unknown`], or as the place says.
    fn seal(&self, key: KeyRef, plain: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Unseals what [`seal`](Self::seal) made.
    ///
    /// # Errors
    ///
    /// As for sealing, and [`KeyError::NotSealed`].
    fn unseal(&self, key: KeyRef, sealed: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Erases `key` for ever, also one that this place never had (it is from before the key was made): it must not come back.
    ///
    /// # Errors
    ///
    /// As the place says; the caller must try again.
    fn erase(&self, key: KeyRef) -> Result<(), KeyError>;

    /// All erased keys in order: what a restored copy must not bring back.
    ///
    /// # Errors
    ///
    /// As the place says.
    fn erased(&self) -> Result<Vec<KeyRef>, KeyError>;

    /// Those of `keys` that are not erased here.
    ///
    /// # Errors
    ///
    /// As the place says.
    fn not_erased(&self, keys: &[KeyRef]) -> Result<Vec<KeyRef>, KeyError>;
}
