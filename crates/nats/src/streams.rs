//! Stored messages over JetStream: sending one by one per subject, consumers, dead letters, orders.
//!
//! A stream keeps what some consumer has not acknowledged (interest retention) and refuses more than its bounds. A group
//! is one durable consumer per label, named `g=GROUP=LABEL`; an endpoint's own is `e=ENDPOINT=LABEL`.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{ContextBuilder, GetStreamErrorKind};
use async_nats::jetstream::message::{AckKind, Acker, PublishMessage};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RawMessageErrorKind, RetentionPolicy, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use skerry_bus::{
    ConsumeOptions, DeadLetter, Event, Message, Name, Order, OrderFault, Outcome, Share, StreamSpec, Subject,
    SubscriptionId, Ticket,
};
use tokio::task::{AbortHandle, spawn_local};

use crate::driver::{Parcel, Post, next};
use crate::wire;

/// How long the server may take to acknowledge a stored message before it is sent again.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);

/// A message on its way to the dead letters.
pub(crate) struct Bury {
    pub(crate) stream: Name,
    pub(crate) share: Share,
    pub(crate) sequence: u64,
    pub(crate) message: Message,
    pub(crate) attempts: u32,
    pub(crate) reason: Box<str>,
    pub(crate) acker: Acker,
    pub(crate) again: Duration,
}

type Waiting = Rc<RefCell<HashMap<Subject, VecDeque<(Ticket, Message, String)>>>>;

/// The JetStream side of the thread.
pub(crate) struct Streams {
    hub: Hub,
    waiting: Waiting,
    nonce: String,
    sent: u64,
}

#[derive(Clone)]
struct Hub {
    context: Context,
    post: Rc<Post>,
}

fn failed(error: impl std::fmt::Display) -> OrderFault {
    OrderFault::Failed(error.to_string().into())
}

impl Streams {
    pub(crate) fn new(client: Client, post: Rc<Post>, nonce: String) -> Self {
        let context =
            ContextBuilder::new().timeout(Duration::from_secs(5)).ack_timeout(ACK_TIMEOUT).build(client);
        Self { hub: Hub { context, post }, waiting: Waiting::default(), nonce, sent: 0 }
    }

    /// Sends a message after those of its subject that wait, until the server has it.
    pub(crate) fn store(&mut self, ticket: Ticket, message: Message) {
        self.sent += 1;
        let id = match message.headers.id {
            Some(id) => format!("{id:032x}"),
            None => format!("{}-{}", self.nonce, self.sent),
        };
        let subject = message.subject;
        let mut waiting = self.waiting.borrow_mut();
        let running = waiting.contains_key(&subject);
        waiting.entry(subject).or_default().push_back((ticket, message, id));
        if !running {
            spawn_local(send(self.hub.clone(), Rc::clone(&self.waiting), subject));
        }
    }

    /// Takes from one consumer per label.
    pub(crate) fn consume(
        &self,
        id: SubscriptionId,
        lane: usize,
        spec: StreamSpec,
        options: ConsumeOptions,
    ) -> Vec<AbortHandle> {
        let hub = self.hub.clone();
        let taker = Rc::new(Taker { hub, id, lane, spec, options });
        vec![spawn_local(taker.run()).abort_handle()]
    }

    pub(crate) fn bury(&self, bury: Bury) {
        let hub = self.hub.clone();
        spawn_local(async move { hub.bury(bury).await });
    }

    pub(crate) fn order(&self, ticket: Ticket, order: Order) {
        let hub = self.hub.clone();
        spawn_local(async move {
            let outcome = hub.carry_out(order).await;
            hub.post.tell(Event::Ordered { ticket, outcome });
        });
    }
}

