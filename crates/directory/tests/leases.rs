//! Whatever happens to nodes, clocks and the way to the directory, no two nodes count on the lease of one branch at once.

mod dice;

use std::collections::{BTreeMap, BTreeSet};

use dice::Dice;
use skerry_directory::keeper::CLOCK_OFF_US_MAX;
use skerry_directory::{
    Ask, BranchRow, Directory, Embedded, EmbeddedOptions, FaultyDirectory, Holder, Keeper, Name, NodeRow,
    Now, Rebuild, Sent, StoreRow, Ticket, Told, Weather, Where,
};
use skerry_journal::FaultStorage;

const LEASE_US: u64 = 2_000_000;
const MARGIN_US: u64 = 200_000;
const DELAY_US: u64 = 300_000;
const BRANCHES: [u16; 2] = [1, 2];

struct Node {
    name: Name,
    incarnation: u64,
    keeper: Keeper,
    /// The boot clock against the world's: it goes on whatever happens.
    boot_ahead: u64,
    wall_off: i64,
    /// It does nothing before then: it is stopped.
    paused_until: u64,
    open: BTreeMap<Ticket, (Ask, Sent)>,
    asks_at: u64,
}

impl Node {
    fn boot(&self, us: u64) -> u64 {
        us + self.boot_ahead
    }

    fn wall(&self, us: u64) -> u64 {
        wall(us).saturating_add_signed(self.wall_off)
    }

    fn holder(&self) -> Holder {
        Holder { node: self.name.clone(), incarnation: self.incarnation }
    }
}

fn wall(us: u64) -> u64 {
    1_767_585_600_000_000 + us
}

