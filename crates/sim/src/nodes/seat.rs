//! A branch on a node: followed, opened, driven, handed over and closed as the host orders, the way the bank's own driver does it.
//!
//! It drives the real [`Branch`] over a store that other nodes have too, under the real [`Lease`].

use std::sync::Arc;

use skerry_branch::keys::{Keys, SlotKeys};
use skerry_branch::{Branch, Condition, Leash, Now, OpenFailure, Options, Parts};
use skerry_journal::FaultStorage;
use skerry_node::host::Seen;
use skerry_node::lease::Lease;
use skerry_proof::Signer;

use super::store::SharedStore;
use crate::dice::Dice;
use crate::jobs::{Jobs, LANES};
use crate::site::{PEERS, signer};

pub(super) type NodeBranch = Branch<SharedStore, FaultStorage>;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It follows whoever has it open.
    Following,
    /// It opens then; or is closed again then, because it is not wanted any more.
    Opening { due_us: u64, wanted: bool },
    /// It is there, open or sick.
    There,
    /// It takes nothing more, and finishes what it has.
    Closing { marked: bool },
    /// The same, and lets go of its journal before anything else.
    HandingOver,
    /// Its journal is let go; it is closed then.
    Released { until_us: u64 },
}

/// What an opening came to.
#[derive(Debug)]
pub(super) enum Opened {
    Well,
    /// The same, from its follower.
    Promoted,
    /// Something remembers more than the journal has.
    Rewound,
    /// The store is not reached.
    Away,
    Otherwise(String),
}

/// What a seat is made of.
pub(super) struct Ground {
    pub(super) options: Options,
    pub(super) store: SharedStore,
    pub(super) storage: FaultStorage,
    pub(super) keys: Arc<SlotKeys<FaultStorage>>,
}

/// See the module.
pub(super) struct Seat {
    pub(super) branch: NodeBranch,
    pub(super) lease: Arc<Lease>,
    pub(super) store: SharedStore,
    jobs: Jobs<SharedStore>,
    stage: Stage,
    /// The follower could not read.
    is_failing: bool,
    /// When a branch whose trouble may pass opens again.
    again_at: Option<u64>,
    /// What openings came to, for the witness.
    pub(super) openings: Vec<Opened>,
    /// Deliberate bug: the host was told that it is closed.
    pub(super) is_given_up: bool,
}

impl Seat {
    /// A branch that opens at `due_us`.
    pub(super) fn new(ground: Ground, lease: Arc<Lease>, due_us: u64) -> Self {
        let store = ground.store.clone();
        let branch = Branch::new(Parts {
            store: ground.store,
            storage: ground.storage,
            options: ground.options,
            signer: Arc::new(signer()) as Arc<dyn Signer + Send + Sync>,
            keys: ground.keys as Arc<dyn Keys>,
            ticks: Box::new(|| 0),
        });
        Self {
            branch,
            lease,
            store,
            jobs: Jobs::default(),
            stage: Stage::Opening { due_us, wanted: true },
            is_failing: false,
            again_at: None,
            openings: Vec::new(),
            is_given_up: false,
        }
    }

    /// The same, but it follows.
    pub(super) fn follower(ground: Ground, lease: Arc<Lease>) -> Self {
        Self { stage: Stage::Following, is_failing: true, ..Self::new(ground, lease, 0) }
    }

    pub(super) fn is_follower(&self) -> bool {
        self.stage == Stage::Following
    }

    /// Whether it does not follow, because this machine remembers more than the journal has and nobody has declared a loss.
    pub(super) fn remembers_more(&self) -> bool {
        self.is_follower() && self.sickness().is_some_and(|why| why.contains("this machine remembers"))
    }

    /// Whether it follows and has all that there was when it last looked.
    pub(super) fn is_level(&self) -> bool {
        self.is_follower() && self.behind() == Some(0)
    }

    fn behind(&self) -> Option<u64> {
        self.branch.followed().filter(|_| !self.is_failing).map(|followed| followed.behind())
    }

    /// The follower opens at `due_us`.
    pub(super) fn promote(&mut self, due_us: u64) {
        self.stage = Stage::Opening { due_us, wanted: true };
    }

    pub(super) fn is_open(&self) -> bool {
        *self.branch.condition() == Condition::Open
    }

    /// Whether it would answer a read from what it remembers, at this moment.
    pub(super) fn answers(&self) -> bool {
        self.is_open() && self.lease.holds()
    }

    pub(super) fn sickness(&self) -> Option<&str> {
        match self.branch.condition() {
            Condition::Sick(why) => Some(why),
            _ => None,
        }
    }

    /// How it is.
    pub(super) fn words(&self) -> String {
        let (stage, condition) = (self.stage, self.branch.condition());
        let (behind, lease) = (self.behind(), self.lease.holds());
        format!("{stage:?}, {condition:?}, behind {behind:?}, lease {lease}")
    }

    /// What the host is to be told of it; nothing while it opens or closes.
    pub(super) fn seen(&self) -> Option<Seen> {
        match self.stage {
            Stage::Following => Some(Seen::Follows(self.behind())),
            Stage::There if self.is_open() => Some(Seen::Open),
            Stage::There => Some(Seen::Sick),
            _ => None,
        }
    }

    /// Clients may ask it, even if it will not answer.
    pub(super) fn is_there(&self) -> bool {
        self.stage == Stage::There
    }

