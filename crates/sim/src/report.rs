//! Running seeds and saying what came of them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use skerry_branch::sabotage::Sabotage;
use skerry_journal::{FaultStorage, Storage};
use skerry_proof::Hash;

use crate::nodes::{Bugs, Fleet};
use crate::tally::Tally;
use crate::world::{At, World as Bank};

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum World {
    /// Branches, each on a machine of its own, whose disk fails.
    #[default]
    Bank,
    /// Nodes that have branches in turn, over stores that they share.
    Nodes,
}

impl World {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bank => "bank",
            Self::Nodes => "nodes",
        }
    }

    fn tally(self) -> Tally {
        match self {
            Self::Bank => Tally::default(),
            Self::Nodes => Tally::nodes(),
        }
    }
}

/// One life: everything that decides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// What is simulated.
    pub world: World,
    /// Chooses everything.
    pub seed: u64,
    /// How long it is troubled.
    pub steps: u64,
    /// Kinds of trouble with nodes that are left out.
    pub without: Vec<String>,
}

impl Life {
    /// With all that can happen.
    #[must_use]
    pub const fn new(world: World, seed: u64, steps: u64) -> Self {
        Self { world, seed, steps, without: Vec::new() }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "skerry simulate --world {} --seed {} --steps {}",
            self.world.name(),
            self.seed,
            self.steps
        )?;
        if self.without.is_empty() { Ok(()) } else { write!(out, " --without {}", self.without.join(",")) }
    }
}

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
    /// Which life.
    pub life: Life,
    /// At which of its steps.
    pub step: u64,
    /// In which branch; 0 if that is not known.
    pub branch: u16,
    /// What differed.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { life, step, branch, what } = self;
        writeln!(out, "seed {}, step {step}, branch {branch}: {what}", life.seed)?;
        write!(out, "see it again with: {life}")
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
    let mut world = Bank::new(seed, over, sabotage);
    let ran = caught(|| world.run(steps));
    let life = Life::new(World::Bank, seed, steps);
    ended(life, ran, world.step, || {
        let records = world.cells.iter().map(|cell| cell.oracle.position()).sum();
        (world.sum_up(), records)
    })
}

/// Runs nodes, with bugs switched on: in what drives branches by `bugs`, in branches by `sabotage`.
///
/// # Errors
///
/// The first thing that did not hold.
pub fn run_nodes(life: &Life, bugs: Bugs, sabotage: Sabotage) -> Result<Report, Failure> {
    let mut fleet = Fleet::new(life.seed, bugs, sabotage, life.without.clone());
    let ran = caught(|| fleet.run(life.steps));
    let step = fleet.step;
    ended(life.clone(), ran, step, || {
        let (journals, records) = fleet.journals();
        ((fleet.sum_up(), journals), records)
    })
}

/// Runs a life as it is.
///
/// # Errors
///
/// The first thing that did not hold.
pub fn live(life: &Life) -> Result<Report, Failure> {
    match life.world {
        World::Bank => run(life.seed, life.steps),
        World::Nodes => run_nodes(life, Bugs::default(), Sabotage::default()),
    }
}

/// What came of running, a panic being one of the things that must not be.
fn caught(run: impl FnOnce() -> At<()>) -> At<()> {
    // Marks of whatever ran on this thread before are not this run's.
    Tally::default().marks();
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err((0, format!("panicked: {}", text.unwrap_or_default())))
    })
}

fn ended(
    life: Life,
    ran: At<()>,
    step: u64,
    sum_up: impl FnOnce() -> ((Tally, Vec<Hash>), u64),
) -> Result<Report, Failure> {
    match ran {
        Ok(()) => {
            let ((mut tally, journals), records) = sum_up();
            tally.marks();
            Ok(Report { seed: life.seed, steps: life.steps, journals, records, tally })
        }
        Err((branch, what)) => Err(Failure { life, step, branch, what }),
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
pub fn campaign(world: World, seeds: u64, steps: u64, threads: usize) -> Campaign {
    let begun = Campaign { tally: world.tally(), ..Campaign::default() };
    let (next, campaign) = (AtomicU64::new(1), Mutex::new(begun));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    let ran = live(&Life::new(world, seed, steps));
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
    campaign.failures.sort_by_key(|failure| failure.life.seed);
    campaign
}
