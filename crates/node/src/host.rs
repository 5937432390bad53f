//! What a node does so that each branch is open on one node: a machine without a clock, a thread or a connection.
//!
//! ```text
//! clocks, answers of the directory, conditions of branches ─► Host ─► asks to the directory, orders to open and close branches
//! ```
//!
//! Whoever drives it carries the orders out and sets each branch's [`Lease`](crate::lease::Lease) to [`Host::relied_until`] after every call.
//!
//! # Rules
//!
//! - A lease is acquired for branches that the [plan](crate::plan) gives this node and nobody holds; renewed every third of its time.
//! - A branch that nobody took for three leases' time is anybody's: the plan may name a node that cannot.
//! - A node that an operator drains gives its branches away as long as others take them, and takes one only if it has been nobody's for
//!   that long and the plan finds nobody for it: an empty node is worth less than an open branch. So does a gray one.
//! - A directory that does not answer changes nothing: what is hosted stays hosted, and its answers are confirmed by the store.
//! - What is given up is closed first, while it is still renewed: moves and draining one branch at a time, stopping all at once.
//! - A branch that does not open is given up for a while, longer each time, so that another node may try.
//! - While the node's clock is certain to be more than 500 ms off it hosts nothing, and goes on comparing.

use std::collections::{BTreeMap, VecDeque};

use skerry_directory::{Ask, BranchRow, Fault, Holder, Keeper, Map, NodeRow, Refusal, Sent, Told};

use crate::plan::plan;

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
    /// Open this branch; its condition goes to [`Host::seen`].
    Open(BranchRow),
    /// Close this branch.
    Close(u16),
}

/// How a branch is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It serves.
    Open,
    /// It did not open, or stopped.
    Sick,
    /// It is closed, and nothing of it is left here.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    Sick { since_us: u64 },
    Closing,
}

/// What was asked, for the answer.
#[derive(Debug)]
enum About {
    Map,
    Renew,
    Acquire(u16),
    Else,
}

/// A branch that does not open here is left alone.
#[derive(Debug, Clone, Copy, Default)]
struct BackOff {
    attempts: u32,
    until_us: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Host {
    options: HostOptions,
    keeper: Keeper,
    map: Map,
    /// When the map was heard; none before the first.
    map_at: Option<u64>,
    own: BTreeMap<u16, Stage>,
    open: BTreeMap<u64, (About, Sent)>,
    orders: VecDeque<Order>,
    next: u64,
    look_at: u64,
    renew_at: u64,
    /// Since when a branch was seen to be nobody's.
    free: BTreeMap<u16, u64>,
    /// Since when the plan names another node for what is hosted here.
    elsewhere: BTreeMap<u16, u64>,
    /// Not to be asked for before then.
    not_before: BTreeMap<u16, u64>,
    back_off: BTreeMap<u16, BackOff>,
    /// The directory has answered under the present clock.
    is_compared: bool,
    is_stopping: bool,
}

/// Asks without an answer that are remembered.
const OPEN_MAX: usize = 1_024;
/// Branches of one look that leases are acquired for.
const ACQUIRED_TOGETHER: usize = 64;
/// Doublings of the back-off.
const BACK_OFF_DOUBLINGS: u32 = 5;
/// A branch that nobody took for so many leases' time is anybody's.
const ANYBODYS: u64 = 3;

impl Host {
    /// A node that hosts nothing yet.
    #[must_use]
    pub fn new(options: HostOptions) -> Self {
        Self {
            keeper: Keeper::new(options.margin_us),
            options,
            map: Map::default(),
            map_at: None,
            own: BTreeMap::new(),
            open: BTreeMap::new(),
            orders: VecDeque::new(),
            next: 0,
            look_at: 0,
            renew_at: 0,
            free: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            not_before: BTreeMap::new(),
            back_off: BTreeMap::new(),
            is_compared: false,
            is_stopping: false,
        }
    }

    /// Whether an operator wants it empty, as the map said last.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.map.node(&self.options.node.name).is_some_and(|entry| entry.drain.is_some())
    }