/// Sends what waits for `subject`, one after the other.
async fn send(hub: Hub, waiting: Waiting, subject: Subject) {
    let mut pause = Duration::from_millis(20);
    loop {
        let first = waiting.borrow().get(&subject).and_then(|queue| queue.front().cloned());
        let Some((ticket, message, id)) = first else {
            waiting.borrow_mut().remove(&subject);
            return;
        };
        let headers = wire::headers(&message, hub.post.name);
        let to = wire::subject(hub.post.prefix, 'k', &message);
        if hub.publish(to, headers, message.payload.clone(), &id).await.is_ok() {
            pause = Duration::from_millis(20);
            hub.post.shared.sent(&message);
            if let Some(queue) = waiting.borrow_mut().get_mut(&subject) {
                queue.pop_front();
            }
            hub.post.tell(Event::Stored { ticket });
        } else {
            // Full, or nobody leads: the one behind must not overtake.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

fn consumer_prefix(share: Share, endpoint: Name) -> String {
    match share {
        Share::Group(name) => format!("g={name}="),
        Share::Every => format!("e={endpoint}="),
    }
}

struct Taker {
    hub: Hub,
    id: SubscriptionId,
    lane: usize,
    spec: StreamSpec,
    options: ConsumeOptions,
}

impl Taker {
    fn config(&self, label: Option<Name>) -> pull::Config {
        let (options, prefix) = (&self.options, self.hub.post.prefix);
        let name = consumer_prefix(options.share, self.hub.post.name) + &wire::token(label);
        pull::Config {
            durable_name: Some(name),
            deliver_policy: DeliverPolicy::New,
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_micros(options.ack_wait_us),
            max_deliver: -1,
            max_ack_pending: i64::from(options.window),
            filter_subject: wire::pattern(prefix, 'k', &wire::token(label), &options.filter),
            ..pull::Config::default()
        }
    }

    async fn run(self: Rc<Self>) {
        let labels: Vec<_> =
            std::iter::once(None).chain(self.spec.labels.iter().map(|label| Some(*label))).collect();
        // The whole group's consumers, so that nothing is missed while nobody takes a label.
        for label in &labels {
            let fault = loop {
                match self.make(*label).await {
                    Ok(()) => break None,
                    Err(OrderFault::Failed(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                    Err(fault) => break Some(fault),
                }
            };
            if let Some(fault) = fault {
                return self.hub.post.tell(Event::NotReady { subscription: self.id, fault });
            }
        }
        self.hub.post.tell(Event::Ready { subscription: self.id });
        let mut pulls = tokio::task::JoinSet::new();
        for label in labels.into_iter().filter(|label| self.options.takes.takes(*label)) {
            pulls.spawn_local(Rc::clone(&self).pull(label));
        }
        while pulls.join_next().await.is_some() {}
    }

    async fn make(&self, label: Option<Name>) -> Result<(), OrderFault> {
        let stream = self.hub.stream(self.options.stream).await?;
        stream.create_consumer(self.config(label)).await.map(drop).map_err(failed)
    }

    /// Takes for ever; what fails is begun anew.
    async fn pull(self: Rc<Self>, label: Option<Name>) {
        loop {
            let _ended = self.pull_once(label).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn pull_once(&self, label: Option<Name>) -> Result<(), OrderFault> {
        let stream = self.hub.stream(self.options.stream).await?;
        let name = self.config(label).durable_name.unwrap_or_default();
        let consumer = stream.get_consumer::<pull::Config>(&name).await.map_err(failed)?;
        let batch = usize::try_from(self.options.window).unwrap_or(64).clamp(1, 64);
        let (expires, heartbeat) = (Duration::from_secs(10), Duration::from_secs(1));
        let mut messages = consumer
            .stream()
            .max_messages_per_batch(batch)
            .expires(expires)
            .heartbeat(heartbeat)
            .messages()
            .await
            .map_err(failed)?;
        while let Some(message) = next(&mut messages).await {
            self.arrived(&name, message.map_err(failed)?).await;
        }
        Ok(())
    }

    async fn arrived(&self, consumer: &str, message: async_nats::jetstream::Message) {
        let Ok(info) = message.info() else { return };
        let (sequence, attempt) = (info.stream_sequence, u32::try_from(info.delivered).unwrap_or(u32::MAX));
        let (arrived, acker) = message.split();
        let Some(subject) = wire::inner(&arrived.subject) else { return };
        let only = arrived.headers.as_ref().and_then(|map| wire::value(map, wire::ONLY)).map(str::to_owned);
        let message = wire::message(subject, arrived.headers.as_ref(), arrived.payload);
        let other_group = match (message.headers.group, self.options.share) {
            (None, _) => false,
            (Some(wanted), Share::Group(name)) => wanted != name,
            (Some(_), Share::Every) => true,
        };
        let other = only.map_or(other_group, |only| !consumer.starts_with(&only));
        if other {
            return drop(acker.ack().await);
        }
        let ConsumeOptions { stream, share, attempts_max, ack_wait_us, .. } = self.options;
        if attempt > attempts_max {
            let attempts = attempt - 1;
            let reason = format!("not settled after {attempts} deliveries").into();
            let again = Duration::from_micros(ack_wait_us);
            let bury = Bury { stream, share, sequence, message, attempts, reason, acker, again };
            return self.hub.bury(bury).await;
        }
        let bytes = message.size();
        let parcel = Parcel::Delivered { subscription: self.id, message, attempt, sequence, acker };
        // What finds no room is delivered again; the window keeps that from happening.
        let _full = self.hub.post.inbox.push(self.lane, bytes, parcel);
    }
}

impl Hub {
    fn stream_name(&self, kind: char, name: Name) -> String {
        format!("{}-{kind}-{name}", self.post.prefix)
    }

    async fn stream(&self, name: Name) -> Result<Stream, OrderFault> {
        self.stream_of('k', name).await
    }

    async fn stream_of(&self, kind: char, name: Name) -> Result<Stream, OrderFault> {
        self.context.get_stream(self.stream_name(kind, name)).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(inner) if inner.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                OrderFault::NoStream
            }
            _ => failed(error),
        })
    }

    async fn publish(
        &self,
        to: String,
        headers: HeaderMap,
        payload: Bytes,
        id: &str,
    ) -> Result<(), OrderFault> {
        let message = PublishMessage::build().payload(payload).headers(headers).message_id(id);
        self.context.send_publish(to, message).await.map_err(failed)?.await.map(drop).map_err(failed)
    }

    async fn bury(&self, bury: Bury) {
        let Bury { stream, share, sequence, message, attempts, reason, acker, again } = bury;
        let consumer = consumer_prefix(share, self.post.name);
        let group = match share {
            Share::Group(name) => name,
            Share::Every => self.post.name,
        };
        let mut headers = wire::headers(&message, message.headers.sender.unwrap_or(self.post.name));
        wire::bury(&mut headers, message.subject, attempts, &reason);
        headers.insert(wire::ONLY, consumer.as_str());
        let to = format!("{}.d.{stream}.{group}", self.post.prefix);
        let id = format!("{sequence}-{consumer}");
        if self.publish(to, headers, message.payload, &id).await.is_ok() {
            self.post.shared.dead.fetch_add(1, Ordering::Relaxed);
            drop(acker.ack_with(AckKind::Term).await);
        } else {
            // No room among the dead letters, or nobody to keep them: it comes again.
            drop(acker.ack_with(AckKind::Nak(Some(again))).await);
        }
    }

    async fn carry_out(&self, order: Order) -> Result<Outcome, OrderFault> {
        match order {
            Order::Declare(spec) => self.declare(&spec).await?,
            Order::DeadLetters { stream, after, limit } => {
                return self.dead_letters(stream, after, limit).await.map(Outcome::DeadLetters);
            }
            Order::Replay { stream, number } => self.replay(stream, number).await?,
            Order::Discard { stream, number } => {
                let dead = self.stream_of('d', stream).await?;
                dead.delete_message(number).await.map_err(|_| OrderFault::NotFound)?;
            }
            Order::Forget { stream, group, every } => self.forget(stream, group, every).await?,
        }
        Ok(Outcome::Done)
    }

    async fn declare(&self, spec: &StreamSpec) -> Result<(), OrderFault> {
        let limit = |figure: usize| i64::try_from(figure).unwrap_or(i64::MAX);
        let labels = std::iter::once(None).chain(spec.labels.iter().map(|label| Some(*label)));
        let subjects = labels.flat_map(|label| {
            let token = wire::token(label);
            spec.subjects.iter().map(move |pattern| wire::pattern(self.post.prefix, 'k', &token, pattern))
        });
        let kept = Config {
            name: self.stream_name('k', spec.name),
            subjects: subjects.collect(),
            retention: RetentionPolicy::Interest,
            discard: DiscardPolicy::New,
            max_messages: limit(spec.bounds.messages),
            max_bytes: limit(spec.bounds.bytes),
            num_replicas: self.post.replicas,
            ..Config::default()
        };
        let dead = Config {
            name: self.stream_name('d', spec.name),
            subjects: vec![format!("{}.d.{}.*", self.post.prefix, spec.name)],
            discard: DiscardPolicy::New,
            max_messages: limit(spec.dead.messages),
            max_bytes: limit(spec.dead.bytes),
            num_replicas: self.post.replicas,
            ..Config::default()
        };
        match self.stream(spec.name).await {
            Err(OrderFault::NoStream) => self.create(spec, kept).await?,
            Err(other) => return Err(other),
            Ok(stream) => self.update(&stream, spec, kept).await?,
        }
        self.context.create_or_update_stream(dead).await.map(drop).map_err(failed)
    }

    async fn create(&self, spec: &StreamSpec, config: Config) -> Result<(), OrderFault> {
        let subjects = config.subjects.clone();
        let Err(error) = self.context.create_stream(config).await else { return Ok(()) };
        for subject in subjects {
            let Ok(other) = self.context.stream_by_subject(subject).await else { continue };
            let name = other.strip_prefix(&format!("{}-k-", self.post.prefix)).map(Name::new);
            if let Some(Ok(name)) = name.filter(|name| name.as_ref() != Ok(&spec.name)) {
                return Err(OrderFault::Conflict(name));
            }
        }
        Err(failed(error))
    }

    async fn update(&self, stream: &Stream, spec: &StreamSpec, config: Config) -> Result<(), OrderFault> {
        let there = &stream.cached_info().config.subjects;
        let label = |subject: &String| subject.split('.').nth(2).and_then(|token| Name::new(token).ok());
        let gone = there.iter().filter_map(label).find(|label| !spec.labels.contains(label));
        if let Some(label) = gone {
            return Err(OrderFault::LabelInUse(label));
        }
        let fresh: Vec<_> =
            spec.labels.iter().filter(|new| there.iter().filter_map(label).all(|old| old != **new)).collect();
        self.context.update_stream(config).await.map_err(failed)?;
        let mut consumers = stream.consumers();
        while let Some(info) = next(&mut consumers).await {
            let info = info.map_err(failed)?;
            let Some(group) = info.name.strip_suffix("=_") else { continue };
            for label in &fresh {
                let filter = info.config.filter_subject.replacen("._.", &format!(".{label}."), 1);
                let config = pull::Config {
                    durable_name: Some(format!("{group}={label}")),
                    deliver_policy: DeliverPolicy::New,
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: info.config.ack_wait,
                    max_deliver: -1,
                    max_ack_pending: info.config.max_ack_pending,
                    filter_subject: filter,
                    ..pull::Config::default()
                };
                stream.create_consumer(config).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    async fn dead_letters(
        &self,
        stream: Name,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, OrderFault> {
        let dead = self.stream_of('d', stream).await?;
        let (mut letters, mut from) = (Vec::new(), after.saturating_add(1));
        while letters.len() < limit {
            let all = format!("{}.d.{stream}.*", self.post.prefix);
            let found = dead.raw_message_builder().sequence(from).next_by_subject(all).send().await;
            let found = match found {
                Ok(found) => found,
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
                Err(error) => return Err(failed(error)),
            };
            from = found.sequence + 1;
            letters.extend(letter(found.sequence, &found.subject, &found.headers, found.payload));
        }
        Ok(letters)
    }

    async fn replay(&self, stream: Name, number: u64) -> Result<(), OrderFault> {
        let dead = self.stream_of('d', stream).await?;
        let found = dead.get_raw_message(number).await.map_err(|_| OrderFault::NotFound)?;
        let letter =
            letter(number, &found.subject, &found.headers, found.payload).ok_or(OrderFault::NotFound)?;
        let message = letter.message;
        let mut headers = wire::headers(&message, message.headers.sender.unwrap_or(self.post.name));
        if let Some(only) = wire::value(&found.headers, wire::ONLY) {
            headers.insert(wire::ONLY, only);
        }
        let to = wire::subject(self.post.prefix, 'k', &message);
        // A replay that is tried twice is stored once.
        self.publish(to, headers, message.payload, &format!("replay-{stream}-{number}")).await?;
        dead.delete_message(number).await.map(drop).map_err(failed)
    }

    async fn forget(&self, stream: Name, group: Name, every: bool) -> Result<(), OrderFault> {
        let share = if every { Share::Every } else { Share::Group(group) };
        let prefix = consumer_prefix(share, group);
        let stream = self.stream(stream).await?;
        let (mut names, mut found) = (stream.consumer_names(), Vec::new());
        while let Some(name) = next(&mut names).await {
            found.extend(Some(name.map_err(failed)?).filter(|name| name.starts_with(&prefix)));
        }
        if found.is_empty() {
            return Err(OrderFault::NotFound);
        }
        for name in found {
            stream.delete_consumer(&name).await.map_err(failed)?;
        }
        Ok(())
    }
}

fn letter(number: u64, subject: &str, headers: &HeaderMap, payload: Bytes) -> Option<DeadLetter> {
    let group = Name::new(subject.rsplit('.').next()?).ok()?;
    let attempts = wire::value(headers, wire::ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(0);
    let subject = Subject::new(wire::value(headers, wire::SUBJECT)?).ok()?;
    let message = wire::message(subject, Some(headers), payload);
    Some(DeadLetter { number, group, attempts, reason: wire::reason(headers).into(), message })
}
