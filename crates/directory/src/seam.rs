//! The `Directory` seam: what can be asked, what is told, and what every implementation promises.
//!
//! Submit and poll, no `async`: [`Directory::submit`] takes an ask and returns at once, [`Directory::poll`] tells later.
//! Implementations: [`Embedded`](crate::Embedded) in the data folder, `skerry-postgres` for many machines,
//! [`FaultyDirectory`](crate::FaultyDirectory) around either. One suite,
//! [`check_contract`](crate::contract::check_contract), runs on all.
//!
//! # What an implementation promises
//!
//! - **D1, answered**: each ask that was taken is answered exactly once, in words ([`Told`]) or by [`Fault::Unknown`].
//! - **D2, again**: after an unknown outcome the same ask may be sent again, any number of times: it does nothing twice.
//! - **D3, kept**: what was told is so after the directory was ended in any way and started again. (Leases, rooms
//!   and what nodes follow aside: they are for a while only. A confirmation alone may be forgotten; its reservation then stands again.)
//! - **D4, one branch**: an alias leads to at most one branch at a time, however many ask at once. A reservation is bound to
//!   its branch until it is confirmed there, or until it is released after every claim on it has run out.
//! - **D5, one holder**: on the directory's own clock no two holders have a lease of one branch at once; a lease is given to
//!   another only after it has run its full time from when it was last granted, or was given up.
//! - **D6, seen**: an ask that is submitted after another was answered sees what that one did.
//! - **D7, versions**: each change of the map makes its version greater, also over restarts; under the same version there are
//!   the same branches, stores, nodes, drains, holders and chosen bus, except for leases that ran out. What nodes follow is
//!   read with the whole map: it changes without a version.
//! - **D8, bounded**: more asks than it has room for are refused as [`Busy`]; batches and lists have a bound each.

use std::sync::Arc;

use crate::rows::{
    Alias, BranchRow, CustomerRef, Follow, Holder, Map, Name, NodeRow, Room, Setting, StoreRow, Who,
};

/// A claim runs out after this, at most: two minutes, longer than any request lives.
pub const CLAIM_US_MAX: u64 = 120_000_000;
/// Leases are between a tenth of a second and a minute.
pub const LEASE_US: std::ops::RangeInclusive<u64> = 100_000..=60_000_000;
/// Aliases of one customer, at most.
pub const ALIASES_MAX: usize = 4;
/// Items of a list in one ask, at most.
pub const LIST_MAX: usize = 4_096;
/// Branches are numbered from 1 to this.
pub const BRANCH_MAX: u16 = 9_999;

/// The time, as whoever drives the directory reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Microseconds since 1970, on the machine's clock.
    pub wall_us: u64,
    /// Microseconds that never run backwards, since any fixed moment.
    pub monotonic_us: u64,
}

/// An ask of this endpoint, until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Called, from any thread, when `poll` has something new after it had nothing. Must be short and must not call the directory.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// As many asks wait as may. Poll, then try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("busy: {waiting} asks wait for the directory")]
pub struct Busy {
    /// How many wait.
    pub waiting: usize,
}

/// Which branch a newcomer may come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This one: an operator said so.
    In(u16),
    /// The best of these.
    Among(Vec<u16>),
    /// The best of all.
    Any,
}

/// Binds aliases to one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// 1 to [`ALIASES_MAX`], of one line, all different. The first is the one that the branch's own book keeps single.
    pub aliases: Vec<Alias>,
    /// Where the customer may come to live.
    pub choice: Choice,
    /// How long the branch may still act upon it, microseconds, at most [`CLAIM_US_MAX`]: no longer than the deadline that the
    /// request to the branch carries.
    pub within_us: u64,
}

