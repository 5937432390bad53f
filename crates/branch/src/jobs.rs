//! Background work, as values: a thread runs them in production, the simulator one step at a time.
//!
//! Jobs of one [`Lane`] run in order; lanes are independent. A job knows only what is durable. A failed job
//! never harms the branch's truth: its derived file is made again.

mod follow;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use skerry_book::BookImage;
use skerry_journal::{Head, JournalReader, Position, SealedBatch, Shelved, Storage, StoredRecord};
use skerry_money::Date;
use skerry_proof::Signer;
use skerry_proof::checkpoint::{Checkpoint, SignedCheckpoint};

use crate::branch::chain;
use crate::channels::retell::{self, Ask, Retold};
use crate::evidence::checkpoints;
use crate::evidence::nodes::Nodes;
use crate::history::{DurableBatch, History, HistoryStats, HistoryWork, SideError};
use crate::ids::{IdsDone, IdsWork};
use crate::keys::{KeyRef, Keys};
use crate::snapshot::{self, Mark};

/// A piece of work. `R` reads the journal, for what has to be caught up.
pub enum Job<R> {
    /// Hand the durable batches that wait in the [`Tray`] to history and evidence.
    Feed,
    /// Bring history and evidence up to the durable end, from the journal.
    CatchUp(R),
    /// A job of the id index.
    Ids(IdsWork),
    /// Seal a span of history.
    Span(HistoryWork),
    /// Sign a checkpoint and keep it.
    Sign(Box<Checkpoint>),
    /// Write a snapshot, and sign the checkpoint that closes its span.
    Snapshot(Box<Snapshot>),
    /// Destroy a customer's key.
    Erase(KeyRef),
    /// Copy the oldest segment to the cold folder, if it ends at or before this position and nothing needs it.
    Archive(R, u64),
    /// Read the records at these positions, which the writer does not reach, for a request that asks for them.
    Recall(R, Vec<u64>),
    /// Read a page of what the journal has of payments to and from this branch, which has lost its own.
    Retell(R, u16, Ask),
}

/// What a snapshot is made of.
pub struct Snapshot {
    /// The place it stands for.
    pub mark: Mark,
    /// The frozen book.
    pub image: BookImage,
    /// The statement about that place; its state digest is filled in.
    pub checkpoint: Checkpoint,
}

/// What came of a job.
#[derive(Debug)]
pub enum JobDone {
    /// History has consumed what waited.
    Fed(Progress),
    /// History has read the journal as far as it could.
    CaughtUp(Progress),
    /// History threw away what was damaged and has to read the journal again.
    Repaired,
    /// A span of history is sealed; perhaps the next one is to be.
    Sealed(Option<HistoryWork>),
    /// As the id index wants it back.
    Ids(Result<IdsDone, SideError>),
    /// A checkpoint is kept, at this position.
    Signed(Result<u64, String>),
    /// A snapshot is kept, at this position; and what came of the checkpoint that closes its span.
    Snapshot {
        /// The snapshot.
        kept: Result<u64, String>,
        /// Its checkpoint, if it came to that.
        signed: Option<Result<u64, String>>,
    },
    /// The key is gone.
    Erased(KeyRef),
    /// What lies in the cold folder now, or why it does not.
    Archived(Result<Shelved, String>),
    /// What was read from the archive, or why it was not.
    Recalled(Result<Vec<StoredRecord>, String>),
    /// What is to be told to another branch, or why it was not read.
    Retold(u16, Result<Retold, String>),
    /// Derived state is in doubt: the branch must open anew.
    Failed(String),
}

/// How far the followers have come.
#[derive(Debug)]
pub struct Progress {
    /// They stand here.
    pub head: Head,
    /// A span to be sealed.
    pub span: Option<HistoryWork>,
    /// Spans wait to be sealed; until one is, nothing more should be fed.
    pub behind: bool,
}

/// Jobs of one lane run in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Batches on their way into history: never behind anything slow.
    Feed,
    /// Signing and erasing: short.
    Desk,
    /// Files that the writer waits for when they fall behind.
    Files,
    /// Snapshots: big, and nobody waits for them.
    Snapshots,
    /// Copying to the cold folder: as slow as that is, and in nobody's way.
    Cold,
    /// Reading from the cold folder, for requests that stand aside: never behind a copy.
    Recall,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 6] =
        [Self::Feed, Self::Desk, Self::Files, Self::Snapshots, Self::Cold, Self::Recall];
}

