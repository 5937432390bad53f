//! The post's thread: it holds an endpoint of every bus, sends what waits and hands on what it hears.
//!
//! Getting on a bus may wait for servers that are away, so each is tried on a thread of its own that ends with success; from
//! then on the endpoint finds its way back by itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use skerry_branch::BranchHandle;
use skerry_branch::channels::message;
use skerry_bus::{
    Bounds, Bus, Event, Message, Moment, Name, RefusedKind, Share, SubscribeOptions, SubscriptionId, Takes,
};

use crate::figures::{Line, count};
use crate::post::{Route, Shared, subject};

/// Messages to one branch that wait here, and their bytes; beyond it they are missed.
const HEARD: Bounds = Bounds::new(4_096, 64 << 20);
/// Events of one bus taken before it is sent again.
const TOGETHER: usize = 256;
/// The thread looks around at least so often.
const TICK: Duration = Duration::from_millis(100);
/// A bus that could not be reached is tried again after this, then twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A bus that this process is on.
struct Wire {
    bus: Box<dyn Bus>,
    /// By branch, and back.
    subscriptions: BTreeMap<u16, SubscriptionId>,
    branches: HashMap<SubscriptionId, u16>,
}

impl Wire {
    /// Hears nothing more of branches that have left.
    fn leave_all_but(&mut self, hosted: &BTreeMap<u16, BranchHandle>) {
        let left = self.subscriptions.keys().filter(|number| !hosted.contains_key(number));
        for number in left.copied().collect::<Vec<_>>() {
            if let Some(id) = self.subscriptions.remove(&number) {
                self.branches.remove(&id);
                // A subscription that has ended by itself is what is wanted.
                let _ended = self.bus.stop(id);
            }
        }
    }
}

/// See the module.
pub(crate) struct Carrier {
    shared: Arc<Shared>,
    /// In the order of the lines, without the first.
    wires: Vec<Option<Wire>>,
    connected: Receiver<(usize, Box<dyn Bus>)>,
    begun: Instant,
    hosted: BTreeMap<u16, BranchHandle>,
    /// The version of those hosted that everybody is subscribed for; 0 before the first, and after a fault.
    version: u64,
}

impl Carrier {
    pub(crate) fn new(shared: Arc<Shared>, endpoint: Name, routes: Vec<Route>) -> std::io::Result<Self> {
        let (connects, connected) = channel();
        let wires = routes.iter().map(|_| None).collect();
        for (at, route) in routes.into_iter().enumerate() {
            let (shared, connects) = (Arc::clone(&shared), connects.clone());
            std::thread::Builder::new()
                .name(format!("post-{}", route.name))
                .spawn(move || connect(&shared, at, endpoint, route, &connects))?;
        }
        let hosted = BTreeMap::new();
        Ok(Self { shared, wires, connected, begun: Instant::now(), hosted, version: 0 })
    }

