//! The caller's side: it holds tickets, deadlines and bounds, and never waits for the network.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::message::{AckKind, Acker};
use bytes::Bytes;
use skerry_bus::desk::Desk;
use skerry_bus::due::Due;
use skerry_bus::inbox::{Taker, inbox};
use skerry_bus::options::short;
use skerry_bus::slab::Slab;
use skerry_bus::{
    Answer, AskId, Bounds, BreakerState, Bus, BusStats, ConnectError, ConsumeOptions, DeliveryId, Event,
    Full, Limits, Message, Moment, Name, Order, RefusedKind, RequestFault, ServeOptions, Settlement,
    StreamSpec, Subject, SubscribeOptions, SubscriptionId, Ticket, TraceContext, Wake,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::driver::{Command, Parcel, Post, Queue, REPLIES, Shared, TOLD, run};
use crate::options::NatsOptions;
use crate::streams::Bury;
use crate::wire;

/// Subscriptions of one endpoint, and orders in flight.
const TABLE_MAX: usize = 4096;

/// Set in the tickets of stored messages and orders, so that they are never those of requests.
const ORDERS: u64 = 1 << 63;

struct Ask {
    to: String,
    trace: Option<TraceContext>,
}

struct InHand {
    subscription: SubscriptionId,
    sequence: u64,
    attempt: u32,
    message: Message,
    acker: Acker,
}

struct Subscription {
    lane: usize,
    consume: Option<ConsumeOptions>,
}

/// An endpoint over NATS.
pub struct NatsBus {
    name: Name,
    limits: Limits,
    desk: Desk,
    taker: Taker<Parcel>,
    commands: UnboundedSender<Command>,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
    asks: Slab<Ask>,
    asks_due: Due,
    hands: Slab<InHand>,
    hands_due: Due,
    subscriptions: Slab<Subscription>,
    declaring: HashMap<Ticket, StreamSpec>,
    streams: Vec<StreamSpec>,
    orders: u64,
    orders_open: usize,
    now: Moment,
    stats: BusStats,
}

impl std::fmt::Debug for NatsBus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NatsBus").field("name", &self.name).finish_non_exhaustive()
    }
}

fn connect_failed(error: impl std::error::Error + Send + Sync + 'static) -> ConnectError {
    ConnectError::Failed(Box::new(error))
}

