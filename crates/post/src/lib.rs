//! The post: carries what branches say to each other, straight inside a process or over a bus.
//!
//! ```text
//! branch's thread ── courier ──► straight: the queue of a branch of this process
//!                       │
//!                       └─► outbox: bounded ──► the post's thread ──► publish `channel.N` on the chosen bus
//!                                                     ▲
//!              queue of branch N ◄── the seal holds ──┴── heard on `channel.N`, on every bus that is configured
//! ```
//!
//! At most once is enough: the sender keeps what is open in its own journal and says it again until it is answered, and a number
//! that comes twice is answered with the outcome that was kept. So a bus may lose, double, delay and reorder, and two buses can
//! run side by side. Every process hears on all of its buses all the time and sends on one: choosing another is one store in
//! memory, and what was on its way on the one before arrives, or is said again on the other.
//!
//! # Invariants
//!
//! - What carries has a bound and drops when it is full, with a count; a branch's thread never waits for a bus.
//! - Bytes off a bus reach a branch only if the institution has sealed them, to that branch.
//! - It knows no NATS and no directory: who chooses, tells it.

mod carrier;
mod figures;
mod post;
mod wire;

pub use figures::Figures;
pub use post::{Connecting, LOCAL, NoWay, Post, PostOptions, PostThread, Route, subject};
pub use wire::{News, Wire, is_sealed};
