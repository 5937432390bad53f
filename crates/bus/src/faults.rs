//! A bus that fails from a seed: around any endpoint it loses, doubles, delays, reorders and cuts off.
//!
//! What it does is what the seam's contract allows a bad network to do: requests, replies and published messages may vanish,
//! come twice, late or in another order; a delivery or its settlement may vanish, so that the message is delivered again;
//! a message that is stored late is told late. What was told as stored is never lost: that would break B2.
//!
//! The simulator turns faults off and on as it goes, and cuts pairs of endpoints apart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::breaker::BreakerState;
use crate::error::{RefusedKind, RequestFault};
use crate::event::{BusStats, Event};
use crate::message::Message;
use crate::options::{Answer, ConsumeOptions, Order, ServeOptions, Settlement, SubscribeOptions};
use crate::seam::{AskId, Bus, DeliveryId, Moment, SubscriptionId, Ticket, Wake};
use crate::text::{Name, Subject};

/// How often what goes wrong, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultRates {
    /// A message vanishes.
    pub loss: u16,
    /// A message comes twice.
    pub doubling: u16,
    /// A message is late, by up to `delay_us`; others overtake it.
    pub delay: u16,
    /// The longest delay.
    pub delay_us: u64,
}

/// What happened to messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// They vanished.
    pub lost: u64,
    /// They came twice.
    pub doubled: u64,
    /// They were late.
    pub late: u64,
}

#[derive(Debug, Default)]
struct Sky {
    rates: FaultRates,
    counts: FaultCounts,
    cuts: BTreeSet<(Name, Name)>,
    alone: BTreeSet<Name>,
}

/// The weather over a bus; all its endpoints share it.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    sky: Arc<Mutex<Sky>>,
}

impl Weather {
    fn sky(&self) -> MutexGuard<'_, Sky> {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how often what goes wrong from here on.
    pub fn set(&self, rates: FaultRates) {
        self.sky().rates = rates;
    }

    /// Cuts two endpoints apart: neither hears the other.
    pub fn cut(&self, one: Name, other: Name) {
        self.sky().cuts.insert((one.min(other), one.max(other)));
    }

    /// Cuts one endpoint off from the bus itself: nothing goes out or comes in.
    pub fn isolate(&self, one: Name) {
        self.sky().alone.insert(one);
    }

    /// Whether an endpoint is cut off from the bus itself.
    #[must_use]
    pub fn is_isolated(&self, one: Name) -> bool {
        self.sky().alone.contains(&one)
    }

    /// What happened so far, on all endpoints.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.sky().counts
    }

    /// Joins whatever was cut.
    pub fn heal(&self) {
        let mut sky = self.sky();
        sky.cuts.clear();
        sky.alone.clear();
    }

    fn is_cut(&self, one: Name, other: Option<Name>) -> bool {
        let sky = self.sky();
        let apart = other.is_some_and(|other| sky.cuts.contains(&(one.min(other), one.max(other))));
        apart || sky.alone.contains(&one)
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn chance(&mut self, thousandths: u16) -> bool {
        thousandths > 0 && self.next() % 1000 < u64::from(thousandths)
    }
}

/// What is on its way out, late.
#[derive(Debug)]
enum Late {
    Request(Ticket, Message, Moment),
    Publish(Message),
    Respond(AskId, Answer),
    Settle(DeliveryId, Settlement),
    Arrived(Event),
}

/// An endpoint under [`Weather`].
#[derive(Debug)]
pub struct FaultyBus<B> {
    inner: B,
    weather: Weather,
    dice: Dice,
    now: Moment,
    late: BTreeMap<(Moment, u64), Late>,
    order: u64,
    /// Requests as the caller knows them, by deadline; and which of the inner bus's stand for them.
    open: BTreeMap<Ticket, Moment>,
    tickets: BTreeMap<Ticket, Ticket>,
    told: VecDeque<Event>,
    lost: u64,
}