impl NatsBus {
    pub(crate) fn connect(options: NatsOptions, name: Name, limits: Limits) -> Result<Self, ConnectError> {
        let mut taker = inbox();
        assert_eq!(taker.lane(Bounds::new(limits.requests.messages, limits.reply_bytes)), REPLIES);
        assert_eq!(taker.lane(Bounds::new(usize::MAX, usize::MAX)), TOLD);
        let shared = Arc::new(Shared::default());
        let post = Post {
            name,
            prefix: options.prefix,
            replicas: options.replicas,
            inbox: Arc::clone(taker.inbox()),
            shared: Arc::clone(&shared),
        };
        let (commands, taken) = unbounded_channel();
        let (born, wait) = std::sync::mpsc::channel();
        // Replies to an earlier life of this endpoint must not be taken for ours.
        let nonce =
            format!("{:016x}", std::collections::hash_map::RandomState::new().build_hasher().finish());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(connect_failed)?;
        let thread = std::thread::Builder::new()
            .name(format!("nats-{name}"))
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, run(options, post, nonce, taken, born));
            })
            .map_err(connect_failed)?;
        wait.recv().map_err(connect_failed)?.map_err(connect_failed)?;
        Ok(Self {
            name,
            limits,
            desk: Desk::new(limits),
            taker,
            commands,
            shared,
            thread: Some(thread),
            asks: Slab::default(),
            asks_due: Due::default(),
            hands: Slab::default(),
            hands_due: Due::default(),
            subscriptions: Slab::default(),
            declaring: HashMap::new(),
            streams: Vec::new(),
            orders: 0,
            orders_open: 0,
            now: Moment::default(),
            stats: BusStats::default(),
        })
    }

    fn command(&self, command: Command) {
        // The thread ends only when this endpoint is dropped.
        let _gone = self.commands.send(command);
    }

    /// Makes room in the outgoing queue for `message`, or is busy.
    fn admit(&mut self, message: &Message) -> Result<(), RefusedKind> {
        message.check_size(self.limits.message_bytes)?;
        let (messages, bytes) =
            (self.shared.messages.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed));
        if !self.limits.outgoing.fit(messages, bytes, message.size()) {
            self.stats.busy += 1;
            return Err(RefusedKind::Busy(Full::Outgoing));
        }
        Ok(())
    }

    fn count(&self, message: &Message) {
        self.shared.messages.fetch_add(1, Ordering::Relaxed);
        self.shared.bytes.fetch_add(message.size(), Ordering::Relaxed);
    }

    fn enlist(
        &mut self,
        queue: Bounds,
        consume: Option<ConsumeOptions>,
    ) -> Result<(SubscriptionId, usize), RefusedKind> {
        if self.subscriptions.len() >= TABLE_MAX {
            return Err(RefusedKind::Busy(Full::Table));
        }
        let lane = self.taker.lane(queue);
        Ok((SubscriptionId(self.subscriptions.insert(Subscription { lane, consume })), lane))
    }

    fn ticket(&mut self) -> Ticket {
        self.orders += 1;
        Ticket(self.orders | ORDERS)
    }

    fn receive(&mut self, parcel: Parcel) -> Option<Event> {
        match parcel {
            Parcel::Reply { ticket, headers, payload } => {
                let subject = self.desk.subject(ticket)?;
                let status = headers.as_ref().and_then(|map| wire::value(map, "Skerry-Status"));
                let outcome = match headers.as_ref().and_then(wire::fault) {
                    Some(_) if status == Some("dropped") => Err(RequestFault::ReplyDropped),
                    Some(fault) => Err(fault),
                    None => Ok(wire::message(subject, headers.as_ref(), payload)),
                };
                self.desk.close(ticket, outcome);
                self.desk.event()
            }
            Parcel::NoServer { ticket } => {
                self.desk.close(ticket, Err(RequestFault::NoServer));
                self.desk.event()
            }
            Parcel::Ask { subscription, message, to, left_us } => {
                self.asked(subscription, message, to, left_us)
            }
            Parcel::Heard { subscription, message } => {
                self.subscriptions.get(subscription.0)?;
                self.stats.heard += 1;
                Some(Event::Heard { subscription, message })
            }
            Parcel::Delivered { subscription, message, attempt, sequence, acker } => {
                let open = self.subscriptions.get(subscription.0);
                let Some(options) = open.and_then(|open| open.consume.as_ref()) else {
                    self.command(Command::Settle { acker, kind: AckKind::Nak(None) });
                    return None;
                };
                let due = self.now.after(options.ack_wait_us);
                let hand = InHand { subscription, sequence, attempt, message: message.clone(), acker };
                let number = self.hands.insert(hand);
                let hands = &self.hands;
                self.hands_due.push(due, number, hands.len(), |number| hands.get(number).is_some());
                self.stats.delivered += 1;
                self.stats.redelivered += u64::from(attempt > 1);
                Some(Event::Delivered { subscription, delivery: DeliveryId(number), attempt, message })
            }
            Parcel::Told(event) => Some(self.told(event)),
        }
    }

    fn told(&mut self, event: Event) -> Event {
        match &event {
            Event::Stored { .. } => self.stats.stored += 1,
            Event::Link { up: false } => self.stats.links_lost += 1,
            Event::NotReady { subscription, .. } => drop(self.subscriptions.remove(subscription.0)),
            Event::Ordered { ticket, outcome } => {
                self.orders_open -= 1;
                if let Some(spec) = self.declaring.remove(ticket).filter(|_| outcome.is_ok()) {
                    self.streams.retain(|known| known.name != spec.name);
                    self.streams.push(spec);
                }
            }
            _ => (),
        }
        event
    }

    fn asked(
        &mut self,
        subscription: SubscriptionId,
        message: Message,
        to: String,
        left_us: u64,
    ) -> Option<Event> {
        if self.asks.len() >= self.limits.asks || self.subscriptions.get(subscription.0).is_none() {
            let mut headers = HeaderMap::new();
            wire::refuse(&mut headers, &RequestFault::Busy);
            self.command(Command::Reply { to, headers, payload: Bytes::new() });
            return None;
        }
        let deadline = self.now.after(left_us);
        let ask = self.asks.insert(Ask { to, trace: message.headers.trace });
        let asks = &self.asks;
        self.asks_due.push(deadline, ask, asks.len(), |number| asks.get(number).is_some());
        self.stats.asked += 1;
        Some(Event::Asked { subscription, ask: AskId(ask), message, deadline })
    }

    fn subscribe_as(
        &mut self,
        pattern: skerry_bus::Pattern,
        takes: skerry_bus::Takes,
        bounds: Bounds,
        queue: Queue,
    ) -> Result<SubscriptionId, RefusedKind> {
        let (id, lane) = self.enlist(bounds, None)?;
        self.command(Command::Subscribe { id, lane, pattern, takes, queue });
        Ok(id)
    }
}

