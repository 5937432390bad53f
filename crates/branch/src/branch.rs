//! The branch without threads: closed, open, or sick; what a thread drives in production, and the simulator steps.
//!
//! Whatever it needs of the world is handed in: the time with each call, entropy with each opening, jobs to
//! be run elsewhere and given back.

mod following;
mod loss;

pub use following::Followed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use skerry_book::{Actor, Cause};
use skerry_journal::{Journal, JournalReader, JournalStore, Shelved, Storage};
use skerry_proof::Signer;

use crate::api::{Body, Busy, BusyReason, GatewayKey, Reply, Request, Scope};
use crate::channels::{Outgoing, message};
use crate::clock::{Jumped, Now};
use crate::jobs::{Job, JobDone, Workshop};
use crate::keys::Keys;
use crate::mending::Mending;
use crate::open::{Found, Ground, OpenFailure, Opened, caught, open};
use crate::options::Options;
use crate::queue::{Ask, Queue};
use crate::replica::Replica;
use crate::work::{Fault, SharedQueue, Work, lock};

/// What a branch is made of.
pub struct Parts<J, S> {
    /// How to open its journal.
    pub store: J,
    /// Its folder for everything else: snapshots, checkpoints, indexes.
    pub storage: S,
    /// How it is run.
    pub options: Options,
    /// Signs its checkpoints.
    pub signer: Arc<dyn Signer + Send + Sync>,
    /// Keeps its customers' keys.
    pub keys: Arc<dyn Keys>,
    /// Nanoseconds of a clock that only goes forward, for meters alone; a constant in simulation.
    pub ticks: Box<dyn Fn() -> u64 + Send>,
}

/// How a branch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It serves.
    Open,
    /// It was closed, or never opened.
    Closed,
    /// It stopped, or did not open: why.
    Sick(String),
}

/// Called once, on the writer's thread, with the first position that is still in the journal after an archiving, or why
/// it went no further.
pub type ArchiveReply = Box<dyn FnOnce(Result<u64, String>) + Send>;

/// An archiving under way: up to where, and who waits for it.
struct Archiving {
    before: u64,
    reply: ArchiveReply,
}

/// Readers of a journal.
pub(crate) type ReaderOf<J> = <<J as JournalStore>::Journal as Journal>::Reader;

/// A branch.
pub struct Branch<J: JournalStore, S: Storage> {
    store: J,
    storage: S,
    options: Arc<Options>,
    signer: Arc<dyn Signer + Send + Sync>,
    keys: Arc<dyn Keys>,
    ticks: Box<dyn Fn() -> u64 + Send>,
    queue: SharedQueue,
    work: Option<Box<Work<J::Journal>>>,
    workshop: Option<Arc<Workshop<S>>>,
    archiving: Option<Archiving>,
    /// While it is closed: what follows the journal of whoever has it open.
    follower: Option<Box<Replica<ReaderOf<J>, S>>>,
    condition: Condition,
    mending: Mending,
}

impl<J: JournalStore, S: Storage> Branch<J, S> {
    /// A closed branch.
    #[must_use]
    pub fn new(parts: Parts<J, S>) -> Self {
        let mut queue = Queue::new(parts.options.limits);
        queue.close();
        Self {
            store: parts.store,
            storage: parts.storage,
            options: Arc::new(parts.options),
            signer: parts.signer,
            keys: parts.keys,
            ticks: parts.ticks,
            queue: Arc::new(Mutex::new(queue)),
            work: None,
            workshop: None,
            archiving: None,
            follower: None,
            condition: Condition::Closed,
            mending: Mending::default(),
        }
    }

    /// Opens it, or opens it again; with a [follower](Self::follow) it goes on from there. `entropy` must be secret, random, and new each time.
    ///
    /// # Errors
    ///
    /// [`OpenFailure`]; the branch is then sick for that reason.
    pub fn open(&mut self, now: Now, entropy: [u8; 32]) -> Result<Found, OpenFailure> {
        self.open_as(now, entropy, false)
    }

