//! Hosting branches: where a branch sits, and how whoever asks it reaches it.
//!
//! Start with [`seat`]: the narrow trait by which a gateway asks a branch. [`hosted`] is a branch of this process. It
//! refuses to know HTTP and JSON.

mod figures;
pub mod host;
pub mod hosted;
pub mod lease;
pub mod plan;
pub mod seat;

pub use hosted::Hosted;
pub use seat::{Before, Health, Seat, Trouble};