impl Bus for NatsBus {
    fn name(&self) -> Name {
        self.name
    }

    fn request(&mut self, message: &Message, deadline: Moment) -> Result<Ticket, RefusedKind> {
        self.admit(message)?;
        let opened = self.desk.open(message, deadline);
        self.stats.busy += u64::from(matches!(opened, Err(RefusedKind::Busy(_))));
        let ticket = opened?;
        self.stats.requests += 1;
        self.count(message);
        let left = Duration::from_micros(deadline.0.saturating_sub(self.now.0));
        let (message, since) = (message.clone(), Instant::now());
        self.command(Command::Request { ticket, message, left, since });
        Ok(ticket)
    }

    fn serve(&mut self, options: ServeOptions) -> Result<SubscriptionId, RefusedKind> {
        self.subscribe_as(options.pattern, options.takes, options.queue, Queue::Servers)
    }

    fn respond(&mut self, ask: AskId, answer: Answer) -> Result<(), RefusedKind> {
        let open = self.asks.get(ask.0).ok_or(RefusedKind::TooLate)?;
        let (headers, payload) = match answer {
            Answer::Reply { headers, payload } => {
                // A reply has no subject of its own; any stands in for its headers' sake.
                let subject = Subject::new("reply").map_err(|_| RefusedKind::Invalid("a reply"))?;
                let mut message = Message { subject, headers, payload };
                message.check_size(self.limits.message_bytes)?;
                message.headers.trace = message.headers.trace.or(open.trace);
                (wire::headers(&message, self.name), message.payload)
            }
            Answer::Busy => (refusal(&RequestFault::Busy), Bytes::new()),
            Answer::Failed(why) => (refusal(&RequestFault::Failed(short(&why))), Bytes::new()),
        };
        if let Some(Ask { to, .. }) = self.asks.remove(ask.0) {
            self.command(Command::Reply { to, headers, payload });
        }
        Ok(())
    }

    fn publish(&mut self, message: &Message) -> Result<(), RefusedKind> {
        self.admit(message)?;
        self.count(message);
        self.stats.published += 1;
        self.command(Command::Publish { message: message.clone() });
        Ok(())
    }

    fn subscribe(&mut self, options: SubscribeOptions) -> Result<SubscriptionId, RefusedKind> {
        self.subscribe_as(options.pattern, options.takes, options.queue, Queue::Share(options.share))
    }

    fn store(&mut self, message: &Message) -> Result<Ticket, RefusedKind> {
        message.check_size(self.limits.message_bytes)?;
        let keeps = |spec: &&StreamSpec| spec.subjects.iter().any(|pattern| pattern.hears(&message.subject));
        let spec = self.streams.iter().find(keeps).ok_or(RefusedKind::NoStream)?;
        if let Some(label) = message.headers.label.filter(|label| !spec.labels.contains(label)) {
            return Err(RefusedKind::UnknownLabel(label));
        }
        self.admit(message)?;
        self.count(message);
        let ticket = self.ticket();
        self.command(Command::Store { ticket, message: message.clone() });
        Ok(ticket)
    }

    fn consume(&mut self, options: ConsumeOptions) -> Result<SubscriptionId, RefusedKind> {
        options.check()?;
        let known = self.streams.iter().find(|spec| spec.name == options.stream);
        let spec = known.ok_or(RefusedKind::NoStream)?.clone();
        // Twice the windows of all labels: a redelivery may come while the first one lies here still.
        let window = usize::try_from(options.window).unwrap_or(usize::MAX);
        let bounds = Bounds::new(window.saturating_mul(2 * (spec.labels.len() + 1)), usize::MAX);
        let (id, lane) = self.enlist(bounds, Some(options.clone()))?;
        self.command(Command::Consume { id, lane, spec, options });
        Ok(id)
    }

