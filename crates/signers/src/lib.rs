//! Where signing keys live: the implementations of `proof`'s `Signer` seam that touch the machine.
//!
//! ```text
//! signer.key ── key_file ──► secret in memory ──► proof::signer::from_secret
//! a command  ── external ──► sign KEY MESSAGE │ signature …       the secret stays where it is
//! ```
//!
//! [`key_file`] is pure: bytes in, key out; who reads the file and the passphrase checks their modes. [`external`] runs a
//! child process, and believes nothing it says that does not verify under the pinned public key. [`serve`] is the other
//! end of that protocol, over a key file.
//!
//! This crate refuses to know what is signed, where a bank's folder is and what a rotation is.

pub mod answer;
pub mod external;
pub mod key_file;
pub mod serve;

pub use answer::{Answer, AnswerError};
pub use external::{External, ExternalSigner};
pub use key_file::{Cost, KeyFile, KeyFileError, SealedKey};
