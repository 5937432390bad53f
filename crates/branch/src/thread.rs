//! The branch on threads: one that writes, one per lane of jobs.
//!
//! ```text
//! BranchHandle ── queue ──► writer thread ── jobs ──► feed · desk · files · snapshots · cold
//!       ▲                      ▲   │                       │
//!       └──── replies ─────────┼───┘◄────── results ───────┘
//!                 journal's wake
//! ```
//!
//! The writer sleeps until someone wakes it: a request, the journal, a finished job, an order, or the next tick.
//! It holds no lock while it works. A panic is caught and makes this branch sick, no other.

mod following;
mod lanes;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use skerry_journal::{Journal, JournalStore, LocalStore, RealStorage, Storage};

use crate::branch::{Branch, Condition, Parts, ReaderOf, chain};
use crate::channels::Courier;
use crate::clock::Now;
use crate::evidence::receipts::Desk;
use crate::handle::{BranchHandle, Figures, OpenParts, Order, OrderBox, Shared, Watcher, monotonic_us, wake};
use crate::jobs::JobDone;
use crate::open::Found;
use crate::transit::TransitWatch;
use crate::work::lock;
use following::Pace;
use lanes::Lanes;

/// Fills a buffer with secret random bytes: new salts at each opening.
pub type Entropy = Box<dyn FnMut(&mut [u8; 32]) + Send>;

/// The writer looks at the time at least so often.
const TICK: Duration = Duration::from_millis(100);
/// Figures are renewed at most so often.
const FIGURES: Duration = Duration::from_millis(200);
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
        Self::begin(parts, entropy, false)
    }

    /// [`spawn`](Self::spawn) for a branch whose journal and side files lie on this machine's disk: compiled with this crate, once for
    /// all tests and tools that open branches so.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn spawn_local(
        parts: Parts<LocalStore<RealStorage>, RealStorage>,
        entropy: Entropy,
    ) -> std::io::Result<Self> {
        Self::spawn(parts, entropy)
    }

    /// Follows the journal of whoever has the branch open, on a thread of its own, until [`reopen`](BranchHandle::reopen) is said:
    /// then it is open in the time that the rest takes. [`BranchHandle::following`] tells how far it is. What it cannot follow it begins
    /// anew, a second later.
    ///
    /// # Errors
    ///
    /// If the machine gives no thread.
    pub fn follow<J, S>(parts: Parts<J, S>, entropy: Entropy) -> std::io::Result<Self>
    where
        J: JournalStore + 'static,
        S: Storage,
        ReaderOf<J>: Send + Sync,
    {
        Self::begin(parts, entropy, true)
    }

    fn begin<J, S>(parts: Parts<J, S>, entropy: Entropy, follows: bool) -> std::io::Result<Self>
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
            gateway: branch.options().gateway.clone(),
            leash: branch.options().leash.clone(),
            following: Mutex::default(),
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
            courier: None,
            again_at: None,
            watcher: None,
            watched_at: 0,
            transit: TransitWatch::default(),
            pace: follows.then(Pace::default),
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

    /// Serves what waits, makes it durable, and lets go of the journal: `gone` is called then, and another may have it. What needs no
    /// journal is finished after that, and nothing new is begun: no snapshot, no checkpoint.
    pub fn hand_over(mut self, gone: impl FnOnce()) {
        let (closed, wait) = bounded(1);
        self.handle.order(Order::HandOver(closed));
        let _ = wait.recv();
        gone();
        self.join();
    }

    /// Serves what waits, makes it durable, signs a last checkpoint, and closes.
    pub fn close(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        let (closed, wait) = bounded(1);
        self.handle.order(Order::Close(closed));
        let _ = wait.recv();
        self.join();
    }

    fn join(&mut self) {
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
    courier: Option<(Courier, Vec<u16>)>,
    /// When a branch whose trouble may pass is to be opened again.
    again_at: Option<Instant>,
    watcher: Option<Watcher>,
    /// Up to where it has been called.
    watched_at: u64,
    /// Since when payments are under way.
    transit: TransitWatch,
    /// While it follows instead of serving.
    pace: Option<Pace>,
}

