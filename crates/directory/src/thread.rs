//! A directory on a thread of its own, for everybody in the process.
//!
//! ```text
//! DirectoryHandle ── bounded queue ──► thread: submit all that wait, poll, answer ──► Directory
//! ```
//!
//! Whatever waits is submitted together, so that asks of many share one sync. An answer is called exactly once, from the thread,
//! so it must only hand it on; if the thread ends first it is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use crate::seam::{Ask, Directory, Fault, Now, Ticket, Told};

/// Called with what came of an ask.
pub type Answer = Box<dyn FnOnce(Result<Told, Fault>) + Send>;

/// Asks that may wait for the thread.
const WAITING_MAX: usize = 4_096;
/// The thread looks around at least so often while something is under way.
const TICK: Duration = Duration::from_millis(100);

/// Why an ask was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// As many wait as may.
    #[error("busy: too many asks wait for the directory")]
    Busy,
    /// The thread has ended.
    #[error("the directory is closed")]
    Closed,
}

enum Order {
    Ask(Box<Ask>, Answer),
    Woken,
    Close,
}

/// Asks the directory, from any thread. Clones ask the same.
#[derive(Clone)]
pub struct DirectoryHandle {
    orders: Sender<Order>,
    waiting: Arc<AtomicUsize>,
}

impl std::fmt::Debug for DirectoryHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.waiting.load(Ordering::Relaxed);
        formatter.debug_struct("DirectoryHandle").field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl DirectoryHandle {
    /// Asks; `answer` is called once it is over.
    ///
    /// # Errors
    ///
    /// Nothing was asked, and `answer` is dropped.
    pub fn ask(&self, ask: Ask, answer: Answer) -> Result<(), NotAsked> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.orders.try_send(Order::Ask(Box::new(ask), answer)).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => NotAsked::Busy,
                TrySendError::Disconnected(_) => NotAsked::Closed,
            }
        })
    }

    /// The same, waited for: from a thread that may.
    ///
    /// # Errors
    ///
    /// It was not asked, or there is no answer.
    pub fn ask_and_wait(&self, ask: Ask) -> Result<Told, Fault> {
        let (send, receive) = bounded(1);
        let unknown = |why: String| Fault::Unknown(why.into());
        self.ask(ask, Box::new(move |told| drop(send.send(told))))
            .map_err(|error| unknown(error.to_string()))?;
        receive.recv().unwrap_or_else(|_| Err(unknown(NotAsked::Closed.to_string())))
    }

    /// Asks that are not answered yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// The thread; dropping it ends it once what was asked before is answered.
#[derive(Debug)]
pub struct DirectoryThread {
    handle: DirectoryHandle,
    thread: Option<JoinHandle<()>>,
}

impl DirectoryThread {
    /// Puts `directory` on a thread.
    ///
    /// # Errors
    ///
    /// If the machine gives none.
    pub fn spawn(mut directory: impl Directory + 'static) -> std::io::Result<Self> {
        let (orders, taken) = bounded(WAITING_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let handle = DirectoryHandle { orders: orders.clone(), waiting: Arc::clone(&waiting) };
        // Whoever is full is awake already.
        directory.on_event(Arc::new(move || drop(orders.try_send(Order::Woken))));
        let driver = Driver { directory, taken, waiting, begun: Instant::now(), answers: BTreeMap::new() };
        let thread = std::thread::Builder::new().name("directory".into()).spawn(move || driver.run())?;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// A handle.
    #[must_use]
    pub fn handle(&self) -> DirectoryHandle {
        self.handle.clone()
    }
}

impl Drop for DirectoryThread {
    fn drop(&mut self) {
        // If the thread has ended by itself there is nobody to tell.
        let _told = self.handle.orders.send(Order::Close);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Driver<D> {
    directory: D,
    taken: Receiver<Order>,
    waiting: Arc<AtomicUsize>,
    begun: Instant,
    answers: BTreeMap<Ticket, Answer>,
}

impl<D: Directory> Driver<D> {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Now { wall_us: us(wall), monotonic_us: us(self.begun.elapsed()) }
    }

    fn run(mut self) {
        let mut open = true;
        while open || !self.answers.is_empty() {
            match self.taken.recv_timeout(self.patience()) {
                Ok(order) => {
                    open &= self.take(order);
                    // All that wait now go together; more wait for the next turn.
                    for _ in 0..self.taken.len() {
                        let Ok(order) = self.taken.try_recv() else { break };
                        open &= self.take(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            self.tell();
        }
        // What may be made durable a little later is.
        self.tell();
    }

    fn patience(&self) -> Duration {
        let now = self.now().monotonic_us;
        let due = self.directory.next_due().map(|due| Duration::from_micros(due.saturating_sub(now)));
        due.map_or(TICK, |due| due.min(TICK))
    }

    /// Whether the directory stays open.
    fn take(&mut self, order: Order) -> bool {
        let (ask, answer) = match order {
            Order::Ask(ask, answer) => (ask, answer),
            Order::Woken => return true,
            Order::Close => return false,
        };
        match self.directory.submit(*ask) {
            Ok(ticket) => drop(self.answers.insert(ticket, answer)),
            Err(busy) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                answer(Err(Fault::Unknown(busy.to_string().into())));
            }
        }
        true
    }

    fn tell(&mut self) {
        while let Some(answered) = self.directory.poll(self.now()) {
            if let Some(answer) = self.answers.remove(&answered.ticket) {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                answer(answered.outcome);
            }
        }
    }
}