    fn open_as(&mut self, now: Now, entropy: [u8; 32], declared: bool) -> Result<Found, OpenFailure> {
        self.stop_archiving();
        self.work = None;
        self.workshop = None;
        let followed = self.follower.take().filter(|_| !declared).map(|followed| *followed);
        match caught(|| open(&self.store, &self.ground(declared), (now, entropy), followed)) {
            Ok(opened) => {
                self.mending.opened(now);
                Ok(self.adopt(opened))
            }
            Err(failure) => {
                self.mending.did_not_open(&failure);
                self.condition = Condition::Sick(chain(&failure));
                Err(failure)
            }
        }
    }

    const fn ground(&self, declared: bool) -> Ground<'_, S> {
        let Self { storage, options, signer, keys, .. } = self;
        Ground { storage, options, signer, keys, declared }
    }

    fn adopt(&mut self, opened: Opened<J::Journal, S>) -> Found {
        self.work = Some(Box::new(opened.work));
        self.workshop = Some(Arc::new(opened.workshop));
        self.condition = Condition::Open;
        lock(&self.queue).reopen();
        opened.found
    }

    /// Queues `request`; its reply is called exactly once, unless it comes back here.
    ///
    /// # Errors
    ///
    /// [`Busy`], and the request back.
    pub fn submit(&self, request: Request, now: Now) -> Result<(), Box<(Busy, Request)>> {
        let ask = ask_of(&request);
        lock(&self.queue).admit(ask, now.monotonic_us, request).map_err(Box::new)
    }

    /// Payments may go to and come from these branches of the institution. To be said after each opening.
    pub fn know(&mut self, peers: &[u16]) {
        let own = self.options.branch;
        if let Some(work) = &mut self.work {
            work.talk.know(peers, own);
        }
    }

    /// Queues a message of another branch.
    ///
    /// # Errors
    ///
    /// [`Busy`]; it will be said again.
    pub fn deliver(&self, bytes: Bytes, now: Now) -> Result<(), Busy> {
        let request = spoken(bytes, &self.options.gateway);
        self.submit(request, now).map_err(|back| back.0)
    }

    /// The next message to be carried to another branch. Everything in it is durable.
    pub fn take_message(&mut self) -> Option<Outgoing> {
        self.work.as_mut()?.talk.outbox.pop_front()
    }

    /// One turn of the writer; see the crate's picture. Returns whether anything was done. A fault makes the branch sick:
    /// what was held is answered *unknown*, and [`open`](Self::open) begins again from the journal.
    pub fn turn(&mut self, now: Now) -> bool {
        let Some(work) = &mut self.work else { return false };
        let (queue, ticks) = (&self.queue, &*self.ticks);
        let turned = catch_unwind(AssertUnwindSafe(|| work.turn(now, queue, ticks)));
        match turned {
            Ok(Ok(done)) => done,
            Ok(Err(fault)) => self.stop(&fault, now),
            Err(panic) => {
                self.mending.panicked();
                self.fail(format!("panicked: {}", panic_text(&*panic)), now)
            }
        }
    }

    fn stop(&mut self, fault: &Fault, now: Now) -> bool {
        if let Fault::Rewound { found, .. } = fault {
            self.note(found);
        }
        self.mending.stopped(fault, now);
        let elsewhere = if fault.is_fenced() { "the branch is open elsewhere: " } else { "" };
        self.fail(format!("{elsewhere}{}", chain(fault)), now)
    }

    /// How long a sick branch is to wait before it is opened again unasked; `None` if somebody has to order it, and while its lease is no
    /// good: another may be about to have it.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        let sick = matches!(self.condition, Condition::Sick(_));
        if sick && self.options.is_held() {
            self.mending.wait(|attempts| self.store.patience(attempts))
        } else {
            None
        }
    }

    fn fail(&mut self, reason: String, now: Now) -> bool {
        tracing::error!(branch = self.options.branch, "branch stops: {reason}");
        lock(&self.queue).close();
        if let Some(mut work) = self.work.take() {
            work.abandon(now, &self.queue);
        }
        self.turn_away(now);
        self.stop_archiving();
        self.workshop = None;
        self.condition = Condition::Sick(reason);
        true
    }

    /// Answers *busy* to all that wait.
    fn turn_away(&self, now: Now) {
        let mut taken = Vec::new();
        lock(&self.queue).take(u32::MAX, &mut taken);
        for (ask, request) in taken {
            lock(&self.queue).done(&ask.principal, now.monotonic_us);
            (request.reply)(Reply::Busy(Busy { retry_after_ms: 500, reason: BusyReason::Closed }));
        }
    }

    /// The next job to be run with [`workshop`](Self::workshop); its result goes to [`finish`](Self::finish).
    pub fn take_job(&mut self) -> Option<Job<ReaderOf<J>>> {
        self.work.as_mut()?.jobs.pop_front()
    }

    /// Where its jobs run; a new one with each opening.
    #[must_use]
    pub fn workshop(&self) -> Option<Arc<Workshop<S>>> {
        self.workshop.clone()
    }

    /// Takes back a job. Jobs of an earlier opening must not come here.
    pub fn finish(&mut self, done: JobDone, now: Now) {
        let done = match done {
            JobDone::Archived(copied) => return self.archived(copied),
            done => done,
        };
        let Some(work) = &mut self.work else { return };
        if let JobDone::Recalled(records) = done {
            return work.recalled(records, now);
        }
        if let Err(fault) = work.finish(done) {
            self.stop(&fault, now);
        }
    }

    /// Does one piece of the journal's waiting work, where the journal has no thread of its own.
    pub fn step_journal(&mut self) -> bool {
        self.work.as_mut().is_some_and(|work| work.journal.step())
    }

    /// Wants a snapshot at the next batch, and a checkpoint about what is there now.
    pub fn mark(&mut self, now: Now, snapshot: bool) {
        let Some(work) = &mut self.work else { return };
        if snapshot {
            work.marks.want_snapshot();
        }
        work.marks.want_checkpoint();
        work.mark_idle(now);
    }

    /// Moves sealed segments that end at or before `before` to the journal's cold folder, one after another, but none that
    /// the next opening could need. A job copies; the writer only lets go of what is durable there. What was moved when
    /// the branch stops stays moved.
    pub fn archive(&mut self, before: u64, reply: ArchiveReply) {
        if self.archiving.is_some() {
            return reply(Err("an archiving is under way".to_owned()));
        }
        let Some(work) = &mut self.work else { return reply(Err("the branch is not open".to_owned())) };
        work.copy_old(before);
        self.archiving = Some(Archiving { before, reply });
    }

    /// A segment has been copied, or there was none to copy.
    fn archived(&mut self, copied: Result<Shelved, String>) {
        let Some(archiving) = self.archiving.take() else { return };
        let Some(work) = &mut self.work else { return };
        let was = work.reader.start();
        let start = copied.and_then(|copied| work.journal.release(copied).map_err(|error| chain(&error)));
        match start {
            Ok(start) if start > was => {
                crate::coverage::Mark::SegmentArchived.hit();
                work.copy_old(archiving.before);
                self.archiving = Some(archiving);
            }
            other => (archiving.reply)(other.map(|start| start.0)),
        }
    }

    fn stop_archiving(&mut self) {
        if let Some(archiving) = self.archiving.take() {
            crate::coverage::Mark::ArchivingCutShort.hit();
            (archiving.reply)(Err("the branch stopped; what was archived so far stays so".to_owned()));
        }
    }

    /// The clock's word is good although it jumped: an operator or a second source says so.
    pub fn confirm_clock(&mut self, now: Now) {
        if let Some(work) = &mut self.work {
            work.clock.confirm(now);
        }
    }

    /// Whether the clock has jumped and nothing is stamped.
    #[must_use]
    pub fn clock_jumped(&self) -> Option<Jumped> {
        self.work.as_ref()?.jumped
    }

    /// Takes no more requests; those that wait are still served.
    pub fn drain(&mut self) {
        lock(&self.queue).close();
    }

    /// Whether nothing is waiting, filling, in flight, held or under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let waiting = !lock(&self.queue).is_empty();
        !waiting && self.work.as_ref().is_none_or(|work| work.is_idle())
    }

    /// Whether everybody who asked has their answer, and nothing of the journal is under way. Jobs may be.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        let waiting = !lock(&self.queue).is_empty();
        !waiting && self.work.as_ref().is_none_or(|work| work.has_answered())
    }

    /// Lets go of the journal. What was not durable is answered *unknown*; [`drain`](Self::drain) and turns until
    /// [`is_idle`](Self::is_idle) leave nothing so.
    pub fn close(&mut self, now: Now) {
        lock(&self.queue).close();
        if let Some(mut work) = self.work.take() {
            work.abandon(now, &self.queue);
            drop(work.journal.close());
        }
        self.turn_away(now);
        self.stop_archiving();
        self.rest_follower();
        self.workshop = None;
        self.condition = Condition::Closed;
    }

    /// How it is.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Its options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Checks of the owner that were asked of the journal's store since the opening.
    #[must_use]
    pub fn owner_checks(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.metrics.owner_checks)
    }

    /// The open branch's book, for checks and reports; it may hold what is not durable yet.
    #[must_use]
    pub fn book(&self) -> Option<&skerry_book::Book> {
        self.work.as_ref().map(|work| &work.book)
    }

    /// A reader of the open branch's journal and its archive.
    #[must_use]
    pub fn reader(&self) -> Option<ReaderOf<J>> {
        self.work.as_ref().map(|work| work.far.clone())
    }

    /// The durable end of the open branch's journal; the default while it is closed.
    #[must_use]
    pub fn reader_head(&self) -> skerry_journal::Head {
        self.work.as_ref().map(|work| work.reader.head()).unwrap_or_default()
    }

    /// Its customers' keys.
    #[must_use]
    pub fn keys(&self) -> Arc<dyn Keys> {
        Arc::clone(&self.keys)
    }

    pub(crate) fn queue(&self) -> &SharedQueue {
        &self.queue
    }

    pub(crate) fn work_mut(&mut self) -> Option<&mut Work<J::Journal>> {
        self.work.as_deref_mut()
    }
}