impl<R> Job<R> {
    /// Where it runs.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Feed | Self::CatchUp(_) => Lane::Feed,
            Self::Sign(_) | Self::Erase(_) => Lane::Desk,
            Self::Ids(_) | Self::Span(_) => Lane::Files,
            Self::Snapshot(_) => Lane::Snapshots,
            Self::Archive(..) => Lane::Cold,
            Self::Recall(..) | Self::Retell(..) => Lane::Recall,
        }
    }
}

impl<R> std::fmt::Debug for Job<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Feed => formatter.write_str("Feed"),
            Self::CatchUp(_) => formatter.write_str("CatchUp"),
            Self::Ids(work) => work.fmt(formatter),
            Self::Span(work) => work.fmt(formatter),
            Self::Sign(checkpoint) => write!(formatter, "Sign({})", checkpoint.position),
            Self::Snapshot(snapshot) => write!(formatter, "Snapshot({})", snapshot.mark.head.position),
            Self::Erase(key) => write!(formatter, "Erase({})", key.0),
            Self::Archive(_, before) => write!(formatter, "Archive({before})"),
            Self::Recall(_, positions) => write!(formatter, "Recall({})", positions.len()),
            Self::Retell(_, peer, ask) => write!(formatter, "Retell({peer}, {})", ask.from),
        }
    }
}

/// Durable batches on their way into history: the writer lays them down before it tells anybody of them, and whoever has
/// the followers takes them up.
pub(crate) type Tray = Arc<Mutex<VecDeque<SealedBatch>>>;

/// Why a batch was not fed.
enum Unfed {
    /// The history threw away what was damaged, and this batch lies beyond what is left.
    Repaired,
    /// It cannot be fed.
    Failed(String),
}

/// What the followers of the journal have made: owned by the feed lane, looked at by all.
pub(crate) struct Followers<F> {
    pub(crate) history: History,
    pub(crate) nodes: Nodes<F>,
    /// How far both have come.
    pub(crate) head: Head,
}

/// Everything that jobs work with.
pub struct Workshop<S: Storage> {
    /// The folder of all that is derived.
    pub(crate) ground: S,
    pub(crate) snapshots: S,
    pub(crate) evidence: S,
    pub(crate) checkpoints: S,
    pub(crate) signer: Arc<dyn Signer + Send + Sync>,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) snapshots_kept: usize,
    pub(crate) followers: Mutex<Followers<S::File>>,
    pub(crate) tray: Tray,
    pub(crate) latest: RwLock<Option<Arc<SignedCheckpoint>>>,
    /// How the followers are, for those who must not wait for them.
    pub(crate) glance: Mutex<Glance>,
}

/// The followers at a glance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Glance {
    /// The history.
    pub(crate) history: HistoryStats,
    /// Leaves whose nodes are in the file.
    pub(crate) leaves: u64,
}

/// The mark of the node file is renewed after so many batches.
const MARK_BATCHES: u64 = 4096;
/// The history's figures are renewed after so many batches.
const GLANCE_BATCHES: u64 = 16;
/// Read from the journal at once while catching up.
const CATCH_UP_BYTES: usize = 4 << 20;

impl<S: Storage> Workshop<S> {
    /// Does a job; may block on the disk, the signer or the keys.
    pub fn run<R: JournalReader>(&self, job: Job<R>) -> JobDone {
        match job {
            Job::Feed => self.feed(&mut self.followers()),
            Job::CatchUp(reader) => self.catch_up(&reader),
            Job::Ids(work) => JobDone::Ids(work.run()),
            Job::Span(work) => {
                let done = work.run();
                let mut followers = self.followers();
                match followers.history.finish(done) {
                    Ok(()) => JobDone::Sealed(followers.history.take_work()),
                    Err(error) => JobDone::Failed(failed("could not seal a span of history", &error)),
                }
            }
            Job::Sign(checkpoint) => JobDone::Signed(self.sign(*checkpoint)),
            Job::Snapshot(snapshot) => self.write_snapshot(*snapshot),
            Job::Erase(key) => match self.keys.erase(key) {
                Ok(()) => JobDone::Erased(key),
                // At the next opening the erasure is replayed, for no snapshot has passed it.
                Err(error) => JobDone::Failed(failed(&format!("could not erase key {}", key.0), &error)),
            },
            Job::Archive(reader, before) => JobDone::Archived(self.archive(&reader, before)),
            Job::Recall(reader, positions) => {
                let read = |position| reader.read_record(Position(position)).map_err(|error| chain(&error));
                JobDone::Recalled(positions.into_iter().map(read).collect())
            }
            Job::Retell(reader, peer, ask) => {
                JobDone::Retold(peer, retell::page(&reader, peer, ask).map_err(|error| chain(&error)))
            }
        }
    }

