//! The holder's side: answers for the branches that are open in this process, and announces them.
//!
//! One thread turns the endpoint. Requests go to the branch's own queue, which answers busy when it is full; what may wait
//! for the disk goes to a small pool, and is dropped when its asker has given up before its turn came. A branch is
//! announced when its position or epoch moves, at most every 10 ms, and twice a second in any case.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use skerry_branch::api::{BusyReason, GatewayKey, Reply, Request};
use skerry_bus::{
    Answer, AskId, Bounds, Bus, Event, Message, Moment, Name, Pattern, RefusedKind, ServeOptions, Subject,
    Takes, ThreadWait,
};

use super::pool::Pool;
use super::serving;
use super::wire::{self, Ask, AskFrame, Here, Submit, Told, ToldFrame};
use super::{now, subject_of_here, wall_us};
use crate::seat::{Health, Seat};

/// How a process answers for its branches.
#[derive(Debug, Clone)]
pub struct HolderOptions {
    /// The bank's key, which gateways and branches share.
    pub key: GatewayKey,
    /// Threads for what may wait for the disk.
    pub workers: usize,
    /// Questions that wait for one of them.
    pub waiting: usize,
    /// Most bytes of an answer; the bus must carry as many.
    pub answer_bytes: usize,
    /// Requests that wait to be looked at.
    pub queue: Bounds,
}

impl HolderOptions {
    /// Four threads, 256 questions waiting, answers of up to 8 MB.
    #[must_use]
    pub const fn new(key: GatewayKey) -> Self {
        let queue = Bounds::new(16_384, 128 << 20);
        Self { key, workers: 4, waiting: 256, answer_bytes: 8_000_000, queue }
    }
}

/// Announcements of one branch are at least so far apart.
const MOVED_US: u64 = 10_000;

/// Announcements of one branch are at most so far apart.
const BEAT_US: u64 = 500_000;

/// How long positions are looked at often after one has moved.
const LIVELY_US: u64 = 1_000_000;

/// Requests by which a copy is known.
const NONCES: usize = 65_536;

/// The other clock may be off by so much.
const CLOCKS_APART_US: u64 = 5_000_000;

enum Order {
    Add(Arc<dyn Seat>),
    Remove(u16),
    Answered(AskId, u128, u16, Box<Told>),
    Flush(Sender<()>),
    Close,
}

/// Answers for branches until it is closed or dropped.
pub struct Holder {
    orders: Mutex<Sender<Order>>,
    wait: ThreadWait,
    thread: Option<JoinHandle<()>>,
}

impl Holder {
    /// Begins to answer under the endpoint's name.
    ///
    /// # Errors
    ///
    /// Threads could not be started, or the endpoint does not serve.
    pub fn start<B: Bus + 'static>(mut bus: B, options: HolderOptions) -> std::io::Result<Self> {
        let node = bus.name();
        let pattern = Pattern::new(&format!("seat.{node}.*")).map_err(std::io::Error::other)?;
        let serve = ServeOptions { pattern, takes: Takes::Everything, queue: options.queue };
        bus.serve(serve).map_err(std::io::Error::other)?;
        let wait = ThreadWait::default();
        bus.on_event(wait.wake());
        let (orders, taken) = channel();
        let pool = Pool::start(options.workers, options.waiting)?;
        let desk = Desk {
            bus,
            node,
            options,
            pool,
            taken,
            orders: orders.clone(),
            wait: wait.clone(),
            held: BTreeMap::new(),
            nonces: HashSet::new(),
            seen: VecDeque::new(),
            lively: Moment::default(),
        };
        let thread = std::thread::Builder::new().name("seats".to_owned()).spawn(move || desk.run())?;
        Ok(Self { orders: Mutex::new(orders), wait, thread: Some(thread) })
    }

    /// Answers for this branch from now on, and announces it. Replaces the seat of this number.
    pub fn add(&self, seat: Arc<dyn Seat>) {
        self.order(Order::Add(seat));
    }

    /// Says goodbye for this branch, and answers *not here* from now on.
    pub fn remove(&self, branch: u16) {
        self.order(Order::Remove(branch));
    }

    /// What waits until the answers that branches have given so far are on their way.
    pub fn flush(&self) -> impl FnOnce() + Send + 'static {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wait = self.wait.clone();
        move || {
            let (done, flushed) = channel();
            // A thread that is gone has nothing left to send.
            drop(orders.send(Order::Flush(done)));
            (wait.wake())();
            let _gone = flushed.recv();
        }
    }

    /// Says goodbye for all branches and ends.
    pub fn close(mut self) {
        self.end();
    }

    fn order(&self, order: Order) {
        // A thread that is gone has said goodbye.
        drop(self.orders.lock().unwrap_or_else(PoisonError::into_inner).send(order));
        (self.wait.wake())();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.order(Order::Close);
            let _panicked = thread.join();
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Holder(..)")
    }
}

