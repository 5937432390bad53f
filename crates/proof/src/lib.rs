//! Hash chains, roots, receipts and checkpoints: all that it takes to verify a branch offline.
//!
//! A journal is a chain of batches: each header carries the hash of the one before it and the root
//! of a tree over its records. The roots of all batches are the leaves of a second tree, the
//! history; a checkpoint signs that tree's root and the head of the chain. A receipt leads from one
//! record through both trees to a checkpoint.
//!
//! ```text
//! record ─► leaf ─┐
//! record ─► leaf ─┴─► record root ─► history leaf ─┐
//!                     record root ─► history leaf ─┴─► history root ─► checkpoint ─► signature
//! ```
//!
//! This crate refuses to know what a record means, where batches are kept and what time it is. It
//! stands on no other crate of ours, so that whoever verifies need trust nothing else.
//!
//! # Invariants
//!
//! - **P1, one meaning**: each kind of hash has its own key or first byte ([`evidence`]); no bytes are valid as two.
//! - **P2, one encoding**: what decodes encodes back to the same bytes.
//! - **P3, no trust in bytes**: decoding and verifying arbitrary bytes ends in an error, never in a
//!   panic or in memory beyond the size of the input.

#![no_std]
// Tests are exempt: what goes wrong there shows.
#![cfg_attr(
    not(test),
    deny(
        clippy::float_arithmetic,
        clippy::as_conversions,
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing
    )
)]

extern crate alloc;

pub mod algorithm;
pub mod batch;
mod bytes;
pub mod checkpoint;
pub mod domain;
pub mod evidence;
pub mod leaves;
pub mod mmr;
pub mod receipt;
pub mod rotation;
pub mod signer;
pub mod sm2_signer;
pub mod tails;
pub mod tree;
pub mod walk;
mod wide;

pub use algorithm::{HashAlgorithm, SignatureAlgorithm};
pub use batch::{BatchError, BatchHeader};
pub use checkpoint::{Checkpoint, CheckpointError, CurrencyTotal, SignedCheckpoint};
pub use leaves::{RecordSalt, leaf_hash, leaf_hashes};
pub use mmr::Mmr;
pub use receipt::{Receipt, ReceiptError, Standing};
pub use rotation::{KeyHistory, Rotation, RotationError};
pub use signer::{Ed25519Signer, KeyId, KeyRing, PublicKey, SignError, Signature, Signer};
pub use sm2_signer::Sm2Signer;
pub use tails::{TailError, Tails};
pub use tree::{path, root, verify_path};
pub use walk::{Fault, Summary, Walk, WalkError, verify_export};

/// 32 bytes of BLAKE3 (or, where it says so, SHA-256 or SM3).
pub type Hash = [u8; 32];

/// Bytes of the fixed part of a record.
pub const RECORD_LENGTH: usize = 112;
