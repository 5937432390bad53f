//! The open branch: one book, one journal, one batch being filled.
//!
//! [`Work::turn`] is all there is: see what became durable, do what the bank itself owes (day, expiries), serve
//! requests in turn, and hand the batch to the journal when it is time. It blocks on nothing but the
//! journal's page cache and knows no thread. What it learns of time comes with [`Now`]; what takes long leaves as a
//! [`Job`].
//!
//! # Invariants
//!
//! - The book, the id index and the mountain range stand where the batch being filled ends.
//! - A [`Fault`] ends its life: nothing of its memory is used again.

mod bank;
mod channels;
mod commands;
mod crossing;
mod marks;
mod past;
mod reads;
mod recalls;
mod recovery;
mod serve;
mod transfers;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skerry_book::Book;
use skerry_book::record::RecordError;
use skerry_journal::{AppendErrorKind, AppendFault, AppendFaultKind, Head, Journal, ReadError, SealedBatch};
use skerry_ledger::{Moved, Stamp, Transfer};
use skerry_proof::Hash;
use skerry_proof::mmr::Mmr;

use crate::api::{Reply, Request};
use crate::batch::{Builder, Writer};
use crate::channels::Talk;
use crate::channels::rewound::Rewound;
use crate::clock::{Clock, Jumped, Now};
use crate::held::{HeldReplies, Owner};
use crate::history::SideError;
use crate::ids::Ids;
use crate::jobs::{Job, JobDone, Progress, Tray};
use crate::meters::Meters;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::queue::{Ask, Queue};

pub(crate) use marks::Marks;
pub(crate) use recalls::{Recalled, Recalls};
pub(crate) use transfers::TRANSFERS_MAX;

/// A queue that submitters and the writer share.
pub(crate) type SharedQueue = Arc<Mutex<Queue<Request>>>;

/// What ends an open branch's life. None of these is a business "no".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The journal could not make a batch durable, or nobody knows whether it did.
    #[error(transparent)]
    Append(#[from] AppendFault),
    /// The journal did not take a batch.
    #[error("the journal refused batch {batch}")]
    Refused {
        /// Which.
        batch: u64,
        /// Why.
        source: AppendErrorKind,
    },
    /// The journal could not be read.
    #[error("could not look up an earlier record")]
    Read(#[source] ReadError),
    /// A derived file could not be read or written.
    #[error("could not use a derived file")]
    Side(#[source] SideError),
    /// A record that cannot be read.
    #[error("could not read the record at position {position}")]
    Record {
        /// Where.
        position: u64,
        /// Why.
        source: RecordError,
    },
    /// Another branch knows of payments that the journal does not have.
    #[error(
        "journal_rewound: branch {} has payments of this branch up to {} that the journal, which ends at position {position} and \
         has them up to {}, does not have; `skerry branch declare-loss` opens it without what is lost",
        .found.peer, .found.told, .found.known
    )]
    Rewound {
        /// What was shown.
        found: Rewound,
        /// Where the journal ends.
        position: u64,
    },
    /// A background job failed in a way that leaves its derived file in doubt.
    #[error("a background job failed: {0}")]
    Job(String),
}

impl Fault {
    /// Whether another owner has opened the journal.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Append(fault) => fault.kind == AppendFaultKind::Fenced,
            Self::Refused { source, .. } => *source == AppendErrorKind::Fenced,
            _ => false,
        }
    }
}

