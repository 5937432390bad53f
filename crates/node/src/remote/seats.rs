//! The asker's side: who has which branch, and one thread that asks them.
//!
//! What is put lies in a bounded queue until the thread sends it. If it is known that nothing was done (nobody serves there
//! any more, or it says *not here*), it waits a moment for the next holder and is sent to that one, within its deadline. If a
//! holder falls silent or another takes its place, what it was asked ends as unknown without waiting for the deadline; but
//! what only looks is sent to the next one too.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use skerry_branch::Watcher;
use skerry_branch::api::{Busy, BusyReason, GatewayKey};
use skerry_bus::{
    Bounds, Bus, Event, Message, Moment, Name, Pattern, RefusedKind, RequestFault, Share, SubscribeOptions,
    Takes, ThreadWait, Ticket,
};

use super::stand::RemoteSeat;
use super::table::Stand;
use super::wire::{self, Ask, AskFrame, Here, Told, ToldFrame};
use super::{now, subject, wall_us};

/// How a process asks branches of others.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// The bank's key, which gateways and branches share.
    pub key: GatewayKey,
    /// What waits to be sent; beyond it a branch is busy.
    pub queue: Bounds,
    /// So long after a branch was lost requests wait for its next holder, microseconds; later ones are turned away.
    pub patience_us: u64,
}

impl RemoteOptions {
    /// 16,384 requests or 64 MiB waiting, up to two seconds for a holder.
    #[must_use]
    pub const fn new(key: GatewayKey) -> Self {
        Self { key, queue: Bounds::new(16_384, 64 << 20), patience_us: 2_000_000 }
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the process that has the branch did not answer in time")]
    Unknown,
    #[error("the branch takes nothing now: {0}")]
    Busy(Busy),
    #[error("it was too late to ask")]
    Late,
    #[error("the question has {bytes} bytes, {most} are allowed")]
    TooLarge { bytes: usize, most: usize },
    #[error("the process that has the branch did not take it: {0}")]
    Refused(String),
}

type OnTold = Box<dyn FnOnce(Result<Told, Lost>) + Send>;

/// A question on its way.
struct Job {
    branch: u16,
    nonce: u128,
    payload: Bytes,
    repeats: bool,
    until: Moment,
    /// Until when it may wait for a holder.
    patience: Moment,
    /// Whom it was sent to in vain, and when it may be sent there again.
    tried: Option<(Name, Moment)>,
    told: Option<OnTold>,
}

impl Job {
    fn end(mut self, end: Result<Told, Lost>) {
        if let Some(told) = self.told.take() {
            told(end);
        }
    }
}

impl Drop for Job {
    /// Whoever waits hears of it in any case.
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            told(Err(Lost::Unknown));
        }
    }
}

/// What seats and the thread share.
pub(crate) struct Shared {
    key: GatewayKey,
    bounds: Bounds,
    patience_us: u64,
    queue: SyncSender<Job>,
    /// Bytes in the queue and among what waits for a holder.
    waiting: AtomicUsize,
    wait: ThreadWait,
    stands: RwLock<BTreeMap<u16, Arc<Stand>>>,
    nonce: u64,
    count: AtomicU64,
}

impl Shared {
    pub(crate) fn stand(&self, branch: u16) -> Arc<Stand> {
        if let Some(stand) = self.stands.read().unwrap_or_else(PoisonError::into_inner).get(&branch) {
            return Arc::clone(stand);
        }
        Arc::clone(self.stands.write().unwrap_or_else(PoisonError::into_inner).entry(branch).or_default())
    }

