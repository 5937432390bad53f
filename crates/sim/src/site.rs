//! One branch on its machine: a disk that fails on purpose, a process that lives and dies, jobs that run when
//! the dice say so.
//!
//! It drives the real [`Branch`] over the real [`LocalStore`], and knows when a failure is excused: only by a fault
//! that the disk has counted since.

use std::sync::{Arc, Mutex};

use skerry_book::Seed;
use skerry_branch::api::GatewayKey;
use skerry_branch::jobs::Lane;
use skerry_branch::keys::{KeyError, SlotKeys};
use skerry_branch::queue::Limits;
use skerry_branch::sabotage::Sabotage;
use skerry_branch::{Branch, Condition, Found, Now, OpenFailure, Options, Parts};
use skerry_journal::{
    FaultKind, FaultPlan, FaultStorage, LocalOptions, LocalReader, LocalStore, Mode, OpenError, Storage,
    StorageError,
};
use skerry_proof::{Ed25519Signer, Signer};

use crate::dice::Dice;
use crate::jobs::{Jobs, LANES};
use crate::model::Broken;

/// The institution's secrets; one bank for all runs.
pub(crate) fn seed() -> Seed {
    Seed::new([11; 32])
}

pub(crate) fn gateway() -> GatewayKey {
    GatewayKey::new([12; 32])
}

pub(crate) fn signer() -> Ed25519Signer {
    Ed25519Signer::from_seed(&[13; 32])
}

/// All branches of the bank.
pub(crate) const PEERS: [u16; 3] = [1, 2, 3];
pub(crate) const MASTER: [u8; 32] = [14; 32];
/// More operations than any run has.
const NEVER: u64 = u64::MAX;

/// What a failed opening was.
#[derive(Debug)]
pub(crate) enum Opening {
    /// It is open.
    Open(Found),
    /// A fault that the disk was told to make kept it shut.
    Excused,
    /// It says that its journal was rewound.
    Rewound,
    /// It says that its journal or a checkpoint is damaged.
    Damaged(String),
}

type BranchOn<D> = Branch<LocalStore<D>, FaultStorage>;

/// One branch, its process and its machine.
pub(crate) struct Site<D: Storage> {
    pub(crate) number: u16,
    pub(crate) disk: FaultStorage,
    over: fn(FaultStorage) -> D,
    options: Options,
    local: LocalOptions,
    /// None while no process runs.
    branch: Option<BranchOn<D>>,
    pub(crate) keys: Option<Arc<SlotKeys<FaultStorage>>>,
    jobs: Jobs<LocalStore<D>>,
    /// Lanes of jobs do nothing before these steps.
    pub(crate) stalled_until: [u64; LANES],
    /// The machine's wall clock against the world's.
    pub(crate) skew_us: i64,
    dice: Dice,
    /// Faults counted by the disk when the branch last opened.
    excuses: u64,
    /// What came of the last archiving.
    archived: Arc<Mutex<Option<Result<u64, String>>>>,
    /// The cold folder is not there.
    pub(crate) cold_away: bool,
    /// A derived file was changed behind the branch's back.
    pub(crate) flipped: bool,
    /// The same, ever: damage may be met long after.
    pub(crate) ever_flipped: bool,
}

impl<D: Storage> Site<D> {
    pub(crate) fn new(number: u16, over: fn(FaultStorage) -> D, sabotage: Sabotage, mut dice: Dice) -> Self {
        let options = options(number, sabotage, &mut dice);
        let local = LocalOptions {
            segment_bytes: dice.between(5, 24) * 4096,
            reserve_bytes: dice.between(1, 6) * 4096,
            in_flight_max: dice.index(3) + 1,
            mark_every: dice.between(1, 12),
            mode: Mode::Stepped,
            ..LocalOptions::new(number)
        };
        Self {
            number,
            disk: FaultStorage::new(dice.next()),
            over,
            options,
            local,
            branch: None,
            keys: None,
            jobs: Jobs::default(),
            stalled_until: [0; LANES],
            skew_us: 0,
            dice,
            excuses: 0,
            archived: Arc::default(),
            cold_away: false,
            flipped: false,
            ever_flipped: false,
        }
    }

    /// What the machine's clocks say when the world's say `world`.
    pub(crate) fn now(&self, world: Now) -> Now {
        Now { wall_us: world.wall_us.saturating_add_signed(self.skew_us), monotonic_us: world.monotonic_us }
    }

    /// The branch, while its process lives.
    pub(crate) fn branch(&self) -> Option<&BranchOn<D>> {
        self.branch.as_ref()
    }

