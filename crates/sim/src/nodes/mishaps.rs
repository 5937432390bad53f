//! Mishaps: what the simulator does to nodes, stores, buses and the directory; and what operators do about it.

use skerry_bus::FaultRates;
use skerry_directory::{Ask, Directory, Name, Setting, Who};
use skerry_journal::AppendFaultKind;

use super::fleet::{Fleet, directory};
use super::mail::BUSES;
use super::tally::{Mishap, Reached};
use super::watch::Loss;
use crate::world::At;

const SECOND: u64 = 1_000_000;

impl Fleet {
    /// Something happens, unless its kind is left out of this life.
    pub(super) fn trouble(&mut self) -> At<()> {
        let mishap = self.draw();
        // What is drawn next must not depend on what is left out.
        let dice = self.dice.fork();
        if self.without.iter().any(|without| *without == format!("{mishap:?}")) {
            return Ok(());
        }
        let going_on = std::mem::replace(&mut self.dice, dice);
        let done = self.happen(mishap);
        self.dice = going_on;
        if done? {
            self.tally.mishap(mishap);
        }
        Ok(())
    }

    fn draw(&mut self) -> Mishap {
        match self.dice.below(100) {
            0..16 => Mishap::Pause,
            16..23 => Mishap::Crash,
            23..26 => Mishap::PowerCut,
            26..28 => Mishap::NewMachine,
            28..34 => Mishap::LateAppend,
            34..37 => Mishap::Drain,
            37..40 => Mishap::Restart,
            40..43 => Mishap::Join,
            43..48 => Mishap::Placed,
            48..51 => Mishap::ClockStep,
            51..53 => Mishap::ClockOff,
            53..60 => Mishap::DirectoryAway,
            60 => Mishap::DirectoryRestarted,
            61..67 => Mishap::StoreCut,
            67..73 => Mishap::AnswerLost,
            73..79 => Mishap::AppendLost,
            79..84 => Mishap::BusCut,
            84..87 => Mishap::BusLost,
            87..91 => Mishap::BusWeather,
            91..96 => Mishap::BusSwitched,
            96..98 => Mishap::Promotion,
            _ => Mishap::OldBackup,
        }
    }

    /// Whether it could happen.
    fn happen(&mut self, mishap: Mishap) -> Result<bool, (u16, String)> {
        let node = self.dice.index(self.machines.len());
        let at = self.dice.index(self.watches.len());
        Ok(match mishap {
            Mishap::Pause => self.pause(node),
            Mishap::Crash | Mishap::PowerCut | Mishap::NewMachine | Mishap::LateAppend => {
                self.crash(node, mishap)
            }
            Mishap::Drain | Mishap::Restart => self.leave(node, mishap == Mishap::Restart),
            Mishap::Join => self.join(),
            Mishap::Placed => self.place(at),
            Mishap::ClockStep => self.turn_clock(node, 400_000),
            Mishap::ClockOff => self.turn_clock(node, 4_000_000),
            Mishap::DirectoryAway => {
                self.directory_back = self.us
                    + [self.dice.between(1, 5), self.dice.between(5, 60)][self.dice.index(2)] * SECOND;
                self.directory.iter().for_each(|directory| directory.set_unreachable(true));
                true
            }
            Mishap::DirectoryRestarted => self.restart_directory(),
            Mishap::StoreCut => {
                self.machines[node].cut_until = self.us + self.dice.between(SECOND / 5, 6 * SECOND);
                self.machines[node].runs()
            }
            Mishap::AnswerLost | Mishap::AppendLost => {
                let kind = AppendFaultKind::Uncertain;
                self.watches[at].batches.fail_next(kind, mishap == Mishap::AnswerLost);
                true
            }
            Mishap::BusCut | Mishap::BusLost => self.cut_bus(node, mishap == Mishap::BusLost),
            Mishap::BusWeather => self.change_weather(),
            Mishap::BusSwitched => self.switch_bus(),
            Mishap::Promotion | Mishap::OldBackup => return self.lose(at, mishap == Mishap::OldBackup),
            Mishap::Damaged => false,
        })
    }