struct World {
    dice: Dice,
    disk: FaultStorage,
    directory: Option<FaultyDirectory<Embedded<FaultStorage>>>,
    nodes: Vec<Node>,
    us: u64,
    reached: BTreeSet<&'static str>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let nodes = ["a", "b", "c"].map(|name| Node {
            name: Name::new(name).expect("as set up"),
            incarnation: 1,
            keeper: Keeper::new(MARGIN_US),
            boot_ahead: dice.below(1 << 40),
            wall_off: [0, 200_000, -300_000, 2_000_000, -2_000_000][dice.below(5) as usize],
            paused_until: 0,
            open: BTreeMap::new(),
            asks_at: 0,
        });
        let (nodes, disk) = (Vec::from(nodes), FaultStorage::new(seed));
        let mut world = Self { dice, disk, directory: None, nodes, us: 1_000_000, reached: BTreeSet::new() };
        world.start();
        world.hear();
        // Whoever had a lease before the directory was started may count on it for a minute.
        world.us += 61_000_000;
        world
    }

    fn start(&mut self) {
        let options = EmbeddedOptions { alone: false, ..EmbeddedOptions::default() };
        let embedded = Embedded::open(&self.disk, options).expect("as set up");
        let mut directory = FaultyDirectory::new(embedded, self.dice.below(1 << 40));
        let local = Name::new("local").expect("as set up");
        let store = StoreRow {
            name: local.clone(),
            kind: local.clone(),
            place: Where::new("here").expect("as set up"),
        };
        let node = |node: &Node| NodeRow {
            name: node.name.clone(),
            address: Where::new("skerry.node").expect("as set up"),
            capacity: 2,
            version: Where::new("1").expect("as set up"),
            draining: false,
        };
        let mut asks = vec![Ask::PutStore(store), Ask::Rebuild(Rebuild::Begin)];
        asks.extend(BRANCHES.map(|branch| Ask::AddBranch(BranchRow::new(branch, local.clone()))));
        asks.extend(self.nodes.iter().map(|own| Ask::Beat { node: node(own), follows: Vec::new() }));
        for ask in asks {
            directory.submit(ask).expect("as set up");
        }
        directory.set_weather(Weather {
            lost_ask_ppm: 50_000,
            lost_answer_ppm: 50_000,
            doubled_ppm: 50_000,
            delay_us_max: DELAY_US,
            patience_us: 1_000_000,
        });
        self.nodes.iter_mut().for_each(|node| node.open.clear());
        self.directory = Some(directory);
    }

    fn step(&mut self) {
        self.us += 1 + self.dice.below(60_000);
        let at = self.dice.below(self.nodes.len() as u64) as usize;
        self.ask(at);
        self.hear();
        self.check();
        match self.dice.below(2_000) {
            0..30 => {
                // Longer than any lease, now and then.
                let pause = self.dice.below(3 * LEASE_US);
                self.nodes[at].paused_until = self.us + pause;
                self.reached.insert("paused");
            }
            30..35 => {
                let node = &mut self.nodes[at];
                (node.incarnation, node.keeper) = (node.incarnation + 1, Keeper::new(MARGIN_US));
                node.open.clear();
                self.reached.insert("began a new life");
            }
            35 => {
                self.directory = None;
                self.disk.power_cut();
                self.start();
                self.reached.insert("the directory was started again");
            }
            36..56 => {
                let off = self.dice.chance(2);
                self.directory.iter().for_each(|directory| directory.set_unreachable(off));
            }
            56..70 => {
                let held: Vec<u16> = self.nodes[at].keeper.branches().collect();
                let leases = self.nodes[at].keeper.give_up(&held);
                self.reached.insert("gave up");
                let ask = Ask::GiveUp { leases, holder: self.nodes[at].holder() };
                let _unheard = self.directory.as_mut().map(|directory| directory.submit(ask));
            }
            _ => {}
        }
    }

    fn ask(&mut self, at: usize) {
        let (us, branch) = (self.us, BRANCHES[self.dice.below(2) as usize]);
        let node = &mut self.nodes[at];
        if us < node.paused_until
            || us < node.asks_at
            || node.keeper.is_clock_off() && node.keeper.off_us() == 0
        {
            return;
        }
        node.asks_at = us + LEASE_US / 4;
        let held: Vec<u16> = node.keeper.branches().collect();
        let holder = node.holder();
        let ask = if held.is_empty() || us % 3 == 0 {
            Ask::Acquire { branch, holder, lease_us: LEASE_US }
        } else {
            Ask::Renew { branches: held, holder, lease_us: LEASE_US }
        };
        let sent = Sent { boot_us: node.boot(us), wall_us: node.wall(us) };
        if let Some(Ok(ticket)) = self.directory.as_mut().map(|directory| directory.submit(ask.clone())) {
            node.open.insert(ticket, (ask, sent));
        }
    }

    fn hear(&mut self) {
        let now = Now { wall_us: wall(self.us), monotonic_us: self.us };
        let Some(directory) = &mut self.directory else { return };
        while let Some(answered) = directory.poll(now) {
            for node in &mut self.nodes {
                let Some((ask, sent)) = node.open.remove(&answered.ticket) else { continue };
                let heard = node.wall(self.us);
                match (&ask, &answered.outcome) {
                    (Ask::Acquire { branch, .. }, Ok(Told::Granted { grant, lease_us, wall_us })) => {
                        let counts = node.keeper.granted(sent, *branch, *grant, *lease_us, (*wall_us, heard));
                        self.reached.insert(if counts { "granted" } else { "granted what was given up" });
                    }
                    (_, Ok(Told::Renewed { kept, lost, lease_us, wall_us })) => {
                        node.keeper.renewed(sent, kept, *lease_us, (*wall_us, heard));
                        node.keeper.lost(lost);
                        self.reached.insert(if lost.is_empty() { "renewed" } else { "lost" });
                    }
                    (_, Ok(_)) => drop(self.reached.insert("refused")),
                    (_, Err(_)) => drop(self.reached.insert("unknown")),
                }
            }
        }
    }

    fn check(&mut self) {
        for branch in BRANCHES {
            let counts = |node: &&Node| node.keeper.may_answer(branch, node.boot(self.us));
            let holders: Vec<&Name> = self.nodes.iter().filter(counts).map(|node| &node.name).collect();
            assert!(holders.len() <= 1, "{holders:?} count on branch {branch}");
            self.reached.insert(if holders.is_empty() { "nobody" } else { "somebody" });
        }
        for node in &self.nodes {
            // What an answer may hide of a difference is the time that it was under way.
            let hidden = CLOCK_OFF_US_MAX + DELAY_US + 120_000;
            let answers = BRANCHES.iter().any(|branch| node.keeper.may_answer(*branch, node.boot(self.us)));
            assert!(!answers || node.wall_off.unsigned_abs() <= hidden, "{} is off and hosts", node.name);
            if node.keeper.is_clock_off() {
                assert!(
                    node.wall_off.unsigned_abs() > CLOCK_OFF_US_MAX,
                    "a clock that is right is not blamed"
                );
                self.reached.insert("a clock is off");
            }
        }
    }
}

#[test]
fn nobody_counts_on_another_s_lease() {
    let mut reached = BTreeSet::new();
    for seed in 1..=100 {
        let mut world = World::new(seed);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..2_000).for_each(|_| world.step());
        }));
        assert!(ran.is_ok(), "seed {seed}");
        reached.append(&mut world.reached);
    }
    for state in [
        "paused",
        "began a new life",
        "the directory was started again",
        "granted",
        "granted what was given up",
        "renewed",
        "lost",
        "gave up",
        "refused",
        "unknown",
        "nobody",
        "somebody",
        "a clock is off",
    ] {
        assert!(reached.contains(state), "no life reached: {state}; reached {reached:?}");
    }
}
