//! A bank of several nodes from one seed: who hosts a branch changes all the time, and nobody may ever notice.
//!
//! ```text
//! Fleet ─┬─ Machine ─┬─ Host        the real one, on clocks that drift, jump and go on while the process stands still
//!        │           ├─ Seat        the real branch under the real lease, over a store that all nodes reach
//!        │           └─ Mail        the post's wires on two buses that lose, double, delay and cut
//!        ├─ Machine …
//!        ├─ Watch                   of each branch: its store, its clients, its witness
//!        └─ Directory               the real one, which goes silent and loses asks and answers
//! ```
//!
//! Clients ask any node that has, or had, a branch: also one that stood still and does not know yet that another has it.
//!
//! # What it checks, beyond what it checks of one branch
//!
//! - An answer is borne out by the journal the moment it is heard, whoever gave it; a read is never older than what anybody was told before
//!   it was asked. So no two nodes answer for one branch with different truths.
//! - No two nodes count on the lease of one branch.
//! - A store that lost what it told is found out, unless nothing remembers; what peers hold is given back.
//! - Once all trouble has ended each branch is soon open on one node, everybody is answered, and no payment stays under way.

mod clients;
mod fleet;
mod machine;
mod mail;
mod mishaps;
mod rest;
mod seat;
mod store;
pub(crate) mod tally;
mod watch;

pub(crate) use fleet::Fleet;

use crate::world::BEGIN_US;

/// Deliberate bugs in what drives branches on nodes: each must be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bugs {
    /// A branch answers without looking at its lease.
    pub no_leash: bool,
    /// A lease is counted on a clock that stands still with the process.
    pub sleeping_clock: bool,
    /// A lease is given up before the branch is closed, which goes on counting on it.
    pub gives_up_early: bool,
    /// Whoever opens a journal does not raise its epoch.
    pub no_new_epoch: bool,
}

/// The world's wall clock.
fn wall_us(us: u64) -> u64 {
    BEGIN_US + us
}
