//! The journal: bytes, positions and epochs on stable storage.
//!
//! A journal is an append-only chain of batches; a batch is what one append makes durable. This crate
//! knows where batches lie, that they follow each other, that their roots hold, and who may append. It does
//! not know what the bytes of a record mean: no account, no amount, no customer.
//!
//! # Shape
//!
//! ```text
//! branch ── append ──► Journal (seam.rs) ── poll ──► durable
//!                         │                           │
//!                    LocalJournal                 JournalReader: read, read_record, scan
//!                         │ segments, mark
//!                    Storage (storage/): the file seam, where faults are injected
//!                    ┌────┴──────┐
//!              RealStorage   FaultStorage
//! ```
//!
//! # Invariants
//!
//! - No batch is written before the one in front of it has been synced. So whatever lies behind a batch is
//!   evidence that it was durable, and a bad batch with evidence behind it is damage, not a torn tail.
//! - No sync rewrites an acknowledged sector: in an open segment every batch begins on a boundary of 4096 bytes.
//! - A segment that was open when its writer went away is never appended to again.
//! - The durable mark is written after what it covers is durable; it is a lower bound, never a promise of more.

pub mod batch;
pub mod contract;
pub mod coverage;
pub mod error;
mod local;
pub mod mark;
mod memory;
pub mod seam;
mod segment;
pub mod storage;
mod verify;

pub use batch::{BatchView, SealedBatch, StoredRecord};
pub use error::{
    AppendErrorKind, AppendFault, AppendFaultKind, ArchiveError, Damage, DamageKind, OpenError, ReadError,
};
pub use local::{Lane, LocalJournal, LocalOptions, LocalReader, LocalStore, Mode, Shelf, export_from};
pub use memory::{MemoryJournal, MemoryReader, MemoryStore};
pub use seam::{
    Appended, Head, Journal, JournalReader, JournalStats, JournalStore, Opened, Position, Recovery, Shelved,
    Wake,
};
pub use storage::fault::{FaultKind, FaultPlan, FaultStorage};
pub use storage::real::RealStorage;
pub use storage::{Storage, StorageError, StorageErrorKind, StorageFile};
pub use verify::{Verified, export, verify};
