//! One endpoint of the bus inside a process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::routes::{Member, MemberKind, Route, Untaken, give};
use super::settle::{Settled, Taken};
use super::stream::{GroupKey, Signal, Stream};
use super::{DROPPED, Exchange, Parcel, REPLIES};
use crate::breaker::BreakerState;
use crate::desk::Desk;
use crate::due::Due;
use crate::error::{Full, RefusedKind, RequestFault};
use crate::event::{BusStats, Event};
use crate::inbox::{Inbox, Taker, inbox};
use crate::message::Message;
use crate::options::{
    Answer, Bounds, ConsumeOptions, Limits, Order, ServeOptions, Settlement, Share, SubscribeOptions, Takes,
};
use crate::seam::{AskId, Bus, DeliveryId, Moment, SubscriptionId, Ticket, Wake};
use crate::slab::Slab;
use crate::text::{Name, Pattern, Subject};

/// Subjects whose route an endpoint remembers.
const ROUTES_MAX: usize = 16_384;

/// Subscriptions of one endpoint.
const SUBSCRIPTIONS_MAX: usize = 4096;

#[derive(Debug)]
struct Ask {
    from: Arc<Inbox<Parcel>>,
    ticket: Ticket,
    subject: Subject,
    trace: Option<crate::trace::TraceContext>,
}

#[derive(Debug)]
struct Consumer {
    stream: Arc<Stream>,
    key: GroupKey,
    number: u64,
    signal: Arc<Signal>,
    settled: Vec<Settled>,
}

#[derive(Debug)]
enum Subscription {
    Member(Arc<Member>),
    Consumer(Consumer),
}

#[derive(Debug)]
struct InHand {
    subscription: SubscriptionId,
    lane: usize,
    sequence: u64,
    attempt: u32,
}

/// An endpoint of a [`LocalExchange`](crate::LocalExchange).
#[derive(Debug)]
pub struct LocalBus {
    name: Name,
    limits: Limits,
    exchange: Arc<Exchange>,
    desk: Desk,
    taker: Taker<Parcel>,
    asks: Slab<Ask>,
    asks_due: Due,
    subscriptions: Slab<Subscription>,
    consumers: Vec<SubscriptionId>,
    hands: Slab<InHand>,
    hands_due: Due,
    told: VecDeque<Event>,
    deliveries: VecDeque<(SubscriptionId, Taken)>,
    fresh: Vec<Taken>,
    orders: u64,
    routes: HashMap<Subject, Arc<Route>>,
    turn: usize,
    stats: BusStats,
}

impl LocalBus {
    pub(super) fn new(name: Name, limits: Limits, exchange: Arc<Exchange>) -> Self {
        let mut taker = inbox();
        let replies = Bounds::new(limits.requests.messages, limits.reply_bytes);
        assert_eq!(taker.lane(replies), REPLIES, "the first lane is for replies");
        assert_eq!(taker.lane(Bounds::new(limits.requests.messages, usize::MAX)), DROPPED);
        Self {
            name,
            limits,
            exchange,
            desk: Desk::new(limits),
            taker,
            asks: Slab::default(),
            asks_due: Due::default(),
            subscriptions: Slab::default(),
            consumers: Vec::new(),
            hands: Slab::default(),
            hands_due: Due::default(),
            told: VecDeque::new(),
            deliveries: VecDeque::new(),
            fresh: Vec::new(),
            orders: 0,
            routes: HashMap::new(),
            turn: 0,
            stats: BusStats::default(),
        }
    }

    fn route(&mut self, subject: &Subject) -> Arc<Route> {
        let version = self.exchange.version();
        if let Some(route) = self.routes.get(subject).filter(|route| route.version == version) {
            return Arc::clone(route);
        }
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        let route = Arc::new(self.exchange.route(subject));
        self.routes.insert(*subject, Arc::clone(&route));
        route
    }

    fn signed(&self, message: &Message) -> Message {
        let mut message = message.clone();
        message.headers.sender = Some(self.name);
        message
    }

    /// Gives a request to one server.
    fn dispatch(&mut self, message: &Message, ticket: Ticket, deadline: Moment) -> Result<(), RequestFault> {
        self.turn = self.turn.wrapping_add(1);
        // A server may have gone between the look-up and the delivery: then there is one more look.
        for _ in 0..2 {
            let route = self.route(&message.subject);
            let (message, from) = (self.signed(message), Arc::clone(self.taker.inbox()));
            let (label, bytes) = (message.headers.label, message.size());
            let make = |subscription| Parcel::Ask { subscription, message, from, ticket, deadline };
            match give(&route.servers, self.turn, label, bytes, make) {
                Ok(()) => return Ok(()),
                Err(Untaken::Full) => return Err(RequestFault::Busy),
                Err(Untaken::Nobody) => return Err(RequestFault::NoServer),
                Err(Untaken::Gone) => (),
            }
        }
        Err(RequestFault::NoServer)
    }