    /// Orders it to close.
    pub(super) fn close(&mut self, hands_over: bool) {
        match &mut self.stage {
            Stage::Opening { wanted, .. } => *wanted = false,
            Stage::There | Stage::Following => {
                self.branch.drain();
                self.stage = if hands_over { Stage::HandingOver } else { Stage::Closing { marked: false } };
            }
            Stage::Closing { .. } | Stage::HandingOver | Stage::Released { .. } => {}
        }
    }

    fn open(&mut self, now: Now, dice: &mut Dice) {
        self.jobs.forget();
        let followed = self.branch.followed().is_some();
        let opened = match self.branch.open(now, dice.bytes()) {
            Ok(_) => {
                self.branch.know(&PEERS);
                if followed { Opened::Promoted } else { Opened::Well }
            }
            Err(failure) => of_failure(&failure),
        };
        self.openings.push(opened);
    }

    /// An operator says that what is lost is lost.
    pub(super) fn declare_loss(&mut self, now: Now, dice: &mut Dice) -> bool {
        self.jobs.forget();
        let declared = self.branch.declare_loss(self.store.accepting_loss(), now, dice.bytes()).is_ok();
        if declared {
            self.branch.know(&PEERS);
        }
        declared
    }

    /// Does a little. Returns what the host is to be told of its end: that its journal is let go, that it is closed and gone.
    pub(super) fn drive(&mut self, now: Now, us: u64, dice: &mut Dice) -> Option<Seen> {
        match self.stage {
            Stage::Opening { due_us, wanted } => {
                if us >= due_us {
                    self.stage = Stage::There;
                    self.open(now, dice);
                    if !wanted {
                        self.close(false);
                    }
                }
                return None;
            }
            Stage::Following => {
                self.keep_up(dice);
                return None;
            }
            Stage::Released { until_us } => return (us >= until_us).then_some(Seen::Closed),
            Stage::There | Stage::Closing { .. } | Stage::HandingOver => {}
        }
        for _ in 0..dice.between(1, 10) {
            self.drive_once(now, dice);
        }
        match self.stage {
            Stage::Closing { marked } => self.finish(now, marked).then_some(Seen::Closed),
            Stage::HandingOver if self.branch.has_answered() => {
                let workshop = self.branch.workshop();
                self.branch.close(now);
                self.jobs.forget();
                workshop.inspect(|workshop| workshop.rest());
                self.stage = Stage::Released { until_us: us + dice.below(2_000_000) };
                Some(Seen::Released)
            }
            Stage::HandingOver => None,
            _ => {
                self.mend(now, us, dice);
                None
            }
        }
    }

    /// The follower looks, now and then, and reads what it sees.
    fn keep_up(&mut self, dice: &mut Dice) {
        for _ in 0..dice.below(4) {
            if self.store.is_cut() {
                self.is_failing = true;
                return;
            }
            let read = self.branch.follow().and_then(|()| self.branch.keep_up());
            self.is_failing = read.is_err();
            if !read.is_ok_and(|more| more) {
                return;
            }
        }
    }

    fn drive_once(&mut self, now: Now, dice: &mut Dice) -> bool {
        let done = match dice.below(10) {
            0..4 => self.branch.turn(now),
            4..7 => !self.store.is_cut() && self.branch.step_journal(),
            7..9 => {
                let lane = dice.index(LANES);
                self.jobs.run_one(&mut self.branch, lane, [true; LANES])
            }
            _ => self.jobs.finish_one(&mut self.branch, now),
        };
        if self.sickness().is_some() {
            self.jobs.forget();
        }
        done
    }

    /// Drives it until it has nothing left to do.
    pub(super) fn settle(&mut self, now: Now) -> bool {
        for _ in 0..20_000 {
            let mut busy = self.branch.turn(now);
            busy |= !self.store.is_cut() && self.branch.step_journal();
            busy |= self.jobs.run_one(&mut self.branch, 0, [true; LANES]);
            busy |= self.jobs.finish_one(&mut self.branch, now);
            if !busy {
                return self.branch.is_idle();
            }
        }
        false
    }

    /// What a process that died had sent to the store still arrives there; nobody hears of it.
    pub(super) fn arrive(&mut self) -> bool {
        self.branch.step_journal()
    }

    /// A branch that is closing goes once it has finished; a sick one has nothing to finish.
    fn finish(&mut self, now: Now, marked: bool) -> bool {
        if self.is_open() {
            if !self.branch.is_idle() {
                return false;
            }
            if !marked {
                self.branch.mark(now, false);
                self.stage = Stage::Closing { marked: true };
                return false;
            }
            if let Some(workshop) = self.branch.workshop() {
                workshop.rest();
            }
        }
        self.branch.close(now);
        true
    }

    /// Opens a branch again whose trouble may have passed, once it is time.
    fn mend(&mut self, now: Now, us: u64, dice: &mut Dice) {
        let Some(patience) = self.branch.patience() else {
            self.again_at = None;
            return;
        };
        let wait_us = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        if *self.again_at.get_or_insert(us + wait_us) <= us {
            self.again_at = None;
            self.open(now, dice);
        }
    }
}

fn of_failure(failure: &OpenFailure) -> Opened {
    use skerry_journal::OpenError;
    match failure {
        OpenFailure::Rewound { .. }
        | OpenFailure::PeerAhead { .. }
        | OpenFailure::Journal(OpenError::Rewound { .. }) => Opened::Rewound,
        OpenFailure::Journal(OpenError::Away { .. }) => Opened::Away,
        other => Opened::Otherwise(crate::site::words(other)),
    }
}