    fn pause(&mut self, node: usize) -> bool {
        let lasts = [self.dice.between(SECOND / 10, SECOND), self.dice.between(SECOND, 9 * SECOND)];
        let until = self.us + lasts[self.dice.index(2)];
        if !self.machines[node].is_awake(self.us) {
            return false;
        }
        self.machines[node].paused_until = until;
        if self.dice.chance(1, 2) {
            self.lose_patience(node);
        }
        true
    }

    fn crash(&mut self, node: usize, how: Mishap) -> bool {
        let machine = &mut self.machines[node];
        if !machine.runs() {
            return false;
        }
        let until = self.us + self.dice.between(SECOND / 5, 5 * SECOND);
        let late =
            matches!(how, Mishap::LateAppend).then(|| self.us + self.dice.between(SECOND / 10, 5 * SECOND));
        machine.crash(until, late);
        if matches!(how, Mishap::PowerCut | Mishap::NewMachine) {
            machine.lose_disk(how == Mishap::NewMachine);
        }
        self.lose_patience(node);
        true
    }

    /// A node gives its branches away; one that stops ends when it has none.
    fn leave(&mut self, node: usize, stops: bool) -> bool {
        let running = self.machines.iter().filter(|machine| machine.runs() && !machine.is_leaving).count();
        let machine = &mut self.machines[node];
        if running < 2 || !machine.runs() || machine.is_leaving {
            return false;
        }
        machine.is_leaving = true;
        if stops {
            machine.host.stop();
            return true;
        }
        self.drain(node, true)
    }

    /// An operator wants a node empty, or lets it have branches again.
    pub(super) fn drain(&mut self, node: usize, drains: bool) -> bool {
        let by = drains.then(|| Who::new("operator-1").expect("a name"));
        let node = self.machines[node].name.clone();
        self.submit(Ask::Drain { node, by })
    }

    /// A node that was not there yet, or has left.
    fn join(&mut self) -> bool {
        let Some(machine) = self.machines.iter_mut().find(|machine| machine.down_until == Some(0)) else {
            return false;
        };
        machine.start(&self.buses);
        true
    }

    fn place(&mut self, at: usize) -> bool {
        let node = self.dice.index(self.machines.len());
        let placement = self.dice.chance(2, 3).then(|| self.machines[node].name.clone());
        let branch = self.watches[at].number;
        self.submit(Ask::Steer { branch, setting: Setting::Placement(placement) })
    }

    fn turn_clock(&mut self, node: usize, by_us: i64) -> bool {
        let back = self.dice.chance(1, 2);
        self.machines[node].clocks.wall_off_us = if back { -by_us } else { by_us };
        true
    }

    fn restart_directory(&mut self) -> bool {
        // Whoever acted upon leases that it has forgotten is waited for: once in a life is enough.
        if std::mem::replace(&mut self.is_forgetful, true) {
            return false;
        }
        // The old one lets its folder go first.
        self.directory = None;
        self.directory_disk.power_cut();
        self.directory = Some(directory(&self.directory_disk, false, self.dice.below(1 << 40)));
        self.asked.clear();
        true
    }

    fn cut_bus(&mut self, node: usize, alone: bool) -> bool {
        let other = (node + 1 + self.dice.index(self.machines.len() - 1)) % self.machines.len();
        let names = [self.machines[node].bus_name, self.machines[other].bus_name];
        let weather = &self.buses.weathers[self.dice.index(2)];
        if alone {
            weather.isolate(names[0]);
        } else {
            weather.cut(names[0], names[1]);
        }
        self.buses_back = self.us + self.dice.between(SECOND, 8 * SECOND);
        true
    }