/// Set in the tickets of requests under faults: the inner bus gives those of everything else.
const REQUESTS: u64 = 1 << 62;

impl<B: Bus> FaultyBus<B> {
    /// Puts `inner` under `weather`; `seed` and the order of calls decide what happens.
    #[must_use]
    pub fn new(inner: B, weather: Weather, seed: u64) -> Self {
        Self {
            inner,
            weather,
            dice: Dice(seed),
            now: Moment::default(),
            late: BTreeMap::new(),
            order: 0,
            open: BTreeMap::new(),
            tickets: BTreeMap::new(),
            told: VecDeque::new(),
            lost: 0,
        }
    }

    /// Messages that vanished here.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How often something happens now: never, once or twice, each at once or later.
    fn fates(&mut self) -> Vec<Option<u64>> {
        let rates = self.weather.sky().rates;
        if self.weather.is_cut(self.inner.name(), None) || self.dice.chance(rates.loss) {
            self.lost += 1;
            self.weather.sky().counts.lost += 1;
            return Vec::new();
        }
        let copies = if self.dice.chance(rates.doubling) { 2 } else { 1 };
        let fates: Vec<Option<u64>> = (0..copies)
            .map(|_| {
                let late = self.dice.chance(rates.delay) && rates.delay_us > 0;
                late.then(|| 1 + self.dice.next() % rates.delay_us)
            })
            .collect();
        let counts = &mut self.weather.sky().counts;
        counts.doubled += u64::from(copies > 1);
        counts.late += u64::from(fates.iter().any(Option::is_some));
        fates
    }

    fn later(&mut self, by_us: u64, late: Late) {
        self.order += 1;
        self.late.insert((self.now.after(by_us), self.order), late);
    }

    fn send(&mut self, late: Late) {
        match late {
            Late::Request(ticket, message, deadline) => self.send_request(ticket, &message, deadline),
            // What finds no room after its delay is lost like any other.
            Late::Publish(message) => drop(self.inner.publish(&message)),
            Late::Respond(ask, answer) => drop(self.inner.respond(ask, answer)),
            Late::Settle(delivery, settlement) => drop(self.inner.settle(delivery, settlement)),
            Late::Arrived(event) => self.told.push_back(event),
        }
    }

    fn send_request(&mut self, ticket: Ticket, message: &Message, deadline: Moment) {
        match self.inner.request(message, deadline) {
            Ok(inner) => drop(self.tickets.insert(inner, ticket)),
            Err(_) => self.lost += 1,
        }
    }

    /// What an event of the inner bus becomes.
    fn arrived(&mut self, event: Event) -> Option<Event> {
        let sender = match &event {
            Event::Replied { ticket, outcome } => {
                let ours = self.tickets.remove(ticket)?;
                let sender = outcome.as_ref().ok().and_then(|reply| reply.headers.sender);
                let cut = self.weather.is_cut(self.inner.name(), sender);
                // A second reply, or one through a cut, is not heard; the deadline ends the request.
                if cut || self.open.remove(&ours).is_none() {
                    return None;
                }
                return Some(Event::Replied { ticket: ours, outcome: outcome.clone() });
            }
            Event::Asked { message, .. }
            | Event::Heard { message, .. }
            | Event::Delivered { message, .. } => message.headers.sender,
            _ => return Some(event),
        };
        if self.weather.is_cut(self.inner.name(), sender) {
            self.lost += 1;
            return None;
        }
        // An asked or delivered one is named by its id: twice in the caller's hand it would not be two.
        let mut fates = self.fates();
        if !matches!(event, Event::Heard { .. }) {
            fates.truncate(1);
        }
        for by_us in fates.iter().flatten() {
            self.later(*by_us, Late::Arrived(event.clone()));
        }
        let now = fates.iter().filter(|fate| fate.is_none()).count();
        (1..now).for_each(|_| self.told.push_back(event.clone()));
        (now > 0).then_some(event)
    }

