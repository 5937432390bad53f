//! Domain events: what the journals say, told as CloudEvents 1.0 to whoever may hear it.
//!
//! ```text
//! journal ── Seat::records ──► Filter::tell ──► Told ──► a page, a stream, a webhook
//!    │                          (domain.rs)      │
//!    └─ durable moved ── News ──► wakes them     └─ with the Cursor to go on from
//! ```
//!
//! There is no outbox: an event is a record of the journal in other words, made when somebody reads. So none is told
//! that is not durable, none is lost by an outage of ours or theirs, and a cursor is good for as long as the journal is.
//! A branch's thread has no part in it.
//!
//! # Invariants
//!
//! - **E1, same**: the same record gives the same event, with the same id, however often and to whomever it is told.
//! - **E2, order**: events of one branch are told in the order of its journal.
//! - **E3, ids only**: no event holds a name, a document, a contact, a reference, a note or a principal.

pub mod cursor;
mod domain;
pub(crate) mod news;
pub mod outlet;
pub(crate) mod reader;
pub(crate) mod stream;

pub use domain::TYPES;
pub(crate) use domain::{Told, test as test_event};
pub(crate) use news::News;
