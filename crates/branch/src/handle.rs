//! A branch from any thread: requests in, figures and evidence out, orders to the writer.
//!
//! It never waits for the writer but where it says so, and reads of files happen on the caller's thread. After each
//! opening it looks at the new one; what a caller took from a former one stays readable, but stands still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use skerry_book::{Actor, Cause, Status};
use skerry_journal::{JournalStats, JournalStore};
use skerry_ledger::AccountRef;
use skerry_money::Date;
use skerry_proof::Receipt;
use skerry_proof::checkpoint::SignedCheckpoint;

use crate::api::{Body, Busy, GatewayKey, Read, Reply, Request, Scope};
use crate::branch::{ArchiveReply, Condition, Followed, ask_of, spoken};
use crate::channels::Courier;
use crate::evidence::receipts::{Evidence, EvidenceError, Recorded};
use crate::history::{HistoryError, HistoryHandle, HistoryStats};
use crate::ids::IdsStats;
use crate::keys::Keys;
use crate::leash::Leash;
use crate::meters::Meters;
use crate::metrics::Metrics;
use crate::open::Found;
use crate::queue::TurnedAway;
use crate::transit::Transit;
use crate::work::{SharedQueue, lock};

/// How long a look at what is durable waits for the word that the branch is still held here.
const PROOF: Duration = Duration::from_secs(2);

/// An order to the writer thread; the answer says what came of it.
pub(crate) enum Order<J> {
    Reopen(Sender<Result<Found, String>>),
    DeclareLoss(J, Sender<Result<Found, String>>),
    Mark {
        snapshot: bool,
    },
    Archive(u64, ArchiveReply),
    ConfirmClock,
    Connect(Courier, Vec<u16>),
    Watch(Watcher),
    /// Answers as soon as everything is answered and the journal let go; what may take longer follows.
    HandOver(Sender<()>),
    Close(Sender<()>),
}

/// Called when more has become durable, on the writer's thread: it must be short and must not wait.
pub type Watcher = Arc<dyn Fn() + Send + Sync>;

/// How a branch is doing, renewed a few times a second.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Counts, days, format.
    pub status: Option<Status>,
    /// What it costs.
    pub meters: Meters,
    /// How fast it is.
    pub metrics: Metrics,
    /// Its journal.
    pub journal: JournalStats,
    /// Its id index.
    pub ids: IdsStats,
    /// Its history.
    pub history: HistoryStats,
    /// Requests waiting.
    pub queue_requests: usize,
    /// Bytes waiting.
    pub queue_bytes: usize,
    /// The most requests that may wait.
    pub queue_requests_max: usize,
    /// The most bytes that may wait.
    pub queue_bytes_max: usize,
    /// Requests that the queue did not take.
    pub turned_away: TurnedAway,
    /// Payments to other branches.
    pub transit: Transit,
    /// Batches being made durable.
    pub in_flight: usize,
    /// Replies held.
    pub held: usize,
    /// The wall clock has jumped by so many microseconds and nothing is stamped.
    pub clock_jumped_us: Option<i64>,
}

/// What the handle's clones share with the writer thread.
pub(crate) struct Shared {
    pub(crate) number: u16,
    pub(crate) queue: SharedQueue,
    pub(crate) wake: Sender<()>,
    pub(crate) begun: Instant,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) condition: Mutex<Condition>,
    pub(crate) figures: Mutex<Arc<Figures>>,
    pub(crate) open: RwLock<Option<OpenParts>>,
    pub(crate) orders: Sender<OrderBox>,
    pub(crate) gateway: GatewayKey,
    pub(crate) leash: Option<Arc<dyn Leash>>,
    pub(crate) following: Mutex<Option<Following>>,
}

/// How a branch that follows is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Following {
    /// How far it is.
    pub followed: Followed,
    /// For how long it has not been at the end of the journal, microseconds; 0 while it is there.
    pub behind_us: u64,
    /// Whether it has been at the end since it began.
    pub has_caught_up: bool,
    /// The last look at the journal failed: what it says of its end is old.
    pub is_failing: bool,
}

impl Following {
    /// Records that it has yet to read, as far as it knows; `None` if it does not.
    #[must_use]
    pub const fn behind(&self) -> Option<u64> {
        // Before its first look it knows of no end.
        let has_looked = self.has_caught_up || self.followed.head > 0;
        if self.is_failing || !has_looked { None } else { Some(self.followed.behind()) }
    }
}

