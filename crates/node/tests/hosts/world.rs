//! Hosts, the directory that they share, and what befalls them.

use std::collections::{BTreeMap, BTreeSet};

use skerry_directory::{
    Ask, BranchRow, Directory, Embedded, EmbeddedOptions, FaultyDirectory, Mode, Name, NodeRow, Now, Rebuild,
    Sent, StoreRow, Ticket, Weather, Where, Who,
};
use skerry_journal::FaultStorage;
use skerry_node::host::{Host, HostOptions, Order, Seen};

use super::dice::Dice;

pub(crate) const BRANCHES: u16 = 6;
/// The only one that wants a node to itself.
const ALONE: u16 = 6;
pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];

/// How many followers a branch wants.
pub(crate) fn wanted(branch: u16) -> u8 {
    [1, 0, 2][usize::from(branch) % 3]
}

pub(crate) struct Node {
    pub(crate) name: Name,
    pub(crate) host: Host,
    pub(crate) life: u64,
    boot_ahead: u64,
    pub(crate) wall_off: i64,
    pub(crate) paused_until: u64,
    asked: BTreeMap<Ticket, u64>,
    /// Branches that are being opened or closed, and when that is over.
    working: BTreeMap<u16, (u64, Seen)>,
    /// What is open in the process.
    pub(crate) serving: BTreeSet<u16>,
    /// What it follows.
    pub(crate) following: BTreeSet<u16>,
    /// A branch that does not open here, until then.
    broken: Option<(u16, u64)>,
}

pub(crate) fn row(name: &Name) -> NodeRow {
    let (address, version) = (Where::new("skerry.node").unwrap(), Where::new("1").unwrap());
    NodeRow { name: name.clone(), address, capacity: 8, version, draining: false }
}

impl Node {
    fn new(name: &str, dice: &mut Dice) -> Self {
        let name = Name::new(name).unwrap();
        Self {
            host: Host::new(HostOptions::new(row(&name), 1)),
            name,
            life: 1,
            boot_ahead: dice.below(1 << 40),
            wall_off: [0, 200_000, -300_000][dice.below(3) as usize],
            paused_until: 0,
            asked: BTreeMap::new(),
            working: BTreeMap::new(),
            serving: BTreeSet::new(),
            following: BTreeSet::new(),
            broken: None,
        }
    }

    fn at(&self, us: u64) -> Sent {
        Sent { boot_us: us + self.boot_ahead, wall_us: wall(us).saturating_add_signed(self.wall_off) }
    }

    /// Something is opened or followed: never while it is still being closed here, for its files are one thread's at a time.
    fn begins(&mut self, branch: u16, until: u64, seen: Seen) {
        let before = self.working.insert(branch, (until, seen));
        let closing = before.is_some_and(|(_, before)| matches!(before, Seen::Closed | Seen::Released));
        assert!(!closing, "branch {branch} is still being closed");
    }

    /// Another life of the process: it knows nothing of the one before.
    pub(crate) fn begin_again(&mut self) {
        self.life += 1;
        self.host = Host::new(HostOptions::new(row(&self.name), self.life));
        self.asked.clear();
        self.working.clear();
        self.serving.clear();
        self.following.clear();
    }
}

fn wall(us: u64) -> u64 {
    1_767_585_600_000_000 + us
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    disk: FaultStorage,
    pub(crate) directory: Option<FaultyDirectory<Embedded<FaultStorage>>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) us: u64,
    pub(crate) reached: BTreeSet<&'static str>,
}

fn weather() -> Weather {
    Weather {
        lost_ask_ppm: 50_000,
        lost_answer_ppm: 50_000,
        doubled_ppm: 50_000,
        delay_us_max: 300_000,
        patience_us: 1_000_000,
    }
}