    pub(crate) fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.take_in();
            self.subscribe();
            let sent = self.send();
            let heard = self.hear();
            if !sent && !heard {
                self.shared.wait.sleep(self.patience());
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn patience(&self) -> Duration {
        let due = self.wires.iter().flatten().filter_map(|wire| wire.bus.next_due()).min();
        due.map_or(TICK, |due| Duration::from_micros(due.0.saturating_sub(self.now().0)).min(TICK))
    }

    /// The line of a wire.
    fn line(&self, at: usize) -> &Line {
        &self.shared.lines[at + 1]
    }

    /// Takes buses that were reached.
    fn take_in(&mut self) {
        while let Ok((at, mut bus)) = self.connected.try_recv() {
            bus.on_event(self.shared.wait.wake());
            self.wires[at] = Some(Wire { bus, subscriptions: BTreeMap::new(), branches: HashMap::new() });
            self.line(at).up.store(true, Ordering::Relaxed);
            tracing::info!(bus = self.line(at).name, "on the bus");
            self.version = 0;
        }
    }

    /// Hears what is said to every branch of this process, on every bus.
    fn subscribe(&mut self) {
        let branches = self.shared.branches();
        if branches.version == self.version {
            return;
        }
        (self.hosted, self.version) = (branches.hosted.clone(), branches.version);
        drop(branches);
        for wire in self.wires.iter_mut().flatten() {
            wire.leave_all_but(&self.hosted);
            for number in self.hosted.keys() {
                if wire.subscriptions.contains_key(number) {
                    continue;
                }
                let options = SubscribeOptions {
                    pattern: subject(*number).into(),
                    share: Share::Every,
                    takes: Takes::Everything,
                    queue: HEARD,
                };
                match wire.bus.subscribe(options) {
                    Ok(id) => {
                        wire.subscriptions.insert(*number, id);
                        wire.branches.insert(id, *number);
                    }
                    Err(error) => {
                        tracing::error!(branch = number, %error, "nothing will be heard on a bus");
                    }
                }
            }
        }
    }

    /// Sends what waits.
    fn send(&mut self) -> bool {
        let waiting = self.shared.outbox.lock().unwrap_or_else(PoisonError::into_inner).take_all();
        let any = !waiting.is_empty();
        for (at, outgoing) in waiting {
            let line = &self.shared.lines[at];
            let Some(wire) = self.wires.get_mut(at - 1).and_then(Option::as_mut) else {
                count(&line.away);
                continue;
            };
            match wire.bus.publish(&Message::new(subject(outgoing.to), outgoing.bytes)) {
                Ok(()) => count(&line.sent),
                Err(RefusedKind::Busy(_)) => count(&line.busy),
                Err(error) => {
                    tracing::error!(bus = line.name, %error, "a message between branches cannot go this way");
                    count(&line.busy);
                }
            }
        }
        any
    }

    /// Takes what has come.
    fn hear(&mut self) -> bool {
        let (now, mut any) = (self.now(), false);
        for at in 0..self.wires.len() {
            for _ in 0..TOGETHER {
                let Some(wire) = self.wires[at].as_mut() else { break };
                let Some(event) = wire.bus.poll(now) else {
                    let missed = wire.bus.stats().missed;
                    self.line(at).missed.store(missed, Ordering::Relaxed);
                    break;
                };
                any = true;
                self.take(at, event);
            }
        }
        any
    }

    fn take(&mut self, at: usize, event: Event) {
        match event {
            Event::Heard { subscription, message } => {
                let number =
                    self.wires[at].as_ref().and_then(|wire| wire.branches.get(&subscription)).copied();
                if let Some(branch) = number.and_then(|number| self.hosted.get(&number)) {
                    self.hand_on(self.line(at), branch, message);
                }
            }
            Event::Link { up } => {
                let line = self.line(at);
                line.up.store(up, Ordering::Relaxed);
                if up {
                    tracing::info!(bus = line.name, "the link is back");
                } else {
                    count(&line.links_lost);
                    tracing::warn!(
                        bus = line.name,
                        "the link is lost: what goes over it is said again when it is back"
                    );
                }
            }
            Event::NotReady { subscription, fault } => {
                tracing::error!(
                    bus = self.line(at).name,
                    ?fault,
                    "nothing is heard of a branch; it is tried again"
                );
                if let Some(wire) = self.wires[at].as_mut()
                    && let Some(number) = wire.branches.remove(&subscription)
                {
                    wire.subscriptions.remove(&number);
                }
                self.version = 0;
            }
            // Nothing else was asked for.
            _ => {}
        }
    }

    /// Whatever has not the institution's seal ends here: a branch's thread does not even look at it.
    fn hand_on(&self, line: &Line, branch: &BranchHandle, heard: Message) {
        match message::head(&heard.payload, &self.shared.key) {
            Ok(head) if head.to == branch.number() => {
                self.shared.deliver(line, branch, heard.payload, false);
            }
            Ok(_) | Err(_) => count(&line.refused),
        }
    }
}

/// Tries until it is on the bus, or the post ends.
fn connect(
    shared: &Shared,
    at: usize,
    endpoint: Name,
    mut route: Route,
    connects: &Sender<(usize, Box<dyn Bus>)>,
) {
    let mut wait = FIRST_WAIT;
    while !shared.stop.load(Ordering::Relaxed) {
        match (route.connect)(endpoint) {
            Ok(bus) => {
                // If the post has ended meanwhile, so does the bus.
                let _ended = connects.send((at, bus));
                return shared.wait.wake()();
            }
            Err(error) if wait == FIRST_WAIT => {
                tracing::warn!(bus = route.name, %error, "a bus cannot be reached; it is tried until it can");
            }
            Err(_) => {}
        }
        rest(shared, wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn rest(shared: &Shared, wait: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < wait && !shared.stop.load(Ordering::Relaxed) {
        std::thread::sleep(FIRST_WAIT);
    }
}
