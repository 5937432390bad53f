//! One node: its clocks, the real [`Host`], the branches that it has, its way onto the buses.
//!
//! It does what the bank's own driver does around a host: carries its orders out, sets leases after every word, tells it how branches are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use skerry_branch::{Leash, Now};
use skerry_directory::{Ask, Fault, Name, NodeRow, Sent, Told, Where};
use skerry_journal::{FaultStorage, Storage};
use skerry_node::host::{Host, HostOptions, Order, Seen};
use skerry_node::lease::Lease;

use super::mail::{BUSES, Buses, Mail};
use super::seat::{Ground, Seat};
use super::store::SharedStore;
use super::tally::Reached;
use super::watch::Watch;
use super::{Bugs, wall_us};
use crate::dice::Dice;
use crate::tally::Tally;

/// A node's clocks against the world's.
pub(super) struct Clocks {
    /// What the boot clock shows now; it goes on while the process stands still.
    boot: Arc<AtomicU64>,
    /// What it showed when the process last did something.
    awake: Arc<AtomicU64>,
    ahead_us: u64,
    /// Millionths by which it goes fast or slow.
    drift_ppm: i64,
    pub(super) wall_off_us: i64,
}

impl Clocks {
    fn tick(&self, us: u64, is_awake: bool) {
        let drift = i64::try_from(us).unwrap_or(i64::MAX) / 1_000_000 * self.drift_ppm;
        let boot_us = (us + self.ahead_us).saturating_add_signed(drift);
        self.boot.store(boot_us, Ordering::Relaxed);
        if is_awake {
            self.awake.store(boot_us, Ordering::Relaxed);
        }
    }

    fn boot_us(&self) -> u64 {
        self.boot.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self, us: u64) -> Sent {
        Sent { boot_us: self.boot_us(), wall_us: wall_us(us).saturating_add_signed(self.wall_off_us) }
    }

    pub(super) fn now(&self, us: u64) -> Now {
        let Sent { boot_us, wall_us } = self.sent(us);
        Now { wall_us, monotonic_us: boot_us }
    }
}

/// See the module.
pub(super) struct Machine {
    pub(super) name: Name,
    pub(super) bus_name: skerry_bus::Name,
    pub(super) host: Host,
    /// Which life of the process it is.
    pub(super) life: u64,
    pub(super) clocks: Clocks,
    pub(super) paused_until: u64,
    /// No process runs before then.
    pub(super) down_until: Option<u64>,
    pub(super) cut_until: u64,
    pub(super) cut: Arc<AtomicBool>,
    /// The directory's answers that wait for the process.
    pub(super) answers: VecDeque<(u64, Result<Told, Fault>)>,
    /// What is to be asked of the directory.
    pub(super) asks: Vec<(u64, Ask)>,
    pub(super) seats: BTreeMap<u16, Seat>,
    /// Of a process that died: what it had sent is still on its way to the stores, until then.
    pub(super) ghosts: Vec<(u64, Seat)>,
    disk: FaultStorage,
    mail: Option<Mail>,
    straight: bool,
    /// It drains, or stops.
    pub(super) is_leaving: bool,
    pub(super) dice: Dice,
}

fn options(name: &Name, life: u64) -> HostOptions {
    let (address, version) = (Where::new("skerry.node").expect("a place"), Where::new("1").expect("a place"));
    let node = NodeRow { name: name.clone(), address, capacity: 8, version, draining: false };
    HostOptions::new(node, life)
}

