//! One bus as a process is on it: what is said to its branches is heard, what they say is published. It has no thread and no clock:
//! the post's thread drives it in production, the simulator drives it step by step.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use skerry_branch::api::GatewayKey;
use skerry_branch::channels::{Outgoing, message};
use skerry_bus::{
    Bounds, Bus, Event, Message, Moment, OrderFault, RefusedKind, Share, SubscribeOptions, SubscriptionId,
    Takes, Wake,
};

use crate::post::subject;

/// Messages to one branch that wait here, and their bytes; beyond it they are missed.
const HEARD: Bounds = Bounds::new(4_096, 64 << 20);

/// What came over a bus.
#[derive(Debug)]
pub enum News {
    /// Something was said to this branch; nobody has looked at it.
    Said {
        /// To which.
        to: u16,
        /// All of it.
        bytes: Bytes,
    },
    /// The way to the bus is there, or is not.
    Link {
        /// Whether it is.
        up: bool,
    },
    /// Nothing is heard of branches any more: [`Wire::hear`] has to be called again.
    NotReady(OrderFault),
    /// Nothing that anybody waits for.
    Nothing,
}

/// See the module.
pub struct Wire {
    bus: Box<dyn Bus>,
    /// By branch, and back.
    subscriptions: BTreeMap<u16, SubscriptionId>,
    branches: HashMap<SubscriptionId, u16>,
}

impl Wire {
    /// On `bus`, where nothing is heard yet.
    #[must_use]
    pub fn new(bus: Box<dyn Bus>) -> Self {
        Self { bus, subscriptions: BTreeMap::new(), branches: HashMap::new() }
    }

    /// `wake` is called when there may be news.
    pub fn on_event(&mut self, wake: Wake) {
        self.bus.on_event(wake);
    }

    /// When it has something to do even if nothing comes.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.bus.next_due()
    }

    /// Messages that found no room here.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.bus.stats().missed
    }

    /// Hears from now on what is said to these branches, and to no others. Returns those of which nothing will be heard, with the reason.
    pub fn hear(&mut self, branches: &BTreeSet<u16>) -> Vec<(u16, RefusedKind)> {
        let left = self.subscriptions.keys().filter(|number| !branches.contains(number));
        for number in left.copied().collect::<Vec<_>>() {
            if let Some(id) = self.subscriptions.remove(&number) {
                self.branches.remove(&id);
                // A subscription that has ended by itself is what is wanted.
                let _ended = self.bus.stop(id);
            }
        }
        branches.iter().filter_map(|number| Some((*number, self.hear_one(*number).err()?))).collect()
    }

    fn hear_one(&mut self, number: u16) -> Result<(), RefusedKind> {
        if self.subscriptions.contains_key(&number) {
            return Ok(());
        }
        let options = SubscribeOptions {
            pattern: subject(number).into(),
            share: Share::Every,
            takes: Takes::Everything,
            queue: HEARD,
        };
        let id = self.bus.subscribe(options)?;
        self.subscriptions.insert(number, id);
        self.branches.insert(id, number);
        Ok(())
    }

    /// Publishes what a branch says.
    ///
    /// # Errors
    ///
    /// The bus does not take it; it is dropped, and will be said again.
    pub fn send(&mut self, outgoing: Outgoing) -> Result<(), RefusedKind> {
        self.bus.publish(&Message::new(subject(outgoing.to), outgoing.bytes))
    }

    /// What has come.
    pub fn poll(&mut self, now: Moment) -> Option<News> {
        Some(match self.bus.poll(now)? {
            Event::Heard { subscription, message } => match self.branches.get(&subscription) {
                Some(number) => News::Said { to: *number, bytes: message.payload },
                None => News::Nothing,
            },
            Event::Link { up } => News::Link { up },
            Event::NotReady { subscription, fault } => {
                if let Some(number) = self.branches.remove(&subscription) {
                    self.subscriptions.remove(&number);
                }
                News::NotReady(fault)
            }
            // Nothing else was asked for.
            _ => News::Nothing,
        })
    }
}

/// Whether `bytes` are a message of a branch of the institution to branch `to`. What is not, no branch is shown.
#[must_use]
pub fn is_sealed(bytes: &[u8], to: u16, key: &GatewayKey) -> bool {
    message::head(bytes, key).is_ok_and(|head| head.to == to)
}