/// A step of taking all customers in again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebuild {
    /// Forgets every confirmed alias; nobody is placed until the end. Reservations stay.
    Begin,
    /// Customers as a branch has them.
    Record {
        /// The rebuild's number: if another was begun since, nothing is recorded.
        number: u64,
        /// At most [`LIST_MAX`].
        list: Vec<(Alias, CustomerRef)>,
    },
    /// All customers of all branches are in.
    End {
        /// The rebuild's number.
        number: u64,
    },
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Everything but the aliases, unless it is still at version `since`.
    Map {
        /// The version that the asker has; 0 is none.
        since: u64,
    },
    /// Where an alias leads.
    Find(Alias),
    /// Whether a customer was moved from their branch of issue.
    FindMoved(CustomerRef),
    /// Step 1 of opening a customer, or of changing an alias of one.
    Reserve(Reserve),
    /// Step 3: the customer is in the branch's journal.
    Confirm {
        /// Those that were reserved.
        aliases: Vec<Alias>,
        /// Whose they are now.
        customer: CustomerRef,
    },
    /// Takes a reservation back, once every claim on it has run out and the branch has been asked and knows no such customer.
    Release {
        /// What was reserved; the first alias of a reservation takes all of it along.
        alias: Alias,
        /// The number of the last claim on it, as [`Told::Unsettled`] said before the branch was asked: if there was another
        /// since, nothing is released.
        claim: u64,
    },
    /// The customer has these no more.
    Forget {
        /// What leads to them.
        aliases: Vec<Alias>,
        /// Whose they were.
        customer: CustomerRef,
    },
    /// Says where a moved customer lives; `None` is home again.
    PutMoved {
        /// The customer.
        customer: CustomerRef,
        /// The branch they live in.
        branch: Option<u16>,
    },
    /// Takes all customers in again.
    Rebuild(Rebuild),
    /// Adds a branch. One that is there stays as it is.
    AddBranch(BranchRow),
    /// Changes one thing of a branch.
    Steer {
        /// Its number.
        branch: u16,
        /// What changes.
        setting: Setting,
    },
    /// The room of branches, from their owners; `None` takes nobody now. At most [`LIST_MAX`].
    Report(Vec<(u16, Option<Room>)>),
    /// Adds or changes a store.
    PutStore(StoreRow),
    /// Drops a store that no branch uses.
    DropStore(Name),
    /// Messages between branches go over this bus from now on. The one that they go over already stays as it was chosen.
    UseBus {
        /// Its name.
        bus: Name,
        /// Who says so.
        by: Who,
    },
    /// A node is there.
    Beat {
        /// What it says of itself.
        node: NodeRow,
        /// What it follows; at most [`LIST_MAX`].
        follows: Vec<Follow>,
    },
    /// A node is to give its branches away and take none, or may have some again. The word is kept apart from what the node says of
    /// itself, until it is taken back or the node is dropped; whoever said it first stays named.
    Drain {
        /// Which.
        node: Name,
        /// Who says so; `None` takes it back.
        by: Option<Who>,
    },
    /// Drops a node that holds no lease.
    DropNode(Name),
    /// Wants the lease of a branch.
    Acquire {
        /// The branch.
        branch: u16,
        /// Who wants it.
        holder: Holder,
        /// For how long, within [`LEASE_US`].
        lease_us: u64,
    },
    /// Wants to keep leases. One that ran out and that nobody took since is granted anew.
    Renew {
        /// The branches; at most [`LIST_MAX`].
        branches: Vec<u16>,
        /// Who holds them.
        holder: Holder,
        /// For how long, within [`LEASE_US`].
        lease_us: u64,
    },
    /// Gives leases up; those that were granted under another number stay, so that a late giving up takes no later lease away.
    GiveUp {
        /// Branches and the numbers of their grants; at most [`LIST_MAX`].
        leases: Vec<(u16, u64)>,
        /// Who holds them.
        holder: Holder,
    },
}

