//! Trouble: what the simulator does to a branch, its machine and its clock.

use skerry_journal::{FaultPlan, FaultStorage, Storage};

use crate::model::Broken;
use crate::site::{Opening, PEERS};
use crate::tally::{State, Trouble};
use crate::world::World;

/// A disk that fails now and then.
pub(crate) const BAD_DISK: FaultPlan = FaultPlan {
    failed_write_ppm: 4_000,
    short_write_ppm: 4_000,
    failed_sync_ppm: 12_000,
    slow_sync_ppm: 60_000,
    slow_sync_us_max: 400_000,
    failed_read_ppm: 1_500,
};

impl<D: Storage> World<D> {
    /// Brings some trouble to the branch at `at`.
    pub(crate) fn make_trouble(&mut self, at: usize) -> Result<(), Broken> {
        match self.dice.below(52) {
            0..5 => self.cut_power(at),
            5..10 => self.cut_power_soon(at),
            10..14 => self.kill(at),
            14..20 => self.worry_the_disk(at),
            20..23 => self.flip_derived(at),
            23..25 => self.flip_evidence(at)?,
            25..28 => self.turn_the_clock(at),
            28..30 => self.slow_jobs(at),
            30..33 => self.want_snapshot(at),
            33..36 => self.back_up(at)?,
            36 | 37 => self.restore(at)?,
            38 | 39 => self.archive(at),
            40..43 => self.take_cold_away(at),
            43..46 => self.cut_wire(at),
            // The archive matters where there is one.
            46..50 if self.cells[at].oracle.model.archived > 0 => self.take_cold_away(at),
            46..50 => self.archive(at),
            _ => self.restart(at)?,
        }
        Ok(())
    }

    fn cut_power(&mut self, at: usize) {
        let cell = &mut self.cells[at];
        cell.tally.trouble(Trouble::PowerCut);
        cell.cut_power();
    }

    fn cut_power_soon(&mut self, at: usize) {
        let operations = self.dice.below(60);
        let cell = &mut self.cells[at];
        cell.tally.trouble(Trouble::PowerCutSoon);
        cell.site.disk.lose_power_in(operations);
    }

    fn kill(&mut self, at: usize) {
        let cell = &mut self.cells[at];
        cell.tally.trouble(Trouble::Kill);
        cell.kill();
    }

    fn worry_the_disk(&mut self, at: usize) {
        let lasts = self.dice.between(2, 25);
        let (choice, skip) = (self.dice.below(6), self.dice.below(4));
        let (step, cell) = (self.step, &mut self.cells[at]);
        let disk = &cell.site.disk;
        let trouble = match choice {
            0 => {
                disk.fail_next_sync(skip);
                Trouble::FailSync
            }
            1 => {
                disk.short_next_write(skip);
                Trouble::ShortWrite
            }
            2 => {
                disk.set_capacity(Some(0));
                Trouble::FullDisk
            }
            3 => {
                disk.set_read_only(true);
                Trouble::ReadOnlyDisk
            }
            _ => {
                cell.plan = BAD_DISK;
                disk.set_plan(cell.plan);
                Trouble::BadDisk
            }
        };
        cell.weather_until = cell.weather_until.max(step + lasts);
        cell.tally.trouble(trouble);
    }

    /// The disk fails now and then until the step `until`.
    pub(crate) fn worsen(&mut self, at: usize, until: u64) {
        let cell = &mut self.cells[at];
        cell.plan = BAD_DISK;
        cell.site.disk.set_plan(BAD_DISK);
        cell.weather_until = until;
        cell.tally.trouble(Trouble::BadDisk);
    }

