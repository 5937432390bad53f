//! The post's thread: it holds an endpoint of every bus, sends what waits and hands on what it hears.
//!
//! Getting on a bus may wait for servers that are away, so each is tried on a thread of its own that ends with success; from
//! then on the endpoint finds its way back by itself.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skerry_branch::BranchHandle;
use skerry_bus::{Bus, Moment, Name, RefusedKind};

use crate::figures::{Line, count};
use crate::post::{Route, Shared};
use crate::wire::{News, Wire, is_sealed};

/// Events of one bus taken before it is sent again.
const TOGETHER: usize = 256;
/// The thread looks around at least so often.
const TICK: Duration = Duration::from_millis(100);
/// A bus that could not be reached is tried again after this, then twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

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
        let due = self.wires.iter().flatten().filter_map(|wire| wire.next_due()).min();
        due.map_or(TICK, |due| Duration::from_micros(due.0.saturating_sub(self.now().0)).min(TICK))
    }

    /// The line of a wire.
    fn line(&self, at: usize) -> &Line {
        &self.shared.lines[at + 1]
    }

    /// Takes buses that were reached.
    fn take_in(&mut self) {
        while let Ok((at, bus)) = self.connected.try_recv() {
            let mut wire = Wire::new(bus);
            wire.on_event(self.shared.wait.wake());
            self.wires[at] = Some(wire);
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
        let numbers = self.hosted.keys().copied().collect();
        for wire in self.wires.iter_mut().flatten() {
            for (branch, error) in wire.hear(&numbers) {
                tracing::error!(branch, %error, "nothing will be heard on a bus");
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
            match wire.send(outgoing) {
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
                let Some(news) = wire.poll(now) else {
                    let missed = wire.missed();
                    self.line(at).missed.store(missed, Ordering::Relaxed);
                    break;
                };
                any = true;
                self.take(at, news);
            }
        }
        any
    }

    fn take(&mut self, at: usize, news: News) {
        let line = self.line(at);
        match news {
            News::Said { to, bytes } => {
                if let Some(branch) = self.hosted.get(&to) {
                    self.hand_on(line, branch, bytes);
                }
            }
            News::Link { up } => {
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
            News::NotReady(fault) => {
                tracing::error!(bus = line.name, ?fault, "nothing is heard of a branch; it is tried again");
                self.version = 0;
            }
            News::Nothing => {}
        }
    }

    /// Whatever has not the institution's seal ends here: a branch's thread does not even look at it.
    fn hand_on(&self, line: &Line, branch: &BranchHandle, bytes: Bytes) {
        if is_sealed(&bytes, branch.number(), &self.shared.key) {
            self.shared.deliver(line, branch, bytes, false);
        } else {
            count(&line.refused);
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