/// What an opening brings for readers.
#[derive(Clone)]
pub(crate) struct OpenParts {
    pub(crate) epoch: u64,
    pub(crate) history: HistoryHandle,
    pub(crate) answered: Arc<AtomicU64>,
    pub(crate) help: Arc<dyn Fn() + Send + Sync>,
    pub(crate) evidence: Arc<dyn Evidence>,
    pub(crate) latest: Arc<dyn Fn() -> Option<Arc<SignedCheckpoint>> + Send + Sync>,
}

/// Orders without the journal's type, so that handles need not name it.
pub(crate) type OrderBox = Order<Box<dyn std::any::Any + Send>>;

/// A branch at work, from any thread. Clones are the same branch.
#[derive(Clone)]
pub struct BranchHandle(pub(crate) Arc<Shared>);

impl BranchHandle {
    /// The branch's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.0.number
    }

    /// Queues a request. Its reply is called once, on the branch's thread.
    ///
    /// # Errors
    ///
    /// [`Busy`]; nothing was taken, and the reply will not be called.
    pub fn submit(&self, request: Request) -> Result<(), Busy> {
        let ask = ask_of(&request);
        let admitted = lock(&self.0.queue).admit(ask, monotonic_us(self.0.begun), request);
        self.wake();
        admitted.map_err(|(busy, _)| busy)
    }

    /// Queues a message of another branch.
    ///
    /// # Errors
    ///
    /// [`Busy`]; it will be said again.
    pub fn deliver(&self, bytes: Bytes) -> Result<(), Busy> {
        self.submit(spoken(bytes, &self.0.gateway))
    }

    /// Lets it pay and be paid by `peers`: `courier` takes its messages, on the branch's own thread, from now on and after
    /// each opening. Replaces the courier of before.
    pub fn connect(&self, courier: Courier, peers: Vec<u16>) {
        self.order(Order::Connect(courier, peers));
    }

    /// Has `watcher` called whenever [`position`](Self::position) has moved, also by another opening. Replaces the one of before.
    pub fn watch(&self, watcher: Watcher) {
        self.order(Order::Watch(watcher));
    }

    /// How it is.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.0.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How its following is doing; `None` unless it [follows](crate::BranchThread::follow). [`reopen`](Self::reopen) opens it from there.
    #[must_use]
    pub fn following(&self) -> Option<Following> {
        *self.0.following.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is doing.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.0.figures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The durable end of its journal; 0 while it is not open.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.parts().map_or(0, |parts| parts.evidence.durable())
    }

    /// The epoch under which its journal is open; 0 while it is not.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.parts().map_or(0, |parts| parts.epoch)
    }

    /// The position before which everything may have been told to somebody: whoever reads its history must see so much.
    /// At most [`position`](Self::position); 0 while it is not open.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.parts().map_or(0, |parts| parts.answered.load(Ordering::Acquire))
    }

    /// Its history, while it is open; another one after each opening.
    #[must_use]
    pub fn history(&self) -> Option<HistoryHandle> {
        self.parts().ok().map(|parts| parts.history)
    }

    /// Its history, come up to [`answered`](Self::answered), and that position. May read a batch or two on the caller's
    /// thread.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Behind`] if it is not there within `patience`: after an opening or a repair it may take long;
    /// [`HistoryError::Unconfirmed`] if nobody confirmed in that time that the branch is still held here.
    pub fn history_answered(&self, patience: Duration) -> Result<Option<(HistoryHandle, u64)>, HistoryError> {
        let Ok(parts) = self.parts() else { return Ok(None) };
        let answered = parts.answered.load(Ordering::Acquire);
        if !self.is_owner(patience) {
            return Err(HistoryError::Unconfirmed);
        }
        if parts.history.position() < answered {
            (parts.help)();
            parts.history.wait_for(answered, patience)?;
        }
        Ok(Some((parts.history, answered)))
    }

    /// Its customers' keys.
    #[must_use]
    pub fn keys(&self) -> Arc<dyn Keys> {
        Arc::clone(&self.0.keys)
    }

    /// The last signed checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Arc<SignedCheckpoint>> {
        (self.parts().ok()?.latest)()
    }

    /// The receipt of the record at `position`. Reads files: not for a thread that must not wait.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`]; after [`EvidenceError::NotYet`] order a checkpoint by [`mark`](Self::mark) and ask again.
    pub fn receipt(&self, position: u64) -> Result<Receipt, EvidenceError> {
        self.owned_parts()?.evidence.receipt(position)
    }

    /// At most `most` durable records from `from` on, with their actors. Reads files.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`].
    pub fn recorded(&self, from: u64, most: usize) -> Result<Vec<Recorded>, EvidenceError> {
        self.owned_parts()?.evidence.recorded(from, most)
    }

    /// Orders a checkpoint, and a snapshot too if `snapshot`.
    pub fn mark(&self, snapshot: bool) {
        self.order(Order::Mark { snapshot });
    }

    /// Moves sealed segments that no kept snapshot needs, and that end at or before `before`, to the journal's cold
    /// folder. Returns the first position that is still in the journal. Waits until it is done, while the branch serves.
    ///
    /// # Errors
    ///
    /// Why it went no further, with all causes; what was not durably copied is still in its place.
    pub fn archive(&self, before: u64) -> Result<u64, String> {
        let (answer, wait) = bounded(1);
        let reply: ArchiveReply = Box::new(move |result| drop(answer.send(result)));
        self.order(Order::Archive(before, reply));
        wait.recv().unwrap_or_else(|_| Err("the branch is closed".to_owned()))
    }

    /// The first position that is in the journal and not in the archive; 0 while the branch is not open.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.parts().map_or(0, |parts| parts.evidence.start())
    }

    /// The position of the first record of the business day `date` or of a later one, among those in the journal.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`].
    pub fn position_on(&self, date: Date) -> Result<u64, EvidenceError> {
        self.owned_parts()?.evidence.position_on(date)
    }

    /// Says that the wall clock is right although it jumped.
    pub fn confirm_clock(&self) {
        self.order(Order::ConfirmClock);
    }

    /// Opens it again from its journal. Waits until that is done.
    ///
    /// # Errors
    ///
    /// Why it did not open, with all causes.
    pub fn reopen(&self) -> Result<Found, String> {
        let (answer, wait) = bounded(1);
        self.order(Order::Reopen(answer));
        wait.recv().unwrap_or_else(|_| Err("the branch is closed".to_owned()))
    }

    /// Opens a branch whose journal was rewound, without what is lost. `store` must be the branch's own kind of journal
    /// store, set to accept the loss.
    ///
    /// # Errors
    ///
    /// Why it did not open, with all causes.
    pub fn declare_loss<J: JournalStore + 'static>(&self, store: J) -> Result<Found, String> {
        let (answer, wait) = bounded(1);
        self.order(Order::DeclareLoss(Box::new(store), answer));
        wait.recv().unwrap_or_else(|_| Err("the branch is closed".to_owned()))
    }

    fn parts(&self) -> Result<OpenParts, EvidenceError> {
        self.0.open.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(EvidenceError::Closed)
    }

    /// The same for those who answer somebody from it.
    fn owned_parts(&self) -> Result<OpenParts, EvidenceError> {
        let parts = self.parts()?;
        if self.is_owner(PROOF) { Ok(parts) } else { Err(EvidenceError::Unconfirmed) }
    }

    /// Whether the branch was held here at a moment after this was asked. Beyond the lease a look at nothing goes to the writer: like every
    /// answer it leaves only once the journal's store has confirmed the owner.
    fn is_owner(&self, patience: Duration) -> bool {
        if self.0.leash.as_ref().is_none_or(|leash| leash.holds()) {
            return true;
        }
        let (answer, told) = bounded(1);
        let (actor, scope) = (Actor::bank(Cause::Channel), Scope::default());
        let request = Request {
            actor,
            scope,
            deadline_us: 0,
            mac: self.0.gateway.authenticate(&actor, scope, 0),
            body: Body::Read(Read::Account(AccountRef(0))),
            reply: Box::new(move |reply| drop(answer.send(reply))),
        };
        self.submit(request).is_ok() && matches!(told.recv_timeout(patience), Ok(Reply::Answer(_)))
    }

    pub(crate) fn order(&self, order: OrderBox) {
        // A thread that is gone answers by the dropped sender in the order.
        drop(self.0.orders.send(order));
        self.wake();
    }

    fn wake(&self) {
        wake(&self.0.wake);
    }
}

impl std::fmt::Debug for BranchHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "BranchHandle({}, {:?})", self.0.number, self.condition())
    }
}

pub(crate) fn wake(wake: &Sender<()>) {
    // Full means that the writer is about to look anyway.
    let _ = wake.try_send(());
}

pub(crate) fn monotonic_us(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}
