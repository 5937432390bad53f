//! The whole bank on one thread: several branches, their clients, one clock, one seed.
//!
//! A step lets time pass, lets clients ask, lets trouble come, and drives every branch a little. What
//! happens next is always the dice's choice, and everything that was promised is checked as it is seen.

use skerry_branch::Now;
use skerry_branch::channels::Outgoing;
use skerry_branch::sabotage::Sabotage;
use skerry_journal::{FaultStorage, Storage};
use skerry_proof::Hash;

use crate::cell::Cell;
use crate::clients::transfers::Scene;
use crate::count::{count_kinds, count_payments};
use crate::dice::Dice;
use crate::inquiry;
use crate::model::Broken;
use crate::pairs::Pairs;
use crate::site::{PEERS, Site};
use crate::tally::{State, Tally};
use crate::wire::Wire;

/// 2026-01-05T04:00:00Z, a Monday at noon where the bank is.
pub(crate) const BEGIN_US: u64 = 1_767_585_600_000_000;
const HOUR_US: u64 = 3_600_000_000;

/// The bank.
pub(crate) struct World<D: Storage> {
    pub(crate) cells: Vec<Cell<D>>,
    pub(crate) dice: Dice,
    pub(crate) now: Now,
    pub(crate) step: u64,
    /// Trouble comes once in so many steps: some lives are quiet, for what only a long life reaches.
    trouble_every: u64,
    pub(crate) wire: Wire,
    pairs: Pairs,
}

/// Where something did not hold.
pub(crate) type At<T> = Result<T, (u16, Broken)>;

impl<D: Storage> World<D> {
    pub(crate) fn new(seed: u64, over: fn(FaultStorage) -> D, sabotage: Sabotage) -> Self {
        let mut dice = Dice::new(seed);
        let cells = PEERS.into_iter().map(|number| {
            let site = Site::new(number, over, sabotage, dice.fork());
            Cell::new(site, dice.fork())
        });
        let cells = cells.collect();
        let trouble_every = [6, 12, 12, 40, 120][dice.index(5)];
        let now = Now { wall_us: BEGIN_US, monotonic_us: 1_000_000 };
        let wire = Wire::new(dice.fork());
        Self { cells, dice, now, step: 0, trouble_every, wire, pairs: Pairs::default() }
    }

    /// Runs the bank: founds it, troubles it for `steps`, and brings it to rest.
    pub(crate) fn run(&mut self, steps: u64) -> At<()> {
        self.each(Self::found)?;
        if self.trouble_every >= 40 && self.dice.chance(1, 2) {
            // A history that is not fed for most of a life.
            let at = self.dice.index(self.cells.len());
            self.cells[at].site.stalled_until[0] = steps * 9 / 10;
        }
        if self.dice.chance(1, 10) {
            // A disk that is bad for most of a life.
            let at = self.dice.index(self.cells.len());
            self.worsen(at, steps * 9 / 10);
        }
        while self.step < steps {
            self.step += 1;
            self.one_step()?;
        }
        self.each(Self::bring_to_rest)?;
        self.bring_payments_to_rest()
    }

    pub(crate) fn each(&mut self, mut act: impl FnMut(&mut Self, usize) -> Result<(), Broken>) -> At<()> {
        for at in 0..self.cells.len() {
            let number = self.cells[at].site.number;
            act(self, at).map_err(|why| (number, why))?;
        }
        Ok(())
    }

    /// What happened in all branches, and the hash of all journals.
    pub(crate) fn sum_up(&mut self) -> (Tally, Vec<Hash>) {
        let mut tally = Tally::default();
        for cell in &mut self.cells {
            let counts = cell.oracle.model.counts;
            cell.tally.states(State::DayOpened, counts.days);
            cell.tally.states(State::HoldExpired, counts.expired);
            cell.tally.disk(&cell.site.disk.counts());
            count_kinds(cell);
            count_payments(cell);
            tally.merge(&cell.tally);
        }
        tally.merge(&self.wire.sum_up());
        (tally, self.cells.iter().map(|cell| cell.oracle.head()).collect())
    }

    fn found(&mut self, at: usize) -> Result<(), Broken> {
        let now = self.now;
        let cell = &mut self.cells[at];
        cell.open(now, false)?;
        let keys = cell.site.keys.clone().ok_or("the keys do not open on a sound disk")?;
        for order in cell.desk.founding(&*keys, now.wall_us) {
            cell.desk.insist(cell.site.branch(), order, &cell.oracle.model, now, &mut cell.tally)?;
            cell.site.settle(now)?;
            cell.observe()?;
        }
        Ok(())
    }

    fn one_step(&mut self) -> At<()> {
        self.pass_time();
        for _ in 0..self.dice.between(1, 3) {
            let at = self.dice.index(self.cells.len());
            self.at(at, Self::ask_something)?;
        }
        if self.dice.chance(1, self.trouble_every) {
            let at = self.dice.index(self.cells.len());
            self.at(at, Self::make_trouble)?;
        }
        self.each(Self::go_on)?;
        self.carry();
        self.compare()
    }

    /// Takes the branches' messages, and brings some of those that are on their way.
    fn carry(&mut self) {
        self.wire.pass(self.step);
        for cell in self.cells.iter_mut().filter(|cell| !cell.site.disk.is_dark()) {
            let number = cell.site.number;
            while let Some(message) = cell.site.branch_mut().and_then(|branch| branch.take_message()) {
                self.wire.take(number, message);
            }
        }
        while !self.wire.dawdles() {
            let Some(message) = self.wire.next(self.now.monotonic_us) else { return };
            self.deliver(message);
        }
    }

