//! The end of a life: all trouble ends, everything that is open is settled, everything is looked at once more.

use skerry_journal::Storage;

use crate::cell::Cell;
use crate::inquiry;
use crate::model::Broken;
use crate::pairs::check_rest;
use crate::tally::State;
use crate::world::{At, World, pairs};

/// Rounds in which everything that is open must be settled.
const ROUNDS: usize = 60;

impl<D: Storage> World<D> {
    /// Whether every payment has ended that can.
    fn payments_rest(&self) -> bool {
        pairs(self.cells.len()).all(|(from, to)| {
            let (from, to) = (&self.cells[from], &self.cells[to]);
            let line = from.oracle.model.peers.get(&to.site.number);
            line.is_none_or(|line| line.done == line.sent.len() && line.stopped == [false; 2])
        })
    }

    /// The bus works: every payment ends, and nothing is left on its way.
    pub(crate) fn bring_payments_to_rest(&mut self) -> At<()> {
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
            while let Some(message) = self.wire.next(self.now.monotonic_us) {
                self.deliver(message);
            }
            for cell in &mut self.cells {
                let number = cell.site.number;
                while let Some(message) = cell.site.branch_mut().and_then(|branch| branch.take_message()) {
                    self.wire.send(number, message);
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
            let (one, other) = (self.cells[one].side(), self.cells[other].side());
            check_rest(&one, &other).map_err(|why| (one.number, why))?;
            self.wire.tally().state(State::AtRest);
        }
        self.each(|world, at| {
            let cell = &world.cells[at];
            let book = cell.site.branch().and_then(|branch| branch.book()).ok_or("it is open")?;
            cell.oracle.check_book(book)
        })
    }

    /// All trouble ends; everything that is open is settled; everything is looked at once more.
    pub(crate) fn bring_to_rest(&mut self, at: usize) -> Result<(), Broken> {
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