    fn busy<T>(&mut self, result: Result<T, RefusedKind>) -> Result<T, RefusedKind> {
        self.stats.busy += u64::from(matches!(result, Err(RefusedKind::Busy(_))));
        result
    }

    fn room_to_tell(&self) -> Result<(), RefusedKind> {
        let full = self.told.len() >= self.limits.outgoing.messages;
        if full { Err(RefusedKind::Busy(Full::Outgoing)) } else { Ok(()) }
    }

    fn join(
        &mut self,
        kind: MemberKind,
        pattern: Pattern,
        takes: Takes,
        queue: Bounds,
    ) -> Result<SubscriptionId, RefusedKind> {
        self.room_to_subscribe()?;
        let lane = self.taker.lane(queue);
        // The member names its subscription and the other way round: the number is known once the place is taken.
        let inbox = Arc::clone(self.taker.inbox());
        let subscription = SubscriptionId(self.subscriptions.next_number());
        let member = Arc::new(Member { kind, pattern, takes, inbox, lane, subscription });
        self.subscriptions.insert(Subscription::Member(Arc::clone(&member)));
        self.exchange.change().members.push(member);
        self.told.push_back(Event::Ready { subscription });
        Ok(subscription)
    }

    fn room_to_subscribe(&self) -> Result<(), RefusedKind> {
        let full = self.subscriptions.len() >= SUBSCRIPTIONS_MAX;
        if full { Err(RefusedKind::Busy(Full::Table)) } else { Ok(()) }
    }

    fn receive(&mut self, parcel: Parcel) -> Option<Event> {
        match parcel {
            Parcel::Reply { ticket, outcome } => {
                self.desk.close(ticket, outcome);
                self.desk.event()
            }
            Parcel::Copy { subscription, message } => {
                self.subscriptions.get(subscription.0)?;
                self.stats.heard += 1;
                Some(Event::Heard { subscription, message })
            }
            Parcel::Ask { subscription, message, from, ticket, deadline } => {
                if deadline <= self.desk.now() {
                    return None;
                }
                if self.asks.len() >= self.limits.asks || self.subscriptions.get(subscription.0).is_none() {
                    send_reply(&from, ticket, Err(RequestFault::Busy));
                    return None;
                }
                self.stats.asked += 1;
                let (subject, trace) = (message.subject, message.headers.trace);
                let ask = self.asks.insert(Ask { from, ticket, subject, trace });
                let asks = &self.asks;
                self.asks_due.push(deadline, ask, asks.len(), |number| asks.get(number).is_some());
                Some(Event::Asked { subscription, ask: AskId(ask), message, deadline })
            }
        }
    }

    /// Settles what was said and takes what there is, for each consumer that has a reason to look.
    fn fill(&mut self, now: Moment) {
        self.turn = self.turn.wrapping_add(1);
        for offset in 0..self.consumers.len() {
            let id = self.consumers[self.turn.wrapping_add(offset) % self.consumers.len()];
            let Some(Subscription::Consumer(consumer)) = self.subscriptions.get_mut(id.0) else { continue };
            if !consumer.signal.lower(now) && consumer.settled.is_empty() {
                continue;
            }
            let Consumer { stream, key, number, settled, .. } = consumer;
            self.stats.dead += stream.take(*key, *number, settled, now, &mut self.fresh);
            self.deliveries.extend(self.fresh.drain(..).map(|taken| (id, taken)));
        }
    }

    fn deliver(&mut self, subscription: SubscriptionId, taken: Taken) -> Option<Event> {
        self.subscriptions.get(subscription.0)?;
        let Taken { lane, kept, attempt, due } = taken;
        let number = self.hands.insert(InHand { subscription, lane, sequence: kept.sequence, attempt });
        let hands = &self.hands;
        self.hands_due.push(due, number, hands.len(), |number| hands.get(number).is_some());
        self.stats.delivered += 1;
        self.stats.redelivered += u64::from(attempt > 1);
        let message = kept.message.clone();
        Some(Event::Delivered { subscription, delivery: DeliveryId(number), attempt, message })
    }

    fn expire(&mut self, now: Moment) {
        self.desk.turn(now);
        while let Some(ask) = self.asks_due.pop(now) {
            self.asks.remove(ask);
        }
        while let Some(delivery) = self.hands_due.pop(now) {
            self.hands.remove(delivery);
        }
    }

