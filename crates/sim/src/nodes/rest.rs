//! The end of a life of nodes: all trouble ends, and soon each branch is open on one node, everybody is answered, every payment has ended.

use skerry_branch::Now;
use skerry_bus::FaultRates;
use skerry_proof::Signer;

use super::fleet::{Fleet, wanted};
use super::machine::Machine;
use super::seat::Seat;
use super::tally::Reached;
use crate::model::Broken;
use crate::pairs::check_rest;
use crate::site::{PEERS, signer};
use crate::world::{At, pairs};

const STEP_US: u64 = 60_000;
/// So many leases' time after the last trouble all must be well: a branch that did not open is left alone for a while, longer each time.
const WITHIN_US: u64 = 60 * 2_000_000;
/// It must stay so: two branches that greet each other may find that one has lost something.
const CALM_US: u64 = 3_000_000;
/// A directory that has forgotten leases waits so long before it grants any.
const FORGOTTEN_US: u64 = 61_000_000;

impl Fleet {
    pub(super) fn bring_to_rest(&mut self) -> At<()> {
        self.end_trouble();
        let end = self.us + WITHIN_US + if self.is_forgetful { FORGOTTEN_US } else { 0 };
        let mut well_since = None;
        while self.us < end {
            self.us += STEP_US;
            self.one_step()?;
            (0..self.watches.len()).try_for_each(|at| self.ask_again(at))?;
            well_since = if self.is_well() { well_since.or(Some(self.us)) } else { None };
            if well_since.is_some_and(|since| self.us >= since + CALM_US) {
                return self.look_at_rest();
            }
        }
        Err((0, format!("after {} s without trouble: {}", WITHIN_US / 1_000_000, self.what_is_open())))
    }

    fn end_trouble(&mut self) {
        self.calm_directory();
        (0..self.machines.len()).for_each(|node| {
            self.drain(node, false);
        });
        self.buses_back = 0;
        for weather in &self.buses.weathers {
            weather.set(FaultRates::default());
        }
        self.watches.iter().for_each(|watch| watch.batches.calm());
        for machine in &mut self.machines {
            (machine.paused_until, machine.cut_until, machine.clocks.wall_off_us) = (0, 0, 0);
        }
    }

    /// Clients ask again for what they do not know, of whoever serves the branch.
    fn ask_again(&mut self, at: usize) -> At<()> {
        let (us, number) = (self.us, self.watches[at].number);
        let owner = self.machines.iter().position(|machine| {
            machine.is_awake(us)
                && machine.seats.get(&number).is_some_and(|seat| seat.answers() && seat.is_there())
        });
        let Some(node) = owner else { return Ok(()) };
        let now = self.machines[node].clocks.now(us);
        let seat = &self.machines[node].seats[&number];
        let watch = &mut self.watches[at];
        let (desk, model, tally) = (&mut watch.desk, &watch.oracle.model, &mut watch.tally);
        desk.at = node;
        for _ in 0..3 {
            if let Some(batch) = desk.take_unknown() {
                desk.send(&seat.branch, batch, model, now, tally);
            }
            if let Some(order) = desk.take_unknown_order(super::wall_us(us)) {
                desk.order(&seat.branch, order, model, now, tally);
            }
        }
        for key in std::mem::take(&mut desk.expired) {
            let fact = model.fact(key.0).filter(|fact| fact.moved.digest == key.1);
            desk.looked_up(key, fact.map(|fact| fact.position), tally).map_err(|why| (number, why))?;
        }
        Ok(())
    }

