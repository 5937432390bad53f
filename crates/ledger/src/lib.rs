//! The ledger: a deterministic double-entry state machine for one branch.
//!
//! Give two ledgers the same events in the same order and they hold the same balances, byte for byte.
//! Replication, recovery and audit rest on that sentence, so this crate has no clock, no randomness, no
//! I/O and no floats; `no_std` and the lints below see to it. It knows accounts, transfers, holds and
//! limits. It refuses to know customers, products, storage and network.
//!
//! # Shape
//!
//! ```text
//! Transfer ───── decide ──► Ok(Moved) ──── evolve ──► next state
//!                  │
//!                  └──────► Err(Rejection)            state untouched
//! ```
//!
//! `decide` looks and never touches; `evolve` touches and never refuses. A linked chain is decided on an
//! [overlay](crate::Ledger::decide_chain) of what it touches, by the same rules. Which refusal wins when
//! several rules are broken is written down in [`precedence`].
//!
//! # Invariants
//!
//! [`invariants::check`] recomputes them from nothing; property tests, the simulator and debug builds share it.
//!
//! - **Balanced**: per currency, debits equal credits, posted and pending.
//! - **Held**: an account's pending totals and count of holds are those of the open holds on it.
//! - **Trial**: per booking date, value date and currency the heads' debits equal their credits, and a
//!   head's movement is that of the accounts that post to it.
//! - **Closing**: an account is closing exactly while a hold that closes it is open.
//! - **Found**: every open hold is found by its id, and every hold that expires is in the expiry queue.

#![no_std]
#![deny(clippy::float_arithmetic, clippy::as_conversions)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

extern crate alloc;

mod account;
mod chain;
mod holds;
mod image;
pub mod invariants;
mod ledger;
mod operations;
mod paged;
mod past;
mod rejection;
mod rules;
#[cfg(feature = "sabotage")]
pub mod sabotage;
mod table;
mod trial;
#[expect(
    clippy::as_conversions,
    reason = "widening and masked casts in const fn, where From cannot be called"
)]
mod types;

/// Which refusal is given when several rules are broken at once.
#[doc = include_str!("precedence.md")]
pub mod precedence {}

pub use account::{Account, Limit, UNLIMITED};
pub use holds::Hold;
pub use image::{LedgerImage, ReadError};
pub use ledger::Ledger;
pub use operations::{AccountCommand, AccountEvent, AccountOpened, HeadOpened, HeadSlot, Sides};
pub use past::{Earlier, NoPast, Past};
pub use rejection::Rejection;
pub use table::Table;
pub use trial::{Basis, TrialRow};
pub use types::{AccountKind, AccountRef, Flags, Imported, Moved, MovedKind, Stamp, Transfer, TransferId};
