//! The whole bank on one thread: several branches, their clients, one clock, one seed.
//!
//! A step lets time pass, lets clients ask, lets trouble come, and drives every branch a little. What
//! happens next is always the dice's choice, and everything that was promised is checked as it is seen.

use skerry_branch::Now;
use skerry_branch::channels::Outgoing;
use skerry_branch::sabotage::Sabotage;
use skerry_journal::{FaultStorage, Storage};
use skerry_ledger::TransferId;
use skerry_proof::Hash;

use crate::cell::Cell;
use crate::clients::transfers::Scene;
use crate::dice::Dice;
use crate::inquiry;
use crate::model::Broken;
use crate::site::{PEERS, Site};
use crate::tally::{State, Tally};
use crate::wire::{Wire, check_rest};

/// 2026-01-05T04:00:00Z, a Monday at noon where the bank is.
const BEGIN_US: u64 = 1_767_585_600_000_000;
const HOUR_US: u64 = 3_600_000_000;
/// Rounds in which everything that is open must be settled.
const ROUNDS: usize = 60;

/// The bank.
pub(crate) struct World<D: Storage> {
    pub(crate) cells: Vec<Cell<D>>,
    pub(crate) dice: Dice,
    pub(crate) now: Now,
    pub(crate) step: u64,
    /// Trouble comes once in so many steps: some lives are quiet, for what only a long life reaches.
    trouble_every: u64,
    pub(crate) wire: Wire,
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
        Self { cells, dice, now, step: 0, trouble_every, wire }
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

    fn each(&mut self, mut act: impl FnMut(&mut Self, usize) -> Result<(), Broken>) -> At<()> {
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
        tally.merge(&self.wire.tally);
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
        let step = self.step;
        for cell in self.cells.iter_mut().filter(|cell| !cell.site.disk.is_dark()) {
            let number = cell.site.number;
            while let Some(message) = cell.site.branch_mut().and_then(|branch| branch.take_message()) {
                self.wire.take(number, message, step);
            }
        }
        while !self.wire.dawdles() {
            let Some(message) = self.wire.next(step) else { return };
            self.deliver(message);
        }
    }

    /// Who is down or busy does not hear.
    fn deliver(&mut self, message: Outgoing) {
        let Some(cell) = self.cells.iter().find(|cell| cell.site.number == message.to) else { return };
        let now = cell.site.now(self.now);
        if let Some(branch) = cell.site.branch() {
            let _unheard = branch.deliver(message.bytes, now);
        }
    }

    /// What any two branches say of the payments between them.
    fn compare(&mut self) -> At<()> {
        let books = self.dice.chance(1, 8);
        for (from, to) in pairs(self.cells.len()) {
            let (one, other) = (&self.cells[from], &self.cells[to]);
            let number = one.site.number;
            self.wire.compare(one, other).map_err(|why| (number, why))?;
            if books {
                self.wire.compare_books(one, other).map_err(|why| (number, why))?;
            }
        }
        Ok(())
    }

    /// Whether every payment has ended that can.
    fn payments_rest(&self) -> bool {
        pairs(self.cells.len()).all(|(from, to)| {
            let (from, to) = (&self.cells[from], &self.cells[to]);
            let line = from.oracle.model.peers.get(&to.site.number);
            line.is_none_or(|line| line.done == line.sent.len() && line.stopped == [false; 2])
        })
    }

