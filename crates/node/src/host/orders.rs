//! How a host is set up, what it orders, and what it is told of branches.

use skerry_directory::{Ask, BranchRow, NodeRow};

/// How long a lease is, usually, in microseconds. A node that was silent for longer is given nothing.
pub const LEASE_US: u64 = 2_000_000;

/// How a node hosts. Times in microseconds.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// What the node says of itself.
    pub node: NodeRow,
    /// Another at each start of the process.
    pub incarnation: u64,
    /// How long a lease is.
    pub lease_us: u64,
    /// So long before its end it is not relied upon.
    pub margin_us: u64,
    /// How often it looks at the map and says that it is there.
    pub look_us: u64,
    /// How often it looks at the map while a branch that it follows closely is about to come.
    pub near_look_us: u64,
    /// A branch may be sick for so long before it is given up.
    pub sick_us: u64,
    /// The plan must have named another node for so long before a branch moves there.
    pub calm_us: u64,
    /// After a branch that did not open it is left to others for so long, doubled each time.
    pub back_off_us: u64,
    /// It says that it has no room: all nodes, of whatever release, give it only what operators place on it.
    pub gray: bool,
}

impl HostOptions {
    /// The usual ones: leases of two seconds.
    #[must_use]
    pub const fn new(node: NodeRow, incarnation: u64) -> Self {
        Self {
            node,
            incarnation,
            lease_us: LEASE_US,
            margin_us: 200_000,
            look_us: 500_000,
            near_look_us: 25_000,
            sick_us: 3_000_000,
            calm_us: 1_000_000,
            back_off_us: 2_000_000,
            gray: false,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Ask the directory; its answer goes to [`Host::heard`] under this number.
    Ask(u64, Ask),
    /// Open this branch, from its follower if it is followed here; its condition goes to [`Host::seen`].
    Open(BranchRow),
    /// Close this branch.
    Close(u16),
    /// Let go of this branch's journal first and finish the rest after [`Seen::Released`]: another node is near.
    HandOver(u16),
    /// Follow this branch.
    Follow(BranchRow),
    /// Follow this branch no more.
    Unfollow(u16),
}

/// How a branch is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It serves.
    Open,
    /// It did not open, or stopped; or it cannot be followed.
    Sick,
    /// It is followed, and so many records behind, as far as that is known.
    Follows(Option<u64>),
    /// Its journal is let go; its files are still being closed.
    Released,
    /// It is closed, and nothing of it is left here.
    Closed,
}