    pub(crate) fn branch_mut(&mut self) -> Option<&mut BranchOn<D>> {
        self.branch.as_mut()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.branch.as_ref().is_some_and(|branch| *branch.condition() == Condition::Open)
    }

    /// Why it is sick, if it is.
    pub(crate) fn sickness(&self) -> Option<&str> {
        match self.branch.as_ref()?.condition() {
            Condition::Sick(why) => Some(why),
            _ => None,
        }
    }

    pub(crate) fn reader(&self) -> Option<LocalReader<D>> {
        self.branch.as_ref()?.reader()
    }

    pub(crate) fn journal_folder(&self, disk: &FaultStorage) -> FaultStorage {
        disk.folder("journal").expect("a calm disk has folders")
    }

    fn store(&self, accept_loss: bool, verify_sealed: bool) -> Result<LocalStore<D>, StorageError> {
        let storage = (self.over)(self.disk.folder("journal")?);
        let cold = Some((self.over)(self.disk.folder("cold")?));
        Ok(LocalStore { storage, options: LocalOptions { accept_loss, verify_sealed, ..self.local }, cold })
    }

    /// Faults so far that may make anything fail.
    pub(crate) fn excuses_so_far(&self) -> u64 {
        let excusing = [
            FaultKind::ShortWrite,
            FaultKind::FailedWrite,
            FaultKind::FailedSync,
            FaultKind::DiskFull,
            FaultKind::ReadOnly,
            FaultKind::FailedRead,
        ];
        let counts = self.disk.counts();
        counts.iter().filter(|(kind, _)| excusing.contains(kind)).map(|(_, count)| count).sum()
    }

    /// Whether the disk has given a reason to fail since the last opening.
    pub(crate) fn is_excused(&self) -> bool {
        self.disk.is_dark() || self.flipped || self.excuses_so_far() > self.excuses
    }

    /// Whether it may be sick for the reason `why`.
    pub(crate) fn may_be_sick(&self, why: &str) -> bool {
        self.is_excused() || (self.ever_flipped && why.contains("damaged")) || why.contains("archived")
    }

    /// Starts the process if none runs, and opens the branch (again).
    pub(crate) fn open(&mut self, world: Now, verify_sealed: bool) -> Result<Opening, Broken> {
        let before = self.excuses_so_far();
        let opened = self.try_open(world, verify_sealed);
        let excused = self.disk.is_dark() || self.excuses_so_far() > before;
        match opened {
            Ok(found) => {
                self.excuses = before;
                self.flipped = false;
                self.connect();
                Ok(Opening::Open(found))
            }
            Err(Shut::Keys(_)) | Err(Shut::Branch(_)) if excused => Ok(Opening::Excused),
            Err(Shut::Branch(OpenFailure::Rewound { .. } | OpenFailure::PeerAhead { .. })) => {
                Ok(Opening::Rewound)
            }
            Err(Shut::Branch(
                failure @ (OpenFailure::Checkpoint(_) | OpenFailure::Journal(OpenError::Damaged(_))),
            )) => Ok(Opening::Damaged(words(&failure))),
            Err(Shut::Keys(error)) => Err(format!("keys do not open: {}", words(&error))),
            Err(Shut::Branch(failure)) => Err(format!("does not open on a sound disk: {}", words(&failure))),
        }
    }

    fn try_open(&mut self, world: Now, verify_sealed: bool) -> Result<Found, Shut> {
        self.forget_jobs();
        let now = self.now(world);
        if self.branch.is_none() {
            let mut noise = self.dice.fork();
            let entropy = Box::new(move |buffer: &mut [u8]| {
                for chunk in buffer.chunks_mut(32) {
                    chunk.copy_from_slice(&noise.bytes()[..chunk.len()]);
                }
            });
            let shut = |error: StorageError| Shut::Keys(error.into());
            let folder = self.disk.folder("keys").map_err(shut)?;
            let keys = Arc::new(SlotKeys::open(&folder, MASTER, entropy).map_err(Shut::Keys)?);
            self.keys = Some(Arc::clone(&keys));
            self.branch = Some(Branch::new(Parts {
                store: self.store(false, verify_sealed).map_err(shut)?,
                storage: self.disk.folder("branch").map_err(shut)?,
                options: self.options.clone(),
                signer: Arc::new(signer()) as Arc<dyn Signer + Send + Sync>,
                keys,
                ticks: Box::new(|| 0),
            }));
        }
        let entropy = self.dice.bytes();
        let branch = self.branch.as_mut().expect("started just now");
        branch.open(now, entropy).map_err(Shut::Branch)
    }

