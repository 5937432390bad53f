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

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use skerry_journal::{Journal, JournalStore, Storage};

use crate::branch::{Branch, Condition, Parts, ReaderOf, chain};
use crate::channels::Courier;
use crate::clock::Now;
use crate::evidence::receipts::Desk;
use crate::handle::{BranchHandle, Figures, OpenParts, Order, OrderBox, Shared, Watcher, monotonic_us, wake};
use crate::jobs::{Job, JobDone, Lane, Workshop};
use crate::open::Found;
use crate::transit::TransitWatch;
use crate::work::lock;

/// Fills a buffer with secret random bytes: new salts at each opening.
pub type Entropy = Box<dyn FnMut(&mut [u8; 32]) + Send>;

/// The writer looks at the time at least so often.
const TICK: Duration = Duration::from_millis(100);
/// Figures are renewed at most so often.
const FIGURES: Duration = Duration::from_millis(200);
/// How nice the thread is that writes snapshots (nice(1)).
#[cfg(target_os = "linux")]
const STEP_BACK: i32 = 19;

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
            gateway: branch.options().gateway.clone(),
            leash: branch.options().leash.clone(),
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
    courier: Option<(Courier, Vec<u16>)>,
    /// When a branch whose trouble may pass is to be opened again.
    again_at: Option<Instant>,
    watcher: Option<Watcher>,
    /// Up to where it has been called.
    watched_at: u64,
    /// Since when payments are under way.
    transit: TransitWatch,
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
            if !busy {
                // A timeout is a tick: days open and holds expire without anybody asking.
                let _ = self.woken.recv_timeout(TICK);
            }
        }
    }

    /// Opens a branch again whose trouble may have passed, once it is time.
    fn mend(&mut self) -> bool {
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

    fn start_lanes(&self, generation: u64, workshop: &Arc<Workshop<S>>) -> Option<Lanes<ReaderOf<J>>> {
        let mut lanes = Lanes { senders: Vec::new(), threads: Vec::new() };
        for lane in Lane::ALL {
            let (sender, jobs) = unbounded::<Job<ReaderOf<J>>>();
            let (workshop, results) = (Arc::clone(workshop), self.results.clone());
            let waker = self.shared.wake.clone();
            let name = format!("branch-{}-{lane:?}", self.shared.number).to_lowercase();
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                if lane == Lane::Snapshots {
                    step_back();
                }
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
            self.carry();
            if !busy {
                let _ = self.woken.recv_timeout(TICK);
            }
        }
    }
}

/// Lets the threads that somebody waits for go first.
fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), STEP_BACK) {
        tracing::debug!("could not lower the priority of a background thread: {error}");
    }
}