    /// The bus works: every payment ends, and nothing is left on its way.
    fn bring_payments_to_rest(&mut self) -> At<()> {
        self.wire.clear();
        for _ in 0..ROUNDS {
            (self.now.wall_us, self.now.monotonic_us) =
                (self.now.wall_us + 700_000, self.now.monotonic_us + 700_000);
            self.each(|world, at| {
                let cell = &mut world.cells[at];
                cell.after_the_fall()?;
                if !cell.site.is_open() {
                    // Another branch has shown it what it had lost.
                    cell.open(world.now, false)?;
                }
                let site_now = cell.site.now(world.now);
                if let Some(branch) = cell.site.branch_mut() {
                    branch.confirm_clock(site_now);
                }
                cell.site.settle(world.now)?;
                cell.observe()
            })?;
            while let Some(message) = self.wire.next(u64::MAX) {
                self.deliver(message);
            }
            for cell in &mut self.cells {
                while let Some(message) = cell.site.branch_mut().and_then(|branch| branch.take_message()) {
                    self.wire.hold(message);
                }
            }
            if self.payments_rest() && self.wire.is_empty() {
                return self.look_at_rest();
            }
        }
        if self.cells.iter().any(Cell::is_unfounded) {
            // What was left of its journal after the loss began before its founding: it is no branch until it is founded again.
            return Ok(());
        }
        let waits = |cell: &Cell<D>| {
            let peers = cell.oracle.model.peers.iter();
            let own = peers.map(|(peer, line)| (*peer, line.sent.len(), line.done, line.stopped));
            (cell.site.number, cell.lives, own.collect::<Vec<_>>())
        };
        let lines: Vec<_> = self.cells.iter().map(waits).collect();
        Err((0, format!("some payment never ends: {lines:?}")))
    }

    fn look_at_rest(&mut self) -> At<()> {
        for cell in &mut self.cells {
            // Whoever had more would have shown it.
            cell.behind = false;
        }
        self.compare()?;
        for (one, other) in pairs(self.cells.len()) {
            let (one, other) = (&self.cells[one], &self.cells[other]);
            check_rest(one, other).map_err(|why| (one.site.number, why))?;
            self.wire.tally.state(State::AtRest);
        }
        self.each(|world, at| {
            let cell = &world.cells[at];
            let book = cell.site.branch().and_then(|branch| branch.book()).ok_or("it is open")?;
            cell.oracle.check_book(book)
        })
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

    /// All trouble ends; everything that is open is settled; everything is looked at once more.
    fn bring_to_rest(&mut self, at: usize) -> Result<(), Broken> {
        self.cells[at].steady();
        self.cells[at].site.skew_us = 0;
        for round in 0..ROUNDS {
            self.now.wall_us += 50_000;
            self.now.monotonic_us += 50_000;
            let now = self.now;
            let cell = &mut self.cells[at];
            cell.after_the_fall()?;
            if !cell.site.is_open() && !cell.open(now, false)? {
                continue;
            }
            // What became of an archived id, only the archive can tell.
            cell.site.take_cold_away(false);
            let site_now = cell.site.now(now);
            if let Some(branch) = cell.site.branch_mut() {
                branch.confirm_clock(site_now);
            }
            cell.site.settle(now)?;
            cell.observe()?;
            if cell.desk.is_settled() && cell.site.is_open() {
                return self.look_back(at);
            }
            self.ask_again(at, round)?;
        }
        let cell = &self.cells[at];
        Err(format!(
            "{} requests are never answered, open is {}",
            cell.desk.open_tickets(),
            cell.desk.unsettled()
        ))
    }

    fn ask_again(&mut self, at: usize, round: usize) -> Result<(), Broken> {
        let now = self.now;
        let cell = &mut self.cells[at];
        let Some(branch) = cell.site.branch().filter(|_| cell.site.is_open()) else { return Ok(()) };
        let site_now = cell.site.now(now);
        let (desk, model, tally) = (&mut cell.desk, &cell.oracle.model, &mut cell.tally);
        for _ in 0..4 {
            if let Some(batch) = desk.take_unknown() {
                desk.send(branch, batch, model, site_now, tally);
            }
            if let Some(order) = desk.take_unknown_order(now.wall_us) {
                desk.order(branch, order, model, site_now, tally);
            }
        }
        // Too late to ask the branch: the history knows.
        if round > 0 {
            for key in std::mem::take(&mut desk.expired) {
                match inquiry::find(&cell.site, &cell.oracle, desk.told(), key.0, tally)? {
                    Some(found) => {
                        let same = |position: &u64| {
                            let fact = model.fact(key.0).filter(|fact| fact.position == *position);
                            fact.is_some_and(|fact| fact.moved.digest == key.1)
                        };
                        desk.looked_up(key, found.filter(same), tally)?;
                    }
                    // In the archive, which the history does not read.
                    None if model.is_archived(key.0) => {
                        let fact = model.fact(key.0).filter(|fact| fact.moved.digest == key.1);
                        desk.looked_up(key, fact.map(|fact| fact.position), tally)?;
                    }
                    None => desk.expired.push(key),
                }
            }
        }
        Ok(())
    }

    /// The last look: evidence for everything, history of everything, a clean close, and one more opening.
    fn look_back(&mut self, at: usize) -> Result<(), Broken> {
        let now = self.now;
        let mut dice = self.dice.fork();
        let cell = &mut self.cells[at];
        let site_now = cell.site.now(now);
        if let Some(branch) = cell.site.branch_mut() {
            branch.mark(site_now, false);
        }
        cell.site.settle(now)?;
        cell.observe()?;
        cell.desk.check_kept(&cell.oracle.model)?;
        for _ in 0..12 {
            inquiry::ask(&cell.site, &cell.oracle, cell.desk.told(), &mut dice, &mut cell.tally)?;
            cell.check_receipt(dice.below(cell.oracle.position()))?;
        }
        if !cell.close(now)? {
            return Err("does not close on a sound disk".to_owned());
        }
        if cell.open(now, true)? { Ok(()) } else { Err("does not open on a sound disk".to_owned()) }
    }
}

/// All ordered pairs of numbers below `count`.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count)
        .flat_map(move |one| (0..count).filter(move |other| *other != one).map(move |other| (one, other)))
}