    pub(super) fn change_weather(&mut self) -> bool {
        for weather in &self.buses.weathers {
            let mut rate = || u16::try_from([0, 60, 250][self.dice.index(3)]).unwrap_or(0);
            let (loss, doubling, delay) = (rate(), rate(), rate());
            weather.set(FaultRates { loss, doubling, delay, delay_us: 2 * SECOND });
        }
        true
    }

    fn switch_bus(&mut self) -> bool {
        let bus = Name::new(BUSES[self.dice.index(2)]).expect("a name");
        let by = Who::new("operator-1").expect("a name");
        self.submit(Ask::UseBus { bus, by })
    }

    /// The store of a branch goes back, and nobody has the branch open who remembers more than it.
    fn lose(&mut self, at: usize, old_backup: bool) -> Result<bool, (u16, String)> {
        let (number, losable) = (self.watches[at].number, self.watches[at].losable() as u64);
        // One loss at a time, and not in every life: what a loss excuses cannot be caught.
        let already = self.watches.iter().any(|watch| watch.loss.is_some() || watch.lives > 0);
        if losable == 0 || already {
            return Ok(false);
        }
        let batches =
            if old_backup { self.dice.between(1, losable) } else { self.dice.between(1, losable.min(4)) };
        let loss = if old_backup { Loss::Unknown } else { Loss::Known };
        let wipe = old_backup && self.dice.chance(1, 2);
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            machine.ghosts.clear();
            // Whoever sees to it stops what runs on that journal; perhaps goes on with new machines.
            let is_owner = machine.seats.get(&number).is_some_and(|seat| !seat.is_follower());
            if machine.runs() && is_owner {
                machine.crash(self.us + self.dice.between(SECOND / 5, 3 * SECOND), None);
                self.lose_patience(node);
            }
            if wipe && !self.machines[node].runs() {
                self.machines[node].lose_disk(true);
            }
        }
        let batches = usize::try_from(batches).unwrap_or(1);
        self.watches[at].lose(batches, loss).map_err(|why| (number, why))?;
        Ok(true)
    }

    /// What operators see to: losses are declared where the branch is, clocks are confirmed, whoever has left is started again.
    pub(super) fn operate(&mut self) {
        let us = self.us;
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            if machine.is_awake(us)
                && machine.is_leaving
                && machine.host.is_empty()
                && machine.seats.is_empty()
            {
                self.tally.reach(Reached::NodeEmptied);
                machine.crash(us + 2 * SECOND, None);
                self.lose_patience(node);
                self.drain(node, false);
            }
            self.declare_losses(node);
        }
    }

    fn declare_losses(&mut self, node: usize) {
        let us = self.us;
        let machine = &mut self.machines[node];
        if !machine.is_awake(us) {
            return;
        }
        let now = machine.clocks.now(us);
        let rewound = |why: &str| why.contains("rewound") || why.contains("told");
        let owned = machine.seats.iter().filter(|(_, seat)| !seat.is_follower());
        let sick = owned.filter(|(_, seat)| seat.sickness().is_some_and(rewound));
        let sick: Vec<u16> = sick.map(|(number, _)| *number).collect();
        for number in sick {
            let Some(watch) = self.watches.iter_mut().find(|watch| watch.number == number) else { continue };
            if watch.lives == 0 || !self.dice.chance(1, 4) {
                continue;
            }
            let Some(seat) = machine.seats.get_mut(&number) else { continue };
            if seat.declare_loss(now, &mut self.dice) {
                watch.loss = None;
                self.tally.reach(Reached::LossDeclared);
            }
        }
    }

    /// The directory answers as it should.
    pub(super) fn calm_directory(&mut self) {
        self.directory_back = 0;
        let calm = skerry_directory::Weather { patience_us: SECOND, ..Default::default() };
        if let Some(directory) = &self.directory {
            directory.set_unreachable(false);
            directory.set_weather(calm);
        }
    }

    fn submit(&mut self, ask: Ask) -> bool {
        self.directory.as_mut().is_some_and(|directory| directory.submit(ask).is_ok())
    }
}