/// Where an alias leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nowhere.
    Nobody,
    /// To whoever is being opened in this branch.
    Reserved {
        /// The branch.
        branch: u16,
    },
    /// To this customer.
    Customer(CustomerRef),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// To [`Ask::Map`].
    Map(Box<Map>),
    /// To [`Ask::Map`]: it is still that version.
    Unchanged,
    /// To [`Ask::Find`].
    Found(Finding),
    /// To [`Ask::FindMoved`].
    Moved(Option<u16>),
    /// The aliases are bound to this branch: go there.
    Reserved {
        /// The branch.
        branch: u16,
        /// They were bound before: somebody else may be about to open the same customer there.
        joined: bool,
    },
    /// An alias is a customer's already.
    Taken {
        /// Which.
        alias: Alias,
        /// Whose.
        customer: CustomerRef,
    },
    /// An alias is bound to whoever opens with another first alias, and that may still happen.
    Held {
        /// Which.
        alias: Alias,
        /// Where they are being opened.
        branch: u16,
        /// When every claim on it has run out.
        retry_after_us: u64,
    },
    /// An alias is bound, and every claim on it has run out: ask `branch` whether it has a customer with `first`; if so
    /// confirm, else release, and reserve again.
    Unsettled {
        /// Which.
        alias: Alias,
        /// Where they were to be opened.
        branch: u16,
        /// The first alias of that reservation.
        first: Alias,
        /// The number of the last claim.
        claim: u64,
    },
    /// It is done, or was before.
    Done,
    /// To [`Rebuild::Begin`]: customers may be read from the branches after so long, for then nobody acts any more upon
    /// reservations that the directory may have lost.
    Rebuilding {
        /// What to name it by.
        number: u64,
        /// Microseconds.
        scan_after_us: u64,
    },
    /// To [`Rebuild::Record`].
    Recorded {
        /// Those that were left out, because another branch has them too: with whom they lead to now.
        elsewhere: Vec<(Alias, CustomerRef)>,
    },
    /// The lease is the asker's, for so long from when the ask was *sent*.
    Granted {
        /// The number of the grant; renewing keeps it.
        grant: u64,
        /// Microseconds.
        lease_us: u64,
        /// The directory's wall clock when it was granted.
        wall_us: u64,
    },
    /// To [`Ask::Renew`].
    Renewed {
        /// Those that are the asker's, for `lease_us` from when the ask was *sent*.
        kept: Vec<u16>,
        /// Those that are another's, or of no branch.
        lost: Vec<u16>,
        /// Microseconds.
        lease_us: u64,
        /// The directory's wall clock when they were granted.
        wall_us: u64,
    },
    /// Not so, and nothing was changed.
    No(Refusal),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such branch.
    #[error("there is no branch {0}")]
    NoBranch(u16),
    /// The branch is not open.
    #[error("branch {0} is not open")]
    NotOpen(u16),
    /// No branch that may be chosen takes newcomers and has room.
    #[error("no branch that takes newcomers has room")]
    NoRoom,
    /// There is no such store.
    #[error("there is no store {0}")]
    NoStore(Name),
    /// A branch keeps its journal there.
    #[error("branch {branch} keeps its journal in store {store}")]
    StoreInUse {
        /// The store.
        store: Name,
        /// The branch.
        branch: u16,
    },
    /// There is no such node.
    #[error("there is no node {0}")]
    NoNode(Name),
    /// The node hosts branches.
    #[error("node {node} holds the lease of branch {branch}")]
    NodeInUse {
        /// The node.
        node: Name,
        /// The branch.
        branch: u16,
    },
    /// The lease is another's.
    #[error("node {} holds the lease for another {left_us} µs", holder.node)]
    HeldBy {
        /// Whose.
        holder: Holder,
        /// For how long still.
        left_us: u64,
    },
    /// The directory was started a moment ago: whoever had a lease before may still count on it.
    #[error("leases are granted after another {left_us} µs")]
    TooSoon {
        /// How long still.
        left_us: u64,
    },
    /// The alias leads to another branch.
    #[error("{alias:?} leads to branch {branch}")]
    Elsewhere {
        /// Which.
        alias: Alias,
        /// Where it leads.
        branch: u16,
    },
    /// Somebody has claimed it since, or a claim may still be acted upon.
    #[error("{0:?} was claimed in the meantime")]
    Claimed(Alias),
    /// Customers are being taken in again from the branches.
    #[error("the directory is being rebuilt")]
    Rebuilding,
    /// They are not, or that rebuild was followed by another or cut off by a restart.
    #[error("that rebuild is over, or another was begun since")]
    NotRebuilding,
    /// As many reservations are open as may be.
    #[error("{0} reservations are open")]
    TooMany(usize),
    /// A figure or a combination makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
}

/// The directory did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not known whether the ask was carried out: send it again.
    #[error("the directory does not answer: {0}")]
    Unknown(Arc<str>),
}

/// An ask that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Which.
    pub ticket: Ticket,
    /// What came of it.
    pub outcome: Result<Told, Fault>,
}

/// One endpoint of the directory, used by one thread.
pub trait Directory: Send {
    /// Takes an ask.
    ///
    /// # Errors
    ///
    /// [`Busy`]; nothing was taken.
    fn submit(&mut self, ask: Ask) -> Result<Ticket, Busy>;

    /// The next ask that is over, at `now`, whose monotonic part never runs backwards.
    fn poll(&mut self, now: Now) -> Option<Answered>;

    /// When `poll` may have something to do even if nothing is submitted, on the monotonic clock.
    fn next_due(&self) -> Option<u64>;

    /// Asks to be woken when `poll` has something new after it returned `None`.
    fn on_event(&mut self, wake: Wake);
}

impl<D: Directory + ?Sized> Directory for Box<D> {
    fn submit(&mut self, ask: Ask) -> Result<Ticket, Busy> {
        (**self).submit(ask)
    }

    fn poll(&mut self, now: Now) -> Option<Answered> {
        (**self).poll(now)
    }

    fn next_due(&self) -> Option<u64> {
        (**self).next_due()
    }

    fn on_event(&mut self, wake: Wake) {
        (**self).on_event(wake);
    }
}
