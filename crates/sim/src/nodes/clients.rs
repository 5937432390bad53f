//! Clients of a bank of several nodes: they follow the retry rules, and ask whichever node may have the branch.

use super::fleet::Fleet;
use super::seat::Seat;
use super::tally::Reached;
use crate::clients::transfers::Scene;

/// The choice that is a read.
const READ: u64 = 99;

impl Fleet {
    /// A client of the branch at `at` does something, if it finds a node that has the branch or had it.
    pub(super) fn ask_something(&mut self, at: usize) {
        let (us, number) = (self.us, self.watches[at].number);
        let there: Vec<usize> = (0..self.machines.len())
            .filter(|node| self.machines[*node].seats.get(&number).is_some_and(|seat| seat.is_there()))
            .collect();
        let answers = |node: &usize| self.machines[*node].seats.get(&number).is_some_and(Seat::answers);
        let elsewhere = there.iter().any(answers);
        // Who had the branch and perhaps does not know that another has it is asked what it remembers.
        let old: Vec<usize> = there.iter().copied().filter(|node| elsewhere && !answers(node)).collect();
        let is_old = !old.is_empty() && self.dice.chance(1, 2);
        let Some(node) = self.dice.pick(if is_old { &old } else { &there }).copied() else { return };
        let choice = if is_old { READ } else { self.dice.below(100) };
        let machine = &self.machines[node];
        let seat = &machine.seats[&number];
        // The queue of a process that stands still is soon full.
        if !machine.is_awake(us) && !elsewhere && !self.dice.chance(1, 8) {
            return;
        }
        if old.contains(&node) {
            self.tally.reach(Reached::AskedAnOldOwner);
        }
        let now = machine.clocks.now(us);
        let watch = &mut self.watches[at];
        let scene = Scene { model: &watch.oracle.model, now_us: super::wall_us(us) };
        let (desk, tally) = (&mut watch.desk, &mut watch.tally);
        desk.at = node;
        match choice {
            0..45 => {
                let batch = desk.compose(&scene);
                desk.send(&seat.branch, batch, scene.model, now, tally);
            }
            45..60 => {
                if let Some(batch) = desk.take_unknown() {
                    desk.send(&seat.branch, batch, scene.model, now, tally);
                } else if let Some(order) = desk.take_unknown_order(scene.now_us) {
                    desk.order(&seat.branch, order, scene.model, now, tally);
                }
            }
            60..66 => {
                if let Some(earlier) = desk.earlier() {
                    let batch = desk.again(&earlier);
                    desk.send(&seat.branch, batch, scene.model, now, tally);
                }
            }
            66..72 => {
                if let Some(order) = desk.command(&scene, &*watch.keys) {
                    desk.order(&seat.branch, order, scene.model, now, tally);
                }
            }
            _ => {
                let look = desk.look(&scene);
                desk.read(&seat.branch, look, scene.model, now, tally);
            }
        }
    }

    /// Whoever asked a node that says nothing asks another one.
    pub(super) fn lose_patience(&mut self, node: usize) {
        for watch in &mut self.watches {
            if watch.desk.is_waiting_at(node) {
                self.tally.reach(Reached::AnsweredLate);
                watch.desk.hang_up_at(node, &mut watch.tally);
            }
        }
    }
}