fn directory(disk: &FaultStorage, seed: u64) -> FaultyDirectory<Embedded<FaultStorage>> {
    let options = EmbeddedOptions { alone: false, ..EmbeddedOptions::default() };
    let mut directory = FaultyDirectory::new(Embedded::open(disk, options).unwrap(), seed);
    let local = Name::new("local").unwrap();
    let place = Where::new("here").unwrap();
    let store = StoreRow { name: local.clone(), kind: local.clone(), place };
    let mut asks = vec![Ask::PutStore(store), Ask::Rebuild(Rebuild::Begin)];
    asks.extend((1..=BRANCHES).map(|number| {
        let mode = if number == ALONE { Mode::Dedicated } else { Mode::Scattered };
        Ask::AddBranch(BranchRow { mode, followers: wanted(number), ..BranchRow::new(number, local.clone()) })
    }));
    for ask in asks {
        directory.submit(ask).unwrap();
    }
    directory.set_weather(weather());
    directory
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let (mut dice, disk) = (Dice(seed), FaultStorage::new(seed));
        let nodes = NODES.map(|name| Node::new(name, &mut dice)).into();
        let directory = Some(directory(&disk, dice.below(1 << 40)));
        Self { dice, disk, directory, nodes, us: 1_000_000, reached: BTreeSet::new() }
    }

    pub(crate) fn step(&mut self) {
        self.us += 1 + self.dice.below(40_000);
        let us = self.us;
        for at in 0..self.nodes.len() {
            if us < self.nodes[at].paused_until {
                continue;
            }
            self.work(at);
            let now = self.nodes[at].at(us);
            self.nodes[at].host.turn(now);
            self.obey(at);
        }
        self.hear();
        self.check();
    }

    /// Branches are opened and closed in their time.
    fn work(&mut self, at: usize) {
        let (us, node) = (self.us, &mut self.nodes[at]);
        let now = node.at(us);
        let over: Vec<(u16, Seen)> = node
            .working
            .iter()
            .filter(|(_, (end, _))| *end <= us)
            .map(|(branch, (_, seen))| (*branch, *seen))
            .collect();
        for (branch, seen) in over {
            node.working.remove(&branch);
            let broken = node.broken.is_some_and(|(of, until)| of == branch && us < until);
            let seen = if seen == Seen::Open && broken { Seen::Sick } else { seen };
            match seen {
                Seen::Open => drop(node.serving.insert(branch)),
                Seen::Sick => drop(self.reached.insert("a branch did not open")),
                Seen::Follows(_) => drop(node.following.insert(branch)),
                Seen::Released => {
                    node.serving.remove(&branch);
                    let later = us + self.dice.below(1_000_000);
                    node.working.insert(branch, (later, Seen::Closed));
                }
                Seen::Closed => {
                    node.serving.remove(&branch);
                    node.following.remove(&branch);
                }
            }
            node.host.seen(branch, seen, now);
        }
    }

    fn obey(&mut self, at: usize) {
        let us = self.us;
        while let Some(order) = self.nodes[at].host.poll() {
            let takes = us + self.dice.below(300_000);
            let node = &mut self.nodes[at];
            match order {
                Order::Ask(number, ask) => {
                    if let Some(Ok(ticket)) = self.directory.as_mut().map(|directory| directory.submit(ask)) {
                        node.asked.insert(ticket, number);
                    }
                }
                Order::Open(row) => {
                    let promoted = node.following.remove(&row.number);
                    self.reached.insert(if promoted { "a follower took over" } else { "opened" });
                    node.begins(row.number, takes, Seen::Open);
                }
                Order::Close(branch) => {
                    self.reached.insert("closed");
                    node.working.insert(branch, (takes, Seen::Closed));
                }
                Order::HandOver(branch) => {
                    self.reached.insert("handed over");
                    node.working.insert(branch, (takes, Seen::Released));
                }
                Order::Follow(row) => {
                    assert!(!node.serving.contains(&row.number), "it is open here");
                    let late = us + 3 * self.dice.below(1_000_000);
                    node.begins(row.number, late, Seen::Follows(Some(0)));
                }
                Order::Unfollow(branch) => {
                    self.reached.insert("followed no more");
                    node.working.insert(branch, (takes, Seen::Closed));
                }
            }
        }
    }

    fn hear(&mut self) {
        let us = self.us;
        let now = Now { wall_us: wall(us), monotonic_us: us };
        while let Some(answered) = self.directory.as_mut().and_then(|directory| directory.poll(now)) {
            for node in &mut self.nodes {
                // What comes while a process stands still is lost.
                if let Some(number) = node.asked.remove(&answered.ticket)
                    && us >= node.paused_until
                {
                    let now = node.at(us);
                    node.host.heard(number, answered.outcome.clone(), now);
                }
            }
        }
        for at in 0..self.nodes.len() {
            self.obey(at);
        }
    }

    pub(crate) fn trouble(&mut self) {
        let at = self.dice.below(self.nodes.len() as u64) as usize;
        let us = self.us;
        match self.dice.below(3_000) {
            0..20 => {
                self.nodes[at].paused_until = us + self.dice.below(6_000_000);
                self.reached.insert("paused");
            }
            20..30 => {
                self.nodes[at].begin_again();
                self.reached.insert("began a new life");
            }
            30..32 => {
                self.directory = None;
                self.disk.power_cut();
                self.directory = Some(directory(&self.disk, self.dice.below(1 << 40)));
                self.nodes.iter_mut().for_each(|node| node.asked.clear());
                self.reached.insert("the directory was started again");
            }
            32..52 => {
                let off = self.dice.chance(2);
                self.directory.iter().for_each(|directory| directory.set_unreachable(off));
            }
            52..60 => {
                let until = us + self.dice.below(10_000_000);
                self.nodes[at].broken = Some((1 + self.dice.below(u64::from(BRANCHES)) as u16, until));
            }
            60..70 => {
                self.nodes[at].wall_off = [0, 200_000, 2_000_000, -2_000_000][self.dice.below(4) as usize];
            }
            70..74 => {
                let drains = self.dice.chance(2);
                self.say(at, drains);
                self.reached.insert("drained");
            }
            74..78 => {
                self.nodes[at].host.stop();
                self.reached.insert("stopped");
            }
            78..86 => {
                let is_reached = self.dice.chance(2);
                self.nodes[at].host.reached(is_reached);
                self.reached.insert("cut off the bus");
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        for branch in 1..=BRANCHES {
            let counts = |node: &&Node| {
                let boot_us = node.at(self.us).boot_us;
                node.serving.contains(&branch) && node.host.relied_until(branch, boot_us) > boot_us
            };
            let who: Vec<&Name> = self.nodes.iter().filter(counts).map(|node| &node.name).collect();
            assert!(who.len() <= 1, "{who:?} answer for branch {branch} from their leases");
            self.reached.insert(if who.is_empty() { "nobody" } else { "somebody" });
        }
        // Who goes on although the directory does not answer: by what the store says.
        let beyond = self.nodes.iter().any(|node| {
            let boot_us = node.at(self.us).boot_us;
            node.serving.iter().any(|branch| node.host.relied_until(*branch, boot_us) == 0)
        });
        if beyond {
            self.reached.insert("served beyond a lease");
        }
    }

    /// An operator drains a node, or lets it have branches again.
    pub(crate) fn say(&mut self, at: usize, drains: bool) {
        let by = drains.then(|| Who::new("chief").unwrap());
        let ask = Ask::Drain { node: self.nodes[at].name.clone(), by };
        if let Some(directory) = &mut self.directory {
            directory.submit(ask).unwrap();
        }
    }

    pub(crate) fn run(&mut self, us: u64, mut each: impl FnMut(&Self)) {
        let end = self.us + us;
        while self.us < end {
            self.step();
            each(self);
        }
    }

    /// All troubles are over: clocks are right, everybody runs, the directory answers, nobody is drained.
    pub(crate) fn mend(&mut self) {
        let calm = Weather { patience_us: 1_000_000, ..Weather::default() };
        if let Some(directory) = &self.directory {
            directory.set_unreachable(false);
            directory.set_weather(calm);
        }
        for node in &mut self.nodes {
            (node.wall_off, node.paused_until, node.broken) = (0, 0, None);
            // Whoever stopped is started again.
            node.begin_again();
        }
        // What an operator said before may still be on its way.
        self.run(1_000_000, |_| {});
        (0..self.nodes.len()).for_each(|at| self.say(at, false));
    }

    pub(crate) fn hosted(&self) -> Vec<BTreeSet<u16>> {
        let us = self.us;
        let relied = |node: &Node, branch: &u16| node.host.relied_until(*branch, node.at(us).boot_us) > 0;
        let open = |node: &Node| node.serving.iter().copied().filter(|branch| relied(node, branch)).collect();
        self.nodes.iter().map(open).collect()
    }

    fn is_well(&self) -> bool {
        let hosted = self.hosted();
        let all: usize = hosted.iter().map(BTreeSet::len).sum();
        let alone = hosted.iter().any(|branches| branches.len() == 1 && branches.contains(&ALONE));
        let others = hosted.iter().filter(|branches| !branches.contains(&ALONE));
        let counts: Vec<usize> = others.map(BTreeSet::len).collect();
        let (most, least) = (counts.iter().max(), counts.iter().min());
        all == usize::from(BRANCHES)
            && alone
            && (1..=BRANCHES).all(|branch| self.is_followed(branch))
            && most.zip(least).is_some_and(|(most, least)| most - least <= 1)
    }

    /// Whether as many follow it as it wants, and its host is none of them.
    fn is_followed(&self, branch: u16) -> bool {
        let follow = self.nodes.iter().filter(|node| node.following.contains(&branch));
        let hosts =
            self.nodes.iter().any(|node| node.following.contains(&branch) && node.serving.contains(&branch));
        !hosts && follow.count() == usize::from(wanted(branch))
    }

    /// Runs until all is well and stays so.
    pub(crate) fn gets_well(&mut self, within_us: u64) {
        let end = self.us + within_us;
        let mut since = None;
        while self.us < end {
            self.step();
            since = if self.is_well() { since.or(Some(self.us)) } else { None };
            if since.is_some_and(|since| self.us - since > 5_000_000) {
                return;
            }
        }
        panic!("after {within_us} us: {:?}", self.hosted());
    }
}

/// A directory that was started again waits for leases that it may have forgotten: a minute.
pub(crate) const START_US: u64 = 61_000_000;
