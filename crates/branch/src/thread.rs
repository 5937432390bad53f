//! The branch on threads: one that writes, one per lane of jobs, and a handle for everybody else.
//!
//! ```text
//! BranchHandle ── queue ──► writer thread ── jobs ──► feed · desk · files
//!       ▲                      ▲   │                       │
//!       └──── replies ─────────┼───┘◄────── results ───────┘
//!                 journal's wake
//! ```
//!
//! The writer sleeps until someone wakes it: a request, the journal, a finished job, an order, or the next tick.
//! It holds no lock while it works. A panic is caught and makes this branch sick, no other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use skerry_book::Status;
use skerry_journal::{JournalStats, JournalStore, Storage};
use skerry_proof::Receipt;
use skerry_proof::checkpoint::SignedCheckpoint;

use crate::api::{Busy, Request};
use crate::branch::{Branch, Condition, Parts, ReaderOf, ask_of, chain};
use crate::clock::Now;
use crate::evidence::receipts::{Desk, Evidence, EvidenceError, Recorded};
use crate::history::{HistoryHandle, HistoryStats};
use crate::ids::IdsStats;
use crate::jobs::{Job, JobDone, Lane, Workshop};
use crate::keys::Keys;
use crate::meters::Meters;
use crate::metrics::Metrics;
use crate::open::Found;
use crate::work::{SharedQueue, lock};

/// Fills a buffer with secret random bytes: new salts at each opening.
pub type Entropy = Box<dyn FnMut(&mut [u8; 32]) + Send>;

/// The writer looks at the time at least so often.
const TICK: Duration = Duration::from_millis(100);
/// Figures are renewed at most so often.
const FIGURES: Duration = Duration::from_millis(200);

/// An order to the writer thread; the answer says what came of it.
enum Order<J> {
    Reopen(Sender<Result<Found, String>>),
    DeclareLoss(J, Sender<Result<Found, String>>),
    Mark { snapshot: bool },
    ConfirmClock,
    Close(Sender<()>),
}

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
    /// Batches being made durable.
    pub in_flight: usize,
    /// Replies held.
    pub held: usize,
    /// The wall clock has jumped by so many microseconds and nothing is stamped.
    pub clock_jumped_us: Option<i64>,
}

/// What the handle's clones share with the writer thread.
struct Shared {
    number: u16,
    queue: SharedQueue,
    wake: Sender<()>,
    begun: Instant,
    keys: Arc<dyn Keys>,
    condition: Mutex<Condition>,
    figures: Mutex<Arc<Figures>>,
    open: RwLock<Option<OpenParts>>,
    orders: Sender<OrderBox>,
    closing: AtomicBool,
}

/// What an opening brings for readers.
#[derive(Clone)]
struct OpenParts {
    history: HistoryHandle,
    evidence: Arc<dyn Evidence>,
    latest: Arc<dyn Fn() -> Option<Arc<SignedCheckpoint>> + Send + Sync>,
}

/// Orders without the journal's type, so that handles need not name it.
type OrderBox = Order<Box<dyn std::any::Any + Send>>;

/// A branch at work, from any thread. Clones are the same branch.
#[derive(Clone)]
pub struct BranchHandle(Arc<Shared>);

/// The threads of a branch; dropping it closes the branch and waits for them.
pub struct BranchThread {
    handle: BranchHandle,
    writer: Option<JoinHandle<()>>,
}

impl BranchThread {
    /// Opens a branch on threads of its own. If it does not open it is sick, which the handle tells; it can be
    /// opened again.
    ///
    /// # Errors
    ///
    /// If the machine gives no thread.
    pub fn spawn<J, S>(parts: Parts<J, S>, entropy: Entropy) -> std::io::Result<Self>
    where
        J: JournalStore + 'static,
        S: Storage,
        ReaderOf<J>: Send + Sync,
    {
        let (wake, woken) = bounded(1);
        let (orders, ordered) = unbounded();
        let (number, keys) = (parts.options.branch, Arc::clone(&parts.keys));
        let branch = Branch::new(parts);
        let shared = Arc::new(Shared {
            number,
            queue: Arc::clone(branch.queue()),
            wake,
            begun: Instant::now(),
            keys,
            condition: Mutex::new(Condition::Closed),
            figures: Mutex::default(),
            open: RwLock::new(None),
            orders,
            closing: AtomicBool::new(false),
        });
        let (results, done) = unbounded();
        let driver = Driver {
            shared: Arc::clone(&shared),
            branch,
            entropy,
            woken,
            ordered,
            results,
            done,
            lanes: None,
        };
        let (opened, first) = bounded(1);
        let writer = std::thread::Builder::new()
            .name(format!("branch-{number}"))
            .spawn(move || driver.run(&opened))?;
        // The caller may submit at once: the first opening is over when this returns.
        let _ = first.recv();
        Ok(Self { handle: BranchHandle(shared), writer: Some(writer) })
    }

