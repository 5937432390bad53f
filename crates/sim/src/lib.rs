//! The whole bank on one thread from one seed, with faults.
//!
//! It runs the real `journal`, `branch` and `book`: the very code that serves customers, over a file seam that loses,
//! tears and breaks on purpose, under a clock that jumps, with clients that retry, collide and send rubbish. A
//! naive model of the bank judges every event that becomes durable; whatever a client was told is held against it,
//! and so is everything that the branch is after each opening. Same seed, same run; a failure is a seed.
//!
//! ```text
//! seed ─► Dice ─► World ─┬─ Cell ─┬─ Site    the real branch on a FaultStorage; power cuts, kills, restores
//!                        │        ├─ Desk    clients: requests, replies, what they were promised
//!                        │        └─ Oracle  walks the journal into Model (naive) and Book (from nothing)
//!                        ├─ Cell …
//!                        └─ Wire     carries their messages, and loses, doubles, delays and damages them
//! ```
//!
//! It knows no real file, clock, thread or network.
//!
//! # What it checks
//!
//! - What was acknowledged is there after every opening, once, with its result; refused stays refused; unknown is settled
//!   by asking again; nothing that was not asked for happened.
//! - Every movement and every refusal is the one that the model comes to at that place of the journal.
//! - Balances, holds, limits and trial balances are the model's; the book is, byte for byte, the one its events make.
//! - The hash chain verifies, checkpoints state what was there, receipts verify.
//! - What two branches say of the payments between them is the same, number by number; nothing is received that was not
//!   sent durably, nothing ends that was not received durably; at rest nothing is on its way and positions mirror.
//! - Queries, balances as of a date, days and look-ups answer what the model answers.

mod cell;
mod clients;
mod count;
mod dice;
mod inquiry;
mod jobs;
mod model;
mod nodes;
mod oracle;
mod pairs;
mod report;
mod rest;
mod shrink;
mod site;
mod tally;
mod troubles;
mod wire;
mod world;

pub use nodes::Bugs;
pub use report::{Campaign, Failure, Life, Report, World, campaign, live, run, run_nodes, run_over};
pub use shrink::shrink;
pub use skerry_branch::sabotage::Sabotage;
pub use tally::{Group, Tally};
