//! What a branch does beside its writer: jobs in lanes, run when the dice say so, their results given back later still.

use std::collections::VecDeque;

use skerry_branch::jobs::{Job, JobDone, Lane};
use skerry_branch::{Branch, Now};
use skerry_journal::{Journal, JournalStore, Storage};

/// Lanes of background jobs.
pub(crate) const LANES: usize = Lane::ALL.len();

type ReaderOf<J> = <<J as JournalStore>::Journal as Journal>::Reader;

/// Jobs of one opening of a branch.
pub(crate) struct Jobs<J: JournalStore> {
    lanes: [VecDeque<Job<ReaderOf<J>>>; LANES],
    /// Results on their way back.
    done: VecDeque<JobDone>,
}

impl<J: JournalStore> Default for Jobs<J> {
    fn default() -> Self {
        Self { lanes: std::array::from_fn(|_| VecDeque::new()), done: VecDeque::new() }
    }
}

impl<J: JournalStore> Jobs<J> {
    /// Runs a job of `lane`, or of the next lane that is awake and has one. Its result stays on its way.
    pub(crate) fn run_one<S: Storage>(
        &mut self,
        branch: &mut Branch<J, S>,
        lane: usize,
        awake: [bool; LANES],
    ) -> bool {
        while let Some(job) = branch.take_job() {
            let lane = Lane::ALL.iter().position(|lane| *lane == job.lane()).unwrap_or(0);
            self.lanes[lane].push_back(job);
        }
        let Some(workshop) = branch.workshop() else { return false };
        let lanes = self.lanes.len();
        let mut order = (0..lanes).map(|at| (lane + at) % lanes).filter(|lane| awake[*lane]);
        let next = order.find_map(|lane| self.lanes[lane].pop_front());
        let Some(job) = next else { return false };
        self.done.push_back(workshop.run(job));
        true
    }

    /// Gives one result back. `false` if there was none.
    pub(crate) fn finish_one<S: Storage>(&mut self, branch: &mut Branch<J, S>, now: Now) -> bool {
        let Some(done) = self.done.pop_front() else { return false };
        branch.finish(done, now);
        true
    }

    /// So many results are on their way.
    pub(crate) fn results(&self) -> usize {
        self.done.len()
    }

    /// Those beyond `kept` never come.
    pub(crate) fn drop_results(&mut self, kept: usize) {
        self.done.truncate(kept);
    }

    /// Jobs of a branch that has stopped are nobody's.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}