    /// A handle.
    #[must_use]
    pub fn handle(&self) -> BranchHandle {
        self.handle.clone()
    }

    /// Serves what waits, makes it durable, signs a last checkpoint, and closes.
    pub fn close(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        let (closed, wait) = bounded(1);
        self.handle.order(Order::Close(closed));
        let _ = wait.recv();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked outside of its turn has nothing left to tell.
            drop(writer.join());
        }
    }
}

impl Drop for BranchThread {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.finish();
        }
    }
}

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

    /// How it is.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.0.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    /// Its history, while it is open; another one after each opening.
    #[must_use]
    pub fn history(&self) -> Option<HistoryHandle> {
        self.parts().ok().map(|parts| parts.history)
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
        self.parts()?.evidence.receipt(position)
    }

    /// At most `most` durable records from `from` on, with their actors. Reads files.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`].
    pub fn recorded(&self, from: u64, most: usize) -> Result<Vec<Recorded>, EvidenceError> {
        self.parts()?.evidence.recorded(from, most)
    }

    /// Orders a checkpoint, and a snapshot too if `snapshot`.
    pub fn mark(&self, snapshot: bool) {
        self.order(Order::Mark { snapshot });
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

    fn order(&self, order: OrderBox) {
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

fn wake(wake: &Sender<()>) {
    // Full means that the writer is about to look anyway.
    let _ = wake.try_send(());
}

fn monotonic_us(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// The threads that run jobs of one opening.
struct Lanes<R> {
    senders: Vec<Sender<Job<R>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<R> Lanes<R> {
    /// Lets the threads finish what they have.
    fn join(self) {
        drop(self.senders);
        for thread in self.threads {
            drop(thread.join());
        }
    }
}

/// The writer thread.
struct Driver<J: JournalStore, S: Storage> {
    shared: Arc<Shared>,
    branch: Branch<J, S>,
    entropy: Entropy,
    woken: Receiver<()>,
    ordered: Receiver<OrderBox>,
    results: Sender<(u64, JobDone)>,
    done: Receiver<(u64, JobDone)>,
    lanes: Option<(u64, Lanes<ReaderOf<J>>)>,
}

impl<J, S> Driver<J, S>
where
    J: JournalStore + 'static,
    S: Storage,
    ReaderOf<J>: Send + Sync,
{
    fn run(mut self, opened: &Sender<()>) {
        drop(self.open());
        let _ = opened.send(());
        let mut figures_at = Instant::now();
        loop {
            let now = self.now();
            let mut busy = self.branch.turn(now);
            busy |= self.take_back(now);
            self.hand_out();
            self.settle();
            if figures_at.elapsed() >= FIGURES {
                self.renew_figures();
                figures_at = Instant::now();
            }
            while let Ok(order) = self.ordered.try_recv() {
                if self.obey(order) {
                    return;
                }
                busy = true;
            }
            if !busy {
                // A timeout is a tick: days open and holds expire without anybody asking.
                let _ = self.woken.recv_timeout(TICK);
            }
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
            monotonic_us: monotonic_us(self.shared.begun),
        }
    }

    fn fresh(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        (self.entropy)(&mut bytes);
        bytes
    }

    fn open(&mut self) -> Result<Found, String> {
        self.let_go();
        let (now, entropy) = (self.now(), self.fresh());
        let found = self.branch.open(now, entropy);
        self.after_opening();
        found.map_err(|failure| chain(&failure))
    }

    fn after_opening(&mut self) {
        let waker = self.shared.wake.clone();
        if let Some(work) = self.branch.work_mut() {
            use skerry_journal::Journal;
            work.journal.on_progress(Box::new(move || wake(&waker)));
        }
        if let (Some(workshop), Some(reader)) = (self.branch.workshop(), self.branch.reader()) {
            let generation = self.lanes.as_ref().map_or(0, |(generation, _)| *generation) + 1;
            self.lanes = self.start_lanes(generation, &workshop).map(|lanes| (generation, lanes));
            let history = workshop.followers().history.handle();
            let latest = Arc::clone(&workshop);
            let parts = OpenParts {
                history,
                latest: Arc::new(move || latest.latest()),
                evidence: Arc::new(Desk { reader, workshop }),
            };
            *self.shared.open.write().unwrap_or_else(PoisonError::into_inner) = Some(parts);
        }
        self.settle();
        self.renew_figures();
    }

    fn start_lanes(&self, generation: u64, workshop: &Arc<Workshop<S>>) -> Option<Lanes<ReaderOf<J>>> {
        let mut lanes = Lanes { senders: Vec::new(), threads: Vec::new() };
        for lane in Lane::ALL {
            let (sender, jobs) = unbounded::<Job<ReaderOf<J>>>();
            let (workshop, results) = (Arc::clone(workshop), self.results.clone());
            let waker = self.shared.wake.clone();
            let name = format!("branch-{}-{lane:?}", self.shared.number).to_lowercase();
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                for job in jobs {
                    let what = format!("{job:?}");
                    let run = std::panic::AssertUnwindSafe(|| workshop.run(job));
                    let done = std::panic::catch_unwind(run);
                    let done = done.unwrap_or_else(|_| JobDone::Failed(format!("{what} panicked")));
                    drop(results.send((generation, done)));
                    wake(&waker);
                }
            });
            match thread {
                Ok(thread) => lanes.threads.push(thread),
                Err(error) => {
                    tracing::error!("could not start a thread for jobs: {error}");
                    return None;
                }
            }
            lanes.senders.push(sender);
        }
        Some(lanes)
    }

    /// Readers of the former opening see it no more; its jobs end.
    fn let_go(&mut self) {
        *self.shared.open.write().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some((generation, lanes)) = self.lanes.take() {
            lanes.join();
            // Kept as a number alone: results of that generation are stale.
            self.lanes = Some((generation, Lanes { senders: Vec::new(), threads: Vec::new() }));
        }
    }

    fn take_back(&mut self, now: Now) -> bool {
        let current = self.lanes.as_ref().map(|(generation, _)| *generation);
        let mut any = false;
        while let Ok((generation, done)) = self.done.try_recv() {
            if Some(generation) == current {
                self.branch.finish(done, now);
                any = true;
            }
        }
        any
    }

    fn hand_out(&mut self) {
        while let Some(job) = self.branch.take_job() {
            let lane = Lane::ALL.iter().position(|lane| *lane == job.lane()).unwrap_or(0);
            let sender = self.lanes.as_ref().and_then(|(_, lanes)| lanes.senders.get(lane));
            if let Some(sender) = sender {
                drop(sender.send(job));
            }
        }
    }

    /// Tells the condition, and lets go of a branch that has become sick.
    fn settle(&mut self) {
        let condition = self.branch.condition().clone();
        let mut told = self.shared.condition.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != condition {
            let sick = matches!(condition, Condition::Sick(_));
            *told = condition;
            drop(told);
            if sick {
                self.let_go();
            }
        }
    }

    fn renew_figures(&mut self) {
        let clock_jumped_us = self.branch.clock_jumped().map(|jumped| jumped.by_us);
        let history = self.branch.workshop().map(|workshop| workshop.glance().history);
        let (queue_requests, queue_bytes) = {
            let queue = lock(&self.shared.queue);
            (queue.len(), queue.bytes())
        };
        let mut figures = Figures { queue_requests, queue_bytes, clock_jumped_us, ..Figures::default() };
        if let Some(work) = self.branch.work_mut() {
            use skerry_journal::Journal;
            figures.status = Some(work.book.status());
            figures.meters = work.meters.clone();
            figures.metrics = work.metrics.clone();
            figures.journal = work.journal.stats();
            figures.ids = work.ids.stats();
            figures.in_flight = work.journal.in_flight();
            figures.held = work.held.len();
        }
        figures.history = history.unwrap_or_default();
        *self.shared.figures.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(figures);
    }

    /// Returns whether the thread is to end.
    fn obey(&mut self, order: OrderBox) -> bool {
        match order {
            Order::Reopen(answer) => {
                let found = self.open();
                let _ = answer.send(found);
            }
            Order::DeclareLoss(store, answer) => {
                let found = match store.downcast::<J>() {
                    Ok(store) => self.declare_loss(*store),
                    Err(_) => Err("the store is of another kind than the branch's".to_owned()),
                };
                let _ = answer.send(found);
            }
            Order::Mark { snapshot } => {
                let now = self.now();
                self.branch.mark(now, snapshot);
            }
            Order::ConfirmClock => {
                let now = self.now();
                self.branch.confirm_clock(now);
            }
            Order::Close(closed) => {
                self.shared.closing.store(true, Ordering::Relaxed);
                self.close();
                let _ = closed.send(());
                return true;
            }
        }
        false
    }

    fn declare_loss(&mut self, store: J) -> Result<Found, String> {
        self.let_go();
        let (now, entropy) = (self.now(), self.fresh());
        let found = self.branch.declare_loss(store, now, entropy);
        self.after_opening();
        found.map_err(|failure| chain(&failure))
    }

    fn close(&mut self) {
        self.branch.drain();
        self.finish_all();
        // Everything is durable: now the last word about it.
        let now = self.now();
        self.branch.mark(now, false);
        self.finish_all();
        if let Some(workshop) = self.branch.workshop() {
            workshop.rest();
        }
        let now = self.now();
        self.branch.close(now);
        self.let_go();
        self.settle();
    }

    fn finish_all(&mut self) {
        while !self.branch.is_idle() {
            let now = self.now();
            let mut busy = self.branch.turn(now);
            busy |= self.take_back(now);
            self.hand_out();
            if !busy {
                let _ = self.woken.recv_timeout(TICK);
            }
        }
    }
}