/// A branch that is answered for.
struct Held {
    seat: Arc<dyn Seat>,
    subject: Subject,
    health: Health,
    looked: Moment,
    /// When it was last announced, and what: epoch, position, covered.
    told: Option<(Moment, (u64, u64, u64))>,
}

struct Desk<B> {
    bus: B,
    node: Name,
    options: HolderOptions,
    pool: Pool,
    taken: Receiver<Order>,
    orders: Sender<Order>,
    wait: ThreadWait,
    held: BTreeMap<u16, Held>,
    nonces: HashSet<u128>,
    seen: VecDeque<u128>,
    /// Until when positions are looked at often.
    lively: Moment,
}

impl<B: Bus> Desk<B> {
    fn run(mut self) {
        while self.turn() {
            let now = now();
            let look = if now < self.lively { MOVED_US } else { BEAT_US / 10 };
            let due = self.bus.next_due().map_or(u64::MAX, |due| due.0.saturating_sub(now.0));
            self.wait.sleep(Duration::from_micros(look.min(due)));
        }
        let branches: Vec<u16> = self.held.keys().copied().collect();
        branches.into_iter().for_each(|branch| self.remove(branch));
        // What is still on its way out goes before the endpoint does.
        while self.bus.poll(now()).is_some() {}
    }

    fn turn(&mut self) -> bool {
        while let Ok(order) = self.taken.try_recv() {
            match order {
                Order::Add(seat) => self.add(seat),
                Order::Remove(branch) => self.remove(branch),
                Order::Answered(ask, nonce, branch, told) => self.respond(ask, nonce, branch, *told),
                Order::Flush(done) => drop(done.send(())),
                Order::Close => return false,
            }
        }
        while let Some(event) = self.bus.poll(now()) {
            if let Event::Asked { ask, message, deadline, .. } = event {
                self.asked(ask, &message, deadline);
            }
        }
        self.announce();
        true
    }

    fn add(&mut self, seat: Arc<dyn Seat>) {
        let branch = seat.number();
        let subject = subject_of_here(branch);
        let health = Health::default();
        let held = Held { seat, subject, health, looked: Moment::default(), told: None };
        self.held.insert(branch, held);
    }

    fn remove(&mut self, branch: u16) {
        let Some(held) = self.held.remove(&branch) else { return };
        let Some((_, (epoch, position, covered))) = held.told else { return };
        let (node, health) = (self.node.to_string(), held.health);
        let here = Here { node, branch, epoch, position, covered, gone: true, key: None, health };
        let message = Message::new(held.subject, wire::encode(&here, &self.options.key));
        // Whoever misses it notices the silence.
        let _missed = self.bus.publish(&message);
    }

    fn announce(&mut self) {
        let now = now();
        for (branch, held) in &mut self.held {
            let stands = (held.seat.epoch(), held.seat.durable(), held.seat.covered());
            let moved = held.told.is_none_or(|(_, told)| told != stands);
            if moved {
                self.lively = now.after(LIVELY_US);
            }
            let since = held.told.map_or(u64::MAX, |(when, _)| now.0.saturating_sub(when.0));
            if since < if moved { MOVED_US } else { BEAT_US } {
                continue;
            }
            let opened = held.told.is_none_or(|(_, told)| told.0 != stands.0);
            if opened || now.0.saturating_sub(held.looked.0) >= BEAT_US {
                held.health = glance(held.seat.health());
                held.looked = now;
            }
            held.told = Some((now, stands));
            let (epoch, position, covered) = stands;
            let here = Here {
                node: self.node.to_string(),
                branch: *branch,
                epoch,
                position,
                covered,
                gone: false,
                key: held.seat.signing_keys().map(|keys| keys.present().id().0),
                health: held.health.clone(),
            };
            let message = Message::new(held.subject, wire::encode(&here, &self.options.key));
            let _missed = self.bus.publish(&message);
        }
    }