    /// Has `ask` sent to whoever has `branch`, and `told` called once on the thread; never waits.
    ///
    /// # Errors
    ///
    /// The queue is full; `told` is not called.
    pub(crate) fn put(&self, branch: u16, ask: Ask, within_us: u64, told: OnTold) -> Result<(), Busy> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let nonce = (u128::from(self.nonce) << 64) | u128::from(count);
        let repeats = ask.may_be_repeated();
        let frame = AskFrame { branch, nonce, until_us: wall_us().saturating_add(within_us), ask };
        let payload = wire::encode(&frame, &self.key);
        let bytes = payload.len();
        let full = Busy { retry_after_ms: 50, reason: BusyReason::Queue };
        let there = self.waiting.fetch_add(bytes, Ordering::AcqRel);
        if there > 0 && there.saturating_add(bytes) > self.bounds.bytes {
            self.waiting.fetch_sub(bytes, Ordering::AcqRel);
            return Err(full);
        }
        let (until, patience) = (now().after(within_us), now().after(within_us.min(self.patience_us)));
        let job = Job { branch, nonce, payload, repeats, until, patience, tried: None, told: Some(told) };
        if let Err(refused) = self.queue.try_send(job) {
            self.waiting.fetch_sub(bytes, Ordering::AcqRel);
            let (std::sync::mpsc::TrySendError::Full(mut job)
            | std::sync::mpsc::TrySendError::Disconnected(mut job)) = refused;
            job.told = None;
            return Err(full);
        }
        (self.wait.wake())();
        Ok(())
    }

    /// Whether a request may be taken: somebody has the branch, or had it a moment ago.
    pub(crate) fn may_be_asked(&self, stand: &Stand) -> bool {
        stand.may_be_asked(now(), self.patience_us)
    }

    /// As [`put`](Self::put), and waits for the end.
    pub(crate) fn ask_and_wait(&self, branch: u16, ask: Ask, within_us: u64) -> Result<Told, Lost> {
        if !self.may_be_asked(&self.stand(branch)) {
            return Err(Lost::Busy(AWAY));
        }
        let (answer, wait) = sync_channel(1);
        let told = Box::new(move |end| drop(answer.try_send(end)));
        self.put(branch, ask, within_us, told).map_err(Lost::Busy)?;
        let most = Duration::from_micros(within_us.saturating_add(LEEWAY_US));
        match wait.recv_timeout(most).unwrap_or(Err(Lost::Unknown)) {
            Ok(Told::Late) => Err(Lost::Late),
            end => end,
        }
    }
}

/// Nobody has the branch.
const AWAY: Busy = Busy { retry_after_ms: 500, reason: BusyReason::Closed };

/// The thread ends a question at its deadline; it may be late by so much.
const LEEWAY_US: u64 = 2_000_000;

/// A question that met nobody is sent to the same process again after so long.
const AGAIN_US: u64 = 50_000;

/// How often holders are checked.
const TEND_US: u64 = 100_000;

/// Figures are asked for so often while somebody looks at them, and so often else.
const FIGURES_US: (u64, u64) = (1_000_000, 30_000_000);

/// How long somebody who has looked at figures is expected to look again.
const LOOKING_US: u64 = 60_000_000;

/// How long figures and signing keys are waited for.
const TENDING_US: u64 = 5_000_000;