    fn end(&mut self, subscription: Subscription) {
        match subscription {
            Subscription::Member(member) => {
                self.exchange.change().members.retain(|found| !Arc::ptr_eq(found, &member));
                member.inbox.close(member.lane);
            }
            Subscription::Consumer(mut consumer) => {
                let now = self.desk.now();
                let Consumer { stream, key, number, settled, .. } = &mut consumer;
                // Settling takes as well; leaving gives it back, and it was never told.
                self.stats.dead += stream.take(*key, *number, settled, now, &mut self.fresh);
                self.fresh.clear();
                consumer.stream.leave(consumer.key, consumer.number);
            }
        }
    }
}

fn send_reply(to: &Inbox<Parcel>, ticket: Ticket, outcome: Result<Message, RequestFault>) {
    let bytes = outcome.as_ref().map_or(0, Message::size);
    let parcel = Parcel::Reply { ticket, outcome };
    if to.push(REPLIES, bytes, parcel).is_err() {
        let outcome = Err(RequestFault::ReplyDropped);
        // If even this finds no room the asker is told at its deadline.
        let _full = to.push(DROPPED, 0, Parcel::Reply { ticket, outcome });
    }
}

impl Bus for LocalBus {
    fn name(&self) -> Name {
        self.name
    }

    fn request(&mut self, message: &Message, deadline: Moment) -> Result<Ticket, RefusedKind> {
        let opened = self.desk.open(message, deadline);
        let ticket = self.busy(opened)?;
        self.stats.requests += 1;
        if let Err(fault) = self.dispatch(message, ticket, deadline) {
            self.desk.close(ticket, Err(fault));
        }
        Ok(ticket)
    }

    fn serve(&mut self, options: ServeOptions) -> Result<SubscriptionId, RefusedKind> {
        self.join(MemberKind::Server, options.pattern, options.takes, options.queue)
    }

    fn respond(&mut self, ask: AskId, answer: Answer) -> Result<(), RefusedKind> {
        let open = self.asks.get(ask.0).ok_or(RefusedKind::TooLate)?;
        let outcome = match answer {
            Answer::Reply { headers, payload } => {
                let mut message = Message { subject: open.subject, headers, payload };
                message.check_size(self.limits.message_bytes)?;
                message.headers.sender = Some(self.name);
                message.headers.trace = message.headers.trace.or(open.trace);
                Ok(message)
            }
            Answer::Busy => Err(RequestFault::Busy),
            Answer::Failed(why) => Err(RequestFault::Failed(crate::options::short(&why))),
        };
        if let Some(Ask { from, ticket, .. }) = self.asks.remove(ask.0) {
            send_reply(&from, ticket, outcome);
        }
        Ok(())
    }

