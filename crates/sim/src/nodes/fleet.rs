//! The bank of several nodes and its steps.

use std::collections::BTreeMap;

use skerry_branch::Now;
use skerry_branch::sabotage::Sabotage;
use skerry_directory::{
    Ask, BranchRow, Directory, Embedded, EmbeddedOptions, FaultyDirectory, Name, Rebuild, StoreRow, Ticket,
    Weather, Where,
};
use skerry_journal::FaultStorage;
use skerry_node::lease::Lease;
use skerry_proof::Hash;

use super::machine::Machine;
use super::mail::Buses;
use super::seat::{Ground, Seat};
use super::store::SharedStore;
use super::tally::Reached;
use super::watch::Watch;
use super::{Bugs, wall_us};
use crate::dice::Dice;
use crate::model::Broken;
use crate::pairs::Pairs;
use crate::site::PEERS;
use crate::tally::Tally;
use crate::world::{At, pairs};

/// The nodes; the last one joins later.
pub(super) const NODES: [&str; 4] = ["a", "b", "c", "d"];

/// What was durable at this step no store loses: branches are founded and know each other. How a branch comes back that has lost its
/// channels too, the other world shows.
const BEGUN: u64 = 80;

/// The bank.
pub(crate) struct Fleet {
    pub(super) machines: Vec<Machine>,
    pub(super) watches: Vec<Watch>,
    /// None only while it is started again.
    pub(super) directory: Option<FaultyDirectory<Embedded<FaultStorage>>>,
    /// It was, and has forgotten leases.
    pub(super) is_forgetful: bool,
    pub(super) directory_disk: FaultStorage,
    /// When it can be reached again.
    pub(super) directory_back: u64,
    /// Who asked: node, life of its process, number.
    pub(super) asked: BTreeMap<Ticket, (usize, u64, u64)>,
    pub(super) buses: Buses,
    pub(super) buses_back: u64,
    pub(super) dice: Dice,
    pub(super) us: u64,
    pub(crate) step: u64,
    pub(super) trouble_every: u64,
    /// Kinds of mishaps that are left out.
    pub(super) without: Vec<String>,
    pub(super) bugs: Bugs,
    pairs: Pairs,
    pub(crate) tally: Tally,
}

pub(super) const WEATHER: Weather = Weather {
    lost_ask_ppm: 40_000,
    lost_answer_ppm: 40_000,
    doubled_ppm: 40_000,
    delay_us_max: 250_000,
    patience_us: 1_000_000,
};

/// How many followers a branch wants.
pub(super) fn wanted(branch: u16) -> u8 {
    [0, 1, 2][usize::from(branch) % 3]
}

/// The directory, with all branches in it. `alone`: nobody acts upon what it may have forgotten.
pub(super) fn directory(
    disk: &FaultStorage,
    alone: bool,
    seed: u64,
) -> FaultyDirectory<Embedded<FaultStorage>> {
    let options = EmbeddedOptions { alone, ..EmbeddedOptions::default() };
    let opened = Embedded::open(disk, options).expect("a calm disk");
    let mut directory = FaultyDirectory::new(opened, seed);
    let local = Name::new("shared").expect("a name");
    let store =
        StoreRow { name: local.clone(), kind: local.clone(), place: Where::new("memory").expect("a place") };
    let asks = [Ask::PutStore(store), Ask::Rebuild(Rebuild::Begin)].into_iter();
    let branches = PEERS.map(|number| {
        Ask::AddBranch(BranchRow { followers: wanted(number), ..BranchRow::new(number, local.clone()) })
    });
    for ask in asks.chain(branches) {
        directory.submit(ask).expect("it has room");
    }
    directory.set_weather(WEATHER);
    directory
}

impl Fleet {
    pub(crate) fn new(seed: u64, bugs: Bugs, sabotage: Sabotage, without: Vec<String>) -> Self {
        let mut dice = Dice::new(seed ^ 0x6e6f_6465_7300_0000);
        let straight = dice.chance(1, 2);
        let machines = NODES.map(|name| Machine::new(name, straight, &mut dice)).into();
        let watches = PEERS.map(|number| Watch::new(number, sabotage, &mut dice)).into();
        let directory_disk = FaultStorage::new(dice.next());
        Self {
            machines,
            watches,
            directory: Some(directory(&directory_disk, true, dice.below(1 << 40))),
            is_forgetful: false,
            directory_disk,
            directory_back: 0,
            asked: BTreeMap::new(),
            buses: Buses::default(),
            buses_back: 0,
            us: 1_000_000,
            step: 0,
            trouble_every: [5, 8, 8, 20][dice.index(4)],
            dice,
            without,
            bugs,
            pairs: Pairs::default(),
            tally: Tally::nodes(),
        }
    }

