//! Branches that are open in another process, reached over the bus.
//!
//! ```text
//! RemoteSeat ── submit, query ──► queue ──► RemoteSeats' thread ── request seat.<node>.<branch> ──► Holder's thread
//!     ▲                                        │      ▲                                            │        │
//!     └── durable, health, room: at hand ◄── table ◄──┴────── publish here.<branch> ◄──────────────┘    branch, pool
//! ```
//!
//! Start with [`wire`] for what is said. [`Holder`] answers for the branches that are open in its process and announces
//! them; [`RemoteSeats`] hears who has which and gives a [`Seat`](crate::Seat) for each.
//!
//! # Invariants
//!
//! - **N1, one holder**: of two processes that say that they have a branch, the one with the higher epoch is asked, and
//!   what the other one says or answers is dropped.
//! - **N2, once**: a request is sent again only if it is known that nothing was done. Whose fate is unknown ends as
//!   [`Reply::Unknown`](skerry_branch::api::Reply::Unknown), and the client's retry with the same id tells.
//! - **N3, bounded**: what waits here, in the bus and in the holder's pool has a bound each, and beyond it says busy.
//! - **N4, sealed**: every word carries a seal under the bank's key; whoever does not have it can neither ask nor answer.
//!   It hides nothing: off the loopback the bus is encrypted by its own means.

mod holder;
mod keys;
mod pool;
mod seats;
mod serving;
mod stand;
mod table;
pub mod wire;

use std::sync::OnceLock;
use std::time::Instant;

use skerry_bus::Moment;

pub use holder::{Holder, HolderOptions};
pub use seats::{RemoteOptions, RemoteSeats};
pub use stand::RemoteSeat;

/// Microseconds since this process first asked: the one clock of all its endpoints, as the bus wants it.
#[must_use]
pub fn now() -> Moment {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let begun = BEGUN.get_or_init(Instant::now);
    Moment(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// The wall clock, microseconds since 1970.
pub(crate) fn wall_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Where a branch is announced.
#[must_use]
pub fn subject_of_here(branch: u16) -> skerry_bus::Subject {
    skerry_bus::Subject::new(&format!("here.{branch}")).expect("a number makes a subject")
}

/// Where a branch is asked that is open in the process `node`.
pub(crate) fn subject(node: skerry_bus::Name, branch: u16) -> skerry_bus::Subject {
    skerry_bus::Subject::new(&format!("seat.{node}.{branch}")).expect("a name and a number make a subject")
}
