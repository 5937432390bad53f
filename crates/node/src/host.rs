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
//! - What the plan wants followed here is followed, and goes on as the branch when its lease is granted.
//! - A branch that wants followers moves when whoever gets it is near, or has been waited for; what somebody near follows is handed over:
//!   its journal is let go, and its lease given up, before anything else is finished.
//! - A branch that does not open is given up for a while, longer each time, so that another node may try.
//! - A node that the bus does not reach says that it takes none, and others get what it has; unless none of them is reached either.
//! - While the node's clock is certain to be more than 500 ms off it hosts nothing, and goes on comparing.

mod acquire;
mod following;
mod orders;

use std::collections::{BTreeMap, VecDeque};

use skerry_directory::{Ask, Fault, Follow, Holder, Keeper, Map, Refusal, Sent, Told};

use self::following::Following;
pub use self::orders::{HostOptions, LEASE_US, Order, Seen};
use crate::plan::{Planned, plan};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    Sick { since_us: u64 },
    Closing,
    Released,
}

impl Stage {
    /// Whether it is on its way out.
    const fn leaves(self) -> bool {
        matches!(self, Self::Closing | Self::Released)
    }
}

/// What was asked, for the answer.
#[derive(Debug)]
enum About {
    Map,
    Renew,
    Acquire(u16),
    Else,
}

impl About {
    const fn acquired(&self) -> Option<u16> {
        match self {
            Self::Acquire(branch) => Some(*branch),
            _ => None,
        }
    }
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
    /// What follows from the map.
    plan: BTreeMap<u16, Planned>,
    /// When the map was heard; none before the first.
    map_at: Option<u64>,
    own: BTreeMap<u16, Stage>,
    following: Following,
    open: BTreeMap<u64, (About, Sent)>,
    orders: VecDeque<Order>,
    next: u64,
    look_at: u64,
    beat_at: u64,
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
    is_deaf: bool,
    is_stopping: bool,
}

/// Asks without an answer that are remembered.
const OPEN_MAX: usize = 1_024;
/// Doublings of the back-off.
const BACK_OFF_DOUBLINGS: u32 = 5;
/// Whoever is to get a branch and does not say that it follows is waited for so many leases' time.
const WAITED_FOR_A_STRANGER: u64 = 3;
/// The same for one that does, and has much to read.
const WAITED_FOR_A_FOLLOWER: u64 = 30;