    /// Runs the bank: founds it, troubles it for `steps`, and brings it to rest.
    pub(crate) fn run(&mut self, steps: u64) -> At<()> {
        self.found()?;
        for machine in &mut self.machines[..NODES.len() - 1] {
            machine.start(&self.buses);
        }
        self.change_weather();
        while self.step < steps {
            self.step += 1;
            self.us += match self.dice.below(40) {
                0..36 => self.dice.between(5_000, 120_000),
                36..39 => self.dice.between(200_000, 1_000_000),
                _ => self.dice.between(1_000_000, 4_000_000),
            };
            for _ in 0..self.dice.between(1, 4) {
                let at = self.dice.index(self.watches.len());
                self.ask_something(at);
            }
            if self.step == BEGUN {
                self.watches.iter_mut().for_each(|watch| watch.floor = watch.batches.batches());
            }
            if self.dice.chance(1, self.trouble_every) {
                self.trouble()?;
            }
            self.one_step()?;
        }
        self.bring_to_rest()
    }

    /// Each branch is founded before any node hosts it.
    fn found(&mut self) -> At<()> {
        let now = Now { wall_us: wall_us(self.us), monotonic_us: self.us };
        for watch in &mut self.watches {
            let number = watch.number;
            found(watch, now, &mut self.dice).map_err(|why| (number, why))?;
        }
        Ok(())
    }

    /// What everybody does by themselves.
    pub(super) fn one_step(&mut self) -> At<()> {
        let us = self.us;
        if us >= self.directory_back {
            self.directory.iter().for_each(|directory| directory.set_unreachable(false));
        }
        if us >= self.buses_back {
            self.buses.weathers.iter().for_each(skerry_bus::Weather::heal);
        }
        for machine in &mut self.machines {
            if machine.down_until.is_some_and(|until| until > 0 && us >= until) {
                machine.start(&self.buses);
            }
            machine.tick(us);
        }
        for at in 0..self.machines.len() {
            if self.machines[at].is_awake(us) {
                self.machines[at].work(us, &self.watches, &self.bugs, &mut self.tally);
                self.witness_openings(at)?;
            }
            self.let_ghosts_act(at);
        }
        self.talk_to_the_directory();
        self.operate();
        for watch in &mut self.watches {
            watch.observe().map_err(|why| (watch.number, why))?;
        }
        self.check()
    }

    fn witness_openings(&mut self, at: usize) -> At<()> {
        for (number, seat) in &mut self.machines[at].seats {
            let Some(watch) = self.watches.iter_mut().find(|watch| watch.number == *number) else { continue };
            for opened in std::mem::take(&mut seat.openings) {
                watch.opened(&opened, at).map_err(|why| (*number, why))?;
            }
            if let Some(why) = seat.sickness().filter(|why| !is_excused(why, watch, at)) {
                return Err((*number, format!("stops: {why}")));
            }
        }
        Ok(())
    }

    fn let_ghosts_act(&mut self, at: usize) {
        let (us, dice) = (self.us, &mut self.dice);
        self.machines[at].ghosts.retain_mut(|(until, seat)| {
            if dice.chance(1, 3) {
                seat.arrive();
            }
            us < *until
        });
    }

    fn talk_to_the_directory(&mut self) {
        let Some(directory) = &mut self.directory else { return };
        for (at, machine) in self.machines.iter_mut().enumerate() {
            for (number, ask) in std::mem::take(&mut machine.asks) {
                if let Ok(ticket) = directory.submit(ask) {
                    self.asked.insert(ticket, (at, machine.life, number));
                }
            }
        }
        let now = skerry_directory::Now { wall_us: wall_us(self.us), monotonic_us: self.us };
        while let Some(answered) = directory.poll(now) {
            let Some((at, life, number)) = self.asked.remove(&answered.ticket) else { continue };
            let machine = &mut self.machines[at];
            if answered.outcome.is_err() {
                self.tally.reach(Reached::DirectorySilent);
            }
            // Whoever stands still hears it when it goes on.
            if machine.runs() && machine.life == life {
                machine.answers.push_back((number, answered.outcome));
            }
        }
    }