    fn is_well(&self) -> bool {
        PEERS.iter().all(|number| {
            let all = || self.machines.iter().filter_map(|machine| machine.seats.get(number));
            let followers = all().filter(|seat| seat.is_follower());
            let seats = || all().filter(|seat| !seat.is_follower());
            let others = self.machines.iter().filter(|machine| machine.runs()).count().saturating_sub(1);
            // A loss that the owner cannot know of, and whoever would follow it does: both go on as they are.
            let lost = self.watches.iter().any(|watch| watch.number == *number && watch.lives > 0);
            let followers = followers.filter(|seat| seat.is_level() || (lost && seat.remembers_more()));
            seats().count() == 1
                && seats().all(|seat| seat.answers() && seat.is_there())
                && followers.count() == usize::from(wanted(*number)).min(others)
        }) && self.watches.iter().all(|watch| watch.loss.is_none() && watch.desk.is_settled())
            && self.payments_rest()
    }

    fn payments_rest(&self) -> bool {
        pairs(self.watches.len()).all(|(from, to)| {
            let line = self.watches[from].oracle.model.peers.get(&self.watches[to].number);
            line.is_none_or(|line| line.done == line.sent.len() && line.stopped == [false; 2])
        })
    }

    fn what_is_open(&self) -> String {
        let mut open = Vec::new();
        for watch in &self.watches {
            let number = watch.number;
            for machine in &self.machines {
                if let Some(seat) = machine.seats.get(&number) {
                    let lease = machine.host.map().branch(number).and_then(|entry| entry.lease.as_ref());
                    let holder = lease.map(|lease| lease.holder.node.as_str());
                    open.push(format!(
                        "branch {number} on {}: {}, held by {holder:?}",
                        machine.name,
                        seat.words()
                    ));
                }
            }
            let (open_tickets, unsettled) = (watch.desk.open_tickets(), watch.desk.unsettled());
            open.push(format!("loss {:?}, requests {open_tickets}, {unsettled}", watch.loss));
            for (peer, line) in &watch.oracle.model.peers {
                let (sent, done, stopped) = (line.sent.len(), line.done, line.stopped);
                open.push(format!(
                    "payments {number} to {peer}: {sent} sent, {done} ended, stopped {stopped:?}"
                ));
            }
        }
        open.join("; ")
    }

    fn look_at_rest(&mut self) -> At<()> {
        let us = self.us;
        for number in PEERS {
            self.look_at_branch(number, us).map_err(|why| (number, why))?;
        }
        for watch in &mut self.watches {
            // Whoever had more would have shown it.
            watch.behind = false;
        }
        self.compare(true)?;
        self.tally.reach(Reached::PaymentsCompared);
        for (one, other) in pairs(self.watches.len()) {
            let (one, other) = (self.watches[one].side(None), self.watches[other].side(None));
            check_rest(&one, &other).map_err(|why| (one.number, why))?;
        }
        self.tally.reach(Reached::AtRest);
        Ok(())
    }

    /// The branch has finished: its book is the one that its journal makes, its checkpoint says so.
    fn look_at_branch(&mut self, number: u16, us: u64) -> Result<(), Broken> {
        let hosts = |machine: &&mut Machine| machine.seats.get(&number).is_some_and(Seat::is_open);
        let machine = self.machines.iter_mut().find(hosts);
        let machine = machine.ok_or("it is open nowhere")?;
        let now: Now = machine.clocks.now(us);
        let seat = machine.seats.get_mut(&number).ok_or("it is open nowhere")?;
        seat.branch.mark(now, false);
        if !seat.settle(now) {
            return Err("never comes to rest".to_owned());
        }
        let watch = self.watches.iter_mut().find(|watch| watch.number == number).ok_or("it has clients")?;
        watch.observe()?;
        watch.desk.check_kept(&watch.oracle.model)?;
        watch.oracle.check_book(seat.branch.book().ok_or("it is open")?)?;
        let Some(signed) = seat.branch.workshop().and_then(|workshop| workshop.latest()) else {
            return Ok(());
        };
        signed
            .verify(&[signer().public_key()])
            .map_err(|error| format!("a checkpoint does not verify: {error}"))?;
        watch.oracle.check_checkpoint(&signed.checkpoint)
    }
}