/// An open branch.
pub(crate) struct Work<J: Journal> {
    pub(crate) options: Arc<Options>,
    pub(crate) writer: Writer,
    /// The act of the bank's own that was refused last, and why: said once.
    pub(crate) refused_act: Option<(&'static str, u16)>,
    pub(crate) journal: J,
    /// Reads what is in the journal itself: the writer never waits for the archive.
    pub(crate) reader: J::Reader,
    /// Reads the archive too, for jobs and other threads.
    pub(crate) far: J::Reader,
    /// The durable end as of the last look: what is beyond is durable too, but nobody has been told yet.
    pub(crate) polled: Head,
    /// The position before which everything may have been told to somebody; for those who read beside the writer.
    pub(crate) answered: Arc<AtomicU64>,
    pub(crate) book: Book,
    pub(crate) ids: Ids,
    pub(crate) clock: Clock,
    pub(crate) jumped: Option<Jumped>,
    pub(crate) mmr: Mmr,
    pub(crate) filling: Builder,
    /// The batch being filled takes no more: a day ended with it.
    pub(crate) must_seal: bool,
    /// The end of what has been sealed.
    pub(crate) sealed: Head,
    /// Its stamp, microseconds since 1970.
    pub(crate) sealed_time_us: u64,
    /// A sealed batch that the journal has no room for yet.
    pub(crate) waiting: Option<SealedBatch>,
    pub(crate) held: HeldReplies,
    /// Checks of the owner that were asked for.
    pub(crate) checks: u64,
    /// A loss that is one if this check, which was asked for after it was shown, comes out well.
    pub(crate) suspected: Option<(Fault, u64)>,
    pub(crate) intake: VecDeque<(Ask, Request)>,
    /// Requests that ask for what lies in the archive.
    pub(crate) recalls: Recalls,
    /// Secret randomness of this opening, from which each batch's salt derives.
    pub(crate) entropy: [u8; 32],
    pub(crate) marks: Marks,
    pub(crate) jobs: VecDeque<Job<<J as Journal>::Reader>>,
    /// How many batches history has consumed.
    pub(crate) fed: u64,
    /// Durable batches that history has yet to consume.
    pub(crate) tray: Tray,
    /// Jobs about them that are out.
    pub(crate) feeding: u64,
    /// History reads the journal itself until it has caught up: it was behind at opening, or fell behind.
    pub(crate) catching_up: bool,
    /// Spans of history wait to be sealed; until one is, nothing more is taken.
    pub(crate) followers_behind: bool,
    pub(crate) meters: Meters,
    pub(crate) metrics: Metrics,
    /// The talk with other branches.
    pub(crate) talk: Talk,
    /// Up to this position it must be durable before anybody is told of the life that this branch is in.
    pub(crate) born: u64,
    pub(crate) scratch: Scratch,
}

/// Memory that is used again for every batch.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) leaves: Vec<Hash>,
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) moved: Vec<Moved>,
    pub(crate) taken: Vec<(Ask, Request)>,
}

/// Durable batches kept in memory for history; beyond that it reads them from the journal.
const FEEDING_MAX: u64 = 64;
/// Durable batches that history may be behind before the writer waits for it.
const BEHIND_MAX: u64 = 4096;

impl<J: Journal> Work<J> {
    /// One turn. Returns whether anything was done; if not, wait for a request, the journal, a job or the time.
    pub(crate) fn turn(
        &mut self,
        now: Now,
        queue: &SharedQueue,
        ticks: &dyn Fn() -> u64,
    ) -> Result<bool, Fault> {
        let jobs = self.jobs.len();
        let mut done = self.poll(now, queue)?;
        if self.jobs.len() > jobs {
            // Others can go on with what is durable while this thread serves: statements wait for the history.
            return Ok(true);
        }
        match self.clock.stamp(now) {
            Ok(time_us) => {
                self.jumped = None;
                if self.filling.is_empty() {
                    let stamp = self.book.stamp(time_us);
                    self.filling = Builder::new(self.sealed, stamp.time_us, stamp.business_date);
                }
                done |= self.bank_acts(time_us)?;
                done |= self.take_requests(now, queue, ticks)?;
            }
            Err(jumped) => {
                self.jumped = Some(jumped);
                done |= self.turn_away(now, queue);
            }
        }
        done |= self.seal_when_due(now)?;
        done |= self.freeze();
        self.mark_idle(now);
        done |= self.release(now, queue);
        self.check_owner();
        done |= self.speak(now)?;
        self.find_work();
        Ok(done)
    }