/// Branches of other processes.
pub struct RemoteSeats {
    shared: Arc<Shared>,
    stop: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl RemoteSeats {
    /// Begins to listen and to ask by `bus`.
    ///
    /// # Errors
    ///
    /// The thread could not be started, or the endpoint does not listen.
    pub fn start<B: Bus + 'static>(mut bus: B, options: RemoteOptions) -> std::io::Result<Self> {
        let pattern = Pattern::new("here.*").map_err(std::io::Error::other)?;
        let queue = Bounds::new(16_384, 32 << 20);
        let hear = SubscribeOptions { pattern, share: Share::Every, takes: Takes::Everything, queue };
        bus.subscribe(hear).map_err(std::io::Error::other)?;
        let wait = ThreadWait::default();
        bus.on_event(wait.wake());
        let (queue, taken) = sync_channel(options.queue.messages);
        let shared = Arc::new(Shared {
            key: options.key,
            bounds: options.queue,
            patience_us: options.patience_us,
            queue,
            waiting: AtomicUsize::new(0),
            wait,
            stands: RwLock::default(),
            // Of this life of this process alone.
            nonce: std::collections::hash_map::RandomState::new().build_hasher().finish(),
            count: AtomicU64::new(0),
        });
        let stop = Arc::new(Mutex::new(false));
        let asker = Asker {
            bus,
            shared: Arc::clone(&shared),
            taken,
            asked: HashMap::new(),
            parked: VecDeque::new(),
            tended: Moment::default(),
        };
        let told = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("remote-seats".to_owned()).spawn(move || asker.run(&told))?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// The seat of a branch, wherever it is, and whether or not anybody has it now.
    #[must_use]
    pub fn seat(&self, branch: u16) -> RemoteSeat {
        RemoteSeat { number: branch, stand: self.shared.stand(branch), shared: Arc::clone(&self.shared) }
    }

    /// The branches that were heard of or asked for so far.
    #[must_use]
    pub fn branches(&self) -> Vec<u16> {
        self.shared.stands.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

impl Drop for RemoteSeats {
    fn drop(&mut self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        (self.shared.wait.wake())();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl std::fmt::Debug for RemoteSeats {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("RemoteSeats").field(&self.branches()).finish()
    }
}

impl Stand {
    /// Has `watcher` called when more has become durable.
    pub(crate) fn watch(&self, watcher: Watcher) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
    }

    fn tell_watcher(&self) {
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(watcher) = watcher {
            watcher();
        }
    }
}

struct Asker<B> {
    bus: B,
    shared: Arc<Shared>,
    taken: Receiver<Job>,
    asked: HashMap<Ticket, (Name, Job)>,
    parked: VecDeque<Job>,
    tended: Moment,
}

impl<B: Bus> Asker<B> {
    fn run(mut self, stop: &Mutex<bool>) {
        while !*stop.lock().unwrap_or_else(PoisonError::into_inner) {
            self.turn();
            let now = now();
            let due = self.bus.next_due().map_or(u64::MAX, |due| due.0.saturating_sub(now.0));
            let most = if self.parked.is_empty() { TEND_US } else { AGAIN_US / 5 };
            self.shared.wait.sleep(Duration::from_micros(due.min(most)));
        }
    }

    fn turn(&mut self) {
        while let Some(event) = self.bus.poll(now()) {
            match event {
                Event::Heard { message, .. } => self.heard(&message),
                Event::Replied { ticket, outcome } => self.replied(ticket, outcome),
                _ => (),
            }
        }
        // What is put while these are sent waits for the next turn.
        for _ in 0..self.shared.bounds.messages {
            let Ok(job) = self.taken.try_recv() else { break };
            self.send(job);
        }
        for _ in 0..self.parked.len() {
            let Some(job) = self.parked.pop_front() else { break };
            self.send(job);
        }
        if now().0.saturating_sub(self.tended.0) >= TEND_US {
            self.tended = now();
            self.tend();
        }
    }

    fn heard(&mut self, message: &Message) {
        let here: Here = match wire::decode(&message.payload, &self.shared.key) {
            Ok(here) => here,
            Err(error) => {
                tracing::warn!(%error, sender = ?message.headers.sender, "an announcement of a branch was not taken");
                return;
            }
        };
        let branch = here.branch;
        let stand = self.shared.stand(branch);
        let heard = stand.hear(here, now());
        // After a goodbye answers are still on their way, for as long as nobody else has the branch.
        if let (true, Some(holder)) = (heard.changed, stand.holder()) {
            self.let_go(branch, Some(holder));
        }
        if heard.moved {
            stand.tell_watcher();
        }
    }

    /// What was asked of others than `holder` ends: who no longer has the branch may not answer, and whether it did what it
    /// was asked only the branch's journal knows. What only looks is asked of the next one.
    fn let_go(&mut self, branch: u16, holder: Option<Name>) {
        let former = |(at, job): &(Name, Job)| job.branch == branch && Some(*at) != holder;
        let tickets: Vec<Ticket> =
            self.asked.iter().filter(|(_, asked)| former(asked)).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            match self.asked.remove(&ticket) {
                Some((node, job)) if job.repeats => self.bounced(node, job),
                Some((_, job)) => job.end(Err(Lost::Unknown)),
                None => {}
            }
        }
    }

    fn send(&mut self, job: Job) {
        let (stand, now) = (self.shared.stand(job.branch), now());
        let tried = |node| job.tried.is_some_and(|(tried, again)| tried == node && now < again);
        let Some(node) = stand.holder().filter(|node| !tried(*node)) else { return self.park(job, now) };
        let bytes = job.payload.len();
        let message = Message::new(subject(node, job.branch), job.payload.clone());
        match self.bus.request(&message, job.until) {
            Ok(ticket) => {
                self.shared.waiting.fetch_sub(bytes, Ordering::AcqRel);
                self.asked.insert(ticket, (node, job));
            }
            Err(RefusedKind::BreakerOpen { .. }) => self.park(job, now),
            Err(refused) => {
                self.shared.waiting.fetch_sub(bytes, Ordering::AcqRel);
                job.end(Err(match refused {
                    RefusedKind::TooLarge { bytes, bytes_max } => Lost::TooLarge { bytes, most: bytes_max },
                    RefusedKind::Busy(_) => {
                        Lost::Busy(Busy { retry_after_ms: 50, reason: BusyReason::Queue })
                    }
                    other => Lost::Refused(other.to_string()),
                }));
            }
        }
    }

    /// Keeps a question of which nothing was done until somebody has the branch.
    fn park(&mut self, job: Job, now: Moment) {
        if now < job.patience && self.parked.len() < self.shared.bounds.messages {
            return self.parked.push_back(job);
        }
        self.shared.waiting.fetch_sub(job.payload.len(), Ordering::AcqRel);
        let lost = if now >= job.until { Lost::Late } else { Lost::Busy(AWAY) };
        job.end(Err(lost));
    }

    /// It did not reach its branch, and nothing was done: to the next holder, or to this one again in a moment.
    fn bounced(&mut self, node: Name, mut job: Job) {
        let now = now();
        self.shared.stand(job.branch).deny(node, now);
        self.shared.waiting.fetch_add(job.payload.len(), Ordering::AcqRel);
        job.tried = Some((node, now.after(AGAIN_US)));
        self.park(job, now);
    }

    fn replied(&mut self, ticket: Ticket, outcome: Result<Message, RequestFault>) {
        let Some((node, job)) = self.asked.remove(&ticket) else { return };
        let end = match outcome {
            Ok(message) => match self.read(&job, &message.payload) {
                Ok(Told::NotHere) => return self.bounced(node, job),
                end => end,
            },
            Err(RequestFault::NoServer) => return self.bounced(node, job),
            Err(RequestFault::Busy) => {
                Err(Lost::Busy(Busy { retry_after_ms: 100, reason: BusyReason::Queue }))
            }
            Err(RequestFault::Failed(why)) => Err(Lost::Refused(why.into())),
            Err(_) => Err(Lost::Unknown),
        };
        job.end(end);
    }

    fn read(&self, job: &Job, payload: &[u8]) -> Result<Told, Lost> {
        let frame: ToldFrame = wire::decode(payload, &self.shared.key).map_err(|error| {
            tracing::warn!(%error, branch = job.branch, "an answer of a branch was not taken");
            Lost::Unknown
        })?;
        let stand = self.shared.stand(job.branch);
        if frame.branch != job.branch || frame.nonce != job.nonce || stand.is_stale(frame.epoch) {
            return Err(Lost::Unknown);
        }
        if stand.stands_at(frame.epoch, frame.position, frame.covered) {
            stand.tell_watcher();
        }
        Ok(frame.told)
    }

    fn tend(&mut self) {
        let stands: Vec<_> = {
            let stands = self.shared.stands.read().unwrap_or_else(PoisonError::into_inner);
            stands.iter().map(|(branch, stand)| (*branch, Arc::clone(stand))).collect()
        };
        let now = now();
        for (branch, stand) in stands {
            if stand.check(now) {
                tracing::warn!(branch, "the process that has a branch has fallen silent");
                self.let_go(branch, None);
            } else if stand.is_lost(now) {
                self.let_go(branch, None);
            }
            for (ask, told) in wishes(&stand, now) {
                // It is asked again before long.
                let _busy = self.shared.put(branch, ask, TENDING_US, told);
            }
        }
    }
}

/// What is to be fetched from a branch that is there: figures, and keys that were not known.
fn wishes(stand: &Arc<Stand>, now: Moment) -> Vec<(Ask, OnTold)> {
    let mut view = stand.view();
    let mut wishes: Vec<(Ask, OnTold)> = Vec::new();
    if view.holder.is_none() {
        return wishes;
    }
    let since = |moment: Option<Moment>| moment.map_or(u64::MAX, |moment| now.0.saturating_sub(moment.0));
    let every = if since(view.wanted) < LOOKING_US { FIGURES_US.0 } else { FIGURES_US.1 };
    if since(view.asked) >= every {
        view.asked = Some(now);
        let stand = Arc::clone(stand);
        wishes.push((
            Ask::Health,
            Box::new(move |end| {
                if let Ok(Told::Health(health)) = end {
                    stand.view().full = Some(*health);
                }
            }),
        ));
    }
    let known = view.keys.as_ref().map(|keys| keys.present().id().0);
    if view.key.is_some() && view.key != known && since(view.keys_asked) >= FIGURES_US.0 {
        view.keys_asked = Some(now);
        let stand = Arc::clone(stand);
        wishes.push((
            Ask::SigningKeys,
            Box::new(move |end| {
                if let Ok(Told::SigningKeys(Some(text))) = end
                    && let Ok(keys) = text.read()
                {
                    stand.view().keys = Some(Arc::new(keys));
                }
            }),
        ));
    }
    wishes
}