    fn publish(&mut self, message: &Message) -> Result<(), RefusedKind> {
        message.check_size(self.limits.message_bytes)?;
        let route = self.route(&message.subject);
        self.turn = self.turn.wrapping_add(1);
        let (label, only, bytes) = (message.headers.label, message.headers.group, message.size());
        let copy = |message| |subscription| Parcel::Copy { subscription, message };
        let mut missed = 0;
        for group in route.every.chunks(1).filter(|_| only.is_none()) {
            let full = give(group, 0, label, bytes, copy(self.signed(message))) == Err(Untaken::Full);
            missed += u64::from(full);
        }
        for (_, group) in route.groups.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
            let full = give(group, self.turn, label, bytes, copy(self.signed(message))) == Err(Untaken::Full);
            missed += u64::from(full);
        }
        self.stats.published += 1;
        self.stats.missed += missed;
        Ok(())
    }

    fn subscribe(&mut self, options: SubscribeOptions) -> Result<SubscriptionId, RefusedKind> {
        let kind = match options.share {
            Share::Group(name) => MemberKind::Group(name),
            Share::Every => MemberKind::Every,
        };
        self.join(kind, options.pattern, options.takes, options.queue)
    }

    fn store(&mut self, message: &Message) -> Result<Ticket, RefusedKind> {
        message.check_size(self.limits.message_bytes)?;
        let room = self.room_to_tell();
        self.busy(room)?;
        let route = self.route(&message.subject);
        let stream = route.stream.as_ref().ok_or(RefusedKind::NoStream)?;
        let stored = stream.store(self.signed(message));
        self.busy(stored)?;
        self.stats.stored += 1;
        self.orders += 1;
        let ticket = Ticket(self.orders | ORDERS);
        self.told.push_back(Event::Stored { ticket });
        Ok(ticket)
    }

    fn consume(&mut self, options: ConsumeOptions) -> Result<SubscriptionId, RefusedKind> {
        self.room_to_subscribe()?;
        options.check()?;
        let stream = self.exchange.stream(options.stream).ok_or(RefusedKind::NoStream)?;
        let key = match options.share {
            Share::Group(name) => GroupKey { every: false, name },
            Share::Every => GroupKey { every: true, name: self.name },
        };
        let signal = Arc::new(Signal::new(Arc::clone(self.taker.inbox())));
        let number = self.exchange.instance();
        stream.join(key, &options, number, &signal);
        let consumer = Consumer { stream, key, number, signal, settled: Vec::new() };
        let subscription = SubscriptionId(self.subscriptions.insert(Subscription::Consumer(consumer)));
        self.consumers.push(subscription);
        self.told.push_back(Event::Ready { subscription });
        Ok(subscription)
    }

    fn settle(&mut self, delivery: DeliveryId, settlement: Settlement) -> Result<(), RefusedKind> {
        let hand = self.hands.remove(delivery.0).ok_or(RefusedKind::TooLate)?;
        let InHand { subscription, lane, sequence, attempt } = hand;
        let found = self.subscriptions.get_mut(subscription.0);
        let Some(Subscription::Consumer(consumer)) = found else { return Err(RefusedKind::TooLate) };
        let settlement = match settlement {
            Settlement::Dead(why) => Settlement::Dead(crate::options::short(&why)),
            other => other,
        };
        consumer.settled.push(Settled { lane, sequence, attempt, settlement });
        Ok(())
    }

    fn stop(&mut self, subscription: SubscriptionId) -> Result<(), RefusedKind> {
        let ended = self.subscriptions.remove(subscription.0).ok_or(RefusedKind::TooLate)?;
        self.consumers.retain(|id| *id != subscription);
        self.end(ended);
        Ok(())
    }

    fn order(&mut self, order: Order) -> Result<Ticket, RefusedKind> {
        let room = self.room_to_tell();
        self.busy(room)?;
        if let Order::Declare(spec) = &order {
            spec.check()?;
        }
        let outcome = self.exchange.carry_out(order);
        self.orders += 1;
        let ticket = Ticket(self.orders | ORDERS);
        self.told.push_back(Event::Ordered { ticket, outcome });
        Ok(ticket)
    }

    fn poll(&mut self, now: Moment) -> Option<Event> {
        self.expire(now);
        if let Some(event) = self.desk.event().or_else(|| self.told.pop_front()) {
            return Some(event);
        }
        // Inbox and deliveries in turns, so that neither starves the other.
        self.turn = self.turn.wrapping_add(1);
        let inbox_first = self.turn.is_multiple_of(2);
        if inbox_first && let Some(event) = self.take_parcel() {
            return Some(event);
        }
        if let Some(event) = self.take_delivery() {
            return Some(event);
        }
        if !inbox_first && let Some(event) = self.take_parcel() {
            return Some(event);
        }
        // The bell is armed from the last look into the inbox on: what comes after this look rings it.
        self.fill(now);
        self.take_delivery().or_else(|| self.take_parcel())
    }

    fn next_due(&self) -> Option<Moment> {
        let streams = self.consumers.iter().filter_map(|id| match self.subscriptions.get(id.0) {
            Some(Subscription::Consumer(consumer)) => consumer.signal.due(),
            _ => None,
        });
        streams.chain(self.desk.next_due()).min()
    }

    fn on_event(&mut self, wake: Wake) {
        self.taker.inbox().bell().set(wake);
    }

    fn breaker(&self, subject: &Subject) -> BreakerState {
        self.desk.breaker(subject)
    }

    fn stats(&self) -> BusStats {
        BusStats { requests_failed: self.desk.failed(), ..self.stats }
    }
}

/// Set in the tickets of stored messages and orders, so that they are never those of requests.
const ORDERS: u64 = 1 << 63;

impl LocalBus {
    fn take_parcel(&mut self) -> Option<Event> {
        while let Some(parcel) = self.taker.take() {
            if let Some(event) = self.receive(parcel) {
                return Some(event);
            }
        }
        None
    }

    fn take_delivery(&mut self) -> Option<Event> {
        while let Some((subscription, taken)) = self.deliveries.pop_front() {
            if let Some(event) = self.deliver(subscription, taken) {
                return Some(event);
            }
        }
        None
    }
}

impl Drop for LocalBus {
    fn drop(&mut self) {
        let ids: Vec<_> = self.subscriptions.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(subscription) = self.subscriptions.remove(id) {
                self.end(subscription);
            }
        }
        self.taker.inbox().shut();
        self.exchange.change().endpoints.remove(&self.name);
    }
}