    /// Whether its clock is too far off the directory's to host anything.
    #[must_use]
    pub const fn is_clock_off(&self) -> bool {
        self.keeper.is_clock_off()
    }

    /// Closes everything and gives it up.
    pub const fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether it hosts nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// The branches that it hosts, or opens, or closes.
    pub fn branches(&self) -> impl Iterator<Item = u16> {
        self.own.keys().copied()
    }

    /// The map as it was heard last.
    #[must_use]
    pub const fn map(&self) -> &Map {
        &self.map
    }

    /// Up to when, on the boot clock, answers of `branch` may rest on its lease: 0 if they may not at `boot_us`.
    #[must_use]
    pub fn relied_until(&self, branch: u16, boot_us: u64) -> u64 {
        if !self.keeper.may_answer(branch, boot_us) {
            return 0;
        }
        let left = self.keeper.left_us(branch, boot_us);
        boot_us.saturating_add(left).saturating_sub(self.options.margin_us)
    }

    /// When [`turn`](Self::turn) has something to do even if nothing is heard.
    #[must_use]
    pub fn next_due(&self) -> u64 {
        self.look_at.min(self.renew_at)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Time has passed.
    pub fn turn(&mut self, now: Sent) {
        if now.boot_us >= self.look_at {
            self.look_at = now.boot_us.saturating_add(self.options.look_us);
            self.look(now);
        }
        if now.boot_us >= self.renew_at {
            self.renew_at = now.boot_us.saturating_add(self.options.lease_us / 3);
            let branches = self.keeper.branches().collect();
            let (holder, lease_us) = (self.holder(), self.options.lease_us);
            // Also without branches: the answer tells how far the clocks are apart.
            self.ask(About::Renew, Ask::Renew { branches, holder, lease_us }, now);
        }
        self.host(now.boot_us);
        self.acquire(now);
    }

    fn look(&mut self, now: Sent) {
        // Under the same version leases run out and nodes fall silent: then all of it is read.
        let since = if self.is_stale(now.boot_us) { 0 } else { self.map.version };
        self.ask(About::Map, Ask::Map { since }, now);
        let node = self.beat(now.boot_us);
        self.ask(About::Else, Ask::Beat(node), now);
    }

    fn is_stale(&self, boot_us: u64) -> bool {
        let Some(at) = self.map_at else { return true };
        let own = self.holder();
        let over = |left_us: u64| at.saturating_add(left_us) <= boot_us;
        let mut leases = self.map.branches.iter().filter_map(|entry| entry.lease.as_ref());
        !self.free.is_empty()
            || over(self.options.lease_us)
            || leases.any(|lease| lease.holder != own && over(lease.left_us))
    }

    /// What the node says of itself: it is given nothing that it could not host.
    fn beat(&self, boot_us: u64) -> NodeRow {
        let mut node = self.options.node.clone();
        if self.options.gray {
            node.capacity = 0;
        }
        node.draining |= self.is_stopping || !self.is_compared || self.keeper.is_clock_off();
        if self.back_off.values().any(|back_off| back_off.until_us > boot_us) {
            node.capacity = node.capacity.min(u16::try_from(self.own.len()).unwrap_or(u16::MAX));
        }
        node
    }

    fn holder(&self) -> Holder {
        Holder { node: self.options.node.name.clone(), incarnation: self.options.incarnation }
    }

    fn ask(&mut self, about: About, ask: Ask, now: Sent) {
        self.next += 1;
        self.open.insert(self.next, (about, now));
        while self.open.len() > OPEN_MAX {
            self.open.pop_first();
        }
        self.orders.push_back(Order::Ask(self.next, ask));
    }

    /// What came of an ask, heard at `now`.
    pub fn heard(&mut self, number: u64, outcome: Result<Told, Fault>, now: Sent) {
        let Some((about, sent)) = self.open.remove(&number) else { return };
        // Without an answer everything stays as it is, and is asked again in its time.
        let Ok(told) = outcome else { return };
        match (about, told) {
            (About::Map, Told::Map(map)) => self.read(*map, now.boot_us),
            (About::Renew, Told::Renewed { kept, lost, lease_us, wall_us }) => {
                self.keeper.renewed(sent, &kept, lease_us, (wall_us, now.wall_us));
                self.is_compared = true;
                self.lost(&lost, sent);
            }
            (About::Acquire(branch), Told::Granted { grant, lease_us, wall_us }) => {
                self.granted(branch, grant, (sent, lease_us), (wall_us, now.wall_us));
                self.turn(now);
            }
            (
                About::Acquire(branch),
                Told::No(Refusal::HeldBy { left_us, .. } | Refusal::TooSoon { left_us }),
            ) => {
                self.not_before.insert(branch, now.boot_us.saturating_add(left_us));
            }
            (About::Acquire(branch), Told::No(_)) => {
                self.not_before.insert(branch, now.boot_us.saturating_add(self.options.look_us));
            }
            _ => {}
        }
    }

    fn read(&mut self, map: Map, boot_us: u64) {
        // Answers may come out of order.
        if map.version < self.map.version {
            return;
        }
        let is_free = |branch: u16| map.branch(branch).is_some_and(|entry| entry.lease.is_none());
        self.free.retain(|branch, _| is_free(*branch));
        for entry in map.branches.iter().filter(|entry| entry.lease.is_none()) {
            self.free.entry(entry.row.number).or_insert(boot_us);
        }
        let plan = plan(&map, self.options.lease_us);
        let other = |branch: u16| plan.get(&branch).is_some_and(|node| *node != self.options.node.name);
        self.elsewhere.retain(|branch, _| other(*branch));
        for branch in self.own.keys().copied().filter(|branch| other(*branch)) {
            self.elsewhere.entry(branch).or_insert(boot_us);
        }
        self.map = map;
        self.map_at = Some(boot_us);
    }

    /// The directory says that these are another's.
    fn lost(&mut self, branches: &[u16], sent: Sent) {
        for branch in branches {
            // An answer from before the lease was granted anew tells nothing.
            let asked = self.open.values().any(|(about, at)| {
                matches!(about, About::Acquire(of) if of == branch) && at.boot_us >= sent.boot_us
            });
            if !asked && self.keeper.branches().any(|held| held == *branch) {
                self.keeper.lost(&[*branch]);
                self.close(*branch);
            }
        }
    }

    fn granted(&mut self, branch: u16, grant: u64, (sent, lease_us): (Sent, u64), walls: (u64, u64)) {
        let counts = self.keeper.granted(sent, branch, grant, lease_us, walls);
        self.is_compared = true;
        let wanted = counts && !self.is_stopping && !self.keeper.is_clock_off();
        if !wanted && !self.own.contains_key(&branch) {
            self.keeper.give_up(&[branch]);
            let leases = vec![(branch, grant)];
            let ask = Ask::GiveUp { leases, holder: self.holder() };
            return self.ask(About::Else, ask, sent);
        }
        self.free.remove(&branch);
        if let Some(row) = self.map.branch(branch).map(|entry| entry.row.clone())
            && !self.own.contains_key(&branch)
        {
            self.own.insert(branch, Stage::Opening);
            self.orders.push_back(Order::Open(row));
        }
    }

    /// How a branch is here, at `now`.
    pub fn seen(&mut self, branch: u16, seen: Seen, now: Sent) {
        let Some(stage) = self.own.get_mut(&branch) else { return };
        match (seen, *stage) {
            (Seen::Closed, _) => self.closed(branch, now),
            (_, Stage::Closing) => {}
            (Seen::Open, _) => {
                *stage = Stage::Open;
                self.back_off.remove(&branch);
            }
            (Seen::Sick, Stage::Sick { .. }) => {}
            (Seen::Sick, _) => *stage = Stage::Sick { since_us: now.boot_us },
        }
    }

    /// Nothing of it is left here: now another may have it.
    fn closed(&mut self, branch: u16, now: Sent) {
        self.own.remove(&branch);
        self.elsewhere.remove(&branch);
        let leases = self.keeper.give_up(&[branch]);
        if !leases.is_empty() {
            let ask = Ask::GiveUp { leases, holder: self.holder() };
            self.ask(About::Else, ask, now);
            // The map that shows it is ours is old now.
            self.not_before.insert(branch, now.boot_us.saturating_add(self.options.look_us));
        }
        self.look_at = now.boot_us;
    }

    fn close(&mut self, branch: u16) {
        if let Some(stage) = self.own.get_mut(&branch)
            && *stage != Stage::Closing
        {
            *stage = Stage::Closing;
            self.orders.push_back(Order::Close(branch));
        }
    }

    /// Closes what should not be here.
    fn host(&mut self, boot_us: u64) {
        if self.is_stopping || self.keeper.is_clock_off() {
            let all: Vec<u16> = self.own.keys().copied().collect();
            all.into_iter().for_each(|branch| self.close(branch));
            return;
        }
        let sick = |stage: &Stage| matches!(stage, Stage::Sick { since_us } if boot_us.saturating_sub(*since_us) >= self.options.sick_us);
        let sick: Vec<u16> =
            self.own.iter().filter(|(_, stage)| sick(stage)).map(|(branch, _)| *branch).collect();
        for branch in sick {
            let back_off = self.back_off.entry(branch).or_default();
            let wait = self.options.back_off_us << back_off.attempts.min(BACK_OFF_DOUBLINGS);
            *back_off = BackOff {
                attempts: back_off.attempts.saturating_add(1),
                until_us: boot_us.saturating_add(wait),
            };
            self.close(branch);
        }
        if self.own.values().any(|stage| *stage == Stage::Closing) {
            return;
        }
        let calm = |since: &u64| boot_us.saturating_sub(*since) >= self.options.calm_us;
        let moves =
            self.elsewhere.iter().find(|(branch, since)| calm(since) && self.own.contains_key(branch));
        if let Some(branch) = moves.map(|(branch, _)| *branch) {
            self.close(branch);
        }
    }

    /// Asks for the leases of what should be here.
    fn acquire(&mut self, now: Sent) {
        let (boot_us, capacity) = (now.boot_us, usize::from(self.options.node.capacity));
        if self.is_stopping || !self.is_compared || self.keeper.is_clock_off() {
            return;
        }
        let (plan, drained) =
            (plan(&self.map, self.options.lease_us), self.is_drained() || self.options.gray);
        let under_way = |branch: u16| {
            self.open.values().any(|(about, sent)| {
                matches!(about, About::Acquire(of) if *of == branch)
                    && boot_us.saturating_sub(sent.boot_us) < self.options.lease_us
            })
        };
        let waits = |branch: u16| {
            let until = self.back_off.get(&branch).map_or(0, |back_off| back_off.until_us);
            until.max(self.not_before.get(&branch).copied().unwrap_or(0)) > boot_us
        };
        let wanted = self.free.iter().filter(|(branch, since_us)| {
            let ours = plan.get(branch).is_some_and(|node| *node == self.options.node.name);
            let old = boot_us.saturating_sub(**since_us) >= ANYBODYS * self.options.lease_us;
            let last = old && (!drained || !plan.contains_key(branch));
            (ours || last) && !self.own.contains_key(branch) && !waits(**branch) && !under_way(**branch)
        });
        let hosted =
            self.map.branches.iter().filter(|entry| entry.row.state != skerry_directory::BranchState::Closed);
        let hosted: std::collections::BTreeSet<u16> = hosted.map(|entry| entry.row.number).collect();
        let room = capacity.saturating_sub(self.own.len()).min(ACQUIRED_TOGETHER);
        let wanted: Vec<u16> =
            wanted.map(|(branch, _)| *branch).filter(|branch| hosted.contains(branch)).take(room).collect();
        for branch in wanted {
            let (holder, lease_us) = (self.holder(), self.options.lease_us);
            self.ask(About::Acquire(branch), Ask::Acquire { branch, holder, lease_us }, now);
        }
    }
}