impl Machine {
    /// A machine without a process.
    pub(super) fn new(name: &str, straight: bool, dice: &mut Dice) -> Self {
        let bus_name = skerry_bus::Name::new(name).expect("a name");
        let name = Name::new(name).expect("a name");
        let drift_ppm = i64::try_from(dice.below(400)).unwrap_or(0) - 200;
        let wall_off_us = [0, 120_000, -200_000][dice.index(3)];
        let clocks = Clocks {
            boot: Arc::default(),
            awake: Arc::default(),
            ahead_us: dice.below(1 << 40),
            drift_ppm,
            wall_off_us,
        };
        Self {
            host: Host::new(options(&name, 0)),
            name,
            bus_name,
            life: 0,
            clocks,
            paused_until: 0,
            down_until: Some(0),
            cut_until: 0,
            cut: Arc::default(),
            answers: VecDeque::new(),
            asks: Vec::new(),
            seats: BTreeMap::new(),
            ghosts: Vec::new(),
            disk: FaultStorage::new(dice.next()),
            mail: None,
            straight,
            is_leaving: false,
            dice: dice.fork(),
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.down_until.is_none()
    }

    pub(super) fn is_awake(&self, us: u64) -> bool {
        self.runs() && us >= self.paused_until
    }

    /// A process begins: it knows nothing of the one before.
    pub(super) fn start(&mut self, buses: &Buses) {
        self.life += 1;
        self.host = Host::new(options(&self.name, self.life));
        self.down_until = None;
        self.is_leaving = false;
        self.mail = None;
        self.mail = Some(Mail::connect(buses, self.bus_name, &mut self.dice));
    }

    /// The process is gone, until then. What it had sent to the stores may still arrive.
    pub(super) fn crash(&mut self, until: u64, late_until: Option<u64>) {
        self.down_until = Some(until);
        self.paused_until = 0;
        let seats = std::mem::take(&mut self.seats);
        if let Some(late_until) = late_until {
            self.ghosts.extend(seats.into_values().map(|seat| (late_until, seat)));
        }
        self.answers.clear();
        self.asks.clear();
        self.mail = None;
    }

    /// The machine loses its power, or is replaced by an empty one.
    pub(super) fn lose_disk(&mut self, all: bool) {
        if all {
            self.disk = FaultStorage::new(self.dice.next());
        } else {
            self.disk.power_cut();
        }
    }

    fn folder(&self, branch: u16) -> FaultStorage {
        self.disk.folder(&format!("branch-{branch}")).expect("a calm disk")
    }

    /// Time passes, also for whoever stands still.
    pub(super) fn tick(&mut self, us: u64) {
        self.clocks.tick(us, self.is_awake(us));
        self.cut.store(us < self.cut_until, Ordering::Relaxed);
    }

    /// A turn of the process.
    pub(super) fn work(&mut self, us: u64, watches: &[Watch], bugs: &Bugs, tally: &mut Tally) {
        // Whoever stood still finds no order among what waits for it.
        if self.dice.chance(1, 2) {
            self.drive(us, tally);
            self.talk(us, tally);
            self.govern(us, watches, bugs, tally);
        } else {
            self.govern(us, watches, bugs, tally);
            self.drive(us, tally);
            self.talk(us, tally);
        }
    }

    fn drive(&mut self, us: u64, tally: &mut Tally) {
        let now = self.clocks.now(us);
        let mut ended = Vec::new();
        for (number, seat) in &mut self.seats {
            let (was_open, was_level) = (seat.is_open(), seat.is_level());
            ended.extend(seat.drive(now, us, &mut self.dice).map(|seen| (*number, seen)));
            if !was_level && seat.is_level() {
                tally.reach(Reached::Followed);
            }
            if was_open && let Some(why) = seat.sickness() {
                let fenced = why.contains("open elsewhere");
                tally.reach(if fenced { Reached::Fenced } else { Reached::Uncertain });
            }
            if seat.branch.clock_jumped().is_some() && self.dice.chance(1, 10) {
                seat.branch.confirm_clock(now);
            }
        }
        let sent = self.clocks.sent(us);
        for (number, seen) in ended {
            let told = self.seats.get(&number).is_some_and(|seat| seat.is_given_up);
            if seen == Seen::Closed {
                self.seats.remove(&number);
            }
            tally.reach(if seen == Seen::Closed { Reached::Closed } else { Reached::HandedOver });
            if !told {
                self.host.seen(number, seen, sent);
            }
        }
    }

    /// Carries what branches say, and what is said to them.
    fn talk(&mut self, us: u64, tally: &mut Tally) {
        let Some(mail) = &mut self.mail else { return };
        let now = self.clocks.now(us);
        let hosted: BTreeSet<u16> =
            self.seats.iter().filter(|(_, seat)| seat.is_there()).map(|(number, _)| *number).collect();
        mail.hear(&hosted);
        let mut out = Vec::new();
        for seat in self.seats.values_mut() {
            out.extend(std::iter::from_fn(|| seat.branch.take_message()));
        }
        for mut message in out {
            if self.straight && hosted.contains(&message.to) {
                tally.reach(Reached::HeardStraight);
                let _unheard = self.seats[&message.to].branch.deliver(message.bytes, now);
                continue;
            }
            if self.dice.chance(1, 60) {
                tally.mishap(super::tally::Mishap::Damaged);
                let mut bytes = message.bytes.to_vec();
                let at = self.dice.index(bytes.len());
                bytes[at] ^= 1 << self.dice.below(8);
                message.bytes = bytes.into();
            }
            if mail.chosen == 1 {
                tally.reach(Reached::SentOverTheOtherBus);
            }
            mail.send(message);
        }
        while let Some((to, bytes, sealed)) = mail.poll(us) {
            if !sealed {
                tally.reach(Reached::Refused);
            } else if let Some(seat) = self.seats.get(&to) {
                // Who is sick or busy does not hear.
                let _unheard = seat.branch.deliver(bytes, now);
            }
        }
    }

    /// What the host wants, and what it is told.
    fn govern(&mut self, us: u64, watches: &[Watch], bugs: &Bugs, tally: &mut Tally) {
        let sent = self.clocks.sent(us);
        let is_reached = self.mail.as_ref().is_none_or(Mail::is_reached);
        self.host.reached(is_reached);
        if !is_reached {
            tally.reach(Reached::CutOff);
        }
        while let Some((number, told)) = self.answers.pop_front() {
            self.host.heard(number, told, sent);
            self.settle(us, watches, bugs, tally);
        }
        self.host.turn(sent);
        self.settle(us, watches, bugs, tally);
        let seen: Vec<_> =
            self.seats.iter().filter_map(|(number, seat)| Some((*number, seat.seen()?))).collect();
        for (number, seen) in seen {
            self.host.seen(number, seen, sent);
        }
        self.settle(us, watches, bugs, tally);
        let chosen = self.host.map().bus.as_ref();
        let chosen = chosen.and_then(|row| BUSES.iter().position(|bus| *bus == row.name.as_str()));
        if let Some(mail) = &mut self.mail {
            mail.chosen = chosen.unwrap_or(0);
        }
    }

    /// After every word to the host: leases first, then its orders.
    fn settle(&mut self, us: u64, watches: &[Watch], bugs: &Bugs, tally: &mut Tally) {
        let sent = self.clocks.sent(us);
        for (number, seat) in self.seats.iter().filter(|(_, seat)| !seat.is_given_up) {
            let held = seat.lease.holds();
            seat.lease.holds_until(self.host.relied_until(*number, sent.boot_us));
            if held && !seat.lease.holds() {
                tally.reach(Reached::LeaseRunOut);
            }
        }
        while let Some(order) = self.host.poll() {
            match order {
                Order::Ask(number, ask) => self.asks.push((number, ask)),
                Order::Open(row) => self.open(row.number, us, watches, bugs),
                Order::Follow(row) => {
                    let parts = self.parts(row.number, watches, bugs);
                    let seat = parts.map(|(ground, lease)| Seat::follower(ground, lease));
                    assert!(!self.seats.contains_key(&row.number), "its folder is one seat's at a time");
                    self.seats.extend(seat.map(|seat| (row.number, seat)));
                }
                Order::Close(number) => self.close(number, false, sent, bugs),
                Order::HandOver(number) => self.close(number, true, sent, bugs),
                Order::Unfollow(number) => {
                    tally.reach(Reached::Unfollowed);
                    self.close(number, false, sent, &Bugs::default());
                }
            }
        }
    }

    fn close(&mut self, number: u16, hands_over: bool, sent: Sent, bugs: &Bugs) {
        let Some(seat) = self.seats.get_mut(&number) else {
            // Nothing of it is here.
            return self.host.seen(number, Seen::Closed, sent);
        };
        seat.close(hands_over);
        if bugs.gives_up_early && !seat.is_given_up {
            seat.is_given_up = true;
            self.host.seen(number, Seen::Closed, sent);
        }
    }

    fn open(&mut self, number: u16, us: u64, watches: &[Watch], bugs: &Bugs) {
        let until = self.host.relied_until(number, self.clocks.boot_us());
        let due_us = us + self.dice.below(250_000);
        if let Some(follower) = self.seats.get_mut(&number).filter(|seat| seat.is_follower()) {
            follower.lease.holds_until(until);
            return follower.promote(due_us);
        }
        if let Some((ground, lease)) = self.parts(number, watches, bugs) {
            lease.holds_until(until);
            self.seats.insert(number, Seat::new(ground, lease, due_us));
        }
    }

    /// What a branch is made of here. Its lease is nobody's yet.
    fn parts(&self, number: u16, watches: &[Watch], bugs: &Bugs) -> Option<(Ground, Arc<Lease>)> {
        let watch = watches.iter().find(|watch| watch.number == number)?;
        let clock = Arc::clone(if bugs.sleeping_clock { &self.clocks.awake } else { &self.clocks.boot });
        let lease = Arc::new(Lease::new(move || clock.load(Ordering::Relaxed)));
        let leash = (!bugs.no_leash).then(|| Arc::clone(&lease) as Arc<dyn Leash>);
        let batches = watch.batches.clone();
        let batches = if bugs.no_new_epoch { batches.forgetting_to_raise() } else { batches };
        let ground = Ground {
            options: skerry_branch::Options { leash, ..watch.options.clone() },
            store: SharedStore { batches, cut: Arc::clone(&self.cut) },
            storage: self.folder(number),
            keys: Arc::clone(&watch.keys),
        };
        Some((ground, lease))
    }
}