impl Host {
    /// A node that hosts nothing yet.
    #[must_use]
    pub fn new(options: HostOptions) -> Self {
        Self {
            keeper: Keeper::new(options.margin_us),
            options,
            map: Map::default(),
            plan: BTreeMap::new(),
            map_at: None,
            own: BTreeMap::new(),
            following: Following::default(),
            open: BTreeMap::new(),
            orders: VecDeque::new(),
            next: 0,
            look_at: 0,
            beat_at: 0,
            renew_at: 0,
            free: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            not_before: BTreeMap::new(),
            back_off: BTreeMap::new(),
            is_compared: false,
            is_deaf: false,
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

    /// Whether the bus reaches the node: nobody can ask the branches of one that it does not.
    pub const fn reached(&mut self, is_reached: bool) {
        self.is_deaf = !is_reached;
    }

    /// Whether the bus does not reach it.
    #[must_use]
    pub const fn is_deaf(&self) -> bool {
        self.is_deaf
    }

    /// Closes everything and gives it up.
    pub const fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether it hosts and follows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.following.is_empty()
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
        self.look_at.min(self.renew_at).min(self.beat_at)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Time has passed.
    pub fn turn(&mut self, now: Sent) {
        if now.boot_us >= self.look_at {
            let near = self.is_awaiting();
            let wait_us = if near { self.options.near_look_us } else { self.options.look_us };
            self.look_at = now.boot_us.saturating_add(wait_us);
            // Under the same version leases run out, nodes fall silent and others come near: then all of it is read.
            let since = if self.is_stale(now.boot_us) { 0 } else { self.map.version };
            self.ask(About::Map, Ask::Map { since }, now);
        }
        if now.boot_us >= self.beat_at {
            self.beat_at = now.boot_us.saturating_add(self.options.look_us);
            let beat = self.beat(now.boot_us);
            self.ask(About::Else, beat, now);
        }
        if now.boot_us >= self.renew_at {
            self.renew_at = now.boot_us.saturating_add(self.options.lease_us / 3);
            let branches = self.keeper.branches().collect();
            let (holder, lease_us) = (self.holder(), self.options.lease_us);
            // Also without branches: the answer tells how far the clocks are apart.
            self.ask(About::Renew, Ask::Renew { branches, holder, lease_us }, now);
        }
        self.host(now.boot_us);
        self.follow(now.boot_us);
        self.acquire(now);
    }

    fn is_me(&self, planned: &Planned) -> bool {
        planned.node == self.options.node.name
    }

    /// Whether a branch is about to come that would be open here at once.
    fn is_awaiting(&self) -> bool {
        let mut to_come = self.plan.iter().filter(|(branch, _)| !self.own.contains_key(branch));
        to_come.any(|(branch, planned)| self.is_me(planned) && self.following.is_near(*branch))
    }

    fn is_stale(&self, boot_us: u64) -> bool {
        let Some(at) = self.map_at else { return true };
        let own = self.holder();
        let over = |left_us: u64| at.saturating_add(left_us) <= boot_us;
        let mut leases = self.map.branches.iter().filter_map(|entry| entry.lease.as_ref());
        !self.free.is_empty()
            || !self.elsewhere.is_empty()
            || over(self.options.lease_us)
            || leases.any(|lease| lease.holder != own && over(lease.left_us))
    }

    /// What the node says of itself: it is given nothing that it could not host.
    fn beat(&self, boot_us: u64) -> Ask {
        let mut node = self.options.node.clone();
        if self.options.gray {
            node.capacity = 0;
        }
        node.draining |= self.is_stopping || self.is_deaf || !self.is_compared || self.keeper.is_clock_off();
        if self.back_off.values().any(|back_off| back_off.until_us > boot_us) {
            node.capacity = node.capacity.min(u16::try_from(self.own.len()).unwrap_or(u16::MAX));
        }
        Ask::Beat { node, follows: self.following.told() }
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
        self.plan = plan(&map, self.options.lease_us);
        let (plan, own) = (&self.plan, &self.options.node.name);
        let other = |branch: u16| plan.get(&branch).is_some_and(|planned| planned.node != *own);
        self.elsewhere.retain(|branch, _| other(*branch));
        for branch in self.own.keys().copied().filter(|branch| other(*branch)) {
            self.elsewhere.entry(branch).or_insert(boot_us);
        }
        // Whoever is near looks when the lease has run out, and no later.
        let near = map.branches.iter().filter(|entry| self.following.is_near(entry.row.number));
        let ends = near.filter_map(|entry| Some(boot_us.saturating_add(entry.lease.as_ref()?.left_us)));
        self.look_at = ends.fold(self.look_at, u64::min);
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
        // Files of a follower that is being closed are not to be touched.
        let ending = self.following.is_ending(branch);
        let wanted = counts && !ending && !self.is_stopping && !self.keeper.is_clock_off();
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
            self.following.promoted(branch);
            self.orders.push_back(Order::Open(row));
        }
    }

    /// How a branch is here, at `now`.
    pub fn seen(&mut self, branch: u16, seen: Seen, now: Sent) {
        let Some(stage) = self.own.get_mut(&branch) else {
            let again_us = now.boot_us.saturating_add(self.options.back_off_us);
            return self.following.seen(branch, seen, again_us);
        };
        match (seen, *stage) {
            (Seen::Closed, _) => self.closed(branch, now),
            (Seen::Released, Stage::Closing) => {
                *stage = Stage::Released;
                self.give_up(branch, now);
            }
            (Seen::Follows(_) | Seen::Released, _) => {}
            (_, stage) if stage.leaves() => {}
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
        self.give_up(branch, now);
    }

    fn give_up(&mut self, branch: u16, now: Sent) {
        let leases = self.keeper.give_up(&[branch]);
        if !leases.is_empty() {
            let ask = Ask::GiveUp { leases, holder: self.holder() };
            self.ask(About::Else, ask, now);
            // The map that shows it is ours is old now.
            self.not_before.insert(branch, now.boot_us.saturating_add(self.options.look_us));
        }
        (self.look_at, self.beat_at) = (now.boot_us, now.boot_us);
    }

    fn close(&mut self, branch: u16) {
        let own = &self.options.node.name;
        let mut others = self.map.nodes.iter().filter(|node| node.row.name != *own);
        let followed = others.any(|node| node.follow(branch).is_some_and(Follow::is_near));
        let Some(stage) = self.own.get_mut(&branch).filter(|stage| !stage.leaves()) else { return };
        let handed = followed && *stage == Stage::Open;
        *stage = Stage::Closing;
        self.orders.push_back(if handed { Order::HandOver(branch) } else { Order::Close(branch) });
    }

    /// Whether a branch that the plan has given another for `waited_us` may go there now.
    fn may_go(&self, branch: u16, waited_us: u64) -> bool {
        let Some(planned) = self.plan.get(&branch) else { return false };
        if !planned.followers.contains(&planned.node) {
            return true;
        }
        let follow = self.map.node(&planned.node).and_then(|node| node.follow(branch));
        let leases = match follow {
            Some(follow) if follow.is_near() => 0,
            Some(_) => WAITED_FOR_A_FOLLOWER,
            None => WAITED_FOR_A_STRANGER,
        };
        waited_us >= leases * self.options.lease_us
    }

    /// Follows what the plan wants followed here.
    fn follow(&mut self, boot_us: u64) {
        let own = &self.options.node.name;
        let wanted = |(branch, planned): (&u16, &Planned)| {
            let entry = self.map.branch(*branch).filter(|_| planned.followers.contains(own))?;
            (!self.own.contains_key(branch)).then(|| (*branch, entry.row.clone()))
        };
        let wanted =
            if self.is_stopping { BTreeMap::new() } else { self.plan.iter().filter_map(wanted).collect() };
        // What is to come, or is asked for, may be granted at any moment.
        let (stops, plan, open, lease_us) = (self.is_stopping, &self.plan, &self.open, self.options.lease_us);
        let comes = |branch| plan.get(&branch).is_some_and(|planned| planned.node == *own);
        let kept = |branch| !stops && (comes(branch) || is_asked(open, branch, (boot_us, lease_us)));
        let calm_us = if self.is_stopping { 0 } else { self.options.calm_us };
        self.following.turn(&wanted, kept, (boot_us, calm_us), &mut self.orders);
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
        let moves = self.elsewhere.iter().find(|(branch, since)| {
            let waited_us = boot_us.saturating_sub(**since);
            let here = self.own.get(branch).is_some_and(|stage| !stage.leaves());
            here && waited_us >= self.options.calm_us && self.may_go(**branch, waited_us)
        });
        if let Some(branch) = moves.map(|(branch, _)| *branch) {
            self.close(branch);
        }
    }
}

/// Whether the lease of `branch` was asked for, and an answer may still come: some never do, and later ones are taken as they are.
fn is_asked(open: &BTreeMap<u64, (About, Sent)>, branch: u16, (boot_us, lease_us): (u64, u64)) -> bool {
    let mut asked = open.values().filter(|(about, _)| about.acquired() == Some(branch));
    asked.any(|(_, sent)| boot_us.saturating_sub(sent.boot_us) < lease_us)
}
