//! Hosting branches: where a branch sits, and how whoever asks it reaches it.
//!
//! ```text
//! gateway ── Seat ──► hosted::Hosted ──► branch of this process
//!              │
//!              └────► remote::RemoteSeat ── bus ──► remote::Holder ──► Hosted ──► branch of another process
//! ```
//!
//! Start with [`seat`]: the narrow trait by which a gateway asks a branch. It refuses to know HTTP and JSON, and what
//! journals and books are made of.

mod figures;
pub mod host;
pub mod hosted;
pub mod lease;
pub mod plan;
#[cfg(feature = "remote")]
pub mod remote;
pub mod seat;

pub use hosted::Hosted;
pub use seat::{Before, Health, Seat, Trouble};
