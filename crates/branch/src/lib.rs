//! One branch at work: requests in, replies out, and a journal that holds everything between.
//!
//! One writer owns the [`book`](skerry_book). It takes what is waiting, stamps it, decides, evolves, and
//! hands the batch to the journal; while that batch is being made durable it fills the next. Whatever
//! is nondeterministic (time, entropy, storage, background work) comes in as a parameter, so the
//! simulator runs this very code.
//!
//! ```text
//! BranchHandle ── Queue ──► Branch::turn ── batch ──► Journal ── durable ──► replies
//!   (any thread)  turns,      decide, evolve,            │
//!                 quotas      encode, index              └──► history, id runs, snapshots (jobs)
//! ```
//!
//! It refuses to know HTTP, JSON and other nodes; of other branches it knows what they [say](channels::message), not
//! where they are.
//!
//! # Invariants
//!
//! - **B1, durable first**: a reply, reads included, leaves only when every batch that it could have
//!   seen is durable.
//! - **B2, derived**: what outlives a failure besides the journal names the position and head hash it
//!   stands for, and holds nothing that is not durable.
//! - **B3, one no**: a request of an uncertain batch is answered *unknown*, never refused.
//! - **B4, alone**: a panic, a corrupt journal or a flood here is felt by no other branch.
//! - **B5, one owner answers**: under a lease, an answer leaves only if the lease was still good after it was made, or if the journal's
//!   store confirmed this owner after it was made, by an append or by a check.

pub mod api;
mod aside;
mod batch;
mod branch;
pub mod channels;
pub mod clock;
pub mod coverage;
pub mod evidence;
mod handle;
mod held;
pub mod history;
pub mod ids;
pub mod jobs;
mod leash;
mod look;
mod mending;
pub mod meters;
pub mod metrics;
mod open;
pub mod options;
pub mod queue;
mod records;
mod replica;
pub mod sabotage;
pub mod snapshot;
mod thread;
pub mod transit;
#[cfg(feature = "wire")]
mod wire;
mod work;

pub use api::{Body, Reply, Request};
pub use branch::{ArchiveReply, Branch, Condition, Followed, Parts};
pub use clock::Now;
pub use handle::{BranchHandle, Figures, Following, Watcher};
pub use leash::Leash;
pub use open::{Found, OpenFailure};
pub use options::Options;
/// Why something could not be read from a journal or its archive, as the errors of this crate hold it.
pub use skerry_journal::ReadError;
/// Customers' keys, as the branch holds them.
pub use skerry_keys as keys;
pub use thread::{BranchThread, Entropy};
pub use work::Fault;