    /// Who is down or busy does not hear.
    pub(crate) fn deliver(&mut self, message: Outgoing) {
        let Some(cell) = self.cells.iter().find(|cell| cell.site.number == message.to) else { return };
        let now = cell.site.now(self.now);
        if let Some(branch) = cell.site.branch() {
            let _unheard = branch.deliver(message.bytes, now);
        }
    }

    /// What any two branches say of the payments between them.
    pub(crate) fn compare(&mut self) -> At<()> {
        let books = self.dice.chance(1, 8);
        for (from, to) in pairs(self.cells.len()) {
            let (one, other) = (self.cells[from].side(), self.cells[to].side());
            self.pairs.compare(&one, &other).map_err(|why| (one.number, why))?;
            if books {
                let tally = self.wire.tally();
                Pairs::compare_books(&one, &other, tally).map_err(|why| (one.number, why))?;
            }
        }
        Ok(())
    }

    fn at(&mut self, at: usize, mut act: impl FnMut(&mut Self, usize) -> Result<(), Broken>) -> At<()> {
        let number = self.cells[at].site.number;
        act(self, at).map_err(|why| (number, why))
    }

    fn pass_time(&mut self) {
        let slow = self.cells.iter().map(|cell| cell.site.disk.take_delay_us()).sum::<u64>();
        let passed = match self.dice.below(100) {
            0..80 => self.dice.between(200, 60_000),
            80..94 => self.dice.between(100_000, 3_000_000),
            94..99 => self.dice.between(10_000_000, 600_000_000),
            _ => self.dice.between(1, 14) * HOUR_US,
        };
        self.now.wall_us += passed + slow;
        self.now.monotonic_us += passed + slow;
    }

    /// A client of the branch does something.
    fn ask_something(&mut self, at: usize) -> Result<(), Broken> {
        let (now, choice) = (self.now, self.dice.below(100));
        let position = self.dice.below(self.cells[at].oracle.position().max(1));
        let cell = &mut self.cells[at];
        let site_now = cell.site.now(now);
        let scene = Scene { model: &cell.oracle.model, now_us: now.wall_us };
        let Some(branch) = cell.site.branch() else { return Ok(()) };
        let (desk, tally) = (&mut cell.desk, &mut cell.tally);
        match choice {
            // While the archive is away, many ask for what lies there.
            0..24 if cell.site.cold_away => {
                if let Some(earlier) = desk.earlier() {
                    let batch = desk.again(&earlier);
                    desk.send(branch, batch, scene.model, site_now, tally);
                }
            }
            0..48 => {
                let heavy = desk.dice.chance(1, 150);
                let batch = if heavy { desk.heavy(&scene) } else { desk.compose(&scene) };
                desk.send(branch, batch, scene.model, site_now, tally);
            }
            48..58 => {
                if let Some(batch) = desk.take_unknown() {
                    desk.send(branch, batch, scene.model, site_now, tally);
                } else if let Some(order) = desk.take_unknown_order(now.wall_us) {
                    desk.order(branch, order, scene.model, site_now, tally);
                }
            }
            58..65 => {
                if let Some(earlier) = desk.earlier() {
                    let batch = desk.again(&earlier);
                    desk.send(branch, batch, scene.model, site_now, tally);
                }
            }
            65..75 => {
                let order = cell.site.keys.as_ref().and_then(|keys| desk.command(&scene, &**keys));
                if let Some(order) = order {
                    desk.order(branch, order, scene.model, site_now, tally);
                }
            }
            75 => {
                if let Some(order) = desk.earlier_order(now.wall_us) {
                    desk.order(branch, order, scene.model, site_now, tally);
                }
            }
            76..84 => {
                let look = desk.look(&scene);
                desk.read(branch, look, scene.model, site_now, tally);
            }
            84 => desk.send_rubbish(branch, scene.model, site_now, tally),
            85 => desk.want_checkpoint(branch, scene.model, site_now, tally),
            86..96 => inquiry::ask(&cell.site, &cell.oracle, desk.told(), &mut desk.dice.fork(), tally)?,
            _ => cell.check_receipt(position)?,
        }
        Ok(())
    }

    /// Drives the branch a little, and opens it if it is down.
    fn go_on(&mut self, at: usize) -> Result<(), Broken> {
        let (now, step) = (self.now, self.step);
        let turns = self.dice.below(6);
        let patience = self.dice.below(6);
        let cell = &mut self.cells[at];
        if cell.weather_until != 0 && step >= cell.weather_until {
            cell.calm();
        }
        for _ in 0..turns {
            cell.site.drive(now, step);
            cell.observe()?;
        }
        cell.after_the_fall()?;
        if cell.site.branch().and_then(|branch| branch.clock_jumped()).is_some() {
            cell.tally.state(State::ClockHeldRequestsOff);
            self.mind_the_clock(at);
        }
        let cell = &mut self.cells[at];
        if cell.site.is_open() {
            return Ok(());
        }
        if cell.down_until == 0 {
            cell.down_until = step + patience;
        }
        if step >= cell.down_until {
            cell.down_until = 0;
            cell.open(now, false)?;
            cell.after_the_fall()?;
        }
        Ok(())
    }

    /// An operator confirms the clock, or sets it right.
    fn mind_the_clock(&mut self, at: usize) {
        let (now, choice) = (self.now, self.dice.below(10));
        let site = &mut self.cells[at].site;
        match choice {
            0 | 1 => site.skew_us = 0,
            2 => {
                let now = site.now(now);
                if let Some(branch) = site.branch_mut() {
                    branch.confirm_clock(now);
                }
            }
            _ => {}
        }
    }
}

/// All ordered pairs of numbers below `count`.
pub(crate) fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count)
        .flat_map(move |one| (0..count).filter(move |other| *other != one).map(move |other| (one, other)))
}