impl<J: Journal> Work<J> {
    /// Orders the next segment to be copied.
    fn copy_old(&mut self, before: u64) {
        // What is on its way to another branch is said again from its record, by the writer.
        let open = self.book.channels().filter_map(|(_, channel)| channel.outgoing.open.front());
        let before = open.map(|open| open.position).fold(before.min(self.ids.position()), u64::min);
        self.jobs.push_back(Job::Archive(self.far.clone(), before));
    }

    fn has_answered(&self) -> bool {
        self.filling.is_empty()
            && self.waiting.is_none()
            && self.intake.is_empty()
            && self.recalls.is_empty()
            && self.journal.in_flight() == 0
            && self.held.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.has_answered()
            && self.jobs.is_empty()
            && self.marks.is_idle()
            && self.feeding == 0
            && !self.catching_up
    }
}

/// A message of another branch as a request of the bank's own.
pub(crate) fn spoken(bytes: Bytes, key: &GatewayKey) -> Request {
    let (actor, scope) = (Actor::bank(Cause::Channel), Scope::default());
    let mac = key.authenticate(&actor, scope, 0);
    Request { actor, scope, deadline_us: 0, mac, body: Body::Channel(bytes), reply: Box::new(drop) }
}

/// What the queue must know of a request.
pub(crate) fn ask_of(request: &Request) -> Ask {
    use crate::api::Role;
    let (records, bytes) = match &request.body {
        Body::Packed(bytes) => (bytes.len() / skerry_book::packed::TRANSFER_LENGTH, bytes.len()),
        Body::Transfers(asked) | Body::Payout(asked) => {
            (asked.len(), asked.iter().map(|one| 160 + one.reference.len() + one.note.len()).sum())
        }
        Body::Command { key, .. } => (COMMAND_RECORDS, 256 + key.as_ref().map_or(0, |key| key.len())),
        Body::Channel(bytes) => (message::weight(bytes) as usize, bytes.len()),
        Body::Read(_) | Body::Checkpoint => (1, 64),
    };
    Ask {
        principal: request.actor.principal,
        reserved: matches!(request.actor.role, Role::Operator | Role::Bank),
        own: request.actor.role == Role::Bank,
        // What is too large for any batch is refused when it is served; here it counts as a full one.
        records: u32::try_from(records.max(1)).unwrap_or(u32::MAX).min(crate::work::TRANSFERS_MAX),
        bytes,
    }
}

/// Records a command may come to; heads of a currency are the most common bulk.
const COMMAND_RECORDS: usize = 32;

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
