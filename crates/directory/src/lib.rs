//! The directory: who lives where.
//!
//! It knows which branches, stores and nodes there are, which node hosts which branch and until when, and to which
//! customer a document, a telephone number or an institution's own customer number leads. It does not know what is in a
//! book, it sees no name and no document (aliases are HMACs under the institution's secret), and it holds no secret.
//!
//! # Shape
//!
//! ```text
//! submit(Ask) ─► Directory (seam.rs) ─► poll ─► Told
//!                    │
//!        ┌───────────┴─────────────┐
//!   Embedded                  skerry-postgres
//!   Tables in memory · aliases in a file, offsets in memory · a log that is synced
//!                    │
//!              Storage: the journal crate's file seam, where faults are injected
//! ```
//!
//! A customer is opened in three steps, each of which may be repeated: [`Ask::Reserve`] binds the aliases to one branch,
//! that branch journals the customer (its own book refuses a second one with the same document), [`Ask::Confirm`] puts the
//! customer's number in. Whoever comes with the same document in between is sent to the same branch, so one document never
//! lands in two.
//!
//! # Invariants
//!
//! - **One branch**: at any time an alias leads to at most one branch, reserved or confirmed.
//! - **Derived**: what is in here about customers can be had from the branches again ([`Ask::Rebuild`]); a damaged
//!   file is thrown away. Until a rebuild has ended nobody is placed.
//! - **Only who may try**: a lease keeps two nodes from trying at once. Who may *write* is decided by the epoch in the
//!   journal's own store, which is not here.
//! - No clock: time is what [`Directory::poll`] is told. Only [`DirectoryThread`] has a thread.

pub mod assign;
mod check;
pub mod contract;
mod embedded;
mod faults;
pub mod keeper;
pub mod rows;
pub mod seam;
mod thread;

pub use embedded::{Embedded, EmbeddedError, EmbeddedOptions, EmbeddedStats, Recovery};
pub use embedded::{log, record};
pub use faults::{FaultyDirectory, Troubles, Weather};
pub use keeper::{Keeper, Sent};
pub use rows::{
    Alias, AliasKind, BranchEntry, BranchRow, BranchState, BusRow, CustomerRef, DrainRow, Follow, Holder,
    LeaseView, Map, Mode, Name, NodeEntry, NodeRow, Room, Setting, StoreRow, TextError, Where, Who,
};
pub use seam::{
    Answered, Ask, Busy, CLAIM_US_MAX, Choice, Directory, Fault, Finding, Now, Rebuild, Refusal, Reserve,
    Ticket, Told, Wake,
};
pub use thread::{Answer, DirectoryHandle, DirectoryThread, NotAsked};