    fn settle(&mut self, delivery: DeliveryId, settlement: Settlement) -> Result<(), RefusedKind> {
        let hand = self.hands.remove(delivery.0).ok_or(RefusedKind::TooLate)?;
        let open = self.subscriptions.get(hand.subscription.0).and_then(|open| open.consume.as_ref());
        let options = open.ok_or(RefusedKind::TooLate)?;
        let InHand { sequence, attempt, message, acker, .. } = hand;
        let reason = match settlement {
            Settlement::Done => {
                self.command(Command::Settle { acker, kind: AckKind::Ack });
                return Ok(());
            }
            Settlement::Retry { after_us } if attempt < options.attempts_max => {
                let kind = AckKind::Nak(Some(Duration::from_micros(after_us)));
                self.command(Command::Settle { acker, kind });
                return Ok(());
            }
            Settlement::Retry { .. } => format!("failed {attempt} times").into(),
            Settlement::Dead(reason) => short(&reason),
        };
        let (stream, share, attempts) = (options.stream, options.share, attempt);
        let again = Duration::from_micros(options.ack_wait_us);
        self.command(Command::Bury(Bury {
            stream,
            share,
            sequence,
            message,
            attempts,
            reason,
            acker,
            again,
        }));
        Ok(())
    }

    fn stop(&mut self, subscription: SubscriptionId) -> Result<(), RefusedKind> {
        let ended = self.subscriptions.remove(subscription.0).ok_or(RefusedKind::TooLate)?;
        self.taker.inbox().close(ended.lane);
        self.command(Command::Stop { id: subscription });
        let held = self.hands.iter().filter(|(_, hand)| hand.subscription == subscription);
        for number in held.map(|(number, _)| number).collect::<Vec<_>>() {
            if let Some(hand) = self.hands.remove(number) {
                self.command(Command::Settle { acker: hand.acker, kind: AckKind::Nak(None) });
            }
        }
        Ok(())
    }

    fn order(&mut self, order: Order) -> Result<Ticket, RefusedKind> {
        if self.orders_open >= TABLE_MAX {
            self.stats.busy += 1;
            return Err(RefusedKind::Busy(Full::Outgoing));
        }
        if let Order::Declare(spec) = &order {
            spec.check()?;
        }
        let ticket = self.ticket();
        self.orders_open += 1;
        if let Order::Declare(spec) = &order {
            self.declaring.insert(ticket, spec.clone());
        }
        self.command(Command::Order { ticket, order });
        Ok(ticket)
    }

    fn poll(&mut self, now: Moment) -> Option<Event> {
        self.now = self.now.max(now);
        self.desk.turn(now);
        while let Some(ask) = self.asks_due.pop(now) {
            self.asks.remove(ask);
        }
        while let Some(delivery) = self.hands_due.pop(now) {
            self.hands.remove(delivery);
        }
        if let Some(event) = self.desk.event() {
            return Some(event);
        }
        while let Some(parcel) = self.taker.take() {
            if let Some(event) = self.receive(parcel) {
                return Some(event);
            }
        }
        None
    }

    fn next_due(&self) -> Option<Moment> {
        self.desk.next_due()
    }

    fn on_event(&mut self, wake: Wake) {
        self.taker.inbox().bell().set(wake);
    }

    fn breaker(&self, subject: &Subject) -> BreakerState {
        self.desk.breaker(subject)
    }

    fn stats(&self) -> BusStats {
        BusStats {
            requests_failed: self.desk.failed(),
            missed: self.shared.missed.load(Ordering::Relaxed),
            dead: self.shared.dead.load(Ordering::Relaxed),
            ..self.stats
        }
    }
}

fn refusal(fault: &RequestFault) -> HeaderMap {
    let mut headers = HeaderMap::new();
    wire::refuse(&mut headers, fault);
    headers
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        self.taker.inbox().shut();
        self.command(Command::Close);
        if let Some(thread) = self.thread.take() {
            // It flushes for a second at most; a panic of it has been printed.
            let _panicked = thread.join();
        }
    }
}
