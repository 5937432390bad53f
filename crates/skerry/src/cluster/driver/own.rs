//! The branches of a node, one by one.

use std::sync::Arc;
use std::time::Instant;

use skerry_branch::BranchThread;
use skerry_directory::BranchRow;
use skerry_node::lease::Lease;

/// A branch that is here, or on its way in or out.
pub(super) struct Own {
    pub(super) row: BranchRow,
    pub(super) lease: Arc<Lease>,
    pub(super) state: State,
    /// Since when it is opened or closed, or was last told to be.
    pub(super) under_way: Instant,
}

/// How a branch is here.
pub(super) enum State {
    /// Its follower is being begun; perhaps it is to open as soon as that is done.
    Beginning {
        opens: bool,
    },
    Following(BranchThread),
    Opening,
    /// It is to be closed as soon as it has opened, or has begun to follow.
    Unwanted,
    Open(BranchThread),
    Failed,
    Closing,
}

impl State {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Beginning { opens: false } | Self::Following(_) => "following",
            Self::Beginning { opens: true } | Self::Opening => "opening",
            Self::Open(_) => "open",
            Self::Failed => "failed",
            Self::Unwanted | Self::Closing => "closing",
        }
    }

    /// Of a follower: the records that it has yet to read, as far as it knows.
    pub(super) fn behind(&self) -> Option<u64> {
        match self {
            Self::Following(follower) => follower.handle().following()?.behind(),
            _ => None,
        }
    }
}

/// How a branch ends here.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Close,
    /// Another node is near: its journal first.
    HandOver,
    /// It was followed.
    Unfollow,
}