/// Counts what became of payments between branches.
fn count_payments<D: Storage>(cell: &mut Cell<D>) {
    let (model, tally) = (&cell.oracle.model, &mut cell.tally);
    for peer in model.peers.values() {
        for out in &peer.sent {
            tally.state(State::PaymentSent);
            tally.states(State::PaymentReversed, u64::from(out.way.reverses != TransferId::NONE));
            match out.end {
                Some((0, _)) => tally.state(State::PaymentSettled),
                Some(_) => tally.state(State::PaymentReturned),
                None => {}
            }
        }
    }
}

/// Counts what the model saw happen.
fn count_kinds<D: Storage>(cell: &mut Cell<D>) {
    use skerry_ledger::{Flags, MovedKind};
    let (model, tally) = (&cell.oracle.model, &mut cell.tally);
    for fact in &model.facts {
        let moved = &fact.moved;
        let kind = match moved.kind {
            MovedKind::Held => Some(State::Held),
            MovedKind::HoldPosted => Some(State::HoldPosted),
            MovedKind::HoldVoided => Some(State::HoldVoided),
            MovedKind::Posted | MovedKind::HoldExpired => None,
        };
        let flags = [
            (Flags::REVERSAL, State::Reversed),
            (Flags::IMPORTED, State::Imported),
            (Flags::BALANCING_DEBIT, State::Balanced),
            (Flags::LINKED, State::ChainDone),
            (Flags::TAIL, State::TextKept),
        ];
        let flagged = flags.into_iter().filter(|(flag, _)| moved.flags.has(*flag)).map(|(_, state)| state);
        kind.into_iter().chain(flagged).for_each(|state| tally.state(state));
        let left = moved.kind == MovedKind::HoldPosted && model.is_elsewhere(moved.credit);
        tally.states(State::HoldSent, u64::from(left));
        let closes = moved.kind == MovedKind::HoldPosted && model.accounts[&moved.debit].closed;
        tally.states(State::ClosedByAHold, u64::from(closes));
    }
    let erased = model.customers.iter().filter(|customer| customer.erased).count() as u64;
    tally.states(State::CustomerErased, erased);
}