    /// It may pay and be paid by all branches.
    fn connect(&mut self) {
        if let Some(branch) = self.branch.as_mut() {
            branch.know(&PEERS);
        }
    }

    /// Opens it without what its journal has lost.
    pub(crate) fn declare_loss(&mut self, world: Now) -> Result<Opening, Broken> {
        let before = self.excuses_so_far();
        self.forget_jobs();
        let (now, entropy) = (self.now(world), self.dice.bytes());
        let Ok(store) = self.store(true, false) else { return Ok(Opening::Excused) };
        let branch = self.branch.as_mut().ok_or("a loss is declared to a running process")?;
        match branch.declare_loss(store, now, entropy) {
            Ok(found) => {
                self.excuses = before;
                self.connect();
                Ok(Opening::Open(found))
            }
            Err(_) if self.disk.is_dark() || self.excuses_so_far() > before => Ok(Opening::Excused),
            Err(failure) => Ok(Opening::Damaged(words(&failure))),
        }
    }

    /// Begins to move what the branch can spare to the cold folder. How it ends comes by [`archived`](Self::archived).
    pub(crate) fn archive(&mut self) {
        let told = Arc::clone(&self.archived);
        if let Some(branch) = self.branch.as_mut() {
            branch.archive(u64::MAX, Box::new(move |result| *said(&told) = Some(result)));
        }
    }

    /// Runs the job that copies, and keeps its result from the branch.
    pub(crate) fn copy_old(&mut self) {
        let mut awake = [false; LANES];
        let lane = Lane::ALL.iter().position(|lane| *lane == Lane::Cold).unwrap_or(0);
        awake[lane] = true;
        let told = self.jobs.results();
        self.work_only(lane, awake);
        self.jobs.drop_results(told);
    }

    /// What came of an archiving, once; as an error if nothing excuses that it failed.
    pub(crate) fn archived(&mut self) -> Result<Option<u64>, Broken> {
        match said(&self.archived).take() {
            Some(Ok(start)) => Ok(Some(start)),
            Some(Err(why)) => {
                let usual = ["no snapshot", "under way", "the branch stopped", "not open"];
                let usual = usual.iter().any(|usual| why.contains(usual));
                let away = self.cold_away && why.contains("cold folder");
                let excused = usual || away || self.is_excused();
                if excused { Ok(None) } else { Err(format!("cannot be archived: {why}")) }
            }
            None => Ok(None),
        }
    }

    /// Takes the cold folder away, or brings it back.
    pub(crate) fn take_cold_away(&mut self, away: bool) {
        self.cold_folder().take_away(away);
        self.cold_away = away;
    }

    /// The archive.
    pub(crate) fn cold_folder(&self) -> FaultStorage {
        self.disk.folder("cold").expect("a disk with power has folders")
    }

    /// The process dies. What it had written is in the machine's cache.
    pub(crate) fn kill(&mut self) {
        self.branch = None;
        self.keys = None;
        *said(&self.archived) = None;
        self.forget_jobs();
    }

    /// The power goes and comes back.
    pub(crate) fn cut_power(&mut self) {
        self.kill();
        self.disk.power_cut();
        self.calm();
    }

    /// The process is to run on another machine.
    pub(crate) fn move_to(&mut self, disk: FaultStorage) {
        self.disk = disk;
        self.excuses = 0;
        (self.flipped, self.ever_flipped) = (false, false);
    }

    /// The disk makes no more faults from now on.
    pub(crate) fn calm(&mut self) {
        self.disk.set_plan(FaultPlan::default());
        self.disk.set_capacity(None);
        self.disk.set_read_only(false);
        self.disk.fail_next_sync(NEVER);
        self.disk.short_next_write(NEVER);
    }

    /// The same, and the power stays on.
    pub(crate) fn steady(&mut self) {
        self.calm();
        if !self.disk.is_dark() {
            self.disk.lose_power_in(NEVER);
        }
    }

    /// Takes no more requests, and serves, signs and makes durable what it has. `false` if a fault came in between.
    pub(crate) fn drain(&mut self, world: Now) -> Result<bool, Broken> {
        let now = self.now(world);
        let Some(branch) = self.branch.as_mut() else { return Ok(false) };
        branch.drain();
        branch.mark(now, false);
        self.settle(world)
    }

    /// Closes the drained branch.
    pub(crate) fn close(&mut self, world: Now) {
        let now = self.now(world);
        if let Some(branch) = self.branch.as_mut() {
            if let Some(workshop) = branch.workshop() {
                workshop.rest();
            }
            branch.close(now);
        }
    }