    fn fall_due(&mut self) {
        while let Some(entry) = self.late.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let late = entry.remove();
            self.send(late);
        }
        let over: Vec<_> = self.open.iter().filter(|(_, due)| **due <= self.now).map(|(id, _)| *id).collect();
        for ticket in over {
            self.open.remove(&ticket);
            let outcome = Err(RequestFault::Deadline);
            self.told.push_back(Event::Replied { ticket, outcome });
        }
    }
}

impl<B: Bus> Bus for FaultyBus<B> {
    fn name(&self) -> Name {
        self.inner.name()
    }

    fn request(&mut self, message: &Message, deadline: Moment) -> Result<Ticket, RefusedKind> {
        self.order += 1;
        let ticket = Ticket(self.order | REQUESTS);
        let fates = self.fates();
        if fates == [None] {
            let inner = self.inner.request(message, deadline)?;
            self.tickets.insert(inner, ticket);
        } else {
            for fate in fates {
                let late = Late::Request(ticket, message.clone(), deadline);
                self.later(fate.unwrap_or(0), late);
            }
        }
        self.open.insert(ticket, deadline);
        Ok(ticket)
    }

    fn serve(&mut self, options: ServeOptions) -> Result<SubscriptionId, RefusedKind> {
        self.inner.serve(options)
    }

    fn respond(&mut self, ask: AskId, answer: Answer) -> Result<(), RefusedKind> {
        match self.fates().first() {
            None => Ok(()),
            Some(None) => self.inner.respond(ask, answer),
            Some(Some(by_us)) => {
                self.later(*by_us, Late::Respond(ask, answer));
                Ok(())
            }
        }
    }

    fn publish(&mut self, message: &Message) -> Result<(), RefusedKind> {
        for fate in self.fates() {
            match fate {
                None => self.inner.publish(message)?,
                Some(by_us) => self.later(by_us, Late::Publish(message.clone())),
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, options: SubscribeOptions) -> Result<SubscriptionId, RefusedKind> {
        self.inner.subscribe(options)
    }

    fn store(&mut self, message: &Message) -> Result<Ticket, RefusedKind> {
        if self.weather.is_cut(self.inner.name(), None) {
            return Err(RefusedKind::Busy(crate::error::Full::Outgoing));
        }
        self.inner.store(message)
    }

    fn consume(&mut self, options: ConsumeOptions) -> Result<SubscriptionId, RefusedKind> {
        self.inner.consume(options)
    }

    fn settle(&mut self, delivery: DeliveryId, settlement: Settlement) -> Result<(), RefusedKind> {
        match self.fates().first() {
            None => Ok(()),
            Some(None) => self.inner.settle(delivery, settlement),
            Some(Some(by_us)) => {
                self.later(*by_us, Late::Settle(delivery, settlement));
                Ok(())
            }
        }
    }

    fn stop(&mut self, subscription: SubscriptionId) -> Result<(), RefusedKind> {
        self.inner.stop(subscription)
    }

    fn order(&mut self, order: Order) -> Result<Ticket, RefusedKind> {
        self.inner.order(order)
    }

    fn poll(&mut self, now: Moment) -> Option<Event> {
        self.now = self.now.max(now);
        self.fall_due();
        if let Some(event) = self.told.pop_front() {
            return Some(event);
        }
        while let Some(event) = self.inner.poll(now) {
            if let Some(event) = self.arrived(event) {
                return Some(event);
            }
        }
        None
    }

    fn next_due(&self) -> Option<Moment> {
        let late = self.late.keys().next().map(|(due, _)| *due);
        late.into_iter().chain(self.open.values().copied()).chain(self.inner.next_due()).min()
    }

    fn on_event(&mut self, wake: Wake) {
        self.inner.on_event(wake);
    }

    fn breaker(&self, subject: &Subject) -> BreakerState {
        self.inner.breaker(subject)
    }

    fn stats(&self) -> BusStats {
        self.inner.stats()
    }
}