    /// A bit of a file that can be rebuilt from the journal flips, while the branch is at work or not.
    fn flip_derived(&mut self, at: usize) {
        // Without the archive there is nothing to rebuild from but a sound snapshot.
        let whole = self.cells[at].oracle.model.archived == 0 || !self.cells[at].site.cold_away;
        let folder = ["evidence", "ids", "history", "snapshots"][self.dice.index(if whole { 4 } else { 1 })];
        let disk = self.cells[at].site.disk.clone();
        let Ok(folder) = disk.folder("branch").and_then(|branch| branch.folder(folder)) else { return };
        if self.flip_in(&folder, 0).is_some() {
            let cell = &mut self.cells[at];
            cell.site.flipped = true;
            cell.site.ever_flipped = true;
            cell.tally.trouble(Trouble::FlipDerived);
        }
    }

    /// Flips a bit somewhere in some file of `folder`. Returns where.
    fn flip_in(&mut self, folder: &FaultStorage, from: u64) -> Option<(String, u64, u8)> {
        use skerry_journal::StorageFile;
        let names = folder.list().ok()?;
        let name = self.dice.pick(&names)?.clone();
        let length = folder.open(&name, false).ok()?.length().ok()?;
        let offset = from + self.dice.below(length.checked_sub(from)?);
        let bit = self.dice.next().to_le_bytes()[0] % 8;
        folder.flip_bit(&name, offset, bit).ok()?;
        Some((name, offset, bit))
    }

    /// A bit of the journal or of a checkpoint flips while the branch is closed. The branch must say so, or be none
    /// the worse for it. Then the disk is mended.
    fn flip_evidence(&mut self, at: usize) -> Result<(), Broken> {
        let now = self.now;
        self.cells[at].steady();
        if !self.close_cell(at)? {
            return Ok(());
        }
        let disk = self.cells[at].site.disk.clone();
        let folder = if self.dice.chance(3, 4) {
            self.cells[at].site.journal_folder(&disk)
        } else {
            let checkpoints = disk.folder("branch").and_then(|branch| branch.folder("checkpoints"));
            checkpoints.map_err(|error| error.to_string())?
        };
        let Some((name, offset, bit)) = self.flip_in(&folder, 0) else { return Ok(()) };
        let cell = &mut self.cells[at];
        cell.tally.trouble(Trouble::FlipEvidence);
        match cell.site.open(now, true)? {
            Opening::Open(_) => {
                cell.tally.state(State::FlipHarmless);
                // What is never written again is mended all the same, before something else depends on it.
                if name.ends_with(".seal") || name.ends_with(".skc") {
                    let _gone = folder.flip_bit(&name, offset, bit);
                }
                let reader = cell.site.reader().ok_or("an open branch has a journal")?;
                return cell.oracle.recheck(&reader, &cell.desk.asked);
            }
            Opening::Damaged(why) => {
                let position = why.contains(&name) || why.contains("MARK") || why.contains("checkpoint");
                if !position {
                    return Err(format!("damage of {name} at {offset} is told without its place: {why}"));
                }
                cell.tally.state(State::FlipFound);
            }
            // Which of two truths is the older one cannot be told from a flipped bit alone.
            Opening::Rewound | Opening::Excused => cell.tally.state(State::FlipFound),
        }
        // An operator who has no better copy goes on without what is damaged, if that is the end of the journal.
        let at_the_end = name.ends_with(".open");
        let whole = cell.oracle.model.archived == 0;
        if at_the_end && whole && self.dice.chance(1, 2) {
            cell.put_back = true;
            if cell.declare_loss(now)? {
                return Ok(());
            }
            cell.put_back = false;
        }
        cell.kill();
        folder.flip_bit(&name, offset, bit).map_err(|error| format!("the flipped file is gone: {error}"))?;
        if cell.open(now, true)? { Ok(()) } else { Err("does not open on a mended disk".to_owned()) }
    }