    /// Turns, journal steps and jobs until nothing is left to do. `false` if it fell sick.
    pub(crate) fn settle(&mut self, world: Now) -> Result<bool, Broken> {
        for _ in 0..20_000 {
            let turned = self.turn(world);
            let stepped = self.step_journal();
            let worked = self.work(world, 0, [true; LANES]) | self.finish_jobs(world);
            if !self.is_open() {
                return Ok(false);
            }
            if !turned && !stepped && !worked {
                return self.check_idle();
            }
        }
        Err("never comes to rest".to_owned())
    }

    /// With nothing left to do, nothing may be waiting.
    fn check_idle(&self) -> Result<bool, Broken> {
        let held_off = self.branch.as_ref().is_some_and(|branch| branch.clock_jumped().is_some());
        let idle = self.branch.as_ref().is_some_and(Branch::is_idle);
        if idle || held_off { Ok(idle) } else { Err("does nothing, but has something left to do".to_owned()) }
    }

    /// One thing that the dice choose.
    pub(crate) fn drive(&mut self, world: Now, step: u64) -> bool {
        match self.dice.below(10) {
            0..4 => self.turn(world),
            4..7 => self.step_journal(),
            7..9 => {
                let lane = self.dice.index(LANES);
                let awake = self.stalled_until.map(|until| step >= until);
                self.work(world, lane, awake)
            }
            _ => self.finish_jobs(world),
        }
    }

    pub(crate) fn turn(&mut self, world: Now) -> bool {
        let now = self.now(world);
        let done = self.branch.as_mut().is_some_and(|branch| branch.turn(now));
        self.after();
        done
    }

    pub(crate) fn step_journal(&mut self) -> bool {
        self.branch.as_mut().is_some_and(|branch| branch.step_journal())
    }

    /// Runs a job of `lane`, or of the next lane that is awake and has one. Its result stays on its way.
    fn work(&mut self, world: Now, lane: usize, awake: [bool; LANES]) -> bool {
        let worked = self.work_only(lane, awake);
        if worked && self.dice.chance(1, 2) {
            self.finish_jobs(world);
        }
        worked
    }

    /// The same, and no result comes back yet.
    fn work_only(&mut self, lane: usize, awake: [bool; LANES]) -> bool {
        let Some(branch) = self.branch.as_mut() else { return false };
        self.jobs.run_one(branch, lane, awake)
    }

    fn finish_jobs(&mut self, world: Now) -> bool {
        let now = self.now(world);
        let mut any = false;
        while let Some(branch) = self.branch.as_mut()
            && self.jobs.finish_one(branch, now)
        {
            any = true;
            self.after();
        }
        any
    }

    /// Jobs of a branch that has stopped are nobody's.
    fn after(&mut self) {
        if self.sickness().is_some() {
            self.forget_jobs();
        }
    }

    fn forget_jobs(&mut self) {
        self.jobs.forget();
    }
}

/// What came of an archiving, behind its lock.
fn said<T>(slot: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Why a branch stayed shut.
enum Shut {
    Keys(KeyError),
    Branch(OpenFailure),
}

/// Small bounds, so that everything that happens once in a million transfers happens in a hundred.
pub(crate) fn options(number: u16, sabotage: Sabotage, dice: &mut Dice) -> Options {
    let mut options = Options::new(number, "simulated bank", seed(), gateway());
    options.limits = Limits {
        requests: 16,
        bytes: 2 << 20,
        in_flight: 8,
        records_per_second: *dice.pick(&[0, 300]).expect("two"),
        burst: 60,
        ..Limits::default()
    };
    options.in_flight_max = dice.index(3) + 1;
    options.checkpoint_us = dice.between(10, 600) * 1_000_000;
    options.snapshot_records = dice.between(60, 500);
    options.freeze_pages = 2;
    options.snapshots_kept = dice.index(3) + 1;
    options.expiries_per_batch = 2;
    options.ids.memtable_ids = dice.index(60) + 16;
    options.ids.in_flight_max = 4096;
    options.ids.frozen_max = dice.index(3) + 1;
    options.ids.filter_ids_max = dice.between(60, 1_000);
    options.ids.shared_ids = dice.index(200) + 60;
    options.ids.merge_fan = dice.index(2) + 2;
    options.history.span_rows = dice.index(120) + 30;
    options.history.sealing_max = dice.index(2) + 1;
    options.sabotage = sabotage;
    options
}

/// An error with all its causes.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
