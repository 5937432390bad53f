//! What happened to an id before: asked of the branch's index, because the ledger keeps no history.

use crate::types::{Moved, MovedKind, TransferId};

/// What an id was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// It moved money, or tried to by holding it.
    Moved {
        /// The event.
        moved: Moved,
        /// For a [`MovedKind::Held`]: how it was resolved, `None` while open. For a posted transfer:
        /// `Some(MovedKind::Posted)` once a reversal of it was posted.
        resolved: Option<MovedKind>,
    },
    /// It was refused, and the refusal was journaled.
    Refused {
        /// The refused request's digest.
        digest: u64,
        /// [`Rejection::parts`](crate::Rejection::parts) of the refusal.
        code: u16,
        /// What there was.
        have: i128,
        /// What was needed.
        need: u128,
    },
    /// It names something that is not a transfer.
    Foreign,
}

/// The branch's index of ids.
///
/// An implementation answers for every event evolved so far, those of the batch being filled included:
/// an id that it forgets could move money twice.
pub trait Past {
    /// What `id` was used for, `None` if it never was. Asked once for every new transfer, and once for
    /// `related` when that is no open hold.
    fn find(&self, id: TransferId) -> Option<Earlier>;
}

/// Nothing ever happened: for measurements and tests of a single step.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPast;

impl Past for NoPast {
    fn find(&self, _: TransferId) -> Option<Earlier> {
        None
    }
}