    /// The branch where it answers now.
    pub(super) fn owner(&self, number: u16) -> Option<&Seat> {
        let seats = self.machines.iter().filter_map(|machine| machine.seats.get(&number));
        seats
            .filter(|seat| seat.is_open())
            .max_by_key(|seat| (seat.answers(), seat.branch.book().map_or(0, skerry_book::Book::position)))
    }

    /// What any two nodes, and any two branches, say alike.
    fn check(&mut self) -> At<()> {
        for number in PEERS {
            let seats = || self.machines.iter().filter_map(|machine| machine.seats.get(&number));
            let counting = seats().filter(|seat| seat.answers()).count();
            if counting > 1 {
                return Err((number, format!("{counting} nodes count on its lease")));
            }
            if seats().filter(|seat| seat.is_open()).count() > 1 {
                self.tally.reach(Reached::TwoOpen);
            }
            let beyond = seats().any(|seat| seat.is_open() && !seat.answers());
            if beyond && self.us < self.directory_back {
                self.tally.reach(Reached::ServedWithoutDirectory);
            }
        }
        self.compare(false)
    }

    /// What any two branches say of the payments between them.
    pub(super) fn compare(&mut self, at_rest: bool) -> At<()> {
        let mut known = std::mem::take(&mut self.pairs);
        let compared = pairs(self.watches.len()).try_for_each(|(from, to)| {
            let [one, other] = [from, to].map(|at| {
                let watch = &self.watches[at];
                let owner = if at_rest { self.owner(watch.number) } else { None };
                watch.side(owner.and_then(|seat| seat.branch.book()))
            });
            let broken = |why| (one.number, why);
            known.compare(&one, &other).map_err(broken)?;
            let mut tally = Tally::nodes();
            Pairs::compare_books(&one, &other, &mut tally).map_err(broken)
        });
        self.pairs = known;
        compared
    }

    /// Head hash of each branch's journal, and the records in all of them.
    pub(crate) fn journals(&self) -> (Vec<Hash>, u64) {
        let heads = self.watches.iter().map(|watch| watch.oracle.head()).collect();
        (heads, self.watches.iter().map(|watch| watch.oracle.position()).sum())
    }

    pub(crate) fn sum_up(&mut self) -> Tally {
        for watch in &self.watches {
            self.tally.merge(&watch.tally);
        }
        let checks: u64 = self
            .machines
            .iter()
            .flat_map(|machine| machine.seats.values())
            .map(|seat| seat.branch.owner_checks())
            .sum();
        (0..checks).for_each(|_| self.tally.reach(Reached::OwnerConfirmed));
        self.tally.clone()
    }
}

/// What a branch says that stops, or is followed no more, because its store has lost something.
const AFTER_A_LOSS: [&str; 3] = ["rewound", "beyond the durable end", "the journal is another one"];

/// Why a branch may stop on the node `at`.
fn is_excused(why: &str, watch: &Watch, at: usize) -> bool {
    let usual = ["open elsewhere", "could not append", "cannot be opened now"];
    // Another has opened it since: what was on its way when that happened is not in the journal.
    let superseded = watch.last_at != Some(at) && why.contains("beyond the durable end");
    superseded
        || usual.iter().any(|usual| why.contains(usual))
        || (watch.lives > 0 && AFTER_A_LOSS.iter().any(|after| why.contains(after)))
}

/// Founds a branch on a machine of its own, alone.
fn found(watch: &mut Watch, now: Now, dice: &mut Dice) -> Result<(), Broken> {
    let lease = std::sync::Arc::new(Lease::new(|| 0));
    let store = SharedStore { batches: watch.batches.clone(), cut: std::sync::Arc::default() };
    let ground = Ground {
        options: watch.options.clone(),
        store,
        storage: FaultStorage::new(dice.next()),
        keys: std::sync::Arc::clone(&watch.keys),
    };
    let mut seat = Seat::new(ground, lease, 0);
    seat.drive(now, 0, dice);
    let orders = watch.desk.founding(&*watch.keys, now.wall_us);
    for order in orders {
        watch.desk.insist(Some(&seat.branch), order, &watch.oracle.model, now, &mut watch.tally)?;
        if !seat.settle(now) {
            return Err("its founding never ends".to_owned());
        }
        watch.observe()?;
    }
    seat.close(false);
    while seat.drive(now, 0, dice).is_none() {}
    watch.observe()
}
