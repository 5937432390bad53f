//! The book: the one state machine that a branch runs, and the formats of what it journals.
//!
//! Around the [ledger](skerry_ledger), which knows only accounts and money, stand customers, the chart of accounts,
//! products, the calendar, four eyes, idempotency keys and the branch's own life. It knows no storage, no network,
//! no clock, no randomness, and no personal data: names arrive as ciphertext and leave it as they came.
//!
//! # Shape
//!
//! ```text
//! Command, Transfer ── decide ──► Ok(Decision, Moved) ── evolve ──► next state
//!                        │                 │
//!                        └► Err(Rejection) └── record::encode ──► the journal
//! ```
//!
//! Start with [`Book::decide`] and [`Book::decide_transfer`]; what is journaled is in [`event`], byte by byte in
//! [`record`].
//!
//! # Invariants
//!
//! [`invariants::check`] recomputes them; property tests, the simulator and debug builds share it.
//!
//! - **K1, replay**: the same events give the same image, byte for byte, whatever the seed.
//! - **K2, dense**: customers and accounts are numbered from 1 without gaps, and every account belongs to the chain
//!   of exactly one customer.
//! - **K3, heads**: every head of the chart is open in every currency in use.
//! - **K4, once**: an idempotency key answers one request only for at least a day.
//! - **K5, four eyes**: approver and proposer differ.
//! - **K6, channels**: transit and position are what the [channels](channel) say.

#![no_std]
#![deny(
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing
)]

extern crate alloc;

pub mod actor;
mod book;
pub mod channel;
pub mod chart;
pub mod command;
mod crossing;
mod customers;
mod decide;
pub mod event;
mod evolve;
mod hash;
mod image;
pub mod invariants;
mod keys;
pub mod packed;
mod paged;
pub mod policy;
pub mod record;
mod rejection;
mod status;
mod transfers;
mod wire;

pub use actor::{Actor, Cause, Principal, Role};
pub use book::{ARCHIVE_LEVEL, Book, FORMAT_LEVEL, derive_id};
pub use channel::{CHANNEL_LEVEL, Channel, Payment, RECOVERY_LEVEL};
pub use chart::{Chart, Class, Head, Product};
pub use command::{Command, Context, Decision, Done};
pub use crossing::Crossing;
pub use customers::Customer;
pub use event::Event;
pub use hash::{Purpose, Seed};
pub use image::{BookImage, ReadError};
pub use rejection::{ChartFault, Rejection};
pub use status::{Status, TrialLine};
pub use transfers::Sender;