impl<J, S> Driver<J, S>
where
    J: JournalStore + 'static,
    S: Storage,
    ReaderOf<J>: Send + Sync,
{
    fn run(mut self, opened: &Sender<()>) {
        if self.pace.is_none() {
            drop(self.open());
        }
        let _ = opened.send(());
        let mut figures_at = Instant::now();
        loop {
            let now = self.now();
            let mut busy = self.branch.turn(now);
            busy |= self.take_back(now);
            self.hand_out();
            self.carry();
            self.tell_watcher();
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
            busy |= self.mend();
            busy |= self.keep_up();
            if !busy {
                // A timeout is a tick: days open and holds expire without anybody asking.
                let _ = self.woken.recv_timeout(self.tick());
            }
        }
    }

    /// Opens a branch again whose trouble may have passed, once it is time.
    fn mend(&mut self) -> bool {
        if self.pace.is_some() {
            return false;
        }
        let Some(patience) = self.branch.patience() else {
            self.again_at = None;
            return false;
        };
        let now = Instant::now();
        if *self.again_at.get_or_insert(now + patience) > now {
            return false;
        }
        self.again_at = None;
        match self.open() {
            Ok(found) => {
                let position = found.head.position.0;
                tracing::info!(branch = self.shared.number, position, "the branch is open again");
            }
            Err(reason) => {
                tracing::warn!(branch = self.shared.number, "the branch does not open yet: {reason}")
            }
        }
        true
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
        // Whatever came of it, it does not follow any more.
        self.pace = None;
        self.tell_following();
        if let Some((_, peers)) = &self.courier {
            self.branch.know(peers);
        }
        let waker = self.shared.wake.clone();
        if let Some(work) = self.branch.work_mut() {
            work.journal.on_progress(Box::new(move || wake(&waker)));
        }
        let work = self.branch.work_mut();
        let (epoch, answered) =
            work.map(|work| (work.writer.epoch, Arc::clone(&work.answered))).unwrap_or_default();
        if let (Some(workshop), Some(reader)) = (self.branch.workshop(), self.branch.reader()) {
            let generation = self.lanes.as_ref().map_or(0, |(generation, _)| *generation) + 1;
            self.lanes = self.start_lanes(generation, &workshop).map(|lanes| (generation, lanes));
            let history = workshop.followers().history.handle();
            let (latest, helped) = (Arc::clone(&workshop), Arc::clone(&workshop));
            let parts = OpenParts {
                epoch,
                history,
                answered,
                help: Arc::new(move || helped.help()),
                latest: Arc::new(move || latest.latest()),
                evidence: Arc::new(Desk { reader, workshop }),
            };
            *self.shared.open.write().unwrap_or_else(PoisonError::into_inner) = Some(parts);
        }
        self.settle();
        self.renew_figures();
    }

    /// Hands what is to be said to whoever carries it; without anybody it is dropped, and said again later.
    fn carry(&mut self) {
        while let Some(message) = self.branch.take_message() {
            if let Some((courier, _)) = &self.courier {
                courier(message);
            }
        }
    }

    /// Calls whoever watches, if more is durable than at the last call.
    fn tell_watcher(&mut self) {
        let (Some(watcher), Some(work)) = (&self.watcher, self.branch.work_mut()) else { return };
        let durable = work.answered.load(std::sync::atomic::Ordering::Acquire);
        if durable != std::mem::replace(&mut self.watched_at, durable) {
            watcher();
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
        let limits = self.branch.options().limits;
        let mut figures = Figures {
            clock_jumped_us,
            queue_requests_max: limits.requests,
            queue_bytes_max: limits.bytes,
            ..Figures::default()
        };
        {
            let queue = lock(&self.shared.queue);
            figures.queue_requests = queue.len();
            figures.queue_bytes = queue.bytes();
            figures.turned_away = queue.turned_away();
        }
        if let Some(work) = self.branch.work_mut() {
            figures.status = Some(work.book.status());
            figures.meters = work.meters.clone();
            figures.metrics = work.metrics.clone();
            figures.journal = work.journal.stats();
            figures.ids = work.ids.stats();
            figures.in_flight = work.journal.in_flight();
            figures.held = work.held.len();
            let now_us = monotonic_us(self.shared.begun);
            figures.transit = self.transit.look(work.book.channels(), now_us);
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
            Order::Archive(before, reply) => self.branch.archive(before, reply),
            Order::Connect(courier, peers) => {
                self.branch.know(&peers);
                self.courier = Some((courier, peers));
            }
            Order::Watch(watcher) => self.watcher = Some(watcher),
            Order::ConfirmClock => {
                let now = self.now();
                self.branch.confirm_clock(now);
            }
            Order::HandOver(closed) => {
                self.hand_over(&closed);
                return true;
            }
            Order::Close(closed) => {
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
        self.turn_until(Branch::is_idle);
        // Everything is durable: now the last word about it.
        let now = self.now();
        self.branch.mark(now, false);
        self.turn_until(Branch::is_idle);
        if let Some(workshop) = self.branch.workshop() {
            workshop.rest();
        }
        let now = self.now();
        self.branch.close(now);
        self.let_go();
        self.settle();
    }

    fn turn_until(&mut self, is_so: impl Fn(&Branch<J, S>) -> bool) {
        while !is_so(&self.branch) {
            let now = self.now();
            let mut busy = self.branch.turn(now);
            busy |= self.take_back(now);
            self.hand_out();
            self.carry();
            if !busy {
                let _ = self.woken.recv_timeout(TICK);
            }
        }
    }
}