    /// Copies one segment, but none that the next opening could need: before the oldest sound snapshot and in all that is
    /// derived.
    fn archive<R: JournalReader>(&self, reader: &R, before: u64) -> Result<Shelved, String> {
        let kept = snapshot::list(&self.snapshots).map_err(|error| chain(&error))?;
        // A damaged one is as good as none.
        let mut sound = kept.iter().rev().filter(|(_, file)| snapshot::read(&self.snapshots, file).is_ok());
        let Some((oldest, _)) = sound.next() else {
            return Err("there is no snapshot to open from".to_owned());
        };
        // A name that is seen need not be durable; what the next opening stands on must be.
        for name in ["snapshots", "ids", "history"] {
            let folder = self.ground.folder(name).map_err(|error| chain(&error))?;
            folder.sync_dir().map_err(|error| chain(&error))?;
        }
        self.rest();
        let followed = {
            let followers = self.followers();
            followers.nodes.marked().position.0.min(followers.history.kept())
        };
        let before = Position(before.min(oldest.0).min(followed));
        reader.copy_old(before, 1).map_err(|error| chain(&error))
    }

    pub(crate) fn followers(&self) -> MutexGuard<'_, Followers<S::File>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks how far the nodes have come, so that the next opening need not read the journal for them.
    pub fn rest(&self) {
        let mut followers = self.followers();
        let head = followers.head;
        if let Err(error) = followers.nodes.mark(head) {
            tracing::warn!("could not mark the nodes of the history: {error}");
        }
    }