    fn turn_the_clock(&mut self, at: usize) {
        let step_us = i64::try_from(self.dice.below(9_000_000)).unwrap_or(0) - 4_500_000;
        let leap_us = i64::try_from(self.dice.between(6, 20_000)).unwrap_or(6) * 1_000_000;
        let (small, back) = (self.dice.chance(1, 2), self.dice.chance(1, 2));
        let cell = &mut self.cells[at];
        if small {
            cell.site.skew_us += step_us;
            cell.tally.trouble(Trouble::ClockStep);
        } else {
            cell.site.skew_us += if back { -leap_us } else { leap_us };
            cell.tally.trouble(Trouble::ClockLeap);
        }
    }

    fn slow_jobs(&mut self, at: usize) {
        let until = self.step + [self.dice.between(5, 60), self.dice.between(60, 400)][self.dice.index(2)];
        let lane = self.dice.index(4);
        let cell = &mut self.cells[at];
        for (number, stalled) in cell.site.stalled_until.iter_mut().enumerate() {
            // One lane alone, or all of them.
            if lane == number || lane == 3 {
                *stalled = until;
            }
        }
        cell.tally.trouble(Trouble::SlowJobs);
    }

    fn want_snapshot(&mut self, at: usize) {
        let (now, snapshot) = (self.now, self.dice.chance(2, 3));
        let cell = &mut self.cells[at];
        let now = cell.site.now(now);
        if let Some(branch) = cell.site.branch_mut() {
            branch.mark(now, snapshot);
            cell.tally.state(State::SnapshotWanted);
        }
    }

    fn back_up(&mut self, at: usize) -> Result<(), Broken> {
        let mut dice = self.dice.fork();
        self.cells[at].back_up(&mut dice)
    }

    fn restore(&mut self, at: usize) -> Result<(), Broken> {
        let mut dice = self.dice.fork();
        let onto_empty = dice.chance(1, 2);
        let cell = &mut self.cells[at];
        if cell.restore(onto_empty, &mut dice)? {
            cell.tally.trouble(if onto_empty { Trouble::NewMachine } else { Trouble::Restore });
        }
        Ok(())
    }

    fn archive(&mut self, at: usize) {
        let cut_short = self.dice.chance(1, 2);
        let cell = &mut self.cells[at];
        if cell.site.is_open() {
            cell.tally.trouble(Trouble::Archive);
            cell.site.archive();
            // Sometimes the process dies when a segment is copied and not let go yet.
            if cut_short {
                cell.site.copy_old();
                cell.kill();
            }
        }
    }

    /// The cold folder goes, or comes back.
    fn take_cold_away(&mut self, at: usize) {
        let cell = &mut self.cells[at];
        if cell.oracle.model.archived > 0 && !cell.site.disk.is_dark() {
            let away = !cell.site.cold_away;
            cell.site.take_cold_away(away);
            cell.tally.trouble(if away { Trouble::ColdAway } else { Trouble::ColdBack });
        }
    }

    /// Another branch hears nothing of this one for a while, nor perhaps this one of that.
    fn cut_wire(&mut self, at: usize) {
        let until = self.step + [self.dice.between(2, 30), self.dice.between(50, 200)][self.dice.index(2)];
        let from = self.cells[at].site.number;
        let others: Vec<u16> = PEERS.into_iter().filter(|peer| *peer != from).collect();
        if let Some(to) = self.dice.pick(&others).copied() {
            self.wire.cut(from, to, until);
        }
    }

    fn restart(&mut self, at: usize) -> Result<(), Broken> {
        if self.close_cell(at)? {
            self.cells[at].tally.trouble(Trouble::Restart);
        }
        Ok(())
    }

    /// Closes the branch in good order; what was asked is answered. `false` if it could not be.
    fn close_cell(&mut self, at: usize) -> Result<bool, Broken> {
        let now = self.now;
        let cell = &mut self.cells[at];
        let in_order =
            cell.site.is_open() && cell.site.branch().is_some_and(|branch| branch.clock_jumped().is_none());
        if !in_order || cell.site.disk.is_dark() {
            return Ok(false);
        }
        let closed = cell.close(now)?;
        cell.after_the_fall()?;
        Ok(closed)
    }
}