    fn asked(&mut self, ask: AskId, message: &Message, deadline: Moment) {
        let frame: AskFrame = match wire::decode(&message.payload, &self.options.key) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, sender = ?message.headers.sender, "a question to a branch was not taken");
                let _late = self.bus.respond(ask, Answer::Failed(error.to_string().into()));
                return;
            }
        };
        let AskFrame { branch, nonce, until_us, ask: what } = frame;
        // The subject is not sealed, the frame is: whatever came where, the frame says whom it is for.
        let Some(held) = self.held.get(&branch) else {
            return self.respond(ask, nonce, branch, Told::NotHere);
        };
        if until_us.saturating_add(CLOCKS_APART_US) < wall_us() {
            return self.respond(ask, nonce, branch, Told::Late);
        }
        let seat = Arc::clone(&held.seat);
        match what {
            Ask::Submit(submit) => {
                // A bus may deliver a copy. The first one answers.
                if self.is_new(nonce) {
                    self.submit((ask, nonce, branch), &*seat, *submit);
                }
            }
            what => self.query((ask, nonce, branch), seat, what, deadline),
        }
    }

    fn is_new(&mut self, nonce: u128) -> bool {
        if !self.nonces.insert(nonce) {
            return false;
        }
        self.seen.push_back(nonce);
        if self.seen.len() > NONCES
            && let Some(oldest) = self.seen.pop_front()
        {
            self.nonces.remove(&oldest);
        }
        true
    }

    fn submit(&mut self, (ask, nonce, branch): (AskId, u128, u16), seat: &dyn Seat, submit: Submit) {
        let mut way = self.way_back(ask, nonce, branch, Told::Reply(Box::new(Reply::Unknown)));
        let Submit { actor, scope, deadline_us, mac, body } = submit;
        let reply = Box::new(move |reply| way.tell(Told::Reply(Box::new(reply))));
        if let Err(busy) = seat.submit(Request { actor, scope, deadline_us, mac, body, reply }) {
            // One that is on its way out has done nothing, and the next process that has it will.
            let leaves = busy.reason == BusyReason::Closed && !seat.health().is_sick();
            self.respond(ask, nonce, branch, if leaves { Told::NotHere } else { Told::Busy(busy) });
        }
    }

    fn query(
        &mut self,
        (ask, nonce, branch): (AskId, u128, u16),
        seat: Arc<dyn Seat>,
        what: Ask,
        deadline: Moment,
    ) {
        let mut way =
            self.way_back(ask, nonce, branch, Told::Failed("the branch's process failed at it".to_owned()));
        let bytes_max = self.options.answer_bytes / 2;
        let work = Box::new(move || {
            let told = if now() > deadline { Told::Late } else { serving::answer(&*seat, what, bytes_max) };
            way.tell(told);
        });
        if self.pool.take(work).is_err() {
            let _late = self.bus.respond(ask, Answer::Busy);
        }
    }

    fn way_back(&self, ask: AskId, nonce: u128, branch: u16, otherwise: Told) -> WayBack {
        let (orders, wait) = (self.orders.clone(), self.wait.clone());
        WayBack { ask, nonce, branch, otherwise: Some(otherwise), orders, wait }
    }

    fn respond(&mut self, ask: AskId, nonce: u128, branch: u16, told: Told) {
        let stands = self.held.get(&branch).map(|held| &held.seat);
        let (epoch, position, covered) =
            stands.map_or((0, 0, 0), |seat| (seat.epoch(), seat.durable(), seat.covered()));
        let mut frame = ToldFrame { branch, nonce, epoch, position, covered, told };
        let mut payload = wire::encode(&frame, &self.options.key);
        if payload.len() > self.options.answer_bytes {
            let (bytes, most) = (payload.len(), self.options.answer_bytes);
            frame.told = Told::Failed(format!("the answer has {bytes} bytes, {most} are allowed"));
            payload = wire::encode(&frame, &self.options.key);
        }
        match self.bus.respond(ask, Answer::reply(payload)) {
            Ok(()) | Err(RefusedKind::TooLate) => (),
            Err(error) => {
                tracing::warn!(%error, branch, "an answer of a branch could not be sent");
                // What was asked may have been done: only a word of the branch's may say how it ended.
                frame.told = Told::Failed(error.to_string());
                let _late = self.bus.respond(ask, Answer::reply(wire::encode(&frame, &self.options.key)));
            }
        }
    }
}

/// How a branch is doing, without what is long.
fn glance(health: Health) -> Health {
    Health { meters: Default::default(), figures: Vec::new(), histograms: Vec::new(), ..health }
}

/// From a branch's or the pool's thread back to the holder's. Dropped unused it tells what then is so.
struct WayBack {
    ask: AskId,
    nonce: u128,
    branch: u16,
    otherwise: Option<Told>,
    orders: Sender<Order>,
    wait: ThreadWait,
}

impl WayBack {
    fn tell(&mut self, told: Told) {
        self.otherwise = None;
        drop(self.orders.send(Order::Answered(self.ask, self.nonce, self.branch, Box::new(told))));
        (self.wait.wake())();
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        if let Some(otherwise) = self.otherwise.take() {
            self.tell(otherwise);
        }
    }
}