    /// The last signed checkpoint.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<SignedCheckpoint>> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn feed(&self, followers: &mut Followers<S::File>) -> JobDone {
        match self.empty_tray(followers) {
            Ok(()) => JobDone::Fed(progress(followers)),
            Err(Unfed::Repaired) => {
                // All of it comes again from the journal.
                self.tray().clear();
                JobDone::Repaired
            }
            Err(Unfed::Failed(error)) => JobDone::Failed(error),
        }
    }

    /// Feeds the history what waits in the tray, on the thread of somebody who waits for it: a full machine may leave the
    /// feeding thread lying for milliseconds. Does nothing if somebody is at it.
    pub(crate) fn help(&self) {
        let mut followers = match self.followers.try_lock() {
            Ok(followers) => followers,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // What stands in the way is met again by the job, which has somebody to tell.
        drop(self.empty_tray(&mut followers));
    }

    /// Takes in what waits in the tray, in order; a batch that could not be taken in stays.
    fn empty_tray(&self, followers: &mut Followers<S::File>) -> Result<(), Unfed> {
        while let Some(batch) = self.next_in_tray() {
            if let Err(unfed) = self.feed_one(followers, &batch) {
                self.tray().push_front(batch);
                return Err(unfed);
            }
        }
        Ok(())
    }

    fn feed_one(&self, followers: &mut Followers<S::File>, batch: &SealedBatch) -> Result<(), Unfed> {
        let repaired = followers.history.repair();
        repaired.map_err(|error| Unfed::Failed(failed("could not repair the history", &error)))?;
        if followers.history.position() < batch.header().first_position {
            return Err(Unfed::Repaired);
        }
        take_in(followers, batch).map_err(Unfed::Failed)?;
        self.look_at(followers, batch.header().batch.is_multiple_of(GLANCE_BATCHES));
        Ok(())
    }

    fn tray(&self) -> MutexGuard<'_, VecDeque<SealedBatch>> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_in_tray(&self) -> Option<SealedBatch> {
        self.tray().pop_front()
    }

    fn catch_up<R: JournalReader>(&self, reader: &R) -> JobDone {
        self.catch_up_to(reader, reader.head().position)
    }

    fn catch_up_to<R: JournalReader>(&self, reader: &R, end: Position) -> JobDone {
        let mut followers = self.followers();
        if let Err(error) = followers.history.repair() {
            return JobDone::Failed(failed("could not repair the history", &error));
        }
        loop {
            let nodes_at = followers.head.position.0;
            let from = nodes_at.min(followers.history.position());
            if from >= end.0 || followers.history.must_wait() {
                self.look_at(&followers, true);
                return JobDone::CaughtUp(progress(&mut followers));
            }
            let batches = match reader.read(Position(from), CATCH_UP_BYTES) {
                Ok(batches) => batches,
                Err(error) => {
                    return JobDone::Failed(failed("could not catch up with the journal", &error));
                }
            };
            for batch in batches {
                if let Err(error) = take_in(&mut followers, &batch) {
                    return JobDone::Failed(error);
                }
            }
        }
    }

    fn look_at(&self, followers: &Followers<S::File>, whole: bool) {
        let mut glance = self.glance.lock().unwrap_or_else(PoisonError::into_inner);
        glance.leaves = followers.nodes.count();
        if whole {
            glance.history = followers.history.stats();
        }
    }

    pub(crate) fn glance(&self) -> Glance {
        *self.glance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, checkpoint: Checkpoint) -> Result<u64, String> {
        let position = checkpoint.position;
        let signed = checkpoint.sign(&*self.signer).map_err(|error| error.to_string())?;
        checkpoints::keep(&self.checkpoints, &signed).map_err(|error| error.to_string())?;
        self.publish(signed);
        Ok(position)
    }

    pub(crate) fn publish(&self, signed: SignedCheckpoint) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        let newer =
            latest.as_ref().is_none_or(|known| known.checkpoint.position <= signed.checkpoint.position);
        if newer {
            *latest = Some(Arc::new(signed));
        }
    }

    fn write_snapshot(&self, snapshot: Snapshot) -> JobDone {
        let Snapshot { mark, image, mut checkpoint } = snapshot;
        let digest = snapshot::write(&self.snapshots, &mark, |sink| image.write(&mut |bytes| sink(bytes)));
        drop(image);
        let digest = match digest {
            Ok(digest) => digest,
            Err(error) => return JobDone::Snapshot { kept: Err(error.to_string()), signed: None },
        };
        checkpoint.state_digest = Some(digest.hash);
        // A snapshot is good without its signature: it is held against the journal when it is opened from.
        let signed = Some(self.sign(checkpoint));
        let kept = snapshot::prune(&self.snapshots, self.snapshots_kept);
        JobDone::Snapshot {
            kept: kept.map(|()| mark.head.position.0).map_err(|error| error.to_string()),
            signed,
        }
    }
}

fn progress<F>(followers: &mut Followers<F>) -> Progress {
    let span = followers.history.take_work();
    Progress { head: followers.head, span, behind: followers.history.must_wait() }
}

/// What was attempted, and why it failed to the last cause: that the disk is full, say.
fn failed(what: &str, error: &dyn std::error::Error) -> String {
    format!("{what}: {}", chain(error))
}

/// One batch for history and evidence; what either has already is passed over.
fn take_in<F: skerry_journal::StorageFile>(
    followers: &mut Followers<F>,
    batch: &SealedBatch,
) -> Result<(), String> {
    let view = batch.view();
    followers.history.feed(DurableBatch {
        first: view.header.first_position,
        business_date: Date(view.header.business_date),
        head: view.hash,
        records: view.parts().records,
    });
    if view.header.batch < followers.nodes.count() {
        return Ok(());
    }
    let fed = |error| failed("could not keep the nodes of the history", &error);
    followers.nodes.append(view.header.history_leaf()).map_err(fed)?;
    followers.head = view.head_after();
    if followers.head.batch - followers.nodes.marked().batch >= MARK_BATCHES {
        followers.nodes.mark(followers.head).map_err(fed)?;
    }
    Ok(())
}