    /// The stamp of everything in the batch being filled.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { time_us: self.filling.time_us(), business_date: self.filling.business_date() }
    }

    /// Takes note of what the journal has to tell.
    fn poll(&mut self, now: Now, queue: &SharedQueue) -> Result<bool, Fault> {
        let mut done = false;
        while let Some(told) = self.journal.poll() {
            let appended = told?;
            self.polled = appended.head;
            self.ids.durable(appended.head.position.0, appended.head.hash);
            self.metrics.durable(&appended, now);
            self.talk.durable(appended.head.batch);
            self.feed(appended.batch);
            self.marks.durable(appended.head.batch, &mut self.jobs);
            done = true;
        }
        let confirmed = self.journal.confirmed();
        if let Some((fault, _)) = self.suspected.take_if(|(_, check)| *check <= confirmed) {
            return Err(fault);
        }
        if let Some(batch) = self.waiting.take() {
            done |= self.append(batch)?;
        }
        done |= self.release(now, queue);
        Ok(done)
    }

    fn feed(&mut self, batch: SealedBatch) {
        if self.catching_up {
            return;
        }
        if self.feeding < FEEDING_MAX {
            self.feeding += 1;
            self.tray.lock().unwrap_or_else(PoisonError::into_inner).push_back(batch);
            self.jobs.push_back(Job::Feed);
        } else {
            crate::coverage::Mark::FeedingGivenUp.hit();
            self.catching_up = true;
            self.jobs.push_back(Job::CatchUp(self.far.clone()));
        }
    }

    /// Lets go what may go: replies that see nothing but what is durable.
    fn release(&mut self, now: Now, queue: &SharedQueue) -> bool {
        let early = self.options.sabotage.early_reply();
        let durable = if early { u64::MAX } else { self.polled.batch };
        self.answered.store(self.polled.position.0, Ordering::Release);
        let mut done = false;
        if self.held.is_empty() {
            return done;
        }
        // Read now, after everything that is held was decided: a process may have stood still for any time before.
        let owner = self.owner();
        while let Some(held) = self.held.pop_free(durable, &owner) {
            self.metrics.replied(now, held.taken_us);
            lock(queue).done(&held.principal, now.monotonic_us);
            (held.reply)(held.value);
            done = true;
        }
        done
    }

    fn owner(&self) -> Owner {
        Owner { is_held: self.options.is_held(), confirmed: self.journal.confirmed() }
    }

    /// Asks the store who the owner is, if a reply waits for nothing else: one check at a time, for all that wait when it is asked.
    fn check_owner(&mut self) {
        let under_way = self.checks > self.journal.confirmed();
        if under_way || self.held.is_empty() {
            return;
        }
        let unproven = self.held.unproven(self.polled.batch, &self.owner());
        // A batch that will tell as much may be on its way.
        if unproven.is_some_and(|held| held.proof > self.sealed.batch) {
            self.checks = self.journal.confirm();
            self.metrics.checked();
        }
    }

    /// How many batches must be durable before what is seen now may be told.
    pub(crate) fn needs(&self) -> u64 {
        self.sealed.batch + u64::from(!self.filling.is_empty())
    }

    /// Seals if the journal is idle, or if the batch takes no more and the journal has room.
    fn seal_when_due(&mut self, now: Now) -> Result<bool, Fault> {
        if self.filling.is_empty() || self.waiting.is_some() {
            return Ok(false);
        }
        let in_flight = self.journal.in_flight();
        let full = self.must_seal || !self.intake.is_empty() || self.filling.room() < ROOM_SMALL;
        if in_flight > 0 && !(full && in_flight < self.options.in_flight_max) {
            return Ok(false);
        }
        self.seal(now)?;
        Ok(true)
    }

    fn seal(&mut self, now: Now) -> Result<(), Fault> {
        let after = Builder::new(self.sealed, 0, self.filling.business_date());
        let filled = std::mem::replace(&mut self.filling, after);
        let time_us = filled.time_us();
        let salt = salt(&self.entropy, filled.number());
        let batch = filled.seal(&self.writer, self.sealed.hash, salt, &mut self.scratch.leaves);
        self.mmr.append(batch.header().history_leaf(), |_| {});
        self.sealed = Head::after(&batch);
        assert_eq!(self.sealed.position.0, self.book.position(), "a record for each event, in order");
        self.talk.sealed(self.sealed.batch, &self.book);
        self.must_seal = false;
        self.sealed_time_us = time_us;
        self.writer.incarnation = self.book.incarnation().max(1);
        self.mark_when_due(now);
        let stamp = self.book.stamp(time_us);
        self.filling = Builder::new(self.sealed, stamp.time_us, stamp.business_date);
        self.metrics.sealed(&batch, now);
        self.append(batch)?;
        Ok(())
    }

    fn append(&mut self, batch: SealedBatch) -> Result<bool, Fault> {
        match self.journal.append(batch) {
            Ok(()) => Ok(true),
            Err((AppendErrorKind::Busy, batch)) => {
                crate::coverage::Mark::BatchWaited.hit();
                self.waiting = Some(batch);
                Ok(false)
            }
            Err((source, batch)) => Err(Fault::Refused { batch: batch.header().batch, source }),
        }
    }

    /// Takes back a job.
    pub(crate) fn finish(&mut self, done: JobDone) -> Result<(), Fault> {
        match done {
            JobDone::Fed(progress) => {
                self.feeding = self.feeding.saturating_sub(1);
                self.follow(progress);
            }
            JobDone::CaughtUp(progress) => {
                let (head, behind) = (progress.head, progress.behind);
                self.follow(progress);
                self.catching_up = head.batch < self.journal.head().batch;
                if self.catching_up && !behind {
                    self.jobs.push_back(Job::CatchUp(self.far.clone()));
                }
            }
            JobDone::Repaired => {
                self.feeding = self.feeding.saturating_sub(1);
                if !self.catching_up {
                    self.catching_up = true;
                    self.jobs.push_back(Job::CatchUp(self.far.clone()));
                }
            }
            JobDone::Sealed(span) => {
                self.jobs.extend(span.map(Job::Span));
                if std::mem::take(&mut self.followers_behind) && self.catching_up {
                    self.jobs.push_back(Job::CatchUp(self.far.clone()));
                }
            }
            JobDone::Ids(result) => self.ids.finish(result).map_err(Fault::Side)?,
            JobDone::Erased(key) => self.marks.erased(key),
            // The branch itself has taken these: somebody waits there.
            JobDone::Archived(_) | JobDone::Recalled(_) => {}
            JobDone::Retold(peer, page) => self.retell(peer, page),
            JobDone::Signed(result) => {
                self.metrics.checkpoint(&result);
                self.marks.signed(result);
            }
            JobDone::Snapshot { kept, signed } => {
                self.metrics.snapshot(&kept);
                self.marks.snapshot_done(kept);
                if let Some(result) = signed {
                    self.metrics.checkpoint(&result);
                    self.marks.checkpointed(result);
                }
            }
            JobDone::Failed(what) => return Err(Fault::Job(what)),
        }
        Ok(())
    }

    fn follow(&mut self, progress: Progress) {
        self.fed = progress.head.batch;
        self.followers_behind = progress.behind;
        self.jobs.extend(progress.span.map(Job::Span));
    }

    fn find_work(&mut self) {
        if let Some(work) = self.ids.take_work() {
            self.jobs.push_back(Job::Ids(work));
        }
    }

    /// Whether derived files have fallen so far behind that nothing more may be taken.
    fn is_behind(&self) -> bool {
        self.ids.must_wait()
            || self.followers_behind
            || self.journal.head().batch.saturating_sub(self.fed) > BEHIND_MAX
    }

    /// Answers everybody that their request's fate is unknown: the memory it was decided on is about to be forgotten.
    pub(crate) fn abandon(&mut self, now: Now, queue: &SharedQueue) {
        while let Some(held) = self.held.pop_any() {
            crate::coverage::Mark::HeldAbandoned.hit();
            lock(queue).done(&held.principal, now.monotonic_us);
            (held.reply)(Reply::Unknown);
        }
        for (ask, request) in self.intake.drain(..).chain(self.recalls.drain()) {
            crate::coverage::Mark::TakenAbandoned.hit();
            lock(queue).done(&ask.principal, now.monotonic_us);
            (request.reply)(Reply::Unknown);
        }
    }
}

/// A batch with less room than this is full: a packed request would not fit anyway.
const ROOM_SMALL: u32 = 64;

fn salt(entropy: &[u8; 32], batch: u64) -> [u8; 32] {
    *blake3::keyed_hash(entropy, &batch.to_le_bytes()).as_bytes()
}

/// The queue; a panic of another thread in between leaves it whole.
pub(crate) fn lock(queue: &SharedQueue) -> MutexGuard<'_, Queue<Request>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
