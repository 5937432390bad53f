//! Running seeds and saying what came of them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use skerry_branch::sabotage::Sabotage;
use skerry_journal::{FaultStorage, Storage};
use skerry_proof::Hash;

use crate::tally::Tally;
use crate::world::World;

/// A run without a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The steps.
    pub steps: u64,
    /// Head hash of each branch's journal at the end.
    pub journals: Vec<Hash>,
    /// Records in all journals.
    pub records: u64,
    /// What happened how often.
    pub tally: Tally,
}

/// A run that showed something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The steps that were asked for.
    pub steps: u64,
    /// At which of them.
    pub step: u64,
    /// In which branch; 0 if that is not known.
    pub branch: u16,
    /// What differed.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, step, branch, what } = self;
        writeln!(out, "seed {seed}, step {step}, branch {branch}: {what}")?;
        write!(out, "see it again with: skerry simulate --seed {seed} --steps {steps}")
    }
}

impl std::error::Error for Failure {}

/// Runs `seed` for `steps`.
///
/// # Errors
///
/// The first thing that did not hold.
pub fn run(seed: u64, steps: u64) -> Result<Report, Failure> {
    run_over(seed, steps, Sabotage::default(), |disk| disk)
}

/// The same with bugs switched on: in the branch by `sabotage`, under the journal by what `over` lays over the disk.
///
/// # Errors
///
/// The first thing that did not hold.
pub fn run_over<D: Storage>(
    seed: u64,
    steps: u64,
    sabotage: Sabotage,
    over: fn(FaultStorage) -> D,
) -> Result<Report, Failure> {
    // Marks of whatever ran on this thread before are not this run's.
    Tally::default().marks();
    let mut world = World::new(seed, over, sabotage);
    let failure = |step, branch, what| Failure { seed, steps, step, branch, what };
    let ran = catch_unwind(AssertUnwindSafe(|| world.run(steps)));
    match ran {
        Ok(Ok(())) => {
            let (mut tally, journals) = world.sum_up();
            tally.marks();
            let records = world.cells.iter().map(|cell| cell.oracle.position()).sum();
            Ok(Report { seed, steps, journals, records, tally })
        }
        Ok(Err((branch, what))) => Err(failure(world.step, branch, what)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(failure(world.step, 0, format!("panicked: {}", text.unwrap_or_default())))
        }
    }
}

/// What came of many seeds.
#[derive(Debug, Clone, Default)]
pub struct Campaign {
    /// Seeds that ran to their end.
    pub passed: u64,
    /// Records in all their journals.
    pub records: u64,
    /// What happened how often in them.
    pub tally: Tally,
    /// Those that did not, by seed.
    pub failures: Vec<Failure>,
}

/// Runs the seeds from 1 to `seeds` for `steps` each, on `threads` threads. Which thread runs a seed changes nothing.
#[must_use]
pub fn campaign(seeds: u64, steps: u64, threads: usize) -> Campaign {
    let (next, campaign) = (AtomicU64::new(1), Mutex::new(Campaign::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    let ran = run(seed, steps);
                    let mut campaign = campaign.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match ran {
                        Ok(report) => {
                            campaign.passed += 1;
                            campaign.records += report.records;
                            campaign.tally.merge(&report.tally);
                        }
                        Err(failure) => campaign.failures.push(failure),
                    }
                }
            });
        }
    });
    let mut campaign = campaign.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    campaign.failures.sort_by_key(|failure| failure.seed);
    campaign
}
